"""Who looks on: a stream of events for each page that is open, and one task that makes them for all.

An event is made once for all who see the same. Each stream has a queue of its own; who does not read is let
go. The newest events are kept, so that who comes back within a minute or so misses nothing; who was away for
longer is told to get everything anew.

Invariants: streams are bounded, in all, of one user, and of all tenants' users together; without a stream
nothing is looked at. Must not know: HTTP, where a figure is from.
"""

import secrets
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
import structlog
import trio

log = structlog.get_logger()

STREAMS_MAX: Final = 100  # screens of an operator and its clients; the door has places for 256 connections
STREAMS_OF_TENANTS_MAX: Final = 50  # links are passed on: the operator's own screens have the rest
STREAMS_OF_USER_MAX: Final = 10  # tabs, a phone, a wall
QUEUE_MAX: Final = 16  # events, half a minute of them: what is sent must be taken in ten seconds
KEPT_MAX: Final = 64  # events for who comes back; of the largest, with all cells of a site, 5 MB
ANEW: Final = "anew"  # the id of no event

Narrow = Callable[[str | None], Any]


class Nothing(msgspec.Struct, frozen=True):
    """No more than that it happened."""


class Event:
    """`narrow` says what whoever sees a tenant's alone is told, or everything; None: nothing."""

    def __init__(self, number: int, kind: str, narrow: Narrow) -> None:
        self.number, self.kind = number, kind
        self._narrow = narrow
        self._lines: dict[str | None, bytes] = {}  # by who sees it: as many as look on

    def lines(self, boot: str, tenant: str | None) -> bytes:
        """As it is sent; nothing where it is not for these eyes."""
        made = self._lines.get(tenant)
        if made is None:
            told = self._narrow(tenant)
            made = b"" if told is None else event_lines(self.kind, told, f"{boot}-{self.number}")
            self._lines[tenant] = made
        return made


def event_lines(kind: str, told: Any, number: str) -> bytes:
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (number.encode(), kind.encode(), msgspec.json.encode(told))


class Stream:
    """Of one page. `scope` is around whoever serves it."""

    def __init__(self, user: str, tenant: str | None) -> None:
        self.user, self.tenant = user, tenant
        self.scope = trio.CancelScope()
        self._send, self._receive = trio.open_memory_channel[bytes](QUEUE_MAX)

    def put(self, lines: bytes) -> bool:
        """False: there is no room, it is not read."""
        try:
            self._send.send_nowait(lines)
        except trio.WouldBlock:
            return False
        return True

    async def get(self) -> bytes:
        """What is to be sent next."""
        return await self._receive.receive()


class Streams:
    """All of them. `boot` tells the numbers of this run's events apart from another's."""

    def __init__(self) -> None:
        self.boot = secrets.token_hex(3)
        self.open: set[Stream] = set()
        self.somebody = trio.Event()  # looks on
        self._number = 0
        self._kept: deque[Event] = deque(maxlen=KEPT_MAX)

    def begin(self, user: str, tenant: str | None, last_id: str) -> Stream | str:
        """A stream, until `end`; or in words why there is no room. `last_id`: of the last event it had."""
        if len(self.open) >= STREAMS_MAX:
            return f"{STREAMS_MAX} pages look on already"
        if sum(it.user == user for it in self.open) >= STREAMS_OF_USER_MAX:
            return f"{STREAMS_OF_USER_MAX} pages of this user look on already"
        if tenant is not None and sum(it.tenant is not None for it in self.open) >= STREAMS_OF_TENANTS_MAX:
            return f"{STREAMS_OF_TENANTS_MAX} pages of tenants look on already"
        stream = Stream(user, tenant)
        self.open.add(stream)
        for lines in self._first_lines(tenant, last_id):
            if not stream.put(lines):  # more than a queue has: then it is as good as away for long
                self.end(stream)
                return self.begin(user, tenant, ANEW)
        self.somebody.set()
        return stream

    def end(self, stream: Stream) -> None:
        self.open.discard(stream)
        if not self.open and self.somebody.is_set():  # else whoever waits for somebody would wait for ever
            self.somebody = trio.Event()

    def tell(self, kind: str, narrow: Narrow) -> None:
        """All who look on and may know."""
        self._number += 1
        event = Event(self._number, kind, narrow)
        self._kept.append(event)
        for stream in list(self.open):
            lines = event.lines(self.boot, stream.tenant)
            if lines and not stream.put(lines):
                log.warning("stream_not_read", user=stream.user)
                self.end(stream)
                stream.scope.cancel()

    def _first_lines(self, tenant: str | None, last_id: str) -> Iterator[bytes]:
        """What it has missed; where that is not known any more, that it is to get everything anew."""
        last = self._known(last_id)
        if last is None:
            if last_id:
                yield event_lines("reset", Nothing(), f"{self.boot}-{self._number}")
            newest = next((it for it in reversed(self._kept) if it.kind == "figures"), None)
            missed = [] if newest is None else [newest]
        else:
            missed = [it for it in self._kept if it.number > last]
        for event in missed:
            if lines := event.lines(self.boot, tenant):
                yield lines

    def _known(self, last_id: str) -> int | None:
        """The number of an event after which all are still here."""
        boot, _, number = last_id.partition("-")
        if boot != self.boot or not (number.isascii() and number.isdigit() and len(number) < 16):
            return None
        last, first = int(number), self._kept[0].number if self._kept else self._number + 1
        return last if first - 1 <= last <= self._number else None
