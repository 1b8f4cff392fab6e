"""Who may do what, who did, and who tried to."""
