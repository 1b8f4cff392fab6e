"""`angara reconcile`: what was written, what is here of it, and what is booked, journal by journal.

Told apart are what is **not here any more** (a journal is removed behind what the books have), what
**waits** for the books, what is **held** until somebody has looked, and what is **different**: of that the
first record, its hour, and what each side says. Nothing behind it is told of that journal.

The books are read before the files, a journal at a time: what they have is in the files by then, and what
the files have more waits. Only reads. Must not know: money (`pool.books.audit.hours_of_money`).
"""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path

import msgspec
from sqlalchemy import select

from pool.books.audit.booked_journal import BookedJournal, booked_journal
from pool.books.audit.compared_hours import (
    BOOKED,
    UNTOLD,
    WAITING,
    Difference,
    Side,
    differences,
    in_stretches,
)
from pool.books.audit.journal_files import JournalHere, first_here, read_journal
from pool.books.edges.rows import load_edges
from pool.books.edges.schema import edge_writers
from pool.books.journal.positions import positions
from pool.books.store import Store
from pool.journal.log import is_writer, writers


class State(StrEnum):
    """Of a journal, or of one of its hours: what most needs to be known."""

    EQUAL = "equal"
    PARTLY = "equal as far as it is here"
    GONE = "not here any more"
    WAITS = "waits for the books"
    HELD = "held"
    DIFFERENT = "different"


class HourCompared(msgspec.Struct, frozen=True, kw_only=True):
    """Records and accepted shares of it that are `here`, and that are booked; it ends here with record
    `last`."""

    hour: int
    state: State
    last: int
    digest: str
    records_here: int
    accepted_here: int
    records: int
    accepted: int


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One journal, as one side has it: records `first` to `last` (0: none), of which those up to `booked` are
    in the books; `waiting_accepted` shares are in the others. `over`: nothing more of it comes."""

    edge: str | None
    writer: str
    side: Side
    state: State
    first: int
    last: int
    booked: int
    waiting_accepted: int
    over: bool
    held: str | None
    difference: Difference | None
    hours: tuple[HourCompared, ...]

    @property
    def waiting(self) -> int:
        """Records."""
        return max(0, self.last - max(self.booked, self.first - 1))


def reconcile(store: Store, data_dir: Path | None, said: Sequence[JournalHere] = ()) -> Iterator[Compared]:
    """Every journal that the books know, or that is in the data directory, and what edges have `said` of
    theirs. Raises OSError, JournalDamaged."""
    left = {it.writer: it for it in said}
    for edge, writer, directory in _journals(store, data_dir):
        yield from _sides(store, edge, writer, directory, left.pop(writer, None))
    for it in left.values():
        yield from _sides(store, None, it.writer, None, it)


def compared(
    booked: BookedJournal, here: JournalHere, side: Side, came: JournalHere | None = None
) -> Compared:
    """`here` is in stretches (`compared_hours`); `came` is what is here of what an edge says."""
    first = min(differences(booked, here, side, came), key=lambda it: it.number, default=None)
    return Compared(
        edge=booked.edge,
        writer=here.writer,
        side=side,
        state=_state(booked, here, first),
        first=here.first,
        last=here.last.number,
        booked=booked.taken,
        waiting_accepted=max(0, here.accepted - booked.accepted) if here.last.number > booked.taken else 0,
        over=booked.over,
        held=booked.held,
        difference=first,
        hours=tuple(_hours(booked, here, first)),
    )


def _journals(store: Store, data_dir: Path | None) -> list[tuple[str | None, str, Path | None]]:
    """Whose each is, its name, and where what is here of it is."""
    with store.read() as connection:
        names = {it.id: it.name for it in load_edges(connection)}
        began = connection.execute(select(edge_writers.c.writer, edge_writers.c.edge_id))
        owners: dict[str, str | None] = {writer: names[edge_id] for writer, edge_id in began}
        owners |= {it.writer: None for it in positions(connection) if it.writer not in owners}
    found: dict[tuple[str | None, str], Path | None] = {(owners[name], name): None for name in owners}
    if data_dir is not None:
        for it in writers(data_dir):
            found[None, it.name] = it
        for it in (data_dir / "inbox").glob("*/*"):
            if it.is_dir() and is_writer(it.name):
                found[it.parent.name, it.name] = it
    ordered = sorted(found, key=lambda it: (it[0] or "", it[1]))
    return [(edge, writer, found[edge, writer]) for edge, writer in ordered]


def _sides(
    store: Store, edge: str | None, writer: str, directory: Path | None, said: JournalHere | None
) -> Iterator[Compared]:
    begins = 0 if directory is None else first_here(directory)
    with store.read() as connection:
        since = min((it for it in (begins, 0 if said is None else said.first) if it), default=0)
        booked = booked_journal(connection, writer, since)
    here = JournalHere(writer=writer)
    if directory is not None:
        if booked.edge != edge:  # in another one's place
            booked = msgspec.structs.replace(booked, edge=edge, known=False)
        marks = {it.last.number for it in booked.hours} | {booked.untold, booked.taken}
        if said is not None:
            marks |= {it.last.number for hours in said.hours for it in hours}
        here = read_journal(directory, splits=(booked.untold, booked.taken), marks=marks)
    if directory is not None or said is None:
        yield compared(booked, here, Side.JOURNAL if edge is None else Side.INBOX)
    if said is not None:
        yield compared(booked, in_stretches(said, booked), Side.EDGE, here if here.first else None)


def _state(booked: BookedJournal, here: JournalHere, first: Difference | None) -> State:
    if first is not None:
        return State.DIFFERENT
    if booked.held is not None:
        return State.HELD
    if here.last.number > booked.taken:
        return State.WAITS
    if not here.first:
        return State.GONE if booked.taken else State.EQUAL
    return State.PARTLY if here.first > 1 or here.last.number < booked.taken else State.EQUAL


def _hours(booked: BookedJournal, here: JournalHere, first: Difference | None) -> Iterator[HourCompared]:
    """What is here of each, up to the first difference, but for those that the books do not tell apart."""
    known = {it.hour: it for it in booked.hours}
    for stretch, hours in enumerate(here.hours):
        for it in hours if stretch != UNTOLD else ():
            if first is not None and it.first > first.number:
                return
            mine = known.get(it.hour) if stretch == BOOKED else None
            state = State.HELD if booked.held is not None else State.WAITS
            if first is not None and first.hour == it.hour and it.last.number >= first.number:
                state = State.DIFFERENT
            elif stretch != WAITING and it.last.number <= booked.taken:
                whole = mine is not None and (mine.last, mine.records) == (it.last, it.records)
                state = State.EQUAL if whole else State.PARTLY
            yield HourCompared(
                hour=it.hour,
                state=state,
                last=it.last.number,
                digest=it.last.digest.hex(),
                records_here=it.records,
                accepted_here=it.accepted,
                records=0 if mine is None else mine.records,
                accepted=0 if mine is None else mine.accepted,
            )
