"""The tables of what one person proposes and another confirms.

Invariants: append-only; a proposal is confirmed once, by somebody else than who made it; what is confirmed
and booked is one transaction of the ledger, and the other way round for reversals and what buyers paid.

Must not know: what a proposal is about (`proposals`), and who is somebody else (`persons`).
"""

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, UniqueConstraint

from payouts.schemas.money import INTEGER, counted, number, one_of, table, words

proposals = table(
    "proposals",
    counted("id", "proposals"),
    words("kind"),
    # reversal: the transaction's number; no_payout: the txid, or disown:<txid>; payment:
    # order:satoshi:reference; write_off: invoice:satoshi; refund: order:satoshi:tenant, by number.
    words("subject"),
    words("why"),
    words("proposed_by"),
    number("proposed_at_s"),
    one_of("kind", ("reversal", "no_payout", "payment", "write_off", "refund")),
    CheckConstraint("length(why) > 0", name="why"),
    Index(None, "kind", "subject"),
)
confirmations = table(
    "confirmations",
    Column("proposal_id", INTEGER, ForeignKey("proposals.id"), primary_key=True, autoincrement=False),
    words("confirmed_by"),
    number("confirmed_at_s"),
    number("transaction_seq", ForeignKey("ledger_transactions.seq"), nullable=True),  # what it booked
    UniqueConstraint("transaction_seq"),
)

APPEND_ONLY = ("proposals", "confirmations")
