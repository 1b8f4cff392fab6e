"""Jobs come and go: which of them a share may be on, and what becomes of shares on the others."""

import pytest

from stratum._engine import JOBS_PER_CHANNEL_MAX
from stratum.job import Work
from stratum.tallies import Verdict
from tests.stages.engine import EVERY_HASH, NTIME, Mine, Miner, work

ACCEPTED, DUPLICATE = Verdict.ACCEPTED, Verdict.DUPLICATE
JOB_UNKNOWN, STALE = Verdict.JOB_UNKNOWN, Verdict.STALE
OTHER_TIP = b"\x99" * 32


def _mine(job: Work | None = None) -> tuple[Mine, Miner]:
    mine = Mine()
    mine.publish(work() if job is None else job)
    return mine, mine.join()


def _verdict(mine: Mine, miner: Miner, **share: object) -> Verdict:
    miner.submit(**share)
    (verdict,) = mine.judge()
    return verdict


# Another block


def test_jobs_on_another_previous_block_are_stale() -> None:
    mine, miner = _mine()
    assert _verdict(mine, miner) is ACCEPTED
    mine.publish(work(prevhash_internal=OTHER_TIP))
    assert mine.engine.duplicates(1) == 0
    assert _verdict(mine, miner, job=1, nonce=1) is STALE
    assert _verdict(mine, miner, job=1) is STALE
    assert _verdict(mine, miner, job=2) is ACCEPTED


def test_a_share_that_was_fed_before_the_block_and_judged_after_it_is_stale() -> None:
    mine, miner = _mine()
    miner.submit()
    mine.publish(work(prevhash_internal=OTHER_TIP))
    assert mine.judge() == [STALE]


def test_when_a_previous_block_comes_back_its_shares_still_count_once() -> None:
    """Two nodes that disagree: the tip goes to and fro."""
    mine, miner = _mine()
    assert _verdict(mine, miner) is ACCEPTED
    mine.publish(work(prevhash_internal=OTHER_TIP))
    assert _verdict(mine, miner, job=2) is ACCEPTED
    mine.publish(work())
    assert [_verdict(mine, miner, job=seq) for seq in (1, 3, 2)] == [DUPLICATE, DUPLICATE, STALE]
    assert _verdict(mine, miner, job=3, nonce=1) is ACCEPTED
    mine.publish(work(prevhash_internal=OTHER_TIP))
    assert [_verdict(mine, miner, job=seq) for seq in (2, 4, 1)] == [DUPLICATE, DUPLICATE, STALE]


def test_jobs_of_a_previous_block_that_was_forgotten_stay_stale() -> None:
    """Otherwise its shares, forgotten too, would count again."""
    mine, miner = _mine()
    assert _verdict(mine, miner) is ACCEPTED
    for at in range(4):
        mine.publish(work(prevhash_internal=bytes([0x90 + at]) * 32))
    last = mine.publish(work(coinbase1=b"a new template"))
    assert _verdict(mine, miner, job=1) is STALE
    assert _verdict(mine, miner, job=1, nonce=1) is STALE
    assert _verdict(mine, miner, job=last) is ACCEPTED


# Jobs come and go


def test_dropped_jobs_are_unknown_and_the_others_are_not() -> None:
    mine, miner = _mine()
    for at in range(3):
        mine.publish(work(coinbase1=bytes([at])))
    mine.engine.drop_jobs_before(1, 3)
    assert [_verdict(mine, miner, job=seq) for seq in (1, 2)] == [JOB_UNKNOWN, JOB_UNKNOWN]
    assert [_verdict(mine, miner, job=seq) for seq in (3, 4)] == [ACCEPTED, ACCEPTED]
    with pytest.raises(IndexError):
        mine.engine.add_alias(1, 5, 2)


def test_a_share_in_the_queue_is_judged_although_its_job_was_dropped() -> None:
    mine, miner = _mine(work(network_target=EVERY_HASH))
    miner.submit()
    mine.engine.drop_jobs_before(1, 2)
    assert mine.judge() == [ACCEPTED]
    assert [found.seq for found in mine.found] == [1]


def test_the_oldest_job_makes_room_for_the_newest() -> None:
    mine, miner = _mine()
    for _ in range(JOBS_PER_CHANNEL_MAX - 1):
        mine.alias(1)
    assert _verdict(mine, miner, job=1) is ACCEPTED
    mine.alias(1)
    assert _verdict(mine, miner, job=1) is JOB_UNKNOWN
    assert _verdict(mine, miner, job=2, nonce=1) is ACCEPTED


def test_a_share_in_the_queue_outlives_its_channel() -> None:
    mine, miner = _mine(work(network_target=EVERY_HASH))
    miner.submit()
    mine.engine.remove_channel(1)
    miner.submit()
    assert mine.judge() == [STALE, JOB_UNKNOWN]
    assert len(mine.found) == 1


def test_a_job_that_has_no_room_for_the_sessions_extranonces_is_not_its_job() -> None:
    mine, miner = _mine()
    seq = mine.publish(work(), size=7)
    assert _verdict(mine, miner, job=seq) is JOB_UNKNOWN


def test_job_ids_are_never_reused() -> None:
    mine, _ = _mine()
    mine.publish(work(), seq=9)
    mine.engine.drop_jobs_before(1, 10)
    for seq in (1, 8, 9):
        with pytest.raises(ValueError, match="must grow"):
            mine.publish(work(), seq=seq)
    mine.publish(work(), seq=10)
    with pytest.raises(ValueError, match="must grow"):
        mine.engine.add_alias(1, 10, 10)


def test_ntime_limits_are_inclusive() -> None:
    mine, miner = _mine()
    verdicts = [_verdict(mine, miner, ntime=f"{NTIME + at:x}") for at in (-101, -100, 100, 101)]
    out = Verdict.NTIME_OUT_OF_RANGE
    assert verdicts == [out, ACCEPTED, ACCEPTED, out]
