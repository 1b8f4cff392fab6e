"""What one person proposes and another confirms: reversals, and transactions that are no payouts."""

from alembic import op
from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    PrimaryKeyConstraint,
    UniqueConstraint,
)

from pool.books.migrations.tables import INTEGER, create_table, number, words
from pool.books.migrations.triggers import append_only

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Create the tables and their triggers."""
    create_table(
        "proposals",
        Column("id", INTEGER, autoincrement=False, nullable=False),
        words("kind"),
        words("subject"),
        words("why"),
        words("proposed_by"),
        number("proposed_at_s"),
        CheckConstraint("kind IN ('reversal', 'no_payout')", name="ck_proposals_kind"),
        CheckConstraint("length(why) > 0", name="ck_proposals_why"),
        PrimaryKeyConstraint("id", name="pk_proposals"),
    )
    op.create_index("ix_proposals_kind_subject", "proposals", ["kind", "subject"])
    create_table(
        "confirmations",
        Column("proposal_id", INTEGER, autoincrement=False, nullable=False),
        words("confirmed_by"),
        number("confirmed_at_s"),
        number("transaction_seq", nullable=True),
        ForeignKeyConstraint(["proposal_id"], ["proposals.id"], name="fk_confirmations_proposal_id"),
        ForeignKeyConstraint(
            ["transaction_seq"], ["ledger_transactions.seq"], name="fk_confirmations_transaction_seq"
        ),
        PrimaryKeyConstraint("proposal_id", name="pk_confirmations"),
        UniqueConstraint("transaction_seq", name="uq_confirmations_transaction_seq"),
    )
    append_only(("proposals", "confirmations"))
