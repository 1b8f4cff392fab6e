"""Payout batches: one on-chain payment to many tenants."""
