"""How an event is asked for, changed and ended by whoever is no person: the one way in for signals.

    ask(store, NewEvent(source="webhook", reference="grid-0412", target="limit", target_value=6_000_000,
                        from_s=..., until_s=..., ramp_s=600), by="webhook", now_s=...)   the event, asked once
    change(store, "webhook", "grid-0412", target_value=..., until_s=..., by=..., now_s=...)
    restore(store, "webhook", "grid-0412", by="webhook", words="...", now_s=...)
    standing(store, "webhook", since_s)                  open ones, and those asked for or ended since then

A pool that runs finds them within seconds, one that does not when it starts; nobody has to be told. All of it
blocks (call it from a worker thread), raises RegistryError in words, and DATABASE_ERRORS. Must not know: who
may ask for what.
"""

from pool.books.store import Store
from pool.fleet.registry_error import RegistryError
from pool.power.curtailment.durations import USUAL, Durations
from pool.power.curtailment.events import (
    Event,
    NewEvent,
    add_event,
    amend_event,
    end_event,
    events_of,
    find_event,
)


def ask(store: Store, new: NewEvent, *, by: str, now_s: int) -> Event:
    """The event of that source and reference, which is there from now on; the same again is the same."""
    with store.write() as connection:
        event, _ = add_event(connection, new, by=by, now_s=now_s)
        return event


def change(
    store: Store,
    source: str,
    reference: str,
    *,
    target_value: int | None,
    until_s: int,
    by: str,
    now_s: int,
    durations: Durations = USUAL,
) -> Event:
    """Another figure, or another end, of one that goes on."""
    with store.write() as connection:
        known = find_event(connection, source, reference)
        if known is None:
            raise RegistryError(f"{source} has asked for no {reference!r:.80}")
        return amend_event(
            connection,
            known,
            target_value=target_value,
            until_s=until_s,
            by=by,
            now_s=now_s,
            durations=durations,
        )


def restore(store: Store, source: str, reference: str, *, by: str, words: str, now_s: int) -> Event:
    """It is over, or never begins; of one that ends already nothing changes."""
    with store.write() as connection:
        known = find_event(connection, source, reference)
        if known is None:
            raise RegistryError(f"{source} has asked for no {reference!r:.80}")
        return end_event(connection, known, by=by, words=words, now_s=now_s)


def standing(store: Store, source: str, since_s: int) -> list[Event]:
    """Of one source: all that are not over, and those that were asked for, or ended, since then."""
    with store.read() as connection:
        return events_of(connection, source, since_s)
