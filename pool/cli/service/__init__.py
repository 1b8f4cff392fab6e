"""The pool as a service: its settings, what it tells, and leaving it for a restart."""
