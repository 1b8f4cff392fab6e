"""What is missing is made good beyond the tolerance, where it is the seller's fault; who gains what."""

import random

import pytest

from payouts.receipts.making_good import (
    Carried,
    Given,
    Settled,
    Tolerance,
    check_tolerances,
    settled,
)

HOUR = 10_000_000  # of work, that is sold
FLAT = (Tolerance(200, 24),)
STEPS = (Tolerance(500, 1), Tolerance(100, 24), Tolerance(30, 168))


def extend(
    tolerances: tuple[Tolerance, ...], hours: list[Given], later: list[Given]
) -> tuple[list[Settled], int, int]:
    """Hour by hour, and then hours after its end; with what its buyer pays for, and what is owed as work."""
    found, billed, granted = run(tolerances, hours)
    owed, carried = granted, found[-1].carried
    for of in later:
        it = settled(tolerances, carried, of, 0, over=True, owed=owed, after=True)
        assert it.carried == carried == tuple(Carried() for _ in tolerances)
        assert (it.billed, it.short, it.granted) == (0, 0, 0)
        owed -= it.extended + it.forgone
        found.append(it)
    return found, billed - granted + sum(it.extended for it in found), owed


def run(
    tolerances: tuple[Tolerance, ...], hours: list[Given], *, over: bool = True
) -> tuple[list[Settled], int, int]:
    """Hour by hour, the last one the order's; with the work that is billed, and of it made good."""
    carried = tuple(Carried() for _ in tolerances)
    found = []
    for number, of in enumerate(hours, 1):
        found.append(settled(tolerances, carried, of, number, over=over and number == len(hours)))
        carried = found[-1].carried
    return found, sum(it.billed for it in found), sum(it.granted for it in found)


def given(delivered: int, *, expected: int = HOUR, refused: int = 0) -> Given:
    return Given(expected=expected, delivered=delivered, refused=refused)


def test_what_is_short_beyond_the_tolerance_is_made_good_when_its_hours_are_over() -> None:
    found, billed, granted = run(FLAT, [given(HOUR)] * 23 + [given(0)] + [given(HOUR)] * 24)
    assert billed == 48 * HOUR
    assert [number for number, it in enumerate(found, 1) if it.granted] == [24]
    assert granted == HOUR - 24 * HOUR * 2 // 100
    assert run(FLAT, [given(HOUR - HOUR * 2 // 100)] * 48)[2] == 0, "inside of it"


def test_the_tolerance_falls_with_time() -> None:
    """4 % short in each hour: nothing by the hour, 3 % by the day, and by the week what is left but 0.3 %."""
    short = HOUR * 4 // 100
    found, _, granted = run(STEPS, [given(HOUR - short)] * 168)
    by_day = 24 * (short - HOUR // 100)
    assert [it.granted for it in found[:24]] == [0] * 23 + [by_day]
    assert granted == 168 * short - 168 * HOUR * 30 // 10_000
    assert found[-1].granted == granted - 6 * by_day
    alone, _, by_hour = run(STEPS, [given(0)] + [given(HOUR)] * 23)
    assert alone[0].granted == HOUR - HOUR * 5 // 100
    assert by_hour == alone[0].granted, "5 % of an hour are inside 1 % of a day"


def test_an_order_that_is_over_has_no_hours_left_to_make_up_in() -> None:
    assert run(STEPS, [given(HOUR), given(HOUR * 97 // 100)], over=False)[2] == 0
    _, billed, granted = run(STEPS, [given(HOUR), given(HOUR * 97 // 100)])
    assert (billed, granted) == (2 * HOUR, HOUR * 3 // 100 - 2 * HOUR * 30 // 10_000)


def test_what_comes_later_than_its_hour_makes_up_for_what_was_short() -> None:
    before = (Carried(billed=HOUR, short=HOUR),)
    late = settled(FLAT, before, given(HOUR // 2, expected=0), 0, over=False)
    assert (late.billed, late.surplus, late.granted) == (0, HOUR // 2, 0)
    assert late.carried == (Carried(billed=HOUR, short=HOUR // 2),)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((), "1 to 4 steps"),
        (((0, 1),), "0.01 to 100 percent"),
        (((10_001, 1),), "0.01 to 100 percent"),
        (((5, 0),), "1 to 720 hours"),
        (((5, 721),), "1 to 720 hours"),
        (((5, 2), (4, 3)), "several times the hours"),
        (((5, 2), (4, 2)), "several times the hours"),
        (((5, 2), (5, 4)), "and smaller"),
        (tuple((9 - it, 2**it) for it in range(5)), "1 to 4 steps"),
    ],
)
def test_a_tolerance_that_is_none_is_refused_in_words(steps: tuple[tuple[int, int], ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_tolerances([Tolerance(*it) for it in steps])


def test_no_more_is_made_good_than_was_billed_and_short() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(300):
        hours = [
            Given(
                expected=chance.choice((0, 1, HOUR, chance.randrange(HOUR))),
                delivered=chance.choice((0, HOUR, chance.randrange(2 * HOUR))),
                refused=chance.choice((0, 0, chance.randrange(HOUR))),
            )
            for _ in range(chance.randrange(1, 200))
        ]
        found, billed, granted = run(chance.choice((FLAT, STEPS)), hours)
        assert 0 <= granted <= sum(it.short for it in found) <= billed
        so_far = 0
        for it in found:
            so_far += it.billed - it.granted
            assert so_far >= 0, "what the buyer owes is never below zero"


# Who gains what


def test_a_seller_who_gives_too_much_while_it_is_cheap_has_nothing_of_it_later() -> None:
    """Twice as much for half a week, and then nothing: what is missing is made good as if he had not."""
    _, billed, granted = run(STEPS, [given(2 * HOUR)] * 84 + [given(0)] * 84)
    assert billed == 168 * HOUR
    assert granted == run(STEPS, [given(HOUR)] * 84 + [given(0)] * 84)[2]
    assert granted >= 84 * HOUR - 168 * HOUR * 30 // 10_000


def test_a_seller_who_always_stays_within_the_tolerance_gains_that_of_the_longest_time() -> None:
    """The best that he can choose, hour for hour, of a month: 0.3 % of it; and 2 % with a flat one."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    month = 720
    for tolerances, most in ((FLAT, 200), (STEPS, 30)):
        best = 0
        for strategy in range(40):
            short = [
                chance.choice((0, 30, 100, 200, 500, 10_000)) if strategy else most for _ in range(month)
            ]
            hours = [given(HOUR - HOUR * it // 10_000) for it in short]
            _, billed, granted = run(tolerances, hours)
            # Paid, and neither delivered nor made good.
            best = max(best, billed - granted - sum(it.delivered for it in hours))
        assert best == month * HOUR * most // 10_000


def test_a_seller_may_shift_work_within_the_hours_of_his_smallest_step_alone() -> None:
    """Nothing for half a day and twice as much for the other: free with 2 % over a day, and nearly all of it
    made good with 5 % over an hour."""
    hours = [given(0)] * 12 + [given(2 * HOUR)] * 12
    assert run(FLAT, hours)[2] == 0
    assert run(STEPS, hours)[2] == 12 * HOUR * 95 // 100


def test_a_buyer_who_refuses_everything_is_neither_billed_nor_made_good() -> None:
    """He gains 0: what he did not refuse is billed in full."""
    assert run(STEPS, [given(0, refused=HOUR)] * 48)[1:] == (0, 0)
    _, billed, granted = run(STEPS, [given(HOUR // 4, refused=HOUR * 3 // 4)] * 48)
    assert (billed, granted) == (48 * (HOUR // 4), 0)
    # More than is missing excuses no more than that.
    assert run(STEPS, [given(HOUR * 9 // 10, refused=HOUR)] * 48)[1:] == (48 * (HOUR * 9 // 10), 0)


def test_a_buyer_who_is_away_is_neither_billed_nor_made_good() -> None:
    away = given(HOUR // 3, expected=HOUR // 3)
    assert run(STEPS, [away] * 48)[1:] == (48 * (HOUR // 3), 0)


# By an extension


def after(delivered: int, *, refused: int = 0, missed: int = 0) -> Given:
    return Given(expected=0, delivered=delivered, refused=refused, missed=missed)


HALF_GONE = [given(HOUR)] * 12 + [given(0)] * 12  # 11.52 hours are owed beyond 2 % of a day
OWED = 12 * HOUR - 24 * HOUR * 2 // 100


def test_what_is_owed_as_work_is_billed_when_it_is_delivered_once_and_no_more_than_was_sold() -> None:
    found, paid, owed = extend(FLAT, HALF_GONE, [after(HOUR)] * 14)
    assert (paid, owed) == (24 * HOUR, 0)
    assert [it.extended for it in found[24:]] == [HOUR] * 11 + [OWED - 11 * HOUR, 0, 0]
    _, paid, owed = extend(FLAT, HALF_GONE, [after(HOUR)] * 5)
    assert (paid, owed) == (24 * HOUR - OWED + 5 * HOUR, OWED - 5 * HOUR)


def test_what_comes_after_its_end_in_its_last_hour_makes_up_for_that_hour_first() -> None:
    """What is short in it is billed already; only what is more than that is of what was made good before."""
    before = (Carried(billed=HOUR, short=HOUR // 2, granted=HOUR // 4),)
    last = settled(FLAT, before, given(HOUR), 24, over=True, owed=HOUR // 4)
    assert last.extended == 0
    more = settled(FLAT, before, given(HOUR * 3 // 2, expected=HOUR), 24, over=True, owed=HOUR // 2)
    assert (more.surplus, more.extended, more.granted) == (HOUR // 2, HOUR // 4, 0)
    assert settled(FLAT, before, given(2 * HOUR), 24, over=True).extended == 0, "by credit nothing is owed"


def test_of_an_extension_no_more_is_billed_than_by_what_was_sold_whatever_comes() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)

    def some() -> int:
        return chance.choice((0, HOUR, chance.randrange(2 * HOUR)))

    for _ in range(300):
        hours = [given(some(), refused=chance.choice((0, some()))) for _ in range(chance.randrange(1, 60))]
        later = [after(some(), refused=chance.choice((0, some())), missed=some()) for _ in range(20)]
        steps = chance.choice((FLAT, STEPS))
        _, paid, owed = extend(steps, hours, later)
        _, billed, granted = run(steps, hours)
        assert 0 <= owed <= granted
        assert billed - granted <= paid <= billed
        delivered = sum(it.delivered for it in hours) + sum(it.delivered for it in later)
        # Paid, and neither delivered nor within a tolerance, is nothing.
        assert paid <= delivered + sum(it.short for it in run(steps, hours)[0]) - granted


def test_a_buyer_who_refuses_or_is_away_gets_no_work_later_for_it() -> None:
    """Half of a day refused, or away, while hashes are cheap; at twice the price he has nothing of it (0)."""
    for day in ([given(0, refused=HOUR)] * 12, [given(0, expected=0)] * 12):
        _, paid, owed = extend(FLAT, [*day, *[given(HOUR)] * 12], [after(HOUR)] * 12)
        assert (paid, owed) == (12 * HOUR, 0)


def test_a_buyer_who_leaves_his_extension_pays_as_by_credit_and_does_not_have_it_later() -> None:
    """Refused, or away, for eleven hours of it, until hashes are dear: half an hour is left to have then."""
    _, billed, granted = run(FLAT, HALF_GONE)
    for hour in (
        after(0, refused=HOUR),
        after(0, missed=HOUR),
        after(0, refused=HOUR // 2, missed=HOUR // 2),
    ):
        _, paid, owed = extend(FLAT, HALF_GONE, [hour] * 11)
        assert (paid, owed) == (billed - granted, OWED - 11 * HOUR)
        _, paid, owed = extend(FLAT, HALF_GONE, [*[hour] * 11, *[after(HOUR)] * 5])
        assert (paid, owed) == (billed - granted + OWED - 11 * HOUR, 0)


def test_a_seller_gains_by_an_extension_only_what_his_buyer_agrees_to() -> None:
    """He sells half a day elsewhere at twice the order's price, and makes good when hashes are at half of it.
    By credit he has 11.52 hours' price of it. By an extension half of that more, from a buyer who takes what
    he could have elsewhere at half; from one who leaves it nothing more."""
    dear, cheap = 2, (1, 2)
    by_credit = OWED * (dear - 1)

    def gain(later: list[Given]) -> int:
        found, paid, _ = extend(FLAT, HALF_GONE, later)
        worked_off = sum(it.extended for it in found)
        spent = worked_off * cheap[0] // cheap[1]
        return OWED * dear + paid - 24 * HOUR - spent

    assert gain([]) == gain([after(0, missed=HOUR)] * 12) == by_credit
    assert gain([after(HOUR)] * 12) == by_credit + OWED // 2
