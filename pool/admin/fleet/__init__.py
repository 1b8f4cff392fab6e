"""Whose machines they are and where they stand, what they sent and what was seen of them."""
