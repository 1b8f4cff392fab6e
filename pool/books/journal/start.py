"""How journals are opened at a start: the books take what an earlier process left, then it may be written.

Nothing is ever appended to what another process wrote, and whatever is on disk is in the books before the
registry is read from them. Must not know: sessions, what runs when.
"""

from pathlib import Path
from typing import Any

import msgspec
import structlog
from sqlalchemy import Row, select

from payouts.book_time import latest_s
from pool.books.journal.positions import uid_of
from pool.books.journal.schema import upstream_submits
from pool.books.journal.taker import Taker
from pool.books.store import Store
from pool.journal.beginning import Beginning
from pool.journal.disk import Disk
from pool.journal.log import JournalLog, writer_directories
from pool.journal.records import Noted

log = structlog.get_logger()


class OpenJournal(msgspec.Struct, frozen=True):
    """To be begun, behind all that was there."""

    log: JournalLog
    taker: Taker
    beginning: Beginning


def open_journals(
    store: Store, data_dir: Path, *, count: int = 1, disk: Disk | None = None
) -> list[OpenJournal]:
    """So many to write, and any others taken to their ends. With one, machines and prices are numbered as
    their rows. Raises JournalUnusable, JournalDamaged, StoreError."""
    with store.read() as connection:
        book = uid_of(connection)
    logs: list[JournalLog] = []
    takers: list[Taker] = []
    try:
        for directory in writer_directories(data_dir, count, disk):
            journal = JournalLog(directory, book, disk=disk)
            logs.append(journal)
            taker = Taker(store, journal.writer, journal.walk)
            takers.append(taker)
            if records := taker.take_all():
                log.info("journal_taken", records=records, writer=journal.writer)
        for journal in logs[count:]:
            journal.close()
        if count == 1:
            takers[0].serve()
        return [
            OpenJournal(journal, taker, beginning_of(store, taker, number == 0))
            for number, (journal, taker) in enumerate(zip(logs[:count], takers[:count], strict=True))
        ]
    except BaseException:
        for journal in logs:
            journal.close()
        raise


def beginning_of(store: Store, taker: Taker, with_left: bool) -> Beginning:
    """For who writes behind what is taken; `with_left`: and resolves what dead processes left behind."""
    with store.read() as connection:
        rows = connection.execute(select(upstream_submits)).all() if with_left else ()
        return Beginning(
            book=uid_of(connection),
            behind=taker.position.at,
            moment_s=latest_s(connection),
            accepted=taker.position.accepted,
            left=tuple(_noted(row) for row in rows),
        )


def _noted(row: Row[Any]) -> Noted:
    return Noted(
        key=bytes.fromhex(row.key),
        worker=row.worker_id,
        epoch=row.epoch,
        difficulty_log2=row.difficulty_log2,
        counted=bool(row.counted),
        target=bytes.fromhex(row.target),
    )
