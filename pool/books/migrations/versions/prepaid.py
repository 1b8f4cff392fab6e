"""Orders that run while what was paid before covers them."""

from alembic import op
from sqlalchemy import Column, text

from pool.books.migrations.tables import INTEGER

revision = "0041"
down_revision = "0040"


def upgrade() -> None:
    """Create the column."""
    op.add_column("order_billing", Column("prepaid", INTEGER, nullable=False, server_default=text("0")))
