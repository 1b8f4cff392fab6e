"""A site of simulated machines that can be told to pause: each mines from its own loopback address, and
answers there as its vendor's firmware does.

One listener for all of them: at which address somebody connected says which machine he means. A machine that
pauses lets its connection to the pool go, and one that wakes comes again, after a while. All mine natively,
in a thread of their own, which hears from here who is to rest; each makes the same few hashes a second, and
draws what a real machine does. Everything that it says of itself is random by the seed.

Invariant: nobody is answered who did not come by the loopback. Must not know: the pool's insides.
"""

import json
import math
import random
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, ip_address
from queue import Empty, SimpleQueue
from typing import Any, Final

import msgspec
import trio

from pool.swarm._swarm import Swarm
from pool.swarm.api_streams import answer_stream
from pool.swarm.load import SLOTS_PER_ROW, TICK_S, allow_files
from pool.swarm.machine_api import ApiOptions, MachineApi, Temper
from pool.swarm.profiles import PROFILES, Spoken, spoken

FIRST: Final = IPv4Address("127.64.0.1")
MACHINES_MAX: Final = 20_000  # of a process: a hundred hashes a second of each are a fifth of a core
UNITS: Final = 400  # of a container
TALKS_MAX: Final = 1_000  # connections to their APIs; a pool has 400 at a time
WAKES_S: Final = (20.0, 60.0)  # boots, and tunes
BACKLOG: Final = 1_024
COUNTED_S: Final = 1.0  # so old are counts at most
CONNECTS_PER_S: Final = 500.0
HASHES_PER_TH: Final = 10**12
IDLE_WATTS: Final = 60


class SiteOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`firmware` is dealt out in turn; of all machines so many have each temper, the others are honest. Those
    of the first container draw `watts`, those of the next ones a little less each, four in turn."""

    port: int
    api_port: int
    machines: int
    host: str = "127.0.0.1"
    tenant: str = "acme"
    firmware: tuple[str, ...] = ("braiins",)
    tempers: Mapping[Temper, int] = {}
    hashrate_hps: float = 100.0
    watts: int = 3_250
    wakes_s: tuple[float, float] = WAKES_S
    seed: int = 1


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Up to a second ago. `counted` is all that the native side counts."""

    mining: int = 0
    accepted: int = 0
    rejected: int = 0
    counted: Mapping[str, Any] = {}

    @property
    def lost(self) -> int:
        """Connections that ended, and not because their machine was to rest."""
        return sum(self.counted.get("lost", {}).values())


class SimulatedMachine:
    """One, whose API says when it is to mine; `orders` are for whoever mines: None to rest, seconds to wake
    after. `rests` are the times, by the wall clock, that it was off in: the last one may have no end."""

    def __init__(
        self, index: int, options: SiteOptions, temper: Temper, orders: SimpleQueue[tuple[int, float | None]]
    ) -> None:
        container, place = divmod(index, UNITS)
        row, slot = divmod(place, SLOTS_PER_ROW)
        self.container = f"c{container + 1:02d}"
        self.unit = f"r{row + 1:02d}s{slot + 1:02d}"
        self.name = f"{options.tenant}.{self.container}.{self.unit}"
        self.address = str(FIRST + index)
        self.rests: list[tuple[float, float]] = []
        self._index, self._options, self._orders = index, options, orders
        self._random = random.Random(f"{options.seed}/{self.name}/api")  # noqa: S311 - to be repeated
        of = ApiOptions(
            firmware=options.firmware[index % len(options.firmware)],
            temper=temper,
            watts=watts_of(options, container),
            idle_watts=IDLE_WATTS,
        )
        self.api = MachineApi(of, self._random, self._told)

    @property
    def watts(self) -> int:
        """That it draws, whatever it says."""
        return self.api.options.watts if self.api.mines else self.api.options.idle_watts

    async def answer(self, stream: trio.abc.Stream) -> None:
        await answer_stream(self.api, stream, self._random)

    def _told(self, mines: bool) -> None:
        if mines:
            after_s = self._random.uniform(*self._options.wakes_s)
            self._orders.put((self._index, after_s))
            self.rests[-1] = (self.rests[-1][0], time.time() + after_s)
        else:
            self._orders.put((self._index, None))
            self.rests.append((time.time(), math.inf))


class SimulatedSite:
    """All of them."""

    def __init__(self, options: SiteOptions) -> None:
        """Raises LoadError where there are too few files for all of them."""
        allow_files(options.machines + TALKS_MAX)
        self.options = options
        self.counts = Counts()
        self._orders: SimpleQueue[tuple[int, float | None]] = SimpleQueue()
        self._ended = False
        tempers = [temper for temper, count in options.tempers.items() for _ in range(count)]
        tempers += [Temper.HONEST] * (options.machines - len(tempers))
        random.Random(options.seed).shuffle(tempers)  # noqa: S311 - to be repeated
        self.machines = [
            SimulatedMachine(index, options, tempers[index], self._orders)
            for index in range(options.machines)
        ]
        self._at = {it.address: it for it in self.machines}

    @property
    def paused(self) -> int:
        """How many do not mine, whatever they say."""
        return sum(not it.api.mines for it in self.machines)

    @property
    def watts(self) -> int:
        """What all of them draw."""
        return sum(it.watts for it in self.machines)

    def addresses(self) -> Sequence[tuple[str, str, str, str, int, str]]:
        """Of each: tenant, container, unit, address, port, firmware."""
        return [
            (
                *(self.options.tenant, it.container, it.unit),
                *(it.address, self.options.api_port, it.api.options.firmware),
            )
            for it in self.machines
        ]

    def models(self) -> Sequence[tuple[str, str, str, int, int, int, int]]:
        """Of each container: tenant, container, TH/s, W, W while it is paused, J/TH, and how far off that is.
        A nameplate knows no less than a thousandth of a TH/s."""
        a_second = self.options.hashrate_hps
        return [
            (
                *(self.options.tenant, f"c{container + 1:02d}", "0.001"),
                *(watts, IDLE_WATTS, round(watts * HASHES_PER_TH / a_second), 0),
            )
            for container in range(-(-self.options.machines // UNITS))
            if (watts := watts_of(self.options, container))
        ]

    async def run(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; it has started when its APIs listen, at this port. Raises OSError."""
        listener = _listener(self.options.api_port)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, self._mine)
            try:
                task_status.started(listener.getsockname()[1])
                await trio.serve_listeners(self._serve, [trio.SocketListener(listener)])
            finally:
                self._ended = True

    async def _serve(self, stream: trio.SocketStream) -> None:
        address = ip_address(stream.socket.getsockname()[0])
        machine = self._at.get(str(address))
        if not address.is_loopback or machine is None:
            await trio.aclose_forcefully(stream)
            return
        await machine.answer(stream)

    # In a thread

    def _mine(self) -> None:
        swarm = self._swarm()
        swarm.restore()
        swarm.submitting(True)
        counted_s = time.monotonic()
        while not self._ended:
            self._obey(swarm)
            swarm.run(TICK_S)
            if time.monotonic() >= counted_s + COUNTED_S:
                counted_s = time.monotonic()
                self.counts = _counts(swarm)

    def _obey(self, swarm: Swarm) -> None:
        while True:
            try:
                number, after_s = self._orders.get_nowait()
            except Empty:
                return
            if after_s is None:
                swarm.pause(number)
            else:
                swarm.wake(number, after_s)

    def _swarm(self) -> Swarm:
        it = self.options
        return Swarm(
            it.host,
            it.port,
            [_speech(it, firmware) for firmware in it.firmware],
            [
                (json.dumps(machine.name)[1:-1], index % len(it.firmware), index // UNITS, False)
                for index, machine in enumerate(self.machines)
            ],
            shares_per_s=0.0,
            hashrate_hps=it.hashrate_hps,
            closed_loop=False,
            hashing=0.5,
            connects_per_s=CONNECTS_PER_S,
            bad=0.0,
            late=0.0,
            tls=False,
            seed=it.seed,
            first_source=str(FIRST),
        )


def watts_of(options: SiteOptions, container: int) -> int:
    """What a machine there draws."""
    return options.watts * (100 - container % 4) // 100


def _speech(options: SiteOptions, firmware: str) -> Spoken:
    """As its vendor's, but that no Bitaxe suggests a difficulty, at which these would find nothing."""
    profile = PROFILES[firmware]
    requests = tuple(it for it in profile.requests if it.method != "mining.suggest_difficulty")
    return spoken(
        msgspec.structs.replace(profile, requests=requests, suggests=None),
        password="x",  # noqa: S106
        host=options.host,
        port=options.port,
        suggest_difficulty=None,
    )


def _counts(swarm: Swarm) -> Counts:
    counted = swarm.snapshot()
    codes = [(code, count) for by in counted["verdicts"].values() for code, count in by.items()]
    return Counts(
        mining=swarm.mining(),
        accepted=sum(count for code, count in codes if code == "accepted"),
        rejected=sum(count for code, count in codes if code != "accepted"),
        counted=counted,
    )


def _listener(port: int) -> trio.socket.SocketType:
    """At every loopback address, and at no other where the system can say so."""
    sock = socket.socket()
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform == "linux":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        sock.bind(("", port))
        sock.listen(BACKLOG)
        return trio.socket.from_stdlib_socket(sock)
    except BaseException:
        sock.close()
        raise
