"""How journals are opened at a start: the books take what an earlier process left, then it may be written.

Nothing is ever appended to what another process wrote, and whatever is on disk is in the books before the
registry is read from them. Must not know: sessions, what runs when.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import structlog
from sqlalchemy import Connection, delete, func, insert, select, update

from payouts.book_time import latest_s
from pool.books.journal.positions import Position, uid_of
from pool.books.journal.schema import refused_credits, upstream_submits
from pool.books.journal.taker import Taker
from pool.books.journal.under_way import AT_SITES, count_unanswered, noted
from pool.books.store import Store
from pool.journal.beginning import Beginning
from pool.journal.disk import Disk
from pool.journal.log import JournalLog, writer_directories

log = structlog.get_logger()

HASH_DIGITS: Final = 32  # of a key, which begins with the hash that the share was credited by


class OpenJournal(msgspec.Struct, frozen=True):
    """To be begun, behind all that was there."""

    log: JournalLog
    taker: Taker
    beginning: Beginning


def open_journals(
    store: Store,
    data_dir: Path,
    *,
    count: int = 1,
    disk: Disk | None = None,
    wall_clock: Callable[[], float] = time.time,
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
        count_unanswered(store, int(wall_clock()))
        adopt(store, [journal.writer for journal in logs[:count]])
        return [
            OpenJournal(journal, taker, beginning_of(store, taker))
            for journal, taker in zip(logs[:count], takers[:count], strict=True)
        ]
    except BaseException:
        for journal in logs:
            journal.close()
        raise


def adopt(store: Store, writers: Sequence[str]) -> None:
    """Have the first of these resolve what was under way of others, which nobody writes any more: of this
    host, or of another one. Those at sites resolve theirs themselves, until their journal is over."""
    first, of = writers[0], upstream_submits.c
    theirs = (
        select(of.writer, of.key)
        .where(of.writer.not_in(writers), of.writer.not_in(select(AT_SITES.c.writer)))
        .order_by(of.writer, of.key)
    )
    with store.read() as connection:
        if connection.execute(theirs.limit(1)).one_or_none() is None:
            return
    with store.write() as connection:
        refused = {(it.writer, it.hash): it.reason for it in connection.execute(select(refused_credits))}
        for writer, key in connection.execute(theirs).all():
            row, short = (of.writer == writer) & (of.key == key), key[:HASH_DIGITS]
            reason = refused.pop((writer, short), None)
            if connection.scalar(select(func.count()).where(of.writer == first, of.key == key)):
                # One share that two of them had under way is one share, and good if one of them is.
                connection.execute(delete(upstream_submits).where(row))
                if reason is None:
                    refused.pop((first, short), None)
                continue
            connection.execute(update(upstream_submits).where(row).values(writer=first))
            if reason is not None:
                refused[first, short] = reason
        connection.execute(delete(refused_credits))
        rows = [{"writer": it, "hash": short, "reason": reason} for (it, short), reason in refused.items()]
        if rows:
            connection.execute(insert(refused_credits), rows)


def beginning_of(store: Store, taker: Taker) -> Beginning:
    """For who writes behind what is taken, and resolves what whoever wrote there left behind."""
    with store.read() as connection:
        return beginning_in(connection, taker.position)


def beginning_in(connection: Connection, position: Position) -> Beginning:
    """The same, as the books are in a transaction."""
    mine = upstream_submits.c.writer == position.writer
    rows = connection.execute(select(upstream_submits).where(mine)).all()
    return Beginning(
        book=uid_of(connection),
        behind=position.at,
        moment_s=latest_s(connection),
        accepted=position.accepted,
        left=tuple(noted(row) for row in rows),
    )
