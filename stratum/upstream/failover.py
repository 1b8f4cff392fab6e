"""Which endpoint of an upstream serves: attempts in order, and the way back to the first.

What is due is tried together, each a moment after the one before, so that an endpoint that swallows packets
costs that moment and not its time-out. The first with a job wins; the others are let go.

Invariants: at most one attempt an endpoint; what fails is logged when its reason is a new one.
Must not know: shares, who mines.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import structlog
import trio

from stratum.upstream.connection import Connect, Fault, LinkLimits, UpstreamLink
from stratum.upstream.endpoint_state import BackOff, Place, PlaceState
from stratum.upstream.events import UpstreamEvent
from stratum.upstream.extranonce_split import ExtranonceNeed
from stratum.upstream.session import UpstreamSession

log = structlog.get_logger()

# Of this process: job ids mean nothing on another connection, of whatever search.
_CONNECTIONS: Final = itertools.count(1)

RECONNECT_PATIENCE_S: Final = 3.0  # a pool that wants us back this soon keeps its miners waiting for it


class UpstreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How to deal with an upstream. `name` is for log lines."""

    name: str = ""
    need: ExtranonceNeed = ExtranonceNeed()
    suggest_difficulty: int | float | None = None
    link: LinkLimits = LinkLimits()
    back_off: BackOff = BackOff()
    stagger_s: float = 1.5  # between the starts of two attempts: a handshake around the world
    return_after_s: float = 60.0  # that an endpoint further up must be healthy before it serves again
    drain_s: float = 5.0  # routine jobs reach every miner in as much
    resubmit_s: float = 60.0  # the usual life of a job


class UpstreamSearch:
    """`on_event` gets the events of every connection. `spare` is one to an endpoint further up, on trial."""

    def __init__(
        self,
        *,
        settings: UpstreamSettings,
        places: Sequence[Place],
        connect: Connect,
        on_event: Callable[[UpstreamLink, UpstreamEvent], None],
    ) -> None:
        self.places = places
        self.spare: UpstreamLink | None = None
        self._settings = settings
        self._connect = connect
        self._on_event = on_event
        self._news = trio.Event()  # replaced each time that a connection ends
        self._log = log.bind(upstream=settings.name)

    async def seek(self, nursery: trio.Nursery, lost: UpstreamLink | None = None) -> UpstreamLink:
        """A connection that is up, however long it takes; it goes on in `nursery`. `lost` was the last."""
        spare, self.spare = self.spare, None
        if spare is not None:
            if spare.up:
                return spare
            spare.end(Fault.ENDED, "overtaken")
        if lost is not None and lost.failure is not None and lost.failure.fault is Fault.RECONNECT:
            back_at_s = self.place_of(lost).not_before_s
            if back_at_s - trio.current_time() <= RECONNECT_PATIENCE_S:
                await trio.sleep_until(back_at_s)
        while True:
            due = [place for place in self.places if place.not_before_s <= trio.current_time()]
            winner = await self._race(due, nursery) if due else None
            if winner is not None:
                return winner
            await trio.sleep_until(min(place.not_before_s for place in self.places))

    async def better_than(self, link: UpstreamLink, nursery: trio.Nursery) -> UpstreamLink:
        """A connection to an endpoint before that of `link` that has been up for a while."""
        better = self.places[: self.places.index(self.place_of(link))]
        if not better:
            await trio.sleep_forever()
        while True:
            await trio.sleep_until(min(place.not_before_s for place in better))
            for place in better:
                if place.not_before_s > trio.current_time():
                    continue
                self.spare = spare = self._start(place, nursery)
                await spare.decided.wait()
                with trio.move_on_after(self._settings.return_after_s):
                    await spare.lost.wait()
                if spare.up:
                    self.spare = None
                    return spare

    def place_of(self, link: UpstreamLink) -> Place:
        """What is known of the endpoint of a connection."""
        return next(place for place in self.places if place.endpoint is link.endpoint)

    async def _race(self, due: Sequence[Place], nursery: trio.Nursery) -> UpstreamLink | None:
        started: list[UpstreamLink] = []
        winner: UpstreamLink | None = None
        try:
            for place in due:
                started.append(self._start(place, nursery))
                with trio.move_on_after(self._settings.stagger_s):
                    winner = await self._first_up(started)
                if winner is not None:
                    return winner
            winner = await self._first_up(started)
            return winner
        finally:
            for link in started:
                if link is not winner:
                    link.end(Fault.ENDED, "another endpoint was quicker")

    async def _first_up(self, started: Sequence[UpstreamLink]) -> UpstreamLink | None:
        """The first in order that is up, as soon as there is one; None when all have failed."""
        while True:
            for link in started:
                if link.up:
                    return link
            if all(link.lost.is_set() for link in started):
                return None
            await self._news.wait()

    def _start(self, place: Place, nursery: trio.Nursery) -> UpstreamLink:
        number = next(_CONNECTIONS)
        settings = self._settings
        session = UpstreamSession(
            upstream=settings.name,
            connection=number,
            endpoint=place.endpoint,
            need=settings.need,
            session_id=place.next_session_id(),
            suggest_difficulty=settings.suggest_difficulty,
        )
        link = UpstreamLink(
            name=settings.name,
            endpoint=place.endpoint,
            address=place.next_address(),
            session=session,
            tls=place.tls,
            limits=settings.link,
            connect=self._connect,
            on_event=self._on_event,
            on_up=self._came_up,
            on_end=self._ended,
        )
        place.connection = number
        place.enter(PlaceState.TRYING, place.reason, trio.current_time())
        nursery.start_soon(link.run)
        return link

    def _came_up(self, link: UpstreamLink) -> None:
        place = self.place_of(link)
        place.enter(PlaceState.UP, "", trio.current_time())
        place.logged = ""
        self._tell()

    def _ended(self, link: UpstreamLink) -> None:
        failure, place, now_s = link.failure, self.place_of(link), trio.current_time()
        assert failure is not None
        lasted_s = max(now_s - link.up_at_s, 0.0)
        if place.connection == link.session.connection:  # otherwise there is a newer one
            place.ended(failure, lasted_s=lasted_s, now_s=now_s)
            if math.isfinite(link.up_at_s):
                place.session_id = link.session.session_id
        if failure.fault is not Fault.ENDED and failure.reason != place.logged:
            place.logged = failure.reason
            self._log.warning(
                "upstream_connection_ended",
                endpoint=place.endpoint.address,
                fault=failure.fault.value,
                reason=failure.reason,
                lasted_s=round(lasted_s, 1),
            )
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()
