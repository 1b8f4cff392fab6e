"""One look at every event, in a worker thread: what follows is in the books when it returns what to send.

Each event has a transaction of its own; nothing of it is sent where that does not commit. What is remembered
between two looks is what rows say (read anew where somebody else has added a step), and the last answers.
Must not know: tasks, and how anything is sent.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import structlog
from sqlalchemy import Connection

from pool.books.store import Store
from pool.fleet.registry_error import RegistryError
from pool.power.control.contract import Action, Answer, Answered
from pool.power.curtailment.baseline import complete, is_noted, note_work, window
from pool.power.curtailment.besides import NOTHING, Besides, besides, settled
from pool.power.curtailment.candidates import Candidate, HourBefore, Mines, candidates, hour_before
from pool.power.curtailment.course import NO_PACES, Ask, Doing, Looks, doing, room_to_wake, wake
from pool.power.curtailment.drawn_off import Drawn, Off, drawn_off, lately, words_of
from pool.power.curtailment.events import (
    Event,
    began_at_s,
    last_step,
    last_steps,
    load_event,
    move_event,
    note_plan,
    note_step,
    open_events,
)
from pool.power.curtailment.machines import (
    Change,
    EventMachine,
    add_machines,
    change_machines,
    lost_machines,
    machines_of,
    note_asked,
    owners,
    set_back,
)
from pool.power.curtailment.pace import Pace
from pool.power.curtailment.plan import Plan, Target, TargetKind, batches, limit_words, plan, restore_s
from pool.power.curtailment.progress import RUNS, mining, progress_of, status_of
from pool.power.curtailment.replanning import COUNTED, again, target_of, worth_of
from pool.power.curtailment.states import HELD, SETTLED, EventState, MachineState
from pool.power.curtailment.status import EventStatus

log = structlog.get_logger()

LEAD_S: Final = 900  # before an event begins orders are delivered without its machines
REPLAN_S: Final = 20  # while the target is not met
CLOCK_S: Final = 5  # a clock that is kept right goes back by less
HOLDING_REPLAN_S: Final = 120  # a site changes slowly, and reading an hour of it takes a second


class Known(msgspec.Struct, kw_only=True):
    """What is remembered of an event."""

    event: Event
    step: int
    machines: dict[int, EventMachine]
    began_at_s: int | None
    answers: dict[int, Answered] = {}
    unheld: set[int] = set()  # that nobody holds any more
    planned_at_s: int = 0
    begins: bool = False  # this process has said nothing of it yet


class HeldUntil(msgspec.Struct, frozen=True):
    """By the monotonic clock. `restores`: it is the end of a restore, and stays what it is."""

    clock_s: float
    restores: bool = False


class Found(msgspec.Struct, kw_only=True):
    """Of one look: what is to be sent, by event, and how all stands."""

    asks: dict[int, tuple[Ask, ...]] = {}
    events: list[EventStatus] = []
    leaving: frozenset[int] = frozenset()  # machines that an event has, or is about to have


class Rounds:
    """`dry_run`: no event tells any machine anything."""

    def __init__(self, store: Store, *, dry_run: bool) -> None:
        self._store, self._dry_run = store, dry_run
        self._known: dict[int, Known] = {}
        self._waits: dict[int, str] = {}  # what an event cannot go on for, as it was told
        self._ending: set[int] = set()  # events that were found to be over in this look, and in the last one
        self._ended: set[int] = set()
        self._expected: dict[int, tuple[int, frozenset[int]]] = {}  # of planned ones: made at, machines
        self._paces: dict[int, dict[int, Pace]] = {}  # by event, of machines as they were when it chose them
        self._besides: dict[int, Besides] = {}  # by event, what its site draws besides machines, as it counts
        self._drawn: dict[int, tuple[Drawn, ...]] = {}  # by event, what meters have of who is off
        self._held_until: dict[int, HeldUntil] = {}  # by event, as the last look at it has found
        self._hour: HourBefore | None = None  # of the site that was planned for last
        self._noted: set[int] = set()  # events of which it is written down what machines did before

    def answered(self, event_id: int, worker: int, action: Action, answer: Answered) -> None:
        """What a machine said to the last that it was asked."""
        known = self._known.get(event_id)
        if known is None:
            return
        if action is Action.HOLD:
            if answer.answer is Answer.REFUSED:
                known.unheld.add(worker)
        else:
            known.answers[worker] = answer

    def held(self, now_s: int, clock_s: float) -> list[tuple[int, Ask]]:
        """All that are to stay off, by event, by what was known last. Books that are away, and a clock that
        is set back meanwhile, hold nobody for longer than the event and its restore would have lasted."""
        return [
            (it.event.id, Ask(machine.worker, machine.name, Action.HOLD))
            for it in self._known.values()
            if it.event.state is EventState.RESTORING or now_s < it.event.until_s
            if clock_s < self._held_until[it.event.id].clock_s
            for machine in it.machines.values()
            if machine.state in HELD
        ]

    def look(self, looks: Looks, now_s: int, clock_s: float) -> Found:
        """`clock_s`: the same moment, by a clock that nobody sets. Raises DATABASE_ERRORS; what was written
        before that is not sent, and is found at the next look."""
        found = Found()
        self._ending, self._ended = set(), self._ending
        with self._store.read() as connection:
            open_ones = open_events(connection)
            lost = lost_machines(connection)
            after = [load_event(connection, it) for it in lost if it not in {of.id for of in open_ones}]
            taken = {worker: it.event for worker, it in owners(connection).items()}
            steps = last_steps(connection, [it.id for it in (*open_ones, *after)])
            unnoted = self._unnoted(connection, [*open_ones, *after])
        for event in unnoted:
            with self._store.write() as connection:
                note_work(connection, event.id, event.site, event.asked_at_s, now_s)
            self._noted.add(event.id)
        for gone in self._known.keys() - {it.id for it in (*open_ones, *after)}:
            del self._known[gone]
            self._paces.pop(gone, None)
            self._besides.pop(gone, None)
            self._drawn.pop(gone, None)
            self._held_until.pop(gone, None)
        planned_ones = {it.id for it in open_ones if it.state is EventState.PLANNED}
        for gone in self._expected.keys() - planned_ones:
            del self._expected[gone]
        for event in (*open_ones, *after):
            try:
                self._look_at(event, steps[event.id], looks, now_s, taken, found)
            except RegistryError as error:
                if self._waits.get(event.id) != str(error):
                    log.error("power_event_waits", number=event.id, reason=str(error))
                self._waits[event.id] = str(error)
            finally:
                self._note_end(event.id, now_s, clock_s)
        leaving = {worker for _, workers in self._expected.values() for worker in workers}
        found.leaving = frozenset(taken) | leaving
        return found

    def _unnoted(self, connection: Connection, events: Sequence[Event]) -> list[Event]:
        """Of which the books have now what machines did before, and had it not when they were asked for."""
        self._noted &= {it.id for it in events}
        found = [it for it in events if it.id not in self._noted and not it.dry_run]
        self._noted |= {it.id for it in found if is_noted(connection, it.id)}
        return [it for it in found if it.id not in self._noted and complete(connection, it.asked_at_s)]

    def _look_at(
        self, event: Event, step: int, looks: Looks, now_s: int, taken: dict[int, int], found: Found
    ) -> None:
        begins = False
        if event.state is EventState.PLANNED:
            if now_s < event.from_s and now_s < event.until_s:
                self._expect(event, looks, now_s)
                return
            self._expected.pop(event.id, None)
            with self._store.write() as connection:
                event = self._begin(connection, event, looks, now_s)
                step = last_step(connection, event.id)
            if event.ended:
                return
            begins = True
        known = self._remembered(event, step, now_s if begins else 0, now_s)
        asks = self._advance(known, looks, now_s, taken)
        if asks:
            found.asks[event.id] = asks
        progress = progress_of(known.machines.values(), mining(looks), self._drawn_of(known.event))
        status = status_of(known.event, known.machines.values(), progress, known.began_at_s, now_s)
        found.events.append(status)

    def _note_end(self, event_id: int, now_s: int, clock_s: float) -> None:
        """Until when its machines are held, whatever becomes of the books and the wall clock."""
        known = self._known.get(event_id)
        if known is None:
            return
        before = self._held_until.get(event_id)
        if known.event.state is not EventState.RESTORING:
            self._held_until[event_id] = HeldUntil(clock_s + known.event.until_s - now_s)
        elif before is None or not before.restores:
            off = sum(it.state in HELD for it in known.machines.values())
            self._held_until[event_id] = HeldUntil(clock_s + restore_s(off), restores=True)

    def _remembered(self, event: Event, step: int, planned_at_s: int, now_s: int) -> Known:
        """What somebody else has changed is read, and planned for at once."""
        known = self._known.get(event.id)
        if known is None or known.step != step:
            answers, unheld = ({}, set()) if known is None else (known.answers, known.unheld)
            with self._store.read() as connection:
                known = Known(
                    event=event,
                    step=step,
                    machines=machines_of(connection, event.id),
                    began_at_s=began_at_s(connection, event.id),
                    answers=answers,
                    unheld=unheld,
                    begins=planned_at_s == 0 and (known is None or known.begins),
                    planned_at_s=planned_at_s,
                )
            self._known[event.id] = known
        known.event = event
        self._heed_clock(known, now_s)
        return known

    def _heed_clock(self, known: Known, now_s: int) -> None:
        """Waits are told from rows by the wall clock: one that was set back would stretch them by as much."""
        known.planned_at_s = min(known.planned_at_s, now_s)
        last_s = max((max(it.changed_at_s, it.asked_at_s or 0) for it in known.machines.values()), default=0)
        if last_s <= now_s + CLOCK_S:
            return
        event = known.event
        with self._store.write() as connection:
            set_back(connection, event.id, now_s, now_s + event.ramp_s)
            words = f"the clock was set back by {last_s - now_s} s or more: waits begin anew"
            note_step(connection, event.id, event.state.value, words, now_s)
            known.step = last_step(connection, event.id)
            known.machines = machines_of(connection, event.id)
        log.warning("power_event_clock_set_back", number=event.id, seconds=last_s - now_s)

    # Before it begins

    def _expect(self, event: Event, looks: Looks, now_s: int) -> None:
        """Which machines it is likely to ask: orders are delivered without them from now on."""
        made_at_s = min(self._expected.get(event.id, (0, frozenset()))[0], now_s)
        dry_run = self._dry_run or event.dry_run
        if dry_run or now_s < event.from_s - LEAD_S or now_s - made_at_s < HOLDING_REPLAN_S:
            return
        with self._store.read() as connection:
            it, _ = planned(connection, event, looks, now_s)
        self._expected[event.id] = now_s, frozenset(it.workers)

    def _begin(self, connection: Connection, event: Event, looks: Looks, now_s: int) -> Event:
        event = load_event(connection, event.id)
        if event.state is not EventState.PLANNED:
            return event  # somebody has called it off meanwhile
        if now_s >= event.until_s:
            return move_event(connection, event, EventState.CANCELLED, "its time is over", now_s)
        it, site = planned(connection, event, looks, now_s)
        words = f"{it.machines} machines, {it.asked_watts // 1000} kW of {it.before_watts // 1000}"
        if it.unknown_asked:
            words += f", {it.unknown_asked} of unknown power"
        other = Besides(it.other_watts, it.other_by)
        if other.by:
            words += f", {other.words}"
        if it.limit_watts is not None:
            words += f", {limit_words(it.limit_watts)}"
        dry_run = self._dry_run or event.dry_run
        state = MachineState.RELEASED if dry_run else MachineState.PENDING
        chosen = {of.worker: of for of in site}
        rows = [
            row_of(chosen[worker], number, now_s + after_s, event)
            for number, (after_s, workers) in enumerate(it.batches)
            for worker in workers
        ]
        values = {
            "watts_before": it.before_watts,
            "watts_asked": it.asked_watts,
            "dry_run": int(dry_run),  # also where the settings alone say so: no books have such an event
        }
        if dry_run:
            add_machines(connection, event.id, rows, "would be asked", now_s, state)
            words = f"dry run, nothing was sent: {words}"
            return move_event(connection, event, EventState.OVER, words, now_s, **values)
        _take_over(connection, [chosen[worker] for worker in it.workers], event.id, now_s)
        event = move_event(connection, event, EventState.CURTAILING, words, now_s, **values)
        add_machines(connection, event.id, rows, "chosen", now_s)
        self._besides[event.id] = other
        self._paces[event.id] = {worker: chosen[worker].pace for worker in it.workers}
        log.info("power_event_begun", number=event.id, site=event.site, machines=it.machines)
        return event

    # While it goes on

    def _advance(self, known: Known, looks: Looks, now_s: int, taken: dict[int, int]) -> tuple[Ask, ...]:
        event = known.event
        ends = event.state in RUNS and (now_s >= event.until_s or event.restore_asked_at_s is not None)
        if ends:
            event = msgspec.structs.replace(event, state=EventState.RESTORING)

        def others(worker: int) -> bool:
            return taken.get(worker, event.id) != event.id

        it = doing(
            event,
            known.machines,
            looks,
            known.answers,
            now_s,
            paces=self._paces.get(event.id, NO_PACES),
            others=others,
            begins=known.begins,
        )
        if ends:
            # Other events may have these: they are asked before anybody comes back.
            self._ending.add(event.id)
            it = Doing()
        unheld = known.unheld.copy()  # others are told of meanwhile, in the pool's own thread
        for worker in unheld:
            machine = known.machines.get(worker)
            if machine is not None and machine.state is MachineState.CONFIRMED and event.state in RUNS:
                it.again(machine, Action.PAUSE)
        replan = event.state in RUNS and self._is_due(known, it, now_s)
        idle = not (it.changes or it.asked or it.resent)
        if idle and not (ends or replan or _settles(event, known.machines)):
            known.begins = False
            return ()
        with self._store.write() as connection:
            if last_step(connection, event.id) != known.step:
                # Somebody has let machines go since this look began: it is read, and judged anew at the next.
                return ()
            if ends:
                by = event.restore_asked_by
                why = "its time is over" if by is None else f"by {by}"
                event = move_event(connection, known.event, EventState.RESTORING, why, now_s)
            added = replan and self._replan(connection, known, looks, it, now_s)
            made = change_machines(connection, event.id, it.changes, now_s)
            note_asked(connection, event.id, it.asked, now_s)
            note_asked(connection, event.id, it.resent, now_s, more=0)
            machines = machines_of(connection, event.id) if added else _after(known.machines, made, it, now_s)
            drawn = self._drawn_of(event)
            if replan:  # what is asked for now may be less than before
                event = load_event(connection, event.id)
            event = _moved(connection, event, machines, mining(looks), now_s, drawn)
            step = last_step(connection, event.id)
        known.event, known.machines, known.step = event, machines, step
        known.begins = False
        known.unheld -= unheld
        return self._to_send(known, it, made)

    def _to_send(self, known: Known, it: Doing, made: Sequence[Change]) -> tuple[Ask, ...]:
        """Of what was written."""
        written = {change.worker for change in made} | set(it.asked) | set(it.resent)
        asks = tuple(ask for ask in it.asks if ask.worker in written)
        for ask in asks:
            known.answers.pop(ask.worker, None)
        return asks

    def _is_due(self, known: Known, it: Doing, now_s: int) -> bool:
        after = {change.worker: change.after for change in it.changes}
        shed = sum(
            machine.shed_watts
            for machine in known.machines.values()
            if after.get(machine.worker, machine.state) in COUNTED
        )
        shed -= sum(it.watts for it in self._drawn_of(known.event))
        short = shed < (known.event.watts_asked or 0)
        every_s = REPLAN_S if short else HOLDING_REPLAN_S
        others_end = bool((self._ending | self._ended) - {known.event.id})
        return others_end or now_s - known.planned_at_s >= every_s

    def _replan(self, connection: Connection, known: Known, looks: Looks, it: Doing, now_s: int) -> bool:
        """What is missing is added, what is too much comes back: in the same transaction as the rest. Whether
        machines were added."""
        event = known.event
        after = {change.worker: change.after for change in it.changes}
        machines = {
            worker: msgspec.structs.replace(machine, state=after.get(worker, machine.state))
            for worker, machine in known.machines.items()
        }
        hour = self._hour_before(connection, event.site, now_s)
        site = candidates(connection, event.site, now_s, mining(looks), hour)
        drawn_watts = self._look_at_meters(connection, event, machines, now_s)
        other = self._beside_of(connection, event, site, drawn_watts, now_s)
        target = target_of(connection, event, now_s, other)
        found = again(event, machines, site, target, worth_of(connection), now_s, drawn_watts)
        known.planned_at_s = now_s
        if found.needed_watts != event.watts_asked:
            words = ", ".join(it for it in (other.words, limit_words(target.limit_watts)) if it)
            note_plan(connection, event, found.needed_watts, now_s, words)
        changing = {change.worker for change in it.changes}
        room = room_to_wake(known.machines.values(), now_s)
        back = [of for of in found.back if of.worker not in changing][:room]
        wake(it, back, "not needed any more", now_s)
        _take_over(connection, found.more, event.id, now_s)
        began_at_s = now_s if known.began_at_s is None else known.began_at_s
        left_s = max(0, began_at_s + event.ramp_s - now_s)
        first = 1 + max((of.batch for of in known.machines.values()), default=-1)
        by_number = {of.worker: of for of in found.more}
        rows = [
            row_of(by_number[worker], first + number, now_s + after_s, event)
            for number, (after_s, workers) in enumerate(batches(list(by_number), left_s))
            for worker in workers
        ]
        add_machines(connection, event.id, rows, "chosen besides", now_s)
        # Of those that a process of before has chosen, as far as they mined within this hour.
        of_before = {of.worker: of.pace for of in site if of.worker in machines and of.pace.shares}
        chosen = {of.worker: of.pace for of in found.more}
        self._paces[event.id] = of_before | self._paces.get(event.id, {}) | chosen
        return bool(rows)

    def _hour_before(self, connection: Connection, site: str, now_s: int) -> HourBefore:
        """Read once a minute: a target that is not met is planned for three times in one."""
        kept = self._hour
        if kept is None or not kept.is_of(site, now_s):
            kept = self._hour = hour_before(connection, site, now_s)
        return kept

    def _drawn_of(self, event: Event) -> tuple[Drawn, ...]:
        """While machines are to be off."""
        return self._drawn.get(event.id, ()) if event.state in RUNS else ()

    def _look_at_meters(
        self, connection: Connection, event: Event, machines: Mapping[int, EventMachine], now_s: int
    ) -> int:
        """How much those draw that are off by work, as meters before containers have it."""
        span = lately(connection, now_s)
        off = {
            it.worker: Off(it.shed_watts, it.watts_idle)
            for it in machines.values()
            if it.state is MachineState.CONFIRMED and it.off_from_s is not None and it.off_from_s <= span[0]
        }
        found: Sequence[Drawn] = ()
        if off:
            found = drawn_off(connection, event.id, event.site, event.asked_at_s, off, span, now_s)
        before, self._drawn[event.id] = self._drawn.get(event.id, ()), tuple(found)
        if {it.meter for it in found} != {it.meter for it in before}:
            words = words_of(found) or "what is off by work is off by its meters too"
            note_step(connection, event.id, event.state.value, words, now_s)
            log.warning("power_event_drawn", number=event.id, watts=sum(it.watts for it in found))
        return sum(it.watts for it in found)

    def _beside_of(
        self, connection: Connection, event: Event, site: Sequence[Candidate], drawn_watts: int, now_s: int
    ) -> Besides:
        """A meter of the site has the `drawn_watts` too, which are made up for already."""
        if event.target != TargetKind.LIMIT.value:
            return NOTHING
        before = self._besides.get(event.id, NOTHING)
        read = besides(connection, event.site, site, now_s)
        if read is not None and read.by:
            read = msgspec.structs.replace(read, watts=max(read.watts - drawn_watts, 0))
        found = settled(read, before, event.watts_before or 0)
        self._besides[event.id] = found
        return found


def planned(
    connection: Connection, event: Event, looks: Looks | None, now_s: int
) -> tuple[Plan, list[Candidate]]:
    """What the event would do now, and the machines that there are. Raises RegistryError."""
    site = candidates(connection, event.site, now_s, None if looks is None else mining(looks))
    other = besides(connection, event.site, site, now_s) if event.target == TargetKind.LIMIT.value else None
    target: Target = target_of(connection, event, now_s, other or NOTHING)
    return plan(site, target, event.ramp_s, worth_of(connection)), site


def row_of(it: Candidate, batch: int, due_s: int, event: Event) -> dict[str, str | int]:
    """The row of a machine that an event has chosen."""
    from_s, until_s = window(event.asked_at_s)
    return {
        "worker_id": it.worker,
        "batch": batch,
        "due_s": due_s,
        "before_from_s": from_s,
        "before_until_s": until_s,
        "watts_before": it.watts,
        "watts_idle": min(it.idle_watts, it.watts),
        "basis": it.basis,
        "error_bps": it.error_bps,
    }


def _take_over(connection: Connection, chosen: Sequence[Candidate], event_id: int, now_s: int) -> None:
    """From events that were about to let them go."""
    of: dict[int, list[Change]] = {}
    for it in chosen:
        if it.owner is not None:
            change = Change(
                worker=it.worker,
                before=it.owner.state,
                after=MachineState.RELEASED,
                words=f"event {event_id} has it from here on",
                values={"off_until_s": now_s},
            )
            of.setdefault(it.owner.event, []).append(change)
    for owner, changes in of.items():
        change_machines(connection, owner, changes, now_s)


def _moved(
    connection: Connection,
    event: Event,
    machines: dict[int, EventMachine],
    mines: Mines,
    now_s: int,
    drawn: Sequence[Drawn],
) -> Event:
    """The event itself, after its machines."""
    states = [it.state for it in machines.values()]
    open_ones = (MachineState.PENDING, MachineState.ASKED, MachineState.DRIFTED)
    unproven = any(it in open_ones for it in states)
    progress = progress_of(machines.values(), mines, drawn)
    met = progress.met(event)
    if event.state is EventState.CURTAILING and not unproven and met:
        return move_event(connection, event, EventState.HOLDING, progress.words, now_s)
    if event.state is EventState.HOLDING and (unproven or not met):
        return move_event(connection, event, EventState.CURTAILING, "not met any more", now_s)
    if event.state is EventState.RESTORING and all(it in SETTLED for it in states):
        lost = sum(it is MachineState.LOST for it in states)
        words = f"{lost} machines did not come back" if lost else "all are back"
        log.info("power_event_over", number=event.id, lost=lost)
        return move_event(connection, event, EventState.OVER, words, now_s)
    return event


def _settles(event: Event, machines: dict[int, EventMachine]) -> bool:
    return event.state is EventState.RESTORING and all(it.state in SETTLED for it in machines.values())


def _after(
    machines: Mapping[int, EventMachine], made: Sequence[Change], doing: Doing, now_s: int
) -> dict[int, EventMachine]:
    """As the rows are then."""
    found = dict(machines)
    for it in made:
        values = {"state": it.after, "changed_at_s": now_s, **it.values}
        found[it.worker] = msgspec.structs.replace(found[it.worker], **values)
    for more, asked in ((1, doing.asked), (0, doing.resent)):
        for worker in asked:
            before = found[worker]
            found[worker] = msgspec.structs.replace(before, asks=before.asks + more, asked_at_s=now_s)
    return found
