"""Who speaks Stratum V2 to harm others, or breaks it: what it costs them, and that it costs nobody else."""

import struct
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import msgspec
import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from stratum._engine import WORKERS_PER_SESSION_MAX
from stratum.miners.connection import RECV_BYTES
from stratum.miners.contracts import Refusal
from stratum.miners.switchboard import BoardLimits
from stratum.miners.turns.connection_limits import ConnectionBounds, Place, Standing
from stratum.miners.turns.turns import Waiting
from stratum.sv2 import connection
from stratum.sv2.authority import Credentials
from stratum.sv2.connection import (
    END_COST,
    ENDS_PER_TURN,
    HANDSHAKE_S,
    OPEN_COST,
    TURN_COST,
    Sv2Connection,
)
from stratum.sv2.messages import REQUIRES_STANDARD_JOBS
from stratum.sv2.noise import NoiseServer
from tests.stages.sockets import Miner, accepted, make_work, pass_in_silence, virtual_clock
from tests.stages.sv2_pool import playing
from tests.stages.waiting import until


@pytest.fixture
def autojump_clock() -> MockClock:
    return virtual_clock()


@pytest.mark.parametrize("size", [0, 1, 63])
async def test_who_does_not_shake_hands_in_time_is_dropped(size: int, autojump_clock: MockClock) -> None:
    async with playing() as pool:
        began_s = trio.current_time()
        stream = await trio.open_tcp_stream("127.0.0.1", pool.port)
        async with stream:
            await stream.send_all(bytes(size))
            assert await stream.receive_some() == b""
        assert trio.current_time() - began_s == pytest.approx(HANDSHAKE_S, abs=1)
        assert pool.server.board.dropped == {"SV2 handshake failed": 1}
        assert pool.server.connection_limits.sessions == 0


async def test_who_opens_no_channel_in_time_is_dropped(autojump_clock: MockClock) -> None:
    async with playing() as pool:
        silent = await pool.machine(setup=False)
        agreed = await pool.machine(setup=False, random=Random(2))
        await agreed.setup(REQUIRES_STANDARD_JOBS)
        began_s = trio.current_time()
        for machine, limit_s in ((silent, 10.0), (agreed, 30.0)):
            with pytest.raises(EOFError):
                await machine.hear()
            assert trio.current_time() - began_s == pytest.approx(limit_s, abs=1)
        assert pool.server.board.dropped == {"no channel opened": 2}


async def test_who_mines_seldom_stays(autojump_clock: MockClock) -> None:
    """There is no ping in Stratum V2: whether a silent machine is there, the kernel finds out."""
    async with playing() as pool:
        machine = await pool.machine()
        channel = await machine.open()
        await pass_in_silence(autojump_clock, 1_000)
        assert (await machine.mine(channel))["count"] == 1
        assert not pool.server.board.dropped


@pytest.mark.parametrize(
    ("kind", "payload", "reason"),
    [
        (0x10, struct.pack("<I", 1), "malformed message"),
        (0x00, b"", "malformed message"),
        (0x13, bytes(30), "malformed message"),
    ],
)
async def test_what_breaks_the_protocol_ends_its_connection_and_no_other(
    kind: int, payload: bytes, reason: str
) -> None:
    async with playing() as pool:
        machine, other = await pool.machine(), await pool.machine(random=Random(2))
        channel = await other.open()
        await machine.say(kind, payload)
        with pytest.raises(EOFError):
            await machine.hear()
        assert pool.server.board.dropped[reason] == 1
        assert (await other.mine(channel))["count"] == 1


async def test_nothing_is_heard_before_setup_connection() -> None:
    async with playing() as pool:
        machine = await pool.machine(setup=False)
        await machine.ask_to_open("acme.c01.u1")
        with pytest.raises(EOFError):
            await machine.hear()
        assert pool.server.board.dropped == {"no SetupConnection": 1}


async def test_bytes_of_somebody_else_end_the_connection() -> None:
    async with playing() as pool:
        machine = await pool.machine()
        await machine.open()
        await machine.raw(Random(4).randbytes(60))
        with pytest.raises(EOFError):
            await machine.until("CloseChannel")
        assert pool.server.board.dropped == {"decryption failed": 1}


async def test_who_guesses_names_is_dropped_and_a_proxy_with_channels_is_not() -> None:
    async with playing() as pool:
        machine, proxy = await pool.machine(), await pool.machine(random=Random(2))
        channel = await proxy.open()
        for it in (machine, proxy):
            for count in range(10):
                await it.ask_to_open(f"nobody.c01.u{count}")
                await it.until("OpenMiningChannel.Error")
        with pytest.raises(EOFError):
            await machine.hear()
        assert (await proxy.mine(channel))["count"] == 1
        assert pool.server.board.dropped["refused too often"] == 1


@pytest.mark.parametrize("later", [False, True])
async def test_names_that_shares_bring_are_asked_for_so_many_times_and_no_more(later: bool) -> None:
    """Else who has one channel could fill the pool with names, at the price of a share each. So it is with
    names that may mine `later`, when a node answers."""
    async with playing() as pool:
        machine = await pool.machine()
        await machine.extend(2)
        channel = await machine.open("acme.c01.proxy", least=4)
        if later:
            pool.server.admission.refusal = Refusal("no bitcoin node answers", passes=True)
            for count in range(WORKERS_PER_SESSION_MAX + 20):
                assert (await machine.mine(channel, worker=f"u{count}"))["code"] == "unknown-user"
            pool.server.admission.refusal = None
        for count in range(WORKERS_PER_SESSION_MAX + 20):
            said = await machine.mine(channel, worker=f"u{count}")
            assert ("count" in said) == (count < WORKERS_PER_SESSION_MAX - 1), count
        assert len(pool.server.admission.numbers) == WORKERS_PER_SESSION_MAX + 1
        assert (await machine.mine(channel, worker="u3"))["count"] == 1, "and those it knows go on"


async def test_channels_of_a_connection_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CHANNELS_MAX", 3)
    async with playing() as pool:
        machine = await pool.machine()
        channels = [await machine.open(f"acme.c01.u{count}") for count in range(3)]
        await machine.ask_to_open("acme.c01.u9")
        assert (await machine.until("OpenMiningChannel.Error"))["code"] == "too-many-channels"
        assert (await machine.mine(channels[0]))["count"] == 1


async def test_who_does_not_read_is_dropped_with_all_its_channels() -> None:
    limits = BoardLimits(out_bytes_max=4_096)
    async with playing(board_limits=limits) as pool:
        machine, other = await pool.machine(), await pool.server.mining()
        channel = await machine.open(least=4)
        for count in range(3):
            await machine.open(f"acme.c01.u{count}", least=4)
        height = 2
        while pool.server.connection_limits.sessions > 1:
            pool.server.publish(big_work(height))
            height += 1
            await trio.lowlevel.checkpoint()
        assert pool.server.board.dropped == {"does not read": 4}
        await other.hear()
        assert accepted(await other.mine())
        assert channel.closed is None


def big_work(height: int) -> Any:
    return msgspec.structs.replace(make_work(height), coinbase2=bytes(40_000))


async def mine_until(miner: Miner, over: Callable[[], bool]) -> None:
    while not over():
        assert accepted(await miner.mine())


async def test_a_storm_of_handshakes_waits_and_who_mines_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three hundred come at once: each is answered in its turn, and shares of who mines in between."""
    shake, counted = NoiseServer.shake, []

    def counting(server: NoiseServer, theirs: bytes, credentials: Credentials) -> bytes:
        counted.append(pool.journal.counted())
        return shake(server, theirs, credentials)

    monkeypatch.setattr(NoiseServer, "shake", counting)
    async with playing() as pool:
        miner, random = await pool.server.mining(), Random(14)
        while not pool.server.connection_limits.mining:
            assert accepted(await miner.mine())
        streams = [await trio.open_tcp_stream("127.0.0.1", pool.port) for _ in range(300)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mine_until, miner, lambda: len(counted) == 300)
            for stream in streams:
                await stream.send_all(random.randbytes(64))
        assert counted[-1] - counted[0] >= 2
        for stream in streams:
            assert len(await stream.receive_some(1_000)) == 234
            await trio.aclose_forcefully(stream)
        await until(lambda: pool.server.connection_limits.sessions == 1)


async def test_half_open_ones_of_one_source_are_bounded() -> None:
    async with playing(connection_bounds=ConnectionBounds(half_open_per_address_max=8)) as pool:
        streams = [await trio.open_tcp_stream("127.0.0.1", pool.port) for _ in range(20)]
        await until(lambda: pool.server.board.dropped.total() >= 12)
        assert pool.server.connection_limits.standing()[Standing.HALF_OPEN] <= 8
        for stream in streams:
            await trio.aclose_forcefully(stream)


@pytest.mark.parametrize("bounds", [{"sessions_per_address_max": 2}, {"sessions_max": 2}])
async def test_where_all_places_are_taken_nobody_loses_his_own_by_opening_a_channel(
    bounds: dict[str, int],
) -> None:
    """A channel has a place of its own, and its connection none then: who came first, and was half-open for
    longest, made room for himself, and left a channel behind that nobody was at."""
    async with playing(connection_bounds=ConnectionBounds(**bounds)) as pool:
        first, second = await pool.machine(), await pool.machine(random=Random(2))
        for machine in (first, second):
            channel = await machine.open()
            assert (await machine.mine(channel))["count"] == 1
            assert pool.server.connection_limits.sessions == 2
        assert not pool.server.board.dropped
        await first.ask_to_open("acme.c01.u9")  # a second channel takes a place that there is none of
        assert (await first.until("OpenMiningChannel.Error"))["code"].startswith("refused: ")
        await trio.aclose_forcefully(second.stream)
        await until(lambda: pool.server.connection_limits.sessions == 1)


async def test_who_makes_room_for_himself_with_his_last_channel_leaves_no_place_behind(
    autojump_clock: MockClock,
) -> None:
    async with playing(connection_bounds=ConnectionBounds(sessions_per_address_max=1)) as pool:
        machine = await pool.machine()
        await machine.open()
        await pass_in_silence(autojump_clock, 1_000)
        assert pool.server.connection_limits.standing()[Standing.IDLE] == 1
        await machine.ask_to_open("acme.c01.u9")
        with pytest.raises(EOFError):
            await machine.until("OpenStandardMiningChannel.Success")
        assert pool.server.connection_limits.sessions == 0


async def test_a_packet_of_many_questions_takes_turns() -> None:
    """One connection cannot hold up a round: what a packet asks costs turns, as lines of V1 do."""
    async with playing() as pool:
        machine, other = await pool.machine(), await pool.machine(random=Random(2))
        channel = await other.open()
        update = struct.pack("<If", 77, 0.0) + bytes(32)
        packet = b"".join(machine.frame(0x16, update, 0x8000) for _ in range(RECV_BYTES // 70))
        await machine.raw(packet)
        assert (await other.mine(channel))["count"] == 1
        for _ in range(RECV_BYTES // 70):
            assert (await machine.until("UpdateChannel.Error"))["code"] == "invalid-channel-id"


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Of each turn that a connection had: the frames that were looked for in it, and what it cost."""
    found: list[tuple[int, int]] = []
    take_turn, next_frame, looked = Sv2Connection.take_turn, NoiseServer.next_frame, [0]

    def looking(server: NoiseServer) -> Any:
        looked[0] += 1
        return next_frame(server)

    def taking(taker: Sv2Connection) -> int:
        before = looked[0]
        cost = take_turn(taker)
        found.append((looked[0] - before, cost))
        return cost

    monkeypatch.setattr(NoiseServer, "next_frame", looking)
    monkeypatch.setattr(Sv2Connection, "take_turn", taking)
    return found


async def test_what_a_stranger_says_is_not_even_decrypted_before_its_turn(
    turns: list[tuple[int, int]],
) -> None:
    """A packet holds 186 empty frames: a thousand connections that say as much would stop all others for a
    second, if each were decrypted as it comes."""
    async with playing() as pool:
        machine, other = await pool.machine(), await pool.machine(random=Random(2))
        channel = await other.open()
        await machine.raw(b"".join(machine.frame(0x7F, b"") for _ in range(RECV_BYTES // 22)))
        assert (await other.mine(channel))["count"] == 1
        await machine.open()
        assert sum(looked for looked, _ in turns) > RECV_BYTES // 22
        assert max(looked for looked, _ in turns) <= TURN_COST + 1


async def test_a_share_for_a_channel_of_the_other_kind_takes_its_turn(turns: list[tuple[int, int]]) -> None:
    """Nothing counts it, so it is no share: who has mined one could have these answered at line speed."""
    async with playing() as pool:
        machine = await pool.machine()
        channel = await machine.open(least=4)
        while not pool.server.connection_limits.mining:
            await machine.mine(channel)
        await machine.mine(channel)
        turns.clear()
        wrong = struct.pack("<6I", channel.number, 1, 1, 1, 1, 1)
        await machine.raw(b"".join(machine.frame(0x1A, wrong, 0x8000) for _ in range(40)))
        for _ in range(40):
            assert (await machine.until("SubmitShares.Error"))["code"] == "invalid-channel-id"
        assert sum(cost for _, cost in turns) >= 40


async def test_a_channel_that_is_refused_costs_the_turns_of_one_that_is_opened(
    turns: list[tuple[int, int]],
) -> None:
    async with playing() as pool:
        machine = await pool.machine()
        await machine.open()
        turns.clear()
        for count in range(10):
            await machine.ask_to_open(f"nobody.c01.u{count}")
            await machine.until("OpenMiningChannel.Error")
        assert sum(cost for _, cost in turns) >= 10 * OPEN_COST


async def test_a_proxy_that_leaves_does_so_a_few_channels_a_turn(turns: list[tuple[int, int]]) -> None:
    async with playing() as pool:
        machine, board = await pool.machine(), pool.server.board
        for count in range(3 * ENDS_PER_TURN):
            await machine.open(f"acme.c01.u{count}")
        turns.clear()
        await machine.close()
        await until(lambda: not board.connections)
        assert board.dropped == {"left": 3 * ENDS_PER_TURN}
        costs = [cost for _, cost in turns if cost >= END_COST]
        assert costs == [END_COST * (1 + ENDS_PER_TURN)] * 3
        assert pool.sv2.connections == pool.server.connection_limits.sessions == 0


async def test_a_proxy_that_breaks_the_protocol_ends_a_few_channels_a_turn(
    turns: list[tuple[int, int]],
) -> None:
    """A thousand of one connection at once took 72 ms, for one frame that nobody can decrypt: 64 such
    connections were five seconds in which no share was answered."""
    async with playing() as pool:
        machine, board = await pool.machine(), pool.server.board
        for count in range(3 * ENDS_PER_TURN):
            await machine.open(f"acme.c01.u{count}")
        turns.clear()
        await machine.raw(bytes(64))
        await until(lambda: not board.connections)
        assert list(board.dropped.values()) == [3 * ENDS_PER_TURN]
        costs = [cost for _, cost in turns if cost >= END_COST]
        assert costs == [END_COST * (1 + ENDS_PER_TURN)] * 3
        assert pool.sv2.connections == pool.server.connection_limits.sessions == 0


async def test_who_waits_long_for_its_turns_does_not_run_out_of_time_by_that(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands that come back at once wait for each other, and all of them are let in."""
    async with trio.open_nursery() as nursery, playing() as pool:
        lanes, waited = pool.server.board.lanes, []
        give = lanes.add

        async def give_late(place: Place, waiting: Waiting, *, dear: bool) -> None:
            await trio.sleep(HANDSHAKE_S + 1)
            give(place, waiting, dear=dear)

        def wait_long(place: Place, waiting: Waiting, *, dear: bool = False) -> None:
            waited.append(waiting)
            nursery.start_soon(partial(give_late, place, waiting, dear=dear))

        monkeypatch.setattr(lanes, "add", wait_long)
        machine = await pool.machine()
        assert (await machine.mine(await machine.open()))["count"] == 1
        assert len(waited) >= 4
