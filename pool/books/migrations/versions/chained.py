"""The changes are chained by hash, say from where they were made, and the book knows the last of them.

And what is append-only is not replaced either: INSERT OR REPLACE deletes without the triggers of DELETE, on a
connection of SQLite that does not ask for them.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from alembic import op
from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    PrimaryKeyConstraint,
    Row,
    column,
    insert,
    inspect,
    select,
    table,
    text,
    update,
)

from pool.books.migrations.tables import INTEGER, create_table, number, words
from pool.books.migrations.triggers import append_only, is_postgresql, never_replaced, only_grows

revision = "0015"
down_revision = "0014"

ROWS_AT_ONCE = 1_000
FIRST_HASH = "0" * 64
COPIED = ("id", "changed_at_s", "changed_by", "command", "subject", "was", "became")
BEFORE = table("changes_before", *(column(name) for name in COPIED))
CHAINED = table("changes", *(column(name) for name in (*COPIED, "source", "hash")))
APPEND_ONLY = (
    "tenant_terms",
    "tenant_addresses",
    "fee_bases",
    "fee_basis_blocks",
    "rates",
    "ledger_accounts",
    "ledger_transactions",
    "ledger_transfers",
    "settlements",
    "settled_shares",
    "blocks",
    "solo_blocks",
    "block_events",
    "payout_items",
    "payout_approvals",
    "payout_inputs",
    "payout_events",
    "payout_strangers",
    "proposals",
    "confirmations",
    "channel_events",
    "rate_epochs",
    "rate_epoch_tenants",
    "changes",
)


def upgrade() -> None:
    """Make the table anew, with a hash for each row in their order, and note the last."""
    connection = op.get_bind()
    op.rename_table("changes", "changes_before")
    if is_postgresql():
        op.execute(text("ALTER TABLE changes_before RENAME CONSTRAINT pk_changes TO pk_changes_before"))
    _create()
    number, last_hash = 0, FIRST_HASH
    for row in _rows(connection):
        last_hash = _hash(last_hash, row)
        connection.execute(insert(CHAINED).values(**row._mapping, source="", hash=last_hash))
        number = row.id
    op.drop_table("changes_before")
    append_only(("changes",))
    _note_in_book(number, last_hash)
    if not is_postgresql():
        for name in (*APPEND_ONLY, "book"):
            never_replaced(name, _keys(connection, name))


def _create() -> None:
    create_table(
        "changes",
        Column("id", INTEGER, autoincrement=False, nullable=False),
        number("changed_at_s"),
        words("changed_by"),
        words("source"),
        words("command"),
        words("subject"),
        words("was", nullable=True),
        words("became", nullable=True),
        words("hash"),
        CheckConstraint("length(changed_by) > 0", name="ck_changes_changed_by"),
        CheckConstraint("was IS NOT NULL OR became IS NOT NULL", name="ck_changes_became"),
        PrimaryKeyConstraint("id", name="pk_changes"),
    )


def _rows(connection: Connection) -> Iterator[Row[Any]]:
    query = select(BEFORE).order_by(BEFORE.c.id).limit(ROWS_AT_ONCE)
    page = connection.execute(query).all()
    while page:
        yield from page
        page = connection.execute(query.where(BEFORE.c.id > page[-1].id)).all()


def _hash(before: str, row: Row[Any]) -> str:
    content = [before, row.id, row.changed_at_s, row.changed_by, "", row.command, row.subject]
    encoded = json.dumps([*content, row.was, row.became], separators=(",", ":"))
    return hashlib.sha256(encoded.encode("ascii")).hexdigest()


def _note_in_book(number: int, last_hash: str) -> None:
    integer = "BIGINT" if is_postgresql() else "INTEGER"
    op.execute(text(f"ALTER TABLE book ADD COLUMN last_change {integer} DEFAULT 0 NOT NULL"))
    op.execute(text(f"ALTER TABLE book ADD COLUMN last_change_hash TEXT DEFAULT '{FIRST_HASH}' NOT NULL"))
    book = table("book", column("last_change"), column("last_change_hash"))
    op.execute(update(book).values(last_change=number, last_change_hash=last_hash))
    for name in ("book_only_grows", "book_no_delete"):
        op.execute(text(f"DROP TRIGGER {name}" + (" ON book" if is_postgresql() else "")))
    key = ("id", "ordered_from_seq", "ordered_from_s", "based_from_rate")
    only_grows("book", key, ("latest_s", "lease_epoch", "last_change"))


def _keys(connection: Connection, name: str) -> list[list[str]]:
    """What no two rows of it have in common."""
    found = inspect(connection)
    unique = sorted(it["column_names"] for it in found.get_unique_constraints(name))
    return [found.get_pk_constraint(name)["constrained_columns"], *unique]
