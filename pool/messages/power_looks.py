"""Power as messages look at it: places that have a limit, and meters. Must not know: what is wrong."""

from pool.messages.look import MeterLook, PowerLook
from pool.power.energy.live import MeterNow, PowerNow


def limited(now: PowerNow) -> tuple[PowerLook, ...]:
    """Sites and containers that have a limit now."""
    places = [("site", name or "", it) for name, it in now.sites.items()]
    places += [("container", f"{tenant}.{name}", it) for (tenant, name), it in now.containers.items()]
    return tuple(
        PowerLook(kind, name, it.watts, it.limit_watts, it.basis.value)
        for kind, name, it in places
        if it.limit_watts is not None
    )


def metered(now: PowerNow) -> tuple[MeterLook, ...]:
    def wrong(it: MeterNow) -> str | None:
        if it.watts is None:
            return "it has read nothing for minutes"
        if it.still:
            return "it has said the same for an hour"
        return None if it.believed else "it says less than half of what the accepted work behind it takes"

    return tuple(MeterLook(it.meter.name, wrong(it)) for it in now.meters)
