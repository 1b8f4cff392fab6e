"""How a journal is opened at a start: the books take what an earlier process left, and then it is written.

Nothing is ever appended to what another process wrote, and whatever is on disk is in the books before the
registry is read from them. Must not know: sessions, what runs when.
"""

from pathlib import Path

import msgspec
import structlog

from payouts.book_time import latest_s
from pool.books.journal.batches_of_before import take_batches_of_before
from pool.books.journal.bookings import RateOf
from pool.books.journal.positions import uid_of
from pool.books.journal.taker import Taker
from pool.books.store import Store
from pool.journal.disk import Disk
from pool.journal.log import JournalLog, writer_directory

log = structlog.get_logger()


class OpenJournal(msgspec.Struct, frozen=True):
    """Begun, behind all that was there."""

    log: JournalLog
    taker: Taker


def open_journal(store: Store, data_dir: Path, *, rate_of: RateOf, disk: Disk | None = None) -> OpenJournal:
    """Raises JournalUnusable, JournalDamaged, StoreError."""
    if before := take_batches_of_before(store, rate_of):
        log.info("journal_of_before_taken", batches=before)
    with store.read() as connection:
        book, moment_s = uid_of(connection), latest_s(connection)
    journal = JournalLog(writer_directory(data_dir, disk), book, disk=disk)
    try:
        taker = Taker(store, journal.writer, journal.walk, rate_of=rate_of)
        if records := taker.take_all():
            log.info("journal_taken", records=records)
        taker.serve()
        journal.begin(taker.position.at, moment_s, taker.position.accepted)
    except BaseException:
        journal.close()
        raise
    return OpenJournal(journal, taker)
