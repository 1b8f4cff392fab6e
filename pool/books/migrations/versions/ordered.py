"""From when on the book is in the order of time, and how late all of it is that was there before."""

from alembic import op
from sqlalchemy import Connection, column, func, select, table, text, update

from pool.books.migrations.triggers import is_postgresql, only_grows

revision = "0012"
down_revision = "0011"

# What the book's first moment did not look at, in seconds a unit.
DATED = (
    ("fee_bases", "created_at_s", 1),
    ("tally_minutes", "minute", 60),
    ("tally_hours", "hour", 3600),
    ("tally_days", "day", 86_400),
    ("rate_hours", "hour", 3600),
    ("journal_batches", "minute", 60),
)


def upgrade() -> None:
    """Add the column: until that moment rows of before may be in any order."""
    connection = op.get_bind()
    book = table("book", column("latest_s"), column("ordered_from_s"))
    latest_s = max(_highest(connection, "book", "latest_s"), *(_latest_s(connection, *it) for it in DATED))
    integer = "BIGINT" if is_postgresql() else "INTEGER"
    op.execute(text(f"ALTER TABLE book ADD COLUMN ordered_from_s {integer} DEFAULT 0 NOT NULL"))
    op.execute(update(book).values(latest_s=latest_s, ordered_from_s=latest_s))
    op.execute(text("DROP TRIGGER book_only_grows" + (" ON book" if is_postgresql() else "")))
    key = ("id", "ordered_from_seq", "ordered_from_s", "based_from_rate")
    op.execute(text("DROP TRIGGER book_no_delete" + (" ON book" if is_postgresql() else "")))
    only_grows("book", key, ("latest_s", "lease_epoch"))


def _latest_s(connection: Connection, name: str, of: str, unit_s: int) -> int:
    return _highest(connection, name, of) * unit_s


def _highest(connection: Connection, name: str, of: str) -> int:
    return connection.scalar(select(func.max(column(of))).select_from(table(name))) or 0
