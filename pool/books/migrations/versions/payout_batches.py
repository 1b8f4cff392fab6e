"""Payout batches, their approvals, and the attempts at paying them."""

from alembic import op
from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    LargeBinary,
    PrimaryKeyConstraint,
    UniqueConstraint,
    text,
)

from pool.books.migrations.tables import INTEGER, create_table, number, words
from pool.books.migrations.triggers import append_only

revision = "0002"
down_revision = "0001"

APPEND_ONLY = (
    "payout_items",
    "payout_approvals",
    "payout_inputs",
    "payout_events",
    "payout_strangers",
)


def upgrade() -> None:
    """Create the tables and their triggers."""
    _create_batches()
    _create_attempts()
    append_only(APPEND_ONLY)


def _create_batches() -> None:
    create_table(
        "payout_batches",
        Column("id", INTEGER, autoincrement=False, nullable=False),
        words("state"),
        words("digest"),
        words("created_by"),
        number("created_at_s"),
        CheckConstraint(
            "state IN ('draft', 'approved', 'psbt', 'signed', 'broadcast', 'confirmed', 'final', 'failed')",
            name="ck_payout_batches_state",
        ),
        PrimaryKeyConstraint("id", name="pk_payout_batches"),
    )
    op.create_index(
        "ix_payout_batches_draft",
        "payout_batches",
        ["state"],
        unique=True,
        sqlite_where=text("state = 'draft'"),
        postgresql_where=text("state = 'draft'"),
    )
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
        UniqueConstraint("batch_id", "tenant_id", name="uq_payout_items_batch_id_tenant_id"),
    )
    op.create_index("ix_payout_items_tenant_id", "payout_items", ["tenant_id"])
    create_table(
        "payout_approvals",
        number("id"),
        number("batch_id"),
        words("digest"),
        number("fee_cap_sat"),
        words("approved_by"),
        number("approved_at_s"),
        CheckConstraint("fee_cap_sat > 0", name="ck_payout_approvals_fee_cap_sat"),
        ForeignKeyConstraint(["batch_id"], ["payout_batches.id"], name="fk_payout_approvals_batch_id"),
        PrimaryKeyConstraint("id", name="pk_payout_approvals"),
    )
    op.create_index("ix_payout_approvals_batch_id", "payout_approvals", ["batch_id"])


def _create_attempts() -> None:
    create_table(
        "payout_attempts",
        number("batch_id"),
        number("attempt"),
        words("state"),
        words("txid"),
        number("fee_sat"),
        words("change_script"),
        number("change_sat"),
        number("made_at_height"),
        Column("psbt", LargeBinary(), nullable=True),
        Column("signed_tx", LargeBinary(), nullable=True),
        words("quarantine_reason", nullable=True),
        words("block_hash", nullable=True),
        number("block_height", nullable=True),
        number("created_at_s"),
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
        CheckConstraint("fee_sat >= 0 AND change_sat > 0", name="ck_payout_attempts_fee_sat"),
        ForeignKeyConstraint(["batch_id"], ["payout_batches.id"], name="fk_payout_attempts_batch_id"),
        PrimaryKeyConstraint("batch_id", "attempt", name="pk_payout_attempts"),
        UniqueConstraint("txid", name="uq_payout_attempts_txid"),
    )
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
    create_table(
        "payout_events",
        number("batch_id"),
        number("position"),
        words("state"),
        number("attempt", nullable=True),
        words("done_by"),
        words("detail"),
        number("at_s"),
        number("transaction_seq", nullable=True),
        ForeignKeyConstraint(["batch_id"], ["payout_batches.id"], name="fk_payout_events_batch_id"),
        ForeignKeyConstraint(
            ["transaction_seq"], ["ledger_transactions.seq"], name="fk_payout_events_transaction_seq"
        ),
        PrimaryKeyConstraint("batch_id", "position", name="pk_payout_events"),
        UniqueConstraint("transaction_seq", name="uq_payout_events_transaction_seq"),
    )
    create_table(
        "payout_strangers",
        words("txid"),
        words("anchor"),
        words("accepted_by"),
        number("accepted_at_s"),
        PrimaryKeyConstraint("txid", "anchor", name="pk_payout_strangers"),
    )
