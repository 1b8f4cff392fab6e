"""Extranonce1: never two live sessions on one prefix, never one that a live job of somebody else carries."""

import tracemalloc
from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stratum._engine import FORGOTTEN, NOT_HELD, PINS_MAX
from stratum.miners.extranonce import ExtranonceExhausted, ExtranonceSpace

JOBS_KEPT = 3


class Jobs:
    """A channel, as far as its prefixes are concerned."""

    def __init__(self, oldest_live_seq: int) -> None:
        self.oldest_live_seq = oldest_live_seq


def allocate(space: ExtranonceSpace, oldest_live_seq: int) -> bytes:
    space.sharers[:] = [Jobs(oldest_live_seq)]
    return space.allocate()


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_a_prefix_has_its_size(size: int) -> None:
    space = ExtranonceSpace(size)
    assert [allocate(space, 0) for _ in range(3)] == [number.to_bytes(size, "big") for number in range(3)]
    assert len(space) == 3


@pytest.mark.parametrize("size", [0, 5, -1])
def test_1_to_4_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="1 to 4 bytes"):
        ExtranonceSpace(size)


def test_exhausted_when_every_prefix_is_in_use_and_not_a_moment_longer() -> None:
    space = ExtranonceSpace(1)
    prefixes = [allocate(space, 1) for _ in range(256)]
    assert len(set(prefixes)) == 256
    with pytest.raises(ExtranonceExhausted, match="256"):
        allocate(space, 1)
    space.release(prefixes[7], 5, [])
    for oldest_live_seq in (1, 5):
        with pytest.raises(ExtranonceExhausted):
            allocate(space, oldest_live_seq)
    assert allocate(space, 6) == prefixes[7], "job 5 was the last that it could have mined"


def test_the_one_that_rested_longest_is_next() -> None:
    space = ExtranonceSpace(1)
    prefixes = [allocate(space, 1) for _ in range(256)]
    for seq, at in enumerate((9, 3, 200), start=1):
        space.release(prefixes[at], seq, [])
    assert [allocate(space, 10) for _ in range(3)] == [prefixes[9], prefixes[3], prefixes[200]]


def test_a_prefix_rests_until_no_channel_that_shares_it_has_such_a_job() -> None:
    space = ExtranonceSpace(1)
    quick, slow = Jobs(1), Jobs(1)
    space.sharers += [quick, slow]
    prefixes = [space.allocate() for _ in range(256)]
    space.release(prefixes[0], 5, [])
    quick.oldest_live_seq = 6
    with pytest.raises(ExtranonceExhausted):
        space.allocate()
    slow.oldest_live_seq = 6
    assert space.allocate() == prefixes[0]


def test_only_a_resting_prefix_can_be_resumed() -> None:
    space = ExtranonceSpace(2)
    prefix = allocate(space, 1)
    assert space.resume(prefix) is None, "in use"
    assert space.resume(b"\xff\xff") is None, "never handed out"
    assert space.resume(b"\x00") is None, "another size"
    space.release(prefix, 1, [(1, -20)])
    assert space.resume(prefix) == [(1, -20)]
    assert space.resume(prefix) is None
    assert len(space) == 1


class Pool(RuleBasedStateMachine):
    """Sessions come and go while jobs are published and dropped; one byte of prefixes, so that it is tight.

    The model knows nothing of resting: it notes for each live job who could have mined it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.space = ExtranonceSpace(1)
        self.seq = 0
        self.jobs: deque[tuple[int, set[bytes]]] = deque()  # live: (seq, prefixes that mined it)
        self.sessions: list[bytes] = []
        self.left: list[bytes] = []

    @property
    def oldest_live_seq(self) -> int:
        return self.jobs[0][0] if self.jobs else self.seq + 1

    def mined(self) -> set[bytes]:
        """Prefixes of which a live job may still bring a share."""
        return set().union(*(prefixes for _, prefixes in self.jobs))

    def live(self, prefix: bytes) -> None:
        self.sessions.append(prefix)
        for _, prefixes in self.jobs:
            prefixes.add(prefix)

    @rule()
    def publish(self) -> None:
        self.seq += 1
        self.jobs.append((self.seq, set(self.sessions)))
        if len(self.jobs) > JOBS_KEPT:
            self.jobs.popleft()

    @rule(count=st.sampled_from([1, 10, 100]))
    def connect(self, count: int) -> None:
        for _ in range(count):
            carried = self.mined()
            try:
                prefix = allocate(self.space, self.oldest_live_seq)
            except ExtranonceExhausted:
                assert len(carried | set(self.sessions)) == 256, "refused although there is a free one"
                return
            assert prefix not in self.sessions
            assert prefix not in carried
            self.live(prefix)

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), count=st.sampled_from([1, 10, 100]))
    def leave(self, data: st.DataObject, count: int) -> None:
        for _ in range(min(count, len(self.sessions))):
            at = data.draw(st.integers(0, len(self.sessions) - 1))
            prefix = self.sessions.pop(at)
            self.space.release(prefix, self.seq, [])
            self.left.append(prefix)

    @precondition(lambda self: self.left)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        prefix = data.draw(st.sampled_from(self.left))
        if self.space.resume(prefix) is not None:
            assert prefix not in self.sessions
            self.live(prefix)
        else:
            assert prefix in self.sessions or prefix not in self.mined()

    @invariant()
    def nobody_shares_a_prefix(self) -> None:
        assert len(set(self.sessions)) == len(self.sessions) == len(self.space)

    @invariant()
    def what_is_remembered_is_bounded(self) -> None:
        assert len(self.space.resting) + len(self.sessions) <= 256


TestPool = Pool.TestCase
TestPool.settings = settings(deadline=None, derandomize=True, max_examples=30, stateful_step_count=40)


@pytest.mark.parametrize("size", [1, 4])
def test_what_rests_does_not_pile_up(size: int) -> None:
    space = ExtranonceSpace(size)
    prefix = allocate(space, 1)
    for seq in range(1, 2_000):
        space.release(prefix, seq, [])
        if seq % 2:
            assert space.resume(prefix) == []
        else:
            prefix = allocate(space, seq - JOBS_KEPT)
    assert len(space.resting) <= 2 * JOBS_KEPT


@pytest.mark.parametrize("size", [1, 4])
def test_who_comes_and_goes_without_work_costs_no_prefix_and_no_memory(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stratum.miners.extranonce.PARKED_MAX", 100)
    space = ExtranonceSpace(size)
    miner = allocate(space, 1)
    for _ in range(5_000):
        stranger = allocate(space, 1)  # no job has gone meanwhile
        assert stranger != miner
        space.release(stranger, 1, [(1, 0)], worked=False)
    assert not space.full(0.0)
    assert len(space.resting) == 0
    assert len(space.unworked) <= 100
    assert len(space.parked) <= 100


@pytest.mark.parametrize("pins", [1, PINS_MAX + 1])
def test_what_a_crowd_leaves_behind_is_half_a_kilobyte_each_at_most(pins: int) -> None:
    """As many as are kept: 30 MB, whatever they did to their difficulty. It was 100."""
    space, count = ExtranonceSpace(4), 4_096
    prefixes = [allocate(space, 1) for _ in range(count)]
    tracemalloc.start()
    try:
        for at, prefix in enumerate(prefixes):
            left = [((1 << 50) + 16 * at + seq, -20) for seq in range(pins)]
            space.release(prefix, 1, left, worked=False, party=1)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(space.parked) == count
    assert held < 512 * count


def test_what_was_left_behind_is_what_comes_back() -> None:
    space = ExtranonceSpace(4)
    one, same, other = (allocate(space, 1) for _ in range(3))
    space.release(one, 1, [(0, FORGOTTEN), ((1 << 64) - 1, 127)])
    space.release(same, 1, [(0, FORGOTTEN), ((1 << 64) - 1, 127)])
    space.release(other, 1, [(7, NOT_HELD)], worked=False)
    assert space.resume(same) == space.inherited(one) == [(0, FORGOTTEN), ((1 << 64) - 1, 127)]
    assert space.resume(other) == [(7, NOT_HELD)]
    assert space.inherited(other) == ()


def test_who_left_before_its_first_share_may_come_back_for_a_while() -> None:
    space = ExtranonceSpace(4)
    prefix = allocate(space, 1)
    space.release(prefix, 1, [(1, 16)], worked=False)
    others = [allocate(space, 1) for _ in range(1_000)]
    assert prefix not in others
    assert space.resume(prefix) is not None
    assert space.resume(prefix) is None


def test_a_prefix_with_work_of_an_earlier_session_rests_whatever_the_last_one_did() -> None:
    space = ExtranonceSpace(1)
    prefix = allocate(space, 1)
    space.release(prefix, 1, [])
    assert space.resume(prefix) is not None
    space.release(prefix, 1, [], worked=False)
    others = [allocate(space, 1) for _ in range(255)]
    assert prefix not in others
    with pytest.raises(ExtranonceExhausted):
        allocate(space, 1)
