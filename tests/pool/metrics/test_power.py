"""Metrics of power: what is known of it, bounded, and nothing of what nobody knows."""

from pool.metrics import power
from pool.metrics.contract import OTHERS, Page
from pool.power.energy.live import Drawn, MeterNow, PowerNow
from pool.power.figures import Basis
from tests.pool.power.test_live import meter

DRAWN = Drawn(
    watts=3_250,
    basis=Basis.WORK,
    error_bps=900,
    work_watts=3_250,
    work_error_bps=900,
    meter_watts=None,
    hashrate_hps=110 * 10**12,
    machines=1,
    unknown_machines=0,
)
UNKNOWN = Drawn(
    watts=0,
    basis=Basis.WORK,
    error_bps=1_000_000,
    work_watts=0,
    work_error_bps=1_000_000,
    meter_watts=None,
    hashrate_hps=10**14,
    machines=3,
    unknown_machines=3,
)


def told(now: PowerNow) -> dict[str, dict[tuple[str, ...], float]]:
    page = Page()
    power.add_power(page, now)
    return {
        family.name: {tuple(it.labels.values()): it.value for it in family.samples}
        for family in page.collect()
        if family.samples
    }


def test_what_is_known_is_told_and_what_is_not_is_counted() -> None:
    limited = Drawn(
        **{name: getattr(DRAWN, name) for name in DRAWN.__struct_fields__} | {"limit_watts": 9_000}
    )
    reads = MeterNow(
        meter=meter(1, site="Bratsk"),
        watts=4_000,
        age_s=5,
        work_watts=3_250,
        work_error_bps=900,
        still=False,
        believed=True,
    )
    away = MeterNow(
        meter=meter(2, containers=(1,)),
        watts=None,
        age_s=None,
        work_watts=0,
        work_error_bps=0,
        still=False,
        believed=False,
    )
    now = PowerNow(
        at_s=0,
        containers={("acme", "c01"): limited, ("zeta", "z01"): UNKNOWN},
        sites={"Bratsk": limited, None: UNKNOWN},
        tenants={},
        meters=(reads, away),
    )
    assert told(now) == {
        "angara_power_watts": {(): 3_250},
        "angara_power_unknown_machines": {(): 3},
        "angara_site_power_watts": {("Bratsk", "work"): 3_250},
        "angara_site_power_limit_watts": {("Bratsk",): 9_000},
        "angara_container_power_watts": {("acme", "c01", "work"): 3_250},
        "angara_container_joules_per_terahash": {("acme", "c01"): 29.545},
        "angara_container_power_limit_watts": {("acme", "c01"): 9_000},
        "angara_meter_watts": {("m1",): 4_000},
        "angara_meter_believed": {("m1",): 1, ("m2",): 0},
    }


def test_containers_beyond_the_bound_are_summed_up() -> None:
    boxes = {("acme", f"c{it:04}"): DRAWN for it in range(power.CONTAINERS_MAX + 3)}
    now = PowerNow(at_s=0, containers=boxes, sites={}, tenants={}, meters=())
    found = told(now)["angara_container_power_watts"]
    assert len(found) == power.CONTAINERS_MAX + 1
    assert found[OTHERS, OTHERS, "work"] == 3 * 3_250
