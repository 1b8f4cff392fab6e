"""Who may ask for what, what they show for it, and what they changed."""
