"""Keys that changes are asked for under, so that who asks again changes nothing more."""

from alembic import op
from sqlalchemy import CheckConstraint, PrimaryKeyConstraint

from pool.books.migrations.tables import create_table, number, words

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Create the table and its indexes."""
    create_table(
        "change_keys",
        words("caller"),
        words("key"),
        words("digest"),
        number("change"),
        number("made_at_s"),
        words("answer", nullable=True),
        CheckConstraint("length(digest) = 64", name="ck_change_keys_digest"),
        PrimaryKeyConstraint("caller", "key", name="pk_change_keys"),
    )
    op.create_index("ix_change_keys_caller_change", "change_keys", ["caller", "change"])
    op.create_index("ix_change_keys_made_at_s", "change_keys", ["made_at_s"])
