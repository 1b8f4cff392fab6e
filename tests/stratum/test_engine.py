"""The engine's hashes, in every code path, and its verdicts, in the fixed order of checks."""

import itertools
from hashlib import sha256
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratum._engine import backend, backends, sha256d
from stratum.tallies import Verdict
from tests.judges.oracle import ANSWERS
from tests.stages.engine import (
    CHANNEL,
    EASIEST_LOG2,
    ENGINE_VERDICTS,
    EVERY_HASH,
    NTIME,
    UNREACHABLE_LOG2,
    VERSION_MASK,
    Mine,
    Miner,
    work,
)

SEEDS = st.integers(0, 2**64 - 1)


# Hashing


def test_the_portable_code_runs_everywhere_and_the_one_in_use_is_available() -> None:
    assert backends[0] == "portable"
    assert backend in backends
    assert len(set(backends)) == len(backends)


@pytest.mark.parametrize("name", backends)
@given(seed=SEEDS, size=st.sampled_from([64, 80]) | st.integers(1, 300), count=st.integers(1, 40))
@settings(deadline=None)
def test_every_code_path_hashes_like_hashlib(name: str, seed: int, size: int, count: int) -> None:
    messages = Random(seed).randbytes(size * count)
    expected = b"".join(
        sha256(sha256(messages[at : at + size]).digest()).digest() for at in range(0, len(messages), size)
    )
    assert sha256d(name, messages, size) == expected


@pytest.mark.parametrize("name", backends)
@pytest.mark.parametrize("size", [64, 80])
def test_every_count_of_messages_is_hashed_alike(name: str, size: int) -> None:
    """Lanes are filled in every way there is."""
    messages = Random(size).randbytes(size * 40)
    digests = sha256d("portable", messages, size)
    for count in range(1, 41):
        assert sha256d(name, messages[: size * count], size) == digests[: 32 * count]


def test_hashing_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="backend"):
        sha256d("abacus", b"", 64)
    with pytest.raises(ValueError, match="whole number"):
        sha256d("portable", bytes(65), 64)
    with pytest.raises(ValueError, match="whole number"):
        sha256d("portable", b"", 0)
    with pytest.raises(ValueError, match="backend"):
        Mine(backend="abacus")


# The fixed order of checks

FAULTS = [verdict for verdict in ENGINE_VERDICTS if verdict is not Verdict.ACCEPTED]
BEFORE_HASHING = {Verdict.MALFORMED, Verdict.NOT_SUBSCRIBED, Verdict.UNAUTHORISED, Verdict.JOB_UNKNOWN}


def _submit_with(faults: set[Verdict], *, network_target: int = 0) -> tuple[Mine, Miner, Verdict]:
    """A share that has all these faults at once."""
    full = Verdict.FILTER_FULL in faults
    duplicate = Verdict.DUPLICATE in faults
    mine = Mine(duplicates_max=int(duplicate)) if full else Mine()
    job = work(network_target=network_target)
    seq = mine.publish(job)
    if duplicate:
        mine.join().submit(job=seq, rolled=0x00002000)
        assert mine.judge() == [Verdict.ACCEPTED]
    if Verdict.NTIME_OUT_OF_RANGE in faults:
        seq = mine.publish(msgspec.structs.replace(job, ntime_min=NTIME + 1))
    if Verdict.NOT_SUBSCRIBED in faults:
        miner = Miner(mine)
        mine.engine.authorise(miner.session, b"acme.c01.r01", 5)
    else:
        miner = mine.join(
            difficulty_log2=UNREACHABLE_LOG2 if Verdict.LOW_DIFFICULTY in faults else EASIEST_LOG2
        )
    mine.engine.set_version_mask(miner.session, 0 if Verdict.VERSION_OUTSIDE_MASK in faults else VERSION_MASK)
    if Verdict.STALE in faults:
        mine.publish(work(prevhash_internal=b"\x99" * 32))
    if Verdict.UNDELIVERED in faults:
        mine.engine.undelivered_before(CHANNEL, seq + 1)
    judged_before = mine.engine.totals()
    miner.submit(
        worker="mallory" if Verdict.UNAUTHORISED in faults else "acme.c01.r01",
        job=999 if Verdict.JOB_UNKNOWN in faults else seq,
        nonce="nonsense" if Verdict.MALFORMED in faults else 0,
        rolled=0x00002000,
    )
    mine.judge()
    counts = zip(ENGINE_VERDICTS, judged_before, mine.engine.totals(), strict=True)
    (verdict,) = (verdict for verdict, before, after in counts if after > before)
    return mine, miner, verdict


@pytest.mark.parametrize("verdict", ENGINE_VERDICTS, ids=lambda verdict: verdict.name)
def test_one_fault_has_its_verdict_and_its_answer(verdict: Verdict) -> None:
    _, miner, judged = _submit_with({verdict} - {Verdict.ACCEPTED})
    assert judged is verdict
    assert miner.answers == [b'{"id":4,' + ANSWERS[verdict]]


@pytest.mark.parametrize(
    ("first", "second"), list(itertools.combinations(FAULTS, 2)), ids=lambda verdict: verdict.name
)
def test_of_two_faults_the_first_in_the_order_is_named(first: Verdict, second: Verdict) -> None:
    assert _submit_with({first, second})[2] is first


def test_a_share_with_every_fault_is_malformed() -> None:
    assert _submit_with(set(FAULTS))[2] is Verdict.MALFORMED


# A block is a block


@pytest.mark.parametrize(
    "fault",
    [verdict for verdict in ENGINE_VERDICTS if verdict not in BEFORE_HASHING],
    ids=lambda verdict: verdict.name,
)
def test_a_solution_is_handed_out_exactly_once_whatever_is_wrong_with_the_share(fault: Verdict) -> None:
    mine, miner, judged = _submit_with({fault} - {Verdict.ACCEPTED}, network_target=EVERY_HASH)
    # A block at less than the share difficulty (regtest has such) is a share all the same.
    assert judged is (Verdict.ACCEPTED if fault is Verdict.LOW_DIFFICULTY else fault)
    miner.submit(job=mine.found[0].seq, rolled=0x00002000)
    mine.judge()
    (found,) = mine.found
    assert (found.ntime, found.nonce, found.version) == (NTIME, 0, 0x20002000)
    assert (found.extranonce1, found.extranonce2) == (b"\xe1" * 4, b"\xe2" * 4)
    assert found.worker == 5


@pytest.mark.parametrize("fault", sorted(BEFORE_HASHING), ids=lambda verdict: verdict.name)
def test_a_share_that_cannot_be_hashed_is_no_solution(fault: Verdict) -> None:
    mine, _, judged = _submit_with({fault}, network_target=EVERY_HASH)
    assert judged is fault
    assert mine.found == []


def test_a_solution_sent_twice_in_one_batch_is_handed_out_once() -> None:
    mine = Mine()
    mine.publish(work(network_target=EVERY_HASH))
    miner, other = mine.join(), mine.join(names=("borealis.c02.r01",), worker=9)
    miner.submit()
    miner.submit()
    other.submit(worker="borealis.c02.r01")
    assert mine.judge() == [Verdict.ACCEPTED, Verdict.DUPLICATE, Verdict.DUPLICATE]
    assert [found.worker for found in mine.found] == [5]
