"""Simulated miners for the demo."""
