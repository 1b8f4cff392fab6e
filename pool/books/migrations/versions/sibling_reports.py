"""Reports of siblings by their keys: one that is told twice is counted once."""

from sqlalchemy import PrimaryKeyConstraint

from pool.books.migrations.tables import create_table, number, words

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    """Create the table."""
    create_table(
        "sibling_reports",
        words("report"),
        number("at_s"),
        PrimaryKeyConstraint("report", name="pk_sibling_reports"),
        clustered=True,
    )
