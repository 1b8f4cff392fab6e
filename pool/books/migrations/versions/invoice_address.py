"""Where an order's buyer pays on the chain, on his invoices."""

from alembic import op

from pool.books.migrations.tables import words

revision = "0040"
down_revision = "0039"


def upgrade() -> None:
    """Create the column."""
    op.add_column("order_invoices", words("address", nullable=True))
