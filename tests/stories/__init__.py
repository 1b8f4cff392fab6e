"""What users see, from beginning to end."""
