"""Indexes for what is looked up by the minute, and in the transaction that books a block: rates of a scheme,
rates of an order, and what an order was charged since its last invoice.

The hours of a group's work are found by its rates: an index of all hours by time would be written with each
hour of every rate, on the way of shares.
"""

from alembic import op
from sqlalchemy import text

revision = "0042"
down_revision = "0041"

SOLD = "order_id IS NOT NULL"


def upgrade() -> None:
    """Create them."""
    op.create_index("ix_rates_scheme_id", "rates", ["scheme", "id"])
    op.create_index(
        "ix_rates_order_id", "rates", ["order_id"], sqlite_where=text(SOLD), postgresql_where=text(SOLD)
    )
    op.create_index("ix_order_charges_order_id_charged_at_s", "order_charges", ["order_id", "charged_at_s"])
