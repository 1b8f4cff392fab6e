"""For how long after its end an order delivers what it owes."""

from alembic import op

from pool.books.migrations.tables import number

revision = "0038"
down_revision = "0037"


def upgrade() -> None:
    """Create the column."""
    op.add_column("order_terms", number("extension_h", nullable=True))
