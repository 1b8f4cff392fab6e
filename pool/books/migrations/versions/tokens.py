"""Tokens: what programs show to be let in as a user."""

from alembic import op
from sqlalchemy import CheckConstraint, Column, ForeignKeyConstraint, PrimaryKeyConstraint, UniqueConstraint

from pool.books.migrations.tables import INTEGER, create_table, number, words
from pool.books.migrations.triggers import only_grows, set_once

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Create the table, its index and its triggers."""
    create_table(
        "tokens",
        Column("id", INTEGER, autoincrement=False, nullable=False),
        number("user_id"),
        words("label"),
        words("scope"),
        words("digest"),
        number("created_at_s"),
        words("created_by"),
        number("expires_at_s"),
        number("last_used_at_s", nullable=True),
        number("revoked_at_s", nullable=True),
        CheckConstraint("length(digest) = 64", name="ck_tokens_digest"),
        CheckConstraint("expires_at_s > created_at_s", name="ck_tokens_expires_at_s"),
        CheckConstraint(
            "scope IN ('metrics', 'tenant', 'viewer', 'operator', 'payer', 'admin')", name="ck_tokens_scope"
        ),
        ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_tokens_user_id"),
        PrimaryKeyConstraint("id", name="pk_tokens"),
        UniqueConstraint("digest", name="uq_tokens_digest"),
    )
    op.create_index("ix_tokens_user_id", "tokens", ["user_id"])
    made = ("id", "user_id", "label", "scope", "digest", "created_at_s", "created_by", "expires_at_s")
    only_grows("tokens", made, ("last_used_at_s",))
    set_once("tokens", ("revoked_at_s",))
