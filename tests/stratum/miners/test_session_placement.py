"""Where a miner gets its first job when there are several channels, and how hard that is."""

from typing import Any

import pytest

from stratum.miners.channel import Channel
from stratum.miners.extranonce import UNNAMED_S
from stratum.miners.mining_session import State
from stratum.miners.vardiff import VardiffPolicy
from stratum.tallies import Verdict
from tests.stages.sessions import (
    AUTHORIZE,
    CHECK_S,
    LEAST_LOG2,
    MOST_LOG2,
    START_LOG2,
    SUBSCRIBE,
    Miner,
    ThreeChannels,
    words,
)

TWIN_RATE, OTHER_RATE = 2, 3
Said = tuple[Any, ...]


def in_use(channel: Channel) -> int:
    return len(channel.extranonces)


# First placement


def placed(three: ThreeChannels, channel: Channel, *said: Said) -> tuple[Miner, str]:
    """A miner that belongs there, and all that it heard."""
    three.stage.admission.channels["acme.c01.u1"] = channel
    miner = three.stage.connect()
    return miner, words([it for method, *params in said for it in miner.ask(method, *params)])


CHANGES: Said = ("mining.configure", ["subscribe-extranonce"], {})


def test_at_first_contact_equal_extranonces_need_no_word() -> None:
    three = ThreeChannels()
    miner, heard = placed(three, three.twin, SUBSCRIBE, AUTHORIZE)
    assert heard == "result result set_difficulty notify"
    assert miner.mine()["result"] is True
    assert three.credited() == [(TWIN_RATE, Verdict.ACCEPTED, 1)]


def test_at_first_contact_others_are_told_after_the_answer_and_before_the_job() -> None:
    three = ThreeChannels()
    miner, heard = placed(three, three.other, CHANGES, SUBSCRIBE, AUTHORIZE)
    assert heard == "result result result set_extranonce set_difficulty notify"
    assert miner.mine()["result"] is True
    assert three.credited() == [(OTHER_RATE, Verdict.ACCEPTED, 1)]
    assert (in_use(three.own), in_use(three.other)) == (0, 1)
    assert not three.other.waiting, "it has its job"


def test_authorize_before_subscribe_needs_no_guess() -> None:
    three = ThreeChannels()
    miner, heard = placed(three, three.other, AUTHORIZE, SUBSCRIBE)
    assert heard == "result result set_difficulty notify"
    assert len(miner.extranonce1) == 2
    assert miner.mine()["result"] is True
    assert (in_use(three.own), in_use(three.other)) == (0, 1)
    assert three.stage.placement_guess.sent_away == []


def test_who_cannot_be_told_comes_back_once_and_is_guessed() -> None:
    three = ThreeChannels()
    first, heard = placed(three, three.other, SUBSCRIBE, AUTHORIZE)
    assert heard == "result result reconnect"
    assert first.assignment.leaving
    assert first.session.closing == "moved", "firmware that does not know the word must not wait without work"
    first.leave()
    second, heard = placed(three, three.other, SUBSCRIBE, AUTHORIZE)
    assert heard == "result result set_difficulty notify"
    assert len(second.extranonce1) == 2
    assert second.mine()["result"] is True
    assert three.credited() == [(OTHER_RATE, Verdict.ACCEPTED, 1)]


def test_who_came_back_in_vain_mines_where_it_is() -> None:
    three = ThreeChannels()
    placed(three, three.other, SUBSCRIBE, AUTHORIZE)
    three.stage.placement_guess.guesses.clear()
    miner, heard = placed(three, three.other, SUBSCRIBE, AUTHORIZE)
    assert heard == "result result set_difficulty notify"
    assert miner.channel is three.own
    assert miner.mine()["result"] is True


@pytest.mark.parametrize(
    "said", [(SUBSCRIBE, AUTHORIZE), (CHANGES, SUBSCRIBE, AUTHORIZE), (AUTHORIZE, SUBSCRIBE)]
)
def test_where_there_is_no_room_a_miner_gets_a_place_on_the_first_channel(said: tuple[Said, ...]) -> None:
    three = ThreeChannels()
    three.other.extranonces.capacity = 1
    three.other.lease(None, 0.0)
    three.stage.placement_guess.guesses["10.0.0.1"] = three.other
    miner, heard = placed(three, three.other, *said)
    assert heard.endswith("set_difficulty notify")
    assert "reconnect" not in heard, "it would come back for ever"
    assert miner.channel is three.own
    assert miner.mine()["result"] is True


@pytest.mark.parametrize("said", [(SUBSCRIBE, AUTHORIZE), (CHANGES, SUBSCRIBE, AUTHORIZE)])
def test_where_there_is_no_room_nobody_mines_what_its_address_was_guessed_to_mine(
    said: tuple[Said, ...],
) -> None:
    """That may be another tenant's account, and the pool would pay as well."""
    three = ThreeChannels()
    third = three.stage.add_channel(2, 4)
    third.extranonces.capacity = 1
    third.lease(None, 0.0)
    three.stage.placement_guess.guesses["10.0.0.1"] = three.other
    miner, _ = placed(three, third, *said)
    if miner.session.closing is not None:
        miner.leave()
        miner, _ = placed(three, third, *said)
    assert miner.channel is three.own
    assert miner.mine()["result"] is True
    assert (in_use(three.own), in_use(three.other), in_use(third)) == (1, 0, 1)


def test_who_has_a_prefix_and_does_not_say_its_name_keeps_no_machine_out() -> None:
    """An upstream's space may be small, and strangers at a site's address take all of it for ever."""
    three = ThreeChannels()
    three.other.extranonces.capacity = 4
    three.stage.placement_guess.guesses["10.0.0.1"] = three.other
    strangers = [three.stage.connect() for _ in range(4)]
    for stranger in strangers:
        stranger.ask(*SUBSCRIBE)
    early, _ = placed(three, three.own, SUBSCRIBE, AUTHORIZE)
    assert early.channel is three.own
    assert all(stranger.open for stranger in strangers), "they may be machines in a rush"
    three.stage.advance(UNNAMED_S)
    machines = []
    for _ in range(4):
        machine, _ = placed(three, three.other, SUBSCRIBE, AUTHORIZE)
        machines.append(machine)
        strangers.append(three.stage.connect())
        strangers[-1].ask(*SUBSCRIBE)  # they never rest
        three.stage.advance(UNNAMED_S)
    placed_there = [machine.channel is three.other for machine in machines]
    assert placed_there == [True] * 4
    late, _ = placed(three, three.own, SUBSCRIBE, AUTHORIZE)
    assert late.channel is three.own
    for machine in machines:
        machine.hear()
        assert machine.mine()["result"] is True


def test_a_wrong_guess_is_put_right() -> None:
    three = ThreeChannels()
    three.stage.placement_guess.guesses["10.0.0.1"] = three.other
    miner, heard = placed(three, three.own, CHANGES, SUBSCRIBE, AUTHORIZE)
    assert heard == "result result result set_extranonce set_difficulty notify"
    assert len(miner.extranonce1) == 4
    assert miner.mine()["result"] is True
    assert (in_use(three.own), in_use(three.other)) == (1, 0)


def test_the_first_worker_decides_for_the_others_on_the_connection() -> None:
    three = ThreeChannels()
    three.stage.admission.channels["acme.c01.u2"] = three.other
    miner, _ = placed(three, three.twin, SUBSCRIBE, AUTHORIZE)
    assert words(miner.ask("mining.authorize", "acme.c01.u2", "x")) == "result"
    assert miner.channel is three.twin


def test_a_miner_that_resumes_keeps_its_difficulties_on_a_channel_with_the_same_extranonces() -> None:
    three = ThreeChannels()
    miner, _ = placed(three, three.twin, SUBSCRIBE, AUTHORIZE)
    late = miner.share()
    miner.leave()
    back, _ = placed(three, three.twin, ("mining.subscribe", "", miner.extranonce1.hex()), AUTHORIZE)
    assert back.extranonce1 == miner.extranonce1
    assert back.submit(*late)["result"] is True


# Difficulty


def test_never_above_the_upstreams_difficulty() -> None:
    three = ThreeChannels()
    most_log2 = START_LOG2 - 3
    three.twin.vardiff = VardiffPolicy(difficulty_log2_min=LEAST_LOG2, difficulty_log2_max=most_log2)
    miner = three.miner()
    three.stage.move(miner, three.twin)
    three.stage.serve_waiting()
    miner.hear()
    assert miner.difficulty == 2.0**most_log2
    for _ in range(40):  # a fast machine: vardiff would take it up
        assert miner.mine()["result"] is True
    three.stage.advance(4 * CHECK_S)
    miner.hear()
    assert miner.difficulty == 2.0**most_log2
    miner.ask("mining.suggest_difficulty", 2.0**MOST_LOG2)
    three.stage.advance(4 * CHECK_S)
    miner.hear()
    assert miner.difficulty == 2.0**most_log2


def test_a_changed_bound_goes_out_with_the_next_job() -> None:
    three = ThreeChannels()
    above, below = three.miner(), three.miner(worker="acme.c01.u2")
    below.ask("mining.suggest_difficulty", 2.0 ** (START_LOG2 - 5))
    three.publish(three.own)
    below.hear()
    above.hear()
    three.own.vardiff = VardiffPolicy(difficulty_log2_min=LEAST_LOG2, difficulty_log2_max=START_LOG2 - 2)
    for miner in (above, below):
        miner.assignment.bounds_changed()
    assert above.hear() == []
    three.publish(three.own)
    assert words(above.hear()) == "set_difficulty notify"
    assert above.difficulty == 2.0 ** (START_LOG2 - 2)
    assert words(below.hear()) == "notify", "it is within the bounds"
    three.own.vardiff = None
    above.assignment.bounds_changed()
    three.publish(three.own)
    assert words(above.hear()) == "notify", "vardiff will find out"


def test_a_remembered_difficulty_starts_within_the_channels_bounds() -> None:
    three = ThreeChannels()
    three.twin.vardiff = VardiffPolicy(difficulty_log2_min=LEAST_LOG2, difficulty_log2_max=START_LOG2 - 2)
    three.stage.admission.remembered_log2["acme.c01.u1"] = MOST_LOG2
    miner, _ = placed(three, three.twin, SUBSCRIBE, AUTHORIZE)
    three.stage.serve_waiting()
    miner.hear()
    assert miner.difficulty == 2.0 ** (START_LOG2 - 2)


# A channel without anything to mine


def test_while_a_channel_is_paused_nothing_is_told() -> None:
    three = ThreeChannels()
    three.other.paused = True
    newcomer, heard = placed(three, three.other, AUTHORIZE, SUBSCRIBE)
    assert heard == "result result"
    assert newcomer.session.state is State.MINING
    moved = three.miner(subscribed=True, worker="acme.c01.u2")
    three.stage.move(moved, three.other)
    three.stage.advance(60.0)
    assert newcomer.hear() + moved.hear() == []
    assert moved.mine()["result"] is True, "meanwhile it has its former work"
    three.other.paused = False
    three.publish(three.other, block=True)
    assert words(newcomer.hear()) == "set_difficulty notify"
    assert words(moved.hear()) == "set_extranonce set_difficulty notify"


def test_an_announced_move_to_a_paused_channel_waits_with_the_extranonces_too() -> None:
    three = ThreeChannels()
    three.other.paused = True
    miner, heard = placed(three, three.other, CHANGES, SUBSCRIBE, AUTHORIZE)
    assert heard == "result result result", "no set_extranonce without a clean job behind it"
    three.other.paused = False
    three.publish(three.other)
    assert words(miner.hear()) == "set_extranonce set_difficulty notify"
    assert miner.mine()["result"] is True
