"""Whose machines they are and where they stand: tenants, sites, containers, workers."""
