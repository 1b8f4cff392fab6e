"""The operator's commands for curtailment: what would be asked, events, and who is let go.

Who curtails or restores moves power, and with it money: both may have to wait for a second person. To let
machines go again never does: whoever finds that something is wrong on a site must not have to look for one.
Must not know: terminals, how machines are reached.
"""

from collections.abc import Collection
from secrets import token_hex
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, select

from pool.admin.command import Change, Commands, Guarded, Question
from pool.admin.desk import Desk, OperatorDesk, valid, wall_s
from pool.admin.pages import Page, page_of
from pool.admin.power.event_views import (
    BatchView,
    EventAsked,
    EventRow,
    EventView,
    MachineView,
    OrderShort,
    PlanView,
    PowerCurtail,
    PowerList,
    PowerPlan,
    PowerRelease,
    PowerRestore,
    PowerShow,
    StepView,
    TenantForgoes,
)
from pool.books.changes.changes import State
from pool.fleet.registry_error import RegistryError
from pool.people.roles import Role
from pool.power.curtailment.candidates import Mines
from pool.power.curtailment.events import (
    Event,
    NewEvent,
    add_event,
    all_events,
    check_site,
    end_event,
    find_event,
    last_step,
    load_event,
    note_step,
)
from pool.power.curtailment.machines import Change as MachineChange
from pool.power.curtailment.machines import EventMachine, change_machines, counts_of, machines_of
from pool.power.curtailment.progress import RUNS, mining, progress_of
from pool.power.curtailment.rounds import planned
from pool.power.curtailment.schema import power_event_steps
from pool.power.curtailment.states import OWNED, EventState, MachineState
from pool.power.curtailment.worth import price_now, sat_per_hour

STEPS_MAX: Final = 1_000  # in one answer: the newest ones
MACHINES_MAX: Final = 1_000  # that are listed: those that are not as they should be come first


def power_plan(desk: Desk, it: PowerPlan) -> PlanView:
    now_s = wall_s()
    desk.read(lambda connection: check_site(connection, it.site))
    new = _new(desk, it, "plan", now_s, None)
    looks = None if desk.live is None else desk.live.machine_looks()
    event = Event(
        id=0,
        site=new.site,
        target=new.target,
        target_value=new.target_value,
        source=new.source,
        reference=new.reference,
        state=EventState.PLANNED,
        dry_run=True,
        asked_at_s=now_s,
        asked_by="",
        from_s=new.from_s,
        until_s=new.ends_s,
        ramp_s=new.ramp_s,
        watts_before=None,
        watts_asked=None,
        restore_asked_at_s=None,
        restore_asked_by=None,
        ended_at_s=None,
        note=None,
    )
    found, price = desk.read(
        lambda connection: (planned(connection, event, looks, now_s)[0], price_now(connection))
    )
    figures = {
        name: getattr(found, name)
        for name in PlanView.__struct_fields__
        if name not in ("site", "target", "batches", "losses", "orders_short")
    }
    return PlanView(
        site=it.site,
        target=it.target,
        batches=tuple(BatchView(after_s=after_s, machines=len(of)) for after_s, of in found.batches),
        losses=tuple(
            TenantForgoes(
                **msgspec.structs.asdict(of),
                sat_per_hour=None if price is None else sat_per_hour(price, of.hashrate_hps),
            )
            for of in found.losses
        ),
        orders_short=_orders_without(desk, found.workers),
        **figures,
    )


def power_curtail(desk: OperatorDesk, it: PowerCurtail) -> EventAsked:
    """Have machines pause for a while. What is said without a time, under a name that is known, is the event
    of that name."""
    now_s, reference = wall_s(), it.reference or token_hex(8)

    def ask(connection: Connection) -> Event:
        known = find_event(connection, it.source, reference)
        from_s, until_s = it.from_s, it.until_s
        if from_s is None:
            from_s = now_s if known is None else known.from_s
        if until_s is None and known is not None:
            until_s = known.until_s
        new = _new(desk, it, reference, from_s, until_s)
        new = msgspec.structs.replace(new, dry_run=it.dry_run, source=it.source)
        return add_event(connection, new, by=desk.by, now_s=now_s)[0]

    event = desk.write(ask)
    row = _row(desk, event)
    return EventAsked(**msgspec.structs.asdict(row), orders_short=_orders_short(desk, event, now_s))


def power_restore(desk: OperatorDesk, it: PowerRestore) -> EventRow:
    def restore(connection: Connection) -> Event:
        event = load_event(connection, it.event)
        return end_event(connection, event, by=desk.by, words="restored", now_s=wall_s())

    return _row(desk, desk.write(restore))


def power_release(desk: OperatorDesk, it: PowerRelease) -> EventRow:
    """They are the event's no more, and are told to mine; without its ramp, whatever state it is in."""

    def release(connection: Connection) -> Event:
        event, now_s = load_event(connection, it.event), wall_s()
        of = [
            machine
            for machine in machines_of(connection, event.id).values()
            if machine.state in OWNED and it.machine in (None, str(machine.name))
        ]
        if it.machine is not None and not of:
            raise RegistryError(f"event {event.id} has no machine {it.machine!r:.160}")
        changes = [
            MachineChange(
                worker=machine.worker,
                before=machine.state,
                after=MachineState.RELEASED,
                words=f"released by {desk.by}",
                values={"asks": 0, "off_until_s": _until(machine, now_s)},
            )
            for machine in of
        ]
        change_machines(connection, event.id, changes, now_s)
        words = f"released by {desk.by}: {it.machine or 'all of them'}"
        note_step(connection, event.id, event.state.value, words, now_s)
        return event

    return _row(desk, desk.write(release))


def power_list(desk: Desk, it: PowerList) -> Page[EventRow]:
    mines = _mines(desk)

    def read(connection: Connection) -> list[EventRow]:
        events = [event for event in all_events(connection) if it.everything or not event.ended]
        return [EventRow(**_told(connection, event, mines)) for event in events]

    return page_of(it, desk.read(read), lambda row: (row.id,))


def power_show(desk: Desk, it: PowerShow) -> EventView:
    mines = _mines(desk)
    event = desk.read(lambda connection: load_event(connection, it.event))
    orders_short = _orders_short(desk, event, wall_s())

    def read(connection: Connection) -> EventView:
        event = load_event(connection, it.event)
        machines = machines_of(connection, event.id)
        listed = sorted(machines.values(), key=lambda of: (_WORST.index(of.state), of.batch, of.worker))
        query = select(power_event_steps).where(power_event_steps.c.event_id == event.id)
        newest = connection.execute(query.order_by(power_event_steps.c.step.desc()).limit(STEPS_MAX)).all()
        return EventView(
            **_told(connection, event, mines),
            orders_short=orders_short,
            of_machines=tuple(
                MachineView(
                    machine=str(of.name),
                    state=of.state.value,
                    batch=of.batch,
                    watts_before=of.watts_before,
                    watts_idle=of.watts_idle,
                    asks=of.asks,
                    changed_at_s=of.changed_at_s,
                    off_from_s=of.off_from_s,
                    off_until_s=of.off_until_s,
                )
                for of in listed[:MACHINES_MAX]
            ),
            steps=tuple(
                StepView(
                    step=row.step,
                    at_s=row.at_s,
                    machine=None if row.worker_id not in machines else str(machines[row.worker_id].name),
                    state=row.state,
                    words=row.words,
                )
                for row in reversed(newest)
            ),
        )

    return desk.read(read)


_WORST: Final = (
    MachineState.LOST,
    MachineState.REFUSED,
    MachineState.DRIFTED,
    MachineState.ASKED,
    MachineState.WAKING,
    MachineState.PENDING,
    MachineState.RELEASED,
    MachineState.CONFIRMED,
    MachineState.RESTORED,
)


def _until(it: EventMachine, now_s: int) -> int | None:
    """The end of its time off, also by a clock that was set back meanwhile."""
    return None if it.off_from_s is None else max(it.off_from_s, now_s)


def _new(desk: Desk, it: PowerPlan, reference: str, from_s: int, until_s: int | None) -> NewEvent:
    return valid(
        lambda: NewEvent(
            source="api",
            reference=reference,
            target=it.target,
            target_value=it.target_value,
            site=it.site,
            from_s=from_s,
            until_s=until_s,
            ramp_s=it.ramp_s,
            durations=desk.durations,
        )
    )


def _orders_short(desk: Desk, event: Event, now_s: int) -> tuple[OrderShort, ...]:
    """Of one that is over none: whom it lost belongs to nobody's plan."""
    if desk.live is None or event.ended:
        return ()
    looks = desk.live.machine_looks()

    def machines(connection: Connection) -> Collection[int]:
        if event.state is EventState.PLANNED:
            return planned(connection, event, looks, now_s)[0].workers
        return [worker for worker, of in machines_of(connection, event.id).items() if of.state in OWNED]

    try:
        return _orders_without(desk, desk.read(machines))
    except RegistryError:  # nobody knows yet which machines: there is no tariff for its time
        return ()


def _orders_without(desk: Desk, machines: Collection[int]) -> tuple[OrderShort, ...]:
    if desk.live is None or not machines:
        return ()
    short = desk.live.orders_without(frozenset(machines))
    return tuple(OrderShort(order=name, short_hps=hps) for name, hps in sorted(short.items()))


def _row(desk: Desk, event: Event) -> EventRow:
    mines = _mines(desk)
    return EventRow(**desk.read(lambda connection: _told(connection, event, mines)))


def _mines(desk: Desk) -> Mines | None:
    looks = None if desk.live is None else desk.live.machine_looks()
    return None if looks is None else mining(looks)


def _told(connection: Connection, event: Event, mines: Mines | None) -> dict[str, Any]:
    """Fields of a row."""
    unknown = machines_of(connection, event.id, unknown_alone=True) if event.state in RUNS else {}
    progress = progress_of(unknown.values(), mines)
    return msgspec.structs.asdict(event) | {
        "machines": counts_of(connection, [event.id]).get(event.id, {}),
        "unknown_machines": progress.unknown_machines,
        "unknown_off": progress.unknown_off,
    }


def new_event(it: PowerCurtail) -> str:
    """What it is about, before it has a number; without a reference: the newest one of its source."""
    return f"{it.source}/{it.reference or ''}"


def one_event(it: PowerRestore | PowerRelease) -> str:
    return f"event/{it.event}"


def event_state(connection: Connection, subject: str) -> State:
    kind, _, name = subject.partition("/")
    found: Event | None = None
    if kind in ("cli", "api"):
        of = [it for it in all_events(connection) if it.source == kind]
        found = find_event(connection, kind, name) if name else of[-1] if of else None
    elif name.isdigit():
        found = next((it for it in all_events(connection) if it.id == int(name)), None)
    if found is None:
        return None
    told: dict[str, Any] = msgspec.to_builtins(found)
    counts = counts_of(connection, [found.id]).get(found.id, {})
    return told | {"machines": counts, "steps": last_step(connection, found.id)}


COMMANDS: Final[Commands] = {
    "power.plan": Question(PowerPlan, power_plan),
    "power.curtail": Guarded(
        PowerCurtail, power_curtail, new_event, event_state, Role.OPERATOR, makes_books=False
    ),
    "power.restore": Guarded(
        PowerRestore, power_restore, one_event, event_state, Role.OPERATOR, makes_books=False
    ),
    "power.release": Change(
        PowerRelease, power_release, one_event, event_state, Role.ADMIN, makes_books=False
    ),
    "power.list": Question(PowerList, power_list),
    "power.show": Question(PowerShow, power_show),
}
