"""What an auditor asks besides where there are several sites, each with a journal of its own.

* no file of a journal went before the books had all of its records;
* no two edges have given out extranonces of one part: the first byte says whose they are (docs/sites.md);
* an edge that does nothing wrong is neither held nor refused;
* no hub is asked for its copy of a journal that has come whole to the one that keeps the books;
* every journal, as edges and hub have it, is what is booked of it, hour by hour (`angara reconcile`).

Must not know: how journals come to the hub.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from pool.books.audit.journal_files import JournalHere
from pool.books.audit.reconcile import State, reconcile
from pool.books.store import Store
from pool.journal.frames import frame_at
from tests.simulation.auditor import ELSEWHERE_HEIGHT, Found, height_of
from tests.simulation.miners import Job

WELL: Final = (State.EQUAL, State.PARTLY, State.GONE)


class Trims:
    """Files of journals that went. `booked` says what the books have of a journal."""

    def __init__(self, booked: Callable[[str | None], int]) -> None:
        self.too_early: list[Found] = []
        self._booked = booked

    def removed(self, writer: str | None, path: Path) -> None:
        """It goes now."""
        if path.suffix != ".log" or path.parent.name != writer:
            return
        last, booked = _last_record(path), self._booked(writer)
        if last > booked:
            words = f"records up to {last} of {writer}, of which the books have {booked}"
            self.too_early.append(Found("trimmed before the books had it", words))


def _last_record(path: Path) -> int:
    """The last whole one in a file; 0 where there is none. Its name promises one that a power cut may have
    torn: nobody was told that it was on disk."""
    data, end, last = path.read_bytes(), 0, 0
    while (frame := frame_at(path.parent.name, data, end)) is not None:
        last, end = frame.at.number, frame.end
    return last


class Parts:
    """Which edge has given out extranonces that begin with which byte."""

    def __init__(self) -> None:
        self.twice: list[Found] = []
        self._edges: dict[int, str] = {}

    def told(self, edge: str, job: Job) -> None:
        if height_of(job) >= ELSEWHERE_HEIGHT:
            return  # another pool's work has that pool's extranonces
        first = self._edges.setdefault(job.extranonce1[0], edge)
        if first != edge and not self.twice:
            words = f"{first} and {edge}: {job.extranonce1.hex()}"
            self.twice.append(Found("two edges have one part of the extranonces", words))


def edges_of(database: Path, held: Mapping[str, str]) -> Iterator[Found]:
    """Edges that are held; `held` are those of which it is known why."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as books:
        for name, why in books.execute("SELECT name, held FROM edges WHERE held IS NOT NULL"):
            if name not in held:
                yield Found("an honest edge is held", f"{name}: {why}")


def asked_for(database: Path, keeper: str | None) -> Iterator[Found]:
    """Hubs beside that one which would have to keep the books before an edge begins another journal."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as books:
        for name, hub in books.execute("SELECT name, hub FROM edges JOIN edge_copies USING (writer)"):
            if hub != keeper:
                yield Found("a hub is asked for what is here", f"{name}: {hub}, and {keeper} keeps the books")


def reconciled(store: Store, hub_dir: Path, said: list[JournalHere]) -> Iterator[Found]:
    """Journals that are not what the books say."""
    for it in reconcile(store, hub_dir, said):
        if it.state not in WELL:
            why = it.held if it.difference is None else it.difference.words
            words = f"{it.edge}, {it.side.value}: {it.state.value}, {it.booked} of {it.last} booked: {why}"
            yield Found("does not reconcile", words)
