"""What each firmware was seen to do: counted by what really happened, and shown to whoever wonders.

A kind is a firmware and a version, as far as an agent says which; what else an agent has (a model, a build)
makes no kind of its own. Strangers choose their agents, so there is room for KINDS_MAX that had an accepted
share, of which the one with the fewest makes room, and for as many that had none, of which the oldest does.

A family is what a kind is told by where names are to be few, and ours: of the firmware that there is, the one
whose word the agent has, or OTHER. So whoever names himself a thousand ways makes no family, and takes none.

Counted when a session begins, asks for something or ends, and at its checks, which are half a minute apart at
most: never for a share. Must not know: sessions, sockets, names.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import msgspec

from stratum.figures import Count

KINDS_MAX: Final = 256  # a large site has a dozen; 1 KB each, twice
ORDERS_MAX: Final = 8  # of requests, and masks, of one kind: what comes later is counted as OTHER
NAME_CHARS_MAX: Final = 48
OTHER: Final = "other"
# As their agents say it; where one has the words of two, the first. A rental proxy speaks for any machine.
FAMILIES: Final = (
    *("nicehash", "bosminer", "braiins", "luxminer", "vnish", "xminer", "powerplay", "btminer"),
    *("whatsminer", "avalon", "bitaxe", "esp-miner", "nerd", "bmminer", "bfgminer", "cgminer", "cpuminer"),
)
UNNAMED: Final = "(none)"
_VERSION: Final = re.compile(r"(?:(?<=[/ _-])v?|^v)\d[\w.]*|v?\d+(?:\.\d+)+", re.IGNORECASE)
_BUILD: Final = re.compile(r"[^\d.v].*", re.IGNORECASE)


@lru_cache(maxsize=2 * KINDS_MAX)  # a site has a dozen agents
def kind_of(agent: str) -> str:
    """Firmware and version: `bmminer/2.0.0/Antminer S19` is bmminer 2.0.0."""
    found = _VERSION.search(agent)
    name = (agent if found is None else agent[: found.start()]).strip("/ _-")[:NAME_CHARS_MAX]
    version = "" if found is None else _BUILD.sub("", found[0]).strip(".")[:NAME_CHARS_MAX]
    return " ".join(part for part in (name, version) if part) or UNNAMED


@lru_cache(maxsize=2 * KINDS_MAX)
def family_of(name: str) -> str:
    """Of a kind."""
    return next((it for it in FAMILIES if it in name.casefold()), OTHER)


class Family(msgspec.Struct):
    """What all kinds of one did since the start, those that are forgotten too."""

    here: Count = 0  # sessions, now
    accepted: Count = 0  # shares
    rejected: Count = 0  # shares


class Firmware(msgspec.Struct, kw_only=True):
    """One kind. Counts of sessions, unless they say otherwise."""

    name: str
    agent: str  # as the latest of them said it
    sessions: int = 0  # that subscribed
    here: int = 0  # now
    mined: int = 0  # that were given work
    accepted: int = 0  # shares
    rejected: int = 0  # shares
    configured: int = 0  # asked for extensions
    extranonce: int = 0  # take other extranonces
    suggested: int = 0  # suggested a difficulty
    orders: dict[str, int] = {}  # of their first requests of each sort
    masks: dict[str, int] = {}  # that they asked to roll, hex
    rolled: int = 0  # bits that accepted shares had rolled
    reconnects: int = 0  # that were asked to connect again and could do so in time
    obeyed: int = 0  # of those
    pings: int = 0  # that we asked for a sign of life, and how many answers came
    answers: int = 0
    refused: int = 0  # lines answered with an error that were no shares
    unreadable: int = 0  # lines

    def add(self, other: "Firmware") -> None:
        """What sessions of this kind did that were counted elsewhere."""
        for count in _COUNTS:
            setattr(self, count, getattr(self, count) + getattr(other, count))
        for order, sessions in other.orders.items():
            _count(self.orders, order, sessions)
        for mask, sessions in other.masks.items():
            _count(self.masks, mask, sessions)
        self.rolled |= other.rolled

    def asked_in_order(self, order: str) -> None:
        _count(self.orders, order)

    def asked_to_roll(self, mask: int) -> None:
        _count(self.masks, f"{mask:08x}")


class FirmwareBook:
    """All kinds, since the start: those that had an accepted share, and the newest of the others."""

    def __init__(self) -> None:
        self._proven: dict[str, Firmware] = {}
        self._new: dict[str, Firmware] = {}
        self.families = {it: Family() for it in (*FAMILIES, OTHER)}

    def begin(self, agent: str) -> Firmware:
        """Another session with this agent; it is counted in what is given back."""
        name = kind_of(agent)
        key = name.casefold()
        kind = self._proven.get(key) or self._new.get(key)
        if kind is None:
            if len(self._new) >= KINDS_MAX:
                del self._new[next(iter(self._new))]
            kind = self._new[key] = Firmware(name=name, agent=agent)
        if kind.agent != agent:  # one string for all that say the same
            kind.agent = agent
        kind.sessions += 1
        kind.here += 1
        self.families[family_of(kind.name)].here += 1
        return kind

    def end(self, kind: Firmware) -> None:
        """A session of this kind is over."""
        kind.here -= 1
        self.families[family_of(kind.name)].here -= 1

    def count(self, kind: Firmware, accepted: int, rejected: int) -> None:
        """Shares of it."""
        family = self.families[family_of(kind.name)]
        for it in (kind, family):
            it.accepted += accepted
            it.rejected += rejected

    def prove(self, kind: Firmware) -> None:
        """It has an accepted share: whoever has fewer makes room for it."""
        key = kind.name.casefold()
        if key in self._proven:
            return
        if len(self._proven) >= KINDS_MAX:
            least = min(self._proven, key=lambda it: self._proven[it].accepted)
            if self._proven[least].accepted >= kind.accepted:
                return
            del self._proven[least]
        self._new.pop(key, None)  # itself, or who came when it had been forgotten
        self._proven[key] = kind

    @property
    def kinds(self) -> list[Firmware]:
        """Whoever is here most comes first."""
        return by_sessions((*self._proven.values(), *self._new.values()))


def by_sessions(kinds: Iterable[Firmware]) -> list[Firmware]:
    """Whoever is here most comes first."""
    return sorted(kinds, key=lambda it: (-it.here, -it.sessions, it.name))


def _count(counts: dict[str, int], what: str, times: int = 1) -> None:
    if what not in counts and len(counts) >= ORDERS_MAX:
        what = OTHER
    counts[what] = counts.get(what, 0) + times


_COUNTS: Final = tuple(
    it.name for it in msgspec.structs.fields(Firmware) if it.type is int and it.name != "rolled"
)
