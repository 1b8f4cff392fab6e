"""Who changed what: rows that are chained by hash, and never changed."""
