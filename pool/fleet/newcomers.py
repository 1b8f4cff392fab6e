"""Names that have had no accepted share yet: kept in memory, as many as there is room for, and forgotten.

Anybody can say any name of a tenant, so a name that no work stands behind costs the books nothing: it has a
number for the engine, no row, and no place in the tenant's quota. With its first accepted share it becomes a
worker (`pool.fleet.registry`). It is forgotten when the last connection that holds it is gone and what that
one sent is counted; then its number is used again.

Holding a name takes a connection, and a connection holds few. Where there is no room for another name (at one
source, of one tenant, or over all) the connection that holds the most makes room: a machine holds one name,
so it is never a machine that goes for somebody who invents names. A source is what
`connection_limits` calls so: an address of IPv4, a /64 of IPv6.

Invariants: a number belongs to one name until a commit after its last share is done; every count is bounded;
who keeps something by number is told when a number is nobody's.
Must not know: what a connection is, beyond its address.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
import numpy as np

from stratum.miners.contracts import Refusal
from stratum.miners.owner import Owner
from stratum.miners.turns.connection_limits import source_of

# A rental proxy brings a handful of new workers at a time; each has a share within a minute, or never.
NEW_PER_CONNECTION_MAX: Final = 16
# A site that is built out (22,400 machines) and connects for the first time may be behind one source.
NEW_PER_SOURCE_MAX: Final = 32_768
NEW_PER_TENANT_MAX: Final = 49_152
NEW_MAX: Final = 65_536  # 45 MiB: 290 bytes a name where its container has many, 720 at most
# Whose connections are gone, until the next commit: only a database that makes commits wait can fill this.
GONE_MAX: Final = 65_536
_NUMBERS_AT_A_TIME: Final = 4_096  # that room is made for

Flags = np.ndarray[Any, np.dtype[np.bool_]]
Name = tuple[int, str, str]  # tenant's number, container, unit
Where = tuple[int, str]  # the first two of it


class Numbers:
    """Numbers that nobody has, upwards. Each of `of` processes takes every `of`-th: no two take the same."""

    def __init__(self, part: int = 0, of: int = 1) -> None:
        self._part, self._of = part, of
        self.next = 0
        self.above(0)

    def above(self, taken: int) -> None:
        """Up to that number they are somebody's."""
        if taken >= self.next:
            self.next = taken + 1 + (self._part - taken - 1) % self._of

    def take(self) -> int:
        """One of them."""
        number, self.next = self.next, self.next + self._of
        return number

    def gave(self, number: int) -> bool:
        """Whether it may have been taken from these: it can be free again, and somebody's next."""
        return number % self._of == self._part and number < self.next


class Newcomer(msgspec.Struct, kw_only=True, eq=False):
    """A name without an accepted share, and the connections that may mine under it: mostly one."""

    number: int
    where: Where  # the same one of all names there
    unit: str
    agent: str
    since_s: int
    kept: bool  # it is the number of a worker that was removed
    _owner: Owner | None = None
    _others: dict[Owner, None] | None = None

    @property
    def tenant_id(self) -> int:
        return self.where[0]

    @property
    def container(self) -> str:
        return self.where[1]

    @property
    def name(self) -> Name:
        return *self.where, self.unit

    @property
    def owners(self) -> tuple[Owner, ...]:
        return (*(() if self._owner is None else (self._owner,)), *(self._others or ()))

    @property
    def held(self) -> bool:
        """Whether there is any."""
        return self._owner is not None or bool(self._others)

    def add(self, owner: Owner) -> None:
        if self._owner is None:
            self._owner = owner
        else:
            self._others = {} if self._others is None else self._others
            self._others[owner] = None

    def remove(self, owner: Owner) -> None:
        if self._owner is owner:
            self._owner = None
        else:
            assert self._others is not None
            del self._others[owner]


class _Places:
    """Places for new names, and who holds several: who holds the most is known at once."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0
        self._holders: dict[int, dict[Owner, None]] = {}  # by how many they hold, two or more

    def change(self, owner: Owner, before: int, after: int) -> None:
        """It holds another number of them."""
        self.taken += after - before
        if before > 1:
            del self._holders[before][owner]
            if not self._holders[before]:
                del self._holders[before]
        if after > 1:
            self._holders.setdefault(after, {})[owner] = None

    def greediest(self) -> Owner | None:
        """Who holds the most names, two at least; of several the one that has done so for the longest."""
        most = max(self._holders, default=0)
        return next(iter(self._holders[most])) if most else None


class Newcomers:
    """`numbers` are free. A connection that makes room calls `leave`.

    `on_free` are told of every number that is nobody's any more: the next one is somebody else.
    """

    def __init__(self, numbers: Numbers) -> None:
        self.by_number: dict[int, Newcomer] = {}
        self._units: dict[Where, tuple[Where, dict[str, Newcomer]]] = {}
        self.on_free: list[Callable[[int], object]] = []
        self._numbers = numbers
        self._free: list[int] = []
        self._mask = np.zeros(
            numbers.next + _NUMBERS_AT_A_TIME, dtype=bool
        )  # by number: whether it is one of these
        self._second = 0  # one number for all who come in it
        # Numbers, by the connection that holds them: mostly one.
        self._held_alone: dict[Owner, int] = {}
        self._held: dict[Owner, tuple[int, ...]] = {}
        self._gone: dict[int, int] = {}  # numbers that no connection holds, and which going that was
        self._goings = 0
        self._all = _Places(NEW_MAX)
        self._of_tenant: dict[int, _Places] = defaultdict(lambda: _Places(NEW_PER_TENANT_MAX))
        self._of_source: dict[str, _Places] = defaultdict(lambda: _Places(NEW_PER_SOURCE_MAX))

    def __len__(self) -> int:
        return len(self.by_number)

    @property
    def held(self) -> int:
        """Places that connections hold, of NEW_MAX."""
        return self._all.taken

    def find(self, name: Name) -> Newcomer | None:
        there = self._units.get(name[:2])
        return None if there is None else there[1].get(name[2])

    def admit(
        self, name: Name, agent: str, owner: Owner, now_s: int, *, number: int | None = None
    ) -> int | Refusal:
        """The number of this name, which the connection holds from now on; the given one if it has one."""
        known = self.find(name)
        if known is not None and known.number in self._held_by(owner):
            return known.number
        refusal = self._make_room(name[0], owner)
        if refusal is not None:
            return refusal
        known = self.find(name) or self._add(name, agent, now_s, number)
        self._gone.pop(known.number, None)
        known.add(owner)
        self._hold(owner, (*self._held_by(owner), known.number), known.tenant_id)
        return known.number

    def _held_by(self, owner: Owner) -> tuple[int, ...]:
        alone = self._held_alone.get(owner)
        return self._held.get(owner, ()) if alone is None else (alone,)

    def _make_room(self, tenant_id: int, owner: Owner) -> Refusal | None:
        """Why there is no room for one more name, if there is none."""
        if len(self._held_by(owner)) >= NEW_PER_CONNECTION_MAX:
            return Refusal(
                f"At most {NEW_PER_CONNECTION_MAX} workers without an accepted share on one connection"
            )
        if len(self._gone) >= GONE_MAX:
            return Refusal("Too many new names at once: try again in a moment")
        at_source = self._of_source.get(source_of(owner.address))
        for places in (at_source, self._of_tenant.get(tenant_id), self._all):
            if places is None or places.taken < places.most:
                continue
            greediest = places.greediest()
            if greediest is None or greediest is owner:
                return Refusal("Too many machines have not sent an accepted share yet: try again later")
            greediest.make_room()
        return None

    def put(self, name: Name, agent: str, now_s: int, number: int) -> None:
        """A name without a connection: shares under it may be on their way."""
        self._add(name, agent, now_s, number)
        self._goes(number)

    def _add(self, name: Name, agent: str, now_s: int, kept: int | None) -> Newcomer:
        number = kept or (self._free.pop() if self._free else self._numbers.take())
        if number + 1 >= len(self._mask):  # the last one is nobody's: it stands for all above it
            self._mask = np.concatenate((self._mask, np.zeros(number, dtype=bool)))
        if now_s != self._second:
            self._second = now_s
        where, units = self._units.setdefault(name[:2], (name[:2], {}))
        newcomer = Newcomer(
            number=number, where=where, unit=name[2], agent=agent, since_s=self._second, kept=kept is not None
        )
        self.by_number[number] = units[newcomer.unit] = newcomer
        self._mask[number] = True
        return newcomer

    def leave(self, owner: Owner) -> None:
        """The connection is gone. Some of what it held may be workers by now."""
        for number in self._held_by(owner):
            newcomer = self.by_number[number]
            self._release(newcomer, owner)
            if not newcomer.held:
                self._goes(number)

    def _goes(self, number: int) -> None:
        self._goings += 1
        self._gone[number] = self._goings

    def _release(self, newcomer: Newcomer, owner: Owner) -> None:
        newcomer.remove(owner)
        left = tuple(number for number in self._held_by(owner) if number != newcomer.number)
        self._hold(owner, left, newcomer.tenant_id)

    def _hold(self, owner: Owner, numbers: tuple[int, ...], tenant_id: int) -> None:
        """The connection holds these, one of that tenant more or less than before."""
        before, source = self._held_by(owner), source_of(owner.address)
        self._held_alone.pop(owner, None)
        self._held.pop(owner, None)
        if len(numbers) == 1:
            self._held_alone[owner] = numbers[0]
        elif numbers:
            self._held[owner] = numbers
        self._all.change(owner, len(before), len(numbers))
        self._of_source[source].change(owner, len(before), len(numbers))
        if not self._of_source[source].taken:
            del self._of_source[source]
        self._of_tenant[tenant_id].change(
            owner, self._count(before, tenant_id), self._count(numbers, tenant_id)
        )

    def _count(self, numbers: tuple[int, ...], tenant_id: int) -> int:
        return sum(self.by_number[number].tenant_id == tenant_id for number in numbers)

    def prove(self, number: int) -> Newcomer:
        """It has work behind it: a worker from now on, with this number for ever."""
        newcomer = self.by_number[number]
        for owner in newcomer.owners:
            self._release(newcomer, owner)
        del self.by_number[number]
        _, units = self._units[newcomer.where]
        del units[newcomer.unit]
        if not units:
            del self._units[newcomer.where]
        self._mask[number] = False
        self._gone.pop(number, None)
        return newcomer

    def among(self, numbers: np.ndarray[Any, Any]) -> Flags:
        """Which of these numbers are newcomers'."""
        found: Flags = self._mask[np.minimum(numbers, len(self._mask) - 1)]
        return found

    @property
    def gone(self) -> tuple[tuple[int, int], ...]:
        """Those that no connection holds now, for `forget`."""
        return tuple(self._gone.items())

    def forget(self, gone: Iterable[tuple[int, int]]) -> None:
        """A commit has everything that was sent under these; not of who came back, and perhaps left again."""
        for number, going in gone:
            if self._gone.get(number) == going:
                newcomer = self.prove(number)
                assert not newcomer.held
                if not newcomer.kept:
                    self._free.append(number)
                    for forget in self.on_free:
                        forget(number)
