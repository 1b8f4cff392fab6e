"""Work on a block that was left is mined on only while its credited shares are known."""

import pytest

from pool.upstreams import past_tips as former_tips
from pool.upstreams.past_tips import PastTips

A, B, C = bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32


def test_a_new_block_is_always_taken() -> None:
    tips = PastTips(lambda tip: False)
    assert [tips.admit(tip) for tip in (A, B, C)] == [True, True, True]


def test_one_that_was_left_is_taken_as_long_as_its_shares_are_known() -> None:
    known = {A, B}
    tips = PastTips(known.__contains__)
    assert [tips.admit(tip) for tip in (A, B, C)] == [True, True, True]
    assert tips.admit(A)
    known.remove(A)
    assert not tips.admit(A), "all that was credited on it could be credited again"
    assert tips.admit(B)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(former_tips, "TIPS_MAX", 10)
    tips = PastTips(lambda tip: False)
    for number in range(30):
        assert tips.admit(number.to_bytes(32, "little"))
    assert len(tips) == 10
    assert not tips.admit((29).to_bytes(32, "little"))
