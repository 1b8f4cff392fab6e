"""Metrics of power: what is drawn, by what it is known, what is wrong about it, and what events come to.

An event is told under its site: numbers of events are new ones every day, and no label may be. Must not know:
how watts are reckoned, and how machines are told.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from pool.metrics.contract import OTHERS, Page
from pool.power.control.held import Standing
from pool.power.curtailment.states import MachineState
from pool.power.curtailment.status import EventStatus, PowerStatus
from pool.power.energy.live import Drawn, PowerNow
from pool.power.figures import Basis
from pool.power.signals.intake import Source

CONTAINERS_MAX: Final = 1_024  # up to three series each
SITES_MAX: Final = 256
METERS_MAX: Final = 256
ALL_SITES: Final = "(all)"  # what an event of no one site is told under: no name of ours has a bracket
EVENT_SITES_MAX: Final = 64  # a dozen series each
RUNS: Final = ("curtailing", "holding")


def add_power(page: Page, now: PowerNow) -> None:
    """Nothing of a container of which nothing is known, and of a pool that knows of no power but its sum."""
    page.add("angara_power_watts", sum(it.watts for it in now.sites.values()))
    page.add("angara_power_unknown_machines", sum(it.unknown_machines for it in now.containers.values()))
    _add_sites(page, now.sites)
    known = {name: it for name, it in now.containers.items() if it.watts or it.meter_watts is not None}
    rest = 0
    for place, ((tenant, container), it) in enumerate(known.items()):
        if place >= CONTAINERS_MAX:
            rest += it.watts
            continue
        page.add("angara_container_power_watts", it.watts, tenant, container, it.basis.value)
        if it.mj_per_th is not None:
            page.add("angara_container_joules_per_terahash", it.mj_per_th / 1000, tenant, container)
        if it.limit_watts is not None:
            page.add("angara_container_power_limit_watts", it.limit_watts, tenant, container)
    if rest:
        page.add("angara_container_power_watts", rest, OTHERS, OTHERS, Basis.WORK.value)
    for meter in now.meters[:METERS_MAX]:
        if meter.watts is not None:
            page.add("angara_meter_watts", meter.watts, meter.meter.name)
        page.add("angara_meter_believed", meter.believed, meter.meter.name)


def _add_sites(page: Page, sites: Mapping[str | None, Drawn]) -> None:
    for name, it in list(sites.items())[:SITES_MAX]:
        if it.watts or it.limit_watts is not None:
            page.add("angara_site_power_watts", it.watts, name or OTHERS, it.basis.value)
        if it.limit_watts is not None:
            page.add("angara_site_power_limit_watts", it.limit_watts, name or OTHERS)


def add_events(page: Page, status: PowerStatus) -> None:
    """Of events that go on, and of those that have machines which did not come back."""
    of: dict[str, list[EventStatus]] = {}
    for it in status.events:
        site = it.site or ALL_SITES
        of.setdefault(site if site in of or len(of) < EVENT_SITES_MAX else OTHERS, []).append(it)
    page.add("angara_power_events_failed", status.failed)
    for site, events in of.items():
        runs = [it for it in events if it.state in RUNS]
        page.add("angara_power_events", sum(it.state != "over" for it in events), site)
        page.add("angara_power_event_asked_watts", sum(it.target_watts for it in runs), site)
        page.add("angara_power_event_shed_watts", sum(it.proven_watts for it in runs), site)
        page.add("angara_power_event_short_watts", sum(it.short_watts for it in runs), site)
        machines = sum((Counter(it.machines) for it in events), Counter[str]())
        for state in MachineState:
            page.add("angara_power_event_machines", machines[state.value], site, state.value)


def add_held(page: Page, it: Standing) -> None:
    """Of all who hold machines off, as they said last."""
    page.add("angara_machines_held", it.off, "off")
    page.add("angara_machines_held", it.limited, "limited")
    page.add("angara_machines_held", it.resuming, "resuming")
    page.add("angara_machines_held", it.given_up_machines, "given-up")


def add_signals(page: Page, signals: Sequence[Source], now_s: int) -> None:
    """Of whoever may ask for events beside persons: four of them at most."""
    for it in signals:
        heard_s = it.since_s if it.heard_at_s is None else it.heard_at_s
        page.add("angara_signal_heard_age_seconds", max(0, now_s - heard_s), it.name)
        page.add("angara_signal_silent", it.silent_s(now_s) > 0, it.name)
        page.add("angara_signal_taken_total", it.asked_count, it.name)
        page.add("angara_signal_refused_total", it.refused_count, it.name)
