"""The server that the pool is compared with is no straw man: it answers all lines, and judges as it says."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio

from bench import trio_server
from bench.trio_server import Judge, answers, hashes
from pool.swarm.machine import MinerMachine, SwarmStats


@asynccontextmanager
async def serving(judge: Judge) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        yield await nursery.start(trio_server.serve, judge)
        nursery.cancel_scope.cancel()


async def lines_of(stream: trio.SocketStream, count: int) -> list[dict[str, object]]:
    received = b""
    while received.count(b"\n") < count:
        received += await stream.receive_some(65_536)
    assert received.count(b"\n") == count
    return [msgspec.json.decode(line) for line in received.splitlines()]


async def test_every_line_is_answered_in_order_however_it_is_cut() -> None:
    said = b"".join(
        b'{"id":%d,"method":"mining.submit","params":["a","1","00","00","00"]}\n' % it for it in range(50)
    )
    cuts = sorted(random.Random(1).sample(range(len(said)), 20))
    async with serving(answers) as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        for begin, end in zip([0, *cuts], [*cuts, len(said)], strict=True):
            await stream.send_all(said[begin:end])
        answered = await lines_of(stream, 50)
        await stream.aclose()
    assert answered == [{"id": it, "result": True, "error": None} for it in range(50)]


async def test_what_is_no_line_ends_its_connection_and_no_other() -> None:
    async with serving(answers) as port:
        good, bad = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(2)]
        await bad.send_all(b"nonsense\n")
        assert await bad.receive_some(1) == b""
        await good.send_all(b'{"id":1,"method":"mining.ping","params":[]}\n')
        assert await lines_of(good, 1) == [{"id": 1, "result": True, "error": None}]
        await good.aclose()
        await bad.aclose()


@pytest.mark.parametrize("easier", [1, 2**40])
async def test_with_hashlib_a_share_is_good_only_if_its_hash_is(
    easier: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that checks the bytes by itself: its shares are good, and none where none can be."""
    target = trio_server.TARGET // easier
    monkeypatch.setattr(trio_server, "TARGET", target)
    stats = SwarmStats()
    machine = MinerMachine("acme.c01.u1", random.Random(7), stats)
    async with serving(hashes) as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"".join(machine.open()))
        unread = b""
        while stats.accepted + sum(stats.rejected.values()) < 20:
            while machine.job is not None and stats.submitted < 20:
                share = machine.next_share(100)
                assert share is not None
                await stream.send_all(share)
            unread += await stream.receive_some(65_536)
            *lines, unread = unread.split(b"\n")
            for line in lines:
                for said in machine.receive_line(line):
                    await stream.send_all(said)
        await stream.aclose()
    assert (stats.accepted, stats.rejected) == ((20, {}) if easier == 1 else (0, {"low_difficulty": 20}))
