"""Requests: what one person asks for and another agrees to."""

from alembic import op
from sqlalchemy import CheckConstraint, Column, ForeignKeyConstraint, PrimaryKeyConstraint
from sqlalchemy.schema import SchemaItem

from pool.books.migrations.tables import INTEGER, create_table, number, words
from pool.books.migrations.triggers import append_only, is_postgresql, never_replaced

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Create the tables and their triggers."""
    create_table(
        "requests",
        Column("id", INTEGER, autoincrement=False, nullable=False),
        words("command"),
        words("subject"),
        words("params"),
        words("was", nullable=True),
        words("became", nullable=True),
        number("people"),
        *_said("requests"),
        number("earliest_at_s"),
        number("expires_at_s"),
        CheckConstraint("people >= 1", name="ck_requests_people"),
        CheckConstraint(
            "at_s <= earliest_at_s AND earliest_at_s < expires_at_s", name="ck_requests_expires_at_s"
        ),
        PrimaryKeyConstraint("id", name="pk_requests"),
    )
    op.create_index("ix_requests_expires_at_s", "requests", ["expires_at_s"])
    create_table(
        "request_events",
        Column("request_id", INTEGER, autoincrement=False, nullable=False),
        number("ends"),
        words("what"),
        *_said("request_events"),
        words("why"),
        CheckConstraint(
            "what IN ('approved', 'carried_out', 'withdrawn', 'refused')", name="ck_request_events_what"
        ),
        CheckConstraint("ends IN (0, 1) AND (what = 'approved') = (ends = 0)", name="ck_request_events_ends"),
        ForeignKeyConstraint(["request_id"], ["requests.id"], name="fk_request_events_request_id"),
        PrimaryKeyConstraint("request_id", "ends", name="pk_request_events"),
    )
    create_table(
        "request_secrets",
        Column("request_id", INTEGER, autoincrement=False, nullable=False),
        words("params"),
        ForeignKeyConstraint(["request_id"], ["requests.id"], name="fk_request_secrets_request_id"),
        PrimaryKeyConstraint("request_id", name="pk_request_secrets"),
    )
    append_only(("requests", "request_events"))
    if not is_postgresql():
        never_replaced("requests", [["id"]])
        never_replaced("request_events", [["request_id", "ends"]])


def _said(table: str) -> tuple[SchemaItem, ...]:
    """Who, from where, when."""
    return (
        words("said_by"),
        number("user_id", nullable=True),
        number("token_id", nullable=True),
        words("source"),
        number("at_s"),
        CheckConstraint("length(said_by) > 0", name=f"ck_{table}_said_by"),
        ForeignKeyConstraint(["user_id"], ["users.id"], name=f"fk_{table}_user_id"),
        ForeignKeyConstraint(["token_id"], ["tokens.id"], name=f"fk_{table}_token_id"),
    )
