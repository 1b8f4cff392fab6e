"""The wiring: nodes, templates, jobs, sessions and blocks of one pool, and nothing else.

Built from the leaves up: what is handed to another is there, and knows nothing of it. Templates flow from the
nodes to the switchboard, solutions from the switchboard to the nodes.
"""

import contextlib
import resource
import secrets
import sys
import time
from collections.abc import Callable
from typing import Final

import httpx
import msgspec
import structlog
import trio
from sqlalchemy.exc import SQLAlchemyError

from payouts.ratebook import newest_fee_basis
from pool.admin.desk import Desk
from pool.admin.live import Live
from pool.admin.server import serve_admin
from pool.block_submission import BlockSubmission
from pool.books import book, rate_epochs
from pool.books.bookkeeper import Bookkeeper
from pool.books.credit_book import CreditBook
from pool.books.forwarded_shares import ForwardedShares
from pool.books.journal import Journal
from pool.books.store import Store, words_of
from pool.chain.blocks import BlockResult, BlockSubmitter
from pool.chain.fee_watch import FeeWatch
from pool.chain.networks import NETWORKS
from pool.chain.node_set import NodeSet
from pool.chain.nodes import Node, NodeConfig
from pool.chain.outage import Outage
from pool.chain.template_watch import TemplateWatch
from pool.chain.templates import Template
from pool.config import EXTRANONCE1_BYTES, PoolConfig
from pool.data_dir import admin_socket, bind_directory
from pool.fleet.hashrate import HashrateBook
from pool.fleet.registry import Registry
from pool.fleet.rows import TenantView, load
from pool.orders.machine_speed import MachineSpeeds
from pool.routing.admission import Admission
from pool.routing.channels import Channels
from pool.routing.own_work import OwnWork, maker_of_work
from pool.routing.placement import Placement
from pool.routing.proxy import Proxy
from pool.routing.solo import SoloChannels
from pool.routing.status import RouteStatus
from pool.treasury.books import PayoutBooks
from pool.treasury.chain_node import PayoutNodes
from pool.treasury.follower import Follower
from pool.treasury.wallet import PayoutWallet
from stratum._engine import Engine
from stratum.miners.channel import Channel, JobIds, WorkSource
from stratum.miners.connection_limits import ConnectionBounds, ConnectionLimits
from stratum.miners.contracts import Services
from stratum.miners.extranonce import ExtranonceSpace
from stratum.miners.listeners import Server
from stratum.miners.silent_machines import SilentMachines
from stratum.miners.switchboard import Switchboard
from stratum.upstream.shares import UNRESOLVED_MAX

log = structlog.get_logger()

# Descriptors for everything that is not a miner: nodes, database, files, listeners, logs.
DESCRIPTORS_KEPT: Final = 256
# How long a commit waits for the interpreter beside a busy loop, each of several times: Python's default of
# 5 ms is what a miner would wait for.
THREAD_SWITCH_S: Final = 0.0005
LEASE_CHECK_S: Final = 2.0  # a lease whose connection was cut is taken back before most others think of it
# Shares that wait for their upstreams: of eight connections that answer nothing, so that two or three of them
# leave room for the others. 40 MiB.
UNRESOLVED_OF_ALL_MAX: Final = 4 * UNRESOLVED_MAX


class PoolStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a pool does at this moment, for whoever shows it."""

    connections: int
    channels: int  # that miners are served on
    solo_channels: int  # of those
    unresolved: int  # shares that were forwarded and have no answer yet
    outage: bool  # our nodes are gone, and who mined our own work was let go
    routes: RouteStatus


class RunningPool(msgspec.Struct, frozen=True):
    """What a started pool shows to whoever runs it."""

    board: Switchboard
    registry: Registry
    hashrates: HashrateBook
    live: Live  # what commands change and ask, from threads
    addresses: tuple[tuple[str, int], ...]  # as listened on


class Pool:
    """One pool, whose data directory the caller holds. `on_block` is told of every block's result.

    It is the writer of its store's book from here to the end of `run`, and both are of its network: raises
    LeaseHeld, WrongBook or DataDirError where they cannot be. `transport` reaches nodes in another way than
    by sockets, `speeds` measures machines for orders.
    """

    def __init__(
        self,
        config: PoolConfig,
        store: Store,
        *,
        on_block: Callable[[BlockResult], None] = lambda result: None,
        transport: Callable[[NodeConfig], httpx.AsyncBaseTransport] | None = None,
        speeds: MachineSpeeds | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        store.acquire_lease()
        book.bind(store, config.network)
        bind_directory(config.data_dir, config.network, NETWORKS[config.network].genesis)
        self._config, self._store = config, store
        engine = Engine(line_bytes_max=config.line_bytes_max, keep_credits=True)
        with store.read() as connection:
            self.registry = registry = Registry(load(connection))
            basis, credits = newest_fee_basis(connection), CreditBook(engine, connection)

        # Nodes and books.
        self._nodes = NodeSet(config.nodes, chain=config.network, transport=transport)
        self._outage = Outage(self._nodes, config.outage_s)
        self._watch = TemplateWatch(self._nodes)
        self.hashrates = hashrates = HashrateBook(registry, trio.current_time())
        self._submits = ForwardedShares(unresolved_max=UNRESOLVED_OF_ALL_MAX)
        self._journal = Journal(
            store,
            registry,
            rate_of=rate_epochs.rate_of,
            submits=self._submits,
            credits=credits,
            on_commit=lambda tallies: hashrates.add(tallies, trio.current_time()),
            fold_s=config.books.fold_s,
            wall_clock=wall_clock,
        )
        self._bookkeeper = Bookkeeper(store, self._nodes, registry, times=config.books, wall_clock=wall_clock)
        self._blocks = BlockSubmission(
            BlockSubmitter(self._nodes.nodes, config.data_dir, tip_height=lambda: self._watch.tip_height),
            self._bookkeeper,
            payout_script=config.payout_script,
            network=config.network,
            finder=registry.finder,
            on_block=on_block,
        )
        self._fees = FeeWatch(
            self._nodes, basis=basis, keep=self._bookkeeper.fee_basis, wanted=registry.pays_by_fees
        )

        # Miners.
        job_ids = JobIds()
        self.own = _own_channel(self._blocks, engine, job_ids, config.extranonce2_bytes)
        admission = Admission(registry, self.own)
        self.silent = SilentMachines(config.vardiff.aim_s)
        registry.newcomers.on_free.append(self.silent.forget)
        self._connection_limits = ConnectionLimits(_with_descriptors(config.connection_bounds))
        self.board = self._switchboard(engine, admission)
        self._submits.on_change = self.board.commits.soon

        # What they mine.
        self._placement = Placement(admission, self.board, registry, move_interval_s=config.move_interval_s)
        channels = Channels(self.own, engine=engine, job_ids=job_ids, distribution=self.board.distribution)
        work_on = maker_of_work(config, self.own)
        self._solo = SoloChannels(
            registry,
            network=config.network,
            pool_script=config.payout_script,
            source=self._blocks,
            channels=channels,
            board=self.board,
            work_on=work_on,
            wall_clock=wall_clock,
        )
        self._own_work = OwnWork(
            config,
            registry,
            self._bookkeeper,
            self._fees,
            admission=admission,
            placement=self._placement,
            solo=self._solo,
            board=self.board,
            work_on=work_on,
        )
        self.proxy = Proxy(
            config,
            store,
            registry,
            hashrates,
            admission=admission,
            placement=self._placement,
            board=self.board,
            channels=channels,
            own_work=self._own_work,
            bookkeeper=self._bookkeeper,
            submits=self._submits,
            credits=credits,
            engine=engine,
            speeds=speeds or MachineSpeeds(trio.current_time(), config.vardiff.aim_s),
        )
        admission.use(self.proxy.routes, self._solo)
        self._solo.follow()

    def _switchboard(self, engine: Engine, admission: Admission) -> Switchboard:
        config, registry = self._config, self.registry
        services = Services(
            engine=engine,
            channel=self.own,
            admission=admission,
            placement_guess=admission,
            vardiff=config.vardiff,
            start_difficulty_log2=config.start_difficulty_log2,
            usual_log2=lambda: registry.usual_log2(config.start_difficulty_log2),
            silent=self.silent,
            limits=config.session_limits,
        )
        return Switchboard(
            services=services,
            connection_limits=self._connection_limits,
            journal=self._journal,
            limits=config.board_limits,
        )

    def status(self) -> PoolStatus:
        """As of now."""
        return PoolStatus(
            connections=len(self.board.connections),
            channels=len(self.board.distribution.channels),
            solo_channels=len(self._solo.channels),
            unresolved=len(self._submits),
            outage=self._outage.since_s is not None,
            routes=self.proxy.status(),
        )

    async def run(self, *, task_status: trio.TaskStatus[RunningPool] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. Raises BadEndpoint or BadCertificate when it cannot listen."""
        sys.setswitchinterval(THREAD_SWITCH_S)
        templates, fresh = trio.open_memory_channel[Template](1)
        server = Server(
            board=self.board, connection_limits=self._connection_limits, endpoints=self._config.endpoints
        )
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._nodes.run)
                nursery.start_soon(self._journal.run)
                await nursery.start(self.board.run)
                nursery.start_soon(self._bookkeeper.run)
                live = Live(
                    self.registry,
                    self.hashrates,
                    self._tenant_changed,
                    on_removed=lambda workers: self.board.drop_workers(workers, "worker removed"),
                    on_routes=self.proxy.changed,
                    route_status=self.proxy.status,
                )
                desk = Desk(self._store, self._config.network, live)
                await nursery.start(serve_admin, desk, admin_socket(self._config.data_dir))
                await nursery.start(self._blocks.run)
                nursery.start_soon(self._fees.run)
                nursery.start_soon(self._follow_payouts)
                nursery.start_soon(self._watch.run, templates)
                nursery.start_soon(self._own_work.run, fresh)
                nursery.start_soon(self._mind_outages)
                nursery.start_soon(self._mind_lease)
                await nursery.start(self.proxy.run)
                await nursery.start(server.run)
                task_status.started(
                    RunningPool(self.board, self.registry, self.hashrates, live, tuple(server.addresses))
                )
        finally:
            if not self._journal.failed:
                with trio.CancelScope(shield=True):
                    await self._journal.commit(b"")  # what upstreams said after the last miner had left
                    await self._journal.fold()
            self._store.release_lease()

    async def _follow_payouts(self) -> None:
        """Payouts under way, to their six confirmations; with nodes of its own, so that blocks never wait."""
        settings = self._config.payouts
        if settings is None:
            return
        wallet = await trio.to_thread.run_sync(PayoutWallet, settings, self._config.network)
        nodes = [Node(config) for config in self._config.nodes]
        try:
            books = PayoutBooks(self._store, lambda: int(time.time()))
            await Follower(books, PayoutNodes(nodes, self._config.network), wallet).run()
        finally:
            with trio.CancelScope(shield=True):
                for node in nodes:
                    await node.aclose()

    def _tenant_changed(self, view: TenantView) -> None:
        self._own_work.terms_changed()
        self.proxy.changed()
        if view.status != "active":
            self.board.drop_workers(self.registry.numbers_of(view.id), "tenant suspended")

    async def _mind_outages(self) -> None:
        await self._outage.run(let_go=self._placement.let_go, readmit=self._placement.readmit)

    async def _mind_lease(self) -> None:
        """Take the lease on the book back where it was lost, while the database answers. Raises LeaseLost."""
        away = False
        while True:
            await trio.sleep(LEASE_CHECK_S)
            try:
                lost = await trio.to_thread.run_sync(self._store.keep_lease)
            except SQLAlchemyError as error:
                if not away:
                    log.error("lease_not_known", reason=words_of(error))
                away = True
                continue
            if lost:
                log.warning("lease_taken_back")
            away = False


def _own_channel(source: WorkSource, engine: Engine, job_ids: JobIds, miner_bytes: int) -> Channel:
    return Channel(
        1,
        source,
        engine=engine,
        job_ids=job_ids,
        # Not from 0 at every start: an upstream's job has no salt of ours, and who gets the prefix of before
        # would find the shares of before, which are duplicates.
        extranonces=ExtranonceSpace(EXTRANONCE1_BYTES, first=secrets.randbelow(1 << 8 * EXTRANONCE1_BYTES)),
        extranonce2_size=miner_bytes,
    )


def _with_descriptors(limits: ConnectionBounds) -> ConnectionBounds:
    """Never more sessions than this process may open descriptors, which are raised as far as needed."""
    wanted = limits.sessions_max + DESCRIPTORS_KEPT
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # A system may allow less than its own hard limit: then what there was has to do.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = max(1, soft - DESCRIPTORS_KEPT)
    if soft != resource.RLIM_INFINITY and allowed < limits.sessions_max:
        log.info("sessions_bounded_by_descriptors", sessions_max=allowed, descriptors=soft)
        return msgspec.structs.replace(limits, sessions_max=allowed)
    return limits
