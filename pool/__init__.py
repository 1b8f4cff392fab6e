"""Node, templates, tenants, blocks and commands: wires stratum and payouts together."""
