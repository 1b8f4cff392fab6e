"""Payouts as they are found: without change, with two outputs to a tenant, beyond what was owed.

And the book's latest moment has seen what persons said of payouts, which was dated by the clock alone.
"""

from alembic import op
from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    ForeignKeyConstraint,
    LargeBinary,
    PrimaryKeyConstraint,
    UniqueConstraint,
    column,
    func,
    select,
    table,
    text,
    update,
)

from pool.books.migrations.tables import create_table, number, words
from pool.books.migrations.triggers import append_only, is_postgresql

revision = "0013"
down_revision = "0012"

DATED = (
    ("proposals", "proposed_at_s"),
    ("confirmations", "confirmed_at_s"),
    ("payout_strangers", "accepted_at_s"),
    ("payout_attempts", "created_at_s"),
)
CHECKS = {
    "ck_payout_attempts_fee_sat": "fee_sat >= 0 AND (change_sat IS NULL OR change_sat > 0)",
    "ck_payout_attempts_change": "(change_sat IS NULL) = (change_script IS NULL)",
    "ck_payout_attempts_change_sat": "change_sat IS NOT NULL OR psbt IS NULL",
}


def upgrade() -> None:
    """Loosen what held for what we make ourselves, and open the account."""
    if is_postgresql():
        _loosen()
    else:
        _make_anew()
    connection, book = op.get_bind(), table("book", column("latest_s"))
    latest_s = max(_highest(connection, "book", "latest_s"), *(_highest(connection, *it) for it in DATED))
    op.execute(update(book).values(latest_s=latest_s))
    op.execute(text("INSERT INTO ledger_accounts (name, kind) VALUES ('pool.overpaid', 'overpaid')"))


def _highest(connection: Connection, name: str, of: str) -> int:
    return connection.scalar(select(func.max(column(of))).select_from(table(name))) or 0


def _loosen() -> None:
    op.drop_constraint("uq_payout_items_batch_id_tenant_id", "payout_items")
    for name in ("change_script", "change_sat"):
        op.alter_column("payout_attempts", name, nullable=True)
    op.drop_constraint("ck_payout_attempts_fee_sat", "payout_attempts")
    for name, check in CHECKS.items():
        op.create_check_constraint(name, "payout_attempts", check)


def _make_anew() -> None:
    """SQLite cannot change a constraint. Triggers go with the old tables, and a table goes after those that
    refer to it."""
    for name, indexes in (
        ("payout_items", ["ix_payout_items_tenant_id"]),
        ("payout_inputs", ["ix_payout_inputs_txid_vout"]),
        ("payout_attempts", []),
    ):
        for index in indexes:
            op.drop_index(index, name)
        op.rename_table(name, f"{name}_before")
    _create_items()
    _create_attempts()
    _create_inputs()
    for name in ("payout_items", "payout_attempts", "payout_inputs"):
        op.execute(text(f"INSERT INTO {name} SELECT * FROM {name}_before"))  # noqa: S608 - names of ours
    for name in ("payout_items", "payout_inputs", "payout_attempts"):
        op.drop_table(f"{name}_before")
    append_only(("payout_items", "payout_inputs"))


def _create_items() -> None:
    create_table(
        "payout_items",
        number("batch_id"),
        number("position"),
        number("tenant_id"),
        words("address"),
        words("script"),
        number("amount_sat"),
        CheckConstraint("amount_sat > 0", name="ck_payout_items_amount_sat"),
        ForeignKeyConstraint(["batch_id"], ["payout_batches.id"], name="fk_payout_items_batch_id"),
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_payout_items_tenant_id"),
        PrimaryKeyConstraint("batch_id", "position", name="pk_payout_items"),
    )
    op.create_index("ix_payout_items_tenant_id", "payout_items", ["tenant_id"])


def _create_attempts() -> None:
    create_table(
        "payout_attempts",
        number("batch_id"),
        number("attempt"),
        words("state"),
        words("txid"),
        number("fee_sat"),
        words("change_script", nullable=True),
        number("change_sat", nullable=True),
        number("made_at_height"),
        Column("psbt", LargeBinary(), nullable=True),
        Column("signed_tx", LargeBinary(), nullable=True),
        words("quarantine_reason", nullable=True),
        words("block_hash", nullable=True),
        number("block_height", nullable=True),
        number("created_at_s"),
        *(CheckConstraint(check, name=name) for name, check in CHECKS.items()),
        CheckConstraint(
            "(state IN ('confirmed', 'final')) = (block_hash IS NOT NULL AND block_height IS NOT NULL)",
            name="ck_payout_attempts_block_hash",
        ),
        CheckConstraint(
            "(state = 'quarantined') = (quarantine_reason IS NOT NULL)",
            name="ck_payout_attempts_quarantine_reason",
        ),
        CheckConstraint(
            "signed_tx IS NOT NULL OR "
            "(psbt IS NOT NULL AND state IN ('psbt', 'given', 'quarantined', 'failed'))",
            name="ck_payout_attempts_signed_tx",
        ),
        CheckConstraint(
            "state IN ('psbt', 'given', 'quarantined', 'signed', 'broadcast', "
            "'replaced', 'confirmed', 'final', 'failed')",
            name="ck_payout_attempts_state",
        ),
        ForeignKeyConstraint(["batch_id"], ["payout_batches.id"], name="fk_payout_attempts_batch_id"),
        PrimaryKeyConstraint("batch_id", "attempt", name="pk_payout_attempts"),
        UniqueConstraint("txid", name="uq_payout_attempts_txid"),
    )


def _create_inputs() -> None:
    create_table(
        "payout_inputs",
        number("batch_id"),
        number("attempt"),
        number("position"),
        words("txid"),
        number("vout"),
        number("amount_sat"),
        words("script"),
        CheckConstraint("amount_sat > 0", name="ck_payout_inputs_amount_sat"),
        ForeignKeyConstraint(
            ["batch_id", "attempt"],
            ["payout_attempts.batch_id", "payout_attempts.attempt"],
            name="fk_payout_inputs_batch_id_attempt",
        ),
        PrimaryKeyConstraint("batch_id", "attempt", "position", name="pk_payout_inputs"),
    )
    op.create_index("ix_payout_inputs_txid_vout", "payout_inputs", ["txid", "vout"])
