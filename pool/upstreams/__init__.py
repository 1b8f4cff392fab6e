"""Other pools that our miners mine on: their rows, channels and trials."""
