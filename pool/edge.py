"""Everything that serves miners in one process: its parts, what runs when, and what changes while it runs.

It knows the books by what it was told and by the hub, which may be in this process or not. Templates flow
from the nodes to the switchboard, solutions from the switchboard to the nodes.
"""

from collections.abc import Callable

import trio

from pool.chain.blocks import BlockResult
from pool.chain.templates import Template
from pool.config import SV2, PoolConfig
from pool.fleet.registry import TenantRecord
from pool.parts import Known, Miners, Routing, Shares
from pool.serving import Serving
from stratum.miners.listening.listeners import Server
from stratum.sv2.authority import Credentials
from stratum.sv2.dialect import Sv2


class Edge:
    """`on_block` is told of every block's result; `on_commit` gets every batch of tallies that is on disk."""

    def __init__(
        self,
        config: PoolConfig,
        known: Known,
        *,
        on_block: Callable[[BlockResult], None] = lambda result: None,
        on_commit: Callable[[bytes], None] = lambda tallies: None,
    ) -> None:
        self._known = known
        self.shares = Shares(config, known, on_block=on_block, on_commit=on_commit)
        self.miners = Miners(config, known, self.shares)
        self.routing = Routing(config, known, self.shares, self.miners)
        sv2 = _sv2(config)
        self._server = Server(
            board=self.miners.board,
            connection_limits=self.miners.connection_limits,
            endpoints=config.endpoints,
            shared=known.process[1] > 1,
            dialects={} if sv2 is None else {SV2: sv2},
        )
        self.serving = Serving(known, self.shares, self.miners, self.routing, self._server, sv2)

    async def run(
        self, *, task_status: trio.TaskStatus[tuple[tuple[str, int], ...]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Until cancelled; it has started when it listens, at these addresses. Raises BadEndpoint or
        BadCertificate when it cannot."""
        shares, miners, routing = self.shares, self.miners, self.routing
        templates, fresh = trio.open_memory_channel[Template](1)
        async with trio.open_nursery() as nursery:
            await nursery.start(miners.board.run)
            await nursery.start(shares.blocks.run)
            nursery.start_soon(shares.fees.run)
            nursery.start_soon(shares.templates.run, templates)
            nursery.start_soon(routing.own_work.run, fresh)
            nursery.start_soon(self._mind_outages)
            nursery.start_soon(routing.drain.run)
            await nursery.start(routing.proxy.run)
            await nursery.start(self._server.run)
            task_status.started(tuple(self._server.addresses))

    async def commit_last(self) -> None:
        """When it does not run any more: what upstreams said after the last miner had left."""
        if not self.shares.journal.failed:
            await self.shares.journal.commit(b"")

    def prepared(self, new: PoolConfig) -> Callable[[], None]:
        """What puts other live settings in force (pool.settings_tables)."""
        bounds = self.miners.bounded(new.connection_bounds)

        def apply() -> None:
            self.shares.outage.outage_s = new.outage_s
            self.routing.placement.move_interval_s = new.move_interval_s
            self.miners.board.out_bytes_max = new.board_limits.out_bytes_max
            self.miners.connection_limits.limits = bounds

        return apply

    def tenant_changed(self, record: TenantRecord) -> None:
        """The registry has another tenant, or one with another status or other terms."""
        self.routing.own_work.terms_changed()
        self.routing.proxy.changed()
        if not record.active:
            numbers = self._known.registry.numbers_of(record.id)
            self.miners.board.drop_workers(numbers, "tenant suspended")

    def workers_removed(self, numbers: set[int]) -> None:
        """These machines are gone, before the registry is told."""
        self.miners.board.drop_workers(numbers, "worker removed")

    async def _mind_outages(self) -> None:
        await self.shares.outage.run(
            let_go=self.routing.placement.let_go, readmit=self.routing.placement.readmit
        )


def _sv2(config: PoolConfig) -> Sv2 | None:
    """What is spoken beside V1, each process with a static key of its own."""
    sv2 = config.sv2
    return None if sv2 is None else Sv2(Credentials(sv2.authority, validity_s=sv2.validity_s))
