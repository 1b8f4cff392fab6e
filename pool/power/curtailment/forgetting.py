"""A machine that is gone for good: thrown away, or sold, while it did not come back from an event.

Nobody asks it any more, and nobody is told of it. It moves no money: what its event forwent by it is what it
was, until the same moment. Functions on a connection inside the caller's transaction, which must be the only
writer. Must not know: who holds machines off, commands.
"""

from typing import Final

import msgspec
from sqlalchemy import Connection, select

from payouts.schemas.money import containers, tenants, workers
from pool.fleet.registry_error import RegistryError
from pool.power.control.contract import MachineName
from pool.power.curtailment.course import LET_GO_ASKS
from pool.power.curtailment.events import note_step
from pool.power.curtailment.machines import Change, change_machines
from pool.power.curtailment.schema import power_event_machines, power_event_steps
from pool.power.curtailment.states import OWNED, MachineState

REASON_CHARS_MAX: Final = 120
FORGET: Final = "held.forget"  # the command, as changes have it


class InEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What an event has of a machine."""

    event: int
    state: MachineState


class Forgotten(msgspec.Struct, frozen=True, kw_only=True):
    """`lost_in`: the events that it did not come back from, until now."""

    machine: MachineName
    lost_in: tuple[int, ...]


def forget(connection: Connection, machine: MachineName, *, reason: str, by: str, now_s: int) -> Forgotten:
    """No event asks it any more. Raises RegistryError, also for one that an event holds off."""
    if not 1 <= len(reason) <= REASON_CHARS_MAX or not reason.isprintable():
        raise RegistryError(f"a reason has 1 to {REASON_CHARS_MAX} printable characters")
    worker, its = _found(connection, machine)
    if not its:
        raise RegistryError(f"no event ever had a machine {str(machine)!r:.160}")
    held = [it for it in its if it.state in OWNED and it.state is not MachineState.LOST]
    if held:
        raise RegistryError(
            f"event {held[0].event} has it, which is {held[0].state}: it is told to mine first, by"
            f" `angara power release {held[0].event} {machine}`"
        )
    lost = tuple(it.event for it in its if it.state is MachineState.LOST)
    words = f"gone for good, by {by}: {reason}"
    for event in lost:
        change = Change(
            worker=worker,
            before=MachineState.LOST,
            after=MachineState.RELEASED,
            words=words,
            values={"asks": LET_GO_ASKS},  # it is not even told to mine once more
        )
        change_machines(connection, event, [change], now_s)
    if not lost:
        note_step(connection, its[-1].event, its[-1].state.value, words, now_s, worker_id=worker)
    return Forgotten(machine=machine, lost_in=lost)


def events_with(connection: Connection, machine: MachineName) -> list[InEvent]:
    """By number."""
    return _found(connection, machine)[1]


def steps_with(connection: Connection, machine: MachineName) -> int:
    """How many there are of it, in all events."""
    worker, its = _found(connection, machine)
    of = power_event_steps.c
    steps = select(of.step).where(of.worker_id == worker, of.event_id.in_([it.event for it in its]))
    return len(connection.scalars(steps).all())


def _found(connection: Connection, machine: MachineName) -> tuple[int, list[InEvent]]:
    """Also one that was removed since; of several of a name the newest that an event had."""
    it = power_event_machines.c
    query = (
        select(it.worker_id, it.event_id, it.state)
        .join(workers, workers.c.id == it.worker_id)
        .join(containers, containers.c.id == workers.c.container_id)
        .join(tenants, tenants.c.id == containers.c.tenant_id)
        .where(
            tenants.c.name == machine.tenant,
            containers.c.name == machine.container,
            workers.c.unit == machine.unit,
        )
        .order_by(it.event_id)
    )
    rows = connection.execute(query).all()
    worker = rows[-1].worker_id if rows else 0
    return worker, [
        InEvent(event=row.event_id, state=MachineState(row.state)) for row in rows if row.worker_id == worker
    ]
