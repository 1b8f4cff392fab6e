"""More of what the field does, each found on real firmware or at a real marketplace: a test for each."""

from fractions import Fraction

import msgspec
import pytest
import structlog
import trio

from stratum.difficulty import DIFFICULTY_LOG2_MAX, DIFFICULTY_LOG2_MIN, target_from_difficulty_log2
from stratum.miners.agents import least_difficulty_log2
from stratum.miners.distribution import ANEW_INTERVAL_S
from stratum.miners.liveness import SessionLimits
from stratum.miners.turns.connection_limits import ConnectionBounds
from stratum.miners.vardiff import VardiffPolicy
from stratum.tallies import Verdict
from tests.stages.sessions import CHECK_S, SessionStage, ThreeChannels, words
from tests.stages.sockets import serving
from tests.stages.waiting import until

DIFF1 = 0xFFFF << 208
NICEHASH = "NiceHash/1.0.0"


# Signs of life.


@pytest.mark.parametrize("answer", [b'{"id":1,"method":"pong","params":[]}', b'{"id":-1,"method":"pong"}'])
def test_a_bitaxe_answers_a_ping_with_a_request_called_pong(answer: bytes) -> None:
    miner = SessionStage().mining()
    pings = 0
    for _ in range(round(2_000 / CHECK_S)):
        miner.stage.advance(CHECK_S)
        if "get_version" in words(miner.hear()):
            pings += 1
            assert miner.say(answer + b"\n") == [], "a sign of life is no method that we do not know"
    assert (pings, miner.session.closing) == (3, None)


@pytest.mark.parametrize("idle_s", [0.0, 0.5, 1.0, CHECK_S, CHECK_S + 1, 60.0, 7_200.0])
def test_who_answers_pings_is_never_idle_whatever_the_bound(idle_s: float) -> None:
    stage = SessionStage(limits=SessionLimits(idle_s=idle_s))
    alive, dead = stage.mining("acme.c01.u1"), stage.mining("acme.c01.u2")
    pings = 0
    for _ in range(round(2 * max(idle_s, 300.0) / CHECK_S)):
        stage.advance(CHECK_S)
        if "get_version" in words(alive.hear()):
            pings += 1
            alive.say(b'{"id":1,"result":"cgminer/4.11","error":null}\n')
    assert pings > 0
    assert (alive.session.closing, dead.session.closing) == (None, "idle")


@pytest.mark.parametrize(("agent", "pings"), [("ckpool/0.9.9", 1), ("bmminer/2.0.0", 0)])
def test_a_proxy_that_reads_its_first_job_with_what_comes_next_is_asked_for_its_version_at_once(
    agent: str, pings: int
) -> None:
    """Its machines had no work until the next job, half a minute."""
    miner = SessionStage().connect()
    miner.ask("mining.subscribe", agent)
    miner.ask("mining.authorize", miner.worker, "x")
    heard = []
    for _ in range(3):
        miner.stage.advance(CHECK_S)
        heard += miner.hear()
    assert words(heard).split().count("get_version") == pings


def test_bmminer_asks_for_several_versions_and_is_not_told_of_a_rejected_share() -> None:
    """cgminer and its children count an error, or a null result, to anything that is no share as rejected."""
    miner = SessionStage().mining()
    assert miner.ask("mining.multi_version", 1)[0] == {"id": 3, "result": True, "error": None}
    refused = miner.ask("mining.time_travel")[0]
    assert refused["error"] == [20, "Method not supported", None], "what is really refused is refused"
    assert miner.mine()["result"] is True


# Difficulties.


def test_the_difficulty_that_is_written_has_no_exponent_and_is_the_one_that_is_checked() -> None:
    policy = VardiffPolicy(difficulty_log2_min=DIFFICULTY_LOG2_MIN, difficulty_log2_max=DIFFICULTY_LOG2_MAX)
    for log2 in range(DIFFICULTY_LOG2_MIN, DIFFICULTY_LOG2_MAX + 1):
        miner = SessionStage(policy=policy, start_log2=log2).mining()
        told = bytes(miner.transcript).partition(b'"mining.set_difficulty","params":[')[2]
        written = told.partition(b"]")[0]
        assert set(written) <= set(b"0123456789."), written
        assert DIFF1 / Fraction(written.decode()) // 1 == target_from_difficulty_log2(log2)
        assert float(written) == 2.0**log2 == msgspec.json.decode(written)
        if log2 <= -20:  # found by real hashing
            assert miner.mine()["result"] is True
            assert miner.mine(hit=False)["error"][0] == 23 if log2 > -32 else True


@pytest.mark.parametrize("agent", [NICEHASH, "nicehash", "Excavator NICEHASH/2"])
@pytest.mark.parametrize("first", ["subscribe", "authorize"])
@pytest.mark.parametrize("wish", [None, 1, 1_000_000])
def test_a_marketplace_starts_at_500_000_and_never_falls_below(
    agent: str, first: str, wish: int | None
) -> None:
    stage = SessionStage(policy=VardiffPolicy(difficulty_log2_min=0, difficulty_log2_max=40), start_log2=10)
    stage.admission.remembered_log2["acme.c01.old"] = 3
    miner = stage.connect("acme.c01.new" if wish else "acme.c01.old")
    if wish is not None:
        miner.ask("mining.suggest_difficulty", wish)
    calls = [("mining.subscribe", agent), ("mining.authorize", miner.worker, "d=1")]
    for call in calls if first == "subscribe" else reversed(calls):
        miner.ask(*call)
    stage.advance(ANEW_INTERVAL_S)  # work of its own
    miner.hear()
    assert miner.difficulty == 524_288, "a suggestion of 1,000,000 is met from below"
    stage.advance(3_600)  # not one share, for an hour
    miner.hear()
    assert miner.difficulty >= 500_000


def test_other_agents_start_where_everybody_does() -> None:
    assert least_difficulty_log2("cgminer/4.11.1") is None
    assert (
        SessionStage(policy=VardiffPolicy(difficulty_log2_min=0, difficulty_log2_max=40), start_log2=10)
        .mining("acme.c01.u1")
        .difficulty
        == 1024
    )


def test_a_marketplace_that_asks_for_more_gets_more() -> None:
    stage = SessionStage(policy=VardiffPolicy(difficulty_log2_min=0, difficulty_log2_max=40), start_log2=10)
    miner = stage.connect()
    miner.ask("mining.subscribe", NICEHASH)
    miner.ask("mining.authorize", miner.worker, "md=1000000")
    stage.advance(ANEW_INTERVAL_S)
    miner.hear()
    assert miner.difficulty == 1 << 20


# Moves and returns.


def test_a_move_that_nobody_obeys_ends_with_a_closed_connection_within_its_bound() -> None:
    """ESP-Miner and NerdMiner do not know client.reconnect."""
    three = ThreeChannels()
    miner = three.miner()
    three.stage.move(miner, three.other)
    assert words(miner.hear()) == "reconnect"
    while miner.session.closing is None and three.stage.now_s < 1_100:
        assert miner.mine()["result"] is True, "until then it mines on, where it was"
        three.stage.advance(CHECK_S)
        miner.hear()
    assert miner.session.closing == "moved"
    assert three.stage.now_s <= 1_000 + SessionLimits().leave_s + 2 * CHECK_S


@pytest.mark.parametrize("other_case", [False, True], ids=["as it was", "in upper case"])
def test_a_resumed_session_sends_its_last_share_again_for_two_minutes_and_has_it_once(
    other_case: bool,
) -> None:
    stage = SessionStage()
    miner = stage.mining()
    share, extranonce1 = miner.share(), miner.extranonce1
    assert miner.submit(*share)["result"] is True
    again = (share[0], *(it.upper() if other_case else it for it in share[1:]))
    for _ in range(12):
        miner.leave()
        stage.advance(10)
        miner = stage.connect()
        miner.ask("mining.subscribe", "test/1", extranonce1.hex())
        miner.ask("mining.authorize", "acme.c01.u1", "x")
        assert miner.extranonce1 == extranonce1
        assert miner.submit(*again)["error"] == [22, "Duplicate share", None]
    counted = sum(it.count for it in stage.tallies() if it.verdict is Verdict.ACCEPTED)
    assert counted == 1


async def test_probes_of_a_marketplace_fill_no_log_and_shut_out_nobody() -> None:
    """They log in, wait, half-close; hundreds of times an hour, all from one address."""
    async with serving(connection_bounds=ConnectionBounds(half_open_per_address_max=4)) as server:
        miner = await server.mining()
        with structlog.testing.capture_logs() as logs:
            for _ in range(200):
                probe = await server.connect("acme.probe")
                assert (await probe.call("mining.subscribe", NICEHASH))["error"] is None
                assert (await probe.call("mining.authorize", "acme.probe", "x"))["result"] is True
                probe.socket.shutdown(trio.socket.SHUT_WR)
                while await probe.line():
                    pass
                await probe.close()
        await until(lambda: len(server.board.connections) == 1)
        assert logs == []
        assert server.board.dropped == {"left": 200}
        assert (await miner.mine())["result"] is True
