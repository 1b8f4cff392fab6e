"""What is drawn now: by work, by meters, and by whom for nothing; of looks that are made up here."""

from typing import Any

import msgspec
import numpy as np
import pytest

from pool.power.energy.by_machine import MachineDrawn, drawn_by_machine
from pool.power.energy.efficiencies import UNKNOWN, Efficiencies
from pool.power.energy.limits import LimitView
from pool.power.energy.live import Drawn, Known, MachinesNow, Place, PowerNow, power_now
from pool.power.energy.meters import Meter
from pool.power.energy.readings import Reading
from pool.power.energy.suspects import Counted, Suspect, suspects
from pool.power.figures import Basis, Efficiency

NOW_S = 1_800_000_000
TH = 1e12
S19 = Efficiency(
    mj_per_th=29_545, hashrate_hps=110 * 10**12, watts=3_250, idle_watts=60, error_bps=800, source="S19 Pro"
)


def place(tenant: str, name: str, site: str | None = "Bratsk", **more: Any) -> Place:
    return Place(
        **({"tenant": tenant, "name": name, "site": site, "tenant_active": True, "fee_bps": 200} | more)
    )


def known(of: list[int], places: dict[int, Place], **more: Any) -> Known:
    """`of`: of each machine by number its kind, 1 is an S19 Pro."""
    return Known(efficiencies=Efficiencies(np.array(of), (UNKNOWN, S19)), places=places, **more)


def machines(containers: list[int], ths: list[float], **change: list[Any]) -> MachinesNow:
    """Numbers 1, 2, ...; online where they do something, at a share in ten seconds."""
    rates = np.array(ths) * TH
    count = len(containers)
    fields: dict[str, Any] = {
        "numbers": np.arange(1, count + 1),
        "containers": np.array(containers, dtype=np.int64),
        "rates_hps": rates,
        "hour_hps": rates,
        "rejected_hps": np.zeros(count),
        "share_hashes": rates * 10,
        "ages_s": np.where(rates > 0, 5.0, 4_000.0),
        "accepted": np.full(count, 1_000),
        "undelivered": np.zeros(count, dtype=np.int64),
        "unheard": np.zeros(count, dtype=np.bool_),
    }
    return MachinesNow(**(fields | {name: np.array(value) for name, value in change.items()}))


def meter(
    number: int, *, site: str | None = None, containers: tuple[int, ...] = (), error_bps: int = 50
) -> Meter:
    return Meter(
        id=number,
        name=f"m{number}",
        kind="push",
        site_id=None if site is None else 1,
        site=site,
        containers=containers,
        places=(site or "boxes",),
        error_bps=error_bps,
        max_watts=20_000_000,
        rolls_at_wh=None,
        address=None,
        registers=None,
        pusher=None,
        created_at_s=0,
        created_by="olga",
        removed_at_s=None,
        removed_by=None,
    )


def reads(watts: int, age_s: int = 30) -> list[Reading]:
    return [Reading(at_s=NOW_S - age_s - 60, watts=watts + 1), Reading(at_s=NOW_S - age_s, watts=watts)]


HALL = {1: place("acme", "c01"), 2: place("zeta", "z01"), 3: place("acme", "c02", None)}


def now_of(it: Known, look: MachinesNow) -> PowerNow:
    return power_now(it, look, NOW_S)


def test_work_of_five_minutes_is_watts_with_the_error_of_plates_and_shares() -> None:
    now = now_of(known([0, 1, 1, 1, 0], HALL), machines([1, 1, 2, 2], [110, 55, 110, 70]))
    box = now.containers["acme", "c01"]
    assert (box.watts, box.basis, box.work_watts, box.meter_watts) == (4_875, Basis.WORK, 4_875, None)
    assert (box.machines, box.unknown_machines) == (2, 0)
    assert box.mj_per_th == 29_545
    # 8 % of the plates; 165 TH/s in shares of 10 s: 30 of one size and 30 of half of it are as good as 54
    assert box.error_bps == 4_170
    other = now.containers["zeta", "z01"]
    assert (other.watts, other.machines, other.unknown_machines, other.mj_per_th) == (3_250, 2, 1, None)
    assert now.containers["acme", "c02"].watts == 0
    assert now.tenants["acme"].watts == 4_875
    assert {name: it.watts for name, it in now.sites.items()} == {None: 0, "Bratsk": 8_125}


def test_a_container_of_four_hundred_is_known_better_than_one_machine() -> None:
    it = known([0] + [1] * 400, {1: HALL[1]})
    box = now_of(it, machines([1] * 400, [110] * 400)).containers["acme", "c01"]
    assert box.watts == 1_299_980
    assert box.error_bps == 1_001  # 8 %, and 1.9 % of 12,000 shares


def test_a_meter_that_reads_counts_and_is_divided_by_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    it = known(
        [0, 1, 1],
        HALL,
        meters=(meter(1, containers=(1, 2)), meter(2, site="Bratsk")),
        readings={1: reads(7_000), 2: reads(8_000)},
    )
    now = now_of(it, machines([1, 2], [110, 55]))
    one, two = now.containers["acme", "c01"], now.containers["zeta", "z01"]
    assert (one.watts, two.watts) == (4_666, 2_333)
    assert one.basis is two.basis is Basis.METER
    assert now.sites["Bratsk"].watts == 8_000  # with what the site draws besides
    assert now.sites["Bratsk"].error_bps == 50
    assert [it.believed for it in now.meters] == [True, True]
    assert one.mj_per_th == 4_666 * 10**15 // (110 * 10**12)


@pytest.mark.parametrize(
    ("readings", "believed"),
    [
        (reads(3_300), True),
        (reads(3_300, age_s=301), False),  # it has read nothing for five minutes
        (reads(1_600), False),  # half of what the work takes
        ([], False),
        (
            [Reading(at_s=NOW_S - 240, counter_wh=0), Reading(at_s=NOW_S - 60, counter_wh=165)],
            True,
        ),  # 3,300 W
        ([Reading(at_s=NOW_S - it, watts=3_300) for it in range(3_900, 0, -60)], False),  # it stands still
    ],
)
def test_a_meter_that_cannot_be_right_changes_nothing(readings: list[Reading], believed: bool) -> None:
    it = known([0, 1], {1: HALL[1]}, meters=(meter(1, containers=(1,)),), readings={1: readings})
    box = now_of(it, machines([1], [110])).containers["acme", "c01"]
    assert (box.watts, box.basis) == ((3_300, Basis.METER) if believed else (3_250, Basis.WORK))


def test_what_is_over_its_limit_says_so() -> None:
    limit = LimitView(
        id=1,
        site="Bratsk",
        tenant=None,
        container=None,
        site_id=1,
        container_id=None,
        watts=6_000,
        from_s=0,
        until_s=None,
        reason="the grid's",
        set_at_s=0,
        set_by="olga",
        lifted_at_s=None,
        lifted_by=None,
    )
    it = known([0, 1, 1], HALL, limits=(limit, msgspec.structs.replace(limit, watts=9_000)))
    assert now_of(it, machines([1, 2], [110, 90])).sites["Bratsk"].over_limit is False
    over = now_of(it, machines([1, 2], [110, 110])).sites["Bratsk"]
    assert (over.watts, over.limit_watts, over.over_limit) == (6_500, 6_000, True)
    assert now_of(it, machines([1], [110])).containers["acme", "c01"].limit_watts is None


def named(it: Known, look: MachinesNow, before: Counted | None = None) -> dict[str, list[int | None]]:
    found: dict[str, list[int | None]] = {}
    for suspect in suspects(it, look, now_of(it, look), before):
        found.setdefault(suspect.kind, []).append(suspect.worker)
    return found


def test_whose_work_is_rejected_or_taken_by_nobody_or_unpaid_is_named() -> None:
    off, free = place("off", "c", tenant_active=False), place("free", "c", fee_bps=10_000)
    it = known([0] + [1] * 6, {1: HALL[1], 2: off, 3: free})
    look = machines(
        [1, 1, 1, 1, 2, 3],
        [110, 0, 40, 180, 110, 110],
        rejected_hps=[1e12, 50e12, 60e12, 0, 0, 0],
        undelivered=[90, 0, 0, 0, 0, 0],
        accepted=[1_080, 0, 0, 0, 0, 0],
    )
    before = Counted(np.arange(1, 3), np.array([1_000, 0]), np.array([5, 0]))
    assert named(it, look, before) == {
        "rejected": [2, 3],
        "untaken": [1],
        "suspended": [5],
        "whole-fee": [6],
        "over-nameplate": [4],
    }
    assert "untaken" not in named(it, look)  # nobody knows yet what was before
    watts = {x.worker: x.watts for x in suspects(it, look, now_of(it, look), None)}
    assert watts[2] == 1_477  # 50 TH/s for nothing


def test_who_pays_for_energy_and_takes_a_name_of_which_nobody_knows_what_it_draws_is_named() -> None:
    pays = {1: place("acme", "c01", pays_energy=True), 2: place("acme", "new", None, pays_energy=True)}
    it, look = known([0, 1, 0, 0], pays | {3: HALL[2]}), machines([1, 2, 3], [110, 110, 110])
    assert named(it, look) == {"uncharged": [2]}
    assert named(it, machines([1, 2, 3], [110, 0, 110])) == {}
    boxes = msgspec.structs.replace(it, meters=(meter(1, containers=(2,)),), readings={1: reads(3_300)})
    assert "uncharged" not in named(boxes, look)  # a meter has it, whatever it is called


def test_who_is_silent_before_a_meter_that_has_more_than_the_work_is_named() -> None:
    it = known([0] + [1] * 8, {1: HALL[1]}, meters=(meter(1, containers=(1,)),), readings={1: reads(26_000)})
    ths = [110.0] * 6 + [0.0] * 2
    shares = [110e12 / 100] * 8  # a share in a hundredth of a second: the work is known within 9 %
    look = machines([1] * 8, ths, share_hashes=shares)
    assert named(it, look) == {"unexplained": [None], "silent": [7, 8]}
    (found, *_) = suspects(it, look, now_of(it, look), None)
    assert (found.meter, found.container, found.watts) == ("m1", 1, 6_500)
    fair = msgspec.structs.replace(it, readings={1: reads(20_500)})
    assert named(fair, look) == {}
    unheard = machines([1] * 8, ths, share_hashes=shares, unheard=[False] * 6 + [True, False])
    assert named(it, unheard) == {"unexplained": [None], "silent": [8]}
    one_unknown = msgspec.structs.replace(
        it, efficiencies=Efficiencies(np.array([0, 0] + [1] * 7), (UNKNOWN, S19))
    )
    assert named(one_unknown, look) == {}  # of it nothing can be said


def test_a_container_that_the_books_have_since_the_look_is_nobodys_mistake() -> None:
    """The books are read anew while machines are looked at."""
    before = known(
        [0] + [1] * 8, {1: HALL[1]}, meters=(meter(1, site="Bratsk"),), readings={1: reads(40_000)}
    )
    look = machines([1] * 8, [110.0] * 8)
    after = msgspec.structs.replace(before, places={1: HALL[1], 9: place("acme", "new", pays_energy=True)})
    for meters in (before.meters, ()):
        since = msgspec.structs.replace(after, meters=meters)
        kinds = {it.kind for it in suspects(since, look, now_of(before, look), None)}
        assert kinds <= {"unexplained"}


def test_meters_that_cannot_be_right_are_named() -> None:
    def kinds(readings: list[Reading]) -> list[Suspect]:
        it = known([0, 1], {1: HALL[1]}, meters=(meter(1, containers=(1,)),), readings={1: readings})
        look = machines([1], [110], share_hashes=[110e12 / 100])
        return [x for x in suspects(it, look, now_of(it, look), None) if x.meter is not None]

    assert [x.kind for x in kinds([])] == ["meter-silent"]
    assert [
        x.kind for x in kinds([Reading(at_s=NOW_S - it, watts=3_300) for it in range(3_900, 0, -60)])
    ] == ["meter-still"]
    assert [x.kind for x in kinds(reads(1_000))] == ["meter-low"]
    assert [x.kind for x in kinds(reads(2_800))] == ["meter-low"]  # beyond both errors, and still counted
    assert kinds(reads(3_000)) == []
    assert isinstance(now_of(known([0], HALL), machines([], [])).tenants["acme"], Drawn)


def test_of_next_to_no_work_behind_a_meter_there_is_no_efficiency() -> None:
    """Fans of a container whose machines are off: a hash a second is left of their averages."""
    fans = Drawn(
        watts=20_000,
        basis=Basis.METER,
        error_bps=100,
        work_watts=0,
        work_error_bps=10_000,
        meter_watts=20_000,
        hashrate_hps=1,
        machines=0,
        unknown_machines=0,
    )
    assert fans.mj_per_th is None


def by_machine(it: Known, look: MachinesNow) -> dict[int, MachineDrawn]:
    return drawn_by_machine(it, look, now_of(it, look), look.numbers.tolist())


def test_a_machine_draws_what_its_own_work_takes_and_nobody_guesses_of_one_that_does_nothing() -> None:
    it, look = known([0, 1, 1, 0], HALL), machines([1, 1, 1], [110, 0, 70])
    one, silent, nameless = by_machine(it, look).values()
    assert (one.watts, one.basis, one.work_watts, one.nameplate_watts) == (3_250, Basis.WORK, 3_250, 3_250)
    assert one.error_bps == 5_531  # 30 shares: 44 % (Poisson), and 8 % of its plate
    assert one.mj_per_th == 29_545
    assert (silent.watts, silent.basis, silent.mines, silent.nameplate_watts) == (None, None, False, 3_250)
    assert (nameless.watts, nameless.hashrate_hps, nameless.nameplate_watts) == (None, 70 * 10**12, None)
    assert drawn_by_machine(it, look, now_of(it, look), [1, 9]) == {1: one}


def test_machines_of_a_container_together_draw_what_its_meter_reads() -> None:
    count = 400
    ths = [100.0 + at % 7 for at in range(count)]
    it = known([0] + [1] * count, {1: HALL[1]}, meters=(meter(1, containers=(1,)),))
    it = msgspec.structs.replace(it, readings={1: reads(1_400_000)})
    its = by_machine(it, machines([1] * count, ths)).values()
    assert {one.basis for one in its} == {Basis.METER}
    together = sum(one.watts or 0 for one in its)
    assert 1_400_000 - count <= together <= 1_400_000 + count  # each a whole watt
    assert all((one.watts or 0) > (one.work_watts or 0) for one in its)  # fans are theirs


def test_of_a_machine_that_nobody_hears_the_nameplate_is_known_and_it_may_be_off() -> None:
    (one,) = by_machine(known([0, 1], HALL), machines([1], [110], unheard=[True])).values()
    assert (one.watts, one.basis, one.error_bps) == (3_250, Basis.NAMEPLATE, 10_000)
