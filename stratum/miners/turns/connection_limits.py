"""Who may connect, and who leaves so that others may: places by source, and what each place is worth.

A source is an IPv4 address, or the 64 bits of IPv6 that a site is given. A whole container is behind one, so
a source is never shut for what one machine does: while there is room everybody comes in, and where there is
none, those leave who have shown least. In this order: connections that have not authorised yet, of the source
that has most of them; who is authorised and has had no share for ten minutes; who is new, of a source that
has more such ones than the one that wants in; and at last, for a few that nobody knows yet, the miners of a
source that holds more than half of all places. Who mines stays otherwise, whatever comes.

Must not know: sockets, messages, tenants.
"""

import ipaddress
from collections import OrderedDict
from enum import Enum
from typing import Protocol

import msgspec

IPV6_SITE_BITS = 64  # one machine may use every address of its /64
MADE_ROOM = "made room for others"
# One place in so many is for connections that have not mined yet, when all places are taken by miners.
NEWCOMERS_SHARE = 64
# Sources that have mined since the start, and are worth more than those that nobody knows: three built-out
# sites whose miners have an address each.
KNOWN_MAX = 65_536
ONE_SOURCE_SHARE = 2  # above one place in so many, a source gives up miners for these


class ConnectionBounds(msgspec.Struct, frozen=True, kw_only=True):
    sessions_max: int = 100_000  # the wiring lowers it to what the descriptors allow
    sessions_per_address_max: int = 65_536
    half_open_per_address_max: int = 1_024


class Standing(Enum):
    """What a connection has shown."""

    WAITING = "waiting"  # for its first turn
    HALF_OPEN = "half-open"
    FRESH = "fresh"  # authorised
    IDLE = "idle"  # authorised, and no accepted share for long
    MINING = "mining"
    GONE = "gone"

    __hash__ = object.__hash__  # Enum's is Python, and each step of a connection asks for it four times


class Holder(Protocol):
    """Whoever sits on a place."""

    def make_room(self) -> None:
        """Close now."""


class Place:
    """One connection, as its limits see it. `holder` is set by who was given the place, at once."""

    __slots__ = ("after", "before", "holder", "source", "standing")

    def __init__(self, source: str) -> None:
        self.source = source
        self.standing = Standing.WAITING
        self.holder: Holder | None = None
        self.before: Place | None = None  # its neighbours in the row that it is in
        self.after: Place | None = None


class _Row:
    """Places of one source, oldest first. Each knows its neighbours: an OrderedDict is 100 bytes."""

    __slots__ = ("_newest", "oldest", "size")

    def __init__(self) -> None:
        self.oldest: Place | None = None
        self._newest: Place | None = None
        self.size = 0

    def add(self, place: Place) -> None:
        before, self._newest = self._newest, place
        place.before = before
        if before is None:
            self.oldest = place
        else:
            before.after = place
        self.size += 1

    def remove(self, place: Place) -> None:
        before, after = place.before, place.after
        place.before = place.after = None
        if before is None:
            self.oldest = after
        else:
            before.after = after
        if after is None:
            self._newest = before
        else:
            after.before = before
        self.size -= 1


class _Crowd:
    """Places of one standing, oldest first; knows at once which source has most of them."""

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}
        self._sources: dict[int, OrderedDict[str, None]] = {}  # by how many places they have
        self._most = 0
        self.size = 0

    def add(self, place: Place) -> None:
        row = self._rows.get(place.source)
        if row is None:
            row = self._rows[place.source] = _Row()
        row.add(place)
        self.size += 1
        self._counted(place.source, row.size - 1, row.size)

    def remove(self, place: Place) -> None:
        row = self._rows[place.source]
        row.remove(place)
        self.size -= 1
        self._counted(place.source, row.size + 1, row.size)
        if not row.size:
            del self._rows[place.source]

    def _counted(self, source: str, before: int, after: int) -> None:
        empty: OrderedDict[str, None] | None = None
        if before:
            sources = self._sources[before]
            del sources[source]
            if not sources:
                empty = self._sources.pop(before)
        if after:
            there = self._sources.get(after)
            if there is None:
                there = self._sources[after] = OrderedDict() if empty is None else empty
            there[source] = None
        if after > self._most or self._most not in self._sources:
            self._most = after  # the largest shrinks by one at a time

    def count(self, source: str) -> int:
        row = self._rows.get(source)
        return 0 if row is None else row.size

    def most(self) -> tuple[str, int]:
        """The source with most places here, and how many; there is one."""
        return next(iter(self._sources[self._most])), self._most

    def oldest(self, source: str) -> Place:
        oldest = self._rows[source].oldest
        assert oldest is not None
        return oldest


class ConnectionLimits:
    """Every connection passes: `enter`, `begin`, then `stands` as it shows more or less, then `leave`."""

    def __init__(self, limits: ConnectionBounds) -> None:
        self.limits = limits
        self.sessions = 0
        self.closed: str | None = None  # why nobody is let in at all
        self.draining: str | None = None  # why nobody new is let in, while those who are here leave
        # Connections by source, and its one string that all of them have.
        self._counts: dict[str, tuple[str, int]] = {}
        self._crowds = {standing: _Crowd() for standing in Standing if standing is not Standing.GONE}
        self._known: OrderedDict[str, None] = OrderedDict()  # that mined last is last

    @property
    def refuses(self) -> str | None:
        """Why whoever comes now is refused, if everybody is."""
        return self.closed or self.draining

    @property
    def mining(self) -> int:
        """Connections that have mined lately."""
        return self._crowds[Standing.MINING].size

    def standing(self) -> dict[Standing, int]:
        """How many connections have shown what."""
        return {standing: crowd.size for standing, crowd in self._crowds.items()}

    def enter(self, address: str, instead_of: Place | None = None) -> Place | str:
        """A place, or why there is none. Somebody else may have left for it, unless it is given instead of
        one that the same connection has, and leaves in the same moment."""
        if self.refuses is not None:
            return self.refuses
        source = source_of(address)
        if instead_of is None or instead_of.standing is Standing.GONE:
            why = self._make_room(source)
            if why is not None:
                return why
        source, before = self._counts.get(source, (source, 0))
        self._counts[source] = source, before + 1
        place = Place(source)
        self.sessions += 1
        self._crowds[Standing.WAITING].add(place)
        return place

    def begin(self, place: Place) -> None:
        """Its first turn has come: it shakes hands. Of one source only so many do so at a time."""
        half_open = self._crowds[Standing.HALF_OPEN]
        if place.standing is Standing.WAITING:
            if half_open.count(place.source) >= self.limits.half_open_per_address_max:
                self._free(half_open.oldest(place.source))
            self.stands(place, Standing.HALF_OPEN)

    def stands(self, place: Place, standing: Standing) -> None:
        """It has shown more than before, or less; `GONE` once and for all."""
        if place.standing in (standing, Standing.GONE):
            return
        self._crowds[place.standing].remove(place)
        place.standing = standing
        if standing is Standing.GONE:
            self.sessions -= 1
            source, before = self._counts.pop(place.source)
            if before > 1:
                self._counts[source] = source, before - 1
            place.holder = None
        else:
            self._crowds[standing].add(place)
        if standing is Standing.MINING:
            self._known[place.source] = None
            self._known.move_to_end(place.source)
            if len(self._known) > KNOWN_MAX:
                self._known.popitem(last=False)

    def knows(self, source: str) -> bool:
        """Whether anybody of this source has mined since the start."""
        return source in self._known

    def leave(self, place: Place) -> None:
        self.stands(place, Standing.GONE)

    def count(self, source: str) -> int:
        """Connections of a source."""
        return self._counts.get(source, (source, 0))[1]

    def _make_room(self, source: str) -> str | None:
        """For one of this source more; or why there is none."""
        limits = self.limits
        if self.count(source) >= limits.sessions_per_address_max:
            own = self._least_of(source)
            if own is None:
                return "too many connections from this address"
            self._free(own)
        if self.sessions >= limits.sessions_max:
            victim = self._victim(source)
            if victim is None:
                return "pool is full"
            self._free(victim)
        return None

    def _free(self, place: Place) -> None:
        assert place.holder is not None
        place.holder.make_room()
        self.leave(place)  # where the holder takes its time, the place is free all the same

    def _least_of(self, source: str) -> Place | None:
        for standing in (Standing.HALF_OPEN, Standing.WAITING, Standing.IDLE):
            if self._crowds[standing].count(source):
                return self._crowds[standing].oldest(source)
        return None

    def _victim(self, source: str) -> Place | None:
        """Who leaves for somebody from this source."""
        crowds, places = self._crowds, self.limits.sessions_max
        waiting, half_open = crowds[Standing.WAITING], crowds[Standing.HALF_OPEN]
        fresh = crowds[Standing.FRESH]
        idle, mining = crowds[Standing.IDLE], crowds[Standing.MINING]
        kept = max(1, places // NEWCOMERS_SHARE)
        for nobody in (waiting, half_open):
            if nobody.size > kept:
                return nobody.oldest(nobody.most()[0])
        if idle.size:
            return idle.oldest(idle.most()[0])
        if fresh.size and fresh.most()[1] > fresh.count(source) + 1:
            return fresh.oldest(fresh.most()[0])
        if mining.size and waiting.size + half_open.size + fresh.size < kept:
            largest, count = mining.most()
            if largest != source and count > places // ONE_SOURCE_SHARE:
                return mining.oldest(largest)
        nobody = half_open if half_open.size else waiting
        return nobody.oldest(nobody.most()[0]) if nobody.size else None


def real_address(address: str) -> str:
    """Without what a socket adds: IPv4 is written as IPv4, and IPv6 has no zone."""
    if ":" not in address:
        return address
    real = ipaddress.IPv6Address(address.partition("%")[0])
    return str(real) if real.ipv4_mapped is None else str(real.ipv4_mapped)


def source_of(address: str) -> str:
    """Whom an address belongs to, as far as places and turns go."""
    address = real_address(address)
    if ":" not in address:
        return address
    return str(ipaddress.IPv6Network((address, IPV6_SITE_BITS), strict=False))
