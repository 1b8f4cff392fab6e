"""A world of routes: machines of three tenants, orders that begin and end, other pools that change and go.

All between a machine's socket and another pool's is production code: switchboard, admission, placement,
routes, upstream channels and their connections. In the place of the books is a list of what was committed.
It is lived until everybody has gone; `tests.simulation.routes_auditor` judges it.
"""

import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Container
from functools import partial
from hashlib import sha256
from typing import Final, Protocol

import msgspec
import trio

from payouts.rates import Scheme
from pool.books.journal.forwarded_shares import ForwardedShares
from pool.books.journal.rate_epochs import WorkPrice
from pool.fleet.registry import Registry, Snapshot, TenantRecord, parse_worker_name
from pool.hub import Plan
from pool.orders.mining import Assigned, OrderMachines
from pool.orders.rows import OrderRecord
from pool.routing.admission import Admission
from pool.routing.channels import Channels
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
from stratum.miners.turns.connection_limits import ConnectionBounds, ConnectionLimits
from stratum.miners.vardiff import VardiffPolicy
from stratum.tallies import Verdict, unpack_tallies
from stratum.upstream.endpoint import UpstreamEndpoint
from tests.fakes.upstreams import PASSWORD, USER
from tests.simulation.auditor import GOOD, Found, Works
from tests.simulation.course import NOON_S, Clock
from tests.simulation.dice import Dice, dice
from tests.simulation.ground import habits
from tests.simulation.miners import Job, Miner, Share
from tests.simulation.network import Connection, Network
from tests.simulation.other_pools import COINBASE1, OtherPool, Route

TENANTS: Final = {1: "acme", 2: "borealis", 3: "cascade"}
UPSTREAMS: Final = {1: "north", 2: "south", 3: "west"}
OWN: Final[Route] = (0, None)
OWN_COINBASE: Final = b"\x01" * 36
NTIME: Final = 1_700_000_000
OUR_PRICE: Final = WorkPrice(nbits=0x17034219, subsidy_sat=312_500_000, fee_basis_id=None)
VARDIFF: Final = VardiffPolicy(aim_s=3.0, difficulty_log2_min=-32, difficulty_log2_max=-25)
MOVE_INTERVAL_S: Final = 6.0
OUTAGE_S: Final = 4
FEW: Final = 0.3  # of worlds have room for so few on a connection with a byte for our prefix:
FEW_PREFIXES: Final = 3
LIVES_S: Final = (60.0, 150.0)
PAUSES_S: Final = (0.0, 0.3, 2.0, 5.0, 12.0)  # between two things that an operator or fate does
LASTS_S: Final = (1.0, 20.0)
ORDER_S: Final = (10.0, 90.0)
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
        self.may: dict[str, list[tuple[float, frozenset[Route]]]] = {}
        self.network = Network()
        self.over = False
        self.few = self.chance.random() < FEW
        self.pools = {number: OtherPool(self, number, dice(seed, "pool", number)) for number in UPSTREAMS}
        self._height = self._works_made = self._orders = 0
        self._build()
        machines = self.chance.randint(2, 7)
        self.addresses = self.chance.choice((1, 2, machines))
        self.miners = [self._miner(number) for number in range(machines)]

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
        if job.coinbase1.startswith(OWN_COINBASE):
            return frozenset({OWN})
        (number,) = struct.unpack_from("<I", job.coinbase2, 4)
        extranonce1 = job.coinbase1[len(COINBASE1) :][:4].hex()
        return frozenset(self.pools[number].routes[extranonce1])

    def note(self, *words: object) -> None:
        self.course.append(f"{self.clock.monotonic_s():10.4f} {' '.join(map(str, words))}")

    def wrong(self, verdict: str, words: object) -> None:
        self.found.append(Found(verdict, f"at {self.clock.monotonic_s():.2f} s, {words}"))
        self.note("WRONG", self.found[-1])

    def _allowed_lately(self, name: str) -> frozenset[Route]:
        """Who is told other extranonces is moved within seconds, once there is work for it; those of one
        address who have to come again take turns of half a minute."""
        takes = next(it.habits.takes_extranonces for it in self.miners if it.name == name)
        since_s = self.clock.monotonic_s() - (30.0 if takes else 45.0 * len(self.miners))
        history = self.may[name]
        ends_s = [at_s for at_s, _ in history[1:]] + [self.clock.monotonic_s()]
        lately = (may for (_, may), end_s in zip(history, ends_s, strict=True) if end_s >= since_s)
        return frozenset().union(*lately)

    def _note_what_each_may(self) -> None:
        for miner in self.miners:
            may = {OWN}
            order = self.plan.orders.get(self.assigned.get(miner.name, 0))
            numbers = [self.registry.tenants[miner.name.partition(".")[0]].upstream_id]
            if order is not None:
                may.add((order.upstream_id, order.id))
                numbers.append(self.plan.upstreams[order.upstream_id].fallback_id)
            while numbers:
                number = numbers.pop()
                if number is not None and (number, None) not in may:
                    may.add((number, None))
                    numbers.append(self.plan.upstreams[number].fallback_id)
            self.may.setdefault(miner.name, []).append((self.clock.monotonic_s(), frozenset(may)))

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
            session_number=lambda: self._next_session(number),
        )

    def _next_session(self, number: int) -> int:
        session = len(self.names) + 1
        self.names[session] = self.miners[number].name
        return session

    def _connect(self, miner: Miner, address: str, links: Dice) -> Connection | None:
        place = None if self.over else self.connection_limits.enter(address)
        if place is None or isinstance(place, str):
            return None
        connection, far = self.network.connect(miner, links)
        self.board.arrive(far, address, place)
        return connection

    # Own work

    async def _own_work(self) -> None:
        chance = dice(self.seed, "own work")
        while True:
            self._publish_own(other_block=chance.random() < 0.4)
            await trio.sleep(chance.uniform(2.0, 8.0))

    def _publish_own(self, *, other_block: bool) -> None:
        self._height += other_block
        self.board.distribution.publish(self.own, self._work(), rate=self._epoch(OUR_PRICE, 0))

    def _work(self) -> Work:
        self._works_made += 1
        return Work(
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

    # What operators do

    def follow(self) -> None:
        """As Proxy does, when the database says something else."""
        self._note_what_each_may()
        self.routes.follow(self.plan)
        self.placement.reconsider()

    def _upstream(self, record: UpstreamRecord) -> None:
        self.plan = msgspec.structs.replace(self.plan, upstreams={**self.plan.upstreams, record.id: record})

    def _some_upstream(self, chance: Dice) -> int:
        """One that there is by now."""
        number = chance.choice(tuple(UPSTREAMS))
        if number not in self.plan.upstreams:
            host = f"{UPSTREAMS[number]}.test"
            record = UpstreamRecord(
                id=number,
                name=UPSTREAMS[number],
                fallback_id=None,
                outage_s=OUTAGE_S,
                connections=chance.choice((1, 1, 2)),
                suggest_difficulty=None,
                endpoints=(UpstreamEndpoint(host=host, port=3333, user=USER, password=PASSWORD),),
                created_at_s=0,
                created_by="world",
            )
            self._upstream(record)
        return number

    async def terms_change(self, chance: Dice) -> None:
        tenant = self.registry.tenants[chance.choice(tuple(TENANTS.values()))]
        number = None if chance.random() < 0.25 else self._some_upstream(chance)
        self.registry.put_tenant(msgspec.structs.replace(tenant, upstream_id=number))
        self.follow()

    async def order_is_sold(self, chance: Dice) -> None:
        self._orders += 1
        from_s = int(self.clock.true_s()) + chance.choice((0, 0, 20))
        order = OrderRecord(
            id=self._orders,
            name=f"order{self._orders}",
            upstream_id=self._some_upstream(chance),
            hashrate_hps=10**15,
            tolerance_bps=200,
            from_s=from_s,
            until_s=from_s + int(chance.uniform(*ORDER_S)),
            priority=1,
            sat_per_ph_day=1,
            suppliers=((1, 0),),
        )
        self.plan = msgspec.structs.replace(self.plan, orders={**self.plan.orders, order.id: order})
        self.follow()

    async def order_is_removed(self, chance: Dice) -> None:
        gone = chance.choice((0, *self.plan.orders))
        left = {number: it for number, it in self.plan.orders.items() if number != gone}
        self.plan = msgspec.structs.replace(self.plan, orders=left)
        self.follow()

    async def machines_are_assigned(self, chance: Dice) -> None:
        orders = tuple(self.plan.orders)
        some = [it.name for it in self.miners if orders and chance.random() < 0.6]
        self.assigned = {name: chance.choice(orders) for name in some}
        self._note_what_each_may()
        machines = []
        for name, order in self.assigned.items():
            tenant, container, unit = parse_worker_name(name)
            machines.append(OrderMachines(order=order, tenant=tenant, container=container, units=(unit,)))
        version = self.admission.assignments.version + 1
        await self.admission.assignments.tell(Assigned(version=version, machines=tuple(machines)))
        self.placement.reconsider()

    async def upstream_is_another(self, chance: Dice) -> None:
        number = self._some_upstream(chance)
        record = self.plan.upstreams[number]
        endpoint = msgspec.structs.replace(record.endpoints[0], port=chance.randint(3333, 3340))
        fallback = None if chance.random() < 0.3 else self._some_upstream(chance)
        change = chance.choice(
            (
                {"fallback_id": fallback},
                {"endpoints": (endpoint,)},
                {"connections": chance.randint(1, 3)},
                {"suggest_difficulty": chance.choice((None, 1))},
            )
        )
        self._upstream(msgspec.structs.replace(record, **change))
        self.follow()

    # What goes wrong

    async def pool_hangs_up(self, chance: Dice) -> None:
        self.pools[self._some_upstream(chance)].cut()

    async def pool_is_down(self, chance: Dice) -> None:
        pool = self.pools[self._some_upstream(chance)]
        pool.up = False
        pool.cut()
        self.network.after(chance.uniform(*LASTS_S), partial(setattr, pool, "up", True))

    async def pool_is_silent(self, chance: Dice) -> None:
        pool = self.pools[self._some_upstream(chance)]
        pool.silent = True
        self.network.after(chance.uniform(*LASTS_S), partial(setattr, pool, "silent", False))

    async def no_node_answers(self, chance: Dice) -> None:
        self.placement.let_go("no node answers")
        self.network.after(chance.uniform(*LASTS_S), self._a_node_answers)

    def _a_node_answers(self) -> None:
        self.placement.readmit()
        self._publish_own(other_block=True)

    async def lines_are_cut(self, chance: Dice) -> None:
        for miner in self.miners:
            if chance.random() < 0.5:
                miner.hang_up()

    async def _happens(self) -> None:
        chance = dice(self.seed, "operators")
        kinds: dict[Callable[[Dice], Awaitable[None]], int] = {
            self.terms_change: 4,
            self.machines_are_assigned: 4,
            self.order_is_sold: 3,
            self.upstream_is_another: 3,
            self.order_is_removed: 2,
            self.pool_hangs_up: 2,
            self.pool_is_down: 2,
            self.pool_is_silent: 1,
            self.no_node_answers: 1,
            self.lines_are_cut: 1,
        }
        for _ in range(2):
            await self.terms_change(chance)
        ends_s = trio.current_time() + chance.uniform(*LIVES_S)
        while trio.current_time() < ends_s:
            (happens,) = chance.choices([*kinds], [*kinds.values()])
            self.note(happens.__name__.replace("_", " "))
            await happens(chance)
            await trio.sleep(chance.choice(PAUSES_S))

    # Its life

    async def live(self, judge: "Judge") -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.network.run)
            for pool in self.pools.values():
                nursery.start_soon(pool.run)
            await nursery.start(self.board.run)
            await nursery.start(self.routes.run, self._open)
            nursery.start_soon(self.placement.run)
            nursery.start_soon(self._own_work)
            self._note_what_each_may()
            for miner in self.miners:
                self.network.after(self.chance.uniform(0.0, 3.0), miner.start)
            await self._happens()
            await trio.sleep(LASTS_S[1])
            self._all_is_well()
            await trio.sleep(REST_S)
            judge.all_are_where_they_belong()
            for miner in self.miners:
                miner.stop()
            await trio.sleep(QUIET_S)
            judge.all_is_counted()
            self._all_go()
            await trio.sleep(LEAVE_S)
            judge.nothing_is_left()
            nursery.cancel_scope.cancel()

    def _all_is_well(self) -> None:
        """And stays as it is."""
        now_s = self.clock.true_s()
        for pool in self.pools.values():
            pool.calm = True
        orders = {
            number: msgspec.structs.replace(it, until_s=it.until_s + 100_000)
            for number, it in self.plan.orders.items()
            if it.from_s <= now_s < it.until_s
        }
        self.plan = msgspec.structs.replace(self.plan, orders=orders)
        self.follow()

    def _all_go(self) -> None:
        self.over = True
        for miner in self.miners:
            miner.hang_up()
        for tenant in self.registry.tenants.values():
            self.registry.put_tenant(msgspec.structs.replace(tenant, upstream_id=None))
        self.plan = msgspec.structs.replace(self.plan, orders={})
        self.follow()
