"""Machines and containers that are gone: out of lists and quotas, and what they did stays."""

from alembic import op

from pool.books.migrations.tables import number

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the columns."""
    for table in ("workers", "containers"):
        op.add_column(table, number("removed_at_s", nullable=True))
