"""Paying out: batches from preview to approval."""
