"""Shares for an upstream: which are handed out instead of tallied, and what they are when it is gone."""

import pytest

from stratum.tallies import Tally, Verdict
from tests.judges.oracle import Found, header_hash
from tests.stages.engine import (
    CHANNEL,
    EASIEST_LOG2,
    EVERY_HASH,
    NO_HASH,
    NTIME,
    UNREACHABLE_LOG2,
    Mine,
    Miner,
    work,
)

ACCEPTED, DUPLICATE, LOW = Verdict.ACCEPTED, Verdict.DUPLICATE, Verdict.LOW_DIFFICULTY
JOB_UNKNOWN, STALE, UNDELIVERED = Verdict.JOB_UNKNOWN, Verdict.STALE, Verdict.UNDELIVERED
BLOCK = work(network_target=EVERY_HASH)
OTHER_TIP = b"\x99" * 32
HASH = header_hash(
    work(), extranonces=b"\xe1" * 4 + b"\xe2" * 4, ntime=NTIME, nonce=0, version=work().version
)
NUMBER = int.from_bytes(HASH, "little")  # of the share that a miner submits here, unless told otherwise


def _mine(*, forward_target: int | None = EVERY_HASH, network_target: int = NO_HASH) -> tuple[Mine, Miner]:
    """Job 1 with this forward target, and a miner on it."""
    mine = Mine()
    mine.publish(work(network_target=network_target), forward_target=forward_target)
    return mine, mine.join()


def _verdict(mine: Mine, miner: Miner, **share: object) -> Verdict:
    """As its miner is told."""
    miner.submit(**share)
    (verdict,) = mine.judge()
    return verdict


def _handed_out(mine: Mine) -> list[tuple[int, bool]]:
    """(job, tallied) of all that was handed out."""
    return [(found.seq, found.tallied) for found in mine.found]


# Handed out, or tallied


def test_a_share_to_be_forwarded_is_handed_out_with_its_facts_and_is_in_no_tally() -> None:
    mine, miner = _mine()
    assert _verdict(mine, miner) is ACCEPTED
    assert mine.found == [
        Found(
            channel=CHANNEL,
            seq=1,
            worker=5,
            extranonce1=b"\xe1" * 4,
            extranonce2=b"\xe2" * 4,
            ntime=NTIME,
            nonce=0,
            version=0x20000000,
            hash_internal=HASH,
            difficulty_log2=EASIEST_LOG2,
            tallied=False,
        )
    ]
    assert mine.tallies() == []
    assert miner.answers == [b'{"id":4,"result":true,"error":null}']
    assert mine.engine.totals()[ACCEPTED] == 1


@pytest.mark.parametrize(
    ("forward_target", "forwarded"),
    [(EVERY_HASH, True), (NUMBER, True), (NUMBER - 1, False), (NO_HASH, False), (None, False)],
    ids=["any", "its hash", "less than its hash", "no hash", "none"],
)
def test_a_good_share_is_forwarded_from_the_forward_target_down(
    forward_target: int | None, forwarded: bool
) -> None:
    mine, miner = _mine(forward_target=forward_target)
    assert _verdict(mine, miner) is ACCEPTED
    assert _handed_out(mine) == ([(1, False)] if forwarded else [])
    assert mine.tallies() == ([] if forwarded else [Tally(5, 7, EASIEST_LOG2, ACCEPTED, 1)])


def test_what_is_forwarded_bears_the_difficulty_of_its_job() -> None:
    mine, miner = _mine()
    mine.engine.pin_difficulty(miner.session, EASIEST_LOG2 + 1, from_seq=2)
    harder = mine.publish(work(coinbase1=b"other"), forward_target=EVERY_HASH)
    for nonce in range(8):
        miner.submit(job=1 + nonce % 2, nonce=nonce)
    mine.judge()
    difficulties = {(found.seq, found.difficulty_log2) for found in mine.found}
    assert difficulties == {(1, EASIEST_LOG2), (harder, EASIEST_LOG2 + 1)}


@pytest.mark.parametrize(
    ("verdict", "share"),
    [
        (Verdict.MALFORMED, {"nonce": "nonsense"}),
        (Verdict.UNAUTHORISED, {"worker": "mallory"}),
        (JOB_UNKNOWN, {"job": 99}),
        (Verdict.NTIME_OUT_OF_RANGE, {"ntime": f"{NTIME + 101:x}"}),
        (Verdict.VERSION_OUTSIDE_MASK, {"rolled": 0xC0000000}),
        (LOW, {}),
    ],
    ids=lambda value: value.name if isinstance(value, Verdict) else "",
)
def test_a_share_that_is_not_good_is_not_forwarded(verdict: Verdict, share: dict[str, object]) -> None:
    mine, miner = _mine()
    if verdict is LOW:  # for us, though good enough for the upstream
        mine.engine.pin_difficulty(miner.session, UNREACHABLE_LOG2, from_seq=1)
    assert _verdict(mine, miner, **share) is verdict
    assert mine.found == []


def test_a_share_that_could_not_be_remembered_is_not_forwarded() -> None:
    mine = Mine(duplicates_max=1)
    mine.publish(work(), forward_target=EVERY_HASH)
    miner = mine.join()
    for nonce in (0, 1):
        miner.submit(nonce=nonce)
    assert mine.judge() == [ACCEPTED, Verdict.FILTER_FULL]
    assert [found.nonce for found in mine.found] == [0]


def test_a_forwarded_share_counts_for_vardiff_and_brings_the_retarget_nearer() -> None:
    mine, miner = _mine()
    mine.engine.set_retarget_after(miner.session, 2)
    assert _verdict(mine, miner) is ACCEPTED
    assert (mine.engine.counters(miner.session), mine.due) == ((1, 0, 1), [])
    assert _verdict(mine, miner, nonce=1) is ACCEPTED
    assert (mine.engine.counters(miner.session), mine.due) == ((2, 0, 2), [miner])


def test_a_share_is_forwarded_although_its_session_has_left() -> None:
    mine, miner = _mine()
    miner.submit()
    miner.close()
    mine.judge()
    assert _handed_out(mine) == [(1, False)]


# Once


def test_a_forwarded_share_that_comes_again_is_a_duplicate_and_is_not_handed_out_again() -> None:
    mine, miner = _mine()
    mine.engine.add_channel(2)
    alias, again, elsewhere = mine.alias(1), mine.publish(work()), mine.publish(work(), channel=2)
    miner.submit()
    for job in (1, alias, again):
        miner.submit(job=job)
    mine.join(worker=9).submit()
    mine.join(worker=9, channel=2).submit(job=elsewhere)
    assert sorted(mine.judge()) == [ACCEPTED] + [DUPLICATE] * 5
    assert _handed_out(mine) == [(1, False)]
    assert {tally.verdict for tally in mine.tallies()} == {DUPLICATE}


def test_a_share_that_was_tallied_is_not_forwarded_later() -> None:
    """The same work with an easier forward target: it was paid for."""
    mine, miner = _mine(forward_target=NO_HASH)
    mine.publish(work(), forward_target=EVERY_HASH)
    assert [_verdict(mine, miner, job=job) for job in (1, 2)] == [ACCEPTED, DUPLICATE]
    assert mine.found == []


# Blocks


def test_a_block_is_forwarded_whatever_the_forward_target() -> None:
    mine, miner = _mine(forward_target=NO_HASH, network_target=EVERY_HASH)
    assert [_verdict(mine, miner), _verdict(mine, miner)] == [ACCEPTED, DUPLICATE]
    assert _handed_out(mine) == [(1, False)]
    assert [tally.verdict for tally in mine.tallies()] == [DUPLICATE]


def test_a_block_that_is_not_good_is_handed_out_and_tallied_for_what_it_is() -> None:
    mine, miner = _mine(network_target=EVERY_HASH)
    mine.publish(work(prevhash_internal=OTHER_TIP), forward_target=EVERY_HASH)
    assert _verdict(mine, miner, job=2) is ACCEPTED
    assert [_verdict(mine, miner), _verdict(mine, miner)] == [STALE, STALE]
    assert _handed_out(mine) == [(2, False), (1, True)]
    assert mine.tallies() == [Tally(5, 7, EASIEST_LOG2, STALE, 2)]


def test_a_stale_block_that_is_good_when_its_previous_block_comes_back_is_forwarded_then() -> None:
    """As a share it was not handed out yet."""
    mine, miner = _mine(network_target=EVERY_HASH)
    mine.publish(work(prevhash_internal=OTHER_TIP))
    assert _verdict(mine, miner) is STALE
    mine.publish(work())
    assert [_verdict(mine, miner), _verdict(mine, miner)] == [ACCEPTED, DUPLICATE]
    assert _handed_out(mine) == [(1, True), (1, False)]


# An upstream that is gone


def test_good_shares_of_jobs_of_before_are_undelivered_and_their_miner_is_told_that_they_are_good() -> None:
    mine, miner = _mine(forward_target=None)
    mine.publish(work(coinbase1=b"2"))
    mine.engine.undelivered_before(CHANNEL, 2)
    mine.engine.set_retarget_after(miner.session, 2)
    assert [_verdict(mine, miner, job=job) for job in (1, 2, 1)] == [ACCEPTED, ACCEPTED, DUPLICATE]
    assert mine.tallies() == [
        Tally(5, 7, EASIEST_LOG2, ACCEPTED, 1),
        Tally(5, 7, EASIEST_LOG2, DUPLICATE, 1),
        Tally(5, 7, EASIEST_LOG2, UNDELIVERED, 1),
    ]
    assert mine.engine.totals()[UNDELIVERED] == 1
    assert mine.engine.counters(miner.session) == (2, 1, 2)  # its work is measured all the same


def test_a_share_in_the_queue_is_undelivered_when_the_upstream_goes_before_it_is_judged() -> None:
    mine, miner = _mine(forward_target=None)
    miner.submit()
    mine.engine.undelivered_before(CHANNEL, 2)
    mine.judge()
    assert [tally.verdict for tally in mine.tallies()] == [UNDELIVERED]


def test_an_alias_is_as_old_as_what_it_repeats() -> None:
    mine, miner = _mine(forward_target=None)
    mine.publish(work(coinbase1=b"2"))
    mine.engine.undelivered_before(CHANNEL, 2)
    aliases = mine.alias(1), mine.alias(2)
    for alias in aliases:
        miner.submit(job=alias)
    mine.judge()
    assert [tally.verdict for tally in mine.tallies()] == [ACCEPTED, UNDELIVERED]


def test_an_undelivered_share_that_meets_the_forward_target_is_handed_out_all_the_same() -> None:
    """Who sends it on knows best whether it can be sent."""
    mine, miner = _mine(forward_target=NUMBER)
    mine.engine.undelivered_before(CHANNEL, 2)
    assert _verdict(mine, miner) is ACCEPTED
    assert _handed_out(mine) == [(1, False)]
    assert mine.tallies() == []
    assert (mine.engine.totals()[ACCEPTED], mine.engine.totals()[UNDELIVERED]) == (1, 0)


def test_a_block_that_is_undelivered_and_not_forwarded_is_handed_out_and_tallied() -> None:
    mine, miner = _mine(forward_target=None, network_target=EVERY_HASH)
    mine.engine.undelivered_before(CHANNEL, 2)
    assert _verdict(mine, miner) is ACCEPTED
    assert _handed_out(mine) == [(1, True)]
    assert [tally.verdict for tally in mine.tallies()] == [UNDELIVERED]


def test_undelivered_is_for_one_channel_and_the_last_word_counts() -> None:
    mine, miner = _mine(forward_target=None)
    mine.engine.add_channel(2)
    seq = mine.publish(work(coinbase1=b"2"), channel=2)
    mine.engine.undelivered_before(CHANNEL, seq + 1)
    assert _verdict(mine, mine.join(worker=9, channel=2), job=seq) is ACCEPTED
    mine.engine.undelivered_before(CHANNEL, 0)
    assert _verdict(mine, miner) is ACCEPTED
    assert {tally.verdict for tally in mine.tallies()} == {ACCEPTED}


# Clean jobs


def test_a_clean_job_makes_all_earlier_ones_stale_on_the_same_previous_block_too() -> None:
    mine, miner = _mine(forward_target=None)
    assert _verdict(mine, miner) is ACCEPTED
    early_alias = mine.alias(1)
    clean = mine.publish(work(), clean=True)
    late_alias, alias = mine.alias(1), mine.alias(clean)
    verdicts = [_verdict(mine, miner, job=job, nonce=1) for job in (1, early_alias, late_alias, clean)]
    assert verdicts == [STALE, STALE, STALE, ACCEPTED]
    assert _verdict(mine, miner, job=alias, nonce=2) is ACCEPTED
    assert _verdict(mine, miner, job=clean) is DUPLICATE  # what was credited before it is remembered


def test_a_job_that_is_not_clean_leaves_the_others() -> None:
    mine, miner = _mine(forward_target=None)
    clean = mine.publish(work(), clean=True)
    mine.publish(work())
    assert [_verdict(mine, miner, job=job) for job in (1, clean)] == [STALE, ACCEPTED]


def test_a_clean_job_is_for_its_channel_alone() -> None:
    mine, miner = _mine(forward_target=None)
    mine.engine.add_channel(2)
    mine.publish(work(coinbase1=b"2"), channel=2, clean=True)
    assert _verdict(mine, miner) is ACCEPTED


def test_a_share_in_the_queue_is_stale_when_a_clean_job_comes_before_it_is_judged() -> None:
    mine, miner = _mine(network_target=EVERY_HASH)
    miner.submit()
    mine.publish(work(), clean=True)
    assert mine.judge() == [STALE]
    assert _handed_out(mine) == [(1, True)]


def test_what_a_clean_job_made_stale_stays_so_when_its_previous_block_comes_back() -> None:
    mine, miner = _mine(forward_target=None)
    on_the_other = mine.publish(work(prevhash_internal=OTHER_TIP), clean=True)
    back = mine.publish(work(coinbase1=b"2"))
    assert [_verdict(mine, miner, job=job) for job in (1, on_the_other, back)] == [STALE, STALE, ACCEPTED]


# What is refused


def test_what_makes_no_sense_is_refused_and_changes_nothing() -> None:
    mine, miner = _mine()
    for size in (0, 31, 33):
        with pytest.raises(ValueError, match="forward target"):
            mine.engine.add_job(
                channel=CHANNEL,
                seq=2,
                rate=7,
                coinbase1=b"",
                coinbase2=b"",
                extranonce_size=8,
                branch=b"",
                prevhash_internal=OTHER_TIP,
                version=0,
                nbits=0,
                ntime_min=0,
                ntime_max=0,
                network_target_le=bytes(32),
                forward_target_le=bytes(size),
                clean=True,
            )
    with pytest.raises(ValueError, match="must grow"):
        mine.publish(work(), seq=1, clean=True)
    with pytest.raises(IndexError):
        mine.engine.undelivered_before(99, 2)
    assert _verdict(mine, miner) is ACCEPTED
