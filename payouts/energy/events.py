"""A curtailment that is over, in the books: what was asked and by whom, what each tenant's machines did not
draw, and what that work would have been paid.

A machine counts as off by its accepted shares alone. What it did before, and when it was off, is what the
event has written down; what it mined meanwhile is in the tallies. One that was never off sheds nothing and
forgoes nothing, whatever it answered.

Invariants: an event is booked once, when it is over for BOOKED_AFTER_S: shares that are late are in by then;
what is booked never changes. Must not know: how machines are told, and what a signal is.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Final

import msgspec
from sqlalchemy import Connection, insert, select

from payouts.book_time import book_time
from payouts.energy.elsewhere import done_elsewhere
from payouts.energy.forgone import Forgone, Mined, Off, Prices, accrues, forgone
from payouts.energy.hours import GRACE_S
from payouts.ratebook import price_of
from payouts.rates import BPS, floor_to_psat
from payouts.schemas.energy import booked_event_parts, booked_events
from payouts.schemas.many import among
from payouts.schemas.money import rates, tally_hours, tally_minutes
from payouts.tallies import ACCEPTED

BOOKED_AFTER_S: Final = GRACE_S


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A curtailment that is over. `watts_metered` is by how much less a meter was given, where there is
    one."""

    event_id: int
    site: str
    source: str
    reference: str
    asked_by: str
    from_s: int
    ended_at_s: int
    watts_asked: int | None
    watts_metered: int | None = None


class EventMachine(msgspec.Struct, frozen=True, kw_only=True):
    """One of its machines. It was off from `off_from_s`, its last accepted share, and not before it was
    asked, until `off_until_s`, which is the first share after where it `came_back`; None: it was not, or
    still is. What it did `before` it did up to `before_until_s`; None: nobody knows when. `saved_bps` of what
    it saves by its work it saved, as a meter before it has it: the rest it drew, and did not forgo."""

    worker_id: int
    tenant_id: int
    before_s: int
    before: dict[int, int]
    watts_before: int
    watts_idle: int
    off_from_s: int | None = None
    off_until_s: int | None = None
    came_back: bool = True
    before_until_s: int | None = None
    saved_bps: int = BPS


class EventPart(msgspec.Struct, frozen=True, kw_only=True):
    """What is booked of a tenant's machines."""

    tenant_id: int
    machines: int
    machines_off: int
    off_s: int
    watts_shed: int
    joules_shed: int
    difficulty: int
    forgone_sat: int
    forgone_psat: int
    error_sat: int


class EventBooks(msgspec.Struct, frozen=True):
    """All that is booked of an event."""

    event: Event
    parts: tuple[EventPart, ...]


class _Sum:
    """A tenant's machines, while they are read."""

    def __init__(self) -> None:
        self.machines = self.machines_off = self.watts = 0
        self.joules = Fraction(0)
        self.forgone = Forgone()

    def add(self, machine: EventMachine, found: Forgone | None) -> None:
        self.machines += 1
        if found is None or not found.off_s:
            return
        kept = Fraction(machine.saved_bps, BPS)
        saved = int(max(machine.watts_before - machine.watts_idle, 0) * kept)
        self.machines_off += 1
        self.watts += saved
        self.joules += saved * found.off_s
        self.forgone = self.forgone.plus(
            msgspec.structs.replace(found, difficulty=found.difficulty * kept, sat=found.sat * kept)
        )

    def less(self, difficulty: Fraction) -> None:
        """What was done under other names these did not forgo: it is less in proportion, and so is what they
        did not draw."""
        if difficulty <= 0 or not self.forgone.difficulty:
            return
        kept = max(1 - difficulty / self.forgone.difficulty, Fraction(0))
        self.watts = int(self.watts * kept)
        self.joules *= kept
        self.forgone = msgspec.structs.replace(
            self.forgone, difficulty=self.forgone.difficulty * kept, sat=self.forgone.sat * kept
        )

    def part(self, tenant_id: int) -> EventPart:
        amount = floor_to_psat(self.forgone.sat)
        return EventPart(
            tenant_id=tenant_id,
            machines=self.machines,
            machines_off=self.machines_off,
            off_s=int(self.forgone.off_s),
            watts_shed=self.watts,
            joules_shed=int(self.joules),
            difficulty=int(self.forgone.difficulty),
            forgone_sat=amount.sat,
            forgone_psat=amount.carry_psat,
            error_sat=self.forgone.error_sat,
        )


def books_of(connection: Connection, event: Event, machines: Sequence[EventMachine]) -> EventBooks:
    """What is to be booked of an event that is over; reads only, and may take a second for a whole site."""
    windows = {it.worker_id: window for it in machines if (window := _window(event, it)) is not None}
    mined = _mined(connection, event, windows)
    sums: dict[int, _Sum] = defaultdict(_Sum)
    prices: dict[int, Prices] = {}
    for it in machines:
        if it.tenant_id not in prices:
            prices[it.tenant_id] = _prices(connection, it.tenant_id, event)
        found = None
        if (window := windows.get(it.worker_id)) is not None:
            from_s, until_s, marked = window
            off = Off(
                before_s=it.before_s,
                before=it.before,
                from_s=from_s,
                until_s=until_s,
                marked=marked,
            )
            found = forgone(off, prices[it.tenant_id], mined.get(it.worker_id, ()))
        sums[it.tenant_id].add(it, found)
    for tenant_id, one in sums.items():
        its = [it for it in machines if it.tenant_id == tenant_id and it.worker_id in windows]
        one.less(_elsewhere(connection, event, tenant_id, its))
    return EventBooks(event, tuple(one.part(tenant_id) for tenant_id, one in sorted(sums.items())))


def book_event(connection: Connection, books: EventBooks, now_s: int) -> bool:
    """Book it, once. Whether it was booked now."""
    if is_booked(connection, books.event.event_id):
        return False
    booked_at_s = book_time(connection, now_s)
    connection.execute(
        insert(booked_events).values(**msgspec.structs.asdict(books.event), booked_at_s=booked_at_s)
    )
    if books.parts:
        rows = [msgspec.structs.asdict(it) | {"event_id": books.event.event_id} for it in books.parts]
        connection.execute(insert(booked_event_parts), rows)
    return True


def is_booked(connection: Connection, event_id: int) -> bool:
    found = select(booked_events.c.event_id).where(booked_events.c.event_id == event_id)
    return connection.scalar(found) is not None


def unbooked(connection: Connection, event_ids: Iterable[int]) -> list[int]:
    """Of these events those that are not booked yet."""
    ids = list(event_ids)
    booked = connection.scalars(
        select(booked_events.c.event_id).where(among(connection, booked_events.c.event_id, ids))
    )
    return sorted(set(ids) - set(booked))


def _window(event: Event, it: EventMachine) -> tuple[int, int, int] | None:
    """From when until when it was off, within the event, and how many of these ends a share marks."""
    if it.off_from_s is None:
        return None
    from_s, until_s, marked = max(it.off_from_s, event.from_s), event.ended_at_s, 0
    if it.off_until_s is not None and it.off_until_s <= event.ended_at_s:
        until_s, marked = it.off_until_s, int(it.came_back)
    return (from_s, until_s, marked) if until_s > from_s else None


def _elsewhere(connection: Connection, event: Event, tenant_id: int, off: Sequence[EventMachine]) -> Fraction:
    """All machines of an event have the same window before it."""
    known = next((it for it in off if it.before_until_s is not None), None)
    if known is None or known.before_until_s is None:
        return Fraction(0)
    before = (known.before_until_s - known.before_s, known.before_until_s)
    during = (event.from_s, event.ended_at_s)
    return done_elsewhere(connection, tenant_id, {it.worker_id for it in off}, before, during)


def _prices(connection: Connection, tenant_id: int, event: Event) -> Prices:
    """The pool's own prices of the tenant's work while the event lasted; where it has none, those of whoever
    has."""
    of = rates.c
    own = (of.upstream_id.is_(None), of.order_id.is_(None), of.created_at_s < event.ended_at_s)
    for whose in ((of.tenant_id == tenant_id,), ()):
        rows = connection.execute(select(rates).where(*own, *whose).order_by(of.id)).all()
        known = [(row.created_at_s, accrues(price_of(row))) for row in rows]
        before = [it for it in known if it[0] <= event.from_s][-1:]
        if found := before + [it for it in known if it[0] > event.from_s]:
            return found
    return ()


def _mined(
    connection: Connection, event: Event, windows: dict[int, tuple[int, int, int]]
) -> dict[int, list[Mined]]:
    """Accepted shares within the windows, by machine. Of an hour that has grown old it is known which minutes
    had some, and not how many each: they are spread over those evenly."""
    found: dict[int, list[Mined]] = defaultdict(list)
    if not windows:
        return found
    ids, first, last = sorted(windows), event.from_s // 60, event.ended_at_s // 60
    of = tally_minutes.c
    for row in connection.execute(
        select(of.worker_id, of.minute, of.difficulty_log2, of.shares).where(
            of.minute.between(first, last), of.verdict == ACCEPTED, among(connection, of.worker_id, ids)
        )
    ):
        if _within(row.minute, windows[row.worker_id]):
            at_s, shares = row.minute * 60, Fraction(row.shares)
            found[row.worker_id].append(Mined(at_s, row.difficulty_log2, shares))
    old = tally_hours.c
    for hour in connection.execute(
        select(old.worker_id, old.hour, old.difficulty_log2, old.shares, old.minutes).where(
            among(connection, old.worker_id, ids),
            old.hour.between(first // 60, last // 60),
            old.verdict == ACCEPTED,
        )
    ):
        minutes = [hour.hour * 60 + bit for bit in range(60) if hour.minutes >> bit & 1]
        inside = [minute for minute in minutes if _within(minute, windows[hour.worker_id])]
        for minute in inside:
            shares = Fraction(hour.shares, len(minutes))
            found[hour.worker_id].append(Mined(minute * 60, hour.difficulty_log2, shares))
    return found


def _within(minute: int, window: tuple[int, int, int]) -> bool:
    """Whole minutes: the shares that mark the ends are of the minutes at the ends."""
    return window[0] < minute * 60 and (minute + 1) * 60 <= window[1]
