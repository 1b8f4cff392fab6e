"""The embedded regtest node, on Bitcoin Core's consensus code."""
