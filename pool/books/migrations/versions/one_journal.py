"""No rows of a journal in the books: it has been a log of its own since, and the table is empty.

Batches that a version of before committed and did not book are shares that somebody is paid for. Only that
version knows what they were worth, so they are not taken here, and not dropped: it has to book them first.
"""

from alembic import op
from sqlalchemy import text

from pool.store_error import StoreError

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Drop the table. Raises StoreError where something is in it."""
    waiting = op.get_bind().execute(text("SELECT count(*) FROM journal_batches")).scalar_one()
    if waiting:
        raise StoreError(
            f"journal_batches has {waiting} rows of shares that the version of before has not booked: start"
            " that version, stop it, which books them, and upgrade then"
        )
    op.drop_table("journal_batches")
