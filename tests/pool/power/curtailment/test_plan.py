"""Which machines an event asks, in which order and batches, and what the plan says that it comes to."""

import random
from fractions import Fraction
from typing import Any

import pytest

from payouts.rates import Price, Scheme, quote
from pool.power.control.contract import MachineName
from pool.power.curtailment.candidates import Candidate
from pool.power.curtailment.machines import Owner
from pool.power.curtailment.plan import (
    BATCH_GAP_S,
    RESTORE_BATCH,
    RESTORE_BATCH_S,
    WAKE_S,
    Target,
    TargetKind,
    batches,
    plan,
    restore_s,
)
from pool.power.curtailment.states import MachineState
from pool.power.curtailment.terms import Terms
from pool.power.curtailment.worth import sat_per_kwh

EVERYTHING = Target(kind=TargetKind.EVERYTHING)


def machine(worker: int, **changed: Any) -> Candidate:
    """3,000 W at 100 TH/s, and 60 W when it is paused."""
    unit = changed.pop("unit", f"u{worker}")
    tenant = changed.pop("tenant", "acme")
    fields: dict[str, Any] = {
        "worker": worker,
        "name": MachineName(tenant=tenant, container="c01", unit=unit),
        "tenant": sum(tenant.encode()),
        "watts": 3_000,
        "idle_watts": 60,
        "mj_per_th": 30_000,
        "hashrate_hps": 100 * 10**12,
        "basis": "work",
        "error_bps": 500,
        "mines": True,
    }
    return Candidate(**fields | changed)


def limit(watts: int, other_watts: int = 0) -> Target:
    return Target(kind=TargetKind.LIMIT, value=watts, other_watts=other_watts)


def test_to_a_limit_the_least_efficient_are_asked_and_no_more_of_them_than_it_takes() -> None:
    site = [machine(it, mj_per_th=30_000 - it) for it in range(1, 101)]
    found = plan(site, limit(200_000), 600)
    # 300 kW to 200 kW: each machine gives 2,940 W, so 35 of them.
    assert (found.before_watts, found.asked_watts, found.machines) == (300_000, 100_000, 35)
    assert found.workers == tuple(range(1, 36))
    assert found.expected_watts == 300_000 - 35 * 2_940 <= 200_000
    assert found.short_watts == 0
    assert found.error_watts == 15_000


def test_what_is_no_machine_is_drawn_too() -> None:
    site = [machine(it) for it in range(1, 101)]
    assert plan(site, limit(200_000, other_watts=40_000), 600).machines == 48
    assert plan(site, limit(400_000, other_watts=40_000), 600).machines == 0


def test_a_share_is_of_all_that_is_drawn_now() -> None:
    site = [machine(it) for it in range(1, 101)]
    found = plan(site, Target(kind=TargetKind.SHARE, value=2_500), 600)
    assert (found.asked_watts, found.machines) == (75_000, 26)


def test_everything_is_all_that_mine() -> None:
    site = [machine(1), machine(2, mines=False), machine(3, mj_per_th=0, watts=0, idle_watts=0)]
    found = plan(site, EVERYTHING, 0)
    assert found.workers == (1, 3)
    assert found.unknown_machines == 1


def test_below_break_even_is_whoever_earns_less_than_its_energy_costs() -> None:
    price = Price(
        nbits=0x17021A42,
        subsidy_sat=312_500_000,
        block_fees_sat=4_000_000,
        fee_bps=0,
        scheme=Scheme.FPPS,
    )
    at_30 = sat_per_kwh(price, 30_000)
    # By hand: a kWh at 30 J/TH are 120,000 TH; its shares of difficulty 1 are that over 2^32 hashes, nearly.
    one = Fraction(120_000 * 10**12 * 0xFFFF, 1 << 48)
    assert at_30 == price.credit_sat(Fraction(1), 1) * one
    exact = quote(0x17021A42, 0, Fraction(1), 10**9, 0, 0)
    assert exact.sat > 0

    def worth(mj_per_th: int) -> Fraction:
        return sat_per_kwh(price, mj_per_th)

    site = [machine(1, mj_per_th=20_000), machine(2, mj_per_th=30_000), machine(3, mj_per_th=40_000)]
    energy = Target(kind=TargetKind.BREAK_EVEN, energy_sat=at_30)
    assert plan(site, energy, 0, worth).workers == (3,)  # at its price it breaks even, and is not asked
    above = Target(kind=TargetKind.BREAK_EVEN, energy_sat=at_30 + Fraction(1, 10**12))
    assert plan(site, above, 0, worth).workers == (3, 2)


def test_who_is_exempt_who_is_anothers_and_who_does_not_mine_is_not_asked() -> None:
    other = Owner(event=7, state=MachineState.CONFIRMED, watts_before=3_000, coming_back=False)
    site = [
        machine(1, exempt="exempt, by olga: cooling test"),
        machine(2, owner=other, mines=False),
        machine(3, mines=False),
        machine(4),
    ]
    found = plan(site, EVERYTHING, 0)
    assert found.workers == (4,)
    assert (found.exempt_machines, found.exempt_watts, found.taken_machines) == (1, 3_000, 1)
    assert found.before_watts == 6_060  # what another event holds off is off already


def test_who_another_event_lets_go_is_taken_first_and_does_not_come_back_in_between() -> None:
    leaving = Owner(event=7, state=MachineState.CONFIRMED, watts_before=3_000, coming_back=True)
    site = [machine(1, mj_per_th=90_000), machine(2, owner=leaving, mines=False)]
    found = plan(site, limit(4_000), 0)
    assert found.before_watts == 6_000  # it would be back in a minute
    assert found.workers == (2,)


def test_a_tenants_terms_say_when_and_for_how_much_it_is_asked() -> None:
    first, little = Terms(priority=10), Terms(curtailable_bps=2_000)
    site = [machine(it, tenant="acme", terms=little, mj_per_th=50_000) for it in range(1, 11)]
    site += [machine(it, tenant="bolt", terms=first, mj_per_th=20_000) for it in range(11, 21)]
    found = plan(site, limit(30_000 + 15_000), 0)
    assert found.workers == (11, 12, 13, 14, 15, 16)  # efficient, and first all the same
    everything = plan(site, EVERYTHING, 0)
    assert [it.machines for it in everything.losses] == [2, 10]  # of acme a fifth
    assert everything.short_watts == 8 * 2_940
    assert [it.hashrate_hps for it in everything.losses] == [2 * 10**14, 10 * 10**14]


def test_what_an_event_has_of_a_tenant_counts_for_the_next_one() -> None:
    half = Terms(curtailable_bps=5_000)
    held = Owner(event=7, state=MachineState.ASKED, watts_before=3_000, coming_back=False)
    site = [machine(it, terms=half, owner=held if it <= 4 else None) for it in range(1, 11)]
    assert plan(site, EVERYTHING, 0).machines == 1


def test_a_machine_that_was_named_twice_has_two_halves_of_its_work() -> None:
    """The pool adds up work, and so does a plan: nothing is gained by a second name."""
    once = plan([machine(1)], EVERYTHING, 0)
    half: dict[str, Any] = {"watts": 1_500, "idle_watts": 60, "hashrate_hps": 50 * 10**12}
    twice = plan([machine(1, **half), machine(2, **half)], EVERYTHING, 0)
    assert sum(it.hashrate_hps for it in twice.losses) == sum(it.hashrate_hps for it in once.losses)
    assert twice.shed_watts <= once.shed_watts


def test_the_same_site_has_the_same_plan_however_it_is_told() -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    dice = random.Random(seed)
    site = [machine(it, mj_per_th=dice.choice((20_000, 30_000))) for it in range(1, 200)]
    found = plan(site, limit(300_000), 600)
    dice.shuffle(site)
    assert plan(site, limit(300_000), 600) == found


@pytest.mark.parametrize("ramp_s", [0, 10, 60, 600, 3_600])
def test_there_are_never_more_batches_than_half_of_the_ramp_has_room_for(ramp_s: int) -> None:
    for machines in (1, 19, 400, 5_600):
        found = batches(range(machines), ramp_s)
        assert [it for _, batch in found for it in batch] == list(range(machines))
        assert len(found) <= ramp_s // 2 // BATCH_GAP_S + 1
        assert found[-1][0] <= ramp_s // 2
        assert len(found) == 1 or len(found[0][1]) >= 20
    assert batches((), ramp_s) == ()


def test_a_restore_says_how_long_it_takes() -> None:
    assert restore_s(0) == 0
    assert restore_s(1) == WAKE_S
    assert restore_s(5_600) == 10 * RESTORE_BATCH_S + WAKE_S  # 65 min at most
    assert restore_s(RESTORE_BATCH + 1) == RESTORE_BATCH_S + WAKE_S
