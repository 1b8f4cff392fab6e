"""`angara payout`: batches, from the draft to the sixth confirmation."""
