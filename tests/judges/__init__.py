"""What says independently whether a result is right."""
