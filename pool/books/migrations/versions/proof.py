"""Roots of what is owed to all tenants at the end of a day: a chain of signed rows."""

from sqlalchemy import CheckConstraint, Column, PrimaryKeyConstraint, UniqueConstraint

from pool.books.migrations.tables import INTEGER, create_table, number, words
from pool.books.migrations.triggers import append_only, is_postgresql, never_replaced

revision = "0031"
down_revision = "0030"


def upgrade() -> None:
    """Create the table and its triggers."""
    create_table(
        "liability_roots",
        Column("number", INTEGER, autoincrement=False, nullable=False),
        number("day"),
        words("root"),
        number("total_sat"),
        number("leaves"),
        number("ledger_seq"),
        words("ledger_hash"),
        words("book"),
        words("key"),
        words("prev_hash"),
        words("hash"),
        words("signature"),
        CheckConstraint("day >= 0", name="ck_liability_roots_day"),
        CheckConstraint("leaves > 0", name="ck_liability_roots_leaves"),
        CheckConstraint("total_sat >= 0", name="ck_liability_roots_total_sat"),
        PrimaryKeyConstraint("number", name="pk_liability_roots"),
        UniqueConstraint("day", name="uq_liability_roots_day"),
        UniqueConstraint("hash", name="uq_liability_roots_hash"),
    )
    append_only(("liability_roots",))
    if not is_postgresql():
        never_replaced("liability_roots", (("number",), ("day",), ("hash",)))
