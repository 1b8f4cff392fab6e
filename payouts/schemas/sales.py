"""The tables of what buyers owe: by which terms an order is billed, what was charged for it, its invoices,
and what was paid.

Invariants, held by triggers that the migrations create: all of them are append-only, but for how far the
chain was looked through. What is owed, and whether an invoice is paid, is not stored: it is derived.

Must not know: connections, and who writes.
"""

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    PrimaryKeyConstraint,
    UniqueConstraint,
    text,
)

from payouts.schemas.money import INTEGER, counted, number, one_of, row_id, table, words

PERIODS = ("daily", "weekly", "monthly")
CHARGES = ("work", "make_good")
PAYMENTS = ("payment", "write_off", "refund")

# Of an order that is billed at all. It is overdue due_days after an invoice, and stops stop_days after that.
order_billing = table(
    "order_billing",
    number("order_id", ForeignKey("orders.id")),
    words("period"),
    number("due_days"),
    number("stop_days", nullable=True),  # NULL: it does not stop
    Column(
        "prepaid", INTEGER, nullable=False, server_default=text("0")
    ),  # 1: it runs while it is paid before
    PrimaryKeyConstraint("order_id"),
    one_of("period", PERIODS),
    CheckConstraint("due_days BETWEEN 0 AND 365", name="due_days"),
    CheckConstraint("stop_days BETWEEN 0 AND 365", name="stop_days"),
)
# Part 0 of `work` is an hour's charge, later ones are work that came after it; below zero is given back.
# carry_in + amount (floored to psat) = posted satoshi + carry_out, by order.
order_charges = table(
    "order_charges",
    counted("seq", "order_charges"),
    number("order_id", ForeignKey("order_billing.order_id")),
    number("hour"),
    words("kind"),
    number("part"),
    number("amount_sat"),
    number("amount_psat"),
    number("carry_in_psat"),
    number("posted_sat"),
    number("carry_out_psat"),
    number("transaction_seq", ForeignKey("ledger_transactions.seq"), nullable=True),
    number("charged_at_s"),
    UniqueConstraint("order_id", "hour", "kind", "part"),
    UniqueConstraint("transaction_seq"),
    one_of("kind", CHARGES),
    CheckConstraint("part >= 0", name="part"),
    CheckConstraint("(transaction_seq IS NULL) = (posted_sat = 0)", name="transaction_seq"),
    *(
        CheckConstraint(f"{column} BETWEEN 0 AND 999999999999", name=column)
        for column in ("amount_psat", "carry_in_psat", "carry_out_psat")
    ),
    Index(None, "order_id", "seq"),
    Index(None, "order_id", "charged_at_s"),
)
order_charge_shares = table(
    "order_charge_shares",
    number("charge_seq", ForeignKey("order_charges.seq")),
    number("difficulty_log2"),
    number("shares"),
    PrimaryKeyConstraint("charge_seq", "difficulty_log2"),
    CheckConstraint("difficulty_log2 BETWEEN -32 AND 63", name="difficulty_log2"),
    CheckConstraint("shares > 0", name="shares"),
    clustered=True,
)
order_invoices = table(
    "order_invoices",
    counted("number", "order_invoices"),
    number("order_id", ForeignKey("order_billing.order_id")),
    number("from_s"),
    number("to_s"),
    number("amount_sat"),
    number("issued_at_s"),
    number("due_at_s"),
    words("address", nullable=True),  # the order's, where it had one by then
    CheckConstraint("to_s >= from_s", name="to_s"),
    CheckConstraint("amount_sat > 0", name="amount_sat"),
    CheckConstraint("due_at_s >= issued_at_s", name="due_at_s"),
    Index(None, "order_id", "number"),
)
order_invoice_lines = table(
    "order_invoice_lines",
    number("charge_seq", ForeignKey("order_charges.seq")),
    number("invoice", ForeignKey("order_invoices.number")),
    PrimaryKeyConstraint("charge_seq"),
    Index(None, "invoice"),
    clustered=True,
)
# What a buyer paid, what nobody hopes for any more, and what was given back; each said by two persons.
order_payments = table(
    "order_payments",
    counted("id", "order_payments"),
    number("order_id", ForeignKey("order_billing.order_id")),
    words("kind"),
    words("reference"),  # whose it is: the payer's, or the proposal's number
    number("amount_sat"),
    number("invoice", ForeignKey("order_invoices.number"), nullable=True),
    number("tenant_id", ForeignKey("tenants.id"), nullable=True),
    number("proposal_id", ForeignKey("proposals.id")),
    number("transaction_seq", ForeignKey("ledger_transactions.seq")),
    number("booked_at_s"),
    UniqueConstraint("kind", "reference"),
    UniqueConstraint("proposal_id"),
    UniqueConstraint("transaction_seq"),
    one_of("kind", PAYMENTS),
    CheckConstraint("amount_sat > 0", name="amount_sat"),
    CheckConstraint("length(reference) BETWEEN 1 AND 100", name="reference"),
    CheckConstraint("(kind = 'write_off') = (invoice IS NOT NULL)", name="invoice"),
    CheckConstraint("(kind = 'refund') = (tenant_id IS NOT NULL)", name="tenant_id"),
    Index(None, "order_id"),
)

# Where an order's buyer pays on the chain: an address of a descriptor, by a number that is never used again.
order_addresses = table(
    "order_addresses",
    number("order_id", ForeignKey("order_billing.order_id")),
    number("position"),
    words("address"),
    words("script"),
    number("given_at_s"),
    words("given_by"),
    PrimaryKeyConstraint("order_id"),
    UniqueConstraint("position"),
    UniqueConstraint("script"),
    CheckConstraint("position >= 0", name="position"),
)
# What was paid there, by output; a further part where it was booked back, and the chain has it again.
order_deposits = table(
    "order_deposits",
    counted("id", "order_deposits"),
    number("order_id", ForeignKey("order_addresses.order_id")),
    words("txid"),
    number("vout"),
    number("part"),
    number("amount_sat"),
    words("block_hash"),
    number("height"),
    number("transaction_seq", ForeignKey("ledger_transactions.seq")),
    number("booked_at_s"),
    UniqueConstraint("txid", "vout", "part"),
    UniqueConstraint("transaction_seq"),
    CheckConstraint("amount_sat > 0", name="amount_sat"),
    CheckConstraint("vout >= 0 AND part >= 0 AND height >= 0", name="part"),
    Index(None, "order_id"),
    Index(None, "height"),
)
# Up to which block the chain was looked through for them.
order_deposits_seen = table(
    "order_deposits_seen",
    row_id(),
    number("height"),
    words("block_hash"),
    CheckConstraint("id = 1", name="id"),
    CheckConstraint("height >= 0", name="height"),
)

APPEND_ONLY = (
    "order_billing",
    "order_charges",
    "order_charge_shares",
    "order_invoices",
    "order_invoice_lines",
    "order_payments",
    "order_addresses",
    "order_deposits",
)
