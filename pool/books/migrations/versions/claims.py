"""Whose a credit on an upstream's work is, and whose a share on its way to one: several write journals."""

from typing import Any

from alembic import op
from sqlalchemy import CheckConstraint, Column, ForeignKeyConstraint, PrimaryKeyConstraint, Text, text

from pool.books.migrations.tables import INTEGER, create_table, number, words
from pool.books.migrations.triggers import is_postgresql

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    """Add the columns, and what is refused."""
    op.add_column("journal_positions", Column("refused", INTEGER, nullable=False, server_default=text("0")))
    op.add_column("upstream_credits", _writer())
    op.rename_table("upstream_submits", "upstream_submits_0022")
    if is_postgresql():  # SQLite gives the key no name of its own
        op.execute("ALTER INDEX pk_upstream_submits RENAME TO pk_upstream_submits_0022")
    create_table(
        "upstream_submits",
        words("key"),
        number("worker_id"),
        number("epoch"),
        number("difficulty_log2"),
        number("counted"),
        words("target"),
        number("noted_at_s"),
        _writer(),
        CheckConstraint("counted IN (0, 1)", name="ck_upstream_submits_counted"),
        CheckConstraint("difficulty_log2 BETWEEN -32 AND 63", name="ck_upstream_submits_difficulty_log2"),
        CheckConstraint("length(target) = 64", name="ck_upstream_submits_target"),
        ForeignKeyConstraint(["epoch"], ["rate_epochs.epoch"], name="fk_upstream_submits_epoch"),
        ForeignKeyConstraint(["worker_id"], ["workers.id"], name="fk_upstream_submits_worker_id"),
        PrimaryKeyConstraint("writer", "key", name="pk_upstream_submits"),
        clustered=True,
    )
    op.execute("INSERT INTO upstream_submits SELECT *, '' FROM upstream_submits_0022")
    op.drop_table("upstream_submits_0022")
    create_table(
        "refused_credits",
        words("writer"),
        words("hash"),
        number("reason"),
        PrimaryKeyConstraint("writer", "hash", name="pk_refused_credits"),
        clustered=True,
    )
    create_table(
        "refused_shares",
        words("writer"),
        number("minute"),
        number("worker"),
        number("rate"),
        number("difficulty_log2"),
        number("verdict"),
        number("reason"),
        number("shares"),
        PrimaryKeyConstraint(
            "writer",
            "minute",
            "worker",
            "rate",
            "difficulty_log2",
            "verdict",
            "reason",
            name="pk_refused_shares",
        ),
        clustered=True,
    )


def _writer() -> Column[Any]:
    return Column("writer", Text, nullable=False, server_default="")
