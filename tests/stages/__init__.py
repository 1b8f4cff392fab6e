"""Where a play takes place, smallest first; each is named for what is real in it."""
