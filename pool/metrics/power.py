"""Metrics of power: what is drawn, by what it is known, and what is wrong about it.

Must not know: how watts are reckoned.
"""

from collections.abc import Mapping
from typing import Final

from pool.metrics.contract import OTHERS, Page
from pool.power.energy.live import Drawn, PowerNow
from pool.power.figures import Basis

CONTAINERS_MAX: Final = 1_024  # up to three series each
SITES_MAX: Final = 256
METERS_MAX: Final = 256


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
