"""Events as rows: what was asked for, by whom, and how far it is.

Functions on a connection inside the caller's transaction, which for changes must be the only writer. An event
is one (source, reference): whoever asks twice has asked once. What its machines did before is written when it
is asked for, or as soon as the books have it (`baseline`). It ends at its own time, whatever becomes of who
asked for it.

Invariants: a state follows another as `states` allows, and leaves a step; steps are numbered without gaps.
Must not know: how machines are chosen and told, commands.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, func, insert, select, update

from payouts.schemas.money import sites
from pool.fleet.registry_error import RegistryError
from pool.power.curtailment.baseline import note_work
from pool.power.curtailment.durations import USUAL, Durations
from pool.power.curtailment.schema import SOURCES, TARGETS, power_event_steps, power_events
from pool.power.curtailment.states import ENDED, EventState, check_event

RAMP_S_MAX: Final = 4 * 3_600
BEGINS_MAX_S: Final = 253_402_300_799  # the last second of the year 9999
WATTS_MAX: Final = 10**13  # ten times the power of all sites there are
PRICE_MSAT_MAX: Final = 10**12  # of a kWh: 10 BTC
BPS: Final = 10_000
REFERENCE_CHARS_MAX: Final = 127
WORDS_CHARS_MAX: Final = 200
OPEN_MAX: Final = 256  # events that are not over: each source may have 64
# What may be asked for by each target.
VALUES: Final[dict[str, range | None]] = {
    "limit": range(WATTS_MAX + 1),
    "share": range(1, BPS + 1),
    "everything": None,
    "break_even": range(PRICE_MSAT_MAX + 1),
}
IN_WORDS: Final = {
    "limit": f"a limit is 0 to {WATTS_MAX // 1_000} kW",
    "share": "a share is 0.01 to 100 percent",
    "everything": "everything is asked for without a figure",
    "break_even": f"a kWh is worth 0 to {PRICE_MSAT_MAX // 1_000} satoshi",
}


class NewEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for. `target_value`: W of a limit, bps of a share, millisatoshi of a kWh (or None: the
    tariff's). `until_s` None: for as long as is usual by `durations`. Raises ValueError for what cannot
    be."""

    source: str
    reference: str
    target: str
    target_value: int | None = None
    site: str = ""  # all of them
    from_s: int
    until_s: int | None = None
    ramp_s: int
    dry_run: bool = False
    durations: Durations = USUAL

    def __post_init__(self) -> None:
        if self.source not in SOURCES or self.target not in TARGETS:
            raise ValueError(f"there is no source {self.source!r:.40}, or no target {self.target!r:.40}")
        if not 1 <= len(self.reference) <= REFERENCE_CHARS_MAX or not self.reference.isprintable():
            raise ValueError(f"a reference has 1 to {REFERENCE_CHARS_MAX} printable characters")
        allowed, value = VALUES[self.target], self.target_value
        if self.target == "break_even" and value is None:
            allowed = None
        if (value is None) != (allowed is None) or (allowed is not None and value not in allowed):
            raise ValueError(IN_WORDS[self.target])
        if not 0 <= self.ramp_s <= RAMP_S_MAX:
            raise ValueError(f"a ramp is 0 to {RAMP_S_MAX} s")
        if not 0 <= self.from_s <= BEGINS_MAX_S:
            raise ValueError("an event begins after 1970, and before the year 10000")
        self.durations.check(self.from_s, self.ends_s)

    @property
    def ends_s(self) -> int:
        return self.from_s + self.durations.usual_s if self.until_s is None else self.until_s


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One, as the books have it."""

    id: int
    site: str
    target: str
    target_value: int | None
    source: str
    reference: str
    state: EventState
    dry_run: bool
    asked_at_s: int
    asked_by: str
    from_s: int
    until_s: int
    ramp_s: int
    watts_before: int | None
    watts_asked: int | None
    restore_asked_at_s: int | None
    restore_asked_by: str | None
    ended_at_s: int | None
    note: str | None

    @property
    def ended(self) -> bool:
        return self.state in ENDED


def add_event(connection: Connection, new: NewEvent, *, by: str, now_s: int) -> tuple[Event, bool]:
    """Ask for it; whether it is a new one. Raises RegistryError, also where that reference is of another."""
    known = find_event(connection, new.source, new.reference)
    if known is not None:
        if _asked(known) != (new.site, new.target, new.target_value, new.from_s, new.ends_s, new.ramp_s):
            raise RegistryError(f"{new.source} {new.reference} was asked for before, and was another event")
        return known, False
    check_site(connection, new.site)
    if new.ends_s <= now_s:
        raise RegistryError("the event would be over already")
    if len(open_events(connection)) >= OPEN_MAX:
        raise RegistryError(f"there are {OPEN_MAX} events that are not over already")
    row = insert(power_events).values(
        site=new.site,
        target=new.target,
        target_value=new.target_value,
        source=new.source,
        reference=new.reference,
        state=EventState.PLANNED.value,
        dry_run=int(new.dry_run),
        asked_at_s=now_s,
        asked_by=by,
        from_s=new.from_s,
        until_s=new.ends_s,
        ramp_s=new.ramp_s,
    )
    number = int(connection.execute(row.returning(power_events.c.id)).scalar_one())
    note_step(connection, number, EventState.PLANNED.value, f"asked for by {by}", now_s)
    if not new.dry_run:
        note_work(connection, number, new.site, now_s, now_s)
    return load_event(connection, number), True


def amend_event(
    connection: Connection,
    event: Event,
    *,
    target_value: int | None,
    until_s: int,
    by: str,
    now_s: int,
    durations: Durations = USUAL,
) -> Event:
    """Another figure, or another end, of one that goes on: it is planned anew. Raises RegistryError."""
    if event.ended or event.state is EventState.RESTORING:
        raise RegistryError(f"event {event.id} is {event.state}, and changes no more")
    changed = msgspec.structs.asdict(event)
    wanted = ("source", "reference", "target", "site", "from_s", "ramp_s")
    if until_s == event.until_s:  # what it was given it keeps, whatever the settings are by now
        durations = Durations(least_s=0, longest_s=until_s - event.from_s)
    try:
        NewEvent(
            **{it: changed[it] for it in wanted},
            target_value=target_value,
            until_s=until_s,
            durations=durations,
        )
    except ValueError as error:
        raise RegistryError(str(error)) from None
    values = {"target_value": target_value, "until_s": until_s}
    connection.execute(update(power_events).where(power_events.c.id == event.id).values(values))
    words = f"changed by {by}: {target_value}, until {until_s}"
    note_step(connection, event.id, event.state.value, words, now_s)
    return load_event(connection, event.id)


def end_event(connection: Connection, event: Event, *, by: str, words: str, now_s: int) -> Event:
    """Its machines are to mine again; one that has not begun is cancelled; of one that ends already nothing
    changes."""
    if event.state is EventState.PLANNED:
        asked = {"restore_asked_at_s": now_s, "restore_asked_by": by}
        return move_event(connection, event, EventState.CANCELLED, f"by {by}: {words}", now_s, **asked)
    if not event.ended and event.restore_asked_at_s is None:
        values = {"restore_asked_at_s": now_s, "restore_asked_by": by}
        connection.execute(update(power_events).where(power_events.c.id == event.id).values(values))
        note_step(connection, event.id, event.state.value, f"to be restored, by {by}: {words}", now_s)
    return load_event(connection, event.id)


def move_event(
    connection: Connection, event: Event, after: EventState, words: str, now_s: int, **values: Any
) -> Event:
    """Let it be in another state, with what else is known of it from then on."""
    check_event(event.state, after)
    if after in ENDED:
        values["ended_at_s"] = now_s
    values["state"] = after.value
    connection.execute(update(power_events).where(power_events.c.id == event.id).values(values))
    note_step(connection, event.id, after.value, words, now_s)
    return load_event(connection, event.id)


def note_step(
    connection: Connection, event_id: int, state: str, words: str, now_s: int, worker_id: int | None = None
) -> None:
    """One line of what happened."""
    row = {"worker_id": worker_id, "state": state, "words": words[:WORDS_CHARS_MAX], "at_s": now_s}
    note_steps(connection, event_id, [row])


def note_steps(connection: Connection, event_id: int, rows: Sequence[dict[str, Any]]) -> None:
    """Several, in their order."""
    step = last_step(connection, event_id)
    numbered = [{"event_id": event_id, "step": step + at} | row for at, row in enumerate(rows, 1)]
    if numbered:
        connection.execute(insert(power_event_steps), numbered)


def last_step(connection: Connection, event_id: int) -> int:
    """The number of its newest step: another one whenever anything of it is another."""
    highest = select(func.max(power_event_steps.c.step)).where(power_event_steps.c.event_id == event_id)
    return int(connection.scalar(highest) or 0)


def last_steps(connection: Connection, event_ids: Sequence[int]) -> dict[int, int]:
    """The same of several."""
    if not event_ids:
        return {}
    it = power_event_steps.c
    query = select(it.event_id, func.max(it.step).label("step")).where(it.event_id.in_(event_ids))
    return {row.event_id: row.step for row in connection.execute(query.group_by(it.event_id))}


def note_plan(connection: Connection, event: Event, watts: int, now_s: int, more: str = "") -> None:
    """Planned anew: so much less is asked for now; by what else, in words."""
    connection.execute(update(power_events).where(power_events.c.id == event.id).values(watts_asked=watts))
    before = (event.watts_asked or 0) // 1000
    words = f"planned anew: {watts // 1000} kW, before {before}" + (more and f"; {more}")
    if before != watts // 1000:
        note_step(connection, event.id, event.state.value, words, now_s)


def began_at_s(connection: Connection, event_id: int) -> int | None:
    """When its first machine was chosen; None: not yet."""
    it = power_event_steps.c
    first = select(func.min(it.at_s)).where(it.event_id == event_id, it.worker_id.is_(None))
    found = connection.scalar(first.where(it.state == EventState.CURTAILING.value))
    return None if found is None else int(found)


def load_event(connection: Connection, number: int) -> Event:
    """Raises RegistryError for an unknown number."""
    row = connection.execute(select(power_events).where(power_events.c.id == number)).one_or_none()
    if row is None:
        raise RegistryError(f"there is no event {number}")
    return _event(row)


def find_event(connection: Connection, source: str, reference: str) -> Event | None:
    """The one that this source calls so."""
    of = (power_events.c.source == source) & (power_events.c.reference == reference)
    row = connection.execute(select(power_events).where(of)).one_or_none()
    return None if row is None else _event(row)


def open_events(connection: Connection) -> list[Event]:
    """All that are not over, by number."""
    return [_event(row) for row in connection.execute(_OPEN)]


def events_of(connection: Connection, source: str, since_s: int) -> list[Event]:
    """Of one source: all that are not over, and those that were asked for, or ended, since then."""
    it = power_events.c
    lately = it.state.not_in([state.value for state in ENDED]) | (it.asked_at_s >= since_s)
    query = select(power_events).where(it.source == source, lately | (it.ended_at_s >= since_s))
    return [_event(row) for row in connection.execute(query.order_by(it.id))]


def all_events(connection: Connection) -> list[Event]:
    """All there ever were, by number."""
    return [_event(row) for row in connection.execute(select(power_events).order_by(power_events.c.id))]


def check_site(connection: Connection, name: str) -> None:
    """Raises RegistryError for a site that nobody has named; the empty name is all of them."""
    if name and connection.scalar(select(sites.c.id).where(sites.c.name == name)) is None:
        raise RegistryError(f"there is no site {name!r:.80}")


def _asked(it: Event) -> tuple[str, str, int | None, int, int, int]:
    return it.site, it.target, it.target_value, it.from_s, it.until_s, it.ramp_s


def _event(row: Row[Any]) -> Event:
    fields = dict(row._mapping)
    return Event(
        **fields | {"state": EventState(fields["state"]), "dry_run": bool(fields["dry_run"])},
    )


# Built once: it is asked every few seconds, for years.
_OPEN: Final = (
    select(power_events)
    .where(power_events.c.state.not_in([it.value for it in ENDED]))
    .order_by(power_events.c.id)
)
