"""What was decided about a machine, and why: kept of who has mined, and of nobody else."""

import pytest

from stratum.miners import decisions
from stratum.miners.decisions import KEPT_MAX, MORE, Decision, Decisions, What


def of(known: set[int]) -> Decisions:
    return Decisions(known.__contains__, wall_clock=lambda: 1_790_000_000.5)


def test_the_last_of_each_machine_are_kept_the_newest_first() -> None:
    kept = of({1, 2})
    for at in range(KEPT_MAX + 5):
        kept.note(1, What.DIFFICULTY, "it suggested that", at)
    kept.note(2, What.ENDED, "left", None)
    assert [it.difficulty_log2 for it in kept.of(1)] == list(range(KEPT_MAX + 4, 4, -1))
    assert kept.of(2) == [Decision(1_790_000_000, "ended", "left", None)]
    assert kept.of(3) == []


def test_names_that_strangers_say_have_no_place() -> None:
    kept = of({1})
    for number in range(2, 10_000):
        kept.note(number, What.CONNECTED, "x", None)
    assert not kept._places
    assert len(kept._rows) == 0


def test_machines_and_reasons_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "MACHINES_MAX", 2)
    monkeypatch.setattr(decisions, "REASONS_MAX", 3)
    kept = of({1, 2, 3})
    for number in (1, 2, 3):
        for reason in ("a", "b", "c", "a"):
            kept.note(number, What.MOVED, reason, None)
    assert [it.reason for it in kept.of(1)] == ["a", MORE, "b", "a"]
    assert kept.of(3) == []


def test_a_site_takes_as_much_memory_as_is_said() -> None:
    kept = of(set(range(22_400)))
    for number in range(22_400):
        kept.note(number, What.ENDED, "left", None)
    assert kept._rows.nbytes / (1 << 20) == pytest.approx(2, abs=0.2)
