"""Where machines are on their own networks, and with what credentials."""

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    """Create the tables."""
