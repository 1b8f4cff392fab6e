"""What is asked of those who serve miners, and how the answers of several add up."""
