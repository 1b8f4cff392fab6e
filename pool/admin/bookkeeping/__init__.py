"""Found blocks, and what two persons take back."""
