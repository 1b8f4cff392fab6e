"""What the pool tells Prometheus: a contract of names, and where each is read."""
