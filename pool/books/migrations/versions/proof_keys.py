"""Changes of the key that statements, roots, closings and receipts are signed with."""

from sqlalchemy import CheckConstraint, Column, PrimaryKeyConstraint, UniqueConstraint

from pool.books.migrations.tables import INTEGER, create_table, number, words
from pool.books.migrations.triggers import append_only, is_postgresql, never_replaced

revision = "0043"
down_revision = "0042"


def upgrade() -> None:
    """Create the table and its triggers."""
    create_table(
        "key_changes",
        Column("number", INTEGER, autoincrement=False, nullable=False),
        words("former"),
        words("key"),
        number("root"),
        words("root_hash"),
        number("closing"),
        words("closing_hash"),
        number("lost"),
        number("at_s"),
        words("book"),
        words("prev_hash"),
        words("hash"),
        words("signature"),
        words("former_signature"),
        CheckConstraint("key <> former", name="ck_key_changes_key"),
        CheckConstraint("root >= 0", name="ck_key_changes_root"),
        CheckConstraint("closing >= 0", name="ck_key_changes_closing"),
        CheckConstraint("lost IN (0, 1)", name="ck_key_changes_lost"),
        PrimaryKeyConstraint("number", name="pk_key_changes"),
        UniqueConstraint("former", name="uq_key_changes_former"),
        UniqueConstraint("key", name="uq_key_changes_key"),
        UniqueConstraint("hash", name="uq_key_changes_hash"),
    )
    append_only(("key_changes",))
    if not is_postgresql():
        never_replaced("key_changes", (("number",), ("former",), ("key",), ("hash",)))
