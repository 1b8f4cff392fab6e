"""The time that bookings are dated by: the clock's, but never before what is booked already.

A statement of a period that is over must not change. So once anything in the book is of a moment, nothing is
dated before that moment any more: a clock that steps back books at the latest time there is until it has
caught up. Everything is done in the caller's transaction, which must be the only writer.

Must not know: where the clock is.
"""

from sqlalchemy import Connection, select, update

from payouts.schemas.book import book


def latest_s(connection: Connection) -> int:
    """The latest moment that anything in the book is of."""
    return int(connection.execute(select(book.c.latest_s)).scalar_one())


def book_time(connection: Connection, now_s: int) -> int:
    """When something is booked that happens now by the clock."""
    latest = latest_s(connection)
    if now_s <= latest:
        return latest
    connection.execute(update(book).values(latest_s=now_s))
    return now_s
