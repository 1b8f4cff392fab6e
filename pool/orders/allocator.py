"""Allocation at work: once a minute it measures every order, and assigns the machines that should move.

What it decides is `pool.orders.allocation.plan`; here is where the figures come from and where the decisions
go: to those who serve miners, each of whom moves its own machines, into the hours of the reports, and into a
file beside the database, so that after a restart machines go to where they were at once. Without that file
the allocator begins anew.

Machines of one who does not answer are not connected, and a machine whose order cannot be delivered where it
mines delivers nothing: others make up for them by the same plan, and those stay the order's, for they are
expected back.

What cannot be written is logged and does not stop it: machines are moved all the same, and whether the pool
may go on without its database is for the journal to say.

Must not know: sessions and channels, how a plan is made, SQL.
"""

import os
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import msgspec
import structlog
import trio

from pool.books.store import DATABASE_ERRORS, Store, words_of
from pool.fleet.hashrate import HashrateBook
from pool.fleet.registry import Registry
from pool.orders.allocation import Demand, Machine, Plan, plan
from pool.orders.delivered import Delivered
from pool.orders.machine_speed import Floats, MachineSpeeds
from pool.orders.mining import PIECE, AllMining, Assigned, EdgeMining, all_mining, assigned_by_name
from pool.orders.rows import OrderRecord, note_minute
from pool.orders.slices import HALF, Aim, aims
from pool.orders.status import OrderStatus
from stratum.unreadable import NOT_READ

log = structlog.get_logger()

ALLOCATE_S: Final = 60.0
# After a start machines come back over a minute or two; those that are not back yet are not missing.
START_S: Final = 180.0
BPS: Final = 10_000
FILE: Final = "assignments.json"
FILE_BYTES_MAX: Final = 16 << 20  # 22,400 machines take half a megabyte


class Edges(Protocol):
    """All who serve miners."""

    async def mining(self) -> Sequence[EdgeMining]:
        """What each says that answers."""

    async def assign(self, assigned: Assigned) -> None:
        """Tell them."""


class OrderAllocator:
    """`orders` reads those that are not over from the books; it blocks, and raises DATABASE_ERRORS.

    `assignments` are of workers to orders, `assigned` the same as it is told. `leaving` are machines that are
    off, or about to be: orders do without them. `delivered` is what the books say that orders were given, up
    to where they are; it blocks, and raises as `orders` does. A slice of a machine is of `slice_s` at least.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        hashrates: HashrateBook,
        data_dir: Path,
        *,
        edges: Edges,
        orders: Callable[[], tuple[OrderRecord, ...]],
        speeds: MachineSpeeds,
        wall_clock: Callable[[], float],
        leaving: Callable[[], frozenset[int]] = frozenset,
        delivered: Callable[[Sequence[OrderRecord], int], Mapping[int, Delivered]] = lambda orders, now_s: {},
        slice_s: float = 600.0,
    ) -> None:
        self._store = store
        self._registry = registry
        self._hashrates = hashrates
        self._file = data_dir / FILE
        self._edges = edges
        self._read_orders = orders
        self._leaving = leaving
        self._delivered = delivered
        self.slice_s = slice_s
        self._given: Mapping[int, Delivered] = {}
        self._known: tuple[OrderRecord, ...] = ()
        self._changed = trio.Event()
        self._wall_clock = wall_clock
        self._speeds = speeds
        self._short_hps: dict[int, float] = {}  # orders below their tolerance, as measured last
        self._plan = Plan(moves=(), measured_hps={}, supply_hps={}, shortages_hps={})
        self.assignments = _read(self._file, registry.workers)
        self._saved = dict(self.assignments)
        # Whoever knows what another run has assigned does not know what this one has.
        self.assigned = Assigned(version=1 + secrets.randbits(48))

    async def begin(self) -> None:
        """Where machines were before is told before anybody serves them."""
        await self._tell()

    async def run(self) -> None:
        """A look a minute, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow)
            nursery.start_soon(self._allocate)

    def changed(self) -> None:
        """An order is new, or over."""
        self._changed.set()

    async def _follow(self) -> None:
        """Beside the looks, which do not wait for books that are away."""
        while True:
            self._changed = trio.Event()
            await self.look_up()
            with trio.move_on_after(ALLOCATE_S):
                await self._changed.wait()

    async def _allocate(self) -> None:
        begin_s = trio.current_time() + START_S
        while True:
            await trio.sleep(ALLOCATE_S)
            if trio.current_time() < begin_s:
                self._measure()
            else:
                await self.allocate()

    async def allocate(self) -> None:
        """Measure, decide, assign, note."""
        orders, speeds_hps = self._orders(), self._measure()
        if not orders and not self.assignments:
            return
        mining = await all_mining(await self._edges.mining(), self._registry.number_of)
        demands, machines = await self._asked(orders, speeds_hps, mining, self._leaving())
        aimed, decided = await trio.to_thread.run_sync(self._decide, orders, demands, machines)
        counts = await self._assign(decided, {it.id for it in orders})
        self._plan = decided
        self._short_hps = {
            it.id: missing_hps for it in orders if (missing_hps := _missing_hps(it, aimed[it.id], decided))
        }
        # Where machines are and it is not, it is the buyer who is away.
        away = {it.id for it in orders if mining.delivers and it.id not in mining.served}
        await trio.to_thread.run_sync(partial(self._note, orders, counts, set(self._short_hps), away))
        await trio.to_thread.run_sync(self._save)
        for it in orders:
            if it.id in self._short_hps:
                missing_ths = round(self._short_hps[it.id] / 1e12)
                log.warning("order_short", order=it.name, missing_ths=missing_ths)

    def _decide(
        self, orders: tuple[OrderRecord, ...], demands: Sequence[Demand], machines: Sequence[Machine]
    ) -> tuple[dict[int, Aim], Plan]:
        """What each order is to have now, and the moves for it. Without the books it is what was sold."""
        now_s = self._wall_clock()
        try:
            self._given = self._delivered(orders, int(now_s))
        except DATABASE_ERRORS as error:  # what they said last is good for a while
            log.error("orders_not_read", reason=words_of(error))
        ends_s = {it.id: it.until_s for it in orders}
        aimed = aims(demands, machines, self._given, ends_s, now_s, self.slice_s)
        turn = secrets.randbelow(1 << 32)
        return aimed, plan([aimed[it.order].demand for it in demands], machines, turn)

    async def short_without(self, leaving: frozenset[int]) -> dict[str, float]:
        """What orders that are delivered now would miss without these machines, H/s by name: of those that
        would be under their tolerance, and all others moved to them that can be."""
        orders, speeds_hps = self._orders(), self._measure()
        if not orders:
            return {}
        mining = await all_mining(await self._edges.mining(), self._registry.number_of)
        demands, machines = await self._asked(orders, speeds_hps, mining, leaving | self._leaving())
        decided = await trio.to_thread.run_sync(plan, demands, machines)
        return {it.name: decided.shortages_hps[it.id] for it in orders if it.id in decided.shortages_hps}

    async def _asked(
        self,
        orders: tuple[OrderRecord, ...],
        speeds_hps: Floats,
        mining: AllMining,
        leaving: frozenset[int],
    ) -> tuple[list[Demand], list[Machine]]:
        """What a plan is made from."""
        demands = [
            Demand(
                order=it.id,
                hashrate_hps=float(it.hashrate_hps),
                tolerance=it.tolerance_bps / BPS,
                priority=it.priority,
                served=it.id in mining.served,
            )
            for it in orders
        ]
        return demands, await self._machines(orders, speeds_hps, mining, leaving)

    def _measure(self) -> Floats:
        """How fast every machine is, by worker number."""
        now_s = trio.current_time()
        rates_hps, _, ages_s = self._hashrates.machines(now_s)
        return self._speeds.update(rates_hps, ages_s, now_s)

    async def look_up(self) -> None:
        """Which orders there are. Where the books are away those that were known go on."""
        try:
            self._known = await trio.to_thread.run_sync(self._read_orders)
        except DATABASE_ERRORS as error:
            log.error("orders_not_read", reason=words_of(error))

    def _orders(self) -> tuple[OrderRecord, ...]:
        """Those whose time it is."""
        now_s = self._wall_clock()
        going = tuple(it for it in self._known if it.from_s <= now_s < it.until_s)
        if not any(it.extended for it in going):
            return going
        # For less than a slice nobody comes for what is owed; who is there stays until it is done.
        has = set(self.assignments.values())
        return tuple(
            it for it in going if not it.extended or it.id in has or it.until_s - now_s >= self.slice_s
        )

    async def _machines(
        self,
        orders: tuple[OrderRecord, ...],
        speeds_hps: Floats,
        mining: AllMining,
        leaving: frozenset[int],
    ) -> list[Machine]:
        """Every machine that may supply an order, or does."""
        running = {it.id for it in orders}
        of_container: dict[tuple[int, int], frozenset[int]] = {}
        here: dict[tuple[frozenset[int], frozenset[int]], frozenset[int]] = {}
        machines: list[Machine] = []
        for at, it in enumerate(list(self._registry.workers.values())):
            if at % PIECE == 0:
                await trio.lowlevel.checkpoint()
            place = (it.tenant_id, it.container_id)
            if place not in of_container:
                of_container[place] = frozenset(
                    order.id
                    for order in orders
                    if place in order.suppliers or (it.tenant_id, 0) in order.suppliers
                )
            order_id, supplies = self.assignments.get(it.id), of_container[place]
            if order_id is None and not supplies:
                continue
            delivers = mining.delivers.get(it.id)
            known = delivers is not None and it.id < len(speeds_hps)
            if delivers is not None:
                if order_id in running and order_id not in delivers:
                    known = False  # it stays its order's, and waits for it to be served there
                    delivers |= {order_id}
                both = supplies, delivers
                if both not in here:
                    here[both] = supplies & delivers
                supplies = here[both]
            machines.append(
                Machine(
                    worker=it.id,
                    hashrate_hps=float(speeds_hps[it.id]) if known else 0.0,
                    order=order_id,
                    movable=it.id in mining.movable,
                    supplies=supplies,
                    leaves=it.id in leaving,
                )
            )
        return machines

    async def _assign(self, decided: Plan, orders: Collection[int]) -> dict[int, int]:
        """Carry out a plan; how many machines each order got or gave."""
        counts: dict[int, int] = dict.fromkeys(orders, 0)
        gone = self.assignments.keys() - self._registry.workers.keys()
        for worker in gone:  # removed; if it mines again it is as one that is new
            del self.assignments[worker]
        for move in decided.moves:
            before = self.assignments.pop(move.worker, None)
            if move.order is not None:
                self.assignments[move.worker] = move.order
            for order in (before, move.order):
                if order in counts:
                    counts[order] += 1
        if decided.moves or gone:
            log.info("machines_assigned", moves=len(decided.moves))
            await self._tell()
        return counts

    async def _tell(self) -> None:
        self.assigned = await assigned_by_name(self.assignments, self._registry, self.assigned.version + 1)
        await self._edges.assign(self.assigned)

    def _note(
        self,
        orders: tuple[OrderRecord, ...],
        counts: Mapping[int, int],
        short: Collection[int],
        away: Collection[int],
    ) -> None:
        hour = int(self._wall_clock()) // 3600
        try:
            with self._store.write() as connection:
                for it in orders:
                    note_minute(connection, it.id, hour, it.id in short, counts[it.id], away=it.id in away)
        except DATABASE_ERRORS as error:
            names = [it.name for it in orders if it.id in short]
            moves = sum(counts.values())
            log.error("order_minute_not_noted", reason=words_of(error), short=names, moves=moves)

    def _save(self) -> None:
        """For the next start. What could not be written is tried again a minute later."""
        if self.assignments == self._saved:
            return
        content = msgspec.json.encode({str(worker): order for worker, order in self.assignments.items()})
        beside = self._file.with_suffix(".new")
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as stream:
                stream.write(content)
            beside.replace(self._file)
        except OSError as error:
            log.error("assignments_not_written", file=str(self._file), reason=error.strerror)
            return
        self._saved = dict(self.assignments)

    def status(self, misplaced: Mapping[int, int]) -> tuple[OrderStatus, ...]:
        """As measured last; `misplaced`: of an order's machines, how many mine somewhere else."""
        machines: dict[int, int] = {}
        for order in self.assignments.values():
            machines[order] = machines.get(order, 0) + 1
        return tuple(
            OrderStatus(
                order_id=it.id,
                supply_hps=self._plan.measured_hps.get(it.id, 0.0),
                shortage_hps=self._short_hps.get(it.id, 0.0),
                machines=machines.get(it.id, 0),
                moving=misplaced.get(it.id, 0),
            )
            for it in self._orders()
        )


def _missing_hps(order: OrderRecord, aim: Aim, decided: Plan) -> float:
    """What an order has too little now, before any machine has moved; 0 within its tolerance. One with
    a slice misses a whole machine, or has nothing to get one from."""
    measured_hps = decided.measured_hps.get(order.id, 0.0)
    if aim.machine_hps is not None:
        needed_hps = min(aim.demand.hashrate_hps, float(order.hashrate_hps))
        supply_hps = decided.supply_hps.get(order.id, 0.0)
        nothing_to_have = supply_hps < min(needed_hps, aim.demand.hashrate_hps - HALF * aim.machine_hps)
        short = nothing_to_have or measured_hps <= needed_hps - aim.machine_hps
        return needed_hps - measured_hps if short else 0.0
    least_hps = order.hashrate_hps * (1 - order.tolerance_bps / BPS)
    return order.hashrate_hps - measured_hps if measured_hps < least_hps else 0.0


def _read(file: Path, workers: Mapping[int, object]) -> dict[int, int]:
    """What the last run left behind; nothing where that cannot be read."""
    try:
        with file.open("rb") as stream:
            content = stream.read(FILE_BYTES_MAX)
        assigned = msgspec.json.decode(content, type=dict[int, int])
    except FileNotFoundError:
        return {}
    except (OSError, *NOT_READ) as error:
        log.warning("assignments_not_read", file=str(file), reason=str(error))
        return {}
    return {worker: order for worker, order in assigned.items() if worker in workers}
