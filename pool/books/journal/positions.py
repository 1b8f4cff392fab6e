"""How far the books have taken a journal: the row that is read and written in each transaction that takes.

Must not know: what is taken.
"""

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, insert, select, update

from payouts.book_time import latest_s
from payouts.schemas.book import book
from payouts.schemas.money import rate_hours
from pool.books.journal.schema import journal_positions
from pool.journal.frames import Place


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """Everything up to `at` is in the books, and `rows_done` rows of the records behind it, up to `until`,
    none of which is dated before `floor_s`."""

    writer: str
    at: Place = Place()
    moment_s: int = 0
    until: int = 0
    rows_done: int = 0
    transactions: int = 0
    accepted: int = 0
    before: int = 0
    floor_s: int = 0
    refused: int = 0

    @property
    def counted(self) -> int:
        """Its accepted shares that are in the hours."""
        return self.accepted - self.refused


def position_of(connection: Connection, writer: str) -> Position:
    """Where the books are; a new writer's before its first record."""
    table = journal_positions
    row = connection.execute(select(table).where(table.c.writer == writer)).one_or_none()
    if row is not None:
        return _position(row)
    others = [it.counted for it in positions(connection)]
    return Position(writer=writer, before=accepted_in_hours(connection) - sum(others))


def positions(connection: Connection) -> list[Position]:
    """Of all writers."""
    rows = connection.execute(select(journal_positions).order_by(journal_positions.c.writer))
    return [_position(row) for row in rows]


def write_position(connection: Connection, position: Position) -> None:
    """In the transaction of what it says."""
    values = {
        "number": position.at.number,
        "digest": position.at.digest.hex(),
        "moment_s": position.moment_s,
        "until_number": position.until,
        "rows_done": position.rows_done,
        "transactions": position.transactions,
        "accepted": position.accepted,
        "floor_s": position.floor_s,
        "refused": position.refused,
    }
    mine = journal_positions.c.writer == position.writer
    if connection.execute(update(journal_positions).where(mine).values(values)).rowcount == 0:
        values |= {"writer": position.writer, "before": position.before}
        connection.execute(insert(journal_positions).values(values))


def taken_until_s(connection: Connection) -> int | None:
    """The moment of which the journal that was taken last has no more to come; None where there is none.

    One that was left with records in it is booked behind this when it comes back.
    """
    found: int | None = connection.scalar(select(func.max(journal_positions.c.moment_s)))
    return found


def booked_until_s(connection: Connection) -> int:
    """The moment before which nothing is booked any more."""
    latest, taken = latest_s(connection), taken_until_s(connection)
    return latest if taken is None else min(latest, taken)


def accepted_in_hours(connection: Connection) -> int:
    """What the engine accepted, of all that is in the hours of rates: the rest is at the pool's risk."""
    hours = rate_hours.c
    return int(connection.scalar(select(func.sum(hours.shares - hours.undelivered))) or 0)


def uid_of(connection: Connection) -> str:
    """What journals know the book by."""
    return str(connection.execute(select(book.c.uid)).scalar_one())


def _position(row: Row[Any]) -> Position:
    return Position(
        writer=row.writer,
        at=Place(row.number, bytes.fromhex(row.digest)),
        moment_s=row.moment_s,
        until=row.until_number,
        rows_done=row.rows_done,
        transactions=row.transactions,
        accepted=row.accepted,
        before=row.before,
        floor_s=row.floor_s,
        refused=row.refused,
    )
