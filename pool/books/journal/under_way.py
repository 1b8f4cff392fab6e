"""What journals of sites that are over had under way to upstreams: shares that were acknowledged, and whose
answers are lost with a disk. Who has more of such a journal may have the answers too, so nobody counts them
before nothing of it is taken any more; then each is one without an answer.

It is booked as the last transaction of the journal that it is of, and in none that anybody has on a disk. So
two hubs, of which each begins where the other one was killed, count it once.

Must not know: who takes journals, and what is on disk.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

import msgspec
import numpy as np
import structlog
from sqlalchemy import Connection, Row, column, select, table

from payouts.book_time import book_time
from pool.books.journal.bookings import Bookings
from pool.books.journal.forwarded_shares import forwarded, unanswered
from pool.books.journal.machine_rows import MachineRows
from pool.books.journal.positions import position_of, write_position
from pool.books.journal.rate_rows import RateRows
from pool.books.journal.schema import upstream_submits
from pool.books.journal.window import Answered, Part
from pool.books.store import Store
from pool.journal.records import Noted
from stratum.tallies import RECORD

log = structlog.get_logger()

AT_SITES: Final = table("edge_writers", column("writer"), column("ended_at_s"))
# Nothing is taken any more of a journal of a site that has been over for so long, whichever hub has more of
# it: what it had under way is counted then, and can never be counted twice.
OVER_S: Final = 30 * 86_400
ROWS_MAX: Final = 3_000  # in one transaction, as of a fold


def count_unanswered(store: Store, now_s: int) -> None:
    """All that there is by now; who takes one of these journals has left it. Blocks. Raises StoreError, and
    what a database raises: what is not counted by then is counted the next time."""
    over = select(AT_SITES.c.writer).where(AT_SITES.c.ended_at_s <= now_s - OVER_S)
    of = upstream_submits.c
    some = select(upstream_submits).where(of.writer.in_(over)).order_by(of.writer, of.key).limit(ROWS_MAX)
    with store.read() as connection:
        left = len(connection.execute(some).all())
    while left:
        with store.write() as connection:
            rows = connection.execute(some).all()
            for writer, its in groupby(rows, key=lambda it: it.writer):
                _count(connection, writer, list(its), now_s)
        left = len(rows) if len(rows) == ROWS_MAX else 0


def _count(connection: Connection, writer: str, rows: Sequence[Row[Any]], now_s: int) -> None:
    changes = unanswered([forwarded(noted(it)) for it in rows])
    now_s = book_time(connection, now_s)
    minute = now_s // 60
    parts = (
        Part(answered=(Answered(minute, changes.answered),)),
        Part(minute=minute, tallies=np.frombuffer(changes.tallies, dtype=RECORD)),
        Part(minute=minute, upstream=changes.upstream),
        Part(resolved=changes.resolved),
    )
    machines = MachineRows()
    machines.are_rows({it.worker_id for it in rows})
    before = position_of(connection, writer)
    after = msgspec.structs.replace(before, transactions=before.transactions + 1)
    bookings = Bookings(writer, machines, RateRows())
    bookings.book(connection, after.transactions, parts, now_s)
    bookings.taken(connection)
    write_position(connection, after)
    log.warning("forwarded_shares_unanswered", shares=len(rows), writer=writer)


def noted(row: Row[Any]) -> Noted:
    """Of a row of upstream_submits."""
    return Noted(
        key=bytes.fromhex(row.key),
        worker=row.worker_id,
        epoch=row.epoch,
        difficulty_log2=row.difficulty_log2,
        counted=bool(row.counted),
        target=bytes.fromhex(row.target),
    )
