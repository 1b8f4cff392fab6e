"""Edges at other sites as a hub watches them: what is told of them anywhere, as values of one moment, and who
is not missed while nothing is known of his machine.

Whose a machine is says what the books took, a minute late: what a journal says before is anybody's word.

Must not know: who is told, and how; what carries an edge's messages.
"""

import time
from collections.abc import Callable, Sequence
from math import inf
from typing import Final, Literal, Protocol

import msgspec
import numpy as np
import trio

from pool.books.edges.machines import Counted, EdgeMachines
from pool.books.edges.remote import RemoteEdges
from pool.books.edges.remote_edge import AWAY_S, RemoteEdge, Standing
from pool.books.edges.rows import EdgeRecord
from pool.books.journal.folding import Writer
from pool.fleet.hashrate import OFFLINE_S, Bools, Floats, Ints, everybody_is_heard
from pool.fleet.registry import Registry

UNHEARD_S: Final = 120.0  # an edge says every half minute that it lives: four times in a row it has not
BEYOND_S: Final = 3_600.0  # so long it is said that more work came than there can be
NOTHING: Final = Counted()
State = Literal["serves", "behind", "waits", "silent", "held"]


class Link(Protocol):
    """The hub's own way to its edges, as whatever carries messages has it; `since_s` by the wall clock."""

    @property
    def connected(self) -> bool: ...

    @property
    def since_s(self) -> int: ...

    @property
    def url(self) -> str: ...

    @property
    def dropped(self) -> int: ...

    @property
    def error(self) -> str: ...


class LinkFigures(msgspec.Struct, frozen=True, kw_only=True):
    """So it is for `since_s` seconds; `dropped` messages came faster than they were read."""

    connected: bool
    since_s: float
    url: str
    dropped: int
    error: str  # the last one


class RemoteFigures(msgspec.Struct, frozen=True, kw_only=True):
    """An edge. `unbooked` records of its journal are here and not in the books, and no share in them is older
    than `unbooked_s`. What it had `missing_s` ago is here; by its own clock, up to `moment_age_s` ago. Its
    `machines` are those whose last good share came by it."""

    name: str
    state: State
    why: str | None  # it is held, or waits
    silent_s: float  # since it was heard of, or since the hub began where it never was
    heard: bool  # since the hub began
    unbooked: int
    unbooked_bytes: int
    unbooked_s: float  # 0: all that is here is booked
    missing_s: float
    moment_age_s: float
    beyond_s: float | None  # since it last sent more work than its machines can do
    machines: int = 0
    mining: int = 0

    @property
    def late_s(self) -> float:
        """So old may a share be that is not in the books."""
        return max(self.unbooked_s, self.missing_s, self.moment_age_s)

    @property
    def beyond(self) -> bool:
        """Whether it sent more work than its machines can do, lately."""
        return self.beyond_s is not None and self.beyond_s < BEYOND_S


class HubFigures(msgspec.Struct, frozen=True, kw_only=True):
    """All of a hub, by name."""

    edges: tuple[RemoteFigures, ...] = ()
    link: LinkFigures | None = None


NO_HUB: Final = HubFigures()


def state_of(it: Standing) -> State:
    """What somebody has to see to first."""
    if it.held is not None:
        return "held"
    if it.silent_s >= UNHEARD_S:
        return "silent"
    if it.waits is not None:
        return "waits"
    return "behind" if max(it.unbooked_s, it.here_age_s) >= OFFLINE_S else "serves"


def no_edges() -> HubFigures:
    """Of a pool that keeps nobody's books but its own."""
    return NO_HUB


class EdgesWatch:
    """`link` says how the hub is connected; None where nothing connects it."""

    def __init__(
        self,
        remote: RemoteEdges,
        registry: Registry,
        link: Callable[[], Link | None],
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._remote, self._registry, self._link = remote, registry, link
        self._wall_clock = wall_clock
        self._machines = EdgeMachines()
        self._began_s, self._began_at_s = trio.current_time(), wall_clock()
        self._away_s: dict[str, float] = {}  # when each was away last

    def booked(self, writer: Writer, tallies: Sequence[tuple[int, bytes]]) -> None:
        """The books took these, by minute: pool.books.journal.folding.Folding.on_booked."""
        now_s = trio.current_time()
        if not isinstance(writer, RemoteEdge):
            return
        if now_s - writer.booked_s >= OFFLINE_S:
            self._away_s[writer.edge.name] = now_s
            return
        since_minute = (self._wall_clock() - AWAY_S) // 60
        for minute, of_minute in tallies:
            if minute >= since_minute:
                self._machines.count(writer.edge.name, of_minute, now_s)

    def figures(self) -> HubFigures:
        """Now."""
        counted = self._machines.counted(trio.current_time())
        edges = [self._figures(it, counted.get(it.edge, NOTHING)) for it in self._remote.standing()]
        return HubFigures(edges=tuple(sorted(edges, key=lambda it: it.name)), link=self._linked())

    def unheard(self, workers: Ints, containers: Ints, ages_s: Floats) -> Bools:
        """Who would be called offline, and nobody knows: his last good share, which is so old, came by an
        edge that is silent, held or behind. Of who has had none since the hub began such an edge may be the
        one that he mines at."""
        away = self._away()
        quiet = ages_s > OFFLINE_S
        if not away or not quiet.any():
            return everybody_is_heard(workers, containers, ages_s)
        edges = [it.edge for it in self._remote.open if it.edge.name in away]
        numbers, index = np.unique(containers, return_inverse=True)
        theirs = np.array([self._is_at(edges, it) for it in numbers.tolist()], dtype=np.bool_)
        found: Bools = quiet & (self._machines.last_at(away, workers) | (np.isinf(ages_s) & theirs[index]))
        return found

    def behind(self) -> Callable[[int], float]:
        """By container, how late shares of its machines may be here now, seconds: as late as those of any
        edge that they may be at; infinite where nobody can know. Any thread may ask."""
        late = {it.edge: inf if it.heard_age_s is None else it.here_age_s for it in self._remote.standing()}
        edges, registry = [it.edge for it in self._remote.open], self._registry

        def of(number: int) -> float:
            container = registry.containers[number]
            tenant = registry.tenants_by_id[container.tenant_id].name
            theirs = [late.get(it.name, inf) for it in edges if it.has(tenant, container.name)]
            return max(theirs, default=inf)

        return of

    def _away(self) -> set[str]:
        """Also for as long afterwards as it takes until its machines are known again."""
        now_s, names = trio.current_time(), set()
        for it in self.figures().edges:
            if it.state != "serves":
                self._away_s[it.name] = now_s
            if now_s - self._away_s.get(it.name, self._began_s) < OFFLINE_S:
                names.add(it.name)
        return names

    def _is_at(self, edges: Sequence[EdgeRecord], number: int) -> bool:
        container = self._registry.containers[number]
        tenant = self._registry.tenants_by_id[container.tenant_id].name
        return any(it.has(tenant, container.name) for it in edges)

    def _figures(self, it: Standing, counted: Counted) -> RemoteFigures:
        now_s = self._wall_clock()
        return RemoteFigures(
            name=it.edge,
            state=state_of(it),
            why=it.held or it.waits,
            silent_s=it.silent_s,
            heard=it.heard_age_s is not None,
            unbooked=max(0, it.have - it.booked),
            unbooked_bytes=it.untaken_bytes,
            unbooked_s=it.unbooked_s,
            missing_s=it.here_age_s,
            moment_age_s=max(0.0, now_s - (it.moment_s or self._began_at_s)),
            beyond_s=None if it.beyond_at_s is None else max(0.0, now_s - it.beyond_at_s),
            machines=counted.machines,
            mining=counted.mining,
        )

    def _linked(self) -> LinkFigures | None:
        it = self._link()
        if it is None:
            return None
        since_s = max(0.0, self._wall_clock() - (it.since_s or self._began_at_s))
        return LinkFigures(
            connected=it.connected, since_s=since_s, url=it.url, dropped=it.dropped, error=it.error
        )
