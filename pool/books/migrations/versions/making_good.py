"""How orders make good what is missing, and minutes in which a buyer's upstream was away."""

from alembic import op
from sqlalchemy import CheckConstraint, Column, ForeignKeyConstraint, PrimaryKeyConstraint, text

from pool.books.migrations.tables import INTEGER, create_table, number, words
from pool.books.migrations.triggers import append_only, is_postgresql, never_replaced

revision = "0036"
down_revision = "0035"


def upgrade() -> None:
    """Create the table and its triggers, and the column."""
    create_table(
        "order_terms",
        number("order_id"),
        words("make_good"),
        words("tolerances"),
        CheckConstraint("make_good IN ('credit', 'refund')", name="ck_order_terms_make_good"),
        ForeignKeyConstraint(["order_id"], ["orders.id"], name="fk_order_terms_order_id"),
        PrimaryKeyConstraint("order_id", name="pk_order_terms"),
        clustered=True,
    )
    append_only(("order_terms",))
    if not is_postgresql():
        never_replaced("order_terms", (("order_id",),))
    op.add_column("order_hours", Column("minutes_away", INTEGER, nullable=False, server_default=text("0")))
