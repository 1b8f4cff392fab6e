"""Miners that do not behave, on the switchboard over real sockets: dropped at a bound, and nobody notices.

Time is virtual where a test needs it to pass; the sockets, the engine and the pump are the real ones.
"""

from collections import Counter
from functools import partial

import pytest
import trio
import trio.testing

from stratum.miners.connection import SocketConnection
from stratum.miners.liveness import SessionLimits
from stratum.miners.switchboard import TICK_S, BoardLimits
from stratum.tallies import Verdict
from tests.stages.sockets import Miner, accepted, all_of, encode, make_work, serving, virtual_clock
from tests.stages.waiting import PATIENCE_S, until

SMALL_BUFFER = 4_096  # of a miner's socket, so that little is needed to fill it


@pytest.fixture
def clock() -> trio.testing.MockClock:
    return virtual_clock()


async def swallow_shares(miner: Miner) -> None:
    """Send shares and never read an answer, until the pool has had enough."""
    nonce = 10_000
    try:
        while True:
            lines = [encode(n, "mining.submit", *miner.share(n)) for n in range(nonce, nonce + 200)]
            nonce += 200
            await miner.stream.send_all(b"".join(lines))
    except trio.BrokenResourceError:
        return


async def test_miner_that_never_reads_is_dropped_at_the_bound_and_nobody_notices() -> None:
    async with serving() as server:
        deaf = await server.mining(receive_buffer=SMALL_BUFFER)
        good = await server.mining("acme.c01.good")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(swallow_shares, deaf)
            with trio.fail_after(PATIENCE_S):
                while not server.board.dropped["does not read"]:
                    assert accepted(await good.mine())
        assert accepted(await good.mine())
        assert len(server.board.connections) == 1


async def test_miner_that_reads_a_byte_a_second_is_dropped_at_the_bound(
    clock: trio.testing.MockClock,
) -> None:
    async with serving() as server:
        slow = await server.mining(receive_buffer=SMALL_BUFFER)
        good = await server.mining("acme.c01.good")

        async def read_slowly() -> None:
            while True:
                await trio.sleep(1)
                await slow.stream.receive_some(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_slowly)
            nonce = 10_000
            while not server.board.dropped["does not read"]:
                assert nonce < 100_000
                lines = [encode(n, "mining.submit", *slow.share(n)) for n in range(nonce, nonce + 400)]
                nonce += 400
                try:
                    await slow.stream.send_all(b"".join(lines))
                except trio.BrokenResourceError:
                    break
                assert accepted(await good.mine())
                await trio.sleep(1)
            nursery.cancel_scope.cancel()
        await trio.sleep(0.1)
        assert server.board.dropped["does not read"] == 1
        assert accepted(await good.mine())


async def test_miner_that_hesitates_gets_everything_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    flushes: list[SocketConnection] = []
    flush = SocketConnection.flush

    def counted_flush(connection: SocketConnection) -> None:
        flushes.append(connection)
        flush(connection)

    monkeypatch.setattr(SocketConnection, "flush", counted_flush)
    async with serving(board_limits=BoardLimits(out_bytes_max=1 << 20)) as server:
        miner = await server.mining(receive_buffer=SMALL_BUFFER)
        count = 7_000  # 280 kB of answers: more than the sockets take
        for first in range(0, count, 500):
            lines = [encode(10_000 + n, "mining.submit", *miner.share(n)) for n in range(first, first + 500)]
            await miner.say(b"".join(lines))
        await until(lambda: server.engine.totals()[Verdict.ACCEPTED] == count)
        for n in range(count):
            assert accepted(await miner.answer(10_000 + n))
        assert flushes, "some of it had to wait with us"
        assert accepted(await miner.mine()), "and goes on as if nothing had been"


async def test_miner_that_sends_a_byte_at_a_time_is_understood() -> None:
    async with serving() as server:
        miner = await server.connect()
        for number, request in enumerate([("mining.subscribe", "x"), ("mining.authorize", miner.worker)]):
            for byte in encode(100 + number, *request):
                await miner.say(bytes([byte]))
            assert (await miner.answer(100 + number))["error"] is None
        await miner.notified("mining.notify")
        for byte in encode(102, "mining.submit", *miner.share()):
            await miner.say(bytes([byte]))
        assert accepted(await miner.answer(102))


async def test_miner_that_says_everything_in_one_packet_is_answered_in_order() -> None:
    async with serving() as server:
        miner = await server.connect()
        await miner.say(
            encode(1, "mining.configure", ["version-rolling"], {"version-rolling.mask": "1fffe000"})
            + encode(2, "mining.subscribe", "x")
            + encode(3, "mining.authorize", miner.worker)
            + encode(4, "mining.nonsense")
            + encode(5, "mining.ping")
        )
        heard = [await miner.message() for _ in range(8)]
        order = [message.get("method") or message["id"] for message in heard]
        assert order == [
            1,
            2,
            3,
            "mining.set_version_mask",
            "mining.set_difficulty",
            "mining.notify",
            4,
            5,
        ]


async def test_reset_in_the_middle_of_a_line_costs_nobody_anything() -> None:
    async with serving() as server:
        good = await server.mining("acme.c01.good")
        for _ in range(20):
            bad = await server.mining()
            await bad.say(b'{"id":1,"method":"mining.sub')
            bad.reset()
            assert accepted(await good.mine())
        await until(lambda: len(server.board.connections) == 1)
        assert server.connection_limits.sessions == 1


async def test_half_closed_connection_is_over() -> None:
    async with serving() as server:
        miner = await server.mining()
        assert isinstance(miner.stream, trio.SocketStream)
        await miner.stream.send_eof()
        assert await miner.line() == b""
        assert server.board.dropped["left"] == 1


async def test_miner_that_is_gone_does_not_stop_a_broadcast() -> None:
    async with serving() as server:
        miners = [await server.mining(f"acme.c01.u{n}") for n in range(9)]
        for gone in miners[::2]:
            gone.reset()
        server.publish(make_work(2))  # in the same step: the pump has not heard of the resets
        assert len(server.board.connections) == 4
        for miner in miners[1::2]:
            assert (await miner.notified("mining.notify"))[8] is True
            assert accepted(await miner.mine())


async def test_miner_that_is_full_is_dropped_in_the_middle_of_a_broadcast() -> None:
    async with serving(board_limits=BoardLimits(out_bytes_max=4_096)) as server:
        deaf = await server.mining(receive_buffer=SMALL_BUFFER)
        good = await server.mining("acme.c01.good")
        height = 2
        while not server.board.dropped["does not read"]:
            server.publish(make_work(height))
            assert (await good.notified("mining.notify"))[8] is True
            height += 1
            assert height < 5_000
        assert accepted(await good.mine())
        await deaf.close()


async def test_mistake_of_ours_about_one_miner_costs_one_miner(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as server:
        good = await server.mining("acme.c01.good")
        bad = await server.mining()

        def explode(*_: object) -> bytes:
            raise ZeroDivisionError

        monkeypatch.setattr("stratum.miners.session.messages.decode", explode)
        await bad.say(b'{"id":1}\n')
        assert await bad.line() == b""
        monkeypatch.undo()
        assert server.board.dropped["internal error"] == 1
        assert accepted(await good.mine())


# Deadlines


@pytest.mark.parametrize(
    ("words", "reason", "after_s"),
    [
        (b"", "no subscribe", 10),
        (b'{"id":1,"method":"mining.authorize","params":["acme.c01.u1","x"]}\n', "no subscribe", 10),
        (b'{"id":1,"method":"mining.subscribe","params":[]}\n', "no authorize", 30),
        (b'{"id":1,"method":"mining.subscr', "no subscribe", 10),
    ],
)
async def test_handshake_that_does_not_come_to_its_end_is_dropped(
    words: bytes, reason: str, after_s: float, clock: trio.testing.MockClock
) -> None:
    async with serving() as server:
        miner = await server.connect(head=words)
        await trio.sleep(after_s - 1)
        assert len(server.board.connections) == 1
        await trio.sleep(7)  # every session is looked at every five seconds
        assert server.board.dropped == {reason: 1}
        assert server.connection_limits.sessions == 0
        await miner.close()


async def test_checks_leave_time_to_others_between_few_of_them(
    clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stratum.miners.switchboard.CHECKS_AT_ONCE", 2)
    monkeypatch.setattr("stratum.miners.switchboard.TICK_BUCKETS", 1)
    async with serving() as server:
        idle = [await server.connect() for _ in range(6)]
        ends_s: list[float] = []

        async def wait_for_the_end(miner: Miner) -> None:
            assert await miner.line() == b""
            ends_s.append(trio.current_time())

        await all_of([partial(wait_for_the_end, miner) for miner in idle])
        assert sorted(Counter(ends_s).values()) == [2, 2, 2], "all at once"
        assert max(ends_s) - min(ends_s) < TICK_S, "and still within their tick"
        assert server.board.dropped == {"no subscribe": 6}


async def test_every_session_is_looked_at_while_others_come_and_go(clock: trio.testing.MockClock) -> None:
    async with serving(session_limits=SessionLimits(subscribe_s=3.0)) as server:
        idle = [await server.connect() for _ in range(23)]
        for _ in range(18):
            visitor = await server.connect()
            await trio.sleep(0.5)
            await visitor.close()
        assert server.board.dropped["no subscribe"] == 23
        for miner in idle:
            await miner.close()
