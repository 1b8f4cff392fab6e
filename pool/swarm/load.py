"""A run of simulated machines against a server: all of them come, they mine and are measured, and answers
that are on their way are waited for. It ends by itself, and when it is asked to, with what it has until then.

Must not know: how it is shown, and the command line.
"""

import json
import random
import resource
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from pool.swarm._swarm import Swarm
from pool.swarm.profiles import PROFILES, spoken

TICK_S: Final = 0.05
ARRIVAL_STALLS_S: Final = 20.0  # nobody got work for so long: who has none is not waited for
ARRIVAL_EXTRA_S: Final = 120.0  # beyond what the connection rate takes
DRAIN_S: Final = 2.0  # answers may come so long after the last share
FILES_RESERVED: Final = 64
MACHINES_MAX: Final = 60_000  # of a process: its files, and what a host's kernel has room for
SLOTS_PER_ROW: Final = 20


class LoadError(Exception):
    """It cannot be run."""


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """No power for a container, from 0, or for all of them."""

    at_s: float
    for_s: float
    container: int | None = None


class LoadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is run. Rates are of all machines together; `hashrate_hps` is each one's, in place of a rate."""

    host: str
    address: str  # the host's, as numbers
    port: int
    containers: int
    units: int
    profiles: tuple[str, ...] = ("antminer",)
    user: str = "acme"
    password: str = "x"  # noqa: S105
    shares_per_s: float = 0.0
    hashrate_hps: float = 0.0
    closed_loop: bool = False
    hashing: float = 0.5
    suggest_difficulty: float | None = None
    bad: float = 0.0
    late: float = 0.0
    slow_readers: float = 0.0
    cuts: tuple[Cut, ...] = ()
    tls: bool = False
    connects_per_s: float = 1000.0
    warmup_s: float = 0.0
    seconds: float = 60.0
    seed: int = 1

    @property
    def machines(self) -> int:
        return self.containers * self.units


class Arrived(msgspec.Struct, frozen=True):
    """How many machines had work, and after how long."""

    machines: int
    after_s: float


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A run so far. `counted` is the native side's snapshot of the measured seconds; `cuts` has each cut that
    began, with the seconds from its end until all were back, or nothing."""

    options: LoadOptions
    arrived: Arrived
    seconds: float
    mining: int  # at the end
    counted: dict[str, Any]
    cuts: list[tuple[Cut, float | None]]
    cpu_user_s: float
    cpu_system_s: float
    interrupted: bool


def machine_rows(options: LoadOptions) -> list[tuple[str, int, int, bool]]:
    """`user.cNN.rRRsSS`, as JSON has it between quotes, with the profile's place, the container, and whether
    it reads slowly. Containers have the profiles in turn: one is of one vendor."""
    chance = random.Random(options.seed)  # noqa: S311  # a run that can be repeated
    count = round(options.slow_readers * options.machines)
    slow = set(chance.sample(range(options.machines), count))
    user = json.dumps(options.user)[1:-1]
    rows = []
    for index in range(options.machines):
        container, place = divmod(index, options.units)
        row, slot = divmod(place, SLOTS_PER_ROW)
        name = f"{user}.c{container + 1:02d}.r{row + 1:02d}s{slot + 1:02d}"
        rows.append((name, container % len(options.profiles), container, index in slow))
    return rows


def run_load(
    options: LoadOptions,
    stopped: Callable[[], bool],
    arrived: Callable[[Arrived], None] = lambda _: None,
    told: Callable[[float], None] = lambda _: None,
) -> Measured:
    """Run it. `stopped` ends it early, `arrived` hears when shares begin, `told` how many measured seconds
    have passed. Raises LoadError where there are too few files for all machines."""
    allow_files(options.machines)
    return _Run(options, stopped).run(arrived, told)


def allow_files(machines: int) -> None:
    """Let this process have so many, and some more. Raises LoadError."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < machines + FILES_RESERVED:
        raise LoadError(
            f"{machines} machines need as many open files and {FILES_RESERVED} more; ulimit -n: {most}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class _Run:
    def __init__(self, options: LoadOptions, stopped: Callable[[], bool]) -> None:
        self._options, self._stopped = options, stopped
        self._swarm = Swarm(
            options.address,
            options.port,
            [
                spoken(
                    PROFILES[name],
                    password=options.password,
                    host=options.host,
                    port=options.port,
                    suggest_difficulty=options.suggest_difficulty,
                )
                for name in options.profiles
            ],
            machine_rows(options),
            shares_per_s=options.shares_per_s / options.machines,
            hashrate_hps=options.hashrate_hps,
            closed_loop=options.closed_loop,
            hashing=options.hashing,
            connects_per_s=options.connects_per_s,
            bad=options.bad,
            late=options.late,
            tls=options.tls,
            seed=options.seed,
        )
        self._cuts = [_CutRun(cut, options) for cut in options.cuts]

    def run(self, arrived: Callable[[Arrived], None], told: Callable[[float], None]) -> Measured:
        swarm, options = self._swarm, self._options
        came = self._arrive()
        arrived(came)
        swarm.submitting(True)
        if came.machines:
            self._pass(options.warmup_s, lambda _: None, ())
        swarm.measure()
        before = resource.getrusage(resource.RUSAGE_SELF)
        passed_s = self._pass(options.seconds, told, self._cuts) if came.machines else 0.0
        after = resource.getrusage(resource.RUSAGE_SELF)
        mining, searching = swarm.mining(), swarm.snapshot()["searching"]
        swarm.submitting(False)
        interrupted = self._stopped()
        self._drain()
        counted = swarm.snapshot()
        counted["too_dear"] += searching
        counted["unanswered"] += counted["in_flight"]
        return Measured(
            options=options,
            arrived=came,
            seconds=passed_s,
            mining=mining,
            counted=counted,
            cuts=[(it.cut, it.back_s) for it in self._cuts if it.began],
            cpu_user_s=after.ru_utime - before.ru_utime,
            cpu_system_s=after.ru_stime - before.ru_stime,
            interrupted=interrupted,
        )

    def _arrive(self) -> Arrived:
        """All of them, or those that come at all."""
        swarm, options = self._swarm, self._options
        start_s = grown_s = time.monotonic()
        end_s = start_s + options.machines / options.connects_per_s + ARRIVAL_EXTRA_S
        most = 0
        swarm.restore()
        while most < options.machines and not self._stopped():
            swarm.run(TICK_S)
            now_s, mining = time.monotonic(), swarm.mining()
            if mining > most:
                most, grown_s = mining, now_s
            if now_s > end_s or now_s > grown_s + ARRIVAL_STALLS_S:
                break
        return Arrived(most, time.monotonic() - start_s)

    def _pass(self, seconds: float, told: Callable[[float], None], cuts: "Iterable[_CutRun]") -> float:
        start_s = time.monotonic()
        passed_s = 0.0
        while passed_s < seconds and not self._stopped():
            for cut in cuts:
                cut.look(self._swarm, passed_s)
            self._swarm.run(min(TICK_S, seconds - passed_s))
            passed_s = time.monotonic() - start_s
            told(passed_s)
        return passed_s

    def _drain(self) -> None:
        end_s = time.monotonic() + DRAIN_S
        while self._swarm.snapshot()["in_flight"] and time.monotonic() < end_s:
            self._swarm.run(TICK_S)


class _CutRun:
    """One cut, as time passes."""

    def __init__(self, cut: Cut, options: LoadOptions) -> None:
        self.cut = cut
        self.began = False
        self.back_s: float | None = None
        self._restored_s: float | None = None
        self._machines = options.machines if cut.container is None else options.units

    def look(self, swarm: Swarm, passed_s: float) -> None:
        cut = self.cut
        if not self.began and passed_s >= cut.at_s:
            self.began = True
            swarm.cut(cut.container)
        if self.began and self._restored_s is None and passed_s >= cut.at_s + cut.for_s:
            self._restored_s = passed_s
            swarm.restore(cut.container)
        elif self._restored_s is None or self.back_s is not None:
            return
        elif swarm.mining(cut.container) == self._machines:
            self.back_s = passed_s - self._restored_s
