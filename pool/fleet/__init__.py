"""Tenants, containers and workers, and how fast they are."""
