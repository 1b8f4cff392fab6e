"""The allocator of orders: what it never does, what it prefers, and how it serves orders through failures."""

import random
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool.orders.allocation import (
    ACT,
    MOVES_MIN,
    MOVES_SHARE_MAX,
    NOISE_SIGMAS,
    SCRAMBLE,
    SPEED_NOISE,
    Demand,
    Machine,
    Plan,
    plan,
)
from tests.judges.fleet_simulation import CONTAINER_MACHINES, Hour, SimulatedFleet

pytestmark = pytest.mark.simulation

ALL = frozenset(range(1, 10))
ENDED = 9

Demands = list[Demand]
Machines = list[Machine]


def demand(
    order: int, ths: float, *, priority: int = 1, tolerance: float = 0.02, served: bool = True
) -> Demand:
    return Demand(order=order, hashrate_hps=ths * 1e12, tolerance=tolerance, priority=priority, served=served)


def machine(
    worker: int,
    order: int | None = None,
    *,
    ths: float = 100.0,
    movable: bool = True,
    supplies: frozenset[int] = ALL,
) -> Machine:
    return Machine(worker=worker, hashrate_hps=ths * 1e12, order=order, movable=movable, supplies=supplies)


def fleet(*groups: tuple[int, int | None]) -> list[Machine]:
    """(How many machines of 100 TH/s, at which order), numbered from 1."""
    orders = [order for count, order in groups for _ in range(count)]
    return [machine(worker, order) for worker, order in enumerate(orders, 1)]


def moved(made: Plan, machines: Sequence[Machine]) -> list[Machine]:
    """The machines as they are when every move was made."""
    to = {move.worker: move.order for move in made.moves}
    return [msgspec.structs.replace(it, order=to[it.worker]) if it.worker in to else it for it in machines]


def settled(demands: Sequence[Demand], machines: Sequence[Machine]) -> list[Machine]:
    """Plans until there is nothing to move."""
    for _ in range(12):
        made = plan(demands, machines)
        if not made.moves:
            return list(machines)
        machines = moved(made, machines)
    raise AssertionError("it never comes to rest")


def counts(machines: Sequence[Machine]) -> dict[int | None, int]:
    found: dict[int | None, int] = {}
    for it in machines:
        found[it.order] = found.get(it.order, 0) + 1
    return found


def routes(made: Plan) -> dict[int, int | None]:
    return {move.worker: move.order for move in made.moves}


# What it never does.


@st.composite
def sites(draw: st.DrawFn) -> tuple[list[Demand], list[Machine]]:
    demands = [
        demand(
            order,
            draw(st.floats(50, 2000)),
            priority=draw(st.integers(1, 3)),
            tolerance=draw(st.sampled_from((0.01, 0.02, 0.1, 0.3))),
            served=draw(st.integers(0, 7)) > 0,
        )
        for order in range(1, draw(st.integers(1, 4)) + 1)
    ]
    containers = draw(st.lists(st.frozensets(st.integers(1, 5)), min_size=1, max_size=4))
    speed = st.one_of(st.just(0.0), st.floats(90, 130), st.sampled_from((13.0, 13.5, 200.0)))
    orders = st.sampled_from((None, 1, 2, 3, 4, ENDED))
    machines = [
        machine(
            worker,
            draw(orders),
            ths=draw(speed),
            movable=draw(st.integers(0, 4)) > 0,
            supplies=draw(st.sampled_from(containers)),
        )
        for worker in range(1, draw(st.integers(0, 24)) + 1)
    ]
    return demands, machines


def supply(demands: Sequence[Demand], machines: Sequence[Machine]) -> dict[int, float]:
    return {
        order.order: sum(it.hashrate_hps for it in machines if order.served and it.order == order.order)
        for order in demands
    }


def lowest(order: Demand) -> float:
    return order.hashrate_hps * (1 - order.tolerance)


def moves_only_what_may_move_and_only_where_it_may(demands: Demands, machines: Machines, made: Plan) -> None:
    by_worker = {it.worker: it for it in machines}
    served = {it.order for it in demands if it.served}
    assert [it.worker for it in made.moves] == sorted({it.worker for it in made.moves})
    for move in made.moves:
        of = by_worker[move.worker]
        assert of.movable
        assert of.order != move.order
        assert move.order is None or move.order in served & of.supplies
        assert of.hashrate_hps or move.order is None, "a silent machine supplies nothing"


def its_figures_are_those_of_the_machines(demands: Demands, machines: Machines, made: Plan) -> None:
    after = supply(demands, moved(made, machines))
    assert made.measured_hps == pytest.approx(supply(demands, machines))
    assert made.supply_hps == pytest.approx(after)
    for order in demands:
        short = order.hashrate_hps - after[order.order]
        if after[order.order] < lowest(order) * (1 - 1e-9):
            assert made.shortages_hps[order.order] == pytest.approx(short)
        elif after[order.order] > lowest(order) * (1 + 1e-9):
            assert order.order not in made.shortages_hps


def carried_out_it_leaves_nothing_to_move(demands: Demands, machines: Machines, made: Plan) -> None:
    assert not plan(demands, moved(made, machines)).moves


def no_order_is_short_while_a_free_machine_may_supply_it(
    demands: Demands, machines: Machines, made: Plan
) -> None:
    after = moved(made, machines)
    mining = [it.hashrate_hps for it in machines if it.hashrate_hps]
    for order in demands:
        doubt = NOISE_SIGMAS * SPEED_NOISE * np.sqrt(order.hashrate_hps * np.mean(mining or [0.0]))
        slack = max(ACT * order.tolerance * order.hashrate_hps, doubt)
        if order.served and made.supply_hps[order.order] < order.hashrate_hps - slack * (1 + 1e-9):
            assert not [
                it
                for it in after
                if it.order is None and it.movable and it.hashrate_hps and order.order in it.supplies
            ]


def what_the_first_order_needs_is_never_taken_from_it(
    demands: Demands, machines: Machines, made: Plan
) -> None:
    first, *others = sorted(demands, key=lambda it: it.priority)
    demands = [first, *(msgspec.structs.replace(it, priority=it.priority + 1) for it in others)]
    stay = [it for it in machines if not it.movable or first.order in it.supplies]
    before = supply([first], stay)[first.order]
    after = plan(demands, machines).supply_hps[first.order]
    assert after >= min(before, lowest(first)) * (1 - 1e-9)


@settings(max_examples=150, deadline=None)
@given(sites(), st.randoms(use_true_random=False))
def test_these_hold_of_whatever_site(site: tuple[Demands, Machines], shuffler: random.Random) -> None:
    """All of one site: drawing it takes ten times as long as any of them."""
    demands, machines = site
    made = plan(demands, machines)
    moves_only_what_may_move_and_only_where_it_may(demands, machines, made)
    its_figures_are_those_of_the_machines(demands, machines, made)
    carried_out_it_leaves_nothing_to_move(demands, machines, made)
    no_order_is_short_while_a_free_machine_may_supply_it(demands, machines, made)
    what_the_first_order_needs_is_never_taken_from_it(demands, machines, made)
    shuffler.shuffle(demands)
    shuffler.shuffle(machines)
    assert plan(demands, machines) == made, "the order of what it is given matters"


# What it prefers. Machines of 100 TH/s, so that orders of 10,000 TH/s need 100 of them.


def test_an_order_that_is_nearly_on_target_is_left_alone() -> None:
    for supplied in (99, 100, 101):
        assert not plan([demand(1, 10_000)], fleet((supplied, 1), (50, None))).moves


def test_an_order_outside_is_brought_to_its_target_and_not_to_the_edge() -> None:
    short = plan([demand(1, 10_000)], fleet((97, 1), (50, None)))
    assert set(routes(short).values()) == {1}
    assert len(short.moves) == 3
    assert short.measured_hps[1] == pytest.approx(9_700e12)
    assert short.supply_hps[1] == pytest.approx(10_000e12)
    much = plan([demand(1, 10_000)], fleet((104, 1), (50, None)))
    assert set(routes(much).values()) == {None}
    assert len(much.moves) == 4


def test_small_ones_go_last_and_then_the_one_that_fits_the_rest() -> None:
    speeds = [20.0, 52.0, 100.0, 100.0, 100.0, 100.0, 100.0]
    machines = [machine(worker, ths=ths) for worker, ths in enumerate(speeds, 1)]
    made = plan([demand(1, 550)], machines)
    assert set(routes(made)) == {3, 4, 5, 6, 7, 2}


def test_nor_has_one_that_looks_for_numbers_which_are_chosen_first() -> None:
    """A number for each name with an accepted share, and 100,000 names: he mines by those 100 that come first
    of all. Where each plan begins elsewhere that is half of an order, over some plans; it was all of it."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    dice = random.Random(seed)
    early = sorted(range(1_001, 101_001), key=lambda worker: worker * SCRAMBLE % 2**32)[:100]
    machines = [machine(worker, ths=100.0) for worker in (*range(1, 101), *early)]
    plans = [plan([demand(1, 10_000)], machines, dice.getrandbits(32)) for _ in range(200)]
    his = sum(worker > 1_000 for made in plans for worker in routes(made))
    assert 0.3 < his / (200 * 100) < 0.7


@pytest.mark.parametrize("together", [1, 2, 4])
def test_a_seller_whose_machines_share_names_has_no_larger_part_of_an_order(together: int) -> None:
    """Two sellers of 100 machines each, and an order for half of all. Who had two of his say one name had all
    of it, and what it pays beyond the pool's rate; he has half, give or take the luck of his numbers."""
    honest = [machine(worker, ths=100.0) for worker in range(1, 101)]
    thiefs = [machine(worker, ths=100.0 * together) for worker in range(1_001, 1_001 + 100 // together)]
    made = plan([demand(1, 10_000)], [*honest, *thiefs])
    his_ths = sum(100 * together for worker in routes(made) if worker > 1_000)
    assert 4_000 <= his_ths <= 6_000


def test_machines_of_one_model_are_not_chosen_by_luck() -> None:
    rng = np.random.default_rng(4)
    machines = [machine(worker, ths=100 * rng.normal(1, 0.03)) for worker in range(1, 1001)]
    chosen = routes(plan([demand(1, 20_000)], machines))
    seen = np.mean([it.hashrate_hps for it in machines if it.worker in chosen])
    assert seen == pytest.approx(100e12, rel=0.01)  # by luck: 104


def test_a_free_machine_goes_before_what_another_order_has_above_its_target() -> None:
    demands = [demand(1, 10_000), demand(2, 10_000)]
    made = plan(demands, fleet((101, 1), (97, 2), (10, None)))
    assert set(routes(made)) <= set(range(199, 209))
    assert len(made.moves) == 3


def test_what_another_order_has_above_its_target_goes_over_directly() -> None:
    made = plan([demand(1, 10_000), demand(2, 10_000)], fleet((104, 1), (96, 2)))
    assert len(made.moves) == 4
    assert set(routes(made).values()) == {2}
    assert not made.shortages_hps


def test_an_order_hands_on_a_machine_and_is_given_another_for_it() -> None:
    only_first = frozenset({1})
    machines = [
        *(machine(worker, 1) for worker in range(1, 101)),
        *(machine(worker, 2) for worker in range(101, 196)),
        *(machine(worker, supplies=only_first) for worker in range(196, 206)),
    ]
    made = plan([demand(1, 10_000), demand(2, 10_000, priority=2)], machines)
    taken = [move for move in made.moves if move.order == 2]
    given_back = [move for move in made.moves if move.order == 1]
    assert len(taken) == len(given_back) == 5
    assert all(move.worker >= 196 for move in given_back)
    assert made.supply_hps == pytest.approx({1: 10_000e12, 2: 10_000e12})


def test_machines_that_may_supply_little_else_are_used_first() -> None:
    machines = [machine(worker, supplies=ALL if worker % 2 else frozenset({1})) for worker in range(1, 101)]
    made = plan([demand(1, 5_000), demand(2, 5_000, priority=2)], machines)
    assert routes(made) == {worker: 2 if worker % 2 else 1 for worker in range(1, 101)}


def test_all_are_brought_into_their_tolerance_before_any_is_on_its_target() -> None:
    made = plan([demand(1, 50_000), demand(2, 10_000, priority=2)], fleet((500, 1), (97, 2)))
    assert not made.shortages_hps
    assert made.supply_hps == pytest.approx({1: 49_700e12, 2: 10_000e12})
    full = plan([demand(1, 50_000), demand(2, 10_000, priority=2)], fleet((500, 1), (92, 2)))
    assert full.supply_hps == pytest.approx({1: 49_700e12, 2: 9_500e12}), "what the first needs is not taken"
    assert full.shortages_hps == pytest.approx({2: 500e12})


@pytest.mark.parametrize("at", [(50, 50), (0, 100), (100, 0)])
def test_under_shortage_the_higher_priority_is_served_first(at: tuple[int, int]) -> None:
    demands = [demand(1, 8_000), demand(2, 8_000, priority=2)]
    machines = settled(demands, fleet((at[0], 1), (at[1], 2)))
    assert plan(demands, machines).shortages_hps == pytest.approx({2: 5_900e12}, rel=0.03)


@pytest.mark.parametrize("at", [(0, 0, 0), (50, 50, 50), (100, 50, 0), (0, 0, 100)])
def test_orders_of_the_same_priority_are_short_in_the_same_proportion(at: tuple[int, int, int]) -> None:
    demands = [demand(1, 10_000), demand(2, 5_000), demand(3, 5_000)]
    machines = fleet((at[0], 1), (at[1], 2), (at[2], 3), (150 - sum(at), None))
    made = plan(demands, settled(demands, machines))
    filled = [made.supply_hps[it.order] / it.hashrate_hps for it in demands]
    assert filled == pytest.approx([0.75] * 3, abs=0.07)  # three sigmas of an order of 50 machines are 1.3 %
    assert set(made.shortages_hps) == {1, 2, 3}


def test_a_machine_too_coarse_for_an_order_is_kept_and_not_moved_to_and_fro() -> None:
    demands = [demand(1, 250)]
    made = plan(demands, fleet((5, None)))
    assert len(made.moves) == 3
    assert not made.shortages_hps


def test_small_orders_do_not_follow_the_noise_of_their_machines() -> None:
    rng = np.random.default_rng(11)
    demands = [demand(1, 1_000), demand(2, 3_000)]
    moves = 0
    for _ in range(200):
        machines = [
            msgspec.structs.replace(it, hashrate_hps=it.hashrate_hps * rng.normal(1, SPEED_NOISE))
            for it in fleet((10, 1), (30, 2), (20, None))
        ]
        moves += bool(plan(demands, machines).moves)
    assert moves <= 4  # 400 looks beyond three sigmas: 1


def test_silent_machines_are_no_supply_and_stay_where_they_are() -> None:
    machines = [machine(worker, 1, ths=0.0 if worker <= 5 else 100.0) for worker in range(1, 101)]
    spare = [machine(worker) for worker in range(101, 111)]
    made = plan([demand(1, 10_000)], [*machines, *spare])
    assert made.measured_hps == pytest.approx({1: 9_500e12})
    assert len(made.moves) == 5
    assert set(routes(made)) <= {it.worker for it in spare}


def test_an_order_that_has_ended_releases_even_its_silent_machines_unless_others_need_them() -> None:
    machines = [machine(worker, ENDED, ths=0.0 if worker == 1 else 100.0) for worker in range(1, 21)]
    made = plan([demand(1, 1_000)], [*machines, *(machine(worker) for worker in range(21, 41))])
    assert set(routes(made)) == set(range(1, 21))
    assert routes(made)[1] is None
    assert sum(move.order == 1 for move in made.moves) == 10


def test_a_machine_whose_order_it_may_not_supply_any_more_is_replaced() -> None:
    machines = [machine(1, 1, supplies=frozenset()), machine(2, 1), machine(3)]
    assert routes(plan([demand(1, 200)], machines)) == {1: None, 3: 1}


def test_an_order_whose_upstream_is_away_neither_gets_nor_gives() -> None:
    demands = [demand(1, 10_000, served=False), demand(2, 10_000)]
    made = plan(demands, fleet((95, 1), (90, 2), (5, None)))
    assert counts(moved(made, fleet((95, 1), (90, 2), (5, None)))) == {1: 95, 2: 95}
    assert made.supply_hps[1] == made.measured_hps[1] == 0
    assert made.shortages_hps == pytest.approx({1: 10_000e12, 2: 500e12})


def test_without_machines_everything_is_short_and_without_orders_everything_is_free() -> None:
    assert plan([demand(1, 100)], []).shortages_hps == {1: 100e12}
    assert routes(plan([], fleet((3, 1), (3, None)))) == {1: None, 2: None, 3: None}


def test_a_fleet_is_placed_in_four_plans_none_of_which_moves_more_than_a_quarter() -> None:
    machines = fleet((5600, None))
    demands = [demand(1, 280_000), demand(2, 168_000, priority=2), demand(3, 112_000, priority=3)]
    for _ in range(4):
        made = plan(demands, machines)
        assert len(made.moves) <= MOVES_SHARE_MAX * 5600
        machines = moved(made, machines)
    assert counts(machines) == {1: 2800, 2: 1680, 3: 1120}
    assert len(plan([demand(1, 10_000)], fleet((200, None))).moves) == MOVES_MIN


def test_every_container_supplies_every_order_alike() -> None:
    demands = [demand(1, 280_000), demand(2, 168_000, priority=2), demand(3, 112_000, priority=3)]
    machines = settled(demands, fleet((5600, None)))
    for first in range(0, 5600, CONTAINER_MACHINES):
        found = counts(machines[first : first + CONTAINER_MACHINES])
        assert found == pytest.approx({1: 200, 2: 120, 3: 80}, abs=8)


# Three orders over a fleet that fails.

SEED = 20_240_611
MACHINES = 5_600
SHARES_OF_FLEET: Mapping[int, float] = {1: 0.5, 2: 0.3, 3: 0.2}
HOURS = 2


def orders_of(site: SimulatedFleet, load: float) -> list[Demand]:
    return [
        demand(order, site.mean_hps * load * share / 1e12, priority=order)
        for order, share in SHARES_OF_FLEET.items()
    ]


def errors(hour: Hour, demands: Sequence[Demand]) -> dict[int, float]:
    """Delivered against sold, in per cent."""
    return {it.order: 100 * (hour.delivered_hps[it.order] / it.hashrate_hps - 1) for it in demands}


def show(what: str, hour: Hour, demands: Sequence[Demand]) -> None:
    figures = ", ".join(f"order {order} {error:+.2f} %" for order, error in errors(hour, demands).items())
    print(f"seed {SEED}, {what}: {figures}; {hour.moves} moves; minutes short {hour.short}")


@pytest.mark.parametrize("load", [1.0, 0.9])
def test_three_orders_are_within_2_percent_of_target_in_every_hour(load: float) -> None:
    site = SimulatedFleet(SEED, MACHINES, frozenset(SHARES_OF_FLEET))
    demands = orders_of(site, load)
    show(f"load {load}, placing them", site.run_hour(demands), demands)
    for number in range(1, HOURS + 1):
        hour = site.run_hour(demands)
        show(f"load {load}, hour {number}", hour, demands)
        assert max(map(abs, errors(hour, demands).values())) < 2.0
        assert hour.moves < 0.05 * MACHINES
        assert not any(hour.short.values())


def test_a_container_that_loses_power_for_ten_minutes_is_replaced_and_comes_back() -> None:
    site = SimulatedFleet(SEED, MACHINES, frozenset(SHARES_OF_FLEET))
    demands = orders_of(site, 0.9)
    site.run_hour(demands)
    site.darken(5, from_s=site.now_s + 600, until_s=site.now_s + 1200)
    hour = site.run_hour(demands)
    show("a container out", hour, demands)
    assert max(map(abs, errors(hour, demands).values())) < 2.0
    assert 0.8 * CONTAINER_MACHINES < hour.moves < 3 * CONTAINER_MACHINES
    after = site.run_hour(demands)
    show("the hour after", after, demands)
    assert max(map(abs, errors(after, demands).values())) < 2.0
    assert after.moves < 0.05 * MACHINES


def test_what_a_full_fleet_lacks_is_reported_and_falls_on_the_last_order() -> None:
    site = SimulatedFleet(SEED, MACHINES, frozenset(SHARES_OF_FLEET))
    demands = orders_of(site, 1.0)
    site.run_hour(demands)
    site.darken(5, from_s=site.now_s, until_s=site.now_s + 7200)
    hour = site.run_hour(demands)
    show("a container out, no machine free", hour, demands)
    found = errors(hour, demands)
    assert max(abs(found[1]), abs(found[2])) < 2.0
    assert found[3] < -20
    assert hour.short[3] >= 55
    assert hour.short[1] == hour.short[2] == 0
