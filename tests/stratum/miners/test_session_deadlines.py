"""What time does to a session: handshakes, silence, and nothing but invalid shares."""

from typing import Any

import pytest

from stratum.miners.liveness import SessionLimits
from stratum.miners.mining_session import State
from tests.stages.sessions import CHECK_S, Miner, SessionStage, in_state, make_work, words


def closing_after(miner: Miner, seconds: float) -> str | None:
    miner.stage.advance(seconds)
    return miner.session.closing


@pytest.mark.parametrize(
    ("state", "alive_s", "closing"),
    [
        (State.CONNECTED, 9.0, "no subscribe"),
        (State.AUTHORISED, 9.0, "no subscribe"),
        (State.SUBSCRIBED, 29.0, "no authorize"),
    ],
)
def test_who_does_not_finish_the_handshake_is_dropped(state: State, alive_s: float, closing: str) -> None:
    miner = in_state(state)
    assert closing_after(miner, alive_s) is None
    for _ in range(2):
        miner.ask("mining.ping")  # talking is not enough
    assert closing_after(miner, 1 + CHECK_S) == closing


def besides_refreshes(miner: Miner) -> list[dict[str, Any]]:
    """What it heard that is no routine job."""
    return [it for it in miner.hear() if it.get("method") != "mining.notify" or it["params"][8]]


def test_an_idle_miner_is_asked_whether_it_lives_before_it_is_dropped() -> None:
    stage = SessionStage()
    dead, alive = stage.mining("acme.c01.u1"), stage.mining("acme.c01.u2")
    stage.advance(590)
    assert "get_version" not in words(dead.hear() + alive.hear())
    stage.advance(10 + CHECK_S)
    for miner in (dead, alive):
        assert besides_refreshes(miner) == [{"id": 1, "method": "client.get_version", "params": []}]
    assert alive.say(b'{"id":1,"result":"cgminer/4.11","error":null}\n') == []
    stage.advance(30 + CHECK_S)
    assert (dead.session.closing, alive.session.closing) == ("idle", None)
    stage.advance(600)
    assert words(besides_refreshes(alive)) == "get_version"


def test_a_miner_that_finds_shares_is_never_idle() -> None:
    miner = settled_miner()
    for _ in range(8):
        miner.stage.advance(500)
        assert "get_version" not in words(miner.hear())
        assert miner.mine()["result"] is True


def settled_miner() -> Miner:
    """One that vardiff leaves alone."""
    stage = SessionStage()
    stage.admission.remembered_log2["acme.c01.u1"] = -26
    return stage.mining()


def nothing_but_invalid(miner: Miner, seconds: float) -> list[dict[str, Any]]:
    """A share that is none every five seconds; what was heard besides the refusals."""
    heard = []
    for _ in range(round(seconds / CHECK_S)):
        if miner.session.closing is None:
            miner.ask("mining.submit", "acme.c01.u1", "1", "00" * 8, "00", "00")
            miner.stage.judge()
            miner.stage.advance(CHECK_S)
            heard += [message for message in besides_refreshes(miner) if "method" in message]
    return heard


def test_nothing_but_invalid_shares_a_fresh_job_then_a_reconnect_then_goodbye() -> None:
    miner = settled_miner()
    assert nothing_but_invalid(miner, 60) == []
    fresh = nothing_but_invalid(miner, 60)
    assert words(fresh) == "set_difficulty notify"
    assert fresh[1]["params"][8] is True
    assert nothing_but_invalid(miner, 60) == [{"id": None, "method": "client.reconnect", "params": []}]
    assert miner.session.closing is None
    assert nothing_but_invalid(miner, CHECK_S) == []
    assert miner.session.closing == "only invalid shares"


def test_one_valid_share_is_enough_to_start_the_count_anew() -> None:
    miner = settled_miner()
    nothing_but_invalid(miner, 175)
    assert miner.mine()["result"] is True
    assert nothing_but_invalid(miner, 55) == []
    assert miner.session.closing is None


def test_two_invalid_shares_minutes_apart_do_not_skip_the_help() -> None:
    miner = settled_miner()
    nothing_but_invalid(miner, CHECK_S)
    miner.stage.advance(200)
    miner.hear()
    assert words(nothing_but_invalid(miner, CHECK_S)) == "set_difficulty notify"
    assert miner.session.closing is None


def tell_other_extranonces(miner: Miner) -> None:
    miner.ask("mining.extranonce.subscribe")
    other = miner.stage.add_channel(2)
    miner.stage.publish(make_work(7), other)
    miner.stage.move(miner, other)
    miner.stage.serve_waiting()
    assert words(miner.hear()) == "set_extranonce set_difficulty notify"


def test_who_finds_nothing_valid_with_other_extranonces_has_not_taken_them_and_is_dropped() -> None:
    """Else it would be three minutes of work for nothing, at each move."""
    miner = settled_miner()
    tell_other_extranonces(miner)
    assert nothing_but_invalid(miner, 20) == []
    assert miner.session.closing == "other extranonces not taken"


def test_what_comes_late_of_the_work_before_is_no_sign_that_they_were_taken() -> None:
    miner = settled_miner()
    late = miner.share()
    tell_other_extranonces(miner)
    assert miner.submit(*late)["result"] is True
    nothing_but_invalid(miner, 25)
    assert miner.session.closing == "other extranonces not taken"


def test_who_has_found_something_with_them_is_helped_as_others_are() -> None:
    miner = settled_miner()
    tell_other_extranonces(miner)
    nothing_but_invalid(miner, 10)
    assert miner.mine()["result"] is True, "after an unlucky one"
    miner.stage.advance(20)
    assert miner.mine()["result"] is True
    miner.stage.advance(CHECK_S)
    nothing_but_invalid(miner, 55)
    assert miner.session.closing is None


def test_shares_that_the_engine_leaves_to_python_count_as_invalid_too() -> None:
    miner = SessionStage().mining()
    for line in (
        b'{"id":5,"method":"mining.submit","params":["acme.c01.u1"]}\n',
        b'{"id":5,"method":"mining.submit","params":["acme.c01.u1",{},[],-1,1.5]}\n',
        b'{"id":5,"method":"mining.submit","params":["acme.c01.u1","1","00","00","00","00","00"]}\n',
        b'{"id":5,"method":"mining.submit"}\n',
    ):
        assert miner.say(line) == []
        miner.stage.judge()
        assert miner.hear() == [{"id": 5, "result": None, "error": [20, "Malformed share", None]}]
    assert miner.stage.engine.counters(miner.session.slot)[:2] == (0, 4)


def test_limits_are_the_operators() -> None:
    limits = SessionLimits(subscribe_s=1.0, authorise_s=2.0, bad_lines_max=1, refusals_max=1)
    stage = SessionStage(limits=limits)
    broken, refused = stage.connect(), stage.connect()
    broken.say(b"x\n")
    refused.ask("mining.authorize", "nobody", "x")
    assert (broken.session.closing, refused.session.closing) == ("malformed lines", "refused too often")
    assert closing_after(stage.connect(), CHECK_S) == "no subscribe"
