"""A plan: which machines are asked, in which batches, what that comes to, and what it costs whom.

Pure: no clock, the same answer to the same question. In this order: tenants of a lower priority first, then
the machine that needs most energy for its work, then by name. A machine is not asked that is exempt, that
another event has, that does not mine, or that would take more of its tenant than its terms allow. All
integers: W of machines, bps of shares; a price is an exact fraction.

Half of the ramp is for asking, in batches; the other half is for proving it, and for others in place of those
who do not obey. Machines come back in batches too: as many as can begin at once without anybody who mines
noticing, the next ones when those are back or their time is over.

Must not know: rows, machines' addresses, how anything is proven.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from fractions import Fraction
from typing import Final

import msgspec

from pool.power.curtailment.candidates import Candidate

BPS: Final = 10_000
BATCH_GAP_S: Final = 15  # a breaker, a transformer and an operator see a step before the next one
BATCH_MACHINES_MIN: Final = 20  # below that a step is too small to see
# What can begin at once: a pool gives 19,000 that come together their work in some seconds, so these in a
# tenth of one; and it is little more than the inrush of one container.
RESTORE_BATCH: Final = 512
RESTORE_BACK: Final = 95  # percent of a batch, and the next one begins
RESTORE_BATCH_S: Final = 300  # a machine boots and tunes itself for two or three minutes
WAKE_S: Final = 900  # who is not back by then is lost, and asked again all the same

Worth = Callable[[int], Fraction]  # satoshi of a kWh, by mJ/TH


class TargetKind(StrEnum):
    """What is asked for."""

    LIMIT = "limit"
    SHARE = "share"
    EVERYTHING = "everything"
    BREAK_EVEN = "break_even"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """`value`: W of a limit, bps of a share; `energy_sat`: what a kWh costs, of break-even. `other_watts` are
    drawn at the site by what is no machine, where that is known, and by what; `limit_watts` is the limit in
    force that holds in place of what was asked for."""

    kind: TargetKind
    value: int = 0
    energy_sat: Fraction = Fraction(0)
    other_watts: int = 0
    other_by: str = ""
    limit_watts: int | None = None


class TenantLoss(msgspec.Struct, frozen=True, kw_only=True):
    """What one tenant does not mine meanwhile."""

    tenant: str
    machines: int
    watts: int
    hashrate_hps: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """`batches` are of workers, with the seconds from the beginning at which each is asked. `expected_watts`
    is what is drawn then, within `error_watts`; `short_watts` what the target is missed by."""

    batches: tuple[tuple[int, tuple[int, ...]], ...]
    before_watts: int
    other_watts: int  # of those, by what is no machine
    other_by: str
    limit_watts: int | None  # in force, and lower than what was asked for
    asked_watts: int
    shed_watts: int
    expected_watts: int
    error_watts: int
    short_watts: int
    losses: tuple[TenantLoss, ...]
    machines: int
    exempt_machines: int
    exempt_watts: int
    taken_machines: int  # another event's
    unknown_machines: int  # that mine, and of whose power nothing is known
    unknown_asked: int  # of those that are asked
    ramp_s: int
    restore_s: int

    @property
    def workers(self) -> tuple[int, ...]:
        return tuple(worker for _, batch in self.batches for worker in batch)


def plan(machines: Sequence[Candidate], target: Target, ramp_s: int, worth: Worth | None = None) -> Plan:
    """From nothing. `worth` is needed to know what breaks even."""
    chosen = choose(machines, target, worth, asked_watts(machines, target))
    asked = asked_watts(machines, target)
    if target.kind is TargetKind.BREAK_EVEN:
        asked = sum(it.shed_watts for it in chosen)
    shed = sum(it.shed_watts for it in chosen)
    before = target.other_watts + sum(it.drawn_watts for it in machines)
    exempt = [it for it in machines if it.exempt and it.mines]
    return Plan(
        batches=batches([it.worker for it in chosen], ramp_s),
        before_watts=before,
        other_watts=target.other_watts,
        other_by=target.other_by,
        limit_watts=target.limit_watts,
        asked_watts=asked,
        shed_watts=shed,
        expected_watts=before - shed,
        error_watts=sum(it.drawn_watts * it.error_bps for it in machines) // BPS,
        short_watts=max(asked - shed, 0),
        losses=_losses(chosen),
        machines=len(chosen),
        exempt_machines=len(exempt),
        exempt_watts=sum(it.watts for it in exempt),
        taken_machines=sum(1 for it in machines if it.owner is not None),
        unknown_machines=sum(1 for it in machines if it.mines and not it.mj_per_th),
        unknown_asked=sum(1 for it in chosen if it.watts == 0),
        ramp_s=ramp_s,
        restore_s=restore_s(len(chosen)),
    )


def asked_watts(machines: Sequence[Candidate], target: Target) -> int:
    """How much less is to be drawn than now, of machines and of all else together."""
    now = sum(it.drawn_watts for it in machines)
    if target.kind is TargetKind.LIMIT:
        return max(now + target.other_watts - target.value, 0)
    if target.kind is TargetKind.SHARE:
        return -(-(now + target.other_watts) * target.value // BPS)
    return sum(it.shed_watts for it in machines if not it.held_off and it.drawn_watts)


def choose(
    machines: Sequence[Candidate],
    target: Target,
    worth: Worth | None,
    needed_watts: int,
    site: Sequence[Candidate] | None = None,
) -> list[Candidate]:
    """The first that come to so much; of break-even all that do not pay for their energy. `site`: all of
    whose power tenants' terms are a share, where that is more than those that are chosen from."""
    left = _allowances(machines if site is None else site)
    chosen: list[Candidate] = []
    shed = 0
    for it in sorted((it for it in machines if it.askable), key=order):
        if target.kind is TargetKind.BREAK_EVEN:
            if worth is None or not it.mj_per_th or worth(it.mj_per_th) >= target.energy_sat:
                continue
        elif target.kind is not TargetKind.EVERYTHING:
            if shed >= needed_watts:
                break
            if it.shed_watts == 0:
                continue
        if it.watts > left[it.tenant]:
            continue
        left[it.tenant] -= it.watts
        shed += it.shed_watts
        chosen.append(it)
    return chosen


def order(it: Candidate) -> tuple[int, int, int, int, str]:
    """Who is asked first: who is off already, and would come back otherwise, before all others."""
    return (
        0 if it.owner is not None else 1,
        it.terms.priority,
        0 if it.mj_per_th else 1,
        -it.mj_per_th,
        str(it.name),
    )


def batches(workers: Sequence[int], ramp_s: int) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """As many as half of the ramp has room for, a gap apart, and none that is too small to be one."""
    if not workers:
        return ()
    room = ramp_s // 2 // BATCH_GAP_S + 1
    count = max(1, min(room, len(workers) // BATCH_MACHINES_MIN))
    size = -(-len(workers) // count)
    return tuple(
        (at // size * BATCH_GAP_S, tuple(workers[at : at + size])) for at in range(0, len(workers), size)
    )


def limit_words(watts: int | None) -> str:
    """Of a limit in force that holds in place of what was asked for."""
    return "" if watts is None else f"a limit of {watts // 1000} kW is in force"


def restore_s(machines: int) -> int:
    """By when all are back, or known to be lost."""
    if not machines:
        return 0
    return (-(-machines // RESTORE_BATCH) - 1) * RESTORE_BATCH_S + WAKE_S


def _allowances(machines: Sequence[Candidate]) -> dict[int, int]:
    """What each tenant's machines may be asked for, W; what events have of them already is taken off."""
    drawn, terms, had = defaultdict[int, int](int), {}, defaultdict[int, int](int)
    for it in machines:
        drawn[it.tenant] += it.watts
        terms[it.tenant] = it.terms
        if it.held_off:
            had[it.tenant] += it.watts
    return {tenant: drawn[tenant] * it.curtailable_bps // BPS - had[tenant] for tenant, it in terms.items()}


def _losses(chosen: Sequence[Candidate]) -> tuple[TenantLoss, ...]:
    by: Mapping[str, list[Candidate]] = defaultdict(list)
    for it in chosen:
        by[it.name.tenant].append(it)
    return tuple(
        TenantLoss(
            tenant=tenant,
            machines=len(of),
            watts=sum(it.shed_watts for it in of),
            hashrate_hps=sum(it.hashrate_hps for it in of),
        )
        for tenant, of in sorted(by.items())
    )
