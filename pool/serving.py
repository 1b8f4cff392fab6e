"""The parts that serve miners, asked what they do: pool.edges.edge.Edge of this process.

The one place where figures are read off them. It is done as of now, and in pieces where it is much, so that
miners have their turn between them. Must not know: who asks.
"""

from typing import Final

import msgspec
import trio

from pool.chain.node_set import NodeSet
from pool.chain.nodes import NodeState
from pool.edges.edge import EdgeRoutes, MachineConnection, MachineMet
from pool.edges.edges import CONNECTIONS_MAX
from pool.edges.figures import EdgeFigures, NodeFigures, Sv2Figures
from pool.fleet.registry import UnlistedWorker
from pool.orders.mining import Assigned, EdgeMining, Mining
from pool.parts import Known, Miners, Routing, Shares
from pool.power.control.peers import Peers
from pool.routing.drain import DrainStatus
from stratum.miners.connection import Connection
from stratum.miners.firmware import Family, Firmware
from stratum.miners.listening.listeners import Server
from stratum.miners.traces.traces import TooManyTraces, TraceView
from stratum.sv2.dialect import Sv2

PIECE: Final = 2_048  # connections that are looked at, half a millisecond
REST_S: Final = 0.002  # behind a piece


class Serving:
    """Of one process."""

    def __init__(
        self,
        known: Known,
        shares: Shares,
        miners: Miners,
        routing: Routing,
        server: Server,
        sv2: Sv2 | None = None,
    ) -> None:
        self._known, self._shares, self._server = known, shares, server
        self._miners, self._routing, self._sv2 = miners, routing, sv2
        self._one_at_a_time = trio.Lock()

    async def figures(self) -> EdgeFigures:
        return self.figures_now()

    def figures_now(self) -> EdgeFigures:
        """For who is in this process."""
        shares, miners, board = self._shares, self._miners, self._miners.board
        now_s, journal, templates = trio.current_time(), shares.journal, shares.templates
        return EdgeFigures(
            sessions={it.value: count for it, count in miners.connection_limits.standing().items()},
            ended=dict(board.dropped),
            moved={it.value: count for it, count in board.distribution.moved.items()},
            firmware={
                name: Family(it.here, it.accepted, it.rejected)
                for name, it in miners.firmware.families.items()
            },
            sv2=_sv2(self._sv2),
            uncharged=miners.uncharged.since_start.tolist(),
            unresolved=len(shares.submits),
            answers=dict(shares.submits.said),
            acknowledgements=board.commits.acknowledgements.plus(),
            commits=board.commits.commits.plus(),
            distributions=board.distribution.clean_jobs.plus(),
            nodes=_nodes(self._known.nodes),
            without_node_s=_age_s(now_s, self._known.nodes.outage_since_s),
            template_age_s=_age_s(now_s, templates.delivered_s),
            template_height=None if templates.tip is None else templates.tip.height,
            commit_age_s=_age_s(now_s, journal.commits_since_s),
            journal_failed=journal.failed,
            unfolded=journal.unfolded,
            unfolded_age_s=_age_s(now_s, journal.unfolded_since_s),
            refuses=miners.connection_limits.refuses,
            listeners=len(self._server.addresses),
        )

    async def routes(self) -> EdgeRoutes:
        proxy = self._routing.proxy
        return EdgeRoutes(upstreams=proxy.routes.status(), misplaced=proxy.misplaced())

    async def mining(self) -> EdgeMining:
        registry, routing = self._known.registry, self._routing
        found: dict[int, dict[str, bool]] = {}  # by container, and by unit: whether it may be moved
        async with self._one_at_a_time:
            sessions = list(routing.placement.sessions())
            for at in range(0, len(sessions), PIECE):
                now_s = trio.current_time()
                for it in sessions[at : at + PIECE]:
                    worker = registry.workers.get(it.workers[0]) if it.owner.open and it.workers else None
                    if worker is not None:
                        units = found.setdefault(worker.container_id, {})
                        may_move = routing.placement.may_move(it, now_s)
                        units[worker.unit] = units.get(worker.unit, True) and may_move
                await trio.sleep(REST_S)
        containers, tenants = registry.containers, registry.tenants_by_id
        routes = routing.proxy.routes
        return EdgeMining(
            machines=tuple(
                Mining(
                    tenant=tenants[containers[number].tenant_id].name,
                    container=containers[number].name,
                    units=tuple(units),
                    movable=bytes(units.values()),
                )
                for number, units in found.items()
            ),
            served=frozenset(it.id for it in routes.orders if routes.order_serves(it.id)),
            version=self._miners.admission.assignments.version,
        )

    async def assign(self, assigned: Assigned) -> None:
        await self._miners.admission.assignments.tell(assigned)
        self._routing.placement.reconsider()

    async def unlisted(
        self, after: int, tenant_id: int | None, container: str | None, rows_max: int
    ) -> list[UnlistedWorker]:
        return self._known.registry.unlisted(after, tenant_id, container, rows_max)

    async def find_unlisted(self, tenant: str, container: str, unit: str) -> UnlistedWorker | None:
        return self._known.registry.find_unlisted(tenant, container, unit)

    async def uncharged(self, name: str | None, tenant_id: int | None, since_day: int) -> list[int]:
        numbers: set[int] = set()
        if tenant_id is not None:
            numbers = self._known.registry.numbers_of(tenant_id)
        elif name is not None and (number := self._known.registry.called(name)) is not None:
            numbers = {number}
        return self._miners.uncharged.of(numbers, since_day)

    async def firmware(self) -> list[Firmware]:
        packed = msgspec.msgpack.encode(self._miners.firmware.kinds)
        return msgspec.msgpack.decode(packed, type=list[Firmware])

    async def start_trace(self, name: str | None, address: str | None, seconds: int) -> int | None:
        board, worker = self._miners.board, None if name is None else self._known.registry.called(name)
        try:
            return board.traces.start(
                worker, address, board.connections, seconds=seconds, now_s=trio.current_time()
            )
        except TooManyTraces:
            return None

    async def trace(self, number: int, after: int) -> TraceView | None:
        return self._miners.board.traces.view(number, after, trio.current_time())

    async def drain(self, over_s: int) -> DrainStatus:
        self._routing.drain.begin(over_s)
        return self._routing.drain.status()

    async def end_drain(self) -> DrainStatus:
        self._routing.drain.resume()
        return self._routing.drain.status()

    async def drain_status(self) -> DrainStatus:
        return self._routing.drain.status()

    async def machine(self, name: str) -> MachineMet:
        number = self._known.registry.called(name)
        if number is None:
            return MachineMet(connections=[], why=[])
        found: list[MachineConnection] = []
        async with self._one_at_a_time:
            connections = list(self._miners.board.connections)
            for at in range(0, len(connections), PIECE):
                for it in connections[at : at + PIECE]:
                    if it.open and number in it.workers and len(found) < CONNECTIONS_MAX:
                        found.append(_told(it))
                await trio.sleep(REST_S)
        return MachineMet(connections=found, why=self._miners.decisions.of(number))

    async def peers(self) -> tuple[Peers, ...]:
        registry = self._known.registry
        found: dict[tuple[str, str], list[tuple[str, str, str, bool, int]]] = {}
        engine = self._miners.board.engine
        async with self._one_at_a_time:
            connections = list(self._miners.board.connections)
            for at in range(0, len(connections), PIECE):
                now_s = trio.current_time()
                for it in connections[at : at + PIECE]:
                    if not it.open:
                        continue
                    agent, accepted = it.session.agent, it.accepted > 0
                    age_s = int(now_s - engine.heard_at(it.session.slot, now_s)) if accepted else 0
                    for number in filter(registry.knows, it.workers):
                        tenant, container, unit = registry.place_of(number)
                        row = unit, it.address, agent, accepted, age_s
                        found.setdefault((tenant, container), []).append(row)
                await trio.sleep(REST_S)
        return tuple(_peers(*place, rows) for place, rows in found.items())


def _peers(tenant: str, container: str, rows: list[tuple[str, str, str, bool, int]]) -> Peers:
    return Peers(
        tenant=tenant,
        container=container,
        units=tuple(it[0] for it in rows),
        addresses=tuple(it[1] for it in rows),
        agents=tuple(it[2] for it in rows),
        accepted=bytes(it[3] for it in rows),
        ages_s=tuple(it[4] for it in rows),
    )


def _sv2(it: Sv2 | None) -> Sv2Figures:
    if it is None:
        return Sv2Figures()
    return Sv2Figures(connections=it.connections, channels=it.channels, handshakes=it.handshakes)


def _nodes(nodes: NodeSet) -> tuple[NodeFigures, ...]:
    return tuple(
        NodeFigures(
            name=it.name,
            up=it.state is NodeState.UP,
            reason=it.reason,
            current=it is nodes.current,
            tip_height=None if it.status is None else it.status.height,
            template_times=it.template_times.plus(),
        )
        for it in nodes.nodes
    )


def _age_s(now_s: float, since_s: float | None) -> float | None:
    return None if since_s is None else now_s - since_s


def _told(it: Connection) -> MachineConnection:
    session, log2 = it.session, it.session.difficulty.log2
    return MachineConnection(
        address=it.address,
        state=session.state.value,
        standing=it.place.standing.value,
        workers=len(it.workers),
        channel=session.assignment.channel.number,
        difficulty=2**log2 if log2 >= 0 else 2.0**log2,
        leaving=session.assignment.leaving,
    )
