"""A plan of an event that goes on, made anew: what is missing is asked for, what is too much comes back.

A site is another one minutes later: machines lie, fail and come, a limit or a tariff is another one. Whatever
the target is, it is met by what is held now and what is added to it. Must not know: rows of events, and when
it is looked at.
"""

from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from typing import Final

import msgspec
from sqlalchemy import Connection

from payouts.energy.prices import price_at
from pool.fleet.registry_error import RegistryError
from pool.power.curtailment.besides import NOTHING, Besides
from pool.power.curtailment.candidates import Candidate
from pool.power.curtailment.events import Event
from pool.power.curtailment.machines import EventMachine
from pool.power.curtailment.plan import BPS, Target, TargetKind, Worth, asked_watts, choose
from pool.power.curtailment.states import MachineState
from pool.power.curtailment.worth import price_now, sat_per_kwh
from pool.power.energy.limits import limits_at, lowest

MSAT: Final = 1_000
# What is too much by less than this stays off: machines that come and go by the minute wear out.
SURPLUS_BPS: Final = 200
SAME_BPS: Final = 50  # what a site draws is not the same from minute to minute
# So much more than its energy costs a machine earns before it comes back, and so long it was off.
EARNS_BPS: Final = 200
OFF_S_MIN: Final = 600

COUNTED: Final = frozenset({MachineState.PENDING, MachineState.ASKED, MachineState.CONFIRMED})


class Again(msgspec.Struct, frozen=True, kw_only=True):
    """What changes: machines that are chosen besides, in their order, and those that come back."""

    needed_watts: int
    more: tuple[Candidate, ...] = ()
    back: tuple[EventMachine, ...] = ()


def target_of(connection: Connection, event: Event, now_s: int, other: Besides = NOTHING) -> Target:
    """As it is now. `other`: what the site draws besides machines, which a limit is of too. Where a limit of
    the site is in force that is lower than what was asked for, that one holds. Raises RegistryError where the
    tariff does not say what a kWh costs."""
    kind, value = TargetKind(event.target), event.target_value
    if kind is TargetKind.LIMIT:
        asked = Target(kind=kind, value=value or 0, other_watts=other.watts, other_by=other.by)
        in_force = lowest(limits_at(connection, now_s), site=event.site) if event.site else None
        if in_force is None or in_force >= asked.value:
            return asked
        return msgspec.structs.replace(asked, value=in_force, limit_watts=in_force)
    if kind is not TargetKind.BREAK_EVEN:
        return Target(kind=kind, value=value or 0)
    if value is not None:
        return Target(kind=kind, energy_sat=Fraction(value, MSAT))
    price = price_at(connection, event.site, now_s)
    if price is None:
        where = event.site or "a machine of no site"
        raise RegistryError(f"nobody knows what a kWh costs at {where} now: there is no tariff, or no rate")
    return Target(kind=kind, energy_sat=price)


def worth_of(connection: Connection) -> Worth | None:
    """What machines earn now; None before there was any price."""
    price = price_now(connection)
    if price is None:
        return None
    return lambda mj_per_th: sat_per_kwh(price, mj_per_th)


def again(
    event: Event,
    machines: Mapping[int, EventMachine],
    site: Sequence[Candidate],
    target: Target,
    worth: Worth | None,
    now_s: int,
    drawn_watts: int = 0,
) -> Again:
    """Of an event that curtails or holds. `drawn_watts` are drawn all the same by who is held: others make up
    for them."""
    held = [it for it in machines.values() if it.state in COUNTED]
    shed_watts = sum(it.shed_watts for it in held) - drawn_watts
    free = [it for it in site if it.worker not in machines or _may_come(machines[it.worker])]
    if target.kind is TargetKind.BREAK_EVEN:
        earning = _earning(held, site, target, worth, now_s)
        more = choose(free, target, worth, 0, site)
        needed = shed_watts - sum(it.shed_watts for it in earning) + sum(it.shed_watts for it in more)
        return Again(needed_watts=needed, more=tuple(more), back=tuple(earning))
    needed = _needed_watts(event, machines, site, target)
    asked = event.watts_asked or 0
    if abs(needed - asked) * BPS <= asked * SAME_BPS:
        needed = asked
    if target.kind is TargetKind.EVERYTHING or shed_watts < needed:
        more = choose(free, target, worth, needed - shed_watts, site)
        return Again(needed_watts=needed, more=tuple(more))
    return Again(needed_watts=needed, back=tuple(_too_many(held, shed_watts, needed)))


def _needed_watts(
    event: Event, machines: Mapping[int, EventMachine], site: Sequence[Candidate], target: Target
) -> int:
    if target.kind is TargetKind.SHARE:
        return -(-(event.watts_before or 0) * target.value // BPS)
    mine: Collection[int] = {it.worker for it in machines.values() if it.state in COUNTED}
    drawn = [it if it.worker not in mine else msgspec.structs.replace(it, owner=None) for it in site]
    drawn = [it if it.worker not in mine else msgspec.structs.replace(it, mines=True) for it in drawn]
    return asked_watts(drawn, target)


def _may_come(it: EventMachine) -> bool:
    return it.state is MachineState.RESTORED


def _earning(
    held: Sequence[EventMachine],
    site: Sequence[Candidate],
    target: Target,
    worth: Worth | None,
    now_s: int,
) -> list[EventMachine]:
    """Who would pay for its energy again."""
    enough = target.energy_sat * (BPS + EARNS_BPS) / BPS
    efficiency = {it.worker: it.mj_per_th for it in site}
    return [
        it
        for it in held
        if it.state is MachineState.CONFIRMED
        and now_s - it.changed_at_s >= OFF_S_MIN
        and worth is not None
        and efficiency.get(it.worker)
        and worth(efficiency[it.worker]) >= enough
    ]


def _too_many(held: Sequence[EventMachine], shed_watts: int, needed: int) -> list[EventMachine]:
    """Last asked, first back; as long as what is left is enough."""
    surplus = shed_watts - needed
    if surplus * BPS <= needed * SURPLUS_BPS:
        return []
    back = []
    for it in sorted(held, key=lambda it: (-it.batch, -it.due_s, it.worker)):
        if it.state is MachineState.CONFIRMED and it.shed_watts <= surplus:
            surplus -= it.shed_watts
            back.append(it)
    return back
