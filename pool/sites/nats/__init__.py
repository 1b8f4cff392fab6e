"""The transport that NATS is: it brings bytes, late, twice or not at all, and is believed in nothing else."""
