"""Stratum V2, downstream: machines and proxies that speak it mine beside those of V1."""
