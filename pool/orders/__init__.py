"""Sales of computing power: their rows, and which machines serve them."""
