"""What one person asks for, and another agrees to: four eyes, and a time before it happens."""
