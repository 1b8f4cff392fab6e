"""The table of the roots of what was owed to all tenants at the end of a day, a chain of signed rows.

Invariants: append-only; a day has one root, later rows are of later days. Must not know: the key.
"""

from sqlalchemy import CheckConstraint, UniqueConstraint

from payouts.schemas.money import counted, number, table, words

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

APPEND_ONLY = ("liability_roots",)
