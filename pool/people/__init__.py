"""Who may ask the pool for something: users, their roles, and what they prove it with."""
