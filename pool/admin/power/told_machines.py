"""The operator's commands to single machines: what they say of themselves, and to draw less for a while.

What a machine answers is its own word. It is shown, and no money and no proof comes of it: beside it stands
what its accepted work says. A limit ends by itself, at whoever told it (pool.power.control.runner): within a
day, whoever is away then. An event owns its machines, so none of those is told anything here.

Who limits a machine moves power, and with it money: it may have to wait for a second person. Must not know:
terminals, how machines are reached.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import Connection

from pool.admin.command import Commands, Guarded, Question, no_state
from pool.admin.desk import Desk, LivePool, OperatorDesk, running, wall_s
from pool.admin.power.addresses import machine_named
from pool.books.changes.changes import State
from pool.fleet.registry_error import RegistryError
from pool.people.roles import Role
from pool.power.control.contract import (
    PERCENT_MIN,
    Action,
    Answer,
    Answered,
    Asked,
    MachineName,
    Telemetry,
)
from pool.power.curtailment.forgetting import events_with
from pool.power.curtailment.states import OWNED

if TYPE_CHECKING:
    from pool.power.energy.by_machine import MachineDrawn

READ_MAX: Final = 100  # machines in one question: what fits a screen or two
# Both together are less than a command may take. A machine that is slower is told all the same.
READ_S: Final = 10.0
TOLD_S: Final = 15.0
LEAST_S: Final = 60  # of a limit: a machine takes as long to follow one
# Of a limit: a site keeps to a day (held.HOLD_S_MAX) by its own clock, which may be behind.
LONGEST_S: Final = 86_400 - 600


class PowerRead(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Machines as tenant.container.unit."""

    machines: tuple[str, ...]


class MachineSays(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine says of itself: `says` None where it says nothing, and why is in `answer` and `words`.
    Beside it what its accepted work of five minutes says; None: nobody knows."""

    machine: str
    answer: Answer
    words: str
    says: Telemetry | None
    work_watts: int | None
    work_hps: int | None
    mining: bool


class PowerReduce(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`watts` None: all of its power again. `until_s` None: almost a day. A `dry_run` sends nothing."""

    machine: str
    watts: int | None = None
    until_s: int | None = None
    dry_run: bool = False


class ReducedView(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine was told, and what it said to that. `percent` of its nameplate is the limit, `watts`
    what that comes to; `before_watts` and `before_hps` are what its work said when it was told."""

    machine: str
    watts: int | None
    percent: int
    until_s: int | None
    answer: Answer
    words: str
    says: Telemetry | None
    before_watts: int | None
    before_hps: int | None


def power_read(desk: Desk, it: PowerRead) -> list[MachineSays]:
    """What machines say of themselves, and what their accepted work says, which alone is believed."""
    live = running(desk)
    names = [MachineName(*machine_named(name)) for name in dict.fromkeys(it.machines)]
    if not 1 <= len(names) <= READ_MAX:
        raise RegistryError(f"1 to {READ_MAX} machines are read at once")
    drawn = live.machines_drawn(names)
    asked = tuple(Asked(machine=name, action=Action.READ) for name in names)
    return [_says(answered, drawn.get(answered.machine)) for answered in live.ask_machines(asked, READ_S)]


def power_reduce(desk: OperatorDesk, it: PowerReduce) -> ReducedView:
    """Noted first, then told, then read back. What it says does not count: `held.list` has its work."""
    live = running(desk)
    name = MachineName(*machine_named(it.machine))
    before = live.machines_drawn([name]).get(name)
    told = _asked(live, name, before, it)
    noted: dict[str, Any] = {}

    def state(connection: Connection, subject: str) -> State:
        return dict(noted)

    def note(connection: Connection) -> None:
        _no_events(connection, name)
        noted.update(percent=told.percent, until_s=told.until_s or None, dry_run=it.dry_run)

    msgspec.structs.replace(desk, state=state).write(note)
    if it.dry_run:
        return _reduced(told, before, Answered(machine=name, answer=Answer.DRY_RUN), None)
    (answered,) = live.ask_machines((told,), TOLD_S)
    says: Telemetry | None = None
    if answered.answer is Answer.SAID_YES:
        (read,) = live.ask_machines((Asked(machine=name, action=Action.READ),), READ_S)
        says = read.telemetry
    return _reduced(told, before, answered, says)


def _asked(live: LivePool, name: MachineName, before: MachineDrawn | None, it: PowerReduce) -> Asked:
    """Raises RegistryError for what no machine is told."""
    mines = before is not None and before.mines
    if it.watts is None:
        limited = any(row.machine == name and row.action is Action.LIMIT for row in live.held_machines())
        if not (mines or limited):  # who is off by another hand is not woken by this one
            raise RegistryError(f"{name} does not mine, and nobody limits it")
        return Asked(machine=name, action=Action.RESUME)
    if before is None or not mines:
        raise RegistryError(f"{name} does not mine: there is nothing to reduce")
    if before.nameplate_watts is None:
        raise RegistryError(f"nobody has said what {name} is: see `angara power model set`")
    percent, plate = it.watts * 100 // before.nameplate_watts, before.nameplate_watts
    if not PERCENT_MIN <= percent < 100:
        least = -(-plate * PERCENT_MIN // 100)
        raise RegistryError(f"{name} draws {plate} W, and a limit is {least} W or more, and less than that")
    now_s = wall_s()
    until_s = now_s + LONGEST_S if it.until_s is None else it.until_s
    if not now_s + LEAST_S <= until_s <= now_s + LONGEST_S:
        hours, minutes = divmod(LONGEST_S // 60, 60)
        raise RegistryError(
            f"a limit lasts for {LEAST_S} s to {hours} h {minutes} min: say it again before it is over"
        )
    return Asked(
        machine=name, action=Action.LIMIT, until_s=until_s, percent=percent, before_hps=before.hashrate_hps
    )


def _no_events(connection: Connection, name: MachineName) -> None:
    for it in events_with(connection, name):
        if it.state in OWNED:
            raise RegistryError(
                f"event {it.event} has {name}, which is {it.state}: see `angara power show {it.event}`"
            )


def _says(it: Answered, drawn: MachineDrawn | None) -> MachineSays:
    return MachineSays(
        machine=str(it.machine),
        answer=it.answer,
        words=it.words,
        says=it.telemetry,
        work_watts=None if drawn is None else drawn.work_watts,
        work_hps=None if drawn is None else drawn.hashrate_hps,
        mining=drawn is not None and drawn.mines,
    )


def _reduced(
    told: Asked, before: MachineDrawn | None, answered: Answered, says: Telemetry | None
) -> ReducedView:
    watts = None
    if told.action is Action.LIMIT and before is not None and before.nameplate_watts is not None:
        watts = before.nameplate_watts * told.percent // 100
    return ReducedView(
        machine=str(told.machine),
        watts=watts,
        percent=told.percent,
        until_s=told.until_s or None,
        answer=answered.answer,
        words=answered.words,
        says=says,
        before_watts=None if before is None else before.work_watts,
        before_hps=None if before is None else before.hashrate_hps,
    )


COMMANDS: Final[Commands] = {
    "power.read": Question(PowerRead, power_read, Role.OPERATOR, tells=True, asks_machines=True),
    "power.reduce": Guarded(
        PowerReduce,
        power_reduce,
        lambda it: it.machine,
        no_state,
        Role.OPERATOR,
        makes_books=False,
        asks_machines=True,
    ),
}
