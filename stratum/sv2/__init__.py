"""Stratum V2, downstream: machines and proxies that speak it mine beside those of V1, on the same share core."""
