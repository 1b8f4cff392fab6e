"""What must not break it: one file a fault."""
