"""Where buyers of orders pay on the chain, and what they paid there."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    PrimaryKeyConstraint,
    UniqueConstraint,
)

from pool.books.migrations.tables import INTEGER, create_table, number, words
from pool.books.migrations.triggers import append_only, is_postgresql, never_replaced

revision = "0035"
down_revision = "0034"

# Append-only, by what no other row may have.
APPEND_ONLY = {
    "order_addresses": (("order_id",), ("position",), ("script",)),
    "order_deposits": (("id",), ("transaction_seq",), ("txid", "vout", "part")),
}


def upgrade() -> None:
    """Create the tables and their triggers."""
    create_table(
        "order_addresses",
        number("order_id"),
        number("position"),
        words("address"),
        words("script"),
        number("given_at_s"),
        words("given_by"),
        CheckConstraint("position >= 0", name="ck_order_addresses_position"),
        ForeignKeyConstraint(["order_id"], ["order_billing.order_id"], name="fk_order_addresses_order_id"),
        PrimaryKeyConstraint("order_id", name="pk_order_addresses"),
        UniqueConstraint("position", name="uq_order_addresses_position"),
        UniqueConstraint("script", name="uq_order_addresses_script"),
    )
    create_table(
        "order_deposits",
        Column("id", INTEGER, autoincrement=False, nullable=False),
        number("order_id"),
        words("txid"),
        number("vout"),
        number("part"),
        number("amount_sat"),
        words("block_hash"),
        number("height"),
        number("transaction_seq"),
        number("booked_at_s"),
        CheckConstraint("amount_sat > 0", name="ck_order_deposits_amount_sat"),
        CheckConstraint("vout >= 0 AND part >= 0 AND height >= 0", name="ck_order_deposits_part"),
        ForeignKeyConstraint(["order_id"], ["order_addresses.order_id"], name="fk_order_deposits_order_id"),
        ForeignKeyConstraint(
            ["transaction_seq"], ["ledger_transactions.seq"], name="fk_order_deposits_transaction_seq"
        ),
        PrimaryKeyConstraint("id", name="pk_order_deposits"),
        UniqueConstraint("transaction_seq", name="uq_order_deposits_transaction_seq"),
        UniqueConstraint("txid", "vout", "part", name="uq_order_deposits_txid_vout_part"),
        Index("ix_order_deposits_height", "height"),
        Index("ix_order_deposits_order_id", "order_id"),
    )
    create_table(
        "order_deposits_seen",
        Column("id", INTEGER, nullable=False),
        number("height"),
        words("block_hash"),
        CheckConstraint("height >= 0", name="ck_order_deposits_seen_height"),
        CheckConstraint("id = 1", name="ck_order_deposits_seen_id"),
        PrimaryKeyConstraint("id", name="pk_order_deposits_seen"),
    )
    append_only(APPEND_ONLY)
    if not is_postgresql():
        for name, keys in APPEND_ONLY.items():
            never_replaced(name, keys)
