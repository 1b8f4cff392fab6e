"""What happens to upstreams and orders, for the reports: told at once, written when it can be.

Must not know: what the events mean.
"""

import time
from functools import partial
from typing import Final

import structlog
import trio

from pool.books.store import DATABASE_ERRORS, Store, words_of
from pool.orders.rows import note_event

log = structlog.get_logger()

# Waiting for the database. An upstream that comes and goes makes two a second at the very most.
EVENTS_WAITING_MAX: Final = 1_000

Event = tuple[int, int, int | None, str, str, int]


class RouteEvents:
    """One that cannot be written is in the log, and not tried again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._to_write, self._told = trio.open_memory_channel[Event](EVENTS_WAITING_MAX)

    def tell(self, upstream_id: int, order_id: int | None, event: str, words: str, sessions: int) -> None:
        """It has happened now, to so many sessions."""
        try:
            self._to_write.send_nowait((int(time.time()), upstream_id, order_id, event, words, sessions))
        except trio.WouldBlock:
            log.error(
                "route_event_not_noted", reason="too many wait", upstream=upstream_id, route_event=event
            )

    async def run(self) -> None:
        """Write them, until cancelled."""
        async for event in self._told:
            try:
                await trio.to_thread.run_sync(partial(self._write, event))
            except DATABASE_ERRORS as error:
                _, upstream, order, name, words, sessions = event
                log.error(
                    "route_event_not_noted",
                    reason=words_of(error),
                    upstream=upstream,
                    order=order,
                    route_event=name,
                    words=words,
                    sessions=sessions,
                )

    def _write(self, event: Event) -> None:
        with self._store.write() as connection:
            note_event(connection, *event)
