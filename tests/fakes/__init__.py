"""Peers with a fault, named after the fault."""
