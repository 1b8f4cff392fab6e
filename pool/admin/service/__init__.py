"""How the pool runs: settings, messages, drain."""
