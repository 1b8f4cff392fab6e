"""A tenant's statement of a period."""
