"""The tables of payout batches: one on-chain payment to many tenants, and every attempt at it.

Invariants: at most one batch is a draft; every attempt of a batch spends its anchor, input 0, so that at most
one can confirm; what is paid to whom, what was approved, what an attempt spends, and every step taken, is
append-only. The money itself is in the ledger.

Must not know: transactions' contents. The state machine is in `batch`.
"""

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    UniqueConstraint,
    text,
)

from payouts.schemas.money import INTEGER, counted, number, one_of, row_id, table, words

payout_batches = table(
    "payout_batches",
    counted("id", "payout_batches"),
    words("state"),
    words("digest"),  # SHA-256 of all outputs: what an approval is for
    words("created_by"),
    number("created_at_s"),
    one_of("state", ("draft", "approved", "psbt", "signed", "broadcast", "confirmed", "final", "failed")),
    Index(
        "ix_payout_batches_draft",
        "state",
        unique=True,
        sqlite_where=text("state = 'draft'"),
        postgresql_where=text("state = 'draft'"),
    ),
)
payout_items = table(
    "payout_items",
    number("batch_id", ForeignKey("payout_batches.id")),
    number("position"),  # of the output
    number("tenant_id", ForeignKey("tenants.id")),
    words("address"),
    words("script"),  # what is really paid
    number("amount_sat"),
    PrimaryKeyConstraint("batch_id", "position"),
    CheckConstraint("amount_sat > 0", name="amount_sat"),
    Index(None, "tenant_id"),
)
payout_approvals = table(
    "payout_approvals",
    row_id(),
    number("batch_id", ForeignKey("payout_batches.id")),
    words("digest"),
    number("fee_cap_sat"),
    words("approved_by"),
    number("approved_at_s"),
    CheckConstraint("fee_cap_sat > 0", name="fee_cap_sat"),
    Index(None, "batch_id"),
)
payout_attempts = table(
    "payout_attempts",
    number("batch_id", ForeignKey("payout_batches.id")),
    number("attempt"),  # from 1
    words("state"),
    words("txid"),
    number("fee_sat"),
    words("change_script", nullable=True),  # none: whoever made it left nothing to us
    number("change_sat", nullable=True),
    number("made_at_height"),  # the chain's height then: where a search for its anchor's spend may end
    Column("psbt", LargeBinary),  # none where the transaction was found on the chain
    Column("signed_tx", LargeBinary),  # the bytes to broadcast, again and again: never rebuilt
    words("quarantine_reason", nullable=True),
    words("block_hash", nullable=True),
    number("block_height", nullable=True),
    number("created_at_s"),
    PrimaryKeyConstraint("batch_id", "attempt"),
    UniqueConstraint("txid"),
    one_of(
        "state",
        ("psbt", "given", "quarantined", "signed", "broadcast", "replaced", "confirmed", "final", "failed"),
    ),
    CheckConstraint("fee_sat >= 0 AND (change_sat IS NULL OR change_sat > 0)", name="fee_sat"),
    CheckConstraint("(change_sat IS NULL) = (change_script IS NULL)", name="change"),
    CheckConstraint("change_sat IS NOT NULL OR psbt IS NULL", name="change_sat"),
    CheckConstraint(
        "signed_tx IS NOT NULL OR (psbt IS NOT NULL AND state IN ('psbt', 'given', 'quarantined', 'failed'))",
        name="signed_tx",
    ),
    CheckConstraint("(state = 'quarantined') = (quarantine_reason IS NOT NULL)", name="quarantine_reason"),
    CheckConstraint(
        "(state IN ('confirmed', 'final')) = (block_hash IS NOT NULL AND block_height IS NOT NULL)",
        name="block_hash",
    ),
)
payout_inputs = table(
    "payout_inputs",
    number("batch_id"),
    number("attempt"),
    number("position"),  # 0 is the anchor
    words("txid"),
    number("vout"),
    number("amount_sat"),
    words("script"),
    PrimaryKeyConstraint("batch_id", "attempt", "position"),
    ForeignKeyConstraint(["batch_id", "attempt"], ["payout_attempts.batch_id", "payout_attempts.attempt"]),
    CheckConstraint("amount_sat > 0", name="amount_sat"),
    Index(None, "txid", "vout"),
)
# Every step, with what it booked. The state is the batch's after it; attempt is the one it is about.
payout_events = table(
    "payout_events",
    number("batch_id", ForeignKey("payout_batches.id")),
    number("position"),
    words("state"),
    number("attempt", nullable=True),
    words("done_by"),
    words("detail"),
    number("at_s"),
    Column("transaction_seq", INTEGER, ForeignKey("ledger_transactions.seq")),
    PrimaryKeyConstraint("batch_id", "position"),
    UniqueConstraint("transaction_seq"),
)
# Transactions with coins of the payout wallet that are no payouts: somebody looked, and said so.
payout_strangers = table(
    "payout_strangers",
    words("txid"),
    words("anchor"),  # what it spent, txid:vout, where a batch was to spend that; else empty
    words("accepted_by"),
    number("accepted_at_s"),
    PrimaryKeyConstraint("txid", "anchor"),
)

APPEND_ONLY = ("payout_items", "payout_approvals", "payout_inputs", "payout_events", "payout_strangers")
