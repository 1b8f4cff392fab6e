"""Tariffs, carbon, and what energy is booked for."""

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    """Create the tables."""
