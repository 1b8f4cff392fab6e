"""Some records of the journal, added up: what the books take at a time, as a list of rows that can be cut
anywhere.

The same records give the same rows in the same order, whoever adds them up and whenever: what a kill left
half taken is gone on with at a row's number. A version that orders them otherwise has to begin behind what
is under way.

Must not know: databases, what is worth what.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from pool.books.journal import upstream_verdicts
from pool.books.journal.hours import Hour, hours_of
from pool.journal.frames import Place
from pool.journal.records import Batch, Machine, Noted, Rate
from stratum.difficulty import DIFFICULTY_LOG2_MIN
from stratum.tallies import MINED, NOT_TAKEN, RECORD, Records, Verdict, merge

# Added up at once: a millisecond in which the interpreter is nobody else's.
RECORDS_AT_ONCE: Final = 1 << 15
MACHINE_WEIGHT: Final = 5  # a machine's own row is looked for by its names, and made: so many tallies' work
_ACCEPTED: Final = int(Verdict.ACCEPTED)  # an enum is asked for its member by a Python of its own
Credits = tuple[tuple[bytes, bytes], ...]


class Credited(msgspec.Struct, frozen=True):
    """Shares that one commit credited on a previous block, as stratum.tallies.CREDIT has them."""

    minute: int
    prevhash: bytes
    shares: bytes


class Answered(msgspec.Struct, frozen=True):
    """Forwarded shares that are in tallies of a commit, likewise."""

    minute: int
    shares: bytes


class KeptShares(msgspec.Struct, frozen=True):
    """Shares that were kept of a commit, as stratum.tallies.KEPT has them: all from that difficulty on."""

    minute: int
    from_log2: int
    shares: bytes


class Part(msgspec.Struct, frozen=True):
    """Rows of one kind. Of `tallies` and `upstream` the minute that they are of."""

    rates: tuple[Rate, ...] = ()
    machines: tuple[Machine, ...] = ()
    credited: tuple[Credited, ...] = ()
    answered: tuple[Answered, ...] = ()
    kept: tuple[KeptShares, ...] = ()
    minute: int = 0
    tallies: Records | None = None
    upstream: bytes = b""
    resolved: tuple[bytes, ...] = ()
    noted: tuple[Noted, ...] = ()
    credits: Credits = ()

    def __len__(self) -> int:
        packed = len(self.upstream) // upstream_verdicts.RECORD_BYTES
        kinds = (
            self.rates,
            self.machines,
            self.credited,
            self.answered,
            self.kept,
            self.resolved,
            self.noted,
            self.credits,
        )
        return packed + sum(len(it) for it in kinds) + (0 if self.tallies is None else len(self.tallies))

    def cut(self, start: int, end: int) -> "Part":
        """Some of them. It has one kind, so the others stay empty."""
        of = upstream_verdicts.RECORD_BYTES
        return Part(
            rates=self.rates[start:end],
            machines=self.machines[start:end],
            credited=self.credited[start:end],
            answered=self.answered[start:end],
            kept=self.kept[start:end],
            minute=self.minute,
            tallies=None if self.tallies is None else self.tallies[start:end],
            upstream=self.upstream[start * of : end * of],
            resolved=self.resolved[start:end],
            noted=self.noted[start:end],
            credits=self.credits[start:end],
        )


class Mined(msgspec.Struct, frozen=True, gc=False):  # numbers: nothing to collect
    """Most of the good work of a worker in a minute was at this difficulty, and it was so much."""

    worker: int
    minute: int
    difficulty_log2: int
    work: int


class Window(msgspec.Struct, frozen=True):
    """Records up to `last`, booked as of `moment_s`, and none of them before `floor_s`. `accepted` counts the
    writer's shares up to there; `hours` are those that the records are of. Where it was asked for: `used` is
    when each rate had its last accepted share, `untaken` when its last one that an upstream did not take."""

    last: Place
    moment_s: int
    accepted: int
    batches: int
    parts: tuple[Part, ...]
    hours: tuple[Hour, ...] = ()
    floor_s: int = 0
    used: Mapping[int, int] = {}
    untaken: Mapping[int, int] = {}

    @property
    def rows(self) -> int:
        return sum(len(part) for part in self.parts)

    def cut(self, start: int, most: int | None) -> Iterator[Part]:
        """Rows from the start-th on, as much work as so many tallies: one at least. None: all."""
        at = 0
        for part in self.parts:
            first, end = max(start - at, 0), len(part)
            if most is not None:
                weight = MACHINE_WEIGHT if part.machines else 1
                end = min(end, first - -most // weight)
                most -= max(end - first, 0) * weight
            if first < end:
                yield part.cut(first, end)
            if most is not None and most <= 0:
                return
            at += len(part)

    @property
    def workers(self) -> set[int]:
        """Who has shares in it."""
        found: set[int] = set()
        for part in self.parts:
            if part.tallies is not None:
                found.update(np.unique(part.tallies["worker"]).tolist())
        return found

    def mined(self) -> Iterator[Mined]:
        """Who has good shares, minute for minute."""
        for part in self.parts:
            if part.tallies is not None:
                yield from _mined(part.minute, part.tallies)


def window_of(
    batches: Sequence[tuple[Place, Batch]],
    *,
    last: Place,
    accepted: int,
    floor_s: int = 0,
    moments: Sequence[int] = (),
) -> Window:
    """Nothing in it is dated before `floor_s`. `last` and `accepted` are of the record before. `moments`:
    when each record is of, whatever it is dated, to tell when rates were used."""
    rates: dict[int, Rate] = {}
    machines: dict[int, Machine] = {}
    sums: dict[int, _Sum] = {}
    resolved: dict[bytes, None] = {}
    noted: dict[bytes, Noted] = {}
    credits: list[tuple[bytes, bytes]] = []
    credited: list[Credited] = []
    answered: list[Answered] = []
    kept: list[KeptShares] = []
    moment_s, count = floor_s, 0
    for place, batch in batches:
        last, accepted, moment_s, count = place, batch.accepted, max(moment_s, batch.moment_s), count + 1
        rates.update((it.number, it) for it in batch.rates)
        for machine in batch.machines:
            machines[machine.number] = _both(machines.get(machine.number), machine)
        if batch.tallies or batch.upstream:
            sums.setdefault(moment_s // 60, _Sum()).add(batch.tallies, batch.upstream)
        for key in batch.resolved:
            if noted.pop(key, None) is None:  # else it never was a row
                resolved[key] = None
        noted.update({it.key: it for it in batch.noted})
        credits += batch.credits
        credited += [Credited(moment_s // 60, *it) for it in batch.credited]
        if batch.answered:
            answered.append(Answered(moment_s // 60, batch.answered))
        if batch.kept:
            kept.append(KeptShares(moment_s // 60, batch.kept_log2, batch.kept))
    parts = [Part(rates=tuple(rates.values())), Part(machines=tuple(machines.values()))]
    # Before the tallies that they are in: what is refused is known when those are booked.
    parts += [Part(credited=tuple(credited)), Part(answered=tuple(answered))]
    # Before them too: what is settled of an hour has its shares.
    parts += [Part(kept=tuple(kept))]
    for minute, of_minute in sorted(sums.items()):
        tallies, upstream = of_minute.sums()
        parts += [Part(minute=minute, tallies=tallies), Part(minute=minute, upstream=upstream)]
    parts += [Part(resolved=tuple(resolved)), Part(noted=tuple(noted.values())), Part(credits=tuple(credits))]
    found = tuple(part for part in parts if len(part))
    used, untaken = _uses(batches, moments)
    return Window(last, moment_s, accepted, count, found, hours_of(batches), floor_s, used, untaken)


def accepted_in(tallies: Records) -> int:
    """How many of them are accepted shares."""
    return int(tallies["count"].sum(where=tallies["verdict"] == _ACCEPTED, dtype=np.uint64))


def _uses(
    batches: Sequence[tuple[Place, Batch]], moments: Sequence[int]
) -> tuple[dict[int, int], dict[int, int]]:
    """When each rate was used last, by minutes: of what is accepted, and of what was not taken. Raises
    ValueError for what are no tallies: what is read here is to be what is added up."""
    minutes: dict[int, list[bytes]] = {}
    for (_, batch), moment_s in zip(batches, moments, strict=False):
        if len(batch.tallies) % RECORD.itemsize:
            raise ValueError("a record of the journal has a part of a tally")
        minutes.setdefault(moment_s // 60, []).append(batch.tallies)
    used: dict[int, int] = {}
    untaken: dict[int, int] = {}
    for minute, tallies in sorted(minutes.items()):
        records = np.frombuffer(b"".join(tallies), dtype=RECORD)
        for uses, of in ((used, (Verdict.ACCEPTED,)), (untaken, NOT_TAKEN)):
            rates = np.unique(records["rate"][np.isin(records["verdict"], of)])
            uses.update(dict.fromkeys(rates.tolist(), minute * 60))
    return used, untaken


class _Sum:
    """Of a minute."""

    def __init__(self) -> None:
        self._merged: list[bytes] = []
        self._tallies: list[bytes] = []
        self._bytes = 0
        self._upstream: list[bytes] = []

    def add(self, tallies: bytes, upstream: bytes) -> None:
        self._tallies.append(tallies)
        self._upstream.append(upstream)
        self._bytes += len(tallies)
        if self._bytes >= RECORDS_AT_ONCE * RECORD.itemsize:
            self._merge()

    def sums(self) -> tuple[Records, bytes]:
        self._merge()
        merged = merge(self._merged)
        return merged, upstream_verdicts.pack(upstream_verdicts.unpack(self._upstream))

    def _merge(self) -> None:
        if self._tallies:
            self._merged.append(merge(self._tallies).tobytes())
            self._tallies, self._bytes = [], 0


def _both(before: Machine | None, machine: Machine) -> Machine:
    """A machine that is named twice is the same, and new if it ever was."""
    if before is None:
        return machine
    return msgspec.structs.replace(
        machine,
        new=before.new or machine.new,
        new_container=before.new_container or machine.new_container,
    )


def _mined(minute: int, records: Records) -> Iterator[Mined]:
    good = records[np.isin(records["verdict"], MINED)]
    # Exact: a count times a power of two. Whom it is compared with has as many machines as records.
    work = np.ldexp(
        good["count"].astype(np.float64), good["difficulty_log2"].astype(int) - DIFFICULTY_LOG2_MIN
    )
    order = np.lexsort((good["difficulty_log2"], work, good["worker"]))
    workers = good["worker"][order]
    most = np.append(workers[1:] != workers[:-1], True) if len(workers) else np.zeros(0, dtype=bool)
    last = order[most]
    found = zip(
        good["worker"][last].tolist(),
        good["difficulty_log2"][last].tolist(),
        work[last].tolist(),
        strict=True,
    )
    for worker, log2, amount in found:
        yield Mined(worker, minute, log2, int(amount))
