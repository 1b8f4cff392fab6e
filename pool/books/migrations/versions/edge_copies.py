"""Which hubs have copies of edges' journals that may be further than the books."""

from sqlalchemy import CheckConstraint, PrimaryKeyConstraint

from pool.books.migrations.tables import create_table, number, words

revision = "0044"
down_revision = "0043"


def upgrade() -> None:
    """Create the table. Who has copies of before writes that down when it begins."""
    create_table(
        "edge_copies",
        words("writer"),
        words("hub"),
        number("number"),
        CheckConstraint("number >= 0", name="ck_edge_copies_number"),
        PrimaryKeyConstraint("writer", "hub", name="pk_edge_copies"),
        clustered=True,
    )
