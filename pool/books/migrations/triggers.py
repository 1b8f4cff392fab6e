"""Triggers that refuse what must never happen to a row, for SQLite and PostgreSQL alike.

Used by migrations, so it may be added to but what it does must not change. A trigger stops mistakes and
bugs; who may drop a trigger is stopped by nothing here, but found by the ledger's hash chain.
"""

from collections.abc import Iterable

from alembic import op
from sqlalchemy import text

REFUSE = """
CREATE FUNCTION angara_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation'; END $$
"""


def create_refusal() -> None:
    """What the triggers of PostgreSQL call; once, before the first of them."""
    if is_postgresql():
        op.execute(text(REFUSE))


def append_only(tables: Iterable[str]) -> None:
    """Rows of these tables are never changed and never deleted."""
    for table in tables:
        if is_postgresql():
            _create(table, "append_only", "UPDATE OR DELETE OR TRUNCATE", f"{table} is append-only")
        else:
            _create(table, "no_update", "UPDATE", f"{table} is append-only")
            _create(table, "no_delete", "DELETE", f"{table} is append-only")


def never_changed(table: str) -> None:
    """Rows of this table are never changed; what is old may go."""
    _create(table, "no_update", "UPDATE", f"{table} never changes")


def only_grows(table: str, key: Iterable[str], counts: Iterable[str]) -> None:
    """Rows of this table are never deleted, keep their key, and their counts never become smaller."""
    changes = [f"NEW.{column} <> OLD.{column}" for column in key]
    changes += [f"NEW.{column} < OLD.{column}" for column in counts]
    deletion = "DELETE OR TRUNCATE" if is_postgresql() else "DELETE"
    _create(table, "no_delete", deletion, f"{table} only grows")
    _create(table, "only_grows", "UPDATE", f"{table} only grows", when=" OR ".join(changes))


def never_replaced(table: str, keys: Iterable[Iterable[str]]) -> None:
    """No row of this table makes way for another that has one of its keys (SQLite's INSERT OR REPLACE)."""
    same = " OR ".join(f"({' AND '.join(f'{name} = NEW.{name}' for name in key)})" for key in keys)
    there = f"EXISTS (SELECT 1 FROM {table} WHERE {same})"  # noqa: S608 - names of ours
    _create(table, "no_replace", "INSERT", f"{table} is append-only", when=there)


def set_once(table: str, columns: Iterable[str]) -> None:
    """These columns are NULL at first, are given a value, and keep it."""
    changes = [f"(OLD.{it} IS NOT NULL AND (NEW.{it} IS NULL OR NEW.{it} <> OLD.{it}))" for it in columns]
    _create(table, "set_once", "UPDATE", f"what {table} is bound to never changes", when=" OR ".join(changes))


def _create(table: str, name: str, event: str, message: str, when: str = "") -> None:
    condition = f"WHEN ({when})" if when else ""
    head = f"CREATE TRIGGER {table}_{name} BEFORE {event} ON {table}"
    if is_postgresql():
        each = "FOR EACH ROW" if when else "FOR EACH STATEMENT"
        op.execute(text(f"{head} {each} {condition} EXECUTE FUNCTION angara_refuse('{message}')"))
    else:
        op.execute(text(f"{head} {condition} BEGIN SELECT RAISE(ABORT, '{message}'); END"))


def is_postgresql() -> bool:
    """Whether the database that is migrated is one; else it is SQLite."""
    return op.get_context().dialect.name == "postgresql"
