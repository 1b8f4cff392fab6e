"""What buyers owe: terms of billing, charges, invoices, and what was paid; proposals of it."""

from alembic import op
from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    PrimaryKeyConstraint,
    UniqueConstraint,
    text,
)

from pool.books.migrations.tables import INTEGER, create_table, number, words
from pool.books.migrations.triggers import append_only, is_postgresql, never_replaced

revision = "0033"
down_revision = "0032"

# Append-only, by what no other row may have.
APPEND_ONLY = {
    "order_billing": (("order_id",),),
    "order_charges": (("seq",), ("order_id", "hour", "kind", "part"), ("transaction_seq",)),
    "order_charge_shares": (("charge_seq", "difficulty_log2"),),
    "order_invoices": (("number",),),
    "order_invoice_lines": (("charge_seq",),),
    "order_payments": (("id",), ("kind", "reference"), ("proposal_id",), ("transaction_seq",)),
}
ACCOUNTS = ("order_income", "order_received", "order_written_off")
KINDS = "kind IN ('reversal', 'no_payout', 'payment', 'write_off', 'refund')"


def upgrade() -> None:
    """Create the tables, their triggers and accounts, and let more be proposed."""
    if is_postgresql():
        op.drop_constraint("ck_proposals_kind", "proposals")
        op.create_check_constraint("ck_proposals_kind", "proposals", KINDS)
    else:
        _make_proposals_anew()
    _create_charges()
    _create_invoices()
    append_only(APPEND_ONLY)
    if not is_postgresql():
        for name, keys in APPEND_ONLY.items():
            never_replaced(name, keys)
    for kind in ACCOUNTS:
        account = text("INSERT INTO ledger_accounts (name, kind) VALUES (:name, :kind)")
        op.get_bind().execute(account, {"name": f"pool.{kind}", "kind": kind})


def _make_proposals_anew() -> None:
    """SQLite cannot change a check, and a renamed table takes those that name it with it: both are made anew.
    The triggers go with the old ones."""
    op.rename_table("confirmations", "confirmations_before")
    op.rename_table("proposals", "proposals_before")
    op.drop_index("ix_proposals_kind_subject", "proposals_before")
    create_table(
        "proposals",
        Column("id", INTEGER, autoincrement=False, nullable=False),
        words("kind"),
        words("subject"),
        words("why"),
        words("proposed_by"),
        number("proposed_at_s"),
        CheckConstraint(KINDS, name="ck_proposals_kind"),
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
    for name in ("proposals", "confirmations"):
        op.execute(text(f"INSERT INTO {name} SELECT * FROM {name}_before"))  # noqa: S608 - names of ours
    for name in ("confirmations", "proposals"):
        op.drop_table(f"{name}_before")
    append_only(("proposals", "confirmations"))
    never_replaced("proposals", (("id",),))
    never_replaced("confirmations", (("proposal_id",), ("transaction_seq",)))


def _create_charges() -> None:
    create_table(
        "order_billing",
        number("order_id"),
        words("period"),
        number("due_days"),
        number("stop_days", nullable=True),
        CheckConstraint("due_days BETWEEN 0 AND 365", name="ck_order_billing_due_days"),
        CheckConstraint("period IN ('daily', 'weekly', 'monthly')", name="ck_order_billing_period"),
        CheckConstraint("stop_days BETWEEN 0 AND 365", name="ck_order_billing_stop_days"),
        ForeignKeyConstraint(["order_id"], ["orders.id"], name="fk_order_billing_order_id"),
        PrimaryKeyConstraint("order_id", name="pk_order_billing"),
    )
    create_table(
        "order_charges",
        Column("seq", INTEGER, autoincrement=False, nullable=False),
        number("order_id"),
        number("hour"),
        words("kind"),
        number("part"),
        number("amount_sat"),
        number("amount_psat"),
        number("carry_in_psat"),
        number("posted_sat"),
        number("carry_out_psat"),
        number("transaction_seq", nullable=True),
        number("charged_at_s"),
        CheckConstraint("amount_psat BETWEEN 0 AND 999999999999", name="ck_order_charges_amount_psat"),
        CheckConstraint("carry_in_psat BETWEEN 0 AND 999999999999", name="ck_order_charges_carry_in_psat"),
        CheckConstraint("carry_out_psat BETWEEN 0 AND 999999999999", name="ck_order_charges_carry_out_psat"),
        CheckConstraint("kind IN ('work', 'make_good')", name="ck_order_charges_kind"),
        CheckConstraint("part >= 0", name="ck_order_charges_part"),
        CheckConstraint(
            "(transaction_seq IS NULL) = (posted_sat = 0)", name="ck_order_charges_transaction_seq"
        ),
        ForeignKeyConstraint(["order_id"], ["order_billing.order_id"], name="fk_order_charges_order_id"),
        ForeignKeyConstraint(
            ["transaction_seq"], ["ledger_transactions.seq"], name="fk_order_charges_transaction_seq"
        ),
        PrimaryKeyConstraint("seq", name="pk_order_charges"),
        UniqueConstraint("order_id", "hour", "kind", "part", name="uq_order_charges_order_id_hour_kind_part"),
        UniqueConstraint("transaction_seq", name="uq_order_charges_transaction_seq"),
        Index("ix_order_charges_order_id_seq", "order_id", "seq"),
    )
    create_table(
        "order_charge_shares",
        number("charge_seq"),
        number("difficulty_log2"),
        number("shares"),
        CheckConstraint("difficulty_log2 BETWEEN -32 AND 63", name="ck_order_charge_shares_difficulty_log2"),
        CheckConstraint("shares > 0", name="ck_order_charge_shares_shares"),
        ForeignKeyConstraint(["charge_seq"], ["order_charges.seq"], name="fk_order_charge_shares_charge_seq"),
        PrimaryKeyConstraint("charge_seq", "difficulty_log2", name="pk_order_charge_shares"),
        clustered=True,
    )


def _create_invoices() -> None:
    create_table(
        "order_invoices",
        Column("number", INTEGER, autoincrement=False, nullable=False),
        number("order_id"),
        number("from_s"),
        number("to_s"),
        number("amount_sat"),
        number("issued_at_s"),
        number("due_at_s"),
        CheckConstraint("amount_sat > 0", name="ck_order_invoices_amount_sat"),
        CheckConstraint("due_at_s >= issued_at_s", name="ck_order_invoices_due_at_s"),
        CheckConstraint("to_s >= from_s", name="ck_order_invoices_to_s"),
        ForeignKeyConstraint(["order_id"], ["order_billing.order_id"], name="fk_order_invoices_order_id"),
        PrimaryKeyConstraint("number", name="pk_order_invoices"),
        Index("ix_order_invoices_order_id_number", "order_id", "number"),
    )
    create_table(
        "order_invoice_lines",
        number("charge_seq"),
        number("invoice"),
        ForeignKeyConstraint(["charge_seq"], ["order_charges.seq"], name="fk_order_invoice_lines_charge_seq"),
        ForeignKeyConstraint(["invoice"], ["order_invoices.number"], name="fk_order_invoice_lines_invoice"),
        PrimaryKeyConstraint("charge_seq", name="pk_order_invoice_lines"),
        Index("ix_order_invoice_lines_invoice", "invoice"),
        clustered=True,
    )
    create_table(
        "order_payments",
        Column("id", INTEGER, autoincrement=False, nullable=False),
        number("order_id"),
        words("kind"),
        words("reference"),
        number("amount_sat"),
        number("invoice", nullable=True),
        number("tenant_id", nullable=True),
        number("proposal_id"),
        number("transaction_seq"),
        number("booked_at_s"),
        CheckConstraint("amount_sat > 0", name="ck_order_payments_amount_sat"),
        CheckConstraint("(kind = 'write_off') = (invoice IS NOT NULL)", name="ck_order_payments_invoice"),
        CheckConstraint("kind IN ('payment', 'write_off', 'refund')", name="ck_order_payments_kind"),
        CheckConstraint("length(reference) BETWEEN 1 AND 100", name="ck_order_payments_reference"),
        CheckConstraint("(kind = 'refund') = (tenant_id IS NOT NULL)", name="ck_order_payments_tenant_id"),
        ForeignKeyConstraint(["order_id"], ["order_billing.order_id"], name="fk_order_payments_order_id"),
        ForeignKeyConstraint(["invoice"], ["order_invoices.number"], name="fk_order_payments_invoice"),
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_order_payments_tenant_id"),
        ForeignKeyConstraint(["proposal_id"], ["proposals.id"], name="fk_order_payments_proposal_id"),
        ForeignKeyConstraint(
            ["transaction_seq"], ["ledger_transactions.seq"], name="fk_order_payments_transaction_seq"
        ),
        PrimaryKeyConstraint("id", name="pk_order_payments"),
        UniqueConstraint("kind", "reference", name="uq_order_payments_kind_reference"),
        UniqueConstraint("proposal_id", name="uq_order_payments_proposal_id"),
        UniqueConstraint("transaction_seq", name="uq_order_payments_transaction_seq"),
        Index("ix_order_payments_order_id", "order_id"),
    )
