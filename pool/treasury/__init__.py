"""Paying out: the wallet, the batches' way through the chain, reconciliation."""
