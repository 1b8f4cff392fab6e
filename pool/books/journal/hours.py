"""The hours of a journal: what its records have, by the hours that they say they are of.

Its own files, a copy of them, and the books (`hour_rows`) say the same of each hour, whenever it was booked
and whatever moment the books gave it.

Must not know: files, databases.
"""

from collections import defaultdict
from collections.abc import Iterable

import msgspec
import numpy as np

from pool.journal.frames import Place
from pool.journal.records import Batch, Opening
from stratum.tallies import RECORD, Verdict

Shares = dict[tuple[int, int], int]  # by binary logarithm of the difficulty, and verdict


class Hour(msgspec.Struct, frozen=True, kw_only=True):
    """Of one hour of a journal: its last record, how many there are, and the shares in them."""

    hour: int
    last: Place
    records: int
    shares: Shares

    @property
    def accepted(self) -> int:
        """Shares."""
        return sum(it for (_, verdict), it in self.shares.items() if verdict == Verdict.ACCEPTED)


def hours_of(records: Iterable[tuple[Place, Batch | Opening]]) -> tuple[Hour, ...]:
    """The hours of some records, which are in their order."""
    lasts: dict[int, Place] = {}
    counts: dict[int, int] = defaultdict(int)
    tallies: dict[int, list[bytes]] = defaultdict(list)
    for place, said in records:
        hour = said.moment_s // 3600
        lasts[hour] = place
        counts[hour] += 1
        if isinstance(said, Batch) and said.tallies:
            tallies[hour].append(said.tallies)
    return tuple(
        Hour(hour=hour, last=lasts[hour], records=counts[hour], shares=_shares(tallies[hour]))
        for hour in sorted(lasts)
    )


def both(one: Hour, later: Hour) -> Hour:
    """Of the same hour."""
    shares = {
        key: one.shares.get(key, 0) + later.shares.get(key, 0) for key in one.shares.keys() | later.shares
    }
    return Hour(hour=one.hour, last=later.last, records=one.records + later.records, shares=shares)


def _shares(tallies: list[bytes]) -> Shares:
    records = np.frombuffer(b"".join(tallies), dtype=RECORD)
    keys = records["difficulty_log2"].astype(np.int64) << 8 | records["verdict"].astype(np.int64)
    found, of = np.unique(keys, return_inverse=True)
    counts = np.zeros(len(found), dtype=np.int64)
    np.add.at(counts, of, records["count"].astype(np.int64))
    return {(key >> 8, key & 0xFF): count for key, count in zip(found.tolist(), counts.tolist(), strict=True)}
