"""The engine's verdicts: the oracle's on random jobs in every code path, in the fixed order of checks."""

import itertools
import json
from collections import Counter
from hashlib import sha256
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratum._engine import backend, backends, sha256d
from stratum.job import Work
from stratum.verdict import Verdict
from tests.mine import EASIEST_LOG2, EVERY_HASH, NTIME, UNREACHABLE_LOG2, VERSION_MASK, Mine, Miner, work
from tests.oracle import ANSWERS, Oracle, OracleSession, Share

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


# Random jobs against the oracle


class RandomScenario:
    """A few channels, miners and rounds of shares, all from one seed: the same for every code path."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.duplicates_max = self.random.choice([8, 1 << 26])
        self.tips = [self.random.randbytes(32) for _ in range(2)]
        self.sizes = {channel: self.random.randint(2, 16) for channel in (1, 2)}
        self.seqs: dict[int, list[int]] = {1: [], 2: []}

    def work(self) -> Work:
        random = self.random
        ntime = random.randint(1000, 2**32 - 1000)
        return work(
            prevhash_internal=random.choice(self.tips),
            coinbase1=random.randbytes(random.randint(0, 200)),
            coinbase2=random.randbytes(random.randint(0, 200)),
            branch=tuple(random.randbytes(32) for _ in range(random.randint(0, 14))),
            version=random.getrandbits(32),
            nbits=random.getrandbits(32),
            ntime=ntime,
            ntime_min=ntime - random.randint(0, 3),
            ntime_max=ntime + random.randint(0, 3),
            network_target=(1 << 256 - random.choice([1, 4, 9, 40])) - 1,
        )

    def session(self, channel: int, number: int) -> OracleSession:
        random = self.random
        size1 = random.randint(max(1, self.sizes[channel] - 8), min(8, self.sizes[channel] - 1))
        seqs = self.seqs[channel]
        pins = {random.choice([0, *seqs]): random.randint(-32, random.choice([-30, -22, 20])) for _ in "123"}
        return OracleSession(
            channel=channel,
            extranonce1=None if random.random() < 0.05 else random.randbytes(size1),
            extranonce2_size=self.sizes[channel] - size1,
            workers={name: 10 * number + at for at, name in enumerate(["anna", "berta"], start=1)},
            version_mask=random.choice([0, VERSION_MASK, 0x00C00000, 0xFFFFFFFF]),
            pins=sorted(pins.items()),
        )

    def share(self, session: OracleSession, jobs: dict[tuple[int, int], tuple[Work, int]]) -> Share:
        random = self.random
        seq = random.choice(self.seqs[session.channel])
        job = jobs[session.channel, seq][0]
        size2 = session.extranonce2_size
        rolled = random.choice([0, session.version_mask, 0x00002000, 0xC0000000])
        return Share(
            worker=random.choice(["anna"] * 8 + ["berta"] * 8 + ["nobody"]),
            seq=seq if random.random() < 0.97 else seq + 1000,
            extranonce2=random.choice([bytes(size2), random.randbytes(size2), bytes(size2 - 1)][: size2 + 1]),
            ntime=random.randint(job.ntime_min - 1, job.ntime_max + 1),
            nonce=random.choice([0, 1, random.getrandbits(32), random.getrandbits(32), None]),
            rolled=random.choice([None, rolled]),
        )


def _run(seed: int, name: str) -> Counter[Verdict]:
    """Both sides through one scenario; every output is compared. The verdicts, counted."""
    scenario = RandomScenario(seed)
    random = scenario.random
    mine = Mine(backend=name, duplicates_max=scenario.duplicates_max)
    mine.engine.add_channel(2)
    oracle = Oracle(duplicates_max=scenario.duplicates_max)
    for _ in range(random.randint(2, 5)):
        _publish(mine, oracle, scenario, random.randint(1, 2))
    sessions: list[tuple[Miner, OracleSession]] = []
    for number in range(random.randint(1, 6)):
        told = scenario.session(random.choice([at for at in (1, 2) if scenario.seqs[at]]), number)
        sessions.append((_join(mine, told), told))
    verdicts: Counter[Verdict] = Counter()
    counters = {miner.session: [0, 0] for miner, _ in sessions}
    for _ in range(random.randint(1, 3)):
        expected = []
        for number in range(random.randint(1, 200)):
            miner, told = random.choice(sessions)
            share = scenario.share(told, oracle.jobs)
            message = {"id": number, "method": "mining.submit", "params": share.params()}
            assert miner.say(json.dumps(message).encode() + b"\n") == []
            verdict = oracle.judge(told, share)
            counters[miner.session][verdict is not Verdict.ACCEPTED] += 1
            expected.append(verdict)
        assert mine.judge() == expected
        verdicts.update(expected)
        _publish(mine, oracle, scenario, random.randint(1, 2))
    assert mine.found == oracle.found
    assert mine.tally_counts() == oracle.tallies
    assert {slot: list(mine.engine.counters(slot)[:2]) for slot in counters} == counters
    assert mine.engine.totals() == [verdicts[verdict] for verdict in Verdict]
    return verdicts


def _publish(mine: Mine, oracle: Oracle, scenario: RandomScenario, channel: int) -> None:
    job = scenario.work()
    rate = scenario.random.randint(1, 3)
    seq = mine.publish(job, rate=rate, channel=channel, size=scenario.sizes[channel])
    oracle.add_job(channel, seq, job, rate)
    scenario.seqs[channel].append(seq)


def _join(mine: Mine, told: OracleSession) -> Miner:
    miner, engine = Miner(mine), mine.engine
    if told.extranonce1 is not None:
        engine.subscribe(miner.session, told.channel, told.extranonce1, told.extranonce2_size)
    for worker, number in told.workers.items():
        engine.authorise(miner.session, worker.encode(), number)
    engine.set_version_mask(miner.session, told.version_mask)
    for from_seq, difficulty_log2 in told.pins:
        engine.pin_difficulty(miner.session, difficulty_log2, from_seq)
    return miner


@given(seed=SEEDS)
@settings(deadline=None, max_examples=40)
def test_every_code_path_judges_random_shares_like_the_oracle(seed: int) -> None:
    for name in backends:
        _run(seed, name)


def test_random_shares_meet_every_verdict() -> None:
    """Otherwise the test above would say less than it seems to."""
    verdicts: Counter[Verdict] = Counter()
    for seed in range(12):
        verdicts += _run(seed, backend)
    assert set(verdicts) == set(Verdict)


# The fixed order of checks

REJECTIONS = [verdict for verdict in Verdict if verdict is not Verdict.ACCEPTED]
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
    miner.submit(
        worker="mallory" if Verdict.UNAUTHORISED in faults else "acme.c01.r01",
        job=999 if Verdict.JOB_UNKNOWN in faults else seq,
        nonce="nonsense" if Verdict.MALFORMED in faults else 0,
        rolled=0x00002000,
    )
    return mine, miner, mine.judge()[0]


@pytest.mark.parametrize("verdict", list(Verdict), ids=lambda verdict: verdict.name)
def test_one_fault_has_its_verdict_and_its_answer(verdict: Verdict) -> None:
    _, miner, judged = _submit_with({verdict} - {Verdict.ACCEPTED})
    assert judged is verdict
    assert miner.answers == [b'{"id":4,' + ANSWERS[verdict]]


@pytest.mark.parametrize(
    ("first", "second"), list(itertools.combinations(REJECTIONS, 2)), ids=lambda verdict: verdict.name
)
def test_of_two_faults_the_first_in_the_order_is_named(first: Verdict, second: Verdict) -> None:
    assert _submit_with({first, second})[2] is first


def test_a_share_with_every_fault_is_malformed() -> None:
    assert _submit_with(set(REJECTIONS))[2] is Verdict.MALFORMED


# A block is a block


@pytest.mark.parametrize(
    "fault",
    [verdict for verdict in Verdict if verdict not in BEFORE_HASHING],
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
