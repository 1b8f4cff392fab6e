"""Checkpoints of audits, in the record of changes: who verified the books in full, and what they had then.

Each is chained by hash to what was changed before it, up to the newest that the book's own row knows. Only
who can write to the database can note one (`angara ledger checkpoint`), and he could write anything else too:
so it spares time, and proves nothing against him. A full audit does.

Must not know: what an audit looks at.
"""

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, select

from payouts.audit.checkpoint import DAY_S, Checkpoint
from payouts.book_time import latest_s
from payouts.tallies import HOURS_KEPT_D
from pool.books.changes.changes import Unreadable, note_change, states
from pool.books.changes.schema import changes

CHECKPOINT: Final = "ledger.checkpoint"
SUBJECT: Final = "ledger"
SOURCE: Final = "alone"  # the command line notes it by itself, not through a pool
# Of the book. Whoever verifies from checkpoints alone does not see what moves no money before them: so often
# it is read in full.
DAYS_MAX: Final = HOURS_KEPT_D // 2


class Noted(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint as it was noted: the number of the change, and who, and when."""

    change: int
    by: str
    at_s: int
    checkpoint: Checkpoint


def note_checkpoint(connection: Connection, by: str, it: Checkpoint, now_s: int) -> int:
    """The number of the change."""
    return note_change(
        connection,
        by=by,
        source=SOURCE,
        command=CHECKPOINT,
        subject=SUBJECT,
        was=None,
        became=msgspec.to_builtins(it),
        now_s=now_s,
    )


def newest_checkpoint(connection: Connection) -> Noted | None:
    """None where there is none, or where it is too long ago, or cannot be read: then all is verified."""
    query = select(changes).where(changes.c.command == CHECKPOINT).order_by(changes.c.id.desc()).limit(1)
    row: Any = connection.execute(query).mappings().one_or_none()
    if row is None:
        return None
    try:
        it = msgspec.convert(states(row)[1], Checkpoint)
    except (Unreadable, msgspec.ValidationError):
        return None
    # Since it was noted: a book that rests has work of long ago, and is verified all the same.
    if latest_s(connection) - row["changed_at_s"] > DAYS_MAX * DAY_S:
        return None
    return Noted(change=row["id"], by=row["changed_by"], at_s=row["changed_at_s"], checkpoint=it)
