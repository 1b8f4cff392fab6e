"""What one person asks for and another agrees to."""
