"""What was changed by commands, as rows: written in the transaction of the change, read by whoever asks.
Who was not let in to give any is among them.

Chain: hash = SHA-256 of [hash before, id, changed_at_s, changed_by, source, command, subject, was, became],
as the ledger's (`payouts.ledger`), the texts as they are in the row. The number and hash of the newest are in
the book's own row too, so that none goes unseen where it is the newest that is taken out.

Invariants: numbers count from 1 without gaps; a row that cannot be read hides no other, and one that no
command wrote keeps no other from being written.
Must not know: which commands there are, and who may give them.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import structlog
from sqlalchemy import Connection, exists, insert, select, update

from payouts.book_time import book_time
from payouts.ledger import GENESIS_HASH, canonical_hash
from payouts.schemas.book import book
from pool.books.changes.schema import changes
from pool.store_error import StoreError
from stratum.json_depth import too_deep
from stratum.unreadable import NOT_READ

log = structlog.get_logger()

CHANGES_MAX: Final = 1_000  # in one answer; older ones are asked for by number
LATEST_S: Final = 253_402_300_799  # the end of the year 9999: no calendar has a later moment
NUMBER_MAX: Final = (1 << 63) - 1  # of both databases
HASHED: Final = ("id", "changed_at_s", "changed_by", "source", "command", "subject", "was", "became")
TOLD: Final = ("id", "changed_at_s", "changed_by", "source", "command", "subject", "hash")  # as they are

State = dict[str, Any] | None  # what the books say of a subject; None where there is no such thing


class Unreadable(ValueError):
    """What a row says cannot be told, in words."""


class ChangeRow(msgspec.Struct, frozen=True, kw_only=True):
    """One change; `was` and `became` have only what differs, where there was something before and after.

    `unreadable` is why a row that somebody tampered with cannot be told: nothing is in its states then."""

    id: int
    changed_at_s: int
    changed_by: str
    source: str
    command: str
    subject: str
    was: State
    became: State
    hash: str
    unreadable: str | None = None


class LastChange(msgspec.Struct, frozen=True):
    """The newest, as the book has it."""

    id: int
    hash: str


NO_CHANGE: Final = LastChange(0, GENESIS_HASH)


def last_change(connection: Connection) -> LastChange:
    row = connection.execute(select(book.c.last_change, book.c.last_change_hash)).one()
    return LastChange(*row)


def change_hash(before: str, row: Mapping[Any, Any]) -> str:
    """The hash of a change: of itself and, through the one before, of all before it."""
    return canonical_hash([before, *(row[name] for name in HASHED)])


def note_change(
    connection: Connection,
    *,
    by: str,
    source: str,
    command: str,
    subject: str,
    was: State,
    became: State,
    now_s: int,
) -> int:
    """Who did it, and from where: its number. A change that changed nothing is one too: it was taken."""
    if was is not None and became is not None:
        same = {key for key in was.keys() & became.keys() if was[key] == became[key]}
        was, became = ({k: v for k, v in it.items() if k not in same} for it in (was, became))
    last = last_change(connection)
    number = _free_number(connection, last.id)
    row = {
        "id": number,
        "changed_at_s": book_time(connection, now_s),
        "changed_by": by,
        "source": source,
        "command": command,
        "subject": subject,
        "was": _text(was),
        "became": _text(became),
    }
    row["hash"] = change_hash(last.hash, row)
    connection.execute(insert(changes).values(row))
    connection.execute(update(book).values(last_change=row["id"], last_change_hash=row["hash"]))
    return number


def newest_changes(
    connection: Connection, subject: str | None, before: int | None, limit: int = CHANGES_MAX
) -> tuple[ChangeRow, ...]:
    """The newest last: up to `limit` with numbers below `before`, of one subject or of all."""
    query = select(changes).order_by(changes.c.id.desc()).limit(limit)
    if subject is not None:
        query = query.where(changes.c.subject == subject)
    if before is not None:
        query = query.where(changes.c.id < before)
    return tuple(_told(row) for row in reversed(connection.execute(query).mappings().all()))


def _free_number(connection: Connection, last: int) -> int:
    """The next number. One that is taken was taken by no command: if changes waited until that is mended, a
    thief could not be suspended. So the next free one is given, and verify is wrong from there on.

    Raises StoreError where there is none."""
    if last >= NUMBER_MAX:
        raise StoreError("somebody gave the last number that a change can have: run `angara ledger verify`")
    if not connection.scalar(select(exists().where(changes.c.id == last + 1))):
        return last + 1
    after = changes.alias()
    has_next = exists().where(after.c.id == changes.c.id + 1)
    taken = connection.scalar(
        select(changes.c.id)
        .where(changes.c.id > last, changes.c.id < NUMBER_MAX, ~has_next)
        .order_by(changes.c.id)
        .limit(1)
    )
    if taken is None:
        raise StoreError("somebody took all numbers that changes can have: run `angara ledger verify`")
    log.error("change_written_by_no_command", first=last + 1, last=taken, next=taken + 1)
    return int(taken) + 1


def states(row: Mapping[Any, Any]) -> tuple[State, State]:
    """What was and what it became. Raises Unreadable for a row that no command wrote."""
    if not 0 <= row["changed_at_s"] <= LATEST_S:
        raise Unreadable("its time is none")
    return _state(row["was"]), _state(row["became"])


def _told(row: Mapping[Any, Any]) -> ChangeRow:
    told = {name: row[name] for name in TOLD}
    try:
        was, became = states(row)
    except Unreadable as error:
        return ChangeRow(**told, was=None, became=None, unreadable=str(error))
    return ChangeRow(**told, was=was, became=became)


def _text(state: State) -> str | None:
    return None if state is None else msgspec.json.encode(state).decode()


def _state(text: str | None) -> State:
    if text is None:
        return None
    try:
        if too_deep(encoded := text.encode()):
            raise Unreadable("what it says of before or after is nested too deeply")
        return msgspec.json.decode(encoded, type=dict[str, Any])
    except (*NOT_READ, UnicodeEncodeError):
        raise Unreadable("what it says of before or after cannot be read") from None
