"""What was acknowledged, on disk: an append-only log of its own, which no database holds up."""
