"""The tables of what is published: roots of what was owed to all tenants at the end of a day, closings, which
have the root of each settlement's shares, changes of the key, and reserves, the coins beside a root: chains
of signed rows.

Invariants: roots and reserves are append-only; a day has one root, later rows are of later days; a settlement
is in one closing, and those of a closing follow those of the one before it. Must not know: the key.
"""

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    UniqueConstraint,
)

from payouts.schemas.money import INTEGER, counted, number, table, words

liability_roots = table(
    "liability_roots",
    counted("number", "liability_roots"),
    number("day"),  # since 1970; what is owed at its end
    words("root"),
    number("total_sat"),
    number("leaves"),
    number("ledger_seq"),  # the last transaction that was booked by then
    words("ledger_hash"),
    words("book"),  # a hash of what journals know it by
    words("key"),
    words("prev_hash"),
    words("hash"),
    words("signature"),
    UniqueConstraint("day"),
    UniqueConstraint("hash"),
    CheckConstraint("day >= 0", name="day"),
    CheckConstraint("total_sat >= 0", name="total_sat"),
    CheckConstraint("leaves > 0", name="leaves"),
)
# `root` and `closing` are the newest of then, 0 where there was none; no signature of a key that was lost.
key_changes = table(
    "key_changes",
    counted("number", "key_changes"),
    words("former"),
    words("key"),
    number("root"),
    words("root_hash"),
    number("closing"),
    words("closing_hash"),
    number("lost"),  # the former key: 1, or 0
    number("at_s"),
    words("book"),
    words("prev_hash"),
    words("hash"),
    words("signature"),
    words("former_signature"),
    UniqueConstraint("former"),
    UniqueConstraint("key"),
    UniqueConstraint("hash"),
    CheckConstraint("key <> former", name="key"),
    CheckConstraint("root >= 0", name="root"),
    CheckConstraint("closing >= 0", name="closing"),
    CheckConstraint("lost IN (0, 1)", name="lost"),
)
# Shares that were kept of a rate's hour and are in no root yet, as payouts.proof.share_tree packs them: those
# that one transaction of a journal booked. From 2**from_log2 on it is all that there were.
share_parts = table(
    "share_parts",
    words("writer"),
    number("booking"),
    number("rate_id", ForeignKey("rates.id")),
    number("hour"),
    number("from_log2"),
    Column("packed", LargeBinary, nullable=False),
    PrimaryKeyConstraint("writer", "booking", "rate_id", "hour"),
    CheckConstraint("from_log2 BETWEEN -32 AND 63", name="from_log2"),
    Index(None, "rate_id", "hour"),
)
# Settlements from the first to the last one, most often those of an hour.
share_closings = table(
    "share_closings",
    counted("number", "share_closings"),
    number("first_settlement", ForeignKey("settlements.seq")),
    number("last_settlement", ForeignKey("settlements.seq")),
    words("root"),
    number("ledger_seq"),  # the last transaction that one of them is booked in, or one before them
    words("ledger_hash"),
    words("book"),
    words("key"),
    words("prev_hash"),
    words("hash"),
    words("signature"),
    UniqueConstraint("first_settlement"),
    UniqueConstraint("last_settlement"),
    UniqueConstraint("hash"),
    CheckConstraint("last_settlement >= first_settlement", name="last_settlement"),
)
# What a settlement's leaf says of its shares: their root, and how many were kept of each difficulty (JSON).
share_roots = table(
    "share_roots",
    Column("settlement_seq", INTEGER, ForeignKey("settlements.seq"), primary_key=True, autoincrement=False),
    number("closing", ForeignKey("share_closings.number")),
    number("from_log2"),
    words("kept"),
    words("root"),
    words("nonce"),
    CheckConstraint("from_log2 BETWEEN -32 AND 63", name="from_log2"),
    Index(None, "closing"),
)
# The shares themselves, in the order of the tree: for 400 days.
share_leaves = table(
    "share_leaves",
    Column("settlement_seq", INTEGER, ForeignKey("settlements.seq"), primary_key=True, autoincrement=False),
    Column("packed", LargeBinary, nullable=False),
)
# Coins that signed for a root: what is published is in `content` (JSON).
reserves = table(
    "reserves",
    counted("number", "reserves"),
    number("root_number", ForeignKey("liability_roots.number")),
    number("total_sat"),
    words("content"),
    words("hash"),
    words("made_by"),
    number("made_at_s"),
    UniqueConstraint("hash"),
    CheckConstraint("total_sat >= 0", name="total_sat"),
    Index(None, "root_number"),
)

APPEND_ONLY = ("liability_roots", "key_changes", "share_closings", "share_roots", "reserves")
