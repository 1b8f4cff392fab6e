"""How far an event is: in watts, as work proves them, and in machines where nobody knows their watts.

Of a machine without a nameplate it is known whether it mines, and not what it draws: of these an event has so
many off, of so many. Who refused and mines on is one of those that it wants. Must not know: rows, what is
sent.
"""

from collections.abc import Collection, Iterable
from typing import Final

import msgspec

from pool.power.curtailment.candidates import Mines
from pool.power.curtailment.course import Looks
from pool.power.curtailment.drawn_off import Drawn
from pool.power.curtailment.events import Event
from pool.power.curtailment.machines import EventMachine
from pool.power.curtailment.seen import MINES_S
from pool.power.curtailment.states import EventState, MachineState
from pool.power.curtailment.status import EventStatus

LOST_NAMES_MAX: Final = 10
RUNS: Final = (EventState.CURTAILING, EventState.HOLDING)
WANTED: Final = frozenset(
    {MachineState.PENDING, MachineState.ASKED, MachineState.CONFIRMED, MachineState.DRIFTED}
)


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """`proven_watts` without the `drawn_watts` that a meter has of machines which are off by work.
    `unknown_off` of the `unknown_machines` whose watts nobody knows are proven to be off."""

    proven_watts: int = 0
    drawn_watts: int = 0
    asked_watts: int = 0  # of machines that are asked, and not proven to be off
    unknown_machines: int = 0
    unknown_off: int = 0

    def met(self, event: Event) -> bool:
        """Whether all is off that is asked for."""
        return self.proven_watts >= (event.watts_asked or 0) and self.unknown_off == self.unknown_machines

    @property
    def words(self) -> str:
        """What is proven."""
        words = f"{self.proven_watts // 1000} kW less"
        if self.unknown_machines:
            words += f", {self.unknown_off} of {self.unknown_machines} machines of unknown power off"
        words += ", proven by work"
        if self.drawn_watts:
            words += f", without {self.drawn_watts // 1000} kW that a meter has all the same"
        return words


def progress_of(
    machines: Iterable[EventMachine], mines: Mines | None, drawn: Collection[Drawn] = ()
) -> Progress:
    """`mines`: as for candidates; who refused counts as mining where nobody knows better. `drawn`: what
    meters have of machines that are off."""
    proven = asked = unknown = off = 0
    for it in machines:
        if it.state is MachineState.CONFIRMED:
            proven += it.shed_watts
        elif it.state is MachineState.ASKED:
            asked += it.shed_watts
        if it.watts_before == 0 and _is_wanted(it, mines):
            unknown += 1
            off += it.state is MachineState.CONFIRMED
    drawn_watts = min(sum(it.watts for it in drawn), proven)
    return Progress(
        proven_watts=proven - drawn_watts,
        drawn_watts=drawn_watts,
        asked_watts=asked,
        unknown_machines=unknown,
        unknown_off=off,
    )


def _is_wanted(it: EventMachine, mines: Mines | None) -> bool:
    if it.state is MachineState.REFUSED:
        return mines is None or mines(it.worker) is not False
    return it.state in WANTED


def status_of(
    event: Event, machines: Iterable[EventMachine], progress: Progress, began_at_s: int | None, now_s: int
) -> EventStatus:
    """For whoever shows it."""
    counts: dict[str, int] = {}
    lost: list[str] = []
    for it in machines:
        counts[it.state.value] = counts.get(it.state.value, 0) + 1
        if it.state is MachineState.LOST and len(lost) < LOST_NAMES_MAX:
            lost.append(str(it.name))
    late = event.state in RUNS and now_s >= (now_s if began_at_s is None else began_at_s) + event.ramp_s
    target = event.watts_asked or 0
    return EventStatus(
        event=event.id,
        site=event.site,
        reference=event.reference,
        state=event.state.value,
        target_watts=target,
        proven_watts=progress.proven_watts,
        drawn_watts=progress.drawn_watts,
        asked_watts=progress.asked_watts,
        short_watts=max(0, target - progress.proven_watts) if late else 0,
        unknown_machines=progress.unknown_machines,
        unknown_off=progress.unknown_off,
        short_machines=progress.unknown_machines - progress.unknown_off if late else 0,
        machines=counts,
        lost=tuple(lost),
    )


def mining(looks: Looks) -> Mines:
    """Whether a machine mines; None where nobody has listened for long enough to say that it does not."""

    def mines(worker: int) -> bool | None:
        look = looks(worker)
        if look.age_s < MINES_S:
            return True
        return False if look.silent_s >= MINES_S else None

    return mines
