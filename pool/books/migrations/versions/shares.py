"""Shares that are kept, and closings: a chain of signed rows with the root of each settlement's shares."""

from alembic import op
from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    LargeBinary,
    PrimaryKeyConstraint,
    UniqueConstraint,
)

from pool.books.migrations.tables import INTEGER, create_table, number, words
from pool.books.migrations.triggers import append_only, is_postgresql, never_replaced

revision = "0037"
down_revision = "0036"


def upgrade() -> None:
    """Create the tables and their triggers."""
    create_table(
        "share_parts",
        words("writer"),
        number("booking"),
        number("rate_id"),
        number("hour"),
        number("from_log2"),
        Column("packed", LargeBinary, nullable=False),
        CheckConstraint("from_log2 BETWEEN -32 AND 63", name="ck_share_parts_from_log2"),
        ForeignKeyConstraint(["rate_id"], ["rates.id"], name="fk_share_parts_rate_id"),
        PrimaryKeyConstraint("writer", "booking", "rate_id", "hour", name="pk_share_parts"),
    )
    op.create_index("ix_share_parts_rate_id_hour", "share_parts", ["rate_id", "hour"])
    create_table(
        "share_closings",
        Column("number", INTEGER, autoincrement=False, nullable=False),
        number("first_settlement"),
        number("last_settlement"),
        words("root"),
        number("ledger_seq"),
        words("ledger_hash"),
        words("book"),
        words("key"),
        words("prev_hash"),
        words("hash"),
        words("signature"),
        CheckConstraint("last_settlement >= first_settlement", name="ck_share_closings_last_settlement"),
        ForeignKeyConstraint(
            ["first_settlement"], ["settlements.seq"], name="fk_share_closings_first_settlement"
        ),
        ForeignKeyConstraint(
            ["last_settlement"], ["settlements.seq"], name="fk_share_closings_last_settlement"
        ),
        PrimaryKeyConstraint("number", name="pk_share_closings"),
        UniqueConstraint("first_settlement", name="uq_share_closings_first_settlement"),
        UniqueConstraint("last_settlement", name="uq_share_closings_last_settlement"),
        UniqueConstraint("hash", name="uq_share_closings_hash"),
    )
    create_table(
        "share_roots",
        Column("settlement_seq", INTEGER, autoincrement=False, nullable=False),
        number("closing"),
        number("from_log2"),
        words("kept"),
        words("root"),
        words("nonce"),
        CheckConstraint("from_log2 BETWEEN -32 AND 63", name="ck_share_roots_from_log2"),
        ForeignKeyConstraint(["settlement_seq"], ["settlements.seq"], name="fk_share_roots_settlement_seq"),
        ForeignKeyConstraint(["closing"], ["share_closings.number"], name="fk_share_roots_closing"),
        PrimaryKeyConstraint("settlement_seq", name="pk_share_roots"),
    )
    op.create_index("ix_share_roots_closing", "share_roots", ["closing"])
    create_table(
        "share_leaves",
        Column("settlement_seq", INTEGER, autoincrement=False, nullable=False),
        Column("packed", LargeBinary, nullable=False),
        ForeignKeyConstraint(["settlement_seq"], ["settlements.seq"], name="fk_share_leaves_settlement_seq"),
        PrimaryKeyConstraint("settlement_seq", name="pk_share_leaves"),
    )
    append_only(("share_closings", "share_roots"))
    if not is_postgresql():
        never_replaced(
            "share_closings", (("number",), ("first_settlement",), ("last_settlement",), ("hash",))
        )
        never_replaced("share_roots", (("settlement_seq",),))
