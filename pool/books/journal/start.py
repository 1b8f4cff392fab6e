"""How a journal is opened at a start: the books take what an earlier process left, then it may be written.

Nothing is ever appended to what another process wrote, and whatever is on disk is in the books before the
registry is read from them. Must not know: sessions, what runs when.
"""

from pathlib import Path
from typing import Any

import msgspec
import structlog
from sqlalchemy import Row, select

from payouts.book_time import latest_s
from pool.books.journal.batches_of_before import take_batches_of_before
from pool.books.journal.positions import uid_of
from pool.books.journal.schema import upstream_submits
from pool.books.journal.taker import Taker
from pool.books.store import Store
from pool.journal.beginning import Beginning
from pool.journal.disk import Disk
from pool.journal.log import JournalLog, writer_directory
from pool.journal.records import Noted

log = structlog.get_logger()


class OpenJournal(msgspec.Struct, frozen=True):
    """To be begun, behind all that was there."""

    log: JournalLog
    taker: Taker
    beginning: Beginning


def open_journal(store: Store, data_dir: Path, *, disk: Disk | None = None) -> OpenJournal:
    """Raises JournalUnusable, JournalDamaged, StoreError."""
    if before := take_batches_of_before(store):
        log.info("journal_of_before_taken", batches=before)
    with store.read() as connection:
        book = uid_of(connection)
    journal = JournalLog(writer_directory(data_dir, disk), book, disk=disk)
    try:
        taker = Taker(store, journal.writer, journal.walk)
        if records := taker.take_all():
            log.info("journal_taken", records=records)
        taker.serve()
        with store.read() as connection:
            beginning = Beginning(
                book=book,
                behind=taker.position.at,
                moment_s=latest_s(connection),
                accepted=taker.position.accepted,
                left=tuple(_noted(row) for row in connection.execute(select(upstream_submits))),
            )
    except BaseException:
        journal.close()
        raise
    return OpenJournal(journal, taker, beginning)


def _noted(row: Row[Any]) -> Noted:
    return Noted(
        key=bytes.fromhex(row.key),
        worker=row.worker_id,
        epoch=row.epoch,
        difficulty_log2=row.difficulty_log2,
        counted=bool(row.counted),
        target=bytes.fromhex(row.target),
    )
