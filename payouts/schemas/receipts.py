"""The table of receipts: what each hour of an order came to, a chain of rows for each order.

Invariants: append-only; an order's receipts count from 1 without gaps. `bill` is what one adds to what the
buyer owes, `due` what it adds to what is to be paid back: whole satoshi, rounded down, and the rest of one.
Must not know: the key.
"""

from sqlalchemy import CheckConstraint, ForeignKey, PrimaryKeyConstraint, UniqueConstraint

from payouts.schemas.money import number, table, words

order_receipts = table(
    "order_receipts",
    number("order_id", ForeignKey("orders.id")),
    number("number"),
    number("hour"),  # since 1970
    number("part"),  # 0: the hour's receipt; others: what came later
    number("bill_sat"),
    number("bill_psat"),
    number("due_sat"),
    number("due_psat"),
    words("content"),  # JSON, all that the hash is over
    words("hash"),
    words("signature"),  # empty where there was no key
    PrimaryKeyConstraint("order_id", "number"),
    UniqueConstraint("order_id", "hour", "part"),
    UniqueConstraint("hash"),
    CheckConstraint("number >= 1 AND part >= 0", name="number"),
    CheckConstraint("bill_psat BETWEEN 0 AND 999999999999", name="bill_psat"),
    CheckConstraint("due_sat >= 0 AND due_psat BETWEEN 0 AND 999999999999", name="due_sat"),
)

APPEND_ONLY = ("order_receipts",)
