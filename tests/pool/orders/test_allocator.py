"""The allocator at work: what is measured, assigned, noted for the reports and kept for the next start."""

import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from msgspec.structs import replace
from sqlalchemy import Connection, select
from sqlalchemy.exc import OperationalError
from trio.testing import MockClock, wait_all_tasks_blocked

from payouts.rates import Scheme
from payouts.schemas.orders import order_hours
from pool.books.store import Store, StoreError
from pool.fleet.hashrate import HashrateBook
from pool.fleet.registry import ContainerRecord, Registry, Snapshot, TenantRecord, WorkerRecord
from pool.orders.allocator import ALLOCATE_S, FILE, FILE_BYTES_MAX, START_S, OrderAllocator
from pool.orders.delivered import Delivered
from pool.orders.machine_speed import MachineSpeeds
from pool.orders.mining import Assigned, EdgeMining, Mining
from pool.orders.rows import OrderRecord
from stratum.tallies import Verdict, pack_tallies
from tests.fixtures.databases import Databases, fresh_store
from tests.histories.sold_work import order_row, upstream_row
from tests.stages.routing import order
from tests.stages.waiting import until_a_thread_has

ACME, ZINC = 1, 2
BLUE, GREEN = 1, 2  # the orders, by number
THS = 100  # of every machine
LOG2 = 14  # the difficulty of its shares
SHARES = round(THS * 1e12 * ALLOCATE_S / 2 ** (LOG2 + 32))  # in a minute
HPS = SHARES * 2 ** (LOG2 + 32) / ALLOCATE_S
HOUR = 480_000


class StoreThatIsLocked:
    """A store that cannot be written while `error` is set."""

    def __init__(self, store: Store) -> None:
        self.error: Exception | None = None
        self._store = store

    @contextmanager
    def write(self) -> Iterator[Connection]:
        if self.error is not None:
            raise self.error
        with self._store.write() as connection:
            yield connection

    def hours(self) -> list[tuple[int, ...]]:
        """Order, hour, minutes, minutes short and moves of every row."""
        return [row[:5] for row in self._rows()]

    def away(self) -> list[tuple[int, ...]]:
        """Order, hour and minutes in which its upstream was nowhere that machines were."""
        return [(*row[:2], row[5]) for row in self._rows()]

    def _rows(self) -> list[tuple[int, ...]]:
        with self._store.read() as connection:
            return [tuple(row) for row in connection.execute(select(order_hours))]


class TenMachines:
    """Machines 1 to 4 of acme's container 1, 5 to 8 of its container 2, 9 and 10 of zinc; two orders."""

    def __init__(self, store: Store, directory: Path) -> None:
        with store.write() as connection:
            north = upstream_row(connection)
            for name in ("blue", "green"):
                order_row(connection, north, name)
        self.store = StoreThatIsLocked(store)
        wanted_hps = round(2 * HPS)
        self.directory = directory
        self.blue = replace(order(BLUE, north), hashrate_hps=wanted_hps)
        self.green = replace(order(GREEN, north), hashrate_hps=wanted_hps, suppliers=((ACME, 2),))
        self.orders: tuple[OrderRecord, ...] = (self.blue,)
        self.served = {BLUE, GREEN}
        self.connected = dict.fromkeys(range(1, 11), True)
        self.wall_s = HOUR * 3600.0
        self.changes = 0
        tenants = tuple(
            TenantRecord(id=number, name=name, active=True, scheme=Scheme.PPS, fee_bps=0)
            for number, name in ((ACME, "acme"), (ZINC, "zinc"))
        )
        containers = tuple(
            ContainerRecord(id=number, tenant_id=tenant, name=f"c{number}")
            for number, tenant in ((1, ACME), (2, ACME), (3, ZINC))
        )
        units = ((1, ACME, range(1, 5)), (2, ACME, range(5, 9)), (3, ZINC, range(9, 11)))
        workers = tuple(
            WorkerRecord(id=number, tenant_id=tenant, container_id=container, unit=f"u{number}")
            for container, tenant, numbers in units
            for number in numbers
        )
        self.registry = Registry(Snapshot(tenants, containers, workers))
        self.hashrates = HashrateBook(self.registry, trio.current_time())
        self.delivered: dict[int, Delivered] | Exception = {}  # as the books have it
        self.told = Assigned()
        self.allocator = self.start()

    def start(self) -> OrderAllocator:
        """An allocator, as at a start of the pool."""
        store: Any = self.store
        return OrderAllocator(
            store,
            self.registry,
            self.hashrates,
            self.directory,
            edges=self,
            orders=lambda: self.orders,
            speeds=MachineSpeeds(trio.current_time()),
            wall_clock=lambda: self.wall_s,
            delivered=self._delivered,
        )

    def _delivered(self, orders: Sequence[OrderRecord], now_s: int) -> dict[int, Delivered]:
        if isinstance(self.delivered, Exception):
            raise self.delivered
        return self.delivered

    def restarted(self) -> dict[int, int]:
        """The assignments that the next run of the pool begins with."""
        return self.start().assignments

    @property
    def assignments(self) -> dict[int, int]:
        return self.allocator.assignments

    # pool.orders.allocator.Edges

    async def mining(self) -> list[EdgeMining]:
        """All of them at one."""
        names = [(self.registry.known_machine(it), movable) for it, movable in self.connected.items()]
        machines = tuple(
            Mining(tenant=it.tenant, container=it.container, units=(it.unit,), movable=bytes([movable]))
            for it, movable in names
        )
        return [EdgeMining(machines=machines, served=frozenset(self.served), version=self.told.version)]

    async def assign(self, assigned: Assigned) -> None:
        self.told = assigned
        self.changes += 1

    @property
    def names(self) -> dict[str, int]:
        """What was told: orders, by the names of their machines."""
        return {
            f"{it.tenant}.{it.container}.{unit}": it.order for it in self.told.machines for unit in it.units
        }

    @property
    def supply(self) -> dict[int, int]:
        """Machines of every order."""
        return dict(Counter(self.assignments.values()))

    @property
    def file(self) -> Path:
        return self.directory / FILE

    def mine(self, clock: MockClock) -> None:
        """A minute passes, in which all that are connected work as ever."""
        clock.jump(ALLOCATE_S)
        shares = Counter({(it, 1, LOG2, Verdict.ACCEPTED): SHARES for it in self.connected})
        self.hashrates.add(pack_tallies(shares), trio.current_time())

    async def allocate_each_minute(self, clock: MockClock, times: int = 1) -> None:
        for _ in range(times):
            self.mine(clock)
            await self.allocate()

    async def allocate(self) -> None:
        """A look, that knows what the books say."""
        await self.allocator.look_up()
        await self.allocator.allocate()


@pytest.fixture
def store(sqlite_databases: Databases) -> Iterator[Store]:
    with fresh_store(sqlite_databases) as opened:
        yield opened


@pytest.fixture
async def machines(store: Store, tmp_path: Path, mock_clock: MockClock) -> TenMachines:
    return TenMachines(store, tmp_path)


def locked() -> OperationalError:
    return OperationalError("INSERT INTO order_hours ...", {}, Exception("database is locked"))


# Measured, and assigned


async def test_an_order_gets_what_it_is_short_of_and_no_more(
    machines: TenMachines, mock_clock: MockClock
) -> None:
    await machines.allocate_each_minute(mock_clock)
    assert machines.supply == {BLUE: 2}
    assert machines.changes == 1
    before = dict(machines.assignments)
    await machines.allocate_each_minute(mock_clock, times=5)
    assert (machines.assignments, machines.changes) == (before, 1)


async def test_for_what_is_owed_after_its_end_nobody_comes_for_less_than_a_slice_or_leaves_before_it_is_done(
    machines: TenMachines, mock_clock: MockClock
) -> None:
    def owes(for_s: float) -> None:
        machines.orders = (replace(machines.blue, until_s=int(machines.wall_s + for_s), extended=True),)

    owes(599)
    await machines.allocate_each_minute(mock_clock)
    assert machines.supply == {}
    owes(600)
    await machines.allocate_each_minute(mock_clock)
    assert machines.supply == {BLUE: 2}
    owes(61)
    await machines.allocate_each_minute(mock_clock)
    assert machines.supply == {BLUE: 2}
    machines.orders = ()
    await machines.allocate_each_minute(mock_clock)
    assert machines.supply == {}


async def test_an_order_of_a_machine_and_a_half_has_the_second_for_half_of_an_hour(
    machines: TenMachines, mock_clock: MockClock
) -> None:
    machines.blue = replace(machines.blue, hashrate_hps=round(1.5 * HPS))
    machines.orders = (machines.blue,)
    begins_s, hashes, had = int(machines.wall_s), 0.0, []
    for minute in range(60):
        now_s = begins_s + 60 * minute
        machines.wall_s = float(now_s)
        # Of the hour before it had what was sold; and of this one what its machines did.
        machines.delivered = {
            BLUE: Delivered(from_s=begins_s - 3600, until_s=now_s, hashes=1.5 * HPS * 3600 + hashes)
        }
        await machines.allocate_each_minute(mock_clock)
        had.append(machines.supply[BLUE])
        hashes += 60 * HPS * had[-1]
    assert had == [2] * had.count(2) + [1] * had.count(1)
    assert had.count(2) in (29, 30)
    assert machines.changes == 2
    (status,) = machines.allocator.status({})
    assert status.shortage_hps == 0, "it has what it is to have now"


async def test_an_order_without_the_machine_for_its_slice_is_short(
    machines: TenMachines, mock_clock: MockClock
) -> None:
    machines.blue = replace(machines.blue, hashrate_hps=round(0.5 * HPS), suppliers=((ZINC, 3),))
    machines.orders = (machines.blue,)
    now_s = int(machines.wall_s)
    machines.delivered = {BLUE: Delivered(from_s=now_s - 3600, until_s=now_s, hashes=0.5 * HPS * 3600)}
    machines.connected |= {9: False, 10: False}  # they are there, and were moved a moment ago
    await machines.allocate_each_minute(mock_clock)
    (status,) = machines.allocator.status({})
    assert status.shortage_hps == machines.blue.hashrate_hps
    machines.connected |= {9: True, 10: True}
    await machines.allocate_each_minute(mock_clock)
    (status,) = machines.allocator.status({})
    assert (machines.supply[BLUE], status.shortage_hps) == (1, 0)


async def test_while_books_are_away_an_order_has_whole_machines(
    machines: TenMachines, mock_clock: MockClock
) -> None:
    machines.blue = replace(machines.blue, hashrate_hps=round(1.5 * HPS))
    machines.orders = (machines.blue,)
    machines.delivered = locked()
    with structlog.testing.capture_logs() as logs:
        await machines.allocate_each_minute(mock_clock, times=3)
    assert machines.supply == {BLUE: 2}
    assert [it["event"] for it in logs].count("orders_not_read") == 3


async def test_one_look_that_books_do_not_answer_is_a_look_like_the_one_before(
    machines: TenMachines, mock_clock: MockClock
) -> None:
    machines.blue = replace(machines.blue, hashrate_hps=round(1.5 * HPS))
    machines.orders = (machines.blue,)
    now_s = int(machines.wall_s)
    done = Delivered(from_s=now_s - 3600, until_s=now_s, hashes=1.5 * HPS * 3600 + HPS * 1800)
    machines.delivered = {BLUE: done}  # its slice of this hour is done
    await machines.allocate_each_minute(mock_clock)
    assert machines.supply == {BLUE: 1}
    machines.delivered = locked()
    await machines.allocate_each_minute(mock_clock)
    assert machines.supply == {BLUE: 1}


async def test_only_its_suppliers_machines_are_moved(machines: TenMachines, mock_clock: MockClock) -> None:
    machines.blue = replace(machines.blue, hashrate_hps=round(20 * HPS), suppliers=((ACME, 2), (ZINC, 3)))
    machines.orders = (machines.blue,)
    await machines.allocate_each_minute(mock_clock, times=2)
    assert sorted(machines.assignments) == [5, 6, 7, 8, 9, 10]


async def test_a_machine_that_is_not_connected_supplies_nothing_and_is_not_moved(
    machines: TenMachines, mock_clock: MockClock
) -> None:
    await machines.allocate_each_minute(mock_clock)
    gone = set(machines.assignments)
    for worker in gone:
        del machines.connected[worker]
    await machines.allocate_each_minute(mock_clock)
    assert {worker for worker in machines.assignments if worker in machines.connected} == set(
        machines.assignments
    ) - gone
    assert machines.supply == {BLUE: 4}, "who is silent stays where it is"
    (status,) = machines.allocator.status({})
    assert (status.supply_hps, status.machines) == (0.0, 4)
    assert status.shortage_hps == machines.blue.hashrate_hps


async def test_a_machine_that_was_moved_a_moment_ago_stays(
    machines: TenMachines, mock_clock: MockClock
) -> None:
    machines.connected = {worker: worker in (1, 2, 3) for worker in machines.connected}
    machines.blue = replace(machines.blue, hashrate_hps=round(8 * HPS))
    machines.orders = (machines.blue,)
    await machines.allocate_each_minute(mock_clock)
    assert sorted(machines.assignments) == [1, 2, 3]


async def test_the_machines_of_an_order_that_is_over_are_free(
    machines: TenMachines, mock_clock: MockClock
) -> None:
    await machines.allocate_each_minute(mock_clock)
    machines.orders = ()
    await machines.allocate_each_minute(mock_clock)
    assert (machines.assignments, machines.changes) == ({}, 2)
    assert machines.restarted() == {}
    await machines.allocate_each_minute(mock_clock)
    assert machines.changes == 2


async def test_an_order_whose_upstream_is_away_neither_gets_nor_gives(
    machines: TenMachines, mock_clock: MockClock
) -> None:
    machines.blue = replace(machines.blue, suppliers=((ACME, 2),), hashrate_hps=round(4 * HPS))
    machines.orders = (machines.blue,)
    await machines.allocate_each_minute(mock_clock)
    assert machines.supply == {BLUE: 4}
    machines.served = {GREEN}
    machines.green = replace(machines.green, priority=1)
    machines.orders = (machines.blue, machines.green)
    await machines.allocate_each_minute(mock_clock, times=2)
    assert machines.supply == {BLUE: 4}, "though green is served first, and short"
    machines.blue = replace(machines.blue, suppliers=((ACME, 0),), hashrate_hps=round(8 * HPS))
    machines.orders = (machines.blue, machines.green)
    await machines.allocate_each_minute(mock_clock)
    assert machines.supply == {BLUE: 4}, "nor does it get any"
    assert [(it.order_id, it.supply_hps) for it in machines.allocator.status({})] == [
        (BLUE, 0.0),
        (GREEN, 0.0),
    ]


async def test_speeds_are_known_before_there_is_an_order(
    machines: TenMachines, mock_clock: MockClock
) -> None:
    """Else the first one is filled by the luck of the last five minutes."""
    machines.orders = ()
    await machines.allocate_each_minute(mock_clock, times=60)
    shares = Counter({(it, 1, LOG2, Verdict.ACCEPTED): SHARES * 5 // 4 for it in machines.connected})
    mock_clock.jump(ALLOCATE_S)
    machines.hashrates.add(pack_tallies(shares), trio.current_time())  # what chance does
    machines.orders = (replace(machines.blue, hashrate_hps=round(4 * HPS)),)
    await machines.allocate()
    (status,) = machines.allocator.status({})
    assert status.supply_hps == 0.0
    assert machines.supply == {BLUE: 4}
    await machines.allocate()
    assert machines.allocator.status({})[0].supply_hps == pytest.approx(4 * HPS, rel=0.01)


# Noted


async def test_a_minute_is_noted_as_it_was_measured_before_the_moves(
    machines: TenMachines, mock_clock: MockClock
) -> None:
    await machines.allocate_each_minute(mock_clock)
    assert machines.store.hours() == [(BLUE, HOUR, 1, 1, 2)]
    await machines.allocate_each_minute(mock_clock)
    assert machines.store.hours() == [(BLUE, HOUR, 2, 1, 2)], "what it has now is enough"
    machines.orders = (replace(machines.blue, hashrate_hps=round(2 * HPS * 1.015)),)
    await machines.allocate_each_minute(mock_clock)
    machines.orders = (machines.blue,)
    assert machines.store.hours() == [(BLUE, HOUR, 3, 1, 2)], "and within the tolerance too"
    machines.wall_s += 3600
    del machines.connected[next(iter(machines.assignments))]
    await machines.allocate_each_minute(mock_clock)
    assert machines.store.hours() == [(BLUE, HOUR, 3, 1, 2), (BLUE, HOUR + 1, 1, 1, 1)]


async def test_minutes_in_which_the_buyer_is_away_are_noted_and_none_in_which_machines_are(
    machines: TenMachines, mock_clock: MockClock
) -> None:
    """A site that is cut off, or has no machine, is not the buyer's fault."""
    await machines.allocate_each_minute(mock_clock)
    assert machines.store.away() == [(BLUE, HOUR, 0)]
    machines.served = {GREEN}
    await machines.allocate_each_minute(mock_clock)
    assert machines.store.away() == [(BLUE, HOUR, 1)]
    machines.connected.clear()
    await machines.allocate_each_minute(mock_clock)
    assert machines.store.away() == [(BLUE, HOUR, 1)]
    assert machines.store.hours()[0][2] == 3


async def test_a_move_from_order_to_order_counts_for_both(
    machines: TenMachines, mock_clock: MockClock
) -> None:
    """The lower priority gives; a machine of nobody's counts for who got it."""
    machines.blue = replace(machines.blue, suppliers=((ACME, 2),), priority=9)
    machines.orders = (machines.blue,)
    machines.connected = dict.fromkeys((5, 6), True)
    await machines.allocate_each_minute(mock_clock)
    machines.green = replace(machines.green, priority=1)
    machines.orders = (machines.blue, machines.green)
    await machines.allocate_each_minute(mock_clock)
    assert machines.supply == {GREEN: 2}
    assert machines.store.hours() == [(BLUE, HOUR, 2, 1, 4), (GREEN, HOUR, 1, 1, 2)]


async def test_what_is_short_is_logged_and_told(machines: TenMachines, mock_clock: MockClock) -> None:
    machines.blue = replace(machines.blue, hashrate_hps=round(10 * HPS))
    machines.orders = (machines.blue,)
    await machines.allocate_each_minute(mock_clock)
    with structlog.testing.capture_logs() as logs:
        await machines.allocate_each_minute(mock_clock)
    (short,) = [it for it in logs if it["event"] == "order_short"]
    assert (short["order"], short["missing_ths"]) == ("order1", round(2 * HPS / 1e12))
    (status,) = machines.allocator.status({BLUE: 3})
    assert (status.order_id, status.machines, status.moving) == (BLUE, 8, 3)
    assert status.supply_hps == pytest.approx(8 * HPS, rel=1e-6)
    assert status.shortage_hps == pytest.approx(2 * HPS, rel=1e-6)


@pytest.mark.parametrize("error", [locked(), StoreError("SQLite does not take synchronous = 2 here")])
async def test_a_minute_that_cannot_be_noted_is_logged_and_the_next_one_is(
    error: Exception, machines: TenMachines, mock_clock: MockClock
) -> None:
    machines.store.error = error
    with structlog.testing.capture_logs() as logs:
        await machines.allocate_each_minute(mock_clock)
    (lost,) = [it for it in logs if it["log_level"] == "error"]
    assert (lost["event"], lost["short"], lost["moves"]) == ("order_minute_not_noted", ["order1"], 2)
    assert lost["reason"] in ("database is locked", str(error))
    assert machines.supply == {BLUE: 2}
    assert machines.restarted() == machines.assignments
    machines.store.error = None
    await machines.allocate_each_minute(mock_clock)
    assert machines.store.hours() == [(BLUE, HOUR, 1, 0, 0)]


# Over a restart


async def test_after_a_start_machines_are_measured_and_nobody_is_moved(
    machines: TenMachines, mock_clock: MockClock
) -> None:
    """Those that are not back yet are not missing."""
    await machines.allocator.look_up()  # a thread has no virtual time: the minutes here wait for none
    async with trio.open_nursery() as nursery:
        nursery.start_soon(machines.allocator.run)
        for _ in range(round(START_S / ALLOCATE_S) - 1):
            await wait_all_tasks_blocked()
            machines.mine(mock_clock)
            await wait_all_tasks_blocked()
        assert (machines.assignments, machines.store.hours()) == ({}, [])
        machines.mine(mock_clock)
        await until_a_thread_has(lambda: bool(machines.changes))
        nursery.cancel_scope.cancel()
    assert machines.supply == {BLUE: 2}


async def test_the_next_start_knows_where_everybody_was(machines: TenMachines, mock_clock: MockClock) -> None:
    with structlog.testing.capture_logs() as logs:
        assert machines.restarted() == {}
    assert logs == [], "a first start is nothing to speak of"
    await machines.allocate_each_minute(mock_clock)
    assert machines.restarted() == machines.assignments != {}
    assert stat.S_IMODE(machines.file.stat().st_mode) == 0o600
    assert list(machines.directory.glob("assignments*")) == [machines.file]


async def test_a_worker_that_is_gone_from_the_books_is_forgotten(machines: TenMachines) -> None:
    machines.file.write_bytes(b'{"1": 1, "4000": 1, "-3": 1}')
    assert machines.restarted() == {1: 1}


async def test_an_order_that_is_gone_frees_its_machines(machines: TenMachines, mock_clock: MockClock) -> None:
    machines.file.write_bytes(b'{"1": 99, "2": -7, "3": 9223372036854775807}')
    machines.allocator = machines.start()
    machines.orders = ()
    await machines.allocate_each_minute(mock_clock)
    assert machines.assignments == {}


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\x00" * 4096,
        b"\xff\xfe",
        b"null",
        b"[[1, 2]]",
        b'{"1": "blue"}',
        b'{"one": 1}',
        b'{"\xc3\x28": 1}',
        b'{"1": 1.5}',
        b'{"1": 1',
        b"[" * 1_000_000,
        b'{"1": ' * 100_000,
        b'{"1": 1' + b" " * FILE_BYTES_MAX + b"}",
    ],
)
async def test_garbage_is_ignored_and_replaced(
    garbage: bytes, machines: TenMachines, mock_clock: MockClock
) -> None:
    machines.file.write_bytes(garbage)
    with structlog.testing.capture_logs() as logs:
        machines.allocator = machines.start()
    assert machines.assignments == {}
    assert [it["event"] for it in logs] == ["assignments_not_read"]
    await machines.allocate_each_minute(mock_clock)
    assert machines.restarted() == machines.assignments != {}


async def test_numbers_beyond_all_bounds_are_no_orders(machines: TenMachines, mock_clock: MockClock) -> None:
    machines.file.write_bytes(b'{"1": 1' + b"0" * 300 + b"}")
    machines.allocator = machines.start()
    await machines.allocate_each_minute(mock_clock)
    assert set(machines.assignments.values()) == {BLUE}


async def test_what_cannot_be_written_is_logged_and_tried_again(
    machines: TenMachines, mock_clock: MockClock
) -> None:
    """And what was written before is still whole."""
    await machines.allocate_each_minute(mock_clock)
    before = dict(machines.assignments)
    in_the_way = machines.directory / "assignments.new"
    in_the_way.mkdir()
    machines.blue = replace(machines.blue, hashrate_hps=round(4 * HPS))
    machines.orders = (machines.blue,)
    with structlog.testing.capture_logs() as logs:
        await machines.allocate_each_minute(mock_clock)
    assert "assignments_not_written" in [it["event"] for it in logs]
    assert machines.supply == {BLUE: 4}
    assert machines.restarted() == before
    in_the_way.rmdir()
    await machines.allocate_each_minute(mock_clock)
    assert machines.restarted() == machines.assignments


async def test_the_file_is_left_alone_while_nobody_moves(
    machines: TenMachines, mock_clock: MockClock
) -> None:
    await machines.allocate_each_minute(mock_clock)
    machines.file.unlink()
    await machines.allocate_each_minute(mock_clock, times=3)
    assert not machines.file.exists()
