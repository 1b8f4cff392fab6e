"""What a share counts for: the difficulty of its job, once whatever way it comes, for its worker."""

import math

import pytest

from stratum._engine import FORGOTTEN, NOT_HELD, PINS_MAX, REJECTS_PER_ACCEPTED
from stratum.difficulty import target_from_difficulty_log2
from stratum.tallies import Tally, Verdict
from tests.stages.engine import EASIEST_LOG2, NTIME, UNREACHABLE_LOG2, Mine, Miner, work

ACCEPTED, DUPLICATE, LOW = Verdict.ACCEPTED, Verdict.DUPLICATE, Verdict.LOW_DIFFICULTY
JOB_UNKNOWN = Verdict.JOB_UNKNOWN


def _mine() -> tuple[Mine, Miner]:
    mine = Mine()
    mine.publish(work())
    return mine, mine.join()


def _verdict(mine: Mine, miner: Miner, **share: object) -> Verdict:
    miner.submit(**share)
    (verdict,) = mine.judge()
    return verdict


# Difficulty belongs to the job


def test_a_share_is_judged_and_counted_at_the_difficulty_of_its_job() -> None:
    mine, miner = _mine()
    mine.engine.pin_difficulty(miner.session, UNREACHABLE_LOG2, from_seq=3)
    mine.publish(work(coinbase1=b"2"))
    mine.publish(work(coinbase1=b"3"))
    assert _verdict(mine, miner, job=2) is ACCEPTED  # sent before the retarget, submitted after it
    assert _verdict(mine, miner, job=3) is LOW
    assert _verdict(mine, miner, job=1) is ACCEPTED
    assert mine.tallies() == [Tally(5, 7, EASIEST_LOG2, ACCEPTED, 2), Tally(5, 7, UNREACHABLE_LOG2, LOW, 1)]


def test_no_other_id_of_a_work_has_another_difficulty() -> None:
    """Neither an alias, nor the same work as a new job, with another time or version, on whatever channel."""
    mine, miner = _mine()
    mine.engine.add_channel(2)
    again = [
        mine.alias(1),
        mine.publish(work()),
        mine.publish(work(ntime=NTIME + 5, version=0x20000004, nbits=0x1D00FFFE), clean=True),
    ]
    elsewhere = mine.publish(work(), channel=2)
    for log2, seq in enumerate([*again, elsewhere], start=EASIEST_LOG2 + 1):
        mine.engine.pin_difficulty(miner.session, log2, from_seq=seq)
        assert mine.engine.judged_at(miner.session, 1, 1) == EASIEST_LOG2
    assert {mine.engine.judged_at(miner.session, 1, seq) for seq in again} == {EASIEST_LOG2}
    assert mine.engine.judged_at(miner.session, 2, elsewhere) == EASIEST_LOG2
    assert _verdict(mine, miner, job=again[-1]) is ACCEPTED
    assert mine.tallies() == [Tally(5, 7, EASIEST_LOG2, ACCEPTED, 1)]
    other = mine.publish(work(coinbase1=b"other"))
    assert mine.engine.judged_at(miner.session, 1, other) == EASIEST_LOG2 + 4


def test_work_that_came_before_the_session_has_its_own_difficulty() -> None:
    mine = Mine()
    for at in range(3):
        mine.publish(work(coinbase1=bytes([at])), start_log2=EASIEST_LOG2 + at)
    miner = mine.join(difficulty_log2=UNREACHABLE_LOG2, from_seq=2)
    judged_at = [mine.engine.judged_at(miner.session, 1, seq) for seq in (1, 2, 3)]
    assert judged_at == [EASIEST_LOG2, UNREACHABLE_LOG2, UNREACHABLE_LOG2]
    mine.engine.pin_difficulty(miner.session, NOT_HELD, from_seq=3)  # it went, and is back since
    mine.engine.pin_difficulty(miner.session, UNREACHABLE_LOG2, from_seq=4)
    judged_at = [mine.engine.judged_at(miner.session, 1, seq) for seq in (1, 2, 3)]
    assert judged_at == [EASIEST_LOG2, UNREACHABLE_LOG2, EASIEST_LOG2 + 2]


def test_a_job_from_before_the_first_difficulty_was_never_sent_to_this_session() -> None:
    mine = Mine()
    for at in range(3):
        mine.publish(work(coinbase1=bytes([at])), start_log2=None)
    miner = mine.join(from_seq=2)
    assert [_verdict(mine, miner, job=seq) for seq in (1, 2, 3)] == [JOB_UNKNOWN, ACCEPTED, ACCEPTED]


def test_a_difficulty_pinned_again_from_the_same_job_replaces_the_first() -> None:
    mine, miner = _mine()
    mine.engine.pin_difficulty(miner.session, UNREACHABLE_LOG2, from_seq=1)
    mine.engine.pin_difficulty(miner.session, EASIEST_LOG2, from_seq=1)
    assert mine.engine.pins(miner.session) == [(0, EASIEST_LOG2), (1, EASIEST_LOG2)]
    assert _verdict(mine, miner) is ACCEPTED


def test_only_the_last_difficulties_are_known() -> None:
    mine, miner = _mine()
    for seq in range(1, PINS_MAX + 2):
        mine.engine.pin_difficulty(miner.session, EASIEST_LOG2 + seq, from_seq=seq)
    kept = [(seq, EASIEST_LOG2 + seq) for seq in range(3, PINS_MAX + 2)]
    assert mine.engine.pins(miner.session) == [(0, FORGOTTEN), *kept]
    assert mine.engine.judged_at(miner.session, 1, 1) is None
    assert _verdict(mine, miner, job=1) is JOB_UNKNOWN, "nor at the work's own difficulty: it had another"


def test_another_channels_difficulties_are_forgotten_with_the_channel() -> None:
    mine, miner = _mine()
    mine.engine.subscribe(miner.session, 1, b"\xe1" * 4, 4)
    assert mine.engine.pins(miner.session) == [(0, EASIEST_LOG2)]
    mine.engine.add_channel(2)
    mine.engine.subscribe(miner.session, 2, b"\xe1" * 4, 4)
    assert mine.engine.pins(miner.session) == []


def test_a_share_is_judged_by_the_facts_of_the_moment_it_came() -> None:
    mine, miner = _mine()
    mine.engine.set_version_mask(miner.session, 0x2000)
    miner.submit(rolled=0x2000)
    mine.engine.set_version_mask(miner.session, 0)
    mine.engine.pin_difficulty(miner.session, UNREACHABLE_LOG2, from_seq=1)
    mine.engine.subscribe(miner.session, 1, b"\xee" * 4, 4)
    mine.engine.authorise(miner.session, b"acme.c01.r01", 6)
    assert mine.judge() == [ACCEPTED]
    assert mine.tallies() == [Tally(5, 7, EASIEST_LOG2, ACCEPTED, 1)]


# The same share again


def test_the_same_share_of_the_same_session_counts_once() -> None:
    mine, miner = _mine()
    assert [_verdict(mine, miner), _verdict(mine, miner)] == [ACCEPTED, DUPLICATE]
    assert mine.engine.duplicates(1) == 1


def test_the_same_share_counts_once_through_another_session_and_after_a_reconnect() -> None:
    mine, miner = _mine()
    other = mine.join(worker=9)
    miner.submit()
    other.submit()
    assert mine.judge() == [ACCEPTED, DUPLICATE]
    miner.close()
    other.close()
    assert _verdict(mine, mine.join()) is DUPLICATE


def test_the_same_share_counts_once_under_an_alias_and_under_a_job_of_the_same_work() -> None:
    mine, miner = _mine()
    alias, again = mine.alias(1), mine.publish(work())
    for seq in (alias, 1, again):
        miner.submit(job=seq)
    assert mine.judge() == [ACCEPTED, DUPLICATE, DUPLICATE]


def test_of_equal_shares_in_one_batch_the_first_to_come_counts() -> None:
    """Whatever the order in which their jobs are hashed."""
    mine, miner = _mine()
    for _ in range(20):
        mine.publish(work(), rate=8)
    for nonce in range(20):
        for seq in (20 - nonce, 1, 20):
            miner.submit(job=seq, nonce=nonce)
    assert mine.judge() == [ACCEPTED, DUPLICATE, DUPLICATE] * 20


def test_the_same_share_counts_once_in_all_channels_together() -> None:
    mine, miner = _mine()
    mine.engine.add_channel(2)
    seq = mine.publish(work(), channel=2)
    other = mine.join(channel=2)
    assert _verdict(mine, miner) is ACCEPTED
    assert _verdict(mine, other, job=seq) is DUPLICATE
    mine.engine.remove_channel(2)
    mine.engine.remove_channel(1)
    mine.engine.add_channel(1)
    seq = mine.publish(work())
    assert _verdict(mine, miner, job=seq) is DUPLICATE


def test_other_work_makes_another_share_of_the_same_numbers() -> None:
    mine, miner = _mine()
    assert _verdict(mine, miner) is ACCEPTED
    mine.publish(work(branch=()))
    assert _verdict(mine, miner, job=2) is ACCEPTED
    assert _verdict(mine, mine.join(extranonce1=b"\xee" * 4), job=2) is ACCEPTED
    assert mine.engine.duplicates(1) == 3


def test_a_rejected_share_is_no_duplicate_of_a_good_one() -> None:
    mine, miner = _mine()
    hard = mine.join(difficulty_log2=UNREACHABLE_LOG2)
    assert _verdict(mine, hard) is LOW
    assert _verdict(mine, miner) is ACCEPTED


# Tallies and counters


def test_tallies_are_exact_and_given_once() -> None:
    mine, miner = _mine()
    mine.publish(work(branch=()), rate=8)
    other = mine.join(extranonce1=b"\xee" * 4, names=("a", "b"), worker=20)
    for nonce in range(300):
        miner.submit(job=1 + nonce % 2, nonce=nonce)
        other.submit(worker="ab"[nonce % 2], nonce=nonce)
    miner.submit()
    mine.judge()
    assert mine.tallies() == [
        Tally(5, 7, EASIEST_LOG2, ACCEPTED, 150),
        Tally(5, 7, EASIEST_LOG2, DUPLICATE, 1),
        Tally(5, 8, EASIEST_LOG2, ACCEPTED, 150),
        Tally(20, 7, EASIEST_LOG2, ACCEPTED, 150),
        Tally(21, 7, EASIEST_LOG2, ACCEPTED, 150),
    ]
    assert mine.tallies() == []


def test_tallies_of_many_workers_are_all_there() -> None:
    mine = Mine()
    mine.publish(work())
    for worker in range(1, 6001):
        mine.join(extranonce1=worker.to_bytes(4, "big"), worker=worker).submit()
    verdicts = mine.judge()
    expected = [Tally(n, 7, EASIEST_LOG2, verdict, 1) for n, verdict in enumerate(verdicts, start=1)]
    assert mine.tallies() == expected
    assert verdicts.count(ACCEPTED) > 5990


def test_a_malformed_share_is_tallied_for_its_worker_and_a_strangers_for_nobody() -> None:
    mine, miner = _mine()
    miner.submit()
    miner.submit(nonce="nonsense")
    miner.submit(nonce="nonsense", worker="mallory")
    miner.submit(worker="mallory")
    miner.submit(job=99)
    mine.judge()
    assert mine.tallies() == [
        Tally(5, 0, 0, Verdict.MALFORMED, 1),
        Tally(5, 0, 0, JOB_UNKNOWN, 1),
        Tally(5, 7, EASIEST_LOG2, ACCEPTED, 1),
    ]
    assert mine.engine.counters(miner.session) == (1, 4, 1)


@pytest.mark.parametrize("bad", [{"job": 99}, {"nonce": "?"}, {"ntime": "00000000"}, {"rolled": 1}])
def test_who_has_no_share_puts_nothing_into_the_statement_of_the_machine_that_he_names(
    bad: dict[str, object],
) -> None:
    mine, victim = _mine()
    thief = mine.join(extranonce1=b"\xee" * 4)  # the same name, another session
    victim.submit()
    for _ in range(40_000):
        thief.submit(**bad)
    assert mine.judge().count(ACCEPTED) == 1
    assert mine.tallies() == [Tally(5, 7, EASIEST_LOG2, ACCEPTED, 1)]
    assert mine.engine.unearned(victim.session) == 0
    assert mine.engine.unearned(thief.session) == mine.engine.counters(thief.session)[1] == 40_000


def test_each_accepted_share_earns_so_many_rejects_for_its_own_worker() -> None:
    mine = Mine()
    mine.publish(work())
    thief = mine.join(names=("acme.c01.r01", "acme.c01.r02"))
    for nonce in range(3):
        thief.submit(nonce=nonce)
    for _ in range(1_000):
        thief.submit(job=99)
        thief.submit(job=99, worker="acme.c01.r02")
    mine.judge()
    unknown = 3 * REJECTS_PER_ACCEPTED
    assert mine.tallies() == [Tally(5, 0, 0, JOB_UNKNOWN, unknown), Tally(5, 7, EASIEST_LOG2, ACCEPTED, 3)]
    assert mine.engine.unearned(thief.session) == 2_000 - unknown
    mine.engine.authorise(thief.session, b"acme.c01.r01", 6)  # what one worker earned is no other's
    thief.submit(nonce=3)
    mine.engine.authorise(thief.session, b"acme.c01.r01", 7)
    thief.submit(job=99)
    mine.judge()
    assert mine.tallies() == [Tally(6, 7, EASIEST_LOG2, ACCEPTED, 1)]


def test_a_machine_that_loses_most_of_its_shares_is_shown_as_it_is() -> None:
    mine, miner = _mine()
    for nonce in range(0, 100, 5):
        miner.submit(nonce=nonce)
        for _ in range(4):
            miner.submit(nonce=nonce)
        mine.judge()
    accepted = mine.engine.counters(miner.session)[0]
    assert mine.tallies() == [
        Tally(5, 7, EASIEST_LOG2, ACCEPTED, accepted),
        Tally(5, 7, EASIEST_LOG2, DUPLICATE, 4 * accepted),
    ]


def test_counters_are_of_the_session_and_of_its_last_difficulty() -> None:
    mine, miner = _mine()
    for nonce in (0, 1, 2, 2):
        miner.submit(nonce=nonce)
    mine.judge()
    assert mine.engine.counters(miner.session) == (3, 1, 3)
    other = mine.publish(work(coinbase1=b"other"))
    miner.submit(nonce=3)  # fed before the new difficulty, judged after it
    mine.engine.pin_difficulty(miner.session, EASIEST_LOG2 + 1, other)
    miner.submit(nonce=4)
    mine.judge()
    assert mine.engine.counters(miner.session) == (5, 1, 0)
    miner.submit(job=other, nonce=6)
    mine.judge()
    assert mine.engine.counters(miner.session) == (6, 1, 1)
    mine.engine.pin_difficulty(miner.session, EASIEST_LOG2 + 1, from_seq=other + 1)  # counted anew
    assert mine.engine.counters(miner.session) == (6, 1, 0)
    assert mine.engine.counters(mine.join().session) == (0, 0, 0)


def test_a_session_rests_until_its_time_is_over_or_a_share_is_rejected_or_it_has_another_difficulty() -> None:
    mine, miner = _mine()
    other = mine.join(extranonce1=b"\xee" * 4)
    awake, rest = mine.engine.awake, mine.engine.rest
    assert awake(0, 1, 1.0) == [miner, other]
    assert [*awake(0, 2, 1.0), *awake(1, 2, 1.0)] == [miner, other]
    rest(miner.session, 30.0)
    miner.submit(nonce=1)
    mine.judge()
    assert awake(0, 1, 29.0) == [other]
    assert mine.engine.heard_at(miner.session, 29.5) == 29.0
    assert mine.engine.heard_at(other.session, 29.5) == 0.0
    assert awake(0, 1, 30.0) == [miner, other]
    rest(miner.session, 60.0)
    assert awake(0, 1, 31.0) == [other]
    miner.submit(nonce=1)  # a duplicate
    mine.judge()
    assert awake(0, 1, 31.0) == [miner, other]
    rest(miner.session, 60.0)
    assert awake(0, 1, 31.0) == [other]
    mine.engine.pin_difficulty(miner.session, EASIEST_LOG2, from_seq=1)
    assert awake(0, 1, 31.0) == [miner, other]
    with pytest.raises(ValueError, match="divided by 0"):
        awake(0, 0, 31.0)


def test_a_session_is_due_for_a_retarget_once_until_it_is_told_to_count_on() -> None:
    mine, miner = _mine()
    other = mine.join(extranonce1=b"\xee" * 4)
    mine.engine.set_retarget_after(miner.session, 3)
    due = []
    for nonce in range(7):
        miner.submit(nonce=nonce)
        miner.submit(nonce=nonce)  # duplicates do not count
        other.submit(nonce=nonce)  # nobody wants to know
        mine.judge()
        due.append(mine.due)
        if nonce == 4:
            mine.engine.set_retarget_after(miner.session, 7)
    assert due == [[], [], [miner], [], [], [], [miner]]
    mine.engine.pin_difficulty(miner.session, EASIEST_LOG2, from_seq=1)
    for nonce in range(7, 14):
        miner.submit(nonce=nonce)
    mine.judge()
    assert mine.due == [miner]


@pytest.mark.parametrize("network_log2", [-32, -28, -20])
def test_a_share_is_credited_at_most_the_difficulty_of_the_network(network_log2: int) -> None:
    """Where every share that meets the network's target is one (regtest), it was no more work than that."""
    mine = Mine()
    mine.publish(work(network_target=target_from_difficulty_log2(network_log2)))
    miner = mine.join(difficulty_log2=UNREACHABLE_LOG2)
    hashes = 1 << min(14, 36 + network_log2)
    for nonce in range(hashes):
        miner.submit(nonce=nonce)
    mine.judge()
    good = [tally for tally in mine.tallies() if tally.verdict is ACCEPTED]
    assert {tally.difficulty_log2 for tally in good} <= {network_log2}
    credited = sum(tally.count << 32 + tally.difficulty_log2 for tally in good)
    assert credited <= hashes + 4 * math.sqrt(hashes << 32 + network_log2)


def test_an_upstreams_idea_of_the_network_changes_no_credit() -> None:
    """Its shares are none for being its blocks: each has met the difficulty that it is credited at."""
    mine = Mine()
    mine.publish(work(network_target=(1 << 256) - 1), forward_target=0)
    miner = mine.join(difficulty_log2=EASIEST_LOG2 + 4)
    for nonce in range(200):
        miner.submit(nonce=nonce)
    mine.judge()
    assert {found.difficulty_log2 for found in mine.found if not found.tallied} == {EASIEST_LOG2 + 4}


# A session that leaves


def test_shares_in_the_queue_of_a_session_that_left_are_counted_and_answered_to_nobody() -> None:
    mine, miner = _mine()
    mine.engine.set_retarget_after(miner.session, 1)
    left = miner.session
    miner.submit()
    miner.close()
    newcomer = mine.join(worker=9)
    assert newcomer.session != left  # the number is free when nothing in the queue is under it
    newcomer.submit(nonce=1)
    assert mine.judge() == [ACCEPTED]
    assert (miner.answers, mine.due) == ([], [])
    assert [(tally.worker, tally.count) for tally in mine.tallies()] == [(5, 1), (9, 1)]
    assert mine.engine.totals()[ACCEPTED] == 2
    assert mine.join().session == left


def test_a_new_session_knows_nothing_of_the_one_that_had_its_number() -> None:
    mine, miner = _mine()
    miner.say(b'{"id":1,"method":"min')
    miner.close()
    with pytest.raises(IndexError):
        miner.say(b"x")
    newcomer = Miner(mine)
    assert newcomer.session == miner.session
    newcomer.submit()
    assert mine.judge() == [Verdict.NOT_SUBSCRIBED]
    assert mine.engine.pins(newcomer.session) == []
    assert mine.tallies() == []


def test_replies_come_to_their_owners_in_the_order_of_the_shares() -> None:
    mine, miner = _mine()
    other = mine.join(extranonce1=b"\xee" * 4)
    for nonce, speaker in enumerate([miner, miner, other, miner]):
        speaker.submit(id=nonce, nonce=nonce)
    replies, _, _ = mine.engine.validate()
    answer = b'{"id":%d,"result":true,"error":null}\n'
    assert replies == [(miner, answer % 0 + answer % 1), (other, answer % 2), (miner, answer % 3)]
    assert mine.engine.validate() == ([], [], [])
