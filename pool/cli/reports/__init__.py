"""`angara report`: statements and reports, and how they are written."""
