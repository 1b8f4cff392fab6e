"""Power: who draws what, machines told to pause and proven by their work, and calls to draw less."""
