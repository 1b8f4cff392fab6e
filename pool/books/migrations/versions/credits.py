"""What was credited on the work of upstreams, so that a restart does not credit it again."""

from alembic import op
from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    LargeBinary,
    PrimaryKeyConstraint,
    UniqueConstraint,
)

from pool.books.migrations.tables import INTEGER, create_table, number, words

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Create the tables."""
    create_table(
        "upstream_tips",
        Column("id", INTEGER, autoincrement=False, nullable=False),
        words("prevhash"),
        number("forgotten"),
        PrimaryKeyConstraint("id", name="pk_upstream_tips"),
        UniqueConstraint("prevhash", name="uq_upstream_tips_prevhash"),
        CheckConstraint("length(prevhash) = 64", name="ck_upstream_tips_prevhash"),
        CheckConstraint("forgotten IN (0, 1)", name="ck_upstream_tips_forgotten"),
    )
    create_table(
        "upstream_credits",
        Column("seq", INTEGER, autoincrement=False, nullable=False),
        number("tip_id"),
        Column("hashes", LargeBinary, nullable=False),
        PrimaryKeyConstraint("seq", name="pk_upstream_credits"),
        ForeignKeyConstraint(["tip_id"], ["upstream_tips.id"], name="fk_upstream_credits_tip_id"),
    )
    op.create_index("ix_upstream_credits_tip_id_seq", "upstream_credits", ["tip_id", "seq"])
