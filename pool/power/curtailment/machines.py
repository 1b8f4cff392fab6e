"""Machines of events as rows, with their states: each change with its step, in one transaction.

Invariants: a state follows another as `states` allows; of two that change the same machine the second finds
what the first has left, and changes nothing. Must not know: why.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, bindparam, case, func, insert, or_, select, update

from payouts.schemas.money import containers, tenants, workers
from pool.power.control.contract import MachineName
from pool.power.curtailment.events import WORDS_CHARS_MAX, note_steps
from pool.power.curtailment.pace import Pace
from pool.power.curtailment.schema import power_event_machines, power_event_work, power_events
from pool.power.curtailment.states import OWNED, EventState, MachineState, check_machine

BOUND_AT_ONCE: Final = 10_000  # values of a statement: what SQLite and PostgreSQL both take


class EventMachine(msgspec.Struct, frozen=True, kw_only=True):
    """One machine in one event. `before_shares`: accepted between `before_from_s` and `before_until_s`."""

    worker: int
    name: MachineName
    batch: int
    state: MachineState
    changed_at_s: int
    due_s: int
    asks: int
    asked_at_s: int | None
    before_from_s: int
    before_until_s: int
    before_shares: int
    watts_before: int
    watts_idle: int
    basis: str
    error_bps: int
    off_from_s: int | None
    off_until_s: int | None

    @property
    def shed_watts(self) -> int:
        """How much less it draws when it is off."""
        return self.watts_before - self.watts_idle

    @property
    def pace(self) -> Pace:
        """As far as the event's rows say: over all of the time before, whenever in it the machine mined."""
        return Pace(float(self.before_shares), self.before_until_s - self.before_from_s)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one machine. `values`: other columns, as they are then."""

    worker: int
    before: MachineState
    after: MachineState
    words: str
    values: Mapping[str, int | None] = {}


def add_machines(
    connection: Connection,
    event_id: int,
    chosen: Sequence[dict[str, Any]],
    words: str,
    now_s: int,
    state: MachineState = MachineState.PENDING,
) -> None:
    """Rows of machines that are the event's from now on, each with the columns of the table. One that was
    restored by it before is chosen anew. In another state than pending they are not the event's."""
    if not chosen:
        return
    ids = [row["worker_id"] for row in chosen]
    known = set(_ids_there(connection, event_id, ids))
    new = [
        {"event_id": event_id, "changed_at_s": now_s, "asks": 0} | row | {"state": state.value}
        for row in chosen
        if row["worker_id"] not in known
    ]
    if new:
        connection.execute(insert(power_event_machines), new)
    again = [
        {
            "of_event": event_id,
            "of_worker": row["worker_id"],
            "to_batch": row["batch"],
            "to_due_s": row["due_s"],
            "to_changed_at_s": now_s,
        }
        for row in chosen
        if row["worker_id"] in known
    ]
    if again:
        connection.execute(_AGAIN, again)
    steps = [_step(it, state, words, now_s) for it in ids]
    note_steps(connection, event_id, steps)


def change_machines(
    connection: Connection, event_id: int, changes: Sequence[Change], now_s: int
) -> list[Change]:
    """Those of the changes that were made: who is in another state by now than was thought stays as it is."""
    made = []
    for it in changes:
        check_machine(it.before, it.after)
        of = (power_event_machines.c.event_id == event_id) & (power_event_machines.c.worker_id == it.worker)
        row = update(power_event_machines).where(of, power_event_machines.c.state == it.before.value)
        values = {"state": it.after.value, "changed_at_s": now_s, **it.values}
        if connection.execute(row.values(values)).rowcount:
            made.append(it)
    note_steps(connection, event_id, [_step(it.worker, it.after, it.words, now_s) for it in made])
    return made


def set_back(connection: Connection, event_id: int, now_s: int, due_s: int) -> None:
    """The clock was set back: what its machines' rows have of later than now is of now, and `due_s` at the
    latest is when they are asked. Each wait begins anew, once."""
    it = power_event_machines.c
    times = (it.changed_at_s, it.asked_at_s, it.off_from_s, it.off_until_s)
    values = {of: case((of > now_s, now_s), else_=of) for of in times}
    values[it.due_s] = case((it.due_s > due_s, due_s), else_=it.due_s)
    later = or_(*(of > now_s for of in times), it.due_s > due_s)
    connection.execute(update(power_event_machines).where(it.event_id == event_id, later).values(values))


def note_asked(
    connection: Connection, event_id: int, workers_asked: Iterable[int], now_s: int, *, more: int = 1
) -> None:
    """They are about to be asked once more, in the state that they are in."""
    it = power_event_machines.c
    asked = update(power_event_machines).where(it.event_id == event_id, it.worker_id == bindparam("of"))
    rows = [{"of": worker} for worker in workers_asked]
    if rows:
        connection.execute(asked.values(asks=it.asks + more, asked_at_s=now_s), rows)


def machines_of(
    connection: Connection, event_id: int, *, unknown_alone: bool = False
) -> dict[int, EventMachine]:
    """All of an event, by number; or those whose watts nobody knows."""
    shares = dict[int, int]()
    of = power_event_work.c
    summed = select(of.worker_id, func.sum(of.shares).label("shares")).where(of.event_id == event_id)
    for row in connection.execute(summed.group_by(of.worker_id)):
        shares[row.worker_id] = int(row.shares)
    named = (
        select(
            power_event_machines,
            tenants.c.name.label("tenant"),
            containers.c.name.label("container"),
            workers.c.unit,
        )
        .join(workers, workers.c.id == power_event_machines.c.worker_id)
        .join(containers, containers.c.id == workers.c.container_id)
        .join(tenants, tenants.c.id == workers.c.tenant_id)
        .where(power_event_machines.c.event_id == event_id)
        .order_by(power_event_machines.c.worker_id)
    )
    if unknown_alone:
        named = named.where(power_event_machines.c.watts_before == 0)
    return {
        row.worker_id: EventMachine(
            worker=row.worker_id,
            name=MachineName(tenant=row.tenant, container=row.container, unit=row.unit),
            batch=row.batch,
            state=MachineState(row.state),
            changed_at_s=row.changed_at_s,
            due_s=row.due_s,
            asks=row.asks,
            asked_at_s=row.asked_at_s,
            before_from_s=row.before_from_s,
            before_until_s=row.before_until_s,
            before_shares=shares.get(row.worker_id, 0),
            watts_before=row.watts_before,
            watts_idle=row.watts_idle,
            basis=row.basis,
            error_bps=row.error_bps,
            off_from_s=row.off_from_s,
            off_until_s=row.off_until_s,
        )
        for row in connection.execute(named)
    }


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """The event that has a machine."""

    event: int
    state: MachineState
    watts_before: int
    coming_back: bool  # it is off, and its event is about to restore it


def owners(connection: Connection) -> dict[int, Owner]:
    """By number, of machines that an event has."""
    return {
        worker: Owner(
            event=event,
            state=_STATES[state],
            watts_before=watts_before,
            coming_back=state == _CONFIRMED and of_event == _RESTORING,
        )
        for worker, event, state, watts_before, of_event in connection.execute(_OWNERS)
    }


def lost_machines(connection: Connection) -> dict[int, list[int]]:
    """By event: who did not come back, of all there ever were."""
    found = defaultdict[int, list[int]](list)
    for row in connection.execute(_LOST):
        found[row.event_id].append(row.worker_id)
    return dict(found)


def counts_of(connection: Connection, event_ids: Sequence[int]) -> dict[int, dict[str, int]]:
    """How many machines of each event are in which state."""
    it = power_event_machines.c
    counts: dict[int, dict[str, int]] = {}
    for at in range(0, len(event_ids), BOUND_AT_ONCE):
        query = select(it.event_id, it.state, func.count().label("machines")).where(
            it.event_id.in_(event_ids[at : at + BOUND_AT_ONCE])
        )
        for row in connection.execute(query.group_by(it.event_id, it.state)):
            counts.setdefault(row.event_id, {})[row.state] = row.machines
    return counts


def _ids_there(connection: Connection, event_id: int, ids: Sequence[int]) -> Iterable[int]:
    it = power_event_machines.c
    for at in range(0, len(ids), BOUND_AT_ONCE):
        some = ids[at : at + BOUND_AT_ONCE]
        query = select(it.worker_id).where(it.event_id == event_id, it.worker_id.in_(some))
        yield from connection.scalars(query)


def _step(worker: int, after: MachineState, words: str, now_s: int) -> dict[str, Any]:
    cut = words[:WORDS_CHARS_MAX]
    return {"worker_id": worker, "state": after.value, "words": cut, "at_s": now_s}


_AGAIN = (
    update(power_event_machines)
    .where(
        power_event_machines.c.event_id == bindparam("of_event"),
        power_event_machines.c.worker_id == bindparam("of_worker"),
        power_event_machines.c.state == MachineState.RESTORED.value,
    )
    .values(
        state=MachineState.PENDING.value,
        changed_at_s=bindparam("to_changed_at_s"),
        batch=bindparam("to_batch"),
        due_s=bindparam("to_due_s"),
        asks=0,
    )
)
# Built once: these are asked every few seconds, for years, of as many machines as a site has.
_STATES: Final = {state.value: state for state in MachineState}
_CONFIRMED: Final = MachineState.CONFIRMED.value
_RESTORING: Final = EventState.RESTORING.value
_OWNERS: Final = (
    select(
        power_event_machines.c.worker_id,
        power_event_machines.c.event_id,
        power_event_machines.c.state,
        power_event_machines.c.watts_before,
        power_events.c.state.label("of_event"),
    )
    .join(power_events, power_events.c.id == power_event_machines.c.event_id)
    .where(power_event_machines.c.state.in_([state.value for state in OWNED]))
)
_LOST: Final = (
    select(power_event_machines.c.event_id, power_event_machines.c.worker_id)
    .where(power_event_machines.c.state == MachineState.LOST.value)
    .order_by(power_event_machines.c.event_id, power_event_machines.c.worker_id)
)
