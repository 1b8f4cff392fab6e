"""The wiring: nodes, templates, jobs, sessions and blocks of one pool, and nothing else.

Templates flow from the nodes to the switchboard, solutions from the switchboard to the nodes. While no
node answers, miners keep the last work until `outage_s`; then they are let go, so that they turn to their
other pools, and taken back when a node is there again.
"""

import contextlib
import resource
import secrets
import sys
import time
from collections.abc import Callable
from typing import Final, cast

import msgspec
import structlog
import trio
from sqlalchemy.exc import SQLAlchemyError

from payouts.ratebook import newest_fee_basis
from payouts.rates import Scheme, subsidy_sat
from pool.admin.desk import Desk
from pool.admin.live import Live
from pool.admin.server import serve_admin
from pool.block_submission import BlockSubmission
from pool.books import book, rate_epochs
from pool.books.book import WrongBook
from pool.books.bookkeeper import Bookkeeper
from pool.books.credit_book import CreditBook
from pool.books.forwarded_shares import ForwardedShares
from pool.books.journal import Journal
from pool.books.rate_epochs import WorkPrice
from pool.books.store import Store, words_of
from pool.chain.blocks import BlockResult, BlockSubmitter
from pool.chain.coinbase import SALT_BYTES_MAX, BadCoinbase
from pool.chain.fee_watch import NO_BASIS, FeeWatch
from pool.chain.networks import NETWORKS
from pool.chain.node_set import NodeSet
from pool.chain.nodes import Node
from pool.chain.template_watch import TemplateWatch
from pool.chain.templates import Template, branch_of, work_from_template
from pool.config import EXTRANONCE1_BYTES, PoolConfig
from pool.data_dir import admin_socket, bind_directory
from pool.fleet.hashrate import HashrateBook
from pool.fleet.registry import Registry
from pool.fleet.rows import TenantView, load
from pool.routing.proxy import Proxy
from pool.routing.solo import SoloChannels
from pool.treasury.books import PayoutBooks
from pool.treasury.chain_node import PayoutNodes
from pool.treasury.follower import Follower
from pool.treasury.wallet import PayoutWallet
from stratum._engine import Engine
from stratum.job import Work
from stratum.miners.channel import Channel, JobIds
from stratum.miners.connection import Connection
from stratum.miners.connection_limits import ConnectionBounds, ConnectionLimits
from stratum.miners.contracts import Services
from stratum.miners.extranonce import ExtranonceSpace
from stratum.miners.listeners import Server
from stratum.miners.owner import Owner
from stratum.miners.silent_machines import SilentMachines
from stratum.miners.switchboard import Switchboard
from stratum.upstream.shares import UNRESOLVED_MAX

log = structlog.get_logger()

# Descriptors for everything that is not a miner: nodes, database, files, listeners, logs.
DESCRIPTORS_KEPT: Final = 256
OUTAGE_CHECK_S: Final = 1.0
# How long a commit waits for the interpreter beside a busy loop, each of several times: Python's default of
# 5 ms is what a miner would wait for.
THREAD_SWITCH_S: Final = 0.0005
LEASE_CHECK_S: Final = 2.0  # a lease whose connection was cut is taken back before most others think of it
# Shares that wait for their upstreams: of eight connections that answer nothing, so that two or three of them
# leave room for the others. 40 MiB.
UNRESOLVED_OF_ALL_MAX: Final = 4 * UNRESOLVED_MAX
NO_NODE: Final = "no bitcoin node answers"


class RunningPool(msgspec.Struct, frozen=True):
    """What a started pool shows to whoever runs it."""

    board: Switchboard
    registry: Registry
    hashrates: HashrateBook
    addresses: tuple[tuple[str, int], ...]  # as listened on


class Pool:
    """One pool, whose data directory the caller holds. `on_block` is told of every block's result.

    It is the writer of its store's book from here to the end of `run`, and both are of its network: raises
    LeaseHeld, WrongBook or DataDirError where they cannot be.
    """

    def __init__(
        self,
        config: PoolConfig,
        store: Store,
        *,
        on_block: Callable[[BlockResult], None] = lambda result: None,
    ) -> None:
        store.take_lease()
        book.bind(store, config.network)
        bind_directory(config.data_dir, config.network, NETWORKS[config.network].genesis)
        self._config = config
        self._store = store
        self._nodes = NodeSet(config.nodes, chain=config.network)
        self._watch = TemplateWatch(self._nodes)
        with store.read() as connection:
            self._registry = Registry(load(connection), show_out=self._show_out)
            basis = newest_fee_basis(connection)
        self._hashrates = HashrateBook(self._registry, trio.current_time())
        self._submits = ForwardedShares(
            lambda: self._board.commits.soon(), unresolved_max=UNRESOLVED_OF_ALL_MAX
        )
        engine, job_ids = Engine(line_bytes_max=config.line_bytes_max, keep_credits=True), JobIds()
        with store.read() as connection:
            credits = CreditBook(engine, connection)
        self._journal = Journal(
            store,
            self._registry,
            rate_of=rate_epochs.rate_of,
            submits=self._submits,
            credits=credits,
            on_commit=lambda tallies: self._hashrates.add(tallies, trio.current_time()),
            fold_s=config.books.fold_s,
        )
        self._bookkeeper = Bookkeeper(store, self._nodes, self._registry, times=config.books)
        self._blocks = BlockSubmission(
            BlockSubmitter(self._nodes.nodes, config.data_dir, tip_height=lambda: self._watch.tip_height),
            self._bookkeeper,
            payout_script=config.payout_script,
            network=config.network,
            finder=self._registry.finder,
            on_block=on_block,
        )
        self._fees = FeeWatch(
            self._nodes,
            basis=basis,
            keep=self._bookkeeper.fee_basis,
            wanted=self._by_fees,
            on_first=self._price_fpps,
        )
        self._halving = NETWORKS[config.network].halving_interval
        self._price: tuple[WorkPrice, int] | None = None  # of the last work of our own, and its height
        self._mined: tuple[Template, tuple[bytes, ...]] | None = None  # what that was made of, and its branch
        self._channel = Channel(
            1,
            self._blocks,
            engine=engine,
            job_ids=job_ids,
            # Not from 0 at every start: an upstream's job has no salt of ours, and who gets the prefix of
            # before would find the shares of before, which are duplicates.
            extranonces=ExtranonceSpace(
                EXTRANONCE1_BYTES, first=secrets.randbelow(1 << 8 * EXTRANONCE1_BYTES)
            ),
            extranonce2_size=config.extranonce2_bytes,
        )
        self._solo = SoloChannels(
            self._registry,
            network=config.network,
            pool_script=config.payout_script,
            new_channel=lambda: self._proxy.new_channel(
                self._blocks, EXTRANONCE1_BYTES, config.extranonce2_bytes
            ),
            board=lambda: self._board,
            work_on=self._work_on,
            wall_clock=time.time,
        )
        self._solo_changed = trio.Event()
        self._proxy = Proxy(
            config,
            store,
            self._registry,
            self._hashrates,
            own=self._channel,
            engine=engine,
            job_ids=job_ids,
            price=lambda: self._price,
            epoch=self._bookkeeper.epoch,
            submits=self._submits,
            credits=credits,
            board=lambda: self._board,
            solo=self._solo,
        )
        self._connection_limits = ConnectionLimits(_with_descriptors(config.connection_bounds))
        self._board = self._switchboard(engine)
        self._solo.follow()

    def _switchboard(self, engine: Engine) -> Switchboard:
        config, silent = self._config, SilentMachines(self._config.vardiff.aim_s)
        self._registry.newcomers.on_free.append(silent.forget)
        services = Services(
            engine=engine,
            channel=self._channel,
            admission=self._proxy.placement,
            placement_guess=self._proxy.placement,
            vardiff=config.vardiff,
            start_difficulty_log2=config.start_difficulty_log2,
            usual_log2=lambda: self._registry.usual_log2(config.start_difficulty_log2),
            silent=silent,
            limits=config.session_limits,
        )
        return Switchboard(
            services=services,
            connection_limits=self._connection_limits,
            journal=self._journal,
            limits=config.board_limits,
        )

    async def run(self, *, task_status: trio.TaskStatus[RunningPool] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. Raises BadEndpoint or BadCertificate when it cannot listen."""
        sys.setswitchinterval(THREAD_SWITCH_S)
        templates, fresh = trio.open_memory_channel[Template](1)
        server = Server(
            board=self._board, connection_limits=self._connection_limits, endpoints=self._config.endpoints
        )
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._nodes.run)
                nursery.start_soon(self._journal.run)
                await nursery.start(self._board.run)
                nursery.start_soon(self._bookkeeper.run)
                live = Live(
                    self._registry,
                    self._hashrates,
                    self._tenant_changed,
                    on_removed=lambda workers: self._board.drop_workers(workers, "worker removed"),
                    on_routes=self._proxy.changed,
                    route_status=self._proxy.status,
                )
                desk = Desk(self._store, self._config.network, live)
                await nursery.start(serve_admin, desk, admin_socket(self._config.data_dir))
                await nursery.start(self._blocks.run)
                nursery.start_soon(self._fees.run)
                nursery.start_soon(self._follow_payouts)
                nursery.start_soon(self._watch.run, templates)
                nursery.start_soon(self._publish, fresh)
                nursery.start_soon(self._follow_solo)
                nursery.start_soon(self._mind_outages)
                nursery.start_soon(self._mind_lease)
                await nursery.start(self._proxy.run)
                await nursery.start(server.run)
                task_status.started(
                    RunningPool(self._board, self._registry, self._hashrates, tuple(server.addresses))
                )
        finally:
            if not self._journal.failed:
                with trio.CancelScope(shield=True):
                    await self._journal.commit(b"")  # what upstreams said after the last miner had left
                    await self._journal.fold()
            self._store.release_lease()

    async def _publish(self, fresh: trio.MemoryReceiveChannel[Template]) -> None:
        """Every template at once to everybody who mines our own work, whomever the blocks of it pay."""
        async for template in fresh:
            branch, value_sat = branch_of(template), template.coinbase_value_sat
            try:
                if template.signet_challenge is not None:
                    await self._bookkeeper.bind_signet(template.signet_challenge)
                work = self._work_on(template, ((self._config.payout_script, value_sat),), branch)
            except (BadCoinbase, WrongBook) as error:
                log.error("template_unusable", height=template.height, reason=str(error))
                continue
            await self._fees.first()
            self._price_fpps()
            price = self._price_of(template)
            epoch = await self._bookkeeper.epoch(price, template.height)
            solo_epoch = await self._solo_epoch(template)
            self._price, self._mined = (price, template.height), (template, branch)
            self._board.distribution.publish(self._channel, work, rate=epoch)
            if solo_epoch:
                self._solo.publish(template, branch, rate=solo_epoch)
            log.debug("job_published", height=template.height, transactions=len(template.transactions))

    async def _follow_solo(self) -> None:
        """A tenant is a solo tenant now, or has another address or fee: in its next job, which is now."""
        while True:
            await self._solo_changed.wait()
            self._solo_changed = trio.Event()
            mined = self._mined
            if mined is None:
                continue
            rate = await self._solo_epoch(mined[0])
            if mined is self._mined:  # else the next one was published, for them as well
                self._solo.publish_changed(*mined, rate=rate)
                self._proxy.placement.look_again()

    def _work_on(
        self, template: Template, payouts: tuple[tuple[bytes, int], ...], branch: tuple[bytes, ...]
    ) -> Work:
        return work_from_template(
            template,
            payouts=payouts,
            tag=self._config.tag,
            salts=lambda: secrets.token_bytes(SALT_BYTES_MAX),
            extranonce_size=self._channel.extranonce_size,
            branch=branch,
        )

    def _price_of(self, template: Template) -> WorkPrice:
        return WorkPrice(
            nbits=template.nbits,
            subsidy_sat=subsidy_sat(template.height, self._halving),
            fee_basis_id=self._fees.basis,
        )

    async def _solo_epoch(self, template: Template) -> int:
        """One for all solo tenants: whose a share is is its worker's to say. 0 where there are none."""
        if not self._solo.channels:
            return 0
        price = msgspec.structs.replace(self._price_of(template), fee_basis_id=None, solo=True)
        return await self._bookkeeper.epoch(price, template.height)

    def _show_out(self, owner: Owner) -> None:
        """Somebody else needs the places of names that this connection holds, and has had no share under."""
        self._board.drop(cast(Connection, owner), "names without a share")

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
        self._bookkeeper.forget_price()
        self._fees.look_again()
        if self._solo.follow():
            self._solo_changed.set()
        self._proxy.changed()
        self._price_fpps()
        if view.status != "active":
            self._board.drop_workers(self._registry.numbers_of(view.id), "tenant suspended")

    def _by_fees(self) -> bool:
        """Whether any tenant is paid by the fees of recent blocks."""
        return any(tenant.scheme is Scheme.FPPS for tenant in self._registry.tenants.values())

    def _price_fpps(self) -> None:
        """Let nobody mine for FPPS while it has no price."""
        if self._fees.basis is not None:
            self._proxy.placement.fpps_closed = None
        elif self._by_fees():
            self._proxy.placement.fpps_closed = NO_BASIS
            for tenant in self._registry.tenants.values():
                if tenant.scheme is Scheme.FPPS:
                    self._board.drop_workers(self._registry.numbers_of(tenant.id), NO_BASIS)

    async def _mind_outages(self) -> None:
        """Let miners of our own work go when no node has answered for outage_s; take them back when one does.

        Those of upstreams stay: only where there are none is the door closed.
        """
        let_go = False
        while True:
            await trio.sleep(OUTAGE_CHECK_S)
            since_s = self._nodes.outage_since_s
            outage_s = 0.0 if since_s is None else trio.current_time() - since_s
            gone = outage_s >= self._config.outage_s
            if gone and not let_go:
                let_go = True
                log.error("miners_let_go", reason="no node answers", outage_s=round(outage_s))
                self._proxy.placement.own_closed, self._channel.paused = NO_NODE, True
                self._solo.pause(True)
                if self._proxy.in_use:
                    for channel in (self._channel, *self._solo.channels):
                        self._board.drop_channel(channel, NO_NODE)
                else:
                    self._board.close_door(NO_NODE)
            elif not gone and let_go:
                let_go = False
                log.warning("miners_taken_back")
                self._proxy.placement.own_closed, self._channel.paused = None, False
                self._solo.pause(False)
                self._connection_limits.closed = None

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
