"""Metrics of power: what is known of it, bounded, and nothing of what nobody knows."""

import msgspec

from pool.metrics import power
from pool.metrics.contract import OTHERS, Page
from pool.power.control.held import Standing
from pool.power.curtailment.status import EventStatus, PowerStatus
from pool.power.energy.live import Drawn, MeterNow, PowerNow
from pool.power.figures import Basis
from pool.power.signals.intake import Source
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


EVENT = EventStatus(
    event=1,
    site="north",
    reference="call 1",
    state="curtailing",
    target_watts=9_000,
    proven_watts=6_000,
    asked_watts=3_000,
    short_watts=3_000,
    machines={"confirmed": 2, "asked": 1},
    lost=(),
)


def told(now: PowerNow) -> dict[str, dict[tuple[str, ...], float]]:
    page = Page()
    power.add_power(page, now)
    return samples(page)


def told_of(*events: EventStatus) -> dict[str, dict[tuple[str, ...], float]]:
    page = Page()
    power.add_events(page, PowerStatus(events=events))
    return samples(page)


def samples(page: Page) -> dict[str, dict[tuple[str, ...], float]]:
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


def test_events_of_a_site_are_one_series_and_what_is_being_restored_is_asked_of_nobody() -> None:
    restoring = msgspec.structs.replace(
        EVENT, event=2, state="restoring", short_watts=0, machines={"waking": 5, "lost": 1}
    )
    everywhere = msgspec.structs.replace(EVENT, event=3, site="", state="over", machines={"lost": 4})
    found = told_of(EVENT, restoring, everywhere)
    assert found["angara_power_events"] == {("north",): 2, ("(all)",): 0}
    assert found["angara_power_event_asked_watts"] == {("north",): 9_000, ("(all)",): 0}
    assert found["angara_power_event_shed_watts"] == {("north",): 6_000, ("(all)",): 0}
    assert found["angara_power_event_short_watts"] == {("north",): 3_000, ("(all)",): 0}
    machines = {labels: count for labels, count in found["angara_power_event_machines"].items() if count}
    assert machines == {
        ("north", "confirmed"): 2,
        ("north", "asked"): 1,
        ("north", "waking"): 5,
        ("north", "lost"): 1,
        ("(all)", "lost"): 4,
    }


def test_who_asks_for_events_of_ever_other_sites_makes_no_more_series() -> None:
    many = [
        msgspec.structs.replace(EVENT, event=it, site=f"s{it}") for it in range(power.EVENT_SITES_MAX + 9)
    ]
    found = told_of(*many)
    assert len(found["angara_power_events"]) == power.EVENT_SITES_MAX + 1
    assert found["angara_power_events"][OTHERS,] == 9
    assert found["angara_power_event_asked_watts"][OTHERS,] == 9 * 9_000


def test_who_is_held_off_and_who_asks_are_told() -> None:
    page = Page()
    power.add_held(page, Standing(off=5, limited=3, resuming=2, given_up_machines=1))
    quiet = Source(name="file", where="calls.toml", silent_after_s=600, since_s=0, heard_at_s=100)
    never = Source(name="webhook", where="", silent_after_s=None, since_s=400, refused_count=3, asked_count=2)
    power.add_signals(page, (quiet, never), 1_000)
    found = samples(page)
    assert found["angara_machines_held"] == {
        ("off",): 5,
        ("limited",): 3,
        ("resuming",): 2,
        ("given-up",): 1,
    }
    assert found["angara_signal_heard_age_seconds"] == {("file",): 900, ("webhook",): 600}
    assert found["angara_signal_silent"] == {("file",): 1, ("webhook",): 0}
    assert found["angara_signal_taken"] == {("file",): 0, ("webhook",): 2}
    assert found["angara_signal_refused"] == {("file",): 0, ("webhook",): 3}
