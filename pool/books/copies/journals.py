"""Journals beside a copy of the books: a backup takes what they have, and a restore says what they have not.

Must not know: where copies are kept.
"""

import os
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import msgspec
from sqlalchemy import Connection, update

from pool.books.copies.backup import settle_down
from pool.books.journal.hour_rows import note_missing
from pool.books.journal.positions import accepted_in_hours, position_of, positions, write_position
from pool.books.journal.schema import journal_positions
from pool.books.journal.taker import Taker
from pool.books.store import Store, open_engine
from pool.journal.frames import Place, frame_at
from pool.journal.log import writers
from pool.journal.records import Opening, unpacked
from pool.journal.segments import JournalDamaged, Walk, check_torn, segments


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """Records that neither the books nor the journal have: the books that were there before have them."""

    writer: str
    first: int
    last: int
    accepted: int  # shares in them
    from_s: int
    to_s: int


def take_into(copy: Path, data_dir: Path) -> None:
    """Have a copy, that nobody else uses, take what its book had not taken yet and is there now: a pool may
    write records faster than a copy takes them. Raises JournalDamaged, StoreError."""
    journals = writers(data_dir)
    if not journals:
        return
    engine = open_engine(f"sqlite:///{copy}")
    try:
        for directory in journals:
            walk = partial(Walk, directory, directory.name)
            taker = Taker(Store(engine), directory.name, walk)
            last = taker.position.at.number
            for frame in walk(taker.position.at).frames():
                last = frame.at.number
            _sync(directory)
            taker.take_all(last)
    finally:
        engine.dispose()
    settle_down(copy)
    with closing(sqlite3.connect(copy)) as file:
        file.execute("PRAGMA journal_mode = DELETE")  # one file, that needs none beside it


def missing(connection: Connection, data_dir: Path) -> list[Missing]:
    """What is missing between books that were put back and the journals that go on."""
    found = []
    for directory in writers(data_dir):
        first = _first(directory)
        position = position_of(connection, directory.name)
        if first is None or first[0] <= position.at.number + 1:
            continue
        number, _, opening = first
        found.append(
            Missing(
                writer=directory.name,
                first=position.at.number + 1,
                last=number - 1,
                accepted=opening.accepted - position.accepted,
                from_s=position.moment_s,
                to_s=opening.moment_s,
            )
        )
    return found


def go_on_behind(connection: Connection, data_dir: Path) -> None:
    """Books that were put back go on with the first record that the journals still have."""
    for directory in writers(data_dir):
        first = _first(directory)
        position = position_of(connection, directory.name)
        if first is None or first[0] <= position.at.number + 1:
            continue
        number, before, opening = first
        after = msgspec.structs.replace(
            position,
            at=Place(number - 1, before),
            moment_s=max(position.moment_s, opening.moment_s),
            until=number - 1,
            rows_done=0,
            accepted=opening.accepted,
        )
        write_position(connection, after)
        note_missing(
            connection,
            directory.name,
            after.at,
            records=after.at.number - position.at.number,
            accepted=after.accepted - position.accepted,
        )
    taken = sum(it.counted for it in positions(connection))
    before_journals = accepted_in_hours(connection) - taken
    connection.execute(update(journal_positions).values(before=before_journals))


def _first(directory: Path) -> tuple[int, bytes, Opening] | None:
    """The oldest record that is there: its number, the digest of the one before it, and what it says."""
    for number, path in segments(directory):
        data = path.read_bytes()
        frame = frame_at(directory.name, data, 0)
        if frame is None:
            check_torn(path, data, 0, number - 1)  # else what is whole in it would be said to be missing
            continue
        opening = unpacked(frame.body)
        if not isinstance(opening, Opening):
            raise JournalDamaged(f"{path} does not begin as a journal does")
        return number, frame.before, opening
    return None


def _sync(directory: Path) -> None:
    """What was there before is on disk: a copy must not have what its journal may lose."""
    for _, path in segments(directory):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
