"""Version bits as firmware sends them: those that it chose (BIP 310), or the difference to the job's version.

The two are one header where the job's version has no bits inside the mask, as jobs of our own never have;
an upstream's job may have some, the day that its node signals.
"""

import itertools
from collections.abc import Callable

import msgspec
import pytest

from pool.chain.templates import parse_template, work_from_template
from stratum.difficulty import target_from_difficulty_log2
from stratum.job import Work
from stratum.tallies import Verdict
from stratum.upstream.shares import UpstreamJob, UpstreamShare
from stratum.upstream.submits import Submits
from tests.judges.oracle import Found, header_hash
from tests.stages.engine import NTIME, VERSION_MASK, Mine, Miner, work

SHARE_LOG2 = -24  # one hash in 256: neither reading is good by chance
SIGNALS = 0x20000000 | 0x00C06000  # what an upstream's version has inside the mask
Write = Callable[[int, int], int]  # from the job's version and the one that was hashed: what is submitted
WAYS: dict[str, Write] = {
    "bits": lambda version, hashed: hashed & VERSION_MASK,
    "difference": lambda version, hashed: hashed ^ version,
}
BITS = [0x00002000, 0x00C00000, 0x1FFFE000, 0x10002000, 0x00006000, 0]


def _mine(job: Work, *, forward_target: int | None = None) -> tuple[Mine, Miner]:
    mine = Mine()
    mine.publish(job, forward_target=forward_target)
    return mine, mine.join(difficulty_log2=SHARE_LOG2)


def _find(job: Work, version: int, *, target: int | None = None) -> int:
    """A nonce whose header with this version reaches the target."""
    target = target_from_difficulty_log2(SHARE_LOG2) if target is None else target
    for nonce in itertools.count(version):  # never the same header for two versions
        number = nonce & 0xFFFFFFFF
        if int.from_bytes(_hash(job, version, number), "little") <= target:
            return number
    raise AssertionError("never ends")


def _hash(job: Work, version: int, nonce: int) -> bytes:
    extranonces = b"\xe1" * 4 + b"\xe2" * 4
    return header_hash(job, extranonces=extranonces, ntime=NTIME, nonce=nonce, version=version)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("bits", BITS, ids=hex)
def test_on_an_upstreams_job_with_bits_inside_the_mask_both_kinds_of_firmware_have_their_shares(
    way: str, bits: int
) -> None:
    job = work(version=SIGNALS)
    mine, miner = _mine(job, forward_target=target_from_difficulty_log2(SHARE_LOG2))
    hashed = SIGNALS & ~VERSION_MASK | bits
    nonce = _find(job, hashed)
    miner.submit(nonce=nonce, rolled=WAYS[way](SIGNALS, hashed))
    assert mine.judge() == [Verdict.ACCEPTED]
    (found,) = mine.found
    assert (found.version, found.hash_internal) == (hashed, _hash(job, hashed, nonce))
    assert _said_upstream(job, found) == hashed, "what is submitted upstream is what the miner hashed"


def _said_upstream(job: Work, found: Found) -> int:
    """The version that an upstream (BIP 310) makes of our submit."""
    origin = UpstreamJob(
        upstream="u", connection=1, job_id="j", version=job.version, filler=b"", target=1 << 255
    )
    share = UpstreamShare(
        key=b"k",
        job=origin,
        extranonce2=found.extranonce1 + found.extranonce2,
        ntime=found.ntime,
        nonce=found.nonce,
        version=found.version,
    )
    line = Submits(cleaned=str, first_id=7).send(share, 0.0, user="u", mask=VERSION_MASK, again=False)
    bits: str = msgspec.json.decode(line)["params"][5]
    return job.version & ~VERSION_MASK | int(bits, 16)


@pytest.mark.parametrize(("first", "second"), [("bits", "difference"), ("difference", "bits")])
def test_a_share_counts_once_however_its_version_is_written(first: str, second: str) -> None:
    job = work(version=SIGNALS)
    mine, miner = _mine(job)
    hashed = SIGNALS ^ 0x00002000
    nonce = _find(job, hashed)
    for way in (first, second, first):
        miner.submit(nonce=nonce, rolled=WAYS[way](SIGNALS, hashed))
    assert mine.judge() == [Verdict.ACCEPTED, Verdict.DUPLICATE, Verdict.DUPLICATE]
    assert [it.count for it in mine.tallies() if it.verdict is Verdict.ACCEPTED] == [1]


def test_two_readings_of_one_submit_are_two_headers_and_each_is_paid_once() -> None:
    """Nobody gains by a submit that is good in both: each header is work, and it is known by its hash."""
    job = work(version=SIGNALS)
    bits = 0x00002000
    versions = (SIGNALS & ~VERSION_MASK | bits, SIGNALS ^ bits)
    target = target_from_difficulty_log2(SHARE_LOG2 - 4)
    both = next(
        nonce
        for nonce in itertools.count()
        if all(int.from_bytes(_hash(job, version, nonce), "little") <= target for version in versions)
    )
    mine, miner = _mine(job)
    mine.engine.pin_difficulty(miner.session, SHARE_LOG2 - 4, from_seq=1)
    for _ in range(3):
        miner.submit(nonce=both, rolled=bits)
    for version in versions:
        miner.submit(nonce=both, rolled=version & VERSION_MASK)
    assert mine.judge().count(Verdict.ACCEPTED) == 2


@pytest.mark.parametrize("way", WAYS)
def test_a_block_is_found_in_either_reading_even_where_the_other_is_a_share(way: str) -> None:
    network_target = 1 << 245
    job = work(version=SIGNALS, network_target=network_target)
    mine, miner = _mine(job)
    hashed = SIGNALS ^ 0x00406000
    miner.submit(nonce=_find(job, hashed, target=network_target), rolled=WAYS[way](SIGNALS, hashed))
    assert mine.judge() == [Verdict.ACCEPTED]
    assert [found.version for found in mine.found] == [hashed]


def test_bits_outside_the_mask_are_refused_in_every_reading() -> None:
    job = work(version=SIGNALS)
    mine, miner = _mine(job)
    for rolled in (0x20000000, 0x40002000, 0x00000001):
        miner.submit(nonce=_find(job, SIGNALS ^ rolled), rolled=rolled)
    assert mine.judge() == [Verdict.VERSION_OUTSIDE_MASK] * 3


def test_without_a_sixth_parameter_there_is_one_reading() -> None:
    job = work(version=SIGNALS)
    mine, miner = _mine(job)
    miner.submit(nonce=_find(job, SIGNALS))
    miner.submit(nonce=_find(job, SIGNALS & ~VERSION_MASK))
    assert mine.judge() == [Verdict.ACCEPTED, Verdict.LOW_DIFFICULTY]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("signals", [0, 0x00002000, 0x10000000, VERSION_MASK], ids=hex)
def test_a_job_of_our_own_has_no_bits_inside_the_mask_whatever_the_node_signals(
    way: str, signals: int
) -> None:
    template = parse_template(
        {
            "version": 0x20000001 | signals,
            "previousblockhash": "00" * 31 + "01",
            "transactions": [],
            "coinbasevalue": 5_000_000_000,
            "target": "7fffff" + "00" * 29,
            "mintime": NTIME - 100,
            "curtime": NTIME,
            "bits": "207fffff",
            "height": 101,
        }
    )
    payouts = [(b"\x51", template.coinbase_value_sat)]
    job = work_from_template(
        template, payouts=payouts, tag="/t/", salts=lambda: bytes(8), extranonce_size=8, branch=()
    )
    assert job.version == 0x20000001
    mine, miner = _mine(msgspec.structs.replace(job, network_target=0))
    hashed = job.version ^ 0x00006000
    miner.submit(nonce=_find(job, hashed), rolled=WAYS[way](job.version, hashed))
    assert mine.judge() == [Verdict.ACCEPTED]
