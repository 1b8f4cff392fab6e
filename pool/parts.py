"""The parts of a pool, each built from those before it: books, miners, and the work that miners are given.

From the leaves up: what is handed to another is there, and knows nothing of it.

Must not know: what runs when.
"""

import contextlib
import resource
import secrets
import time
from collections.abc import Callable
from typing import Final

import httpx
import msgspec
import structlog
import trio
from sqlalchemy import Connection, func, select

from payouts.ratebook import newest_fee_basis
from payouts.rates import BlockFees
from payouts.schemas.money import workers
from pool.block_submission import BlockSubmission, owned_by
from pool.books.bookkeeper import Bookkeeper
from pool.books.edges.known import known_to
from pool.books.edges.rows import PARTS, EdgeRecord
from pool.books.journal.book_clock import BookClock
from pool.books.journal.credit_book import CreditBook
from pool.books.journal.credit_rows import CreditRows
from pool.books.journal.folding import Folding
from pool.books.journal.forwarded_shares import ForwardedShares
from pool.books.journal.journal import Journal
from pool.books.journal.positions import position_of
from pool.books.journal.prices import Prices, known_prices
from pool.books.journal.start import beginning_in, beginning_of, open_journals
from pool.books.journal.taker import Taker
from pool.books.store import Store
from pool.chain.blocks import BlockResult, BlockSubmitter
from pool.chain.fee_watch import FeeWatch
from pool.chain.node_set import NodeSet
from pool.chain.nodes import NodeConfig
from pool.chain.outage import Outage
from pool.chain.template_watch import TemplateWatch
from pool.config import EXTRANONCE1_BYTES, PoolConfig
from pool.fleet.hashrate import HashrateBook
from pool.fleet.registry import Registry, Snapshot
from pool.fleet.rows import load, load_containers, load_tenants, load_workers
from pool.http_server import CONNECTIONS_MAX
from pool.hub import Begin, Hub, Part, Start
from pool.journal.beginning import Beginning
from pool.journal.log import JournalLog
from pool.keeping import Keeping
from pool.orders.mining import Assigned
from pool.orders.rows import OrderRecord, load_orders
from pool.power.control.network import AT_ONCE
from pool.power.curtailment.told_books import ToldBooks
from pool.proof_key import read_proof_key
from pool.routing.admission import Admission
from pool.routing.channels import Channels
from pool.routing.drain import Drain
from pool.routing.own_work import OwnWork, maker_of_work
from pool.routing.placement import Placement
from pool.routing.proxy import Proxy
from pool.routing.solo import SoloChannels
from stratum._engine import Engine
from stratum.miners.channel import ROLLED_BITS, Channel, JobIds, WorkSource
from stratum.miners.contracts import Services
from stratum.miners.decisions import Decisions
from stratum.miners.extranonce import ExtranonceSpace
from stratum.miners.firmware import FirmwareBook
from stratum.miners.silent_machines import SilentMachines
from stratum.miners.switchboard import Switchboard
from stratum.miners.turns.connection_limits import ConnectionBounds, ConnectionLimits
from stratum.miners.uncharged import Uncharged
from stratum.upstream.shares import UNRESOLVED_MAX

log = structlog.get_logger()

# Descriptors for everything that is not a miner: nodes, database, files, listeners, logs.
DESCRIPTORS_KEPT: Final = 256
# Shares that wait for their upstreams: of eight connections that answer nothing, so that two or three of them
# leave room for the others. 40 MiB.
UNRESOLVED_OF_ALL_MAX: Final = 4 * UNRESOLVED_MAX


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What whoever serves miners has to know, of the books and of the host."""

    registry: Registry
    log: JournalLog
    start: Start
    hub: Hub
    nodes: NodeSet
    wall_clock: Callable[[], float]
    part: tuple[int, int] = (0, 1)  # which of how many equal parts of the extranonces is handed out
    process: tuple[int, int] = (0, 1)  # which of how many processes serve miners at the same endpoints
    tell_block: Callable[[bytes], None] | None = None  # one of ours, for others' nodes


class Books:
    """What is kept in the database, and asked for by whoever serves miners (`known`). `transport` reaches
    nodes in another way than by sockets."""

    def __init__(
        self,
        config: PoolConfig,
        store: Store,
        *,
        transport: Callable[[NodeConfig], httpx.AsyncBaseTransport] | None,
        wall_clock: Callable[[], float],
    ) -> None:
        self.store = store
        self.opened = open_journals(store, config.data_dir, count=config.processes, wall_clock=wall_clock)
        with store.read() as connection:
            numberers = config.processes + 1 if config.processes > 1 else 1
            of_sites = config.hub is not None
            self.registry = registry = Registry(load(connection), of=numberers, renumbers=of_sites)
            credits = CreditRows(connection)
        self.hashrates = HashrateBook(registry, trio.current_time())
        self.nodes = NodeSet(config.nodes, chain=config.network, transport=transport)
        self.told = ToldBooks()
        self.proof = (
            None
            if config.proof_key_file is None
            else read_proof_key(config.proof_key_file, config.proof_former_files, config.proof_lost_key)
        )
        self._kept_log2 = None if self.proof is None else config.proof_from_log2
        self.bookkeeper = Bookkeeper(
            store,
            self.nodes,
            times=config.books,
            wall_clock=wall_clock,
            power=None if config.control is None else self.told,
            proof=None if self.proof is None else (self.proof, config.proof_from_log2),
        )
        self.folding = Folding(store, registry, credits, fold_s=config.books.fold_s, wall_clock=wall_clock)
        self.hub = Keeping(config, store, self.bookkeeper, registry.renumbered)
        self._wall_clock = wall_clock

    def known(self) -> Known:
        """To who serves miners in this process."""
        with self.store.read() as connection:
            start = _start(connection, self.opened[0].beginning, self._kept_log2)
        return Known(
            registry=self.registry,
            log=self.opened[0].log,
            start=start,
            hub=self.hub,
            nodes=self.nodes,
            wall_clock=self._wall_clock,
        )

    def orders(self) -> tuple[OrderRecord, ...]:
        """All that are not over, also those that have not begun. Blocks."""
        with self.store.read() as connection:
            return load_orders(connection, int(time.time()))

    def begin(self, taker: Taker, part: Part, assigned: Assigned) -> Begin:
        """What a process has to know that begins now, when all of its journal is taken. Blocks."""
        (journal,) = (it.log.directory for it in self.opened if it.taker is taker)
        with self.store.read() as connection:
            snapshot = load(connection)
            start = _start(connection, beginning_of(self.store, taker), self._kept_log2)
        return Begin(part=part, journal=str(journal), snapshot=snapshot, start=start, assigned=assigned)

    def begin_site(self, edge: EdgeRecord, assigned: Assigned, drains_s: int | None) -> Begin:
        """What an edge at another site has to know, that has begun a journal. Blocks."""
        assert edge.writer is not None
        with self.store.read() as connection:
            everybody = Snapshot(load_tenants(connection), load_containers(connection), ())
            known = known_to(edge, everybody)
            # Of its own containers alone: 75 edges that ask at once read one fleet so, and not 75.
            machines = load_workers(connection, {it.id for it in known.containers})
            last_machine = int(connection.scalar(select(func.max(workers.c.id))) or 0)
            position = position_of(connection, edge.writer)
            start = _start(connection, beginning_in(connection, position), self._kept_log2)
        return Begin(
            part=Part(edge.part, PARTS),
            journal="",
            snapshot=msgspec.structs.replace(known, workers=machines),
            start=start,
            assigned=assigned,
            drains_s=drains_s,
            places=frozenset((it.tenant, it.container) for it in edge.places),
            numbers=(
                max((it.id for it in everybody.containers), default=0),
                last_machine,
            ),
        )

    def resolve_left(self) -> Journal:
        """The journal of a process that serves no miners: what one before it had under way to upstreams is
        answered in it, as unanswered."""
        with self.store.read() as connection:
            start = _start(connection, self.opened[0].beginning, self._kept_log2)
        clock = BookClock(self._wall_clock, start.beginning.moment_s)
        prices = Prices(start.prices, self.registry, clock=clock)
        return Journal(self.registry, self.opened[0].log, start.beginning, prices)


def _start(connection: Connection, beginning: Beginning, kept_log2: int | None) -> Start:
    return Start(
        beginning=beginning,
        kept_log2=kept_log2,
        tips=CreditRows(connection).tips,
        fee_basis_id=newest_fee_basis(connection),
        prices=known_prices(connection),
    )


class Shares:
    """Shares and blocks: counted, written down, told to our nodes. `on_block` is told of every block's
    result, `on_commit` of what is on disk."""

    def __init__(
        self,
        config: PoolConfig,
        known: Known,
        *,
        on_block: Callable[[BlockResult], None],
        on_commit: Callable[[bytes], None],
    ) -> None:
        registry, start, nodes = known.registry, known.start, known.nodes
        self.engine = Engine(
            line_bytes_max=config.line_bytes_max, keep_credits=True, keep_log2=start.kept_log2
        )
        self.credits = CreditBook(self.engine, start.tips, start.credited)
        clock = BookClock(known.wall_clock, start.beginning.moment_s)
        self.prices = Prices(start.prices, registry, clock=clock)
        self.submits = ForwardedShares(unresolved_max=UNRESOLVED_OF_ALL_MAX)
        process, of = known.process[0] + 1, known.process[1]
        self.outage = Outage(nodes, config.outage_s)
        self.templates = templates = TemplateWatch(nodes)
        self.blocks = BlockSubmission(
            BlockSubmitter(
                nodes.nodes,
                config.data_dir,
                tip_height=lambda: templates.tip_height,
                mine=owned_by(process, of),
                tell=known.tell_block,
            ),
            known.hub,
            finder=registry.finder,
            found_by=registry.found_by,
            paid_by=self.prices.scheme_of,
            on_block=on_block,
            process=process,
        )
        self.journal = Journal(
            registry,
            known.log,
            start.beginning,
            self.prices,
            submits=self.submits,
            credits=self.credits,
            kept=None if start.kept_log2 is None else (self.engine.collect_kept, start.kept_log2),
            on_commit=on_commit,
            blocks_stored=self.blocks.stored,
        )
        self._hub = known.hub
        self.fees = FeeWatch(
            nodes, basis=start.fee_basis_id, keep=self._keep_basis, wanted=registry.pays_by_fees
        )

    async def _keep_basis(self, fees: tuple[BlockFees, ...]) -> int:
        """What blocks paid, in the books before a price has it."""
        number = await self._hub.fee_basis(fees)
        self.prices.note_basis(number, fees)
        return number


class Miners:
    """Who is let in, and served; all of them on our own work at first."""

    def __init__(self, config: PoolConfig, known: Known, shares: Shares) -> None:
        registry = known.registry
        self.job_ids = JobIds()
        self.own = _own_channel(
            shares.blocks, shares.engine, self.job_ids, config.extranonce2_bytes, known.part
        )
        self.admission = Admission(registry, self.own)
        self.silent = SilentMachines(config.vardiff.aim_s)
        self.uncharged = Uncharged(lambda: int(known.wall_clock() // 86_400))
        self.firmware = FirmwareBook()
        registry.newcomers.on_free += [self.silent.forget, self.uncharged.forget]
        self.decisions = Decisions(registry.workers.__contains__, wall_clock=known.wall_clock)
        self._descriptors_kept = (
            DESCRIPTORS_KEPT + (CONNECTIONS_MAX if config.web else 0) + (AT_ONCE if config.control else 0)
        )
        self.connection_limits = ConnectionLimits(self.bounded(config.connection_bounds))
        services = Services(
            engine=shares.engine,
            channel=self.own,
            admission=self.admission,
            placement_guess=self.admission,
            vardiff=config.vardiff,
            start_difficulty_log2=config.start_difficulty_log2,
            usual_log2=lambda: registry.usual_log2(config.start_difficulty_log2),
            silent=self.silent,
            limits=config.session_limits,
            uncharged=self.uncharged,
            firmware=self.firmware,
            decisions=self.decisions,
        )
        self.board = Switchboard(
            services=services,
            connection_limits=self.connection_limits,
            journal=shares.journal,
            limits=config.board_limits,
        )
        shares.submits.on_change = shares.prices.on_opened = self.board.commits.soon

    def bounded(self, bounds: ConnectionBounds) -> ConnectionBounds:
        """By the descriptors that this process may have."""
        return with_descriptors(bounds, kept=self._descriptors_kept)


class Routing:
    """What they mine, and where each of them is to be."""

    def __init__(
        self,
        config: PoolConfig,
        known: Known,
        shares: Shares,
        miners: Miners,
    ) -> None:
        registry, board = known.registry, miners.board
        self.placement = Placement(
            miners.admission,
            board,
            registry,
            move_interval_s=config.move_interval_s,
            decisions=miners.decisions,
        )
        channels = Channels(
            miners.own, engine=shares.engine, job_ids=miners.job_ids, distribution=board.distribution
        )
        work_on = maker_of_work(config, miners.own)
        self.solo = SoloChannels(
            registry,
            network=config.network,
            pool_script=config.payout_script,
            source=shares.blocks,
            channels=channels,
            board=board,
            work_on=work_on,
            wall_clock=known.wall_clock,
        )
        self.drain = Drain(board, miners.connection_limits)
        self.own_work = OwnWork(
            config,
            registry,
            known.hub,
            shares.prices,
            shares.fees,
            admission=miners.admission,
            placement=self.placement,
            solo=self.solo,
            board=board,
            work_on=work_on,
        )
        self.proxy = Proxy(
            config,
            known.hub,
            registry,
            admission=miners.admission,
            placement=self.placement,
            board=board,
            channels=channels,
            own_work=self.own_work,
            prices=shares.prices,
            submits=shares.submits,
            credits=shares.credits,
            engine=shares.engine,
        )
        miners.admission.use(self.proxy.routes, self.solo)
        self.solo.follow()


def _own_channel(
    source: WorkSource, engine: Engine, job_ids: JobIds, miner_bytes: int, part: tuple[int, int]
) -> Channel:
    channel = Channel(
        1,
        source,
        engine=engine,
        job_ids=job_ids,
        # Not from 0 at every start: an upstream's job has no salt of ours, and who gets the prefix of before
        # would find the shares of before, which are duplicates.
        extranonces=ExtranonceSpace(
            EXTRANONCE1_BYTES, first=secrets.randbelow(1 << 8 * EXTRANONCE1_BYTES), share=part
        ),
        extranonce2_size=miner_bytes,
    )
    channel.version_mask = ROLLED_BITS  # of which V1 asks for those of BIP 320 at most
    return channel


def with_descriptors(limits: ConnectionBounds, *, kept: int) -> ConnectionBounds:
    """Never more sessions than this process may open descriptors, which are raised as far as needed."""
    wanted = limits.sessions_max + kept
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # A system may allow less than its own hard limit: then what there was has to do.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = max(1, soft - kept)
    if soft != resource.RLIM_INFINITY and allowed < limits.sessions_max:
        log.info("sessions_bounded_by_descriptors", sessions_max=allowed, descriptors=soft)
        return msgspec.structs.replace(limits, sessions_max=allowed)
    return limits
