"""Inserts that say what becomes of a row that is there already, for SQLite and PostgreSQL alike.

Must not know: what the tables are for.
"""

from collections.abc import Callable

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite

Insert = sqlite.Insert | postgresql.Insert


def upserts(*tables: Table, on: Callable[[Table, Insert], Insert]) -> dict[str, dict[str, Insert]]:
    """`on` of an insert into each table: by the dialect's name and the table's. To be built once."""
    return {
        "sqlite": {table.name: on(table, sqlite.insert(table)) for table in tables},
        "postgresql": {table.name: on(table, postgresql.insert(table)) for table in tables},
    }
