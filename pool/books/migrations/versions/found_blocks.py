"""Blocks that were found and are not in the chain yet, and siblings that are never submitted."""

from alembic import op
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, PrimaryKeyConstraint, UniqueConstraint, text

from pool.books.migrations.tables import create_table, number, words
from pool.books.migrations.triggers import append_only, is_postgresql, only_grows

revision = "0007"
down_revision = "0006"

STATUSES = "status IN ('found', 'pending', 'matured', 'orphaned')"


def upgrade() -> None:
    """Let a block be found first, and create the table of siblings."""
    if is_postgresql():
        op.drop_constraint("ck_block_events_status", "block_events")
        op.create_check_constraint("ck_block_events_status", "block_events", STATUSES)
    else:
        _make_block_events_anew()
    create_table(
        "sibling_blocks",
        words("parent_hash"),
        number("worker_id"),
        number("pays_pool"),
        number("height"),
        number("found_at_s"),
        number("blocks"),
        CheckConstraint("pays_pool IN (0, 1)", name="ck_sibling_blocks_pays_pool"),
        CheckConstraint("height >= 0 AND blocks > 0", name="ck_sibling_blocks_blocks"),
        PrimaryKeyConstraint("parent_hash", "worker_id", "pays_pool", name="pk_sibling_blocks"),
        clustered=True,
    )
    only_grows(
        "sibling_blocks", ("parent_hash", "worker_id", "pays_pool", "height", "found_at_s"), ("blocks",)
    )


def _make_block_events_anew() -> None:
    """SQLite cannot change a check. The triggers go with the old table."""
    op.rename_table("block_events", "block_events_before")
    create_table(
        "block_events",
        words("block_hash"),
        number("position"),
        words("status"),
        number("at_s"),
        number("transaction_seq", nullable=True),
        CheckConstraint(STATUSES, name="ck_block_events_status"),
        ForeignKeyConstraint(["block_hash"], ["blocks.hash"], name="fk_block_events_block_hash"),
        ForeignKeyConstraint(
            ["transaction_seq"], ["ledger_transactions.seq"], name="fk_block_events_transaction_seq"
        ),
        PrimaryKeyConstraint("block_hash", "position", name="pk_block_events"),
        UniqueConstraint("transaction_seq", name="uq_block_events_transaction_seq"),
    )
    op.execute(text("INSERT INTO block_events SELECT * FROM block_events_before"))
    op.drop_table("block_events_before")
    append_only(("block_events",))
