"""Live hashrate and share counts, of every worker and of all that workers add up to.

Averages decay exponentially (1 min, 5 min, 1 h, 24 h) and are corrected for the time since the worker was
first seen, so that a machine that came a minute ago does not look slow (ckpool's lesson): since the start
where it was known then, else since its first good share was made. They are for eyes and for the allocator:
floats, not stored. What is paid, and exact windows, come from the journal. A machine hashes whether or not an
upstream takes its shares, so those that were good to us count as hashrate; accepted are only those that
somebody took.

Arrays by worker number; a sum over 22,400 workers is a few vector operations. Must not know: the database.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final, TypeVar

import msgspec
import numpy as np

from pool.fleet.registry import ContainerRecord, Registry
from stratum.tallies import MINED, RECORD, Verdict

WINDOWS_S: Final = (60, 300, 3600, 86_400)
HASHES_PER_DIFFICULTY: Final = 1 << 32  # 15 ppm off; for eyes
FIVE_MINUTES: Final = WINDOWS_S.index(300)
OFFLINE_S: Final = 300.0  # 50 shares missed at the usual aim
REJECTED_S: Final = 300.0  # one of WINDOWS_S: rejected work is told as a share of all of it
UPDATE_S: Final = 5.0  # how often tallies are added; the shortest window is twelve of these
PENDING_MAX: Final = 10_000  # commits between two updates, at most; more are added at once
GROWTH: Final = 1024  # workers that room is made for at a time

# Columns of the counts, as commands and reports name them.
COUNTS: Final = ("accepted", "stale", "duplicate", "low", "invalid", "undelivered")
_COLUMN: Final = {
    Verdict.ACCEPTED: 0,
    Verdict.STALE: 1,
    Verdict.JOB_UNKNOWN: 1,
    Verdict.DUPLICATE: 2,
    Verdict.LOW_DIFFICULTY: 3,
    Verdict.UNDELIVERED: 5,
    Verdict.UPSTREAM_REJECTED: 5,
}
COLUMN_OF_VERDICT: Final = np.array([_COLUMN.get(verdict, 4) for verdict in Verdict])
_IS_MINED: Final = np.array([verdict in MINED for verdict in Verdict])

_WINDOWS: Final = np.array(WINDOWS_S, dtype=float)

Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
Table = TypeVar("Table", Floats, Ints)
# Who is not known to be offline, of workers, their containers, and the ages of their last good shares.
Unheard = Callable[[Ints, Ints, Floats], Bools]


class Hashrate(msgspec.Struct, frozen=True, kw_only=True):
    """Of one worker or of many. Rates in hashes a second, by window in WINDOWS_S; counts since the start."""

    rates_hps: tuple[float, ...]
    accepted: int
    stale: int
    duplicate: int
    low: int
    invalid: int
    undelivered: int  # good to us; no upstream took them
    workers: int
    offline: int


class MachineLooks(msgspec.Struct, frozen=True):
    """An entry for each of some machines. Rates in H/s, of WINDOWS_S by column; `ages_s` are of their last
    good shares, infinite for none since the start."""

    rates_hps: Floats
    rejected_hps: Floats  # of REJECTED_S
    ages_s: Floats
    counts: Ints  # as COUNTS has them


class ContainerLook(msgspec.Struct, frozen=True):
    """All machines of a container: their average of five minutes, and how many are online and offline; of the
    unheard nobody here knows."""

    rate_hps: float
    online: int
    offline: int
    unheard: int = 0


def everybody_is_heard(workers: Ints, containers: Ints, ages_s: Floats) -> Bools:
    """Whose share is old has sent none."""
    return np.zeros(len(workers), dtype=np.bool_)


class HashrateTable(Mapping[int, Hashrate]):
    """Hashrates by number. A row is made when it is read: commands show a page, not 22,400 of them."""

    def __init__(self, names: Ints, rates: Floats, counts: Ints, members: Ints, gone: Ints) -> None:
        self.rates_hps = rates
        self.counts = counts
        self._rows = dict(zip(names.tolist(), range(len(names)), strict=True))
        self._members = members
        self._gone = gone

    def __getitem__(self, number: int) -> Hashrate:
        row = self._rows[number]
        accepted, stale, duplicate, low, invalid, undelivered = self.counts[row].tolist()
        return Hashrate(
            rates_hps=tuple(self.rates_hps[row].tolist()),
            accepted=accepted,
            stale=stale,
            duplicate=duplicate,
            low=low,
            invalid=invalid,
            undelivered=undelivered,
            workers=int(self._members[row]),
            offline=int(self._gone[row]),
        )

    def __iter__(self) -> Iterator[int]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


_NOTHING: Final = Hashrate(
    rates_hps=(0.0,) * len(WINDOWS_S),
    accepted=0,
    stale=0,
    duplicate=0,
    low=0,
    invalid=0,
    undelivered=0,
    workers=0,
    offline=0,
)


class HashrateBook:
    """Given every committed batch. `now_s` is monotonic, in seconds."""

    def __init__(self, registry: Registry, now_s: float) -> None:
        self._registry = registry
        self._pending: list[bytes] = []
        self._pending_made_s: list[float] = []  # of each of these when its shares were made
        self._updated_s = now_s
        self._room = 0
        self._averages = np.zeros((0, len(WINDOWS_S)))
        self._counts = np.zeros((0, len(COUNTS)), dtype=np.int64)
        self._container_of = np.zeros(0, dtype=np.intp)  # 0: nobody has asked yet
        self._since_s = np.zeros(0)  # first seen, for the correction; inf: not yet
        self._last_s = np.zeros(0)  # when the last good share came; -inf: never
        self._made_s = np.zeros(0)  # when the newest good share was made
        self._rejected = np.zeros(0)  # work of REJECTED_S that was good for nothing, H/s
        self._share_hashes = np.zeros(0)  # what a good share of it was worth lately
        self._known = np.zeros(0, dtype=np.intp)  # all workers, of the registry's generation
        self._known_of = -1
        known = self._workers()
        self._since_s[known] = now_s

    def add(self, tallies: bytes, now_s: float, age_s: float = 0.0) -> None:
        """A committed batch; its shares were made so long ago."""
        self._pending.append(tallies)
        self._pending_made_s.append(now_s - age_s)
        if now_s - self._updated_s >= UPDATE_S or len(self._pending) >= PENDING_MAX:
            self.update(now_s)

    def update(self, now_s: float) -> None:
        """Add what is pending and let the averages decay until now."""
        elapsed_s = now_s - self._updated_s
        if elapsed_s <= 0:
            return
        pending, self._pending = self._pending, []
        made_s, self._pending_made_s = self._pending_made_s, []
        self._updated_s = now_s
        records = np.frombuffer(b"".join(pending), dtype=RECORD)
        self._make_room(int(records["worker"].max(initial=0)))
        worker, shares = records["worker"].astype(np.intp), records["count"].astype(np.int64)
        column, good = COLUMN_OF_VERDICT[records["verdict"]], _IS_MINED[records["verdict"]]
        np.add.at(self._counts.reshape(-1), worker * len(COUNTS) + column, shares)
        mined, count_mined = worker[good], shares[good]
        work = np.ldexp(count_mined.astype(float), records["difficulty_log2"][good])
        hashes = np.bincount(mined, weights=work, minlength=self._room) * HASHES_PER_DIFFICULTY
        self._last_s[mined] = now_s
        made = np.repeat(made_s, [len(it) // RECORD.itemsize for it in pending])
        np.maximum.at(self._made_s, mined, made[good])
        came = np.isinf(self._since_s[mined])
        np.minimum.at(self._since_s, mined[came], np.minimum(made[good][came], now_s - elapsed_s))
        # A share that is worth nothing has no difficulty in the tallies: whoever sends it could say any. It
        # counts like one of its worker's that was good.
        count = np.bincount(mined, count_mined, self._room)
        np.divide(hashes, count, out=self._share_hashes, where=count > 0)
        bad = np.bincount(worker[~good], shares[~good], self._room)
        kept = np.exp(-elapsed_s / REJECTED_S)
        self._rejected *= kept
        self._rejected += bad * self._share_hashes * ((1 - kept) / elapsed_s)
        keep = np.exp(-elapsed_s / _WINDOWS)
        self._averages *= keep
        self._averages += np.outer(hashes, (1 - keep) / elapsed_s)

    def _make_room(self, worker_max: int) -> None:
        if worker_max < self._room:
            return
        more = worker_max + GROWTH - self._room
        self._room += more
        self._averages = np.vstack((self._averages, np.zeros((more, len(WINDOWS_S)))))
        self._counts = np.vstack((self._counts, np.zeros((more, len(COUNTS)), dtype=np.int64)))
        self._container_of = np.concatenate((self._container_of, np.zeros(more, dtype=np.intp)))
        self._since_s = np.concatenate((self._since_s, np.full(more, np.inf)))
        self._rejected = np.concatenate((self._rejected, np.zeros(more)))
        self._share_hashes = np.concatenate((self._share_hashes, np.zeros(more)))
        self._last_s = np.concatenate((self._last_s, np.full(more, -np.inf)))
        self._made_s = np.concatenate((self._made_s, np.full(more, -np.inf)))

    def rates_hps(self, now_s: float) -> Floats:
        """Corrected averages: (worker number, window)."""
        return self._corrected(slice(None), now_s)

    def _corrected(self, which: slice | Ints, now_s: float) -> Floats:
        self.update(now_s)
        age_s = np.maximum(now_s - self._since_s[which], 1.0)[:, None]
        corrected: Floats = age_s / -_WINDOWS
        np.expm1(corrected, out=corrected)
        np.divide(self._averages[which], np.negative(corrected, out=corrected), out=corrected)
        return corrected

    def machines(self, now_s: float) -> tuple[Floats, Floats, Floats]:
        """By worker number: averages of 5 min and of 1 h, H/s, and the age of the last good share, seconds.

        One entry for every number up to the highest known, and up to GROWTH more; zero, and infinite, for a
        machine that has not mined since the start, and for a number that is nobody's.
        """
        self._make_room(max(self._registry.workers, default=0))
        rates = self.rates_hps(now_s)
        ages_s = np.maximum(now_s - self._last_s, 0.0)
        return rates[:, WINDOWS_S.index(300)].copy(), rates[:, WINDOWS_S.index(3600)].copy(), ages_s

    def made_ages_s(self, now_s: float) -> Floats:
        """By worker number as in `machines`: how long ago its newest good share was made, as far as whoever
        brings it says. What comes late is old."""
        self._make_room(max(self._registry.workers, default=0))
        self.update(now_s)
        ages_s: Floats = np.maximum(now_s - self._made_s, 0.0)
        return ages_s

    def rejected_hps(self, now_s: float) -> Floats:
        """By worker number as in `machines`: the average of 5 min of work that came and was good for nothing,
        corrected likewise."""
        self._make_room(max(self._registry.workers, default=0))
        self.update(now_s)
        age_s = np.maximum(now_s - self._since_s, 1.0)
        corrected: Floats = self._rejected / -np.expm1(-age_s / REJECTED_S)
        return corrected

    def look(self, numbers: Ints, now_s: float) -> MachineLooks:
        """Of these workers, as of the last update, which is made where nobody's shares have made one lately.

        A third of a millisecond for 4,096 of them: who looks at more does so in pieces, with others between.
        """
        if now_s - self._updated_s > 2 * UPDATE_S:
            self.update(now_s)
        self._make_room(int(numbers.max(initial=0)))
        seen_s = np.maximum(self._updated_s - self._since_s[numbers], 1.0)
        return MachineLooks(
            rates_hps=self._averages[numbers] / -np.expm1(-seen_s[:, None] / np.array(WINDOWS_S)),
            rejected_hps=self._rejected[numbers] / -np.expm1(-seen_s / REJECTED_S),
            ages_s=np.maximum(now_s - self._last_s[numbers], 0.0),
            counts=self._counts[numbers],
        )

    def share_hashes(self, numbers: Ints) -> Floats:
        """What a good share of each of these workers stood for lately, in hashes; 0 where there was none."""
        self._make_room(int(numbers.max(initial=0)))
        worth: Floats = self._share_hashes[numbers]
        return worth

    def everybody(self) -> tuple[Ints, Ints]:
        """All workers' numbers, and which container each is in: not to be changed."""
        ids = self._workers()
        return ids, self._containers_of(ids)

    def look_at_containers(
        self, now_s: float, unheard: Unheard = everybody_is_heard
    ) -> dict[int, ContainerLook]:
        """Every container with a worker, by its number, as of the last update as in `look`: a millisecond for
        22,400 machines, which a scrape asks for again and again."""
        if now_s - self._updated_s > 2 * UPDATE_S:
            self.update(now_s)
        ids = self._workers()
        containers = self._containers_of(ids)
        seen_s = np.maximum(self._updated_s - self._since_s[ids], 1.0)
        rates = self._averages[ids, FIVE_MINUTES] / -np.expm1(-seen_s / WINDOWS_S[FIVE_MINUTES])
        sizes = np.bincount(containers)
        rates_hps = np.bincount(containers, weights=rates).tolist()
        ages_s = now_s - self._last_s[ids]
        quiet = ages_s > OFFLINE_S
        unknown = quiet & unheard(ids, containers, ages_s)
        gone, lost = (
            np.bincount(containers, weights=it).astype(int).tolist() for it in (quiet & ~unknown, unknown)
        )
        return {
            number: ContainerLook(
                rates_hps[number],
                int(sizes[number]) - gone[number] - lost[number],
                gone[number],
                lost[number],
            )
            for number in np.flatnonzero(sizes).tolist()
        }

    def by_worker(self, now_s: float) -> HashrateTable:
        """Every known worker."""
        ids = np.fromiter(self._registry.workers, dtype=np.intp, count=len(self._registry.workers))
        return self._grouped(ids, ids, now_s)

    def of_workers(self, numbers: Collection[int], now_s: float) -> HashrateTable:
        """These workers alone."""
        ids = np.fromiter(numbers, dtype=np.intp, count=len(numbers))
        return self._grouped(ids, ids, now_s)

    def by_container(self, now_s: float) -> HashrateTable:
        """Every container with a worker, by its number."""
        return self._grouped_by(lambda it: it.id, now_s)

    def by_site(self, now_s: float) -> HashrateTable:
        """Every site with a worker, by its number; 0 is what stands nobody knows where."""
        return self._grouped_by(lambda it: it.site_id, now_s)

    def by_tenant(self, now_s: float) -> HashrateTable:
        """Every tenant with a worker, by its number."""
        return self._grouped_by(lambda it: it.tenant_id, now_s)

    def shares_of_tenants(self, now_s: float) -> dict[int, tuple[int, ...]]:
        """Counts by tenant, as COUNTS has them."""
        self.update(now_s)
        self._containers_of(self._workers())
        tenants, totals = self._counted_by(self._through_containers(lambda it: it.tenant_id))
        return {tenant: tuple(totals[tenant].tolist()) for tenant in tenants.tolist()}

    def _counted_by(self, of_containers: Ints) -> tuple[Ints, Ints]:
        """Groups that anything was counted of, and counts by group: those of machines that were removed stay
        counted."""
        counted = np.flatnonzero(self._container_of)
        groups = of_containers[self._container_of[counted]]
        return np.unique(groups), _summed(self._counts[counted], groups, int(groups.max(initial=0)) + 1)

    def pool(self, now_s: float) -> Hashrate:
        """All of it."""
        return self._grouped_by(lambda _: 0, now_s).get(0, _NOTHING)

    def _workers(self) -> Ints:
        """Numbers of all of them."""
        if self._known_of != self._registry.generation:
            numbers, self._known_of = self._registry.workers, self._registry.generation
            self._known = np.fromiter(numbers, dtype=np.intp, count=len(numbers))
            self._make_room(int(self._known.max(initial=0)))
        return self._known

    def _grouped_by(self, group_of: Callable[[ContainerRecord], int], now_s: float) -> HashrateTable:
        ids, of_containers = self._workers(), self._through_containers(group_of)
        return self._grouped(ids, of_containers[self._containers_of(ids)], now_s, of_containers)

    def _containers_of(self, ids: Ints) -> Ints:
        """A machine stays in its container, so each is looked up once."""
        for number in ids[self._container_of[ids] == 0].tolist():
            self._container_of[number] = self._registry.workers[number].container_id
        containers: Ints = self._container_of[ids]
        return containers

    def _through_containers(self, group_of: Callable[[ContainerRecord], int]) -> Ints:
        """What a container belongs to, by its number."""
        containers = self._registry.containers
        groups = np.zeros(max(containers, default=0) + 1, dtype=np.intp)
        for number, container in containers.items():
            groups[number] = group_of(container)
        return groups

    def _grouped(
        self,
        ids: Ints,
        groups: Ints,
        now_s: float,
        of_containers: Ints | None = None,
    ) -> HashrateTable:
        self._make_room(int(ids.max(initial=0)))
        rates = self._corrected(ids, now_s)
        offline = now_s - self._last_s[ids] > OFFLINE_S
        if of_containers is None:  # each worker by itself: nothing to add up
            names, sums, totals = groups, rates, self._counts[ids]
            members, gone = np.ones(len(ids), dtype=int), offline.astype(int)
        else:
            sizes = np.bincount(groups)
            names = np.flatnonzero(sizes)
            sums = _summed(rates, groups, len(sizes))[names]
            _, counted = self._counted_by(of_containers)
            totals = counted[names]
            members = sizes[names]
            gone = np.bincount(groups, weights=offline)[names].astype(int)
        return HashrateTable(names, sums, totals, members, gone)


def _summed(values: Table, index: Ints, size: int) -> Table:
    """Rows that have the same index, added up."""
    # By floats, which are exact up to 2^53 shares; a tenth of the time of `np.add.at`.
    columns = (np.bincount(index, weights=column, minlength=size) for column in values.T)
    return np.stack(tuple(columns), axis=1).astype(values.dtype)
