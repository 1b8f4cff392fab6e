"""A day of every machine, in steps of five minutes: hashrate, rejected work, difficulty; and of each tenant.

In memory, of this run: 6 bytes a point, 37 MiB for 22,400 machines and 54 MiB for the most that have a place.
Pages draw charts of it; what is paid comes from the books.

Invariants: a machine has a place once it has mined, and keeps it while it is listed; nobody waits for more
than a piece of a step. Must not know: who looks.
"""

import time
from collections.abc import Callable
from typing import Final

import msgspec
import numpy as np
import trio
from msgspec import UNSET, UnsetType

from pool.dashboard.machine_states import FIVE_MINUTES, rejected_share
from pool.dashboard.places import rest
from pool.fleet.hashrate import HashrateBook
from pool.fleet.registry import Registry

STEP_S: Final = 300  # the window of the average that is kept
POINTS: Final = 288  # a day
MACHINES_MAX: Final = 32_768
BLOCK: Final = 1_024  # machines: half a millisecond of a step
NO_DIFFICULTY: Final = -128


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Of one machine, a point every STEP_S since `from_s`; None where it was not there yet."""

    from_s: int
    step_s: int = STEP_S
    hps: list[float | None]
    rejected: list[float | None]  # of its work, 0 to 1
    difficulty_log2: list[int | None]


class TenantHashrates(msgspec.Struct, frozen=True):
    """A tenant's, at the same moments."""

    name: str
    hps: list[int]
    rejected: list[float]  # of the work, 0 to 1


class Hashrates(msgspec.Struct, frozen=True, kw_only=True):
    """Of a day, a point every `step_s` since `from_s`; `pool` and `rejected` for who sees everything."""

    from_s: int
    step_s: int = STEP_S
    pool: list[int] | UnsetType = UNSET
    rejected: list[float] | UnsetType = UNSET  # of the pool's work, 0 to 1
    tenants: list[TenantHashrates]


class _Sum(msgspec.Struct):
    """Of some machines at a step."""

    hps: float = 0.0
    rejected_hps: float = 0.0

    def add(self, it: "_Sum") -> None:
        self.hps += it.hps
        self.rejected_hps += it.rejected_hps

    @property
    def rejected(self) -> float:
        """Of the work, 0 to 1; 0 of none."""
        work = self.hps + self.rejected_hps
        return round(self.rejected_hps / work, 4) if work > 0 else 0.0


class _Block:
    """BLOCK machines; a row a step."""

    def __init__(self) -> None:
        self.hps = np.full((POINTS, BLOCK), np.nan, dtype=np.float32)
        self.rejected = np.zeros((POINTS, BLOCK), dtype=np.uint8)  # in half percents
        self.log2 = np.full((POINTS, BLOCK), NO_DIFFICULTY, dtype=np.int8)


class History:
    """Of one pool. `run` keeps it."""

    def __init__(
        self, registry: Registry, hashrates: HashrateBook, *, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._registry, self._hashrates, self._wall_clock = registry, hashrates, wall_clock
        self._blocks: list[_Block] = []
        self._places: dict[int, int] = {}
        self._free: list[int] = []
        self._steps = 0
        self._newest_s = 0
        self._whole: list[_Sum] = []
        self._tenants: dict[str, list[_Sum]] = {}

    async def run(self) -> None:
        """A step every STEP_S, until cancelled."""
        next_s = trio.current_time()
        while True:
            next_s += STEP_S
            await trio.sleep_until(next_s)
            await self.step()

    async def step(self) -> None:
        """Keep what machines do now."""
        row, now_s = self._steps % POINTS, trio.current_time()
        workers = list(self._registry.workers)
        known = set(workers)
        for number in [it for it in self._places if it not in known]:
            self._free.append(self._places.pop(number))
        await rest()
        for block in self._blocks:
            block.hps[row] = np.nan
            block.log2[row] = NO_DIFFICULTY
        totals: dict[str, _Sum] = {}
        for at in range(0, len(workers), BLOCK):
            self._keep(row, workers[at : at + BLOCK], totals, now_s)
            await rest()
        self._steps, self._newest_s = self._steps + 1, int(self._wall_clock())
        self._keep_totals(totals)

    def _keep(self, row: int, workers: list[int], totals: dict[str, _Sum], now_s: float) -> None:
        registry = self._registry
        looks = self._hashrates.look(np.array(workers, dtype=np.intp), now_s)
        rates = looks.rates_hps[:, FIVE_MINUTES].tolist()
        rejected_hps = looks.rejected_hps.tolist()
        rejected = np.rint(200 * rejected_share(looks)).astype(np.uint8).tolist()
        heard = np.isfinite(looks.ages_s).tolist()
        for at, number in enumerate(workers):
            worker = registry.workers.get(number)
            if worker is None or not heard[at]:
                continue
            tenant = registry.tenants_by_id[worker.tenant_id].name
            totals.setdefault(tenant, _Sum()).add(_Sum(rates[at], rejected_hps[at]))
            place = self._place_of(number)
            if place is not None:
                block, column = self._blocks[place // BLOCK], place % BLOCK
                block.hps[row, column], block.rejected[row, column] = rates[at], rejected[at]
                if worker.difficulty_log2 is not None:
                    block.log2[row, column] = worker.difficulty_log2

    def _place_of(self, number: int) -> int | None:
        place = self._places.get(number)
        if place is None and self._free:
            place = self._free.pop()
            block = self._blocks[place // BLOCK]
            block.hps[:, place % BLOCK], block.log2[:, place % BLOCK] = np.nan, NO_DIFFICULTY
        elif place is None and len(self._places) < MACHINES_MAX:
            place = len(self._places)
            if place // BLOCK == len(self._blocks):
                self._blocks.append(_Block())
        if place is not None:
            self._places[number] = place
        return place

    def _keep_totals(self, totals: dict[str, _Sum]) -> None:
        had, whole = len(self._whole), _Sum()
        for total in totals.values():
            whole.add(total)
        self._whole.append(whole)
        for tenant in totals.keys() | self._tenants.keys():
            points = self._tenants.setdefault(tenant, [_Sum()] * had)
            points.append(totals.get(tenant, _Sum()))
        for points in (self._whole, *self._tenants.values()):
            del points[:-POINTS]

    @property
    def _from_s(self) -> int:
        return self._newest_s - STEP_S * max(0, min(self._steps, POINTS) - 1)

    def of(self, worker: int) -> Series:
        """Of one machine; no points where none are kept."""
        place = self._places.get(worker)
        rows = [it % POINTS for it in range(max(0, self._steps - POINTS), self._steps)]
        if place is None or not rows:
            return Series(from_s=self._from_s, hps=[], rejected=[], difficulty_log2=[])
        block, column = self._blocks[place // BLOCK], place % BLOCK
        hps, log2 = block.hps[rows, column], block.log2[rows, column].tolist()
        there = ~np.isnan(hps)
        rejected = (block.rejected[rows, column] / 200).tolist()
        return Series(
            from_s=self._from_s,
            hps=[round(it) if is_there else None for it, is_there in zip(hps.tolist(), there, strict=True)],
            rejected=[it if is_there else None for it, is_there in zip(rejected, there, strict=True)],
            difficulty_log2=[None if it == NO_DIFFICULTY else it for it in log2],
        )

    def totals(self, tenant: str | None) -> Hashrates:
        """Of all, and of each tenant; or of this one."""
        tenants = [
            TenantHashrates(name, _rates(points), _rejected(points))
            for name, points in sorted(self._tenants.items())
            if tenant in (None, name)
        ]
        if tenant is not None:
            return Hashrates(from_s=self._from_s, tenants=tenants)
        whole = self._whole
        return Hashrates(from_s=self._from_s, pool=_rates(whole), rejected=_rejected(whole), tenants=tenants)


def _rates(points: list[_Sum]) -> list[int]:
    return [round(it.hps) for it in points]


def _rejected(points: list[_Sum]) -> list[float]:
    return [it.rejected for it in points]
