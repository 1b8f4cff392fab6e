"""What reports are made of, read from the books."""
