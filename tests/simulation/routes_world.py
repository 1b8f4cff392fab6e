"""A world of routes: machines of three tenants, orders that begin and end, other pools that change and go.

All between a machine's socket and another pool's is production code: switchboard, admission, placement,
routes, upstream channels and their connections. In the place of the books is a list of what was committed.
It is lived until everybody has gone; `tests.simulation.routes_auditor` judges it.
"""

import math
import struct
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Container
from functools import partial
from hashlib import sha256
from typing import Final, Protocol

import msgspec
import trio

from payouts.rates import Scheme
from pool.books.journal.forwarded_shares import ForwardedShares
from pool.books.journal.rate_epochs import WorkPrice
from pool.fleet.registry import Registry, Snapshot, TenantRecord
from pool.hub import Plan
from pool.routing.admission import Admission
from pool.routing.channels import Channels
from pool.routing.drain import Drain
from pool.routing.placement import Placement
from pool.routing.routes import Routes
from pool.upstreams.channel import ChannelServices, UpstreamChannel
from pool.upstreams.past_tips import PastTips
from pool.upstreams.rows import UpstreamRecord
from stratum._engine import Engine
from stratum.job import Solution, Work
from stratum.miners.channel import Channel, JobIds, WorkSource
from stratum.miners.contracts import Services
from stratum.miners.extranonce import ExtranonceSpace
from stratum.miners.liveness import SessionLimits
from stratum.miners.switchboard import BoardLimits, Switchboard
from stratum.miners.turns.arrival import Arrival
from stratum.miners.turns.connection_limits import ConnectionBounds, ConnectionLimits
from stratum.miners.vardiff import VardiffPolicy
from stratum.sv2.authority import Credentials
from stratum.sv2.dialect import Sv2
from stratum.sv2.secp256k1 import key_pair
from stratum.tallies import Verdict, unpack_tallies
from tests.simulation.auditor import GOOD, Found, Works
from tests.simulation.course import NOON_S, Clock
from tests.simulation.dice import Dice, dice
from tests.simulation.ground import habits
from tests.simulation.miners import Job, Miner, Share
from tests.simulation.network import Connection, Network
from tests.simulation.other_pools import COINBASE1, OtherPool, Route
from tests.simulation.proxies import (
    CERTIFICATE_S,
    MACHINES_MAX,
    Line,
    Proxy,
    machine,
    proxy,
    root_of,
    translator,
)
from tests.simulation.upstreams import PROMPT_S

TENANTS: Final = {1: "acme", 2: "borealis", 3: "cascade"}
UPSTREAMS: Final = {1: "north", 2: "south", 3: "west"}
OWN: Final[Route] = (0, None)
OWN_COINBASE: Final = b"\x01" * 36
NTIME: Final = 1_700_000_000
OUR_PRICE: Final = WorkPrice(nbits=0x17034219, subsidy_sat=312_500_000, fee_basis_id=None)
VARDIFF: Final = VardiffPolicy(aim_s=3.0, difficulty_log2_min=-32, difficulty_log2_max=-25)
MOVE_INTERVAL_S: Final = 6.0
FEW: Final = 0.3  # of worlds have room for so few on a connection with a byte for our prefix:
FEW_PREFIXES: Final = 3
PROXIES: Final = (0, 1, 2, 2, 3)  # of who speaks V2
OWN_KEPT: Final = 40  # pieces of own work: no machine searches an older one
OVER_S: Final = 20.0  # until all that happened is over
REST_S: Final = 150.0  # all is well: everybody comes to where it belongs
QUIET_S: Final = 70.0  # for shares that nobody answers to be given up
LEAVE_S: Final = 200.0  # orders and terms are over: until nothing of them is left


class ListOfCommits:
    """In the place of the journal: shares that are good, by who found them, rate, difficulty and verdict."""

    def __init__(self, registry: Registry, submits: ForwardedShares, chance: Dice) -> None:
        self.durable = False
        self.counted: Counter[tuple[str | None, int, int, Verdict]] = Counter()
        self._registry, self._submits, self._chance = registry, submits, chance

    async def commit(self, tallies: bytes) -> None:
        registry = self._registry
        gone, changes = registry.newcomers.gone, self._submits.collect()
        good = [it for it in unpack_tallies(tallies + changes.tallies) if it.verdict in GOOD]
        for worker in (*(it.worker for it in good), *(it.worker for it in changes.noted)):
            if worker in registry.newcomers.by_number:
                registry.prove(worker)
        registry.collect_new()
        await trio.sleep(self._chance.uniform(0.0, 0.05))
        for it in good:
            self.counted[registry.finder(it.worker), it.rate, it.difficulty_log2, it.verdict] += it.count
        registry.newcomers.forget(gone)


class NobodyFindsABlock:
    def on_solution(self, solution: Solution) -> None:
        raise AssertionError("no hash is so small")


class Judge(Protocol):
    """Asked when all is well, when nobody works any more, and when everybody has gone."""

    def all_are_where_they_belong(self) -> None: ...
    def all_is_counted(self) -> None: ...
    def nothing_is_left(self) -> None: ...


class RoutesWorld:
    """`told` and `shares` are the miners' ledger, `may` says when each machine was allowed what."""

    def __init__(self, seed: int, clock: Clock) -> None:
        self.seed, self.clock, self.chance = seed, clock, dice(seed, "world")
        self.shares: list[Share] = []
        self.works = Works()
        self.found: list[Found] = []
        self.course: list[str] = []
        self.plan = Plan({}, {})
        self.assigned: dict[str, int] = {}
        self.rates: dict[int, WorkPrice] = {}
        self.newest: dict[int, Job] = {}  # by session
        self.names: dict[int, str] = {}  # of sessions' machines
        self._roots: dict[bytes, frozenset[Route]] = {}  # known ones
        self.may: dict[str, list[tuple[float, frozenset[Route]]]] = {}
        self.network = Network()
        self.well_s = math.inf  # when nothing went wrong any more
        self.over = False
        self.few = self.chance.random() < FEW
        self.pools = {number: OtherPool(self, number, dice(seed, "pool", number)) for number in UPSTREAMS}
        self._height = self._works_made = 0
        self._own_works: deque[Work] = deque(maxlen=OWN_KEPT)
        self._build()
        machines = self.chance.randint(2, 7)
        self.addresses = self.chance.choice((1, 2, machines))
        self.miners = [self._miner(number) for number in range(machines)]
        self.proxies = [self._proxy(number) for number in range(self.chance.choice(PROXIES))]
        self.everybody: tuple[Miner | Proxy, ...] = (*self.miners, *self.proxies)
        self.machines = [it.name for it in self.miners] + [name for it in self.proxies for name in it.names]

    def _build(self) -> None:
        self.engine, job_ids = Engine(), JobIds(NOON_S)
        self.connection_limits = ConnectionLimits(ConnectionBounds())
        self.registry = Registry(Snapshot(tuple(self._tenant(it) for it in TENANTS), (), ()))
        miner_bytes = self.chance.choice((4, 8))
        self.own = Channel(
            1,
            NobodyFindsABlock(),
            engine=self.engine,
            job_ids=job_ids,
            extranonces=ExtranonceSpace(4),
            extranonce2_size=miner_bytes,
        )
        self.admission = Admission(self.registry, self.own)
        self.submits = ForwardedShares(lambda: self.board.commits.soon())
        self.journal = ListOfCommits(self.registry, self.submits, dice(self.seed, "journal"))
        services = Services(
            engine=self.engine,
            channel=self.own,
            admission=self.admission,
            placement_guess=self.admission,
            vardiff=VARDIFF,
            start_difficulty_log2=-30,
            limits=SessionLimits(),
        )
        self.board = Switchboard(
            services=services,
            connection_limits=self.connection_limits,
            journal=self.journal,
            limits=BoardLimits(),
        )
        authority = key_pair()
        self.sv2 = Sv2(Credentials(authority, validity_s=CERTIFICATE_S, wall_clock=self.clock.wall_s))
        self.drain = Drain(self.board, self.connection_limits)
        self.placement = Placement(self.admission, self.board, self.registry, move_interval_s=MOVE_INTERVAL_S)
        self._channels = Channels(
            self.own, engine=self.engine, job_ids=job_ids, distribution=self.board.distribution
        )
        self.routes = Routes(
            needed=self.registry.upstreams,
            on_change=self.placement.reconsider,
            tell=lambda *_: None,
            wall_clock=self.clock.true_s,
        )
        self.upstreams = ChannelServices(
            board=self.board,
            submits=self.submits,
            new_channel=self._new_channel,
            finder=self.registry.finder,
            price=lambda: (OUR_PRICE, 900_000),
            epoch=self._epoch,
            on_event=lambda *_: self.placement.reconsider(),
            on_change=self.placement.reconsider,
            vardiff=VARDIFF,
            tips=PastTips(self.engine.remembers),
            miner_bytes=miner_bytes,
            rng=dice(self.seed, "pauses"),
        )
        self.admission.use(self.routes)

    def _tenant(self, number: int) -> TenantRecord:
        scheme = self.chance.choice((Scheme.PPS, Scheme.PPS, Scheme.PPLNS1))
        return TenantRecord(id=number, name=TENANTS[number], active=True, scheme=scheme, fee_bps=0)

    def _new_channel(
        self, source: WorkSource, prefix_bytes: int, miner_bytes: int, space: ExtranonceSpace | None
    ) -> Channel:
        channel = self._channels.new(source, prefix_bytes, miner_bytes, space)
        if self.few and prefix_bytes == 1:
            channel.extranonces.capacity = FEW_PREFIXES
        return channel

    def _epoch(self, price: WorkPrice, height: int) -> int:
        number = next((it for it, known in self.rates.items() if known == price), len(self.rates) + 1)
        self.rates[number] = price
        return number

    def _open(self, record: UpstreamRecord, order_id: int | None) -> UpstreamChannel:
        connect = partial(self.pools[record.id].connect_for, (record.id, order_id))
        return UpstreamChannel(msgspec.structs.replace(self.upstreams, connect=connect), record, order_id)

    # What is seen

    def told(self, session: int, job: Job, *, resumed: bool) -> Container[str]:
        if not self.few:  # else who found nothing on a prefix gives it to the next one
            self.works.told(session, job, resumed=resumed)
        self.newest[session] = job
        routes_of_it = self.routes_of(job)
        self.note("session", session, "job", job.job_id, job.extranonce1.hex(), job.difficulty, routes_of_it)
        if not routes_of_it & self._allowed_lately(self.names[session]):
            self.wrong("told of work that is not for it", f"{self.names[session]}: {set(routes_of_it)}")
        return ()

    def routes_of(self, job: Job) -> frozenset[Route]:
        """Whose work it is; of a pool that gives connections the same extranonce1 it is theirs together."""
        if job.root:
            return self._routes_of_root(job)
        if job.coinbase1.startswith(OWN_COINBASE):
            return frozenset({OWN})
        (number,) = struct.unpack_from("<I", job.coinbase2, 4)
        extranonce1 = job.coinbase1[len(COINBASE1) :][:4].hex()
        return frozenset(self.pools[number].routes[extranonce1])

    def _routes_of_root(self, job: Job) -> frozenset[Route]:
        """Of which work it is the root, with the extranonce that the machine was told."""
        known = self._roots.get(job.root)
        if known is None:
            own = ((it.coinbase1, it.coinbase2, it.branch) for it in self._own_works)
            found = {OWN} if any(root_of(*it, job.extranonce1) == job.root for it in own) else set()
            for pool in self.pools.values():
                found.update(pool.routes_of_root(job))
            if not found:
                self.wrong("a root of nobody's work", job.root.hex())
            known = self._roots[job.root] = frozenset(found)
        return known

    def note(self, *words: object) -> None:
        self.course.append(f"{self.clock.monotonic_s():10.4f} {' '.join(map(str, words))}")

    def wrong(self, verdict: str, words: object) -> None:
        self.found.append(Found(verdict, f"at {self.clock.monotonic_s():.2f} s, {words}"))
        self.note("WRONG", self.found[-1])

    def _allowed_lately(self, name: str) -> frozenset[Route]:
        """Who is told other extranonces is moved within seconds, once there is work for it; those of one
        address who have to come again take turns of half a minute."""
        takes = all(it.habits.takes_extranonces for it in self.miners if it.name == name)
        since_s = self.clock.monotonic_s() - (30.0 if takes else 45.0 * len(self.miners))
        history = self.may[name]
        ends_s = [at_s for at_s, _ in history[1:]] + [self.clock.monotonic_s()]
        lately = (may for (_, may), end_s in zip(history, ends_s, strict=True) if end_s >= since_s)
        return frozenset().union(*lately)

    def note_what_each_may(self) -> None:
        for name in self.machines:
            may = {OWN}
            order = self.plan.orders.get(self.assigned.get(name, 0))
            numbers = [self.registry.tenants[name.partition(".")[0]].upstream_id]
            if order is not None:
                may.add((order.upstream_id, order.id))
                numbers.append(self.plan.upstreams[order.upstream_id].fallback_id)
            while numbers:
                number = numbers.pop()
                if number is not None and (number, None) not in may:
                    may.add((number, None))
                    numbers.append(self.plan.upstreams[number].fallback_id)
            self.may.setdefault(name, []).append((self.clock.monotonic_s(), frozenset(may)))

    # Machines

    def _miner(self, number: int) -> Miner:
        chance, links = dice(self.seed, "miner", number), dice(self.seed, "links", number)
        tenant = chance.choice(tuple(TENANTS.values()))
        return Miner(
            f"{tenant}.c{number % 2:02}.u{number}",
            msgspec.structs.replace(habits(chance), names_each_share=False),
            self,
            chance,
            connect=lambda miner: self._connect(miner, f"10.0.0.{number % self.addresses}", links),
            after=self.network.after,
            session_number=lambda: self.session_of(self.miners[number].name),
        )

    def _proxy(self, number: int) -> Proxy:
        chance = dice(self.seed, "proxy", number)
        links, tenant = dice(self.seed, "proxy's links", number), chance.choice(tuple(TENANTS.values()))
        manners = chance.choice((translator, translator, proxy, machine))(chance)
        machines = 1 if manners.least is None else chance.randint(1, MACHINES_MAX)
        return Proxy(
            [f"{tenant}.v{number:02}.u{unit}" for unit in range(machines)],
            manners,
            self,
            chance,
            reach=lambda line: self._reach(line, f"10.1.0.{number % 2}", links),
            authority=self.sv2.credentials.public,
        )

    def session_of(self, name: str) -> int:
        session = len(self.names) + 1
        self.names[session] = name
        return session

    def _connect(self, miner: Miner, address: str, links: Dice) -> Connection | None:
        place = None if self.over else self.connection_limits.enter(address)
        if place is None or isinstance(place, str):
            return None
        connection, far = self.network.connect(miner, links)
        self.board.arrive(far, address, place)
        return connection

    def _reach(self, line: Line, address: str, links: Dice) -> Connection | None:
        place = None if self.over else self.connection_limits.enter(address)
        if place is None or isinstance(place, str):
            return None
        connection, far = self.network.connect(line, links)
        self.board.arrive(far, address, place, self._begin_sv2, dear=True)
        return connection

    def _begin_sv2(self, arrival: Arrival) -> int:
        it = arrival
        return self.sv2.connection(self.board, self.connection_limits, it.sock, it.address, it.place)

    # Own work

    async def _own_work(self) -> None:
        chance = dice(self.seed, "own work")
        while True:
            self.publish_own(other_block=chance.random() < 0.4)
            await trio.sleep(chance.uniform(2.0, 8.0))

    def publish_own(self, *, other_block: bool) -> None:
        self._height += other_block
        self.board.distribution.publish(self.own, self._work(), rate=self._epoch(OUR_PRICE, 0))

    def _work(self) -> Work:
        self._works_made += 1
        work = Work(
            prevhash_internal=sha256(b"our block %d" % self._height).digest(),
            coinbase1=OWN_COINBASE + struct.pack("<II", self._height, self._works_made),
            coinbase2=b"\x02" * 60,
            branch=(sha256(b"node").digest(),),
            version=0x20000000,
            nbits=0x1D00FFFF,
            ntime=NTIME + self._works_made,
            ntime_min=NTIME - 600,
            ntime_max=NTIME + 100_000,
            height=self._height,
            network_target=0,
            anew=self._work,
        )
        self._own_works.append(work)
        return work

    def follow(self) -> None:
        """As Proxy does, when the database says something else."""
        self.note_what_each_may()
        self.routes.follow(self.plan)
        self.placement.reconsider()

    # Its life

    async def live(self, judge: Judge, happenings: Callable[[], Awaitable[None]]) -> None:
        """`happenings` returns when no more is going to happen."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.network.run)
            for pool in self.pools.values():
                nursery.start_soon(pool.run)
            await nursery.start(self.board.run)
            await nursery.start(self.routes.run, self._open)
            await nursery.start(self.sv2.run, self.board)
            nursery.start_soon(self.placement.run)
            nursery.start_soon(self.drain.run)
            nursery.start_soon(self._own_work)
            self.note_what_each_may()
            for miner in self.miners:
                self.network.after(self.chance.uniform(0.0, 3.0), miner.start)
            for its in self.proxies:
                nursery.start_soon(its.run)
            await happenings()
            await trio.sleep(OVER_S)
            self._all_is_well()
            await trio.sleep(REST_S)
            judge.all_are_where_they_belong()
            for it in self.everybody:
                it.stop()
            await trio.sleep(QUIET_S)
            judge.all_is_counted()
            self._all_go()
            await trio.sleep(LEAVE_S)
            judge.nothing_is_left()
            nursery.cancel_scope.cancel()

    def _all_is_well(self) -> None:
        """And stays as it is."""
        self.well_s = trio.current_time()
        now_s = self.clock.true_s()
        for pool in self.pools.values():
            pool.calm, pool.answer_s = True, PROMPT_S
        for its in self.proxies:
            its.calm = True
        orders = {
            number: msgspec.structs.replace(it, until_s=it.until_s + 100_000)
            for number, it in self.plan.orders.items()
            if it.from_s <= now_s < it.until_s
        }
        self.plan = msgspec.structs.replace(self.plan, orders=orders)
        self.follow()

    def _all_go(self) -> None:
        self.over = True
        for it in self.everybody:
            it.hang_up()
        for tenant in self.registry.tenants.values():
            self.registry.put_tenant(msgspec.structs.replace(tenant, upstream_id=None))
        self.plan = msgspec.structs.replace(self.plan, orders={})
        self.follow()
