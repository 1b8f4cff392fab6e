"""Machines on their own network: where they are, and what they are told."""
