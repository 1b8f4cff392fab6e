"""Who changed what by a command: a row for each, from now on."""

from sqlalchemy import CheckConstraint, Column, PrimaryKeyConstraint

from pool.books.migrations.tables import INTEGER, create_table, number, words
from pool.books.migrations.triggers import append_only

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Create the table and its triggers."""
    create_table(
        "changes",
        Column("id", INTEGER, autoincrement=False, nullable=False),
        number("changed_at_s"),
        words("changed_by"),
        words("command"),
        words("subject"),
        words("was", nullable=True),
        words("became", nullable=True),
        CheckConstraint("length(changed_by) > 0", name="ck_changes_changed_by"),
        CheckConstraint("was IS NOT NULL OR became IS NOT NULL", name="ck_changes_became"),
        PrimaryKeyConstraint("id", name="pk_changes"),
    )
    append_only(("changes",))
