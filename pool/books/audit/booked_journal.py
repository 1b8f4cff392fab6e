"""What the books have of one journal: whose it is, how far it is taken, and its hours as they were noted.

Must not know: files.
"""

import msgspec
from sqlalchemy import Connection

from pool.books.edges.rows import edge_of
from pool.books.journal.hour_rows import BEFORE, accepted_noted, noted_hours
from pool.books.journal.hours import Hour
from pool.books.journal.positions import Position, position_of, uid_of


class BookedJournal(msgspec.Struct, frozen=True, kw_only=True):
    """`edge` is whose it is, None: the pool's own, or nobody's (not `known`). `over`: nothing more of it
    comes; `held`: why nothing of it is booked. `hours` are in the order of their last records; what was
    booked before they were noted is in `before`. `accepted` shares are in all of them."""

    writer: str
    book: str
    position: Position
    edge: str | None = None
    known: bool = True
    over: bool = False
    held: str | None = None
    hours: tuple[Hour, ...] = ()
    before: Hour | None = None
    accepted: int = 0

    @property
    def taken(self) -> int:
        """The number of the last record that is booked."""
        return self.position.at.number

    @property
    def untold(self) -> int:
        """The number of the record up to which hours are not told apart."""
        return 0 if self.before is None else self.before.last.number


def booked_journal(connection: Connection, writer: str, since: int = 0) -> BookedJournal:
    """With the hours that end with record `since` or a later one."""
    edge, position = edge_of(connection, writer), position_of(connection, writer)
    hours = noted_hours(connection, writer, since)
    in_use = edge is not None and edge.writer == writer and edge.retired_at_s is None
    return BookedJournal(
        writer=writer,
        book=uid_of(connection),
        position=position,
        edge=None if edge is None else edge.name,
        known=edge is not None or position.at.number > 0,
        over=edge is not None and not in_use,
        held=edge.held if edge is not None and in_use else None,
        hours=tuple(sorted((it for it in hours if it.hour != BEFORE), key=lambda it: it.last.number)),
        before=next((it for it in hours if it.hour == BEFORE), None),
        accepted=accepted_noted(connection, writer),
    )
