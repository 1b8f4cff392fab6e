"""That a book was restored from a backup, and is not reconciled with the chain yet: both are changes, in its
own record of them.

A restored book may have forgotten what was paid since. Most of that the chain shows by itself (the coin that
the next payout spends is gone), but not a payout whose change was moved on by other software before the book
knew of any. So from a restore on nothing is paid until `angara payout reconcile` found nothing to ask.

Must not know: the chain.
"""

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, func, select

from payouts.book_time import latest_s
from pool.books.changes.changes import Unreadable, note_change, states
from pool.books.changes.schema import changes

RESTORED: Final = "db.restore"
RECONCILED: Final = "payout.reconcile"
SUBJECT: Final = "book"
SOURCE: Final = "alone"  # the command line does both by itself, not through a pool


class Restore(msgspec.Struct, frozen=True):
    """When the book was restored, and the newest moment that the copy was of."""

    restored_at_s: int
    newest_at_s: int


def note_restore(connection: Connection, by: str, what: dict[str, Any], now_s: int) -> None:
    """Nothing is paid from now on; `what` is what the copy has. Where the book is not in use yet."""
    newest_at_s = latest_s(connection)
    if newest_at_s > now_s:  # by a clock that was wrong
        newest_at_s = 0
    note_change(
        connection,
        by=by,
        source=SOURCE,
        command=RESTORED,
        subject=SUBJECT,
        was=None,
        became=what | {"newest_at_s": newest_at_s},
        now_s=now_s,
    )


def restored_since(connection: Connection, moment_s: int | None) -> bool:
    """Whether the book was put back from a backup after that moment, or ever."""
    restores = select(func.max(changes.c.changed_at_s)).where(changes.c.command == RESTORED)
    newest_s: int | None = connection.scalar(restores)
    return newest_s is not None and (moment_s is None or newest_s >= moment_s)


def unreconciled_restore(connection: Connection) -> Restore | None:
    """The last one, if the book was not reconciled since."""
    newest = {
        command: connection.scalar(select(func.max(changes.c.id)).where(changes.c.command == command)) or 0
        for command in (RESTORED, RECONCILED)
    }
    if newest[RECONCILED] >= newest[RESTORED]:
        return None
    row = connection.execute(select(changes).where(changes.c.id == newest[RESTORED])).mappings().one()
    try:
        newest_at_s = (states(row)[1] or {}).get("newest_at_s")
    except Unreadable:
        newest_at_s = None
    # Where somebody tampered with it, as much is asked of the chain as can be.
    return Restore(row["changed_at_s"], newest_at_s if isinstance(newest_at_s, int) else 0)


def note_reconciled(connection: Connection, by: str, now_s: int) -> None:
    """A restored book agrees with the chain: it may pay again. Of another one nothing is noted."""
    restore = unreconciled_restore(connection)
    if restore is not None:
        note_change(
            connection,
            by=by,
            source=SOURCE,
            command=RECONCILED,
            subject=SUBJECT,
            was={"restored_at_s": restore.restored_at_s},
            became={"restored_at_s": None},
            now_s=now_s,
        )
