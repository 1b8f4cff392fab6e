"""Everybody who serves miners, asked as if they were one.

Each is asked everything, and what they say is put together here. Must not know: where they are.
"""

import heapq
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec
import structlog
import trio

from pool.edges.edge import Edge, EdgeRoutes, MachineMet
from pool.edges.figures import ALONE, EdgeFigures, ProcessFigures, added, merged
from pool.edges.traces import EdgesTraces
from pool.fleet.registry import UnlistedWorker
from pool.fleet.registry_error import RegistryError
from pool.link import LinkClosed
from pool.orders.mining import Assigned, EdgeMining
from pool.orders.status import OrderStatus
from pool.power.control.peers import Peers
from pool.questions import AnsweredWithError
from pool.routing.drain import DrainStatus
from pool.routing.status import RouteStatus
from stratum.miners.decisions import KEPT_MAX
from stratum.miners.firmware import Firmware, by_sessions
from stratum.miners.traces.traces import TraceView
from stratum.miners.uncharged import Uncharged

log = structlog.get_logger()

# One that has not answered by then may never: the others are not waited for longer, and it is found out soon.
ANSWER_S: Final = 5.0
CONNECTIONS_MAX: Final = 20  # of a machine, shown: who invents names may have thousands under one
# For what orders need: a look at all machines takes a tenth of a second, and what one does not deliver others
# are to make up within two minutes, of which the next look may be one away.
MINING_S: Final = 10.0
NOT_TOLD: Final = "machines_not_told"
UNCHARGED_NONE: Final = Uncharged().since_start.tolist()
_Answer = TypeVar("_Answer")


class SiteProcess(msgspec.Struct, frozen=True):
    """Of an edge at another site, as it is now: the next one takes miners."""

    name: str
    process: str


class Edges:
    """Some of them may be away for a moment. `orders` says what is known of each order, by how many of its
    machines are elsewhere; `processes` how many of them serve miners; `named` which is the one at a site."""

    def __init__(
        self,
        edges: Sequence[Edge],
        *,
        orders: Callable[[Mapping[int, int]], tuple[OrderStatus, ...]],
        processes: Callable[[], ProcessFigures] = lambda: ALONE,
        named: Callable[[str], Edge | None] = lambda name: None,
    ) -> None:
        self._edges, self._orders, self.processes, self._named = edges, orders, processes, named
        self._assigned = Assigned()
        self._traces = EdgesTraces(edges)
        self._drain_ends_s: float | None = None
        self._drains: dict[str, tuple[SiteProcess, float]] = {}  # of one edge alone, by name: until when

    @property
    def drains_s(self) -> int | None:
        """Within how many seconds all miners are to go; None where they are not."""
        return _seconds_to(self._drain_ends_s)

    def drains_of(self, edge: SiteProcess) -> int | None:
        """The same of that edge's."""
        known, ends_s = self._drains.get(edge.name, (None, 0.0))
        if known != edge:
            return self.drains_s
        return _seconds_to(ends_s if self._drain_ends_s is None else min(ends_s, self._drain_ends_s))

    async def figures(self) -> EdgeFigures:
        """Of all of them."""
        return merged(await self._each(lambda it: it.figures()))

    async def routes(self) -> RouteStatus:
        """Each of their channels, and every order."""
        return self._routes(await self._each(lambda it: it.routes()))

    async def now(self) -> tuple[EdgeFigures, RouteStatus]:
        """Both: one that hangs is waited for once. Prometheus gives up on who takes ten seconds."""

        async def ask(it: Edge) -> tuple[EdgeFigures, EdgeRoutes]:
            return await it.figures(), await it.routes()

        said = await self._each(ask)
        return merged([figures for figures, _ in said]), self._routes([routes for _, routes in said])

    async def mining(self) -> list[EdgeMining]:
        """Of each that answers. Who has not what is assigned, for whatever reason, is told now."""
        told: list[EdgeMining] = []

        async def ask(it: Edge) -> None:
            told.append(mining := await it.mining())
            if mining.version != self._assigned.version:
                await it.assign(self._assigned)

        await self._each(ask, within_s=MINING_S, event=NOT_TOLD)
        return told

    async def assign(self, assigned: Assigned) -> None:
        """Tell all of them; who is away now is told when it begins, or by the next look."""
        self._assigned = assigned
        await self._each(lambda it: it.assign(assigned), within_s=MINING_S, event=NOT_TOLD)

    async def machine(self, name: str) -> MachineMet:
        """On whichever it mines or has mined."""
        return merged_machine(await self._each(lambda it: it.machine(name)))

    async def peers(self) -> tuple[Peers, ...]:
        """Where machines mine from. Raises AnsweredWithError unless all of them answer: who is alone at an
        address is known by all together."""
        told = await self._each(lambda it: it.peers(), within_s=MINING_S)
        if len(told) < len(self._edges):
            raise AnsweredWithError("not all processes say where machines mine from")
        return tuple(it for of in told for it in of)

    async def unlisted(
        self, after: int, tenant_id: int | None, container: str | None, rows_max: int
    ) -> list[UnlistedWorker]:
        """The first of all of them, by number."""
        return merged_unlisted(
            await self._each(lambda it: it.unlisted(after, tenant_id, container, rows_max)), rows_max
        )

    async def find_unlisted(self, tenant: str, container: str, unit: str) -> UnlistedWorker | None:
        """Where it has come first, by its number."""
        found = await self._each(lambda it: it.find_unlisted(tenant, container, unit))
        return min((it for it in found if it is not None), key=lambda it: it.id, default=None)

    async def uncharged(self, name: str | None, tenant_id: int | None, since_day: int) -> list[int]:
        """All of it."""
        counted = await self._each(lambda it: it.uncharged(name, tenant_id, since_day))
        return [sum(column) for column in zip(*(counted or [UNCHARGED_NONE]), strict=True)]

    async def firmware(self) -> list[Firmware]:
        """Of all their sessions."""
        return merged_firmware(await self._each(lambda it: it.firmware()))

    async def start_trace(self, name: str | None, address: str | None, seconds: int) -> int:
        """Wherever it may come: the number of all of that. Raises TooManyTraces."""
        return await self._traces.start(name, address, seconds)

    async def trace(self, number: int, after: int) -> TraceView | None:
        """Lines with numbers above `after`, whoever kept them; None when it is over."""
        return await self._traces.view(number, after)

    async def drain(self, over_s: int, edge: SiteProcess | None = None) -> DrainStatus:
        """All of them at once, or one. Raises RegistryError where that does not answer."""
        ends_s = trio.current_time() + over_s
        if edge is None:
            self._drain_ends_s = ends_s
        else:
            self._drains[edge.name] = edge, ends_s
        return await self._drained(lambda it: it.drain(over_s), None if edge is None else edge.name)

    async def end_drain(self, edge: str | None = None) -> DrainStatus:
        """All of them, or one. Raises RegistryError where that does not answer."""
        if edge is None:
            self._drain_ends_s = None
            self._drains.clear()
        else:
            self._drains.pop(edge, None)
        return await self._drained(lambda it: it.end_drain(), edge)

    async def drain_status(self, edge: str | None = None) -> DrainStatus:
        """How far all of them are, or one. Raises RegistryError where that does not answer."""
        return await self._drained(lambda it: it.drain_status(), edge)

    def _routes(self, of_each: Sequence[EdgeRoutes]) -> RouteStatus:
        return RouteStatus(
            upstreams=tuple(it for of in of_each for it in of.upstreams),
            orders=self._orders(added(of.misplaced for of in of_each)),
        )

    async def _drained(self, ask: Callable[[Edge], Awaitable[DrainStatus]], name: str | None) -> DrainStatus:
        if name is None:
            return merged_drain(await self._each(ask))
        edge = self._named(name)
        told = [] if edge is None else await self._each(ask, of=[edge])
        if not told:
            raise RegistryError(f"edge {name!r:.80} does not answer")
        return merged_drain(told)

    async def _each(
        self,
        ask: Callable[[Edge], Awaitable[_Answer]],
        *,
        within_s: float = ANSWER_S,
        event: str = "process_not_asked",
        of: Sequence[Edge] | None = None,
    ) -> list[_Answer]:
        """Those that answer, in their order: one that dies meanwhile, or hangs, or does not answer as it
        should, has nothing to say."""
        answers: dict[int, _Answer] = {}

        async def answered(number: int, edge: Edge) -> None:
            try:
                with trio.move_on_after(within_s) as bound:
                    answers[number] = await ask(edge)
                if bound.cancelled_caught:
                    log.warning(event, reason=f"no answer within {within_s:.0f} s")
            except LinkClosed:
                pass
            except AnsweredWithError as error:
                log.error(event, reason=str(error)[:300])

        async with trio.open_nursery() as nursery:
            for number, edge in enumerate(self._edges if of is None else of):
                nursery.start_soon(answered, number, edge)
        return [answers[number] for number in sorted(answers)]


def _seconds_to(ends_s: float | None) -> int | None:
    return None if ends_s is None else max(0, math.ceil(ends_s - trio.current_time()))


def merged_machine(of: Sequence[MachineMet]) -> MachineMet:
    """The newest first of what was decided anywhere."""
    if len(of) == 1:
        return of[0]
    why = sorted((it for met in of for it in met.why), key=lambda it: it.at_s, reverse=True)
    return MachineMet(
        connections=[it for met in of for it in met.connections][:CONNECTIONS_MAX],
        why=why[:KEPT_MAX],
    )


def merged_unlisted(of: Sequence[list[UnlistedWorker]], rows_max: int) -> list[UnlistedWorker]:
    """By number; a machine that has come to several is told once."""
    found: dict[tuple[int, str, str], UnlistedWorker] = {}
    for it in heapq.merge(*of, key=lambda it: it.id):
        found.setdefault((it.tenant_id, it.container, it.unit), it)
    return list(found.values())[:rows_max]


def merged_firmware(of: Sequence[list[Firmware]]) -> list[Firmware]:
    """By name, whoever is here most first."""
    if len(of) == 1:
        return of[0]
    kinds: dict[str, Firmware] = {}
    for it in (kind for kinds in of for kind in kinds):
        known = kinds.setdefault(it.name.casefold(), it)
        if known is not it:
            known.add(it)
    return by_sessions(kinds.values())


def merged_drain(of: Sequence[DrainStatus]) -> DrainStatus:
    """It lasts as long as anybody's."""
    return DrainStatus(
        draining=any(it.draining for it in of),
        left=sum(it.left for it in of),
        of=sum(it.of for it in of),
        ends_in_s=max((it.ends_in_s for it in of), default=0),
    )
