"""Which channel a machine mines, and moving it there."""
