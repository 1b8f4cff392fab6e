"""Whatever a miner does between hashing and submitting, it is credited the work that it did, and no more.

Each way is a strategy for choosing the difficulty of a share after its hash is known. `credited / work` is
what it brings: 1 for an honest miner, up to 7.8 where eight difficulties can be had for one hash.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Final

import msgspec
import pytest

from stratum.difficulty import DIFFICULTY_LOG2_MAX, DIFFICULTY_LOG2_MIN, target_from_difficulty_log2
from stratum.job import Work
from stratum.miners.channel import Channel
from tests.fakes.thief import Thief
from tests.stages.sessions import LEAST_LOG2, START_LOG2, SessionStage, make_work

HASHES: Final = 12_288  # a round: 192 shares at the start difficulty
ROUNDS: Final = 8
LEVELS: Final = tuple(
    range(START_LOG2, START_LOG2 + 8)
)  # as many difficulties as an engine keeps of a session
HARDER_LOG2: Final = START_LOG2 + 3

Way = Callable[[Thief, SessionStage], None]


def by_suggestions(thief: Thief, stage: SessionStage) -> None:
    """Every difficulty on an id of its own, by mining.suggest_difficulty."""
    miner = stage.mining()
    thief.hear(miner)
    job = miner.job
    for log2 in LEVELS:
        miner.ask("mining.suggest_difficulty", 2.0**log2)
        stage.advance(2)
        thief.hear(miner)
    thief.search(job, miner.extranonce1, HASHES)
    thief.sell()


def by_minimum(thief: Thief, stage: SessionStage) -> None:
    """The same by minimum-difficulty in mining.configure, which a settled miner may still ask for."""
    stage.admission.remembered_log2["acme.c01.u1"] = START_LOG2
    miner = stage.mining()
    thief.hear(miner)
    job = miner.job
    for log2 in LEVELS:
        miner.ask("mining.configure", ["minimum-difficulty"], {"minimum-difficulty.value": 2.0**log2})
        stage.advance(2)
        thief.hear(miner)
    thief.search(job, miner.extranonce1, HASHES)
    thief.sell()


def by_workers(thief: Thief, stage: SessionStage) -> None:
    """The same by a minimum in the password of one worker after the other."""
    miner = stage.mining()
    thief.hear(miner)
    job = miner.job
    for number, log2 in enumerate(LEVELS):
        miner.ask("mining.authorize", f"acme.c01.u{number}", f"md={2.0**log2}")
        stage.advance(2)
        thief.hear(miner)
    thief.search(job, miner.extranonce1, HASHES)
    thief.sell()


def by_coming_back(thief: Thief, stage: SessionStage) -> None:
    """The job that it has, at the difficulty of the next connection, which is harder."""
    miner = stage.mining()
    thief.hear(miner)
    job, extranonce1 = miner.job, miner.extranonce1
    thief.search(job, extranonce1, HASHES)
    for log2 in LEVELS:
        miner.leave()
        miner = stage.connect()
        miner.ask("mining.subscribe", "test/1", extranonce1.hex())
        miner.ask("mining.authorize", "acme.c01.u1", f"md={2.0**log2}")
        thief.hear(miner)
        thief.sell(keep_log2=log2 + 1)
    thief.sell()
    miner.leave()


def by_waiting_to_say_who_it_is(thief: Thief, stage: SessionStage) -> None:
    """It has its extranonces and knows the work, hashes, and then says which difficulty it starts at."""
    spy = stage.mining("acme.c01.spy")
    thief.hear(spy)
    for _ in range(8):
        miner = stage.connect()
        miner.ask("mining.subscribe", "test/1")
        thief.search(spy.job, miner.extranonce1, HASHES // 8)
        best = thief.best(spy.job, miner.extranonce1)
        miner.ask("mining.authorize", "acme.c01.u1", f"d={2.0**best}")
        thief.hear(miner)
        thief.sell()
        miner.leave()
    spy.leave()


def by_another_name(thief: Thief, stage: SessionStage) -> None:
    """The same, by the name of the machine whose remembered difficulty suits best."""
    for log2 in LEVELS:
        stage.admission.remembered_log2[f"acme.c01.m{-log2}"] = log2
    spy = stage.mining("acme.c01.spy")
    thief.hear(spy)
    for _ in range(8):
        miner = stage.connect()
        miner.ask("mining.subscribe", "test/1")
        thief.search(spy.job, miner.extranonce1, HASHES // 8)
        best = thief.best(spy.job, miner.extranonce1)
        miner.worker = f"acme.c01.m{-best}"
        miner.ask("mining.authorize", miner.worker, "x")
        thief.hear(miner)
        thief.sell()
        miner.leave()
    spy.leave()


def by_silence(thief: Thief, stage: SessionStage) -> None:
    """It says nothing until vardiff has stepped down, and keeps the id of before for its best hashes."""
    stage.publish(make_work(thief.hashes + 1), rate=1)
    miner = stage.mining()
    thief.hear(miner)
    thief.search(miner.job, miner.extranonce1, HASHES, least_log2=LEAST_LOG2 + 1)
    for _ in range(12):
        stage.advance(5)
        thief.hear(miner)
    thief.sell()
    miner.leave()


def upstreams_work(stage: SessionStage, number: int = 0) -> Work:
    """Other work in each round: what is chance in one must not be so in all."""
    assert stage.channel.current is not None
    return make_work(1_000 + number, refresh=stage.channel.current.work.height, upstream=True)


def upstreams_channel(stage: SessionStage) -> Channel:
    """With the extranonces of our own work; a miner that is moved there gets the job that is out."""
    channel = stage.add_channel(like=stage.channel)
    stage.publish(upstreams_work(stage), channel)
    return channel


def by_an_upstream_that_repeats_itself(thief: Thief, stage: SessionStage) -> None:
    """Its work comes again under other ids and at other times, and a suggestion before each."""
    channel = upstreams_channel(stage)
    stage.admission.channels["acme.c01.u1"] = channel
    miner = stage.mining()
    thief.hear(miner)
    assert channel.current is not None
    work, job = channel.current.work, miner.job
    thief.search(job, miner.extranonce1, HASHES)
    for at, log2 in enumerate(LEVELS):
        miner.ask("mining.suggest_difficulty", 2.0**log2)
        stage.publish(msgspec.structs.replace(work, ntime=work.ntime + at % 2), channel)
        stage.advance(2)
        thief.hear(miner)
    thief.sell()


def by_moving(thief: Thief, stage: SessionStage) -> None:
    """From our own work to an upstream's that is known, with the same extranonces, at what it has by then."""
    spy, channel = stage.mining("acme.c01.spy"), upstreams_channel(stage)
    stage.move(spy, channel)
    stage.advance(2)
    thief.hear(spy)
    miner = stage.mining()
    thief.search(spy.job, miner.extranonce1, HASHES)
    for log2 in LEVELS:
        miner.ask("mining.suggest_difficulty", 2.0**log2)
        stage.advance(2)
        stage.move(miner, channel)
        stage.advance(2)
        thief.hear(miner)
        thief.sell(keep_log2=log2 + 1)
        stage.move(miner, stage.channel)
        stage.advance(2)
    stage.move(miner, channel)
    stage.advance(2)
    thief.hear(miner)
    thief.sell()


def upstream_with_other_extranonces(stage: SessionStage, free: int) -> Channel:
    """With prefixes for 256, of which so many nobody has."""
    channel = stage.add_channel(1, 8)
    for _ in range(256 - free):
        channel.lease(None, 0.0)
    return channel


def by_coming_back_to_where_it_was_moved(thief: Thief, stage: SessionStage) -> None:
    """Work that it was moved to, at what it had where it came from, which is harder."""
    stage.admission.channels["acme.c01.u1"] = channel = upstream_with_other_extranonces(stage, 2)
    miner = stage.mining("acme.c01.u2", f"d={2.0**HARDER_LOG2}")
    miner.ask("mining.extranonce.subscribe")
    stage.publish(upstreams_work(stage), channel)
    stage.move(miner, channel)
    stage.advance(2)
    thief.hear(miner)
    extranonce1 = miner.extranonce1
    thief.search(miner.job, extranonce1, HASHES)
    thief.sell(keep_log2=HARDER_LOG2)
    miner.leave()
    miner = stage.connect()
    miner.ask("mining.authorize", "acme.c01.u1", "x")
    miner.ask("mining.subscribe", "test/1", extranonce1.hex())
    thief.hear(miner)
    assert miner.extranonce1 == extranonce1
    thief.sell()


def by_a_prefix_that_a_move_brings(thief: Thief, stage: SessionStage) -> None:
    """It has searched with it before, without a share, at a difficulty that now suits it or does not."""
    for number in range(64):
        stage.admission.channels["acme.c01.u1"] = channel = upstream_with_other_extranonces(stage, 1)
        stage.publish(upstreams_work(stage, 2 * number), channel)
        miner = stage.connect()
        miner.ask("mining.authorize", "acme.c01.u1", f"d={2.0**HARDER_LOG2}")
        miner.ask("mining.subscribe", "test/1")
        stage.publish(upstreams_work(stage, 2 * number + 1), channel)
        thief.hear(miner)
        job, extranonce1 = miner.job, miner.extranonce1
        thief.search(job, extranonce1, HASHES // 64)
        if thief.best(job, extranonce1) == LEVELS[0]:
            miner.leave()
            miner = stage.mining("acme.c01.u2")
            miner.ask("mining.extranonce.subscribe")
            stage.move(miner, channel)
            stage.advance(2)
            thief.hear(miner)
            assert miner.extranonce1 == extranonce1
        thief.sell()
        miner.leave()


def by_the_delay_of_a_refresh(thief: Thief, stage: SessionStage) -> None:
    """A refresh reaches everybody within five seconds: the last one knows it from the first."""
    spy, miner = stage.mining("acme.c01.spy"), stage.mining()
    for round_ in range(4):
        stage.channel.publish(make_work(refresh=round_ + 1), rate=1, start_log2=START_LOG2)
        stage.distribution.send_current(stage.channel, [spy.assignment], fresh=False)
        thief.hear(spy)
        thief.search(spy.job, miner.extranonce1, HASHES // 4)
        best = thief.best(spy.job, miner.extranonce1)
        miner.ask("mining.suggest_difficulty", 2.0**best)
        stage.distribution.send_current(stage.channel, [miner.assignment], fresh=False)
        thief.hear(miner)
        thief.sell()
        stage.advance(2)
        thief.hear(miner)


WAYS: Final[tuple[Way, ...]] = (
    by_suggestions,
    by_minimum,
    by_workers,
    by_coming_back,
    by_waiting_to_say_who_it_is,
    by_another_name,
    by_silence,
    by_an_upstream_that_repeats_itself,
    by_moving,
    by_coming_back_to_where_it_was_moved,
    by_a_prefix_that_a_move_brings,
    by_the_delay_of_a_refresh,
)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_the_best_strategy_is_credited_its_work(way: Way) -> None:
    thieves = []
    for round_ in range(ROUNDS):
        stage = SessionStage(make_work(round_ + 1))
        thieves.append(Thief(stage))
        way(thieves[-1], stage)
    work = sum(thief.hashes for thief in thieves)
    ratio = sum(thief.credited for thief in thieves) / work
    bound = 4 * math.sqrt(sum(thief.squares for thief in thieves)) / work
    print(f"{way.__name__}: credited / work = {ratio:.3f}, {bound:.3f} of that may be chance")
    assert ratio <= 1 + bound
    assert ratio > 0.2, "it was credited something"


def test_a_hash_is_worth_no_more_than_itself_at_any_difficulty() -> None:
    """With the difficulty decided before the hash, this is all that there is to expect."""
    for log2 in range(DIFFICULTY_LOG2_MIN, DIFFICULTY_LOG2_MAX + 1):
        chance = Fraction(target_from_difficulty_log2(log2) + 1, 1 << 256)
        assert chance * Fraction(2) ** (32 + log2) <= 1
