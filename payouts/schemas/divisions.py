"""The tables of blocks that are divided over the work before them: whose they are, over what, who got what.

A fraction is text, "numerator/denominator" in lowest terms: no column has room for it.

Invariants: append-only. Must not know: what a window is.
"""

from sqlalchemy import CheckConstraint, Column, ForeignKey, PrimaryKeyConstraint, Text, UniqueConstraint

from payouts.schemas.money import DIVIDING, counted, number, one_of, table, words

# Blocks that the tenants of a scheme found. `nbits` and `mined_at_s` are those of its header, but never later
# than it was booked; `ahead` is how many expected blocks of their work were booked, when the block was, of
# hours that it does not pay.
block_funds = table(
    "block_funds",
    Column("block_hash", Text, ForeignKey("blocks.hash"), nullable=False),
    words("scheme"),
    number("nbits"),
    number("mined_at_s"),
    words("ahead"),
    PrimaryKeyConstraint("block_hash"),
    one_of("scheme", DIVIDING),
    CheckConstraint("nbits BETWEEN 1 AND 4294967295", name="nbits"),
    clustered=True,
)
divisions = table(
    "divisions",
    counted("seq", "divisions"),
    Column("block_hash", Text, ForeignKey("block_funds.block_hash"), nullable=False),
    number("first_hour", nullable=True),  # of the work that it pays; NULL: there was none
    number("last_hour", nullable=True),
    number("divided_at_s"),
    UniqueConstraint("block_hash"),
    CheckConstraint("(first_hour IS NULL) = (last_hour IS NULL)", name="hours"),
)
division_works = table(
    "division_works",
    number("division_seq", ForeignKey("divisions.seq")),
    number("rate_id", ForeignKey("rates.id")),
    words("blocks"),  # expected ones: the work of the rate that the block pays
    PrimaryKeyConstraint("division_seq", "rate_id"),
    clustered=True,
)
# For tenant and pool fee alike: carry_in + amount (floored to psat) = posted satoshi + carry_out.
division_parts = table(
    "division_parts",
    number("division_seq", ForeignKey("divisions.seq")),
    number("tenant_id", ForeignKey("tenants.id")),
    number("credit_sat"),
    number("credit_psat"),
    number("carry_in_psat"),
    number("posted_sat"),
    number("carry_out_psat"),
    number("fee_sat"),
    number("fee_psat"),
    number("fee_carry_in_psat"),
    number("fee_posted_sat"),
    number("fee_carry_out_psat"),
    number("transaction_seq", ForeignKey("ledger_transactions.seq"), nullable=True),
    PrimaryKeyConstraint("division_seq", "tenant_id"),
    UniqueConstraint("transaction_seq"),
    CheckConstraint("(transaction_seq IS NULL) = (posted_sat + fee_posted_sat = 0)", name="transaction_seq"),
    CheckConstraint("credit_sat >= 0 AND posted_sat >= 0", name="credit_sat"),
    CheckConstraint("fee_sat >= 0 AND fee_posted_sat >= 0", name="fee_sat"),
    *(
        CheckConstraint(f"{column} BETWEEN 0 AND 999999999999", name=column)
        for column in (
            "credit_psat",
            "carry_in_psat",
            "carry_out_psat",
            "fee_psat",
            "fee_carry_in_psat",
            "fee_carry_out_psat",
        )
    ),
    clustered=True,
)

APPEND_ONLY = ("block_funds", "divisions", "division_works", "division_parts")
