"""An order whose machines are served by several: each is asked and told over a link, and moves its own.

Sessions, placement and routes are production's, on upstreams that the test steers; every edge numbers its
machines in its own way. Time passes when the test says so.
"""

import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, Protocol, cast

import pytest
import structlog
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from payouts.rates import Scheme
from pool.books.store import Store
from pool.edges.edge import Edge
from pool.edges.edges import Edges
from pool.fleet.hashrate import HashrateBook
from pool.fleet.registry import ContainerRecord, Registry, Snapshot, TenantRecord, WorkerRecord
from pool.link import Link
from pool.orders.allocator import ALLOCATE_S, OrderAllocator
from pool.orders.machine_speed import MachineSpeeds
from pool.orders.mining import PIECE, TOLD_MAX, Assigned, EdgeMining, Mining, all_mining
from pool.orders.rows import OrderRecord
from pool.orders.status import OrderStatus
from pool.questions import asking
from pool.serving import Serving
from stratum.tallies import Verdict, pack_tallies
from tests.fixtures.databases import Databases, fresh_store
from tests.histories.sold_work import order_row, upstream_row
from tests.stages.routing import (
    NORTH,
    PlacementDesk,
    UpstreamThatTheTestSteers,
    is_on,
    order,
    routing,
    upstream,
)
from tests.stages.sessions import Miner

BLUE = 1
MACHINES = 12  # of a site, half of which come to each edge
LOG2 = 14
SHARES = round(100e12 * ALLOCATE_S / 2 ** (LOG2 + 32))  # of each in a minute
HPS = SHARES * 2 ** (LOG2 + 32) / ALLOCATE_S
NAMES = [f"acme.c01.u{number}" for number in range(1, MACHINES + 1)]


class Place:
    """Whoever serves miners there, as the hub asks him: in another process, which may be gone."""

    def __init__(self, first_number: int) -> None:
        self.desk = PlacementDesk()
        self._first_number = first_number
        self.miners: dict[str, Miner] = {}
        self.dies_when_asked = False
        self._hub: Link | None = None
        self._there: Link | None = None

    def knows(self, registry: Registry) -> None:
        """The machines of the books, in another order and with other numbers."""
        for at, number in enumerate(sorted(registry.workers, reverse=True)):
            machine = registry.known_machine(number)
            self.desk.registry.learn(replace(machine, number=self._first_number + at))

    async def serves(self, nursery: trio.Nursery, by: object = None) -> None:
        """It begins."""
        here, there = socket.socketpair()
        self._hub, self._there = Link(here), Link(there)
        if by is None:
            desk = self.desk
            serving = Serving(
                cast(Any, SimpleNamespace(registry=desk.registry)),
                cast(Any, None),
                cast(Any, SimpleNamespace(admission=desk.admission)),
                cast(
                    Any, SimpleNamespace(placement=desk.placement, proxy=SimpleNamespace(routes=desk.routes))
                ),
                cast(Any, None),
            )
            self._there.answer(Edge, serving)
        else:
            self._there.answer(Liar, by)
        await nursery.start(self._hub.run)
        await nursery.start(self._there.run)

    async def dies(self) -> None:
        assert self._there is not None
        await self._there.aclose()
        for miner in self.miners.values():
            miner.leave()
        self.miners.clear()

    # pool.edges.edge.Edge, as far as orders go

    async def mining(self) -> EdgeMining:
        assert self._hub is not None
        said: EdgeMining = await asking(self._hub, Edge).mining()
        if self.dies_when_asked:
            await self.dies()
        return said

    async def assign(self, assigned: Assigned) -> None:
        assert self._hub is not None
        await asking(self._hub, Edge).assign(assigned)

    # Miners

    def comes(self, *names: str) -> None:
        for name in names:
            self.miners[name] = self.desk.miner(name)

    @property
    def blue(self) -> UpstreamThatTheTestSteers:
        return self.desk.order(BLUE)

    @property
    def sold(self) -> set[str]:
        """Machines here that mine for the order."""
        self.desk.placement.place()
        return {name for name, miner in self.miners.items() if is_on(miner, self.blue)}


class Hub:
    """One order of so many machines, and two places that serve half of them each."""

    def __init__(self, store: Store, clock: MockClock, directory: Any, machines: int) -> None:
        with store.write() as connection:
            order_row(connection, upstream_row(connection), "blue")
        self._clock = clock
        self.blue: OrderRecord = replace(order(BLUE), hashrate_hps=round(machines * HPS))
        tenant = TenantRecord(id=1, name="acme", active=True, scheme=Scheme.PPS, fee_bps=0)
        workers = tuple(
            WorkerRecord(id=number, tenant_id=1, container_id=1, unit=f"u{number}")
            for number in range(1, MACHINES + 1)
        )
        place = ContainerRecord(id=1, tenant_id=1, name="c01")
        self.registry = Registry(Snapshot((tenant,), (place,), workers))
        self.hashrates = HashrateBook(self.registry, trio.current_time())
        self.places = [Place(first_number) for first_number in (500, 900)]
        self.edges = Edges(
            [cast(Edge, it) for it in self.places],
            orders=lambda elsewhere: self.allocator.status(elsewhere),
        )
        self.allocator = OrderAllocator(
            store,
            self.registry,
            self.hashrates,
            directory,
            edges=self.edges,
            orders=lambda: (self.blue,),
            speeds=MachineSpeeds(trio.current_time()),
            wall_clock=lambda: 1_700_000_000.0,
        )

    async def minute(self, mines: Iterable[str] | None = None) -> OrderStatus:
        """A minute passes, in which all machines that are served mine, and ends with a look."""
        self._clock.jump(ALLOCATE_S)
        here = {name for it in self.places for name in it.miners} if mines is None else set(mines)
        shares = Counter(
            {(number, 1, LOG2, Verdict.ACCEPTED): SHARES for name in here if (number := self.number(name))}
        )
        self.hashrates.add(pack_tallies(shares), trio.current_time())
        await self.allocator.look_up()
        await self.allocator.allocate()
        return self.status

    def number(self, name: str) -> int | None:
        return self.registry.called(name)

    @property
    def status(self) -> OrderStatus:
        (status,) = self.allocator.status({})
        return status

    @property
    def sold(self) -> set[str]:
        return {name for it in self.places for name in it.sold}


@pytest.fixture
def store(sqlite_databases: Databases) -> Iterator[Store]:
    with fresh_store(sqlite_databases) as opened:
        yield opened


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time stands still while machines are looked at."""
    monkeypatch.setattr("pool.serving.REST_S", 0)


class Opened(Protocol):
    def __call__(self, machines: int) -> Any: ...


@pytest.fixture
def a_hub(store: Store, mock_clock: MockClock, tmp_path: Any) -> Opened:
    @asynccontextmanager
    async def opened(machines: int) -> AsyncIterator[tuple[Hub, trio.Nursery]]:
        hub = Hub(store, mock_clock, tmp_path, machines)
        one, two = (it.desk for it in hub.places)
        async with trio.open_nursery() as links, routing(one, rounds=False), routing(two, rounds=False):
            for at, place in enumerate(hub.places):
                place.knows(hub.registry)
                place.desk.follow(upstream(NORTH), orders=(order(BLUE),))
                place.desk.up(place.blue)
                await place.serves(links)
                place.comes(*NAMES[at::2])
            try:
                yield hub, links
            finally:
                mock_clock.autojump_threshold = 0  # no thread works any more; channels take their time to end
            links.cancel_scope.cancel()

    return opened


def enough(hub: Hub) -> bool:
    """Whether what is delivered is within the tolerance, either way."""
    off_hps = abs(hub.status.supply_hps - hub.blue.hashrate_hps)
    return off_hps <= hub.blue.hashrate_hps * hub.blue.tolerance_bps / 10_000


async def test_machines_of_several_are_one_orders_and_each_moves_its_own(
    a_hub: Opened, mock_clock: MockClock
) -> None:
    async with a_hub(8) as (hub, _):
        await hub.minute()
        assert len(hub.sold) == 8
        assert all(it.sold for it in hub.places), "six of each is all that one has"
        await hub.minute()
        assert enough(hub)
        assert (hub.status.machines, hub.status.shortage_hps) == (8, 0.0)
        before = hub.sold
        await hub.minute()
        assert hub.sold == before


async def test_a_place_that_dies_is_made_up_for_and_has_what_is_in_force_when_it_is_back(
    a_hub: Opened, mock_clock: MockClock
) -> None:
    async with a_hub(6) as (hub, links):
        one, two = hub.places
        await hub.minute()
        lost = two.sold
        assert lost, "the test is of nothing"
        await two.dies()
        status = await hub.minute()
        assert status.supply_hps == pytest.approx((6 - len(lost)) * HPS, rel=0.01)
        assert len(one.sold) == 6, "with what is connected elsewhere"
        await hub.minute()
        assert enough(hub)
        two.desk.admission.assignments = type(two.desk.admission.assignments)(two.desk.registry)
        await two.serves(links)
        await hub.minute()
        two.comes(*NAMES[1::2])
        assert two.sold == {it for it in NAMES[1::2] if hub.allocator.assignments.get(hub.number(it) or 0)}
        for _ in range(12):  # until all may be moved again
            await hub.minute()
        assert enough(hub), "and what is too much then is released"


async def test_one_that_dies_between_question_and_decision_is_made_up_for_by_the_next_look(
    a_hub: Opened, mock_clock: MockClock
) -> None:
    async with a_hub(6) as (hub, _):
        one, two = hub.places
        two.dies_when_asked = True
        await hub.minute()
        assert len(one.sold) < 6, "the plan counts on some that are gone"
        two.dies_when_asked = False
        await hub.minute()
        assert len(one.sold) == 6
        await hub.minute()
        assert enough(hub)


async def test_machines_that_come_to_another_place_are_their_orders_there_at_once(
    a_hub: Opened, mock_clock: MockClock
) -> None:
    async with a_hub(6) as (hub, _):
        one, two = hub.places
        await hub.minute()
        moved = two.sold
        await two.dies()
        one.comes(*NAMES[1::2])
        assert {name for name in moved if is_on(one.miners[name], one.blue)} == moved, "before any round"
        await hub.minute()
        assert enough(hub), "nobody had to move"


async def test_a_channel_that_is_down_at_one_place_delivers_nothing_there(
    a_hub: Opened, mock_clock: MockClock
) -> None:
    async with a_hub(6) as (hub, _):
        one, two = hub.places
        await hub.minute()
        of_two = two.sold
        assert of_two
        two.desk.lost(two.blue)
        status = await hub.minute()
        assert status.supply_hps == pytest.approx((6 - len(of_two)) * HPS, rel=0.01)
        assert len(one.sold) == 6
        assigned = {it for it in NAMES[1::2] if hub.allocator.assignments.get(hub.number(it) or 0)}
        assert assigned == of_two, "those that are there stay its, and no others are sent"
        await hub.minute()
        assert enough(hub)
        two.desk.up(two.blue)
        for _ in range(12):  # until all may be moved again
            await hub.minute()
        assert enough(hub)
        assert len(hub.sold) == 6


async def test_an_order_that_is_served_nowhere_moves_nobody(a_hub: Opened, mock_clock: MockClock) -> None:
    async with a_hub(6) as (hub, _):
        for it in hub.places:
            it.desk.lost(it.blue)
        status = await hub.minute()
        assert (status.supply_hps, status.machines) == (0.0, 0)
        assert status.shortage_hps == hub.blue.hashrate_hps


async def test_a_machine_that_mines_at_two_places_counts_once(a_hub: Opened, mock_clock: MockClock) -> None:
    async with a_hub(MACHINES) as (hub, _):
        one, two = hub.places
        two.comes(*one.miners)
        await hub.minute()
        status = await hub.minute()
        assert status.supply_hps == pytest.approx(MACHINES * HPS, rel=0.01)
        two.desk.lost(two.blue)
        status = await hub.minute()
        assert status.supply_hps == 0.0, "part of each delivers nothing"


async def test_names_that_nobody_has_any_more_are_nobodys(a_hub: Opened, mock_clock: MockClock) -> None:
    async with a_hub(6) as (hub, _):
        await hub.minute()
        gone = sorted(hub.allocator.assignments)[:2]
        names = {hub.registry.name_of(number) for number in gone}
        hub.registry.remove_workers(gone)  # at the places they mine on, and are told of it a moment later
        status = await hub.minute()
        assert status.machines == 6
        assert not names & {
            f"{of.tenant}.{of.container}.{unit}"
            for of in hub.allocator.assigned.machines
            for unit in of.units
        }
        assert len(hub.sold) == 6
        assert not names & hub.sold


# Nonsense


class Liar(Protocol):
    """Answers to the same question, of another type."""

    async def mining(self) -> list[str]: ...


class AnswersSomethingElse:
    async def mining(self) -> list[str]:
        return ["acme.c01.u1"]


async def test_one_that_answers_nonsense_is_as_one_that_is_away(a_hub: Opened, mock_clock: MockClock) -> None:
    async with a_hub(6) as (hub, links):
        one, two = hub.places
        await two.dies()
        await two.serves(links, AnswersSomethingElse())
        with structlog.testing.capture_logs() as logs:
            await hub.minute()
        assert len(one.sold) == 6
        assert sum(it["event"] == "machines_not_told" for it in logs) == 2, "asked and told"


def said(units: Sequence[str], movable: bytes, *, served: frozenset[int] = frozenset({BLUE})) -> EdgeMining:
    machines = (Mining(tenant="acme", container="c01", units=tuple(units), movable=movable),)
    return EdgeMining(machines=machines, served=served, version=1)


async def test_what_they_say_is_bounded_and_of_machines_that_there_are() -> None:
    asked: list[str] = []

    def number_of(tenant: str, container: str, unit: str) -> int | None:
        asked.append(unit)
        return int(unit[1:]) if unit.startswith("u") else None

    found = await all_mining(
        [
            said(["u1", "u2", "nobody", "u5", "u3"], b"\x01\x00\x01\x01", served=frozenset({BLUE, 99})),
            said(["u2", "u1", "u4", "u4"], b"\x01\x00\x01\x01"),
        ],
        number_of,
    )
    assert found.delivers == {1: {BLUE}, 2: {BLUE}, 4: {BLUE}, 5: {BLUE, 99}}, "of u3 too little was said"
    assert found.movable == {4, 5}, "both have to be able to"
    assert found.served == {BLUE, 99}
    asked.clear()
    many = [f"u{number}" for number in range(TOLD_MAX + PIECE)]
    found = await all_mining([said(many, b"\x01" * len(many))], number_of)
    assert len(found.delivers) == len(asked) == TOLD_MAX
