"""What signals ask for, as events in the books: pool.power.signals.intake.Asks.

Of an event another figure or another end is the same event. One that is to be at another site, of another
kind or to begin at another time ends, and the next one has its reference with ~2: for whoever called it is
the same still.

Must not know: who may ask for what.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec
from sqlalchemy import func, select

from pool.books.store import Store
from pool.fleet.registry_error import RegistryError
from pool.power.curtailment import asking
from pool.power.curtailment.durations import Durations
from pool.power.curtailment.events import Event, NewEvent, add_event, end_event
from pool.power.curtailment.schema import power_event_machines, power_events
from pool.power.curtailment.states import MachineState
from pool.power.signals.bounds import Standing
from pool.power.signals.call import Called
from pool.power.signals.intake import NotAsked

NEXT: Final = "~"  # which no caller's reference has


class EventBooks:
    """`dry_run`: machines are told nothing."""

    def __init__(
        self, store: Store, *, dry_run: bool, durations: Durations, wall_clock: Callable[[], float]
    ) -> None:
        self._store, self._dry_run, self._wall_clock = store, dry_run, wall_clock
        self._durations = durations

    def standing(self, source: str, since_s: int) -> Sequence[Standing]:
        found: dict[str, Standing] = {}
        for it in asking.standing(self._store, source, since_s):
            called = _called(it)
            if called.reference in found:  # which this one follows
                last = found[called.reference]
                renamed = msgspec.structs.replace(last.called, reference=f"{called.reference}{NEXT}{it.id}")
                found[renamed.reference] = msgspec.structs.replace(
                    last, called=renamed, over=True, replaced=True
                )
            found[called.reference] = Standing(
                called=called,
                over=it.ended or it.restore_asked_at_s is not None or it.until_s <= self._now_s,
                asked_at_s=it.asked_at_s,
                until_s=min(it.until_s, it.ended_at_s or it.until_s, it.restore_asked_at_s or it.until_s),
                dropped=it.restore_asked_by == source,
            )
        return list(found.values())

    def ask(self, source: str, called: Called) -> None:
        with _in_words():
            asking.ask(self._store, self._new(source, called), by=source, now_s=self._now_s)

    def change(self, source: str, called: Called) -> None:
        with _in_words():
            last = self._last(source, called.reference)
            if _begins(called) == _begins(_called(last)):
                asking.change(
                    self._store,
                    source,
                    last.reference,
                    target_value=called.target_value,
                    until_s=called.until_s,
                    by=source,
                    now_s=self._now_s,
                    durations=self._durations,
                )
                return
            base, _, count = last.reference.partition(NEXT)
            new = self._new(source, called, f"{base}{NEXT}{int(count or 1) + 1}")
            with self._store.write() as connection:
                words = f"{new.reference} in its place"
                end_event(connection, last, by=source, words=words, now_s=self._now_s)
                add_event(connection, new, by=source, now_s=self._now_s)

    def restore(self, source: str, reference: str, words: str) -> None:
        with _in_words():
            last = self._last(source, reference)
            asking.restore(self._store, source, last.reference, by=source, words=words, now_s=self._now_s)

    def shed_watts(self, source: str) -> int:
        """What machines draw less that are known to be off by a source's events."""
        it, of = power_event_machines.c, power_events.c
        query = (
            select(func.sum(it.watts_before - it.watts_idle))
            .join(power_events, of.id == it.event_id)
            .where(of.source == source, it.state == MachineState.CONFIRMED.value)
        )
        with self._store.read() as connection:
            return int(connection.scalar(query) or 0)

    @property
    def _now_s(self) -> int:
        return int(self._wall_clock())

    def _last(self, source: str, reference: str) -> Event:
        """The newest of that name that goes on. Raises RegistryError."""
        going = [
            it
            for it in asking.standing(self._store, source, self._now_s)
            if it.reference.partition(NEXT)[0] == reference
        ]
        if not going:
            raise RegistryError(f"{source} has asked for no {reference}")
        return going[-1]

    def _new(self, source: str, called: Called, reference: str | None = None) -> NewEvent:
        return NewEvent(
            source=source,
            reference=reference or called.reference,
            target=called.target,
            target_value=called.target_value,
            site=called.site,
            from_s=called.from_s,
            until_s=called.until_s,
            ramp_s=called.ramp_s,
            dry_run=self._dry_run,
            durations=self._durations,
        )


def _called(it: Event) -> Called:
    return Called(
        reference=it.reference.partition(NEXT)[0],
        site=it.site,
        target=it.target,
        target_value=it.target_value,
        from_s=it.from_s,
        until_s=it.until_s,
        ramp_s=it.ramp_s,
    )


def _begins(it: Called) -> tuple[str, str, int, int]:
    """What another event has another one of."""
    return it.site, it.target, it.from_s, it.ramp_s


@contextmanager
def _in_words() -> Iterator[None]:
    """Raises NotAsked where an event cannot be."""
    try:
        yield
    except (RegistryError, ValueError) as error:
        raise NotAsked(str(error)) from None
