"""A book in SQLite that has moved to PostgreSQL, or is about to: it says so itself, in place of its schema.

So nobody takes it for a book, whatever it is called by then and wherever it was copied to: this Angara says
where the book is, one of before that it does not know this schema. Where it moved to is in the words of who
wrote to it last (`book.lease_holder`), by host and name alone.

Must not know: how rows are copied.
"""

import enum
from typing import Final

from sqlalchemy import Connection, text

from pool.books.migrations.revisions import REVISIONS

SET_VERSION: Final = text("UPDATE alembic_version SET version_num = :version")
SET_HOLDER: Final = text("UPDATE book SET lease_epoch = lease_epoch + 1, lease_holder = :holder")
HOLDER: Final = text("SELECT lease_holder FROM book")
VERSION: Final = text("SELECT version_num FROM alembic_version")
TO: Final = "the move to "


class Move(enum.Enum):
    """How far it is."""

    BEGUN = "moving"  # it is there, or here, or nowhere yet
    DONE = "moved"


def move_in(version: str) -> Move | None:
    """What a book says of itself whose schema is that; None for one that says nothing."""
    word, _, of = version.partition(" ")
    found = {it.value: it for it in Move}.get(word)
    return found if of in REVISIONS else None


def words_of_move(connection: Connection, move: Move) -> str:
    """Why it is no book, for who would have used it."""
    place = moves_to(connection) or "another database"
    if move is Move.DONE:
        return (
            f"this book has moved to {place}: say so in the settings, as url of [database]. What is here is"
            " what it was then, and nobody's book any more"
        )
    return (
        f"a move of this book to {place} was begun and did not end: `angara db move` with the same --to ends"
        " it, and with --undo takes it back where nothing is there yet"
    )


def moves_to(connection: Connection) -> str | None:
    """Where, as whoever began it said."""
    holder: str | None = connection.scalar(HOLDER)
    return holder.removeprefix(TO) if holder is not None and holder.startswith(TO) else None


def move_of(connection: Connection) -> Move | None:
    return move_in(str(connection.scalar(VERSION)))


def begin_move(connection: Connection, place: str) -> None:
    """From its commit on nobody else writes to it, or begins with it."""
    version = str(connection.scalar(VERSION))
    connection.execute(SET_HOLDER, {"holder": TO + place})
    connection.execute(SET_VERSION, {"version": f"{Move.BEGUN.value} {version}"})


def end_move(connection: Connection) -> None:
    """The book is there."""
    connection.execute(SET_VERSION, {"version": f"{Move.DONE.value} {_schema(connection)}"})


def take_back_move(connection: Connection) -> None:
    """The book is here: nothing of it is there."""
    connection.execute(SET_VERSION, {"version": _schema(connection)})


def _schema(connection: Connection) -> str:
    return str(connection.scalar(VERSION)).partition(" ")[2]
