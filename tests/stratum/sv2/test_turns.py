"""Who comes, and who leaves, by hundreds on Stratum V2: how long a share of somebody else waits for that.

Time is virtual, and each step takes as long as it was measured to, in lines that Python answers; so a share
waits for what was charged, and for more where a charge is too small. Encryption is left out but for its time.
"""

import itertools
import socket
import struct
from collections.abc import Callable
from typing import Any, Final

import msgspec
import pytest
import trio
import trio.testing

from stratum.miners.switchboard import BoardLimits
from stratum.miners.turns.connection_limits import Place
from stratum.miners.turns.lanes import DEAR_COST_BESIDE_MINERS, DEAR_REST_S
from stratum.sv2 import connection, dialect
from stratum.sv2.authority import Credentials
from stratum.sv2.connection import Sv2Connection
from stratum.sv2.dialect import Sv2
from stratum.sv2.mining_channel import MiningChannel
from stratum.sv2.noise import HEADER_BYTES, Frame, NoiseServer, unpack_header
from stratum.sv2.secp256k1 import key_pair
from tests.stages.memory_connections import MemoryConnection, be_trusted, running
from tests.stages.sockets import LoopbackServer
from tests.stages.sv2_pool import playing
from tests.stages.waiting import until

LINE_S: Final = 15e-6
# What the steps were measured to take (stratum.sv2.connection says how), in lines.
BEGINS, READS, SHAKES, ANSWERS, OPENS, ENDS = 3, 1, 32, 4, 33, 4.5
DEAREST_TURN: Final = READS + 2 * ANSWERS + OPENS
MACHINES: Final = 200
SOURCE: Final = "192.0.2.1"  # of the machines, and of who mines
LOOK_S: Final = 0.001
SETUP: Final = struct.pack("<BHHI", 0, 2, 2, 0) + b"\x04pool" + struct.pack("<H", 0) + b"\x01a\x01b\x01c\0"


@pytest.fixture
def clock() -> trio.testing.MockClock:
    return trio.testing.MockClock(autojump_threshold=0)


def taking(clock: trio.testing.MockClock, step: Callable[..., Any], lines: float) -> Callable[..., Any]:
    def taken(*args: Any, **options: Any) -> Any:
        clock.jump(lines * LINE_S)
        return step(*args, **options)

    return taken


class NoiseWithoutCiphers(NoiseServer):
    """Frames are as they are."""

    __slots__ = ()

    def shake(self, theirs: bytes, credentials: Credentials) -> bytes:
        return bytes(234)

    @property
    def has_more(self) -> bool:
        return len(self._received) >= HEADER_BYTES

    def next_frame(self) -> Frame | None:
        if not self.has_more:
            return None
        extension, kind, size = unpack_header(self._take(HEADER_BYTES))
        return Frame(extension, kind, self._take(size))

    def encrypt(self, frames: bytes) -> bytes:
        return frames


@pytest.fixture(autouse=True)
def steps_take_their_time(clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "NoiseServer", NoiseWithoutCiphers)
    for of, name, lines in (
        (Sv2Connection, "begin", BEGINS),
        (Sv2Connection, "_read", READS),
        (NoiseWithoutCiphers, "shake", SHAKES),
        (Sv2Connection, "_answer", ANSWERS),
        (MiningChannel, "open_with", OPENS),
        (MiningChannel, "shut", ENDS),
        (Sv2Connection, "_close", ENDS),
    ):
        monkeypatch.setattr(of, name, taking(clock, getattr(of, name), lines))


class Machine:
    """At the other end of a socket that has passed the door."""

    def __init__(self, server: LoopbackServer, sv2: Sv2, number: int, source: str = SOURCE) -> None:
        sock, theirs = socket.socketpair()
        sock.setblocking(False)
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
        self._name = f"acme.c01.u{number}".encode()
        place = server.connection_limits.enter(source)
        assert isinstance(place, Place)
        comes = server.board, server.connection_limits, sock, source, place
        server.board.arrive(sock, source, place, lambda _: sv2.connection(*comes), dear=True)

    async def mine(self, thinks_s: float = 0.0) -> None:
        """Come, as far as a job; `thinks_s` about what it heard first."""
        await self._stream.send_all(bytes(64))
        assert len(await self._stream.receive_some(234)) == 234
        await trio.sleep(thinks_s)
        name = bytes([len(self._name)]) + self._name
        asked = struct.pack("<I", 1) + name + struct.pack("<f", 0.0) + b"\xff" * 32
        await self._stream.send_all(Frame(0, 0x00, SETUP).packed + Frame(0, 0x10, asked).packed)
        heard = b""
        while b"\x20" not in kinds_of(heard):
            more = await self._stream.receive_some(4_096)
            assert more, "it was let go"
            heard += more

    def cut(self) -> None:
        self._stream.socket.close()


def kinds_of(frames: bytes) -> bytes:
    kinds = b""
    while len(frames) >= HEADER_BYTES:
        _, kind, size = unpack_header(frames)
        kinds += bytes([kind])
        frames = frames[HEADER_BYTES + size :]
    return kinds


class Miner(MemoryConnection):
    """One of V1 that knows when it is answered."""

    __slots__ = ("answered",)

    def __init__(self, server: LoopbackServer, source: str = SOURCE) -> None:
        self.answered = trio.Event()
        super().__init__(server, source, [], "acme.c09.good")

    def write(self, data: bytes) -> None:
        super().write(data)
        self.answered.set()


class Beside:
    """What who mines on V1 notices: how late anything is done, and how long a share waits for its answer."""

    def __init__(self, miner: Miner) -> None:
        self._miner = miner
        self.late_s: list[float] = []
        self.waited_s: list[float] = []

    async def look(self) -> None:
        while True:
            due_s = trio.current_time() + LOOK_S
            await trio.sleep_until(due_s)
            self.late_s.append(trio.current_time() - due_s)

    async def mine(self) -> None:
        for number in itertools.count(10):
            due_s = trio.current_time() + LOOK_S
            await trio.sleep_until(due_s)
            self._miner.answered = trio.Event()
            self._miner.say(self._miner.share(number))
            await self._miner.answered.wait()
            self.waited_s.append(trio.current_time() - due_s)


async def test_a_share_waits_for_a_round_of_those_who_come_or_leave_and_for_no_more(
    clock: trio.testing.MockClock,
) -> None:
    sv2 = Sv2(Credentials(key_pair(), validity_s=86_400))
    async with running() as server, trio.open_nursery() as nursery:
        await nursery.start(sv2.run, server.board)
        miner = Miner(server)
        await be_trusted(miner)
        beside = Beside(miner)
        nursery.start_soon(beside.look)
        nursery.start_soon(beside.mine)
        since_s = trio.current_time()
        machines = [Machine(server, sv2, number) for number in range(MACHINES)]
        async with trio.open_nursery() as coming:
            for machine in machines:
                coming.start_soon(machine.mine)
        back_s = trio.current_time() - since_s
        assert sv2.channels == sv2.handshakes == MACHINES
        since_s = trio.current_time()
        for machine in machines:
            machine.cut()
        await until(lambda: sv2.connections == 0)
        left_s = trio.current_time() - since_s
        nursery.cancel_scope.cancel()
    late_ms, waited_ms = max(beside.late_s) * 1_000, max(beside.waited_s) * 1_000
    print(f"{late_ms:.2f} ms late, {waited_ms:.2f} to an answer; back {back_s:.3f} s, left {left_s:.3f} s")
    round_s = (DEAR_COST_BESIDE_MINERS + DEAREST_TURN) * LINE_S
    assert max(beside.late_s) <= round_s
    assert max(beside.waited_s) <= BoardLimits().commit_interval_s + 4 * round_s
    rests = 1 + DEAR_REST_S / (DEAR_COST_BESIDE_MINERS * LINE_S)
    costs_s = MACHINES * (BEGINS + 2 * READS + SHAKES + 2 * ANSWERS + OPENS) * LINE_S
    assert 0.8 * costs_s * rests <= back_s <= 1.4 * costs_s * rests, "a third of the time is theirs"
    assert 0.8 <= left_s / (MACHINES * 2 * ENDS * LINE_S * rests) <= 1.4


async def test_who_is_slow_is_not_let_go_for_others_as_slow_and_who_is_silent_keeps_nobody_out(
    clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialect, "SHAKING_MAX", 8)
    sv2 = Sv2(Credentials(key_pair(), validity_s=86_400))
    async with running() as server, trio.open_nursery() as nursery:
        limits = server.connection_limits
        limits.limits = msgspec.structs.replace(limits.limits, half_open_per_address_max=10)
        await nursery.start(sv2.run, server.board)
        await be_trusted(Miner(server))
        machines = [Machine(server, sv2, number) for number in range(50)]
        async with trio.open_nursery() as coming:
            for machine in machines:
                coming.start_soon(machine.mine, 1.0)
        assert sv2.channels == sv2.handshakes == 50
        assert not server.board.dropped
        since_s = trio.current_time()
        machines += [Machine(server, sv2, 50 + number) for number in range(9)]  # of whom eight say nothing
        await machines[-1].mine()
        assert trio.current_time() - since_s == pytest.approx(dialect.SHAKES_S, abs=0.1)
        for machine in machines:
            machine.cut()
        nursery.cancel_scope.cancel()


async def test_who_is_silent_behind_twenty_addresses_has_nobody_of_another_wait(
    clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He mines from each of them, so that they are known, and has each open as many as may shake hands. Where
    one bound was for all sources, a site that came back beside him had what twenty left it of 512 in 5 s."""
    monkeypatch.setattr(dialect, "SHAKING_MAX", 8)
    sv2 = Sv2(Credentials(key_pair(), validity_s=86_400))
    his = [f"198.51.100.{number}" for number in range(20)]
    async with running() as server, trio.open_nursery() as nursery:
        await nursery.start(sv2.run, server.board)
        for source in (SOURCE, *his):
            await be_trusted(Miner(server, source))
        silent = [Machine(server, sv2, number, source) for source in his for number in range(50)]
        await until(lambda: sv2.connections == 8 * len(his))
        since_s = trio.current_time()
        machines = [Machine(server, sv2, number) for number in range(50)]
        async with trio.open_nursery() as coming:
            for machine in machines:
                coming.start_soon(machine.mine)
        back_s = trio.current_time() - since_s
        print(f"all are back after {back_s:.3f} s")
        assert back_s < dialect.SHAKES_S / 2
        assert sv2.channels == 50
        for machine in (*silent, *machines):
            machine.cut()
        nursery.cancel_scope.cancel()


async def test_who_has_left_by_its_first_turn_costs_no_handshake() -> None:
    """Else a crowd that gives up and comes again would have all turns taken by those who gave up."""
    async with playing() as pool:
        for _ in range(50):
            with socket.create_connection(("127.0.0.1", pool.port)) as sock:
                sock.sendall(bytes(64))
        await until(lambda: pool.server.board.dropped.total() == 50)
        assert pool.server.board.dropped == {"left": 50}
        assert pool.sv2.handshakes == 0
        assert pool.server.connection_limits.sessions == 0
