"""What is worth telling an operator, and how it is sent to whoever is to know."""
