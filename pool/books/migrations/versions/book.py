"""The book knows its chain, how late it is, and who writes to it."""

from alembic import op
from sqlalchemy import CheckConstraint, Connection, PrimaryKeyConstraint, column, func, insert, select, table

from pool.books.migrations.tables import create_table, number, words
from pool.books.migrations.triggers import only_grows, set_once

revision = "0008"
down_revision = "0007"

# Whatever a statement dates its rows by.
DATED = (
    ("tenants", "created_at_s"),
    ("tenant_terms", "changed_at_s"),
    ("tenant_addresses", "changed_at_s"),
    ("workers", "first_seen_at_s"),
    ("rates", "created_at_s"),
    ("ledger_transactions", "booked_at_s"),
    ("settlements", "settled_at_s"),
    ("blocks", "found_at_s"),
    ("block_events", "at_s"),
    ("payout_batches", "created_at_s"),
    ("payout_approvals", "approved_at_s"),
    ("payout_events", "at_s"),
)


def upgrade() -> None:
    """Create the table with its one row, dated by the latest that there is in the book."""
    create_table(
        "book",
        number("id"),
        words("network", nullable=True),
        words("genesis", nullable=True),
        words("signet_challenge", nullable=True),
        number("latest_s"),
        number("ordered_from_seq"),
        number("based_from_rate"),
        number("lease_epoch"),
        words("lease_holder", nullable=True),
        PrimaryKeyConstraint("id", name="pk_book"),
        CheckConstraint("id = 1", name="ck_book_id"),
        CheckConstraint("(network IS NULL) = (genesis IS NULL)", name="ck_book_genesis"),
        CheckConstraint("signet_challenge IS NULL OR network = 'signet'", name="ck_book_signet_challenge"),
        CheckConstraint("latest_s >= 0", name="ck_book_latest_s"),
        CheckConstraint("lease_epoch >= 0", name="ck_book_lease_epoch"),
    )
    connection = op.get_bind()
    times = [_highest(connection, *dated) for dated in DATED]
    row = {
        "id": 1,
        "latest_s": max(0, *times),
        "ordered_from_seq": _highest(connection, "ledger_transactions", "seq") + 1,
        "based_from_rate": _highest(connection, "rates", "id") + 1,
        "lease_epoch": 0,
    }
    op.execute(insert(table("book", *(column(name) for name in row))).values(row))
    only_grows("book", ("id", "ordered_from_seq", "based_from_rate"), ("latest_s", "lease_epoch"))
    set_once("book", ("network", "genesis", "signet_challenge"))


def _highest(connection: Connection, name: str, of: str) -> int:
    return connection.scalar(select(func.max(column(of))).select_from(table(name))) or 0
