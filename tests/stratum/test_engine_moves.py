"""A session that moves: its shares are judged by where it was when it was given their job, and count once.

Job ids grow across all channels: a move is "from this job on".
"""

from itertools import count

import pytest

from stratum.difficulty import target_from_difficulty_log2
from stratum.job import Work
from stratum.tallies import Tally, Verdict
from tests.judges.oracle import header_hash
from tests.stages.engine import EASIEST_LOG2, EVERY_HASH, NTIME, UNREACHABLE_LOG2, Mine, Miner, work

ACCEPTED, DUPLICATE, LOW = Verdict.ACCEPTED, Verdict.DUPLICATE, Verdict.LOW_DIFFICULTY
JOB_UNKNOWN, MALFORMED, STALE = Verdict.JOB_UNKNOWN, Verdict.MALFORMED, Verdict.STALE
OUTSIDE_MASK = Verdict.VERSION_OUTSIDE_MASK
OLD, NEW = b"\xe1" * 4, b"\xee" * 4
FORMER_PLACES_MAX = 4  # kFormerPlacesMax in engine.hpp
BLOCK = work(network_target=EVERY_HASH)  # its shares are handed out: what was hashed can be seen


def _mine(job: Work | None = None) -> tuple[Mine, Miner]:
    """Job 1 on channel 1, and a miner there whose extranonce1 is OLD; nothing on channel 2 yet."""
    mine = Mine()
    mine.engine.add_channel(2)
    mine.publish(work() if job is None else job)
    return mine, mine.join(extranonce1=OLD)


def _verdict(mine: Mine, miner: Miner, **share: object) -> Verdict:
    miner.submit(**share)
    (verdict,) = mine.judge()
    return verdict


def _hash(job: Work, extranonce1: bytes, *, nonce: int = 0) -> bytes:
    extranonces = extranonce1 + b"\xe2" * 4
    return header_hash(job, extranonces=extranonces, ntime=NTIME, nonce=nonce, version=job.version)


# Where it was


def test_a_share_for_the_former_channel_is_hashed_with_the_extranonce1_that_it_had_there() -> None:
    mine, miner = _mine(BLOCK)
    other = work(network_target=EVERY_HASH, coinbase1=b"the other channel's")
    miner.move(2, extranonce1=NEW, from_seq=2)
    mine.publish(other, channel=2)
    miner.submit(job=1)
    miner.submit(job=2)
    assert mine.judge() == [ACCEPTED, ACCEPTED]
    seen = [(found.channel, found.seq, found.extranonce1, found.hash_internal) for found in mine.found]
    assert seen == [(1, 1, OLD, _hash(BLOCK, OLD)), (2, 2, NEW, _hash(other, NEW))]


def test_a_move_may_be_to_another_extranonce1_on_the_same_channel() -> None:
    mine, miner = _mine(BLOCK)
    miner.move(1, extranonce1=NEW, from_seq=2)
    mine.publish(BLOCK)
    miner.submit(job=2)
    miner.submit(job=1)
    assert mine.judge() == [ACCEPTED, ACCEPTED]
    assert [found.hash_internal for found in mine.found] == [_hash(BLOCK, NEW), _hash(BLOCK, OLD)]


def test_a_miner_that_goes_on_with_its_old_prefix_under_a_new_job_sends_other_hashes() -> None:
    """What it worked for is not what is judged: good for it is mostly not good for us, and never twice."""
    mine, miner = _mine()
    other = work(coinbase1=b"other")
    log2 = EASIEST_LOG2 + 4
    target = target_from_difficulty_log2(log2)
    miner.move(1, extranonce1=NEW, from_seq=2)
    mine.engine.pin_difficulty(miner.session, log2, from_seq=2)
    mine.publish(other)

    def good(extranonce1: bytes, nonce: int) -> bool:
        return int.from_bytes(_hash(other, extranonce1, nonce=nonce), "little") <= target

    wasted = next(nonce for nonce in count() if good(OLD, nonce) and not good(NEW, nonce))
    both = next(nonce for nonce in count() if good(OLD, nonce) and good(NEW, nonce))
    assert _verdict(mine, miner, job=2, nonce=wasted) is LOW
    assert _verdict(mine, miner, job=1, nonce=wasted) is ACCEPTED
    assert _verdict(mine, miner, job=1, nonce=both) is ACCEPTED
    assert _verdict(mine, miner, job=2, nonce=both) is ACCEPTED  # the same numbers, another hash
    assert _verdict(mine, mine.join(extranonce1=NEW), job=2, nonce=both) is DUPLICATE


def test_each_place_has_its_own_size_of_extranonce2() -> None:
    mine, miner = _mine()
    miner.move(2, extranonce1=NEW, extranonce2_size=2, from_seq=2)
    mine.publish(work(), channel=2, size=6)
    for job, extranonce2, verdict in [
        (1, "e2e2e2e2", ACCEPTED),
        (1, "e2e2", MALFORMED),
        (2, "e2e2", ACCEPTED),
        (2, "e2e2e2e2", MALFORMED),
        ("no id", "e2e2", JOB_UNKNOWN),  # measured by where it is now
        ("no id", "e2e2e2e2", MALFORMED),
    ]:
        assert _verdict(mine, miner, job=job, extranonce2=extranonce2) is verdict


def test_the_mask_comes_along_and_one_set_later_is_for_the_new_place_alone() -> None:
    mine, miner = _mine()
    miner.move(2, extranonce1=NEW, from_seq=2)
    mine.publish(work(), channel=2)
    assert [_verdict(mine, miner, job=job, rolled=0x2000) for job in (1, 2)] == [ACCEPTED, ACCEPTED]
    mine.engine.set_version_mask(miner.session, 0x4000)
    assert [_verdict(mine, miner, job=job, rolled=0x6000) for job in (1, 2)] == [ACCEPTED, OUTSIDE_MASK]
    assert [_verdict(mine, miner, job=job, rolled=0x4000) for job in (1, 2)] == [ACCEPTED, ACCEPTED]


def test_difficulty_and_price_stay_those_of_the_job() -> None:
    mine, miner = _mine()
    miner.move(2, extranonce1=NEW, from_seq=2)
    mine.publish(work(), channel=2, rate=8)
    mine.engine.pin_difficulty(miner.session, UNREACHABLE_LOG2, from_seq=3)
    mine.publish(work(coinbase1=b"other"), channel=2, rate=9)
    assert [_verdict(mine, miner, job=job) for job in (1, 2, 3)] == [ACCEPTED, ACCEPTED, LOW]
    assert mine.tallies() == [
        Tally(5, 7, EASIEST_LOG2, ACCEPTED, 1),
        Tally(5, 8, EASIEST_LOG2, ACCEPTED, 1),
        Tally(5, 9, UNREACHABLE_LOG2, LOW, 1),
    ]


def test_a_share_that_was_fed_before_the_move_is_judged_as_it_was_fed() -> None:
    mine, miner = _mine(BLOCK)
    miner.submit()
    miner.move(2, extranonce1=NEW, from_seq=1)
    assert mine.judge() == [ACCEPTED]
    assert mine.found[0].hash_internal == _hash(BLOCK, OLD)
    assert _verdict(mine, miner) is JOB_UNKNOWN  # from job 1 on it mines channel 2, which has no such job


# Which jobs are its own


def test_a_channels_jobs_from_before_the_move_were_never_sent_to_this_session() -> None:
    mine, miner = _mine()
    mine.publish(work(), channel=2)
    miner.move(2, extranonce1=NEW, from_seq=3)
    mine.publish(work(coinbase1=b"new"), channel=2)
    mine.publish(work(), channel=1)
    assert [_verdict(mine, miner, job=job) for job in (1, 2, 3, 4)] == [
        ACCEPTED,  # channel 1's, before the move
        JOB_UNKNOWN,  # channel 2's, before the move
        ACCEPTED,  # channel 2's, after it
        JOB_UNKNOWN,  # channel 1's, after it
    ]


def test_an_alias_belongs_to_the_place_where_the_session_was_when_it_was_made() -> None:
    mine, miner = _mine(BLOCK)
    before = mine.alias(1)
    miner.move(2, extranonce1=NEW, from_seq=3)
    after = mine.alias(1)
    assert _verdict(mine, miner, job=before) is ACCEPTED
    assert mine.found[0].hash_internal == _hash(BLOCK, OLD)
    assert [_verdict(mine, miner, job=job) for job in (1, after)] == [DUPLICATE, JOB_UNKNOWN]


def test_there_and_back_again() -> None:
    mine, miner = _mine(BLOCK)
    miner.move(2, extranonce1=NEW, from_seq=2)
    mine.publish(BLOCK, channel=2)
    miner.move(1, extranonce1=OLD, from_seq=3)
    mine.publish(BLOCK, channel=1)
    for job in (2, 1):
        miner.submit(job=job)
    assert mine.judge() == [ACCEPTED, ACCEPTED]
    assert [found.hash_internal for found in mine.found] == [_hash(BLOCK, NEW), _hash(BLOCK, OLD)]
    assert _verdict(mine, miner, job=3) is DUPLICATE  # the same work with the same prefix as job 1


@pytest.mark.parametrize("channel", [1, 2])
def test_the_last_moves_are_remembered_and_jobs_from_before_them_are_unknown(channel: int) -> None:
    """Not judged with the prefix of another place, even where they are that place's channel's."""
    mine, miner = _mine()
    for move in range(1, FORMER_PLACES_MAX + 1):
        miner.move(channel, extranonce1=bytes([move]) * 4, from_seq=1 + move)
        mine.publish(work(coinbase1=bytes([move])), channel=channel)
    jobs = range(1, FORMER_PLACES_MAX + 2)
    assert [_verdict(mine, miner, job=job) for job in jobs] == [ACCEPTED] * len(jobs)
    miner.move(channel, extranonce1=NEW, from_seq=jobs.stop)
    mine.publish(work(), channel=channel)
    verdicts = [_verdict(mine, miner, job=job, nonce=1) for job in (*jobs, jobs.stop)]
    assert verdicts == [JOB_UNKNOWN] + [ACCEPTED] * len(jobs)


def test_moves_go_forward() -> None:
    mine, miner = _mine()
    miner.move(2, extranonce1=NEW, from_seq=3)
    for from_seq in (1, 2):
        with pytest.raises(ValueError, match="moved at a later job"):
            miner.move(1, extranonce1=b"\x77" * 4, from_seq=from_seq)
    with pytest.raises(IndexError):
        miner.move(3, extranonce1=b"\x77" * 4, from_seq=4)
    mine.publish(work(), channel=2, seq=3)
    assert [_verdict(mine, miner, job=job) for job in (1, 3)] == [ACCEPTED, ACCEPTED]
    assert _verdict(mine, mine.join(extranonce1=NEW, channel=2), job=3) is DUPLICATE


def test_a_place_that_was_left_before_its_first_job_has_none() -> None:
    mine, miner = _mine()
    miner.move(2, extranonce1=NEW, from_seq=2)
    miner.move(1, extranonce1=NEW, from_seq=2)
    mine.publish(work(), seq=2)
    mine.publish(work(), channel=2, seq=3)
    assert [_verdict(mine, miner, job=job) for job in (1, 2, 3)] == [ACCEPTED, ACCEPTED, JOB_UNKNOWN]


def test_a_session_that_subscribes_anew_has_been_nowhere() -> None:
    mine, miner = _mine(BLOCK)
    miner.move(2, extranonce1=NEW, from_seq=2)
    miner.move(1, extranonce1=NEW, from_seq=0)
    mine.engine.pin_difficulty(miner.session, EASIEST_LOG2, from_seq=0)
    assert _verdict(mine, miner) is ACCEPTED
    assert mine.found[0].hash_internal == _hash(BLOCK, NEW)


# Once, and no more


def test_a_share_for_the_former_channel_counts_once_before_and_after_the_move() -> None:
    mine, miner = _mine()
    assert _verdict(mine, miner) is ACCEPTED
    miner.move(2, extranonce1=NEW, from_seq=2)
    mine.publish(work(), channel=2)
    assert _verdict(mine, miner) is DUPLICATE
    assert _verdict(mine, miner, nonce=1) is ACCEPTED
    assert _verdict(mine, miner, nonce=1) is DUPLICATE
    stayed = mine.join(extranonce1=OLD, worker=9)
    assert [_verdict(mine, stayed, nonce=nonce) for nonce in (0, 1)] == [DUPLICATE, DUPLICATE]
    newcomer = mine.join(extranonce1=OLD, worker=9, channel=2)  # the same work, on the other channel
    assert [_verdict(mine, newcomer, job=2, nonce=nonce) for nonce in (0, 1)] == [DUPLICATE, DUPLICATE]
    assert mine.tally_counts()[5, 7, EASIEST_LOG2, ACCEPTED] == 2


def test_a_former_channel_that_goes_on_makes_its_jobs_stale_and_a_block_there_is_a_block() -> None:
    mine, miner = _mine(BLOCK)
    miner.move(2, extranonce1=NEW, from_seq=2)
    mine.publish(work(), channel=2)
    mine.publish(work(prevhash_internal=b"\x99" * 32))
    assert [_verdict(mine, miner, job=job) for job in (1, 2)] == [STALE, ACCEPTED]
    assert [(found.channel, found.seq, found.tallied) for found in mine.found] == [(1, 1, True)]


def test_jobs_of_a_former_channel_that_was_removed_are_unknown_and_the_others_are_not() -> None:
    mine, miner = _mine(BLOCK)
    miner.move(2, extranonce1=NEW, from_seq=2)
    mine.publish(work(), channel=2)
    miner.submit(job=1)
    mine.engine.remove_channel(1)
    miner.submit(job=1, nonce=1)
    miner.submit(job=2)
    assert mine.judge() == [STALE, JOB_UNKNOWN, ACCEPTED]
    assert [found.hash_internal for found in mine.found] == [_hash(BLOCK, OLD)]


def test_shares_of_the_former_channel_count_for_vardiff_at_the_difficulty_in_force() -> None:
    mine, miner = _mine()
    miner.move(2, extranonce1=NEW, from_seq=2)
    mine.engine.pin_difficulty(miner.session, EASIEST_LOG2, from_seq=2)
    mine.engine.set_retarget_after(miner.session, 2)
    mine.publish(work(), channel=2)
    assert _verdict(mine, miner, job=1) is ACCEPTED
    assert _verdict(mine, miner, job=2) is ACCEPTED
    assert mine.due == [miner]
    assert mine.engine.counters(miner.session) == (2, 0, 2)
    mine.engine.pin_difficulty(miner.session, EASIEST_LOG2 + 1, from_seq=3)
    assert _verdict(mine, miner, job=1, nonce=1) is ACCEPTED
    assert mine.engine.counters(miner.session) == (3, 0, 0)
