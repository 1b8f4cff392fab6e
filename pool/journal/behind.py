"""What a writer's own files say behind what the books have, for one who begins again before they have it.

At a site the line to the books may be down for days. Whoever begins to write there goes on behind the end of
its own files, and knows what they say: machines by their numbers, prices, which forwarded shares are under
way, and what was credited on upstreams' work.

Blocks. Must not know: who has the books, databases.
"""

from collections.abc import Iterable

import msgspec

from pool.journal.beginning import Beginning
from pool.journal.frames import Place
from pool.journal.records import Batch, Machine, Noted, Opening, Rate, hashes_in, unpacked
from pool.journal.segments import Walk


class Behind(msgspec.Struct, frozen=True, kw_only=True):
    """The end of the files, and what is between the books' place and it."""

    beginning: Beginning  # the same books', but behind the end of the files
    machines: tuple[Machine, ...]  # by number, as they were named last
    rates: tuple[Rate, ...]  # by number
    credits: tuple[tuple[bytes, bytes], ...]  # a previous block, and hashes that were credited on it


def read_behind(walk: Walk, beginning: Beginning) -> Behind:
    """Of a walk behind the place that the books have. Raises JournalDamaged, and ValueError for records of a
    later version."""
    found = _Found(beginning)
    for frame in walk.frames():
        said = unpacked(frame.body)
        found.define(said)
        if frame.at.number > beginning.behind.number:
            found.add(frame.at, said)
    return found.behind()


class _Found:
    def __init__(self, beginning: Beginning) -> None:
        self._beginning = beginning
        self._at, self._accepted = beginning.behind, beginning.accepted
        self._moment_s = beginning.moment_s
        self._left = {it.key: it for it in beginning.left}
        self._machines: dict[int, Machine] = {}
        self._rates: dict[int, Rate] = {}
        self._credits: dict[bytes, list[bytes]] = {}

    def define(self, said: Opening | Batch) -> None:
        """Also of records that the books have: what is behind them may go by it."""
        if isinstance(said, Batch):
            self._machines |= _last_named(said.machines)
            self._rates |= {it.number: it for it in said.rates}

    def add(self, at: Place, said: Opening | Batch) -> None:
        self._at, self._accepted = at, said.accepted
        self._moment_s = max(self._moment_s, said.moment_s)
        if isinstance(said, Opening):
            return
        for key in said.resolved:
            self._left.pop(key, None)
        self._left |= {it.key: it for it in said.noted}
        for prevhash, hashes in hashes_in(said):
            self._credits.setdefault(prevhash, []).append(hashes)

    def behind(self) -> Behind:
        left: tuple[Noted, ...] = tuple(self._left.values())
        return Behind(
            beginning=msgspec.structs.replace(
                self._beginning,
                behind=self._at,
                moment_s=self._moment_s,
                accepted=self._accepted,
                left=left,
            ),
            machines=tuple(self._machines[it] for it in sorted(self._machines)),
            rates=tuple(self._rates[it] for it in sorted(self._rates)),
            credits=tuple((prevhash, b"".join(all_of)) for prevhash, all_of in self._credits.items()),
        )


def _last_named(machines: Iterable[Machine]) -> dict[int, Machine]:
    return {it.number: it for it in machines}
