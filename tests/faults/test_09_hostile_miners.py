"""Hostile miners against the whole server, with a well-behaved one that must never notice any of them.

Every abuse ends in an error or a drop at a limit; no share is ever credited twice or below its difficulty.
Miners that do not read are in tests/stratum/miners/test_switchboard_miners.py, and over TLS in
tests/stratum/miners/listening/test_listeners_tls.py.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from stratum.tallies import Verdict
from tests.stages.sockets import (
    JournalThatIsSlow,
    LoopbackServer,
    MemoryJournal,
    Miner,
    accepted,
    encode,
    make_work,
    serving,
    virtual_clock,
)
from tests.stages.waiting import until

OVER_1_MIB = 1 << 20


@pytest.fixture
def clock() -> trio.testing.MockClock:
    return virtual_clock()


@pytest.fixture
def _quick_retargets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stratum.miners.distribution.ANEW_INTERVAL_S", 0.05)


@asynccontextmanager
async def undisturbed(server: LoopbackServer) -> AsyncIterator[None]:
    """Mines all the while, share after share, and every single one is accepted."""
    miner = await server.mining("acme.c01.good")
    stop = trio.Event()

    async def mine() -> None:
        while not stop.is_set():
            assert accepted(await miner.mine())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(mine)
        yield
        stop.set()
    assert accepted(await miner.mine())


async def push(miner: Miner, data: bytes) -> None:
    """Send as much as the pool takes."""
    try:
        await miner.stream.send_all(data)
    except trio.BrokenResourceError:
        return


async def raised(miner: Miner, difficulty: float) -> str:
    """Have the miner's difficulty raised; returns the id of the first job at the new one."""
    await miner.call("mining.configure", ["minimum-difficulty"], {"minimum-difficulty.value": difficulty})
    assert await miner.notified("mining.set_difficulty") == [difficulty]
    return str((await miner.notified("mining.notify"))[0])


# Slow, silent, endless


async def test_slowloris_is_dropped_at_the_deadline(clock: trio.testing.MockClock) -> None:
    async with serving() as server:
        good = await server.mining("acme.c01.good")
        slow = [await server.connect() for _ in range(20)]
        line = encode(1, "mining.subscribe", "slowloris " * 20)
        for at in range(16):
            for miner in slow:
                await push(miner, line[at : at + 1])
            assert accepted(await good.mine())
            await trio.sleep(1)
        assert server.board.dropped["no subscribe"] == 20
        assert server.connection_limits.sessions == 1


@pytest.mark.parametrize("known", [False, True], ids=["stranger", "miner"])
@pytest.mark.parametrize("end", [b"", b"\n"], ids=["no newline ever", "a newline in the end"])
@pytest.mark.parametrize("filling", [b"x", b" ", b"[", b'{"id":', b"\x00", b"\xff"])
async def test_line_of_a_mebibyte_is_dropped_at_the_limit(filling: bytes, end: bytes, known: bool) -> None:
    async with serving() as server, undisturbed(server):
        endless = await (server.mining() if known else server.connect())
        await push(endless, filling * (OVER_1_MIB // len(filling)) + end)
        assert await endless.line() == b""
        await until(lambda: server.connection_limits.sessions == 1)
        assert server.board.dropped["line too long"] == 1


async def test_longest_line_that_is_allowed_is_answered() -> None:
    async with serving(line_bytes_max=600) as server:
        miner = await server.connect()
        for size, answered in ((600, True), (601, False)):
            line = encode(1, "mining.ping")[:-1]
            await push(miner, line + b" " * (size - len(line)) + b"\n")
            assert bool(await miner.line()) is answered


# Malformed

NESTED = b"[" * 3_900 + b"]" * 3_900
MALFORMED = [
    b"null",
    b"[]",
    b'"mining.ping"',
    b"{}x",
    b"{",
    b'{"id":1,"method":"mining.ping"',
    b'{"id":1 "method":"mining.ping"}',
    b'{"id":1,"method":"mining.ping",}',
    b"{'id':1,'method':'mining.ping'}",
    b'{"id":NaN,"method":"mining.ping"}',
    b'{"id":Infinity,"method":"mining.ping"}',
    b'{"id":01,"method":"mining.ping"}',
    b'{"id":1,"method":null,"params":{}',
    b'{"id":1,"method":7,"params":[]}',
    b'{"id":1,"method":["mining.ping"],"params":[]}',
    b'{"id":1,"method":"mining.ping","params":{}}',
    b'{"id":1,"method":"mining.ping","params":"x"}',
    b'{"id":1,"method":"mining.ping","params":[1e400]}',
    b'{"id":1,"method":"mining.ping","params":[-1e400]}',
    b'{"id":1,"method":"mining.ping","params":[%s]}' % (b"9" * 5_000),
    b'{"id":1,"method":"mining.ping","params":["\\ud800"]}',
    b'{"id":1,"method":"mining.ping","params":["\\udc00\\ud800"]}',
    b'{"id":1,"method":"mining.ping","params":["\xff\xfe"]}',
    b'{"id":"\xc3\x28","method":"mining.ping"}',
    b'{"id":1,"method":"mining.\x00ping"}',
    b'\x00{"id":1,"method":"mining.ping"}',
    b'{"id":1,"method":"mining.ping","params":%s}' % NESTED,
    b'{"id":%s,"method":"mining.ping"}' % NESTED,
    b"[" * 8_000,
    b'{"a":' * 1_300,
    b'{"id":1,"method":"mining.submit","params":["acme.c01.u1"]}',
    b'{"id":1,"method":"mining.submit","params":[[],{},null,true,1.5]}',
    b'{"id":1,"method":"mining.submit","params":["acme.c01.u1","1","zz","68000000","00000001"]}',
    b'{"id":1,"method":"mining.submit","params":["acme.c01.u1","1","00","68000000",-1]}',
    b'{"id":1,"method":"mining.submit","params":["acme.c01.u1","1","00","68000000",1e400]}',
    b'{"id":1,"method":"mining.submit","params":["\\ud800","1","00","68000000","00000001"]}',
    b'{"id":1,"method":"mining.submit","params":["a","1","00","1","1","1","1"]}',
    b'{"id":1,"method":"mining.authorize","params":[]}',
    b'{"id":1,"method":"mining.authorize","params":[null]}',
    b'{"id":1,"method":"mining.authorize","params":["a\\u0000b"]}',
    b'{"id":1,"method":"mining.authorize","params":["%s"]}' % (b"a" * 5_000),
    b'{"id":1,"method":"mining.configure","params":[{}]}',
    b'{"id":1,"method":"mining.suggest_difficulty","params":[0]}',
    b'{"id":1,"method":"mining.suggest_difficulty","params":[-5]}',
    b'{"id":1,"method":"mining.suggest_difficulty","params":["nan"]}',
    b'{"id":1,"method":"mining.suggest_difficulty","params":["1/0"]}',
    b'{"id":1,"method":"mining.suggest_target","params":["-1"]}',
    b'{"id":1,"method":"","params":[]}',
    b'{"id":1,"method":"%s","params":[]}' % (b"m" * 5_000),
    b"GET / HTTP/1.1",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]
ODD = [
    (b'{"id":1,"method":"mining.ping"}', 1),
    (b' \t{ "method" : "mining.ping" , "id" : 1 }\r', 1),
    (b'{"id":1,"id":2,"method":"mining.nonsense","method":"mining.ping"}', 2),
    (b'{"method":"mining.ping"}', None),
    (b'{"id":null,"method":"mining.ping"}', None),
    (b'{"id":"abc","method":"mining.ping"}', "abc"),
    (b'{"id":1.5,"method":"mining.ping"}', 1.5),
    (b'{"id":[1,{"a":2}],"method":"mining.ping"}', [1, {"a": 2}]),
    (b'{"id":1,"method":"mining.ping","params":null,"jsonrpc":"2.0","other":{"x":[]}}', 1),
    (b'{"id":1,"method":"mining.ping","params":[%s]}' % (b"9" * 4_000), 1),
    (b'{"id":-0,"method":"mining.ping"}', 0),
]


@pytest.mark.parametrize("line", MALFORMED, ids=range(len(MALFORMED)))
async def test_malformed_line_is_answered_with_an_error_and_no_more(line: bytes) -> None:
    async with serving() as server, undisturbed(server):
        miner = await server.mining()
        await miner.say(line + b"\n" + encode(77, "mining.ping"))
        answers = [await miner.message() for _ in range(2)]
        answers.sort(key=lambda answer: answer["error"] is None)  # an answer to a share comes a little later
        assert answers[0]["error"][0] in range(20, 26)
        assert isinstance(answers[0]["error"][1], str)
        assert answers[1] == {"id": 77, "result": "pong", "error": None}
        assert accepted(await miner.mine())


@pytest.mark.parametrize(("line", "number"), ODD, ids=range(len(ODD)))
async def test_odd_line_is_answered_with_its_id_as_it_came(line: bytes, number: Any) -> None:
    async with serving() as server, undisturbed(server):
        miner = await server.connect()
        await miner.say(line + b"\n")
        assert await miner.message() == {"id": number, "result": "pong", "error": None}


async def test_line_that_is_answered_with_silence_is_harmless() -> None:
    async with serving() as server, undisturbed(server):
        miner = await server.mining()
        for line in (b"", b"\r", b"  \t", b'{"id":1,"result":true}', b'{"id":9,"error":[1,"x",null]}', b"{}"):
            await miner.say(line + b"\n")
        assert (await miner.call("mining.ping"))["result"] == "pong"


@pytest.mark.parametrize("line", [b"{", b"\x00", b"[]", b"nonsense"])
async def test_ten_malformed_lines_are_enough(line: bytes) -> None:
    async with serving() as server, undisturbed(server):
        stranger = await server.connect()
        await push(stranger, (line + b"\n") * 1_000)
        answers = 0
        while await stranger.line():
            answers += 1
        assert answers == 10
        assert server.board.dropped["malformed lines"] == 1


# The same share again


async def credited(server: LoopbackServer, miner: Miner, share: tuple[str, ...]) -> None:
    """It is accepted once, and then never again."""
    assert accepted(await miner.call("mining.submit", *share))
    assert (await miner.call("mining.submit", *share))["error"][0] == 22


def in_capitals(share: tuple[str, ...]) -> tuple[str, ...]:
    return (share[0], *(text.upper() for text in share[1:]))


def with_0x(share: tuple[str, ...]) -> tuple[str, ...]:
    return (share[0], share[1], share[2], "0x" + share[3], "0x" + share[4])


def without_leading_zeros(share: tuple[str, ...]) -> tuple[str, ...]:
    return (share[0], share[1], share[2], share[3], share[4].lstrip("0"))


def with_no_rolled_bits(share: tuple[str, ...]) -> tuple[str, ...]:
    return (*share, "00000000")


@pytest.mark.parametrize(
    "disguise", [in_capitals, with_0x, without_leading_zeros, with_no_rolled_bits], ids=lambda it: it.__name__
)
async def test_share_in_disguise_is_a_duplicate(disguise: Any) -> None:
    journal = MemoryJournal()
    async with serving(journal=journal) as server:
        miner = await server.mining()
        share = miner.share(0xABCDEF)
        await credited(server, miner, share)
        assert disguise(share) != share
        assert (await miner.call("mining.submit", *disguise(share)))["error"][0] == 22
        as_numbers = [*share[:3], int(share[3], 16), int(share[4], 16)]
        assert (await miner.call("mining.submit", *as_numbers))["error"][0] == 22
        assert journal.counted() == 1


async def test_share_of_another_worker_of_the_connection_is_a_duplicate() -> None:
    journal = MemoryJournal()
    async with serving(journal=journal) as server:
        miner = await server.mining()
        assert (await miner.call("mining.authorize", "acme.c01.accomplice", "x"))["result"] is True
        share = miner.share()
        await credited(server, miner, share)
        again = await miner.call("mining.submit", "acme.c01.accomplice", *share[1:])
        assert again["error"][0] == 22
        assert journal.counted() == 1


async def test_share_after_a_reconnect_is_a_duplicate() -> None:
    journal = MemoryJournal()
    async with serving(journal=journal) as server:
        before = await server.connect()
        session_id = (await before.call("mining.subscribe", "x"))["result"][1]
        await before.call("mining.authorize", before.worker)
        await before.notified("mining.notify")
        share = before.share()
        await credited(server, before, share)
        before.reset()
        await until(lambda: not server.board.connections)
        after = await server.connect()
        assert (await after.call("mining.subscribe", "x", session_id))["result"][1] == session_id
        await after.call("mining.authorize", after.worker)
        assert (await after.call("mining.submit", *share))["error"][0] == 22
        assert accepted(await after.call("mining.submit", share[0], share[1], *after.share(5)[2:]))
        assert journal.counted() == 2


async def test_share_that_left_in_the_middle_of_its_commit_is_a_duplicate_too() -> None:
    journal = JournalThatIsSlow()
    async with serving(journal=journal) as server:
        before = await server.connect()
        session_id = (await before.call("mining.subscribe", "x"))["result"][1]
        await before.call("mining.authorize", before.worker)
        await before.notified("mining.notify")
        share = before.share()
        await before.ask("mining.submit", *share)
        await until(lambda: journal.started == 1)
        before.reset()
        for _ in range(2):
            journal.may_pass.release()
        await until(lambda: not server.board.connections)
        after = await server.connect()
        await after.call("mining.subscribe", "x", session_id)
        await after.call("mining.authorize", after.worker)
        assert (await after.call("mining.submit", *share))["error"][0] == 22
        assert journal.counted() == 1


@pytest.mark.usefixtures("_quick_retargets")
async def test_a_share_is_no_share_of_what_a_retarget_comes_with() -> None:
    """Whatever it was credited: its hash was of another coinbase."""
    journal = MemoryJournal()
    async with serving(journal=journal) as server:
        miner = await server.mining()
        shares = [miner.share(n) for n in range(20)]
        for share in shares[:10]:
            assert accepted(await miner.call("mining.submit", *share))
        harder = await raised(miner, 2.0**-16)
        again = [await miner.call("mining.submit", share[0], harder, *share[2:]) for share in shares]
        assert {answer["error"][0] for answer in again} == {23}
        assert journal.counted() == 10


async def test_share_of_the_refreshed_job_is_another_one() -> None:
    journal = MemoryJournal()
    async with serving(journal=journal) as server:
        miner = await server.mining()
        await credited(server, miner, miner.share(7))
        server.publish(make_work(1, refresh=1))
        await miner.notified("mining.notify")
        await credited(server, miner, miner.share(7))
        assert journal.counted() == 2


# Floods


FLOOD = 2_000


async def flood(server: LoopbackServer, shares: list[tuple[str, ...]], miner: Miner) -> list[int]:
    """The error codes that thousands of shares, sent without waiting, are answered with."""
    errors = []

    async def hear() -> None:
        for number in range(len(shares)):
            errors.append((await miner.answer(10_000 + number))["error"][0])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hear)
        lines = [encode(10_000 + at, "mining.submit", *share) for at, share in enumerate(shares)]
        await miner.say(b"".join(lines))
    return errors


@pytest.mark.usefixtures("_quick_retargets")
@pytest.mark.parametrize(
    ("kind", "code", "verdict"),
    [
        ("stale", 21, Verdict.STALE),
        ("unknown", 21, Verdict.JOB_UNKNOWN),
        ("duplicate", 22, Verdict.DUPLICATE),
        ("low", 23, Verdict.LOW_DIFFICULTY),
        ("late", 20, Verdict.NTIME_OUT_OF_RANGE),
        ("rolled", 20, Verdict.VERSION_OUTSIDE_MASK),
        ("unauthorised", 24, Verdict.UNAUTHORISED),
        ("malformed", 20, Verdict.MALFORMED),
    ],
)
async def test_flood_is_never_credited_and_disturbs_nobody(
    kind: str, code: int, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it cut off here, which is for another test: on a slow machine a check would come in between."""
    monkeypatch.setattr("stratum.miners.switchboard.UNEARNED_PER_CHECK_MAX", 10_000)
    journal = MemoryJournal()
    async with serving(journal=journal) as server:
        flooder = await server.mining("acme.c01.flood")
        shares: list[tuple[str, ...]] = [flooder.share(n) for n in range(FLOOD)]
        if kind == "stale":
            server.publish(make_work(2))
        elif kind == "unknown":
            shares = [(name, f"{n:x}", *rest) for n, (name, _, *rest) in enumerate(shares)]
        elif kind == "duplicate":
            await credited(server, flooder, shares[0])
            shares = [shares[0]] * FLOOD
        elif kind == "low":
            harder = await raised(flooder, 1024)
            shares = [(name, harder, *rest) for name, _, *rest in shares]
        elif kind == "late":
            shares = [(*share[:3], "ffffffff", share[4]) for share in shares]
        elif kind == "rolled":
            shares = [(*share, "40000000") for share in shares]
        elif kind == "unauthorised":
            shares = [("acme.c01.stranger", *share[1:]) for share in shares]
        else:
            shares = [(*share[:2], share[2] + "00", *share[3:]) for share in shares]
        before = journal.counted()
        async with undisturbed(server):
            assert await flood(server, shares, flooder) == [code] * FLOOD
        flooded = [tally for commit in journal.commits for tally in commit if tally.worker == 1]
        assert sum(tally.count for tally in flooded if tally.verdict is Verdict.ACCEPTED) == before
        assert server.engine.totals()[verdict] >= FLOOD


@pytest.mark.usefixtures("_quick_retargets")
async def test_shares_around_a_retarget_count_at_the_difficulty_of_their_job() -> None:
    journal = MemoryJournal()
    async with serving(journal=journal) as server:
        miner = await server.mining()
        old = [miner.share(n) for n in range(50)]
        harder = await raised(miner, 2.0**-30)
        answers = []
        for n in range(50):
            assert accepted(await miner.call("mining.submit", *old[n]))
            share = (miner.worker, harder, *miner.share(100 + n)[2:])
            answers.append(await miner.call("mining.submit", *share))
        tallies: dict[tuple[int, Verdict], int] = {}
        for commit in journal.commits:
            for tally in commit:
                key = (tally.difficulty_log2, tally.verdict)
                tallies[key] = tallies.get(key, 0) + tally.count
        hard = sum(map(accepted, answers))
        assert 0 < hard < 50, "a quarter, more or less"
        assert tallies == {
            (-32, Verdict.ACCEPTED): 50,
            (-30, Verdict.ACCEPTED): hard,
            (-30, Verdict.LOW_DIFFICULTY): 50 - hard,
        }


async def test_every_answer_is_a_line_of_json_however_odd_the_ids() -> None:
    ids = [b"1", b"null", b'"\\u00e9\\n"', b"[1,[2]]", b"1e308", b"-0", b'{"a":"b"}', b"true", b"1.50"]
    async with serving() as server:
        miner = await server.mining()
        for raw in ids:
            name, job, *rest = miner.share()
            params = msgspec.json.encode([name, job, *rest])
            await miner.say(b'{"id":%b,"method":"mining.submit","params":%b}\n' % (raw, params))
            assert (await miner.line()).startswith(b'{"id":%b,"result":true' % raw)
        await miner.say(b'{"method":"mining.submit","params":["a","b","c","d","e"]}\n')
        assert (await miner.message())["id"] is None


async def test_pool_out_of_extranonces_refuses_in_words_and_goes_on() -> None:
    async with serving(extranonce1_bytes=1) as server, undisturbed(server):
        miners = [await server.mining(f"acme.c01.u{number}") for number in range(255)]
        late = await server.connect()
        refused = await late.call("mining.subscribe", "x")
        assert refused["error"][:2] == [20, "Pool is full: no extranonce left"]
        assert await late.line() == b""
        for miner in miners[::50]:
            assert accepted(await miner.mine())


async def test_strangers_who_come_and_go_do_not_use_up_the_extranonces() -> None:
    async with serving(extranonce1_bytes=1) as server, undisturbed(server):
        for number in range(600):
            stranger = await server.connect(f"acme.c66.u{number}")
            assert (await stranger.call("mining.subscribe", "x"))["error"] is None
            if number % 2:
                assert (await stranger.call("mining.authorize", stranger.worker, "x"))["error"] is None
            await stranger.close()
        assert len(server.channel.extranonces.resting) < 100, (
            "who left while a share of others was in the queue"
        )
