"""What is told of power events: that one goes on, that its target is missed, that machines did not come back.

As `pool.messages.conditions`. Must not know: clocks, what was told, whom, and how events are carried out.
"""

from collections.abc import Iterator

from pool.messages.conditions import Finding
from pool.messages.look import Look
from pool.messages.message import plain
from pool.power.curtailment.status import EventStatus
from pool.reports.figures import grouped


def curtailment_conditions(look: Look) -> list[Finding]:
    """Of each event that goes on, or that has machines which did not come back."""
    return [finding for it in look.curtailment.events for finding in _event(it)]


def _event(it: EventStatus) -> Iterator[Finding]:
    subject, name = f"event/{it.event}", f"{it.event} ({plain(it.site) or 'all sites'})"
    lost = it.machines.get("lost", 0)
    went = it.state in ("curtailing", "holding", "restoring")
    less = f"{it.proven_watts / 1000:.1f} kW less, proven by work, of {it.target_watts / 1000:.1f}"
    if it.unknown_machines:
        less += f", and {grouped(it.unknown_off)} of {grouped(it.unknown_machines)} machines of unknown power"
    short = it.short_watts > 0 or it.short_machines > 0
    yield Finding(
        kind="curtailed",
        subject=subject,
        name=name,
        holds=went,
        words=f"event {name}, {plain(it.reference)}: {less}" if went else f"event {name} is over",
        raise_looks=1,
        clear_looks=1,
    )
    yield Finding(
        kind="curtailed-short",
        subject=subject,
        name=name,
        holds=short,
        words=f"event {name}: {less}; its ramp is over, and there are no more machines that obey"
        if short
        else f"event {name}: {less}",
        raise_looks=1,
        clear_looks=1,
    )
    drawn = f"{it.drawn_watts / 1000:.1f} kW of machines that are off by work"
    yield Finding(
        kind="curtailed-drawn",
        subject=subject,
        name=name,
        holds=it.drawn_watts > 0,
        words=f"event {name}: a meter before their containers has {drawn}; they mine elsewhere, or something"
        " else draws in their place"
        if it.drawn_watts
        else f"event {name}: no meter has more than work says",
        raise_looks=1,
        clear_looks=1,
    )
    listed = ", ".join(plain(machine) for machine in it.lost)
    more = lost - len(it.lost)
    yield Finding(
        kind="machines-lost",
        subject=subject,
        name=name,
        holds=lost > 0,
        words=f"event {name}: {grouped(lost)} machines did not come back, and are asked again: {listed}"
        + (f" and {grouped(more)} more" if more > 0 else "")
        if lost
        else f"event {name}: all machines are back",
        raise_looks=1,
        clear_looks=1,
    )
