"""One module a revision. What is in here is history: it never changes once it was released."""
