"""How each machine draws, of all of them at once: by its number, at one moment.

Of a machine counts what was set for its unit, else for all units of its container, else what the nameplate of
the container comes to; where there is nothing of these, nothing is known of it, and nothing is guessed.

Arrays by worker number: for 22,400 machines a few vector operations. Must not know: what they mine.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection, Row, select

from payouts.schemas.money import workers
from payouts.schemas.power import power_nameplates
from pool.power.figures import Efficiency

Ints = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
HPS_PER_GHS: Final = 10**9
UNKNOWN: Final = Efficiency(mj_per_th=0, hashrate_hps=0, watts=0, idle_watts=0, error_bps=0, source="")
ROWS_AT_ONCE: Final = 5_000  # of a result: 100,000 machines are not in memory as rows


class Efficiencies:
    """`kinds[of[number]]` is that of a machine; kinds[0] is UNKNOWN. Numbers beyond the array are unknown."""

    def __init__(self, of: Ints, kinds: tuple[Efficiency, ...] = (UNKNOWN,)) -> None:
        self.of = of
        self.kinds = kinds
        self._columns: dict[str, Ints] = {}

    def get(self, worker: int) -> Efficiency | None:
        kind = int(self.of[worker]) if 0 <= worker < len(self.of) else 0
        return self.kinds[kind] if kind else None

    def known(self, numbers: Ints) -> Bools:
        known: Bools = self._kinds(numbers) > 0
        return known

    def column(self, field: str, numbers: Ints) -> Ints:
        """`mj_per_th`, `watts`, ... of these machines; 0 where nothing is known."""
        if field not in self._columns:
            self._columns[field] = np.array([getattr(it, field) for it in self.kinds], dtype=np.int64)
        column: Ints = self._columns[field][self._kinds(numbers)]
        return column

    def _kinds(self, numbers: Ints) -> Ints:
        kinds: Ints = self.of[np.minimum(numbers, len(self.of) - 1)]
        return np.where(numbers < len(self.of), kinds, 0)


NOTHING_KNOWN: Final = Efficiencies(np.zeros(1, dtype=np.int64))


def efficiencies_at(connection: Connection, at_s: int) -> Efficiencies:
    """Of all machines that the books have, removed or not, as it was at that moment: of an hour that is over
    it is the same whenever it is asked for."""
    units, containers = _in_force(connection, at_s)
    kinds, number_of = [UNKNOWN], dict[int, int]()

    def kind_of(row: Row[Any]) -> int:
        if row.id not in number_of:
            number_of[row.id] = len(kinds)
            kinds.append(_efficiency(row))
        return number_of[row.id]

    highest = connection.scalar(select(workers.c.id).order_by(workers.c.id.desc()).limit(1)) or 0
    of = np.zeros(highest + 1, dtype=np.int64)
    place = np.zeros(max(containers, default=0) + 1, dtype=np.int64)
    for container, row in containers.items():
        place[container] = kind_of(row)
    ids = select(workers.c.id, workers.c.container_id).where(workers.c.id <= highest)
    for rows in connection.execute(ids).partitions(ROWS_AT_ONCE):
        here = np.array([tuple(row) for row in rows], dtype=np.int64)
        known = here[here[:, 1] < len(place)]
        of[known[:, 0]] = place[known[:, 1]]
    if units:
        named = (
            select(workers.c.id, workers.c.container_id, workers.c.unit)
            .where(workers.c.container_id.in_({container for container, _ in units}))
            .where(workers.c.id <= highest)
        )
        for number, container, unit in connection.execute(named):
            if (its := units.get((container, unit))) is not None:
                of[number] = kind_of(its)
    return Efficiencies(of, tuple(kinds))


def _in_force(
    connection: Connection, at_s: int
) -> tuple[Mapping[tuple[int, str], Row[Any]], Mapping[int, Row[Any]]]:
    """Nameplates of units and of containers; of a container the model before the plate."""
    it = power_nameplates.c
    newest: dict[tuple[int, str, str | None], Row[Any]] = {}
    for row in connection.execute(
        select(power_nameplates).where(it.from_s <= at_s).order_by(it.from_s, it.id)
    ):
        newest[row.container_id, row.scope, row.unit] = row
    units: dict[tuple[int, str], Row[Any]] = {}
    containers: dict[int, Row[Any]] = {}
    for (container, scope, unit), row in newest.items():
        if row.mj_per_th == 0:
            continue
        if unit is not None:
            units[container, unit] = row
        elif scope == "container" or container not in containers:
            containers[container] = row
    return units, containers


def _efficiency(row: Row[Any]) -> Efficiency:
    return Efficiency(
        mj_per_th=row.mj_per_th,
        hashrate_hps=row.hashrate_ghs * HPS_PER_GHS,
        watts=row.watts,
        idle_watts=row.idle_watts,
        error_bps=row.error_bps,
        source=row.source if row.model is None else f"{row.model}, {row.source}",
    )
