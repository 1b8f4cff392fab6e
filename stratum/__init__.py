"""The wire, jobs and shares: Stratum V1 without a pool behind it. Imports neither pool nor payouts."""
