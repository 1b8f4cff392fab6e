"""Silences: what is not told for a while, who wanted it so, and why.

A silence is a change that somebody made, and the record of changes is where it is kept: nobody can make one
that is in no history, and `ledger verify` proves them all. The newest of a subject is in force.

Must not know: what is told.
"""

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, select

from pool.books.changes.changes import Unreadable, states
from pool.books.changes.schema import changes

SILENCE: Final = "message.silence"  # the command
SILENCE_S_MAX: Final = 7 * 86_400  # what is to be silent for longer is to be put right, or removed
SUBJECT_CHARS_MAX: Final = 400
REASON_CHARS_MAX: Final = 200
# What a subject is of; beside these there are those of which there is one.
OF: Final = (
    *("container", "site", "tenant", "node", "upstream", "order", "certificate", "edge", "signal", "meter"),
    *("event", "machine"),
    *("payout", "proposal", "request"),
)
ALONE: Final = ("all", "machines", "work", "books", "journal", "processes", "disk", "tokens", "nats")


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """One that was made. `id` is its change's."""

    id: int
    subject: str
    made_at_s: int
    until_at_s: int
    reason: str
    by: str


def subject_problem(subject: str) -> str | None:
    """Why nothing is called so, in words."""
    what, slash, name = subject.partition("/")
    if subject in ALONE or (what in OF and slash and name and len(subject) <= SUBJECT_CHARS_MAX):
        return None
    return f"{subject[:80]!r} is no subject: {', '.join(f'{it}/NAME' for it in OF)}, or {', '.join(ALONE)}"


def newest_silences(connection: Connection, now_s: int) -> tuple[Silence, ...]:
    """The newest of each subject that was made within the longest time that there is; by subject."""
    query = (
        select(changes)
        .where(changes.c.command == SILENCE, changes.c.changed_at_s > now_s - SILENCE_S_MAX)
        .order_by(changes.c.id)
    )
    found = {}
    for row in connection.execute(query).mappings():
        silence = silence_of(row)
        if silence is not None:
            found[silence.subject] = silence
    return tuple(found[subject] for subject in sorted(found))


def silence_of(row: Any) -> Silence | None:
    """None of a row that somebody tampered with: it silences nothing."""
    try:
        _, became = states(row)
        it = msgspec.convert(became, _Became)
    except (Unreadable, msgspec.ValidationError):
        return None
    return Silence(
        id=row["id"],
        subject=row["subject"],
        made_at_s=row["changed_at_s"],
        until_at_s=it.until_at_s,
        reason=it.reason,
        by=row["changed_by"],
    )


class _Became(msgspec.Struct, frozen=True):
    until_at_s: int
    reason: str
