"""What happens to upstreams and orders, for the reports: told at once, written when it can be.

Must not know: what the events mean.
"""

import time
from typing import Final

import structlog
import trio

from pool.hub import Hub, HubAway, RouteEvent

log = structlog.get_logger()

# Waiting for the books. An upstream that comes and goes makes two a second at the very most.
EVENTS_WAITING_MAX: Final = 1_000


class RouteEvents:
    """One that cannot be written is in the log, and not tried again."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._to_write, self._told = trio.open_memory_channel[RouteEvent](EVENTS_WAITING_MAX)

    def tell(self, upstream_id: int, order_id: int | None, event: str, words: str, sessions: int) -> None:
        """It has happened now, to so many sessions."""
        it = RouteEvent(
            at_s=int(time.time()),
            upstream_id=upstream_id,
            order_id=order_id,
            event=event,
            words=words,
            sessions=sessions,
        )
        try:
            self._to_write.send_nowait(it)
        except trio.WouldBlock:
            log.error(
                "route_event_not_noted", reason="too many wait", upstream=upstream_id, route_event=event
            )

    async def run(self) -> None:
        """Write them, until cancelled."""
        async for event in self._told:
            try:
                await self._hub.note_event(event)
            except HubAway as error:
                log.error(
                    "route_event_not_noted",
                    reason=str(error),
                    upstream=event.upstream_id,
                    order=event.order_id,
                    route_event=event.event,
                    words=event.words,
                    sessions=event.sessions,
                )
