"""What of an edge's journal is booked at a price that was over, because a payer said so.

An edge whose node stood for more than a day past the end of a difficulty, or whose clock was a day ahead
over one, is held: so would be who goes on by the better price of before. Which of them it was is for a person
to judge, and what he allows is no more than what he has seen: one journal, up to a record that is here by
then, and prices from one height on that have its difficulty and its subsidy. What comes behind that record is
judged as ever.

It is in the changes, which are chained, and nowhere else. Must not know: who may allow it.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta
from sqlalchemy import Connection, select

from pool.books.changes.changes import Unreadable, states
from pool.books.changes.schema import changes
from pool.books.edges.rows import EdgeRecord, in_use, release_edge
from pool.books.journal.positions import position_of
from pool.chain.templates import HEIGHT_MAX
from pool.fleet.registry_error import RegistryError

BOOK_LATE: Final = "edge.book-late"
RECORDS_MAX: Final = 8 * 86_400  # one a second of eight days: no site is alone for longer and paid for it


class Late(msgspec.Struct, frozen=True):
    """Up to record `until` of that journal, prices like that of `height`, and of no earlier one."""

    writer: str
    height: Annotated[int, Meta(ge=0, le=HEIGHT_MAX)]
    until: int


class _Became(msgspec.Struct, frozen=True):
    late: Late


def allow(connection: Connection, name: str, height: int, until: int) -> tuple[EdgeRecord, Late]:
    """Have what is held be taken again, with that; the change has to say so. Raises RegistryError."""
    edge = in_use(connection, name)
    if edge.writer is None or edge.held is None:
        raise RegistryError(f"the journal of edge {name} is not held")
    booked = position_of(connection, edge.writer).at.number
    if not booked < until <= booked + RECORDS_MAX:
        raise RegistryError(
            f"record {until} is none of the {RECORDS_MAX} behind record {booked}, up to which edge {name} is"
            " booked"
        )
    return release_edge(connection, name), Late(writer=edge.writer, height=height, until=until)


def late_of(connection: Connection, edge: str, writer: str) -> tuple[Late, ...]:
    """What was allowed of that journal. A row that somebody tampered with allows nothing."""
    query = select(changes).where(changes.c.subject == edge, changes.c.command == BOOK_LATE)
    found = []
    for row in connection.execute(query.order_by(changes.c.id)).mappings():
        try:
            it = msgspec.convert(states(row)[1], _Became).late
        except (Unreadable, msgspec.ValidationError):
            continue
        if it.writer == writer:
            found.append(it)
    return tuple(found)
