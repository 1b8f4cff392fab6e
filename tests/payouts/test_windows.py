"""Windows: exact, never more than the block, and worth the same to everybody however he comes and goes.

A pool in small: groups whose work of an hour is a few quanta, each of which is a block with the same chance.
What is expected is added up over every quantum that follows, so nothing is left to luck.
"""

import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import product

import pytest

from payouts.rates import DIVIDING, Price, Scheme
from payouts.schemas import money
from payouts.windows import HOURS_NOT_PAID, LAG, HourWork, Window, Worth, divided, measured, window

LOYAL, HOPPER = 1, 2
INCOME_SAT = 312_500_000
NBITS, HARDER = 0x17034219, 0x1701A10C  # twice as hard, nearly
Shape = Sequence[tuple[int, int]]  # quanta of the loyal miner and of the hopper, hour by hour


def work(tenant: int, blocks: Fraction, fee_bps: int = 0, rate: int | None = None) -> HourWork:
    return HourWork(
        rate_id=tenant if rate is None else rate, tenant_id=tenant, fee_bps=fee_bps, blocks=blocks
    )


def price(nbits: int) -> Price:
    return Price(nbits=nbits, subsidy_sat=INCOME_SAT, block_fees_sat=0, fee_bps=0, scheme=Scheme.PPLNS2)


class Line:
    """The work of a group, each quantum a `1 / a_block` of an expected block."""

    def __init__(self, shape: Shape, a_block: int, fees_bps: tuple[int, int] = (0, 0)) -> None:
        self.shape, self.quantum, self._fees_bps = shape, Fraction(1, a_block), fees_bps

    def pays(self, hour: int, done: int, size: Fraction, lag_is_kept: bool = True) -> Window:
        """Of a block that is found when so many quanta of its hour are done."""
        behind = sum(self.shape[hour - 1]) if hour else 0
        ahead = self.quantum * (behind + done) if lag_is_kept else LAG
        return window(self._before(hour + 1 - HOURS_NOT_PAID), ahead, size)

    def _before(self, hour: int) -> list[tuple[int, list[HourWork]]]:
        return [
            (
                at,
                [
                    work(tenant, quanta * self.quantum, fee_bps)
                    for tenant, quanta, fee_bps in zip(
                        (LOYAL, HOPPER), self.shape[at], self._fees_bps, strict=True
                    )
                    if quanta
                ],
            )
            for at in reversed(range(max(hour, 0)))
        ]

    def expected_sat(self, size: int, lag_is_kept: bool = True) -> dict[int, Fraction]:
        """What each is paid on average, of all blocks of all hours."""
        paid = {LOYAL: Fraction(0), HOPPER: Fraction(0)}
        for hour, quanta in enumerate(self.shape):
            for done in range(sum(quanta)):
                found = self.pays(hour, done, Fraction(size), lag_is_kept)
                for tenant, worth in divided(INCOME_SAT, size, found.works).items():
                    paid[tenant] += worth.credit_sat * self.quantum
        return paid

    def worked(self, tenant: int) -> Fraction:
        return self.quantum * sum(quanta[tenant - LOYAL] for quanta in self.shape)


def and_then(shape: Shape, hours: int) -> Shape:
    """The loyal miner goes on until what the others did is paid."""
    return [*shape, *([(1, 0)] * hours)]


# What a block pays


def test_a_window_is_the_work_behind_the_lag_and_the_oldest_hour_counts_in_part() -> None:
    half = [work(LOYAL, Fraction(1, 4)), work(HOPPER, Fraction(1, 4))]
    hours = [(hour, half) for hour in (9, 8, 7, 6, 5)]
    exactly = window(hours, LAG, Fraction(2))
    assert (exactly.first_hour, exactly.last_hour, exactly.blocks) == (6, 9, Fraction(2))
    behind = window(hours, Fraction(0), Fraction(5, 4))
    assert (behind.first_hour, behind.last_hour) == (6, 8)
    assert [it.blocks for it in behind.works] == [Fraction(5, 8), Fraction(5, 8)]
    parts = window(hours, Fraction(1, 4), Fraction(1, 4))
    assert (parts.first_hour, parts.last_hour) == (9, 9), "of the hour, the lag has the newer half"


def test_two_tenants_with_different_fees_are_paid_by_their_work() -> None:
    works = (
        work(LOYAL, Fraction(3, 2), 200),
        work(HOPPER, Fraction(1, 3), 0),
        work(LOYAL, Fraction(1, 6), 100, rate=9),
    )
    assert divided(1_000_000, 2, works) == {
        LOYAL: Worth(
            750_000 * Fraction(98, 100) + Fraction(1_000_000, 12) * Fraction(99, 100),
            15_000 + Fraction(10_000, 12),
        ),
        HOPPER: Worth(Fraction(1_000_000, 6), Fraction(0)),
    }


def test_work_is_measured_by_the_chance_it_had_and_in_tides_by_that_which_it_would_have() -> None:
    easy, hard = (price(it).expected_blocks(Fraction(1 << 40), 7) for it in (NBITS, HARDER))
    for scheme in DIVIDING:
        found = [measured(scheme, HARDER, price(it), Fraction(1 << 40), 7) for it in (NBITS, HARDER)]
        assert found == ([hard, hard] if scheme is Scheme.TIDES else [easy, hard])
    harder_than_a_block = measured(Scheme.TIDES, NBITS, price(NBITS), Fraction(1 << 60), 3)
    assert harder_than_a_block == 3, "the difficulty that is credited is never above the network's"


def some_work(chance: random.Random) -> list[HourWork]:
    return [
        work(it, Fraction(chance.randrange(1, 99), chance.randrange(1, 99)), chance.randrange(10_001))
        for it in range(chance.randrange(4))
    ]


@pytest.mark.parametrize("seed", [14, 2011])
def test_the_parts_of_a_block_are_never_more_than_it(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(150):
        hours = [(-hour, some_work(chance)) for hour in range(chance.randrange(12))]
        size, ahead = chance.randrange(1, 9), Fraction(chance.randrange(9), 9)
        found = window(hours, ahead, Fraction(size))
        there = sum((it.blocks for _, works in hours for it in works), Fraction(0))
        there -= max(LAG - ahead, Fraction(0))
        assert found.blocks == max(min(Fraction(size), there), Fraction(0))
        paid = sum(it.credit_sat + it.fee_sat for it in divided(INCOME_SAT, size, found.works).values())
        assert paid == found.blocks * INCOME_SAT / size <= INCOME_SAT


def test_the_schemes_that_divide_are_those_of_the_schema() -> None:
    assert tuple(DIVIDING) == money.DIVIDING
    assert [it.window_blocks for it in DIVIDING] == [1, 2, 4, 8, 8]
    assert not any(it.accrues for it in DIVIDING)


# The hopper (Rosenfeld, Analysis of Bitcoin Pooled Mining Reward Systems, 2011, 3.2)


@pytest.mark.parametrize("size", [1, 2])
def test_whichever_hours_a_hopper_chooses_he_is_paid_what_his_work_is_worth(size: int) -> None:
    """What a block pays is settled before it is found, so all that a hopper can choose are hours: whatever he
    has seen of blocks, of a group that is young or long without luck, each choice is worth the same."""
    for hops in product((0, 1), repeat=5):
        shape: Shape = [(1, hop) for hop in hops]
        line = Line(and_then(shape, 8 * size + 9), a_block=8)
        assert line.expected_sat(size)[HOPPER] == line.worked(HOPPER) * INCOME_SAT, hops


def test_he_gains_nothing_by_a_group_that_grows_and_shrinks() -> None:
    """The day and night of others, and machines that are called off: as long as LAG is two hours of them."""
    for hops in product((0, 1), repeat=5):
        shape: Shape = [(loyal, hop) for loyal, hop in zip((1, 4, 4, 0, 3), hops, strict=True)]
        line = Line(and_then(shape, 34), a_block=20)
        assert line.expected_sat(1)[HOPPER] == line.worked(HOPPER) * INCOME_SAT, hops


def best(pay: Callable[[Sequence[int]], tuple[Fraction, Fraction]], hours: int) -> Fraction:
    """The most that is paid for a unit of work, in blocks, by any choice of hours."""
    choices = (hops for hops in product((0, 1), repeat=hours) if any(hops))
    return max(paid / worked / INCOME_SAT for paid, worked in map(pay, choices))


def test_without_the_lag_who_comes_before_the_others_do_would_gain_a_quarter() -> None:
    """What LAG is for: three more machines come beside one, and he mines while there is one."""

    def paid(hops: Sequence[int], lag_is_kept: bool) -> tuple[Fraction, Fraction]:
        shape: Shape = [(loyal, hop) for loyal, hop in zip((1, 1, 1, 4, 4), hops, strict=True)]
        line = Line([*shape, *([(4, 0)] * 12)], a_block=20)
        return line.expected_sat(1, lag_is_kept)[HOPPER], line.worked(HOPPER)

    assert best(lambda hops: paid(hops, lag_is_kept=True), 5) == 1
    assert best(lambda hops: paid(hops, lag_is_kept=False), 5) == Fraction(5, 4)


def test_of_a_group_whose_two_hours_are_more_than_the_lag_he_gains_less_than_it_grows() -> None:
    """Not stopped, as docs/threats.md says: over 4 % of Bitcoin the lag is two hours, whatever is worked in
    them. This group has 8 %, and doubles."""

    def paid(hops: Sequence[int]) -> tuple[Fraction, Fraction]:
        shape: Shape = [(loyal, hop) for loyal, hop in zip((4, 4, 4, 8, 8), hops, strict=True)]
        line = Line([*shape, *([(8, 0)] * 6)], a_block=8)
        return line.expected_sat(2)[HOPPER], line.worked(HOPPER)

    assert best(paid, 5) == Fraction(7, 5)


def test_who_has_seen_a_block_adds_nothing_to_what_it_pays() -> None:
    """Not in the hour of the block, nor to the one before it, which a site that lags brings late."""
    before: Shape = [(1, 1), (1, 0), (1, 1)]
    found = Line([*before, (1, 0), (1, 0)], a_block=8).pays(4, 1, Fraction(1), lag_is_kept=False)
    for late, more in product(range(9), range(9)):
        line = Line([*before, (1, late), (1, more)], a_block=8)
        assert line.pays(4, 1, Fraction(1), lag_is_kept=False) == found
    assert (found.first_hour, found.last_hour) == (0, 4 - HOURS_NOT_PAID)


def test_the_first_of_a_group_is_paid_no_more_than_who_comes_last() -> None:
    """One who divided a whole block over what there is would pay the first share a block."""
    first = Line([(0, 1), (0, 0), (0, 0)], a_block=100).pays(2, 0, Fraction(2), lag_is_kept=False)
    assert first.blocks == Fraction(1, 100)
    assert divided(INCOME_SAT, 2, first.works)[HOPPER].credit_sat == Fraction(INCOME_SAT, 200)


def test_by_proportion_he_would_gain_so_a_pool_in_small_can_tell() -> None:
    """What there was before PPLNS: a block pays the work since the one before it. He leaves when that is long
    ago."""
    chance = Fraction(1, 8)

    def paid_for_a_block(leaves_after: int) -> Fraction:
        paid = worked = Fraction(0)
        alive, his, all_of_it = Fraction(1), 0, 0
        for hour in range(100):
            for mines in (False, True) if hour < leaves_after else (False,):
                his, all_of_it = his + mines, all_of_it + 1
                worked += alive * mines
                paid += alive * chance * his / all_of_it
                alive *= 1 - chance
        return paid / (worked * chance)

    assert paid_for_a_block(2) > Fraction(5, 4) * paid_for_a_block(100)


def test_in_tides_who_mines_before_the_difficulty_falls_gains_what_it_falls_by() -> None:
    """Measured by the block, as TIDES is: work of before counts for more when blocks are easier. It is the
    other members' loss, and told in docs/threats.md; PPLNS has none of it."""
    quantum, his, fallen = Fraction(1, 76), Fraction(1, 4), Fraction(20, 19)  # by 5 %, before the others come
    for measures, gains in ((Fraction(1), Fraction(1)), (fallen, fallen)):  # as in PPLNS, and as in TIDES
        paid = Fraction(0)
        for hour in range(2, 150):
            behind = [(at, [work(LOYAL, quantum)]) for at in reversed(range(1, hour - 1))]
            ahead = quantum * min(hour - 1, 1)
            found = window([*behind, (0, [work(HOPPER, his * measures)])], ahead, Fraction(1))
            paid += quantum * divided(INCOME_SAT, 1, found.works).get(HOPPER, Worth()).credit_sat
        assert paid == his * gains * INCOME_SAT
