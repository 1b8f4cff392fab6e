"""Shares that the engine keeps as they were hashed: by their hash alone, whoever found them, for whomever."""

from typing import Any

import numpy as np
import pytest

from stratum.difficulty import target_from_difficulty_log2
from stratum.tallies import KEPT, Verdict
from tests.judges.oracle import header_hash, sha256d
from tests.stages.engine import EVERY_HASH, NTIME, UNREACHABLE_LOG2, VERSION_MASK, Mine, work

KEEP_LOG2 = -30  # every fourth hash
SHARES = 200
AT_ONCE, BYTES_MAX = 10_000, 1 << 27


def kept_of(mine: Mine) -> list[tuple[Any, ...]]:
    found: list[Any] = np.frombuffer(mine.engine.collect_kept(), dtype=KEPT).tolist()
    return found


@pytest.mark.parametrize("forward_target", [None, EVERY_HASH])
def test_good_shares_that_are_hard_are_kept_and_no_others(forward_target: int | None) -> None:
    """Also of those that are handed out to be forwarded; each with the header that it was."""
    mine = Mine(keep_log2=KEEP_LOG2)
    mine.publish(work(), rate=9, forward_target=forward_target)
    miner = mine.join(worker=5)
    expected = []
    for nonce in range(SHARES):
        rolled = (nonce << 13) & VERSION_MASK if nonce % 3 else None
        miner.submit(nonce=nonce, rolled=rolled)
        version = work().version if rolled is None else (work().version & ~VERSION_MASK) | rolled
        hash_ = header_hash(
            work(), extranonces=b"\xe1" * 4 + b"\xe2" * 4, ntime=NTIME, nonce=nonce, version=version
        )
        if int.from_bytes(hash_, "little") <= target_from_difficulty_log2(KEEP_LOG2):
            expected.append(hash_)
    verdicts = mine.judge()
    kept = kept_of(mine)
    assert verdicts.count(Verdict.ACCEPTED) == SHARES
    assert 0.1 * SHARES < len(kept) < 0.4 * SHARES
    assert {sha256d(header) for header, *_ in kept} == set(expected)
    assert {tuple(rest) for _, *rest in kept} == {(5, 9, -32, bytes(3))}
    assert kept_of(mine) == []


def test_what_is_not_good_is_not_kept_whatever_its_hash() -> None:
    mine = Mine(keep_log2=-32)
    mine.publish(work())
    miner = mine.join()
    hard = mine.join(extranonce1=b"\xe3" * 4, difficulty_log2=UNREACHABLE_LOG2)
    miner.submit(nonce=1)
    miner.submit(nonce=1)
    miner.submit(nonce=2, ntime=f"{NTIME + 999:08x}")
    miner.submit(nonce=3, worker="nobody")
    hard.submit(nonce=4)
    mine.judge()
    assert len(kept_of(mine)) == 1


def test_without_being_asked_to_it_keeps_none() -> None:
    mine = Mine()
    mine.publish(work())
    mine.join().submit()
    assert mine.judge() == [Verdict.ACCEPTED]
    assert kept_of(mine) == []


@pytest.mark.parametrize("log2", [-33, 64])
def test_a_difficulty_that_is_none_is_refused(log2: int) -> None:
    with pytest.raises(ValueError, match="difficulty out of range"):
        Mine(keep_log2=log2)


def test_shares_that_nobody_takes_are_bounded() -> None:
    """By 128 MiB: then none is taken any more, as when the queue is full."""
    mine = Mine(keep_log2=-32)
    mine.publish(work())
    miner = mine.join()
    taken = 0
    while (taken + AT_ONCE) * KEPT.itemsize < BYTES_MAX:
        assert miner.say(b"".join(_lines(range(taken, taken + AT_ONCE)))) == []
        mine.engine.validate()
        taken += AT_ONCE
    with pytest.raises(ValueError, match="collect_kept"):
        miner.say(b"".join(_lines(range(taken, taken + 2 * AT_ONCE))))
    mine.engine.validate()
    kept = len(mine.engine.collect_kept())
    assert BYTES_MAX - AT_ONCE * KEPT.itemsize < kept < BYTES_MAX + KEPT.itemsize
    miner.submit(nonce=1 << 30)
    assert mine.judge() == [Verdict.ACCEPTED]


def _lines(nonces: range) -> list[bytes]:
    head = b'{"id":4,"method":"mining.submit","params":["acme.c01.r01","1","e2e2e2e2","%08x","' % NTIME
    return [b'%s%08x"]}\n' % (head, nonce) for nonce in nonces]
