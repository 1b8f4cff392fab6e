"""One pool: its parts, and what runs when.

Templates flow from the nodes to the switchboard, solutions from the switchboard to the nodes.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import httpx
import msgspec
import numpy as np
import structlog
import trio

from pool.admin.commands import execute
from pool.admin.desk import Desk
from pool.admin.due_requests import START, DueRequests
from pool.admin.live import Live
from pool.admin.live_settings import LiveSettings
from pool.admin.operators import operator_of
from pool.admin.people.refusal_record import RefusalRecord
from pool.admin.requests.policy_record import note_policy
from pool.admin.server import serve_admin
from pool.books import book
from pool.books.edges.rows import EdgeRecord
from pool.books.edges.watch import NO_HUB, no_edges
from pool.books.journal.start import OpenJournal
from pool.books.journal.tail import Tail
from pool.books.lease_watch import LeaseWatch
from pool.books.store import DATABASE_ERRORS, Store, words_of
from pool.chain.blocks import BlockResult
from pool.chain.networks import NETWORKS
from pool.chain.nodes import NodeConfig
from pool.config import LoadedSettings, PoolConfig
from pool.dashboard.dashboard import Dashboard, dashboard_of
from pool.data_dir import admin_socket, bind_directory
from pool.edge import Edge
from pool.edges.edge import Edge as Serves
from pool.edges.edges import Edges, SiteProcess
from pool.edges.figures import ALONE
from pool.fleet.hashrate import HashrateBook, Unheard, everybody_is_heard
from pool.fleet.registry import ContainerRecord, Registry
from pool.fleet.rows import RegistryError, TenantView, record_of
from pool.garbage import collect_rarely
from pool.hub import Begin
from pool.journal.frames import Place
from pool.journal.records import Machine
from pool.journal.segments import Walk
from pool.messages.conditions import Thresholds
from pool.messages.lasting_looks import given_up, running_out, uncounted, unpaid, unpriced
from pool.messages.look import LastingLook, NodeLook
from pool.messages.message import Message
from pool.messages.messenger import Figures, Messenger, machine_figures
from pool.messages.settings import MessageSettings
from pool.metrics.book_figures import BookReader
from pool.metrics.collector import Sources
from pool.metrics.scrape import Scrapes
from pool.orders.allocator import OrderAllocator
from pool.orders.delivered import read_delivered
from pool.orders.machine_speed import MachineSpeeds
from pool.parts import Books
from pool.people.authentication import Authentication
from pool.people.refusals import Refusals, Refused
from pool.people.roles import host_account
from pool.people.sessions import Sessions
from pool.power.control.accepted_shares import AcceptedShares
from pool.power.control.control import Control, Reach
from pool.power.control.held_watch import HeldWatch
from pool.power.control.runner import runner_of
from pool.power.curtailment.executor import Curtailment
from pool.power.curtailment.rounds import Rounds
from pool.power.curtailment.seen import SeenShares, nobody_is_late
from pool.power.energy.polling import MeterPolling
from pool.power.energy.watch import PowerWatch
from pool.power.signals.settings import SignalSettings
from pool.power.signals.signals import Signals, watts_at
from pool.processes import Processes, bounded
from pool.readiness import Condition, HubLook, Readiness
from pool.settings_file import BadConfig
from pool.sites.sites import SILENT_S, Sites
from pool.supervisor import Supervisor
from pool.treasury.treasury import Treasury
from pool.web.access import web_app
from pool.web.commands import command_routes
from pool.web.door import Door
from pool.web.files import page_files, page_routes
from pool.web.health import health_routes
from pool.web.login import login_routes
from pool.web.power_signal import signal_route
from pool.web.readings import readings_route

log = structlog.get_logger()

# How long a commit waits for the interpreter beside a busy loop, each of several times: Python's default of
# 5 ms is what a miner would wait for.
THREAD_SWITCH_S: Final = 0.0005


class RunningPool(msgspec.Struct, frozen=True):
    """What a started pool shows to whoever runs it."""

    edges: Edges  # who serves miners
    registry: Registry
    hashrates: HashrateBook
    live: Live  # what commands change and ask, from threads
    addresses: tuple[tuple[str, int], ...]  # as listened on
    web: tuple[str, int] | None  # the same for HTTP


class Pool:
    """One pool, whose data directory the caller holds. `on_block` is told of every block's result.

    It is the writer of its store's book from here to the end of `run`, and both are of its network: raises
    LeaseHeld, WrongBook or DataDirError where they cannot be. `transport` reaches nodes in another way than
    by sockets, `speeds` measures machines for orders. `settings` is the file that
    `config` is of, which is read anew on request. `supervisor` is told that it serves, and that it stops.
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
        settings: LoadedSettings | None = None,
        supervisor: Supervisor | None = None,
    ) -> None:
        store.acquire_lease()
        book.bind(store, config.network)
        bind_directory(config.data_dir, config.network, NETWORKS[config.network].genesis)
        note_policy(store, config.approval, by=operator_of(os.geteuid()), source=START)
        self._config, self._store = config, store
        self._on_block, self._supervisor = on_block, supervisor
        self._tasks: trio.Nursery | None = None  # while it runs
        self._dashboard: Dashboard | None = None  # of whoever asks over HTTP
        self.books = Books(config, store, transport=transport, wall_clock=wall_clock)
        self._accepted = AcceptedShares(self.books.registry.number_of)
        self._machines = runner_of(config.control, config.data_dir, self._accepted, wall_clock)
        self._here: Edge | None = None  # who serves miners in this process
        self.processes: Processes | None = None  # or in others of this host
        self.sites: Sites | None = None  # or at other sites
        if config.hub is not None:
            self.sites = self._sites(wall_clock)
            self.books.folding.take(self.books.resolve_left(), self.books.opened[0].taker)
        elif config.processes > 1:
            self.processes = self._processes(settings, wall_clock)
        else:
            self._here = edge = Edge(
                config, self.books.known(), on_block=self._tell_block, on_commit=self._count_committed
            )
            self.books.folding.take(edge.shares.journal, self.books.opened[0].taker)
        self._refusals = refusals = Refusals(time.monotonic())
        self._record = RefusalRecord(store, refusals, clock=time.monotonic, wall_clock=wall_clock)
        self._authentication = Authentication(store, refusals, wall_clock=wall_clock, clock=time.monotonic)
        self._sessions = Sessions(clock=time.monotonic)
        self._lease = LeaseWatch(store)
        serving: Sequence[Serves] = ()
        if self._here is not None:
            serving = [self._here.serving]
        elif (others := self.processes or self.sites) is not None:
            serving = others.edges
        self._edges = Edges(
            serving,
            orders=lambda elsewhere: self.allocator.status(elsewhere),
            processes=(lambda: ALONE) if self.processes is None else self.processes.figures,
            named=lambda name: None if self.sites is None else self.sites.edge(name),
        )
        self.power = PowerWatch(
            store,
            self.books.hashrates,
            unheard=lambda *machines: self._unheard(*machines),
            off=lambda: self.curtailment.status.held,
            wall_clock=wall_clock,
        )
        self.allocator = OrderAllocator(
            store,
            self.books.registry,
            self.books.hashrates,
            config.data_dir,
            edges=self._edges,
            orders=self.books.orders,
            speeds=speeds or MachineSpeeds(trio.current_time(), config.vardiff.aim_s),
            wall_clock=time.time,
            leaving=lambda: self.curtailment.leaving,
            delivered=partial(read_delivered, store),
            slice_s=config.move_interval_s,
        )
        dry_run = config.control is None or config.control.dry_run
        self.control = Control(store, self._reaches, dry_run=dry_run, enabled=config.control is not None)
        self._held = HeldWatch(self.control.standing)
        self._shares = SeenShares(
            self.books.registry, self.books.hashrates, self._behind, places=self.control
        )
        self.curtailment = Curtailment(
            Rounds(store, dry_run=dry_run), self._shares, self.control, wall_clock=wall_clock
        )
        self._readiness = Readiness(self._lease, self._hub_look if self.sites is not None else None)
        self._settings = None if settings is None else LiveSettings(settings, self._prepared)
        self._started_s = trio.current_time()
        self._signals = None if config.signals is None else self._listening(config.signals, wall_clock)
        self._messenger = None if config.messages is None else self._told(config.messages, wall_clock)

    @property
    def edge(self) -> Edge:
        """Who serves miners in this process."""
        assert self._here is not None
        return self._here

    async def run(self, *, task_status: trio.TaskStatus[RunningPool] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. Raises BadEndpoint or BadCertificate when it cannot listen."""
        sys.setswitchinterval(THREAD_SWITCH_S)
        books = self.books
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(collect_rarely)
                await nursery.start(books.nodes.run)
                self._tasks = nursery
                await nursery.start(self._machines.run)
                nursery.start_soon(books.folding.run)
                nursery.start_soon(books.bookkeeper.run)
                live = self._live()
                treasury = self._treasury()
                desk = Desk(
                    self._store,
                    self._config.network,
                    live,
                    treasury,
                    self._config.approval,
                    self._config.durations,
                    books.proof,
                )
                if self._settings is not None:
                    await nursery.start(self._mind_hangups, desk)
                await nursery.start(self._serve_admin, desk)
                nursery.start_soon(self._record.run)
                nursery.start_soon(self.power.run)
                nursery.start_soon(self._held.run)
                nursery.start_soon(MeterPolling(self._store).run)
                web = await self._open_web(nursery, desk)
                nursery.start_soon(self._follow_payouts, treasury)
                nursery.start_soon(self._lease.run)
                nursery.start_soon(DueRequests(desk).run)
                if self._signals is not None:
                    nursery.start_soon(self._signals.run)
                if self._messenger is not None:
                    nursery.start_soon(self._messenger.run)
                addresses: tuple[tuple[str, int], ...] = ()
                await self.allocator.begin()
                if self.sites is not None:
                    await nursery.start(self.sites.run)
                elif self.processes is not None:
                    for tail in self._tails():
                        nursery.start_soon(tail.run)
                    addresses = await nursery.start(self.processes.run)
                elif self._here is not None:
                    addresses = await nursery.start(self._here.run)
                nursery.start_soon(self.allocator.run)
                if self._config.control is not None:
                    nursery.start_soon(self.curtailment.run)
                task_status.started(
                    RunningPool(self._edges, books.registry, books.hashrates, live, addresses, web)
                )
                if self._supervisor is not None:
                    nursery.start_soon(self._supervisor.serves)
        finally:
            with trio.CancelScope(shield=True):
                if self._here is None or not self._here.shares.journal.failed:
                    if self._here is not None:
                        await self._here.commit_last()
                    await books.folding.stop()
                    if self.sites is not None:
                        await self.sites.remote.leave()
                    await self._record.look(last=True)
            for it in books.opened:
                it.log.close()
            self._store.release_lease()

    # Where processes of their own serve miners

    def _processes(self, settings: LoadedSettings | None, wall_clock: Callable[[], float]) -> Processes:
        if settings is None:
            raise BadConfig("several processes read their settings from a file, and there is none")
        books = self.books
        for it in books.opened:
            it.log.close()  # each has its own process to write it
        processes = Processes(
            books.opened,
            books.folding,
            books.hub,
            settings=settings.path.absolute(),
            begin=lambda taker, part: books.begin(taker, part, self.allocator.assigned),
            drains_s=lambda: self._edges.drains_s,
            wall_clock=wall_clock,
        )
        registry = books.registry

        def numbered(machines: Sequence[Machine]) -> list[Machine]:
            return trio.from_thread.run_sync(lambda: [registry.renumbered(it) for it in machines])

        for it in books.opened:
            it.taker.number_by(numbered)
        books.folding.on_noted = self._tell_known
        return processes

    def _sites(self, wall_clock: Callable[[], float]) -> Sites:
        books = self.books
        sites = Sites(
            self._config,
            self._store,
            books.folding,
            bounded(books.hub),
            books.registry,
            books.nodes,
            history=books.bookkeeper.history,
            begin=self._begin_site,
            on_tallies=self._count_committed,
            wall_clock=wall_clock,
        )
        books.folding.on_noted = self._tell_known
        return sites

    def _begin_site(self, edge: EdgeRecord) -> Begin:
        """In a thread."""
        process = SiteProcess(edge.name, edge.process_and_host)
        drains_s = trio.from_thread.run_sync(self._edges.drains_of, process)
        return self.books.begin_site(edge, self.allocator.assigned, drains_s)

    def _tell_known(self, numbers: Sequence[int]) -> None:
        """To others who serve miners: these machines were seen, or begin elsewhere now."""
        registry, others = self.books.registry, self.processes or self.sites
        if others is not None:
            others.machines_known([registry.known_machine(it) for it in numbers if it in registry.workers])

    def _tell_settings(self) -> None:
        if self.processes is not None:
            self.processes.settings_changed()

    def _tails(self) -> list[Tail]:
        return [
            Tail(
                partial(_behind_the_books, it),
                self.books.registry.adopt,
                self._count_committed,
            )
            for it in self.books.opened
        ]

    def _live(self) -> Live:
        registry, edge, others = self.books.registry, self._here, self.processes or self.sites

        def tenant(view: TenantView) -> None:
            for it in (edge, others):
                if it is not None:
                    it.tenant_changed(record_of(view))

        def container(record: ContainerRecord) -> None:
            if others is not None:
                others.container_changed(record)

        def removed(numbers: set[int]) -> None:
            if edge is not None:
                edge.workers_removed(numbers)
            if others is not None:
                machines = (registry.known_machine(it) for it in numbers if it in registry.workers)
                others.workers_removed([(it.tenant, it.container, it.unit) for it in machines])

        def routes() -> None:
            if edge is not None:
                edge.routing.proxy.changed()
            if others is not None:
                others.routes_changed()
            self.allocator.changed()

        return Live(
            registry,
            self.books.hashrates,
            self._edges,
            tenant,
            on_container=container,
            on_removed=removed,
            on_routes=routes,
            on_tokens=self._authentication.load,
            messenger=self._messenger,
            settings=self._settings,
            remote=None if self.sites is None else self.sites.remote,
            power=self.power,
            signals=self._signals,
            control=self.control,
            shares=self._shares,
            orders_without=self.allocator.short_without,
        )

    def _listening(self, settings: SignalSettings, wall_clock: Callable[[], float]) -> Signals:
        control = self._config.control
        return Signals(
            self._store,
            settings,
            dry_run=control is None or control.dry_run,
            durations=self._config.durations,
            wall_clock=wall_clock,
            watts=lambda site: watts_at(trio.from_thread.run(self.power.now), site),
        )

    def _behind(self) -> Callable[[int], float]:
        return nobody_is_late if self.sites is None else self.sites.watch.behind()

    def _reaches(self) -> list[Reach]:
        """Who tells machines of which sites."""
        if self.sites is not None:
            return self.sites.reaches()
        return [Reach("", lambda tenant, container: True, self._edges.peers, self._machines)]

    def _count_committed(self, tallies: bytes, age_s: float = 0.0) -> None:
        self._accepted.count(tallies, age_s)
        self.books.hashrates.add(tallies, trio.current_time(), age_s)

    async def _serve_admin(self, desk: Desk, *, task_status: trio.TaskStatus[None]) -> None:
        def refused(uid: int) -> None:
            self._refusals.count(time.monotonic(), Refused.ACCOUNT, str(uid))

        def guessed(account: str) -> None:
            self._refusals.count(time.monotonic(), Refused.GUESSED, f"account {account}")

        path, group = admin_socket(self._config.data_dir), self._config.admin_group
        await serve_admin(desk, path, group, refused=refused, guessed=guessed, task_status=task_status)

    def _prepared(self, new: PoolConfig) -> Callable[[], None]:
        """What puts other live settings in force (pool.settings_tables). Blocks. Raises BadConfig."""
        messenger, told = self._messenger, new.messages
        served = self._tell_settings if self._here is None else self._here.prepared(new)
        receivers = () if messenger is None or told is None else messenger.prepared(told)

        def apply() -> None:
            served()
            self.allocator.slice_s = new.move_interval_s
            if messenger is not None and told is not None:
                messenger.use(told, receivers)
            if self._dashboard is not None and told is not None:
                self._dashboard.judge_by(told.thresholds)

        return apply

    async def _mind_hangups(
        self, desk: Desk, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """SIGHUP is `angara reload` by the account that runs the pool."""

        def reload() -> None:
            try:
                execute(desk, "settings.reload", b"{}", host_account(operator_of(os.geteuid()), "SIGHUP"))
            except (RegistryError, *DATABASE_ERRORS) as error:
                log.error("settings_not_reloaded", reason=words_of(error)[:300])

        with trio.open_signal_receiver(signal.SIGHUP) as hangups:
            task_status.started()
            async for _ in hangups:
                await trio.to_thread.run_sync(reload)

    async def _open_web(self, nursery: trio.Nursery, desk: Desk) -> tuple[str, int] | None:
        """The address that HTTP is answered at, if the settings have one."""
        if self._config.web is None:
            return None
        door, figures = Door(self._config.web), BookReader(self._store)
        nursery.start_soon(figures.run)
        sources = Sources(
            edges=self._edges,
            registry=self.books.registry,
            hashrates=self.books.hashrates,
            folds=self.books.folding.durations,
            kept_blocks=lambda: self.books.folding.kept_blocks,
            settlements=self.books.bookkeeper.settlements,
            readiness=self._readiness,
            door=door,
            figures=figures,
            hub=no_edges if self.sites is None else self.sites.watch.figures,
            unheard=self._unheard,
            power=self.power.now,
            curtailment=lambda: self.curtailment.status,
            held=lambda: self._held.now,
            signals=lambda: () if self._signals is None else self._signals.sources,
        )
        await trio.to_thread.run_sync(self._authentication.load)
        messages = self._config.messages
        thresholds = Thresholds() if messages is None else messages.thresholds
        self._dashboard = dashboard = dashboard_of(sources, thresholds)
        nursery.start_soon(dashboard.run)
        page = page_routes(await trio.to_thread.run_sync(page_files))
        routes = (
            *health_routes(self._conditions),
            Scrapes(sources).route(),
            *page,
            *login_routes(self._authentication, self._sessions),
            *dashboard.routes(),
            readings_route(self._store, self._authentication),
            signal_route(None if self._signals is None else self._signals.webhook, self._authentication),
        )
        routes = (*routes, *command_routes(desk, self._authentication, routes))
        app = web_app(routes, self._authentication, self._sessions)
        address: tuple[str, int] = await nursery.start(door.run, app)
        return address

    def _tell_block(self, result: BlockResult) -> None:
        self._on_block(result)
        if self._dashboard is not None:
            self._dashboard.tell_block(result)

    def _tell_message(self, message: Message) -> None:
        if self._dashboard is not None:
            self._dashboard.tell_message(message)

    def _told(self, settings: MessageSettings, wall_clock: Callable[[], float]) -> Messenger:
        config, registry = self._config, self.books.registry
        return Messenger(
            settings,
            self._store,
            config.data_dir,
            (*config.endpoints, *(() if config.web is None else (config.web,))),
            figures=self._figures,
            journal_failed=lambda: self._here is not None and self._here.shares.journal.failed,
            machine_name=registry.name_of,
            on_message=self._tell_message,
            wall_clock=wall_clock,
        )

    def _hub_look(self) -> HubLook:
        assert self.sites is not None
        heard = [it.heard_age_s for it in self.sites.standing()]
        return HubLook(
            node=self.books.nodes.current is not None,
            nats=self.sites.connection.connected,
            edges=len(heard),
            heard=sum(it is not None and it < SILENT_S for it in heard),
        )

    async def _conditions(self) -> tuple[Condition, ...]:
        return await self._readiness.now(self._edges)

    async def _figures(self) -> Figures:
        edges, routes = await self._edges.now()
        now_s, processes = trio.current_time(), self._edges.processes()
        running_s = now_s - self._started_s
        return Figures(
            running_s=running_s,
            job_age_s=running_s if edges.template_age_s is None else edges.template_age_s,
            machines=machine_figures(self.books.registry, self.books.hashrates, now_s, self._not_missed),
            curtailment=self.curtailment.status,
            lasting=self._lasting,
            nodes=tuple(NodeLook(it.name, it.up, it.reason) for it in edges.nodes),
            upstreams=routes.upstreams,
            orders=routes.orders,
            guesses=self._refusals.counted(Refused.GUESSED),
            unbooked_s=edges.unfolded_age_s or 0.0,
            processes=processes.of,
            processes_serving=processes.serving,
            processes_died=processes.died,
            hub=NO_HUB if self.sites is None else self.sites.watch.figures(),
            signals=() if self._signals is None else self._signals.sources,
            power=await self.power.now(),
        )

    @property
    def _lasting(self) -> tuple[LastingLook, ...]:
        energy, tenants = self.books.bookkeeper.energy, self.books.registry.tenants_by_id
        sales, prepaid = self.books.bookkeeper.sales.unpaid, self.books.bookkeeper.sales.running_out
        looks = (
            given_up(self._held.now, whole=self._held.complete),
            unpaid(sales, stopped=False),
            unpaid(sales, stopped=True),
            running_out(prepaid, stopped=False),
            running_out(prepaid, stopped=True),
        )
        if energy is None:
            return looks

        def name_of(number: int) -> str | None:
            return tenants[number].name if number in tenants else None

        return (*looks, uncounted(self.books.told.meters), unpriced(energy.unpriced, name_of))

    @property
    def _not_missed(self) -> Unheard:
        """Who is off because somebody asked for it is no machine that is broken."""
        unheard, held = self._unheard, self.curtailment.leaving
        if not held:
            return unheard
        numbers = np.fromiter(held, dtype=np.int64, count=len(held))
        return lambda workers, containers, ages_s: (
            unheard(workers, containers, ages_s) | np.isin(workers, numbers)
        )

    @property
    def _unheard(self) -> Unheard:
        return everybody_is_heard if self.sites is None else self.sites.watch.unheard

    def _treasury(self) -> Treasury | None:
        settings = self._config.payouts
        return None if settings is None else Treasury(settings, self._config.network, self._config.nodes)

    async def _follow_payouts(self, treasury: Treasury | None) -> None:
        """Payouts under way, to their six confirmations."""
        if treasury is None:
            return
        try:
            await treasury.follow(self._store)
        finally:
            await treasury.aclose()


def _behind_the_books(journal: OpenJournal) -> tuple[Walk, Place]:
    at = journal.taker.position.at
    return journal.log.walk(at), at
