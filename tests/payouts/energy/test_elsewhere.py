"""A machine that is off under one name and mines under another is not paid twice."""

import random

import pytest

from payouts.energy.events import EventPart
from payouts.tallies import roll_up_minutes
from pool.books.store import Store
from tests.payouts.energy.test_events import ACME, DAY_S, END_S, PRICE, SHARE, START_S, Grid, machine

pytestmark = [pytest.mark.sqlite_suffices]


def mined(grid: Grid, rate: int, worker: int, from_s: int, shares: list[int]) -> None:
    """Minute by minute."""
    for at, count in enumerate(shares):
        if count:
            grid.mine(rate, worker, from_s + 60 * at, count)


def off(worker: int) -> object:
    return machine(worker, off_until_s=END_S, before_until_s=START_S)


def of_acme(grid: Grid, *workers: int) -> EventPart:
    (part,) = grid.books(*(off(it) for it in workers)).parts  # type: ignore[arg-type]
    return part


@pytest.mark.parametrize("old", [False, True])
def test_work_under_a_name_that_nobody_asked_is_not_forgone_under_the_one_that_is_off(
    store: Store, old: bool
) -> None:
    """The best there is: the machine that is said to be off mines all the time under a name that is new. It
    forwent nothing, and of what it is said to have, 480 shares, chance hides 66."""
    grid = Grid(store)
    rate = grid.rate(ACME, PRICE)
    mined(grid, rate, 101, START_S, [4] * 120)
    if old:
        with store.write() as connection:
            while roll_up_minutes(connection, END_S + DAY_S):
                pass
    part = of_acme(grid, 100)
    assert 0 < part.forgone_sat <= int(SHARE * 66)
    assert part.difficulty <= 66 << 18
    assert part.joules_shed < 3_400 * 7_200 * 66 // 480 + 3_400


def test_shares_that_are_so_hard_that_all_of_them_could_be_chance_hide_a_quarter_of_themselves(
    store: Store,
) -> None:
    """A thief chooses how hard they are: eight in two hours under the new name, 64 times as hard. By three
    deviations of eight shares all of what he mined was hidden."""
    grid = Grid(store)
    rate = grid.rate(ACME, PRICE)
    for hour in (START_S, START_S + 3_600):
        grid.mine(rate, 101, hour + 1_800, 4, difficulty_log2=24)
    assert of_acme(grid, 100).forgone_sat == int(SHARE * (480 - 8 * 64 * 3 // 4))


def test_what_others_of_the_tenant_do_as_before_takes_nothing_from_who_is_off(store: Store) -> None:
    """By chance they do a little more, or less: what chance does takes nothing."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    dice = random.Random(seed)

    def minutes(count: int) -> list[int]:
        return [sum(dice.random() < 0.05 for _ in range(80)) for _ in range(count)]

    grid = Grid(store)
    rate = grid.rate(ACME, PRICE)
    mined(grid, rate, 101, START_S - 3_600, minutes(60))
    mined(grid, rate, 101, START_S, minutes(120))
    part = of_acme(grid, 100)
    # Three deviations: one event in 700, and of that one a few shares.
    assert part.forgone_sat >= int(SHARE * (480 - 25))


def test_a_machine_that_has_another_name_for_one_that_is_gone_takes_nothing(store: Store) -> None:
    """Renamed before anybody was off: together they do what the other one did before."""
    grid = Grid(store)
    rate = grid.rate(ACME, PRICE)
    mined(grid, rate, 101, START_S - 3_600, [4] * 60)
    mined(grid, rate, 102, START_S, [4] * 120)
    assert of_acme(grid, 100).forgone_sat == int(SHARE * 480)
