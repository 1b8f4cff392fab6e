"""Rates, ledger and statements: exact arithmetic. Imports neither pool nor stratum, and no trio."""
