"""The one row about the book itself: which chain it is of, how late it is, who writes to it.

Invariants, held by triggers that the migrations create: there is exactly one row; network, genesis and signet
challenge are set once and never change; `latest_s`, `lease_epoch` and `last_change` only grow.

Must not know: chains, clocks, locks.
"""

from sqlalchemy import CheckConstraint, Column, PrimaryKeyConstraint, text

from payouts.schemas.money import INTEGER, number, table, words

book = table(
    "book",
    number("id"),
    words("network", nullable=True),  # as getblockchaininfo calls it; NULL until the first start binds it
    words("genesis", nullable=True),  # hash of its first block
    words("signet_challenge", nullable=True),  # hex, from the first template of a signet
    # No booking is dated before it: a clock that steps back does not reach what was stated already.
    number("latest_s"),
    # The first transaction after the book had a moment of its own.
    number("ordered_from_seq"),
    # From this rate on FPPS has a basis; a book of before may have priced it without one.
    number("based_from_rate"),
    number("lease_epoch"),  # counted up by every new writer: a former one finds another number than its own
    words("lease_holder", nullable=True),  # who that was, for a person
    # After this moment nothing is dated before what was written earlier; a book of before may have such rows.
    Column("ordered_from_s", INTEGER, nullable=False, server_default=text("0")),
    # The newest of the changes, and its hash: none of them goes unseen, the last one neither.
    Column("last_change", INTEGER, nullable=False, server_default=text("0")),
    words("last_change_hash", default="0" * 64),
    # What journals know it by, and its copies with it: random.
    words("uid", nullable=True),
    PrimaryKeyConstraint("id"),
    CheckConstraint("id = 1", name="id"),
    CheckConstraint("(network IS NULL) = (genesis IS NULL)", name="genesis"),
    CheckConstraint("signet_challenge IS NULL OR network = 'signet'", name="signet_challenge"),
    CheckConstraint("latest_s >= 0", name="latest_s"),
    CheckConstraint("lease_epoch >= 0", name="lease_epoch"),
)
