"""No rows of a journal in the books: it has been a log of its own since, and the table is empty.

Batches that a version of before committed and did not book are shares that somebody is paid for. Only that
version knows what they were worth, so they are not taken here, and not dropped: it has to book them first.
"""

from alembic import op

from pool.books.migrations.unbooked import words_of_unbooked
from pool.store_error import StoreError

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Drop the table. Raises StoreError where something is in it."""
    if words := words_of_unbooked(op.get_bind()):
        raise StoreError(words)
    op.drop_table("journal_batches")
