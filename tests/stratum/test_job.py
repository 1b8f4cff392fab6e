"""Work, jobs and solutions: identities, byte orders, and what a miner hashed."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratum.job import Job, swap_words
from tests.stages.sessions import SessionStage, make_work


def test_a_job_id_is_the_sequence_number_in_hex() -> None:
    job = Job(seq=0x1F_FFFF_FFFF, channel=1, rate=1, clean=True, work=make_work())
    assert job.job_id == "1fffffffff"
    assert int(job.job_id, 16) == job.seq


def test_work_jobs_and_solutions_do_not_change() -> None:
    work = make_work()
    with pytest.raises(AttributeError):
        work.ntime = 0  # type: ignore[misc]
    assert msgspec.structs.replace(work, ntime=5).ntime == 5
    assert work.ntime != 5


def test_the_previous_hash_of_block_1_as_miners_see_it() -> None:
    genesis_internal = bytes.fromhex("6fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000")
    stratum = "0a8ce26f72b3f1b646a2a6c14ff763ae65831e939c085ae10019d66800000000"
    assert swap_words(genesis_internal).hex() == stratum


@given(st.binary(max_size=80).filter(lambda data: len(data) % 4 == 0))
def test_swapping_words_twice_changes_nothing(data: bytes) -> None:
    assert swap_words(swap_words(data)) == data
    assert sorted(swap_words(data)) == sorted(data)


@pytest.mark.parametrize("size", [1, 2, 3, 31, 33])
def test_only_whole_words_are_swapped(size: int) -> None:
    with pytest.raises(ValueError, match="whole number of 32-bit words"):
        swap_words(bytes(size))


def test_a_solution_has_the_coinbase_that_was_hashed() -> None:
    work = make_work(network_target=(1 << 256) - 1)
    stage = SessionStage(work)
    miner = stage.mining()
    share = miner.share(extranonce2=0x1122334455667788, ntime=work.ntime + 5)
    miner.ask("mining.submit", *share)
    _, (found,), _ = stage.engine.validate()
    stage.channel.hand_over(found)
    (solution,) = stage.source.solutions
    assert solution.coinbase == (
        work.coinbase1 + miner.extranonce1 + bytes.fromhex("1122334455667788") + work.coinbase2
    )
    assert (solution.ntime, solution.version) == (work.ntime + 5, work.version)
    assert solution.nonce == int(share[4], 16)
    assert solution.job.work is work
