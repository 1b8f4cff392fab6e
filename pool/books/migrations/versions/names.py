"""Names of new workers in the journal's batches: a commit is one row, however many machines are new in it."""

from alembic import op
from sqlalchemy import Column, LargeBinary

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column."""
    op.add_column("journal_batches", Column("names", LargeBinary, nullable=True))
