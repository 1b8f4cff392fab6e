"""The hours of journals and those that are paid for: as many shares, and whoever changes one is named."""

from pathlib import Path

import pytest

from pool.books.audit.reconcile import State
from pool.books.journal import folding, taker
from pool.books.store import Store
from tests.stages.journal import NOW_S
from tests.stages.worked_edge import FIRST_HOUR, NORTH, WorkedEdge, forge, money, of_north, worked


@pytest.fixture
async def north(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkedEdge:
    monkeypatch.setattr(folding, "STEP_PAUSE_S", 0.0)
    return (await worked(store, tmp_path, NORTH))[0]


@pytest.mark.sqlite_suffices
async def test_while_records_are_taken_in_part_what_is_booked_of_them_is_no_difference(
    north: WorkedEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taker, "ROWS_MAX", 1)
    for unit in range(6):
        north.journal.share(f"acme.north.u{unit}")
    await north.send()
    (remote,) = north.hub.edges.open
    while (found := money(north.hub.store)).under_way == 0:
        assert remote.taker.step(north.journal.log.at.number) is not None
    assert (found.under_way > 0, found.difference, found.wrong) == (True, None, None)
    assert of_north(north.hub).state is State.WAITS


@pytest.mark.sqlite_suffices
async def test_what_comes_late_is_booked_in_a_later_hour_and_is_told(north: WorkedEdge) -> None:
    (remote,) = north.hub.edges.open
    remote.taker.note_moment(NOW_S + 5 * 3600)
    north.work(3)
    north.hub.clock.now_s = NOW_S + 5 * 3600.0
    await north.send()
    await north.hub.folding.fold()
    found = money(north.hub.store)
    assert (found.made, found.booked, found.late, found.difference) == (12, 12, 3, None)
    assert of_north(north.hub).state is State.EQUAL, "hours of journals are those that the records say"


MONEY: dict[str, tuple[tuple[str, ...], str]] = {
    "moved to an earlier hour": (
        (
            "UPDATE rate_hours SET shares = shares + 1 WHERE hour = :hour",
            "UPDATE rate_hours SET shares = shares - 1 WHERE hour = :hour + 1",
        ),
        "up to its end 7 accepted shares of difficulty 2^16 are booked, and 6 are in the journals",
    ),
    "at another difficulty": (
        ("UPDATE rate_hours SET difficulty_log2 = 20 WHERE hour = :hour",),
        "up to its end 3 accepted shares of difficulty 2^20 are booked, and 0 are in the journals",
    ),
    "more of them": (
        ("UPDATE rate_hours SET shares = shares + 9 WHERE hour = :hour",),
        "up to its end 15 accepted shares of difficulty 2^16 are booked, and 6 are in the journals",
    ),
}


@pytest.mark.parametrize("forged", MONEY)
async def test_shares_that_are_paid_for_and_were_not_made_are_named_with_their_hour(
    north: WorkedEdge, forged: str
) -> None:
    statements, words = MONEY[forged]
    forge(north.hub.store, *statements, hour=FIRST_HOUR + 1)
    difference = money(north.hub.store).difference
    assert difference is not None
    assert (difference.hour, difference.words) == (FIRST_HOUR + 1, words)


async def test_shares_that_were_made_and_are_not_paid_for_contradict_their_sums(north: WorkedEdge) -> None:
    forge(
        north.hub.store, "UPDATE rate_hours SET shares = shares - 1 WHERE hour = :hour", hour=FIRST_HOUR + 1
    )
    wrong = money(north.hub.store).wrong
    assert wrong is not None
    assert (wrong.table, "9 of journals are not the 8 of the hours" in wrong.reason) == (
        "journal_positions",
        True,
    )
