"""What is known of power and energy: nameplates, meters, limits, and accepted work."""
