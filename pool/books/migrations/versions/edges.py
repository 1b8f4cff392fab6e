"""Edges; and what was booked of each journal by the hours of its own records, from here on."""

from alembic import op
from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    PrimaryKeyConstraint,
    UniqueConstraint,
    text,
)

from pool.books.migrations.tables import INTEGER, create_table, number, words
from pool.books.migrations.triggers import only_grows, set_once

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    """Create the tables and their triggers. What journals had before is of the hour 0."""
    op.add_column("journal_positions", Column("floor_s", INTEGER, nullable=False, server_default=text("0")))
    _create_edges()
    _create_hours()
    op.execute(
        text(
            "INSERT INTO journal_hours (writer, hour, number, digest, records)"
            " SELECT writer, 0, number, digest, number FROM journal_positions WHERE number > 0"
        )
    )
    op.execute(
        text(
            "INSERT INTO journal_hour_shares (writer, hour, difficulty_log2, verdict, shares)"
            " SELECT writer, 0, 0, 0, accepted FROM journal_positions WHERE number > 0 AND accepted > 0"
        )
    )


def _create_edges() -> None:
    create_table(
        "edges",
        Column("id", INTEGER, autoincrement=False, nullable=False),
        words("name"),
        words("nkey"),
        number("part"),
        number("epoch"),
        words("writer", nullable=True),
        number("ths", nullable=True),
        words("host", nullable=True),
        words("process", nullable=True),
        number("lease_until_s"),
        number("created_at_s"),
        words("created_by"),
        number("retired_at_s", nullable=True),
        words("held", nullable=True),
        number("held_at_s", nullable=True),
        CheckConstraint("length(name) > 0", name="ck_edges_name"),
        CheckConstraint("length(nkey) = 56", name="ck_edges_nkey"),
        CheckConstraint("part BETWEEN 1 AND 255", name="ck_edges_part"),
        CheckConstraint("epoch >= 0", name="ck_edges_epoch"),
        CheckConstraint("ths >= 0", name="ck_edges_ths"),
        CheckConstraint("(held IS NULL) = (held_at_s IS NULL)", name="ck_edges_held"),
        CheckConstraint("(host IS NULL) = (process IS NULL)", name="ck_edges_host"),
        PrimaryKeyConstraint("id", name="pk_edges"),
        UniqueConstraint("name", name="uq_edges_name"),
        UniqueConstraint("nkey", name="uq_edges_nkey"),
    )
    create_table(
        "edge_places",
        number("edge_id"),
        number("tenant_id"),
        words("container"),
        ForeignKeyConstraint(["edge_id"], ["edges.id"], name="fk_edge_places_edge_id"),
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_edge_places_tenant_id"),
        PrimaryKeyConstraint("edge_id", "tenant_id", "container", name="pk_edge_places"),
        clustered=True,
    )
    create_table(
        "edge_writers",
        words("writer"),
        number("edge_id"),
        number("part"),
        number("began_at_s"),
        number("ended_at_s", nullable=True),
        CheckConstraint("part BETWEEN 1 AND 255", name="ck_edge_writers_part"),
        ForeignKeyConstraint(["edge_id"], ["edges.id"], name="fk_edge_writers_edge_id"),
        PrimaryKeyConstraint("writer", name="pk_edge_writers"),
    )
    op.create_index("ix_edge_writers_edge_id", "edge_writers", ["edge_id"])
    only_grows("edges", ("id", "name", "created_at_s", "created_by"), ("epoch",))
    set_once("edges", ("retired_at_s",))
    only_grows("edge_writers", ("writer", "edge_id", "part", "began_at_s"), ())
    set_once("edge_writers", ("ended_at_s",))


def _create_hours() -> None:
    create_table(
        "journal_hours",
        words("writer"),
        number("hour"),
        number("number"),
        words("digest"),
        number("records"),
        CheckConstraint("length(digest) = 32", name="ck_journal_hours_digest"),
        CheckConstraint("records > 0 AND number > 0", name="ck_journal_hours_records"),
        PrimaryKeyConstraint("writer", "hour", name="pk_journal_hours"),
    )
    create_table(
        "journal_hour_shares",
        words("writer"),
        number("hour"),
        number("difficulty_log2"),
        number("verdict"),
        number("shares"),
        CheckConstraint("shares > 0", name="ck_journal_hour_shares_shares"),
        PrimaryKeyConstraint("writer", "hour", "difficulty_log2", "verdict", name="pk_journal_hour_shares"),
        clustered=True,
    )
    only_grows("journal_hours", ("writer", "hour"), ("number", "records"))
    only_grows("journal_hour_shares", ("writer", "hour", "difficulty_log2", "verdict"), ("shares",))
