"""Which difficulty a session starts at, who may change it, and from which job on it holds."""

from typing import Any

import pytest

from tests.stages.sessions import AUTHORIZE, START_LOG2, SUBSCRIBE, SessionStage, words


def set_difficulties(heard: list[dict[str, Any]]) -> list[float]:
    return [message["params"][0] for message in heard if message.get("method") == "mining.set_difficulty"]


@pytest.mark.parametrize(
    ("first_words", "password", "remembered_log2", "difficulty_log2"),
    [
        ([], "x", None, -26),  # the configured start
        ([], "d=0.000001", None, -20),  # 2^-20 is 0.00000095: the power of two below
        ([], f"x,d={2.0**-20};md=2", None, -20),  # a minimum that there is not
        ([("mining.suggest_difficulty", 2.0**-20)], "x", None, -20),
        ([("mining.suggest_target", f"{0xFFFF << 228:064x}")], "x", None, -20),
        ([("mining.suggest_difficulty", 2.0**-9)], "x", None, -26),  # above the range: as if not said
        ([("mining.suggest_difficulty", 2.0**-31 / 4)], "x", None, -26),  # below it
        ([("mining.suggest_difficulty", 1e300)], "x", None, -26),
        ([], "x", -18, -18),  # what the worker had last
        ([], "d=0.000001", -18, -18),  # goes before what firmware was shipped with
        ([("mining.suggest_difficulty", 2.0**-31)], "x", -18, -18),
        ([], f"md={2.0**-19}", None, -19),
        ([], f"md={2.0**-19}", -22, -19),
        ([], f"md={2.0**-19},d={2.0**-24}", None, -19),
        ([("mining.configure", ["minimum-difficulty"], {"minimum-difficulty.value": 3e-6})], "x", None, -18),
    ],
)
def test_where_difficulty_starts(
    first_words: list[tuple[str, object]], password: str, remembered_log2: int | None, difficulty_log2: int
) -> None:
    stage = SessionStage()
    if remembered_log2 is not None:
        stage.admission.remembered_log2["acme.c01.u1"] = remembered_log2
    miner = stage.connect()
    for method, *params in first_words:
        assert words(miner.ask(method, *params)) == "result"
    miner.ask(*SUBSCRIBE)
    heard = miner.ask("mining.authorize", "acme.c01.u1", password)
    if difficulty_log2 != START_LOG2:
        assert words(heard) == "result", "the work that is known has the start difficulty"
        stage.serve_waiting()
        heard = miner.hear()
    assert set_difficulties(heard) == [2.0**difficulty_log2]


def test_a_suggestion_takes_effect_with_the_next_work_and_only_at_first_contact() -> None:
    stage = SessionStage()
    miner = stage.mining()
    first = miner.job
    assert words(miner.ask("mining.suggest_difficulty", 2.0**-24)) == "result"
    stage.serve_waiting()
    assert words(miner.hear()) == "set_difficulty notify"
    assert miner.difficulty == 2.0**-24
    assert miner.mine(job=first, difficulty_log2=-26)["result"] is True, "judged as when its job was sent"
    assert words(miner.ask("mining.suggest_difficulty", 1e300)) == "result"
    stage.serve_waiting()
    assert words(miner.hear()) == "", "what is not sane is as if it had not been said"

    stage.admission.remembered_log2["acme.c01.u2"] = -20
    other = stage.mining("acme.c01.u2")
    other.ask("mining.suggest_difficulty", 2.0**-32)
    stage.serve_waiting()
    assert words(other.hear()) == "", "its own shares have said more than its settings do"


def test_difficulty_never_goes_below_what_the_miner_asked_for() -> None:
    stage = SessionStage()
    miner = stage.mining()
    configured = miner.ask("mining.configure", ["minimum-difficulty"], {"minimum-difficulty.value": 2.0**-24})
    assert configured[0]["result"] == {"minimum-difficulty": True}
    stage.advance(2)
    assert miner.hear()[0]["params"] == [2.0**-24]
    assert words(miner.ask("mining.authorize", "acme.c01.u2", f"md={2.0**-30}")) == "result"
    stage.advance(600)  # silence: vardiff goes down as far as it may
    assert set_difficulties(miner.hear()) == []


def test_a_minimum_does_not_undo_a_retarget_that_waits() -> None:
    stage = SessionStage()
    miner = stage.mining()
    miner.ask("mining.suggest_difficulty", 2.0**-20)
    miner.ask("mining.configure", ["minimum-difficulty"], {"minimum-difficulty.value": 2.0**-30})
    stage.serve_waiting()
    assert set_difficulties(miner.hear()) == [2.0**-20]


def test_all_who_wait_share_one_work() -> None:
    stage = SessionStage()
    miners = [stage.mining(f"acme.c01.u{number}") for number in range(5)]
    quiet = stage.mining("acme.c01.u9")
    for miner in miners:
        miner.ask("mining.suggest_difficulty", 2.0**-24)
    stage.serve_waiting()
    assert {words(miner.hear()) for miner in miners} == {"set_difficulty notify"}
    assert len({miner.job[0] for miner in miners}) == 1
    assert words(quiet.hear()) == ""
    stage.serve_waiting()
    assert {words(miner.hear()) for miner in miners} == {""}


def test_a_resumed_session_has_its_extranonce_its_difficulty_and_its_jobs() -> None:
    stage = SessionStage()
    before = stage.mining()
    before.ask("mining.suggest_difficulty", 2.0**-20)
    stage.serve_waiting()
    before.hear()
    unsent = before.share()
    extranonce1, job = before.extranonce1, before.job
    before.leave()

    after = stage.connect()
    after.ask("mining.subscribe", "test/1", extranonce1.hex())
    heard = after.ask(*AUTHORIZE)
    assert after.extranonce1 == extranonce1
    assert set_difficulties(heard) == [2.0**-20]
    assert after.job[:7] == job[:7]
    assert after.submit(*unsent)["result"] is True, "work that was under way is not lost"
