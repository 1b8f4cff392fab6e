"""When an edge was told of a change, by when it was heard of."""

from bisect import bisect_left
from typing import Any

import pytest

from pool.books.edges import told
from pool.books.edges.limits import CLOCK_AHEAD_S
from pool.books.edges.told import HEADER_S, JOB_S, NEVER, REMEMBERED_S, SILENT_S, Told

HOUR_S, DAY_S = 3_600, 86_400
NOW_S = 1_788_220_800


def heard(*times: tuple[int, int], before_s: int = NOW_S) -> Told:
    """Every minute of these, by a hub that began behind `before_s`, as it is known a month later."""
    made = Told(before_s, wall_clock=lambda: NOW_S + 30 * DAY_S)
    for from_s, until_s in times:
        for at_s in range(from_s, until_s + 1, 60):
            made.note(at_s)
    return made


ALONE = heard((NOW_S, NOW_S + DAY_S), (NOW_S + 4 * DAY_S, NOW_S + 5 * DAY_S))


@pytest.mark.parametrize(
    ("changed_s", "told_s"),
    [
        (-60, (-60, 0)),  # before this hub: by its last sign of life
        (HOUR_S, (HOUR_S, HOUR_S + SILENT_S)),
        (DAY_S + 60, (DAY_S + 60, 4 * DAY_S)),  # as its line broke
        (2 * DAY_S, (4 * DAY_S, 4 * DAY_S)),
        (4 * DAY_S + 1, (4 * DAY_S + 1, 4 * DAY_S + 1 + SILENT_S)),
        (5 * DAY_S + 60, (5 * DAY_S + 60, NEVER - NOW_S)),
        (6 * DAY_S, (NEVER - NOW_S, NEVER - NOW_S)),
    ],
)
def test_it_was_told_when_it_was_heard_of_first(changed_s: int, told_s: tuple[int, int]) -> None:
    assert ALONE.between(NOW_S + changed_s) == (NOW_S + told_s[0], NOW_S + told_s[1])


def test_who_is_heard_of_again_while_that_is_asked_was_not_told_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The books ask in a thread of theirs: an honest edge would be held for the terms of before."""
    made = heard((NOW_S, NOW_S + DAY_S))

    def meanwhile(*given: Any, **key: Any) -> int:
        at = bisect_left(*given, **key)
        made.note(NOW_S + 4 * DAY_S)
        return at

    monkeypatch.setattr(told, "bisect_left", meanwhile)
    assert made.between(NOW_S + 2 * DAY_S) == (NEVER, NEVER)
    monkeypatch.undo()
    assert made.between(NOW_S + 2 * DAY_S) == (NOW_S + 4 * DAY_S, NOW_S + 4 * DAY_S)


def test_by_which_terms_a_block_may_be_is_certain_but_for_hours() -> None:
    """Terms changed a day after it was cut off, and it was told three days later: with the time of a header,
    and a job that goes on, six hours are left of those in which it may choose."""
    changed_s, told_s = NOW_S + 2 * DAY_S, NOW_S + 4 * DAY_S
    hours = range(NOW_S, NOW_S + 6 * DAY_S, HOUR_S)
    before = [at_s for at_s in hours if ALONE.worked_by_it(at_s, None, changed_s)]
    after = [at_s for at_s in hours if ALONE.worked_by_it(at_s, changed_s, None)]
    assert (before[-1], after[0]) == (told_s + JOB_S + HEADER_S, told_s - HEADER_S)
    assert len(before) + len(after) - len(hours) == 6 + 1


def test_who_falls_silent_again_and_again_is_told_all_the_same_and_fills_no_memory() -> None:
    """He had been told by each sign of life; and no more is kept than nine days have such silences."""
    made = heard()
    for at_s in range(NOW_S, NOW_S + 12 * DAY_S, SILENT_S + 1):
        made.note(at_s)
    now_s = at_s
    assert len(made._alone) <= REMEMBERED_S // SILENT_S
    changed_s = now_s - 8 * DAY_S
    assert made.between(changed_s)[1] - changed_s <= SILENT_S + 1
    made.note(NOW_S)  # our clock stepped back
    assert made.between(changed_s)[1] - changed_s <= SILENT_S + 1


def test_what_is_dated_ahead_of_our_clock_was_told_to_who_is_heard_of() -> None:
    """The books' time never goes back: behind a hub whose clock was five minutes ahead, a change is dated so
    by one whose clock is right. Whoever is told of it at once works by it, and dates it so."""
    now_s = NOW_S
    made = Told(now_s - 10, wall_clock=lambda: now_s)
    changed_s = NOW_S + 300
    for now_s in range(NOW_S, NOW_S + 600, 10):
        made.note(now_s)
        assert made.between(changed_s)[0] == changed_s
        assert made.worked_by_it(max(now_s, changed_s) + 5, changed_s, None)
    assert made.between(changed_s) == (changed_s, changed_s + SILENT_S)


def test_no_share_is_of_so_much_later_than_the_last_sign_of_life_that_it_counts_as_silence() -> None:
    """The clock of an edge may be ahead of ours by this, and it is heard of as it sends what it dates so."""
    assert CLOCK_AHEAD_S < SILENT_S
