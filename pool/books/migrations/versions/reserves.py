"""Reserves: coins that signed for the root of a day, a chain of signed rows."""

from alembic import op
from sqlalchemy import CheckConstraint, Column, ForeignKeyConstraint, PrimaryKeyConstraint, UniqueConstraint

from pool.books.migrations.tables import INTEGER, create_table, number, words
from pool.books.migrations.triggers import append_only, is_postgresql, never_replaced

revision = "0039"
down_revision = "0038"


def upgrade() -> None:
    """Create the table and its triggers."""
    create_table(
        "reserves",
        Column("number", INTEGER, autoincrement=False, nullable=False),
        number("root_number"),
        number("total_sat"),
        words("content"),
        words("hash"),
        words("made_by"),
        number("made_at_s"),
        CheckConstraint("total_sat >= 0", name="ck_reserves_total_sat"),
        ForeignKeyConstraint(["root_number"], ["liability_roots.number"], name="fk_reserves_root_number"),
        PrimaryKeyConstraint("number", name="pk_reserves"),
        UniqueConstraint("hash", name="uq_reserves_hash"),
    )
    op.create_index("ix_reserves_root_number", "reserves", ["root_number"])
    append_only(("reserves",))
    if not is_postgresql():
        never_replaced("reserves", (("number",), ("hash",)))
