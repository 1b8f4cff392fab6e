"""How migrations say tables and columns, for SQLite and PostgreSQL alike.

Used by migrations, so it may be added to but what it does must not change.
"""

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, Text
from sqlalchemy.schema import SchemaItem

INTEGER = BigInteger().with_variant(Integer(), "sqlite")  # SQLite's is 64 bits, and STRICT has no BIGINT


def create_table(name: str, *items: SchemaItem, clustered: bool = False) -> None:
    """A STRICT table; the rows of a clustered one live in its primary key (SQLite)."""
    op.create_table(name, *items, sqlite_strict=True, sqlite_with_rowid=not clustered)


def number(name: str, nullable: bool = False) -> Column[Any]:
    """A 64-bit integer."""
    return Column(name, INTEGER, nullable=nullable)


def words(name: str, nullable: bool = False) -> Column[Any]:
    """A text."""
    return Column(name, Text, nullable=nullable)
