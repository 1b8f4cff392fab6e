"""What is known of power: nameplates of machines, meters and their readings, limits."""

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    """Create the tables."""
