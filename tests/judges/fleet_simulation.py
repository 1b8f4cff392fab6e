"""A simulated fleet under the production hashrate book, machine speeds and allocator, on virtual time.

Machines find shares as Poisson processes, fail and are repaired, and whole containers lose power. The
allocator sees the book's averages, never the truth; delivered is what machines really found while they were
at an order. Every run is a function of its seed.
"""

from collections import deque
from typing import Final

import msgspec
import numpy as np

from payouts.rates import Scheme
from pool.fleet.hashrate import HASHES_PER_DIFFICULTY, HashrateBook
from pool.fleet.registry import Registry, Snapshot, TenantRecord
from pool.orders.allocation import Demand, Machine, Plan, plan
from pool.orders.delivered import CARRIED_S, Delivered
from pool.orders.machine_speed import MachineSpeeds
from pool.orders.slices import aims
from stratum.miners.contracts import Admitted
from stratum.tallies import RECORD
from tests.fakes.owners import ConnectionFrom

AIM_S: Final = 6.0
STEP_S: Final = 30
MINUTE_S: Final = 60
HOUR_S: Final = 3600
MOVE_S: Final = 60  # until a moved machine mines for its new order
BOOKS_S: Final = 90  # that they are behind
MOVE_INTERVAL_S: Final = 600  # a machine is not moved again before
CONTAINER_MACHINES: Final = 400
SPEED_HPS: Final = 110e12
SPEED_SPREAD: Final = 0.05
REPAIR_S: Final = 1800.0
DOWN: Final = 0.01  # of the machines, at any time
RATE: Final = 1


class Hour(msgspec.Struct, frozen=True):
    """Delivered hashes a second by order, moves, and minutes by order that the allocator called short."""

    delivered_hps: dict[int, float]
    moves: int
    short: dict[int, int]


class SimulatedFleet:
    def __init__(self, seed: int, machines: int, orders: frozenset[int], *, carries: bool = False) -> None:
        self._carries = carries
        self._rng = np.random.default_rng(seed)
        tenant = TenantRecord(id=1, name="acme", active=True, scheme=Scheme.PPS, fee_bps=0)
        self._registry = Registry(Snapshot((tenant,), (), ()))
        for number in range(machines):
            name = f"acme.c{number // CONTAINER_MACHINES:02}.u{number % CONTAINER_MACHINES:03}"
            admission = self._registry.admit(name, "", ConnectionFrom(f"10.0.{number >> 8}.{number & 255}"))
            assert isinstance(admission, Admitted)
            self._registry.prove(admission.worker)
        self._workers = np.array(list(self._registry.workers))
        self._container = np.arange(machines) // CONTAINER_MACHINES
        self._speed_hps = SPEED_HPS * self._rng.normal(1.0, SPEED_SPREAD, machines)
        self._log2 = np.rint(np.log2(self._speed_hps * AIM_S / HASHES_PER_DIFFICULTY)).astype(int)
        self._up = self._rng.random(machines) >= DOWN
        self._dark: list[tuple[int, int, int]] = []
        self._orders = orders
        self._placed: list[int | None] = [None] * machines  # as the pool says
        self._mines = np.zeros(machines, dtype=int)  # as it is; 0 is the tenant's own channel
        self._moving: deque[tuple[int, np.ndarray, np.ndarray]] = deque()
        self._moved_s = np.full(machines, -MOVE_INTERVAL_S)
        self._row_of = {worker: row for row, worker in enumerate(self._workers.tolist())}
        self.now_s = 0
        # Found until the end of each step, by order.
        self.hashes: list[np.ndarray] = [np.zeros(max(orders) + 1)]
        self._book = HashrateBook(self._registry, 0.0)
        self._speeds = MachineSpeeds(0.0, AIM_S)

    @property
    def mean_hps(self) -> float:
        """What the whole fleet delivers on average."""
        return float(self._speed_hps.sum()) * (1 - DOWN)

    def darken(self, container: int, *, from_s: int, until_s: int) -> None:
        """A container has no power for that time; its sessions look as if they were there."""
        self._dark.append((from_s, until_s, container))

    def run_hour(self, demands: list[Demand]) -> Hour:
        """An hour of mining and failing, with a plan every minute."""
        delivered = dict.fromkeys((it.order for it in demands), 0.0)
        short = dict.fromkeys(delivered, 0)
        moves = 0
        for _ in range(HOUR_S // MINUTE_S):
            for _ in range(MINUTE_S // STEP_S):
                found = self._step()
                for order in delivered:
                    delivered[order] += float(found[order]) / HOUR_S
            made = self._route(demands)
            moves += len(made.moves)
            for order in made.shortages_hps:
                short[order] += 1
        return Hour(delivered, moves, short)

    def _step(self) -> np.ndarray:
        """STEP_S of mining: hashes by order."""
        self.now_s += STEP_S
        while self._moving and self._moving[0][0] < self.now_s:
            _, rows, orders = self._moving.popleft()
            self._mines[rows] = orders
        chance = self._rng.random(len(self._up))
        failure_s = REPAIR_S * (1 - DOWN) / DOWN
        self._up = np.where(self._up, chance >= STEP_S / failure_s, chance < STEP_S / REPAIR_S)
        dark = [container for from_s, until_s, container in self._dark if from_s < self.now_s <= until_s]
        mining = self._up & ~np.isin(self._container, dark)
        hashes_a_share = np.exp2(self._log2) * HASHES_PER_DIFFICULTY
        shares = self._rng.poisson(np.where(mining, self._speed_hps * STEP_S / hashes_a_share, 0.0))
        found = np.flatnonzero(shares)
        records = np.zeros(len(found), dtype=RECORD)
        records["worker"] = self._workers[found]
        records["rate"] = RATE
        records["difficulty_log2"] = self._log2[found]
        records["count"] = shares[found]
        self._book.add(records.tobytes(), float(self.now_s))
        by_order = np.bincount(self._mines, shares * hashes_a_share, max(self._orders) + 1)
        self.hashes.append(self.hashes[-1] + by_order)
        return by_order

    def _route(self, demands: list[Demand]) -> Plan:
        rates_hps, _, ages_s = self._book.machines(float(self.now_s))
        speeds = self._speeds.update(rates_hps, ages_s, float(self.now_s))[self._workers].tolist()
        movable = (self.now_s - self._moved_s >= MOVE_INTERVAL_S).tolist()
        machines = [
            Machine(
                worker=worker,
                hashrate_hps=speeds[row],
                order=self._placed[row],
                movable=movable[row],
                supplies=self._orders,
            )
            for worker, row in self._row_of.items()
        ]
        made = plan(self._aimed(demands, machines) if self._carries else demands, machines)
        rows = np.array([self._row_of[move.worker] for move in made.moves], dtype=int)
        for row, move in zip(rows.tolist(), made.moves, strict=True):
            self._placed[row] = move.order
        self._moved_s[rows] = self.now_s
        orders = np.array([move.order or 0 for move in made.moves], dtype=int)
        self._moving.append((self.now_s + MOVE_S, rows, orders))
        return made

    def _aimed(self, demands: list[Demand], machines: list[Machine]) -> list[Demand]:
        """As the books, which are a step or two behind, have it that orders were given."""
        until_s = max(0, self.now_s - BOOKS_S)
        from_s = max(0, (self.now_s - CARRIED_S) // HOUR_S * HOUR_S)
        found = self.hashes[until_s // STEP_S] - self.hashes[from_s // STEP_S]
        given = {
            it.order: Delivered(from_s=from_s, until_s=until_s, hashes=float(found[it.order]))
            for it in demands
            if until_s > from_s
        }
        ends_s = dict.fromkeys((it.order for it in demands), 1 << 40)
        aimed = aims(demands, machines, given, ends_s, float(self.now_s), MOVE_INTERVAL_S)
        return [aimed[it.order].demand for it in demands]
