"""Who an edge is now: the one process that may send its journal, and whatever former ones still say.

A process begins with where its journal ends. It is refused, in words, where another one has the lease, and
where its journal is not what is here: one that was put back from a copy would hand out numbers, and machines'
numbers, that are given out already. Each that begins gets an epoch, and says it with every message; a former
owner's is refused.

The lease is for telling early which of two processes is one too many. No site stops because a line is down:
who cannot renew it goes on serving miners. That two of them are credited for the same work is kept out by the
journal itself: each record names the one before it, so of two continuations one fits, the first that comes,
and the other one holds the edge (`pool.journal.inbox`).

Everything is done in the caller's transaction, which must be the only writer. Must not know: how it is asked.
"""

from typing import Final

import msgspec
from sqlalchemy import Connection, insert, select, update

from pool.books.edges.rows import PARTS, EdgeRecord, find_edge
from pool.books.edges.schema import edge_writers, edges
from pool.books.journal.positions import position_of, uid_of
from pool.books.journal.schema import journal_positions
from pool.fleet.registry_error import RegistryError
from pool.journal.frames import Place
from pool.journal.inbox import Want
from pool.journal.log import is_writer

# Renewed three times in it. Another host takes over when it is over: within two minutes of the first's death.
LEASE_S: Final = 90
WORDS_CHARS_MAX: Final = 100


class EdgeRefused(Exception):
    """A process that may not speak for an edge, or not now: in words for its operator."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a process says that begins to serve miners: `last` is the end of its journal. `host` tells hosts
    apart: what another process left on the same one is dead, since a journal is locked there."""

    edge: str
    host: str
    process: str
    writer: str
    last: Place = Place()


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    """What it is from now on: it hands out the `part`-th of `of` parts of all numbers, and says `epoch` with
    every message. What is behind `booked` it keeps; what is `want`ed it sends first. `held`: why nothing of
    it is booked, in words; it serves all the same."""

    part: int
    of: int
    epoch: int
    book: str
    booked: Place
    want: Want
    held: str | None = None


def begin(connection: Connection, asked: Asked, here: Place, now_s: int) -> EdgeRecord:
    """It is the edge from now on; `here` is the end of its journal's copy. Raises EdgeRefused."""
    try:
        edge = find_edge(connection, asked.edge)
    except RegistryError as error:
        raise EdgeRefused(str(error)) from None
    if edge.retired_at_s is not None:
        raise EdgeRefused(f"edge {edge.name} is retired")
    if not is_writer(asked.writer):
        raise EdgeRefused(f"{asked.writer!r:.80} is no journal's name")
    if edge.host not in (None, asked.host[:WORDS_CHARS_MAX]) and edge.lease_until_s > now_s:
        raise EdgeRefused(
            f"edge {edge.name} is {edge.process} on {edge.host}, heard of"
            f" {max(0, now_s - edge.lease_until_s + LEASE_S)} s ago: stop that one first"
        )
    if edge.writer is None:
        _take_on(connection, edge, asked.writer, now_s)
    elif edge.writer != asked.writer:
        raise EdgeRefused(
            f"edge {edge.name} has the journal {edge.writer}, and comes with {asked.writer}: if the first is"
            f" lost, `angara edge reset {edge.name}` lets it begin another one"
        )
    _check_end(edge, asked.last, _later(here, position_of(connection, asked.writer).at))
    values = {
        "writer": asked.writer,
        "epoch": edge.epoch + 1,
        "host": asked.host[:WORDS_CHARS_MAX],
        "process": asked.process[:WORDS_CHARS_MAX],
        "lease_until_s": now_s + LEASE_S,
    }
    connection.execute(update(edges).where(edges.c.id == edge.id).values(values))
    return find_edge(connection, edge.name)


def renew(connection: Connection, edge: str, epoch: int, now_s: int) -> None:
    """It was heard of. Raises EdgeRefused."""
    mine = (edges.c.name == edge) & (edges.c.epoch == epoch) & edges.c.retired_at_s.is_(None)
    renewed = update(edges).where(mine).values(lease_until_s=now_s + LEASE_S)
    if connection.execute(renewed).rowcount != 1:
        check_epoch(find_edge(connection, edge), epoch)


def check_epoch(edge: EdgeRecord, epoch: int) -> None:
    """Whoever says this epoch is the edge. Raises EdgeRefused."""
    if edge.retired_at_s is not None:
        raise EdgeRefused(f"edge {edge.name} is retired")
    if epoch < edge.epoch:
        now = "it is to begin anew" if edge.host is None else f"{edge.process} on {edge.host} is it now"
        raise EdgeRefused(f"epoch {epoch} of edge {edge.name} is over: {now}")
    if epoch > edge.epoch:
        raise EdgeRefused(
            f"edge {edge.name} has epoch {edge.epoch} here, and {epoch} is said: the books were put back"
            " from a copy, and it is to begin anew"
        )


def granted(connection: Connection, edge: EdgeRecord, want: Want) -> Granted:
    """What the process is told that has begun."""
    assert edge.writer is not None
    return Granted(
        part=edge.part,
        of=PARTS,
        epoch=edge.epoch,
        book=uid_of(connection),
        booked=position_of(connection, edge.writer).at,
        want=want,
        held=edge.held,
    )


def _take_on(connection: Connection, edge: EdgeRecord, writer: str, now_s: int) -> None:
    """A new journal. Raises EdgeRefused for one that is, or was, somebody's."""
    known = connection.scalar(select(edge_writers.c.edge_id).where(edge_writers.c.writer == writer))
    of_books = connection.scalar(
        select(journal_positions.c.writer).where(journal_positions.c.writer == writer)
    )
    if known is not None or of_books is not None:
        raise EdgeRefused(
            f"the journal {writer} was put out of use: edge {edge.name} is to begin another one, in a new"
            " directory"
            if known == edge.id
            else f"the journal {writer} is not of edge {edge.name}"
        )
    row = {"writer": writer, "edge_id": edge.id, "part": edge.part, "began_at_s": now_s}
    connection.execute(insert(edge_writers).values(row))


def _check_end(edge: EdgeRecord, last: Place, here: Place) -> None:
    """The journal ends with what is here of it, or behind that. Raises EdgeRefused."""
    if last.number < here.number:
        raise EdgeRefused(
            f"the journal of edge {edge.name} ends with record {last.number}, and record {here.number} of it"
            f" is here: it was put back from a copy. `angara edge reset {edge.name}` lets it begin another"
            " one, with other numbers"
        )
    if last.number == here.number and last.digest != here.digest:
        raise EdgeRefused(
            f"record {last.number} of the journal of edge {edge.name} is another one than is here: it was put"
            f" back from a copy and went on since. `angara edge reset {edge.name}` lets it begin another one"
        )


def _later(here: Place, booked: Place) -> Place:
    return here if here.number >= booked.number else booked
