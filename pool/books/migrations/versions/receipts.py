"""Receipts of orders: what each of their hours came to, a chain of rows for each order."""

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, PrimaryKeyConstraint, UniqueConstraint

from pool.books.migrations.tables import create_table, number, words
from pool.books.migrations.triggers import append_only, is_postgresql, never_replaced

revision = "0032"
down_revision = "0031"


def upgrade() -> None:
    """Create the table and its triggers."""
    create_table(
        "order_receipts",
        number("order_id"),
        number("number"),
        number("hour"),
        number("part"),
        number("bill_sat"),
        number("bill_psat"),
        number("due_sat"),
        number("due_psat"),
        words("content"),
        words("hash"),
        words("signature"),
        CheckConstraint("bill_psat BETWEEN 0 AND 999999999999", name="ck_order_receipts_bill_psat"),
        CheckConstraint(
            "due_sat >= 0 AND due_psat BETWEEN 0 AND 999999999999", name="ck_order_receipts_due_sat"
        ),
        CheckConstraint("number >= 1 AND part >= 0", name="ck_order_receipts_number"),
        ForeignKeyConstraint(["order_id"], ["orders.id"], name="fk_order_receipts_order_id"),
        PrimaryKeyConstraint("order_id", "number", name="pk_order_receipts"),
        UniqueConstraint("hash", name="uq_order_receipts_hash"),
        UniqueConstraint("order_id", "hour", "part", name="uq_order_receipts_order_id_hour_part"),
    )
    append_only(("order_receipts",))
    if not is_postgresql():
        keys = (("order_id", "number"), ("hash",), ("order_id", "hour", "part"))
        never_replaced("order_receipts", keys)
