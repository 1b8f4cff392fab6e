"""What was changed by commands, as rows: written in the transaction of the change, read by whoever asks.

Must not know: which commands there are, and who may give them.
"""

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, insert, select

from payouts.book_time import book_time
from pool.books.change_schema import changes

CHANGES_MAX: Final = 1_000  # in one answer; older ones are asked for by number

State = dict[str, Any] | None  # what the books say of a subject; None where there is no such thing


class ChangeRow(msgspec.Struct, frozen=True, kw_only=True):
    """One change; `was` and `became` have only what differs, where there was something before and after."""

    id: int
    changed_at_s: int
    changed_by: str
    command: str
    subject: str
    was: State
    became: State


def note_change(
    connection: Connection, *, by: str, command: str, subject: str, was: State, became: State, now_s: int
) -> None:
    """Who did it. A change that changed nothing is one too: it was taken."""
    if was is not None and became is not None:
        same = {key for key in was.keys() & became.keys() if was[key] == became[key]}
        was, became = ({k: v for k, v in it.items() if k not in same} for it in (was, became))
    connection.execute(
        insert(changes).values(
            changed_at_s=book_time(connection, now_s),
            changed_by=by,
            command=command,
            subject=subject,
            was=_text(was),
            became=_text(became),
        )
    )


def newest_changes(connection: Connection, subject: str | None, before: int | None) -> tuple[ChangeRow, ...]:
    """The newest last: up to CHANGES_MAX with numbers below `before`, of one subject or of all."""
    query = select(changes).order_by(changes.c.id.desc()).limit(CHANGES_MAX)
    if subject is not None:
        query = query.where(changes.c.subject == subject)
    if before is not None:
        query = query.where(changes.c.id < before)
    rows = connection.execute(query).mappings().all()
    return tuple(
        ChangeRow(**{**row, "was": _state(row["was"]), "became": _state(row["became"])})
        for row in reversed(rows)
    )


def _text(state: State) -> str | None:
    return None if state is None else msgspec.json.encode(state).decode()


def _state(text: str | None) -> State:
    return None if text is None else msgspec.json.decode(text)
