"""What happened before a test begins."""
