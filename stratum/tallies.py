"""What the engine can decide about a share, and the tallies that it counts them in.

The order of `Verdict` is the engine's (stratum/native/engine.hpp), and the order of its checks; the last one
comes from an upstream.
"""

from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from typing import Any, Final

import msgspec
import numpy as np


class Verdict(IntEnum):
    ACCEPTED = 0
    MALFORMED = 1
    NOT_SUBSCRIBED = 2
    UNAUTHORISED = 3
    JOB_UNKNOWN = 4
    STALE = 5
    NTIME_OUT_OF_RANGE = 6
    VERSION_OUTSIDE_MASK = 7
    LOW_DIFFICULTY = 8
    DUPLICATE = 9
    FILTER_FULL = 10
    UNDELIVERED = 11  # good, but no upstream ever said what became of it
    UPSTREAM_REJECTED = 12  # good to us


class Tally(msgspec.Struct, frozen=True):
    """Shares of one worker on one rate at one difficulty that had one verdict.

    A share on an unknown job has rate 0 and difficulty_log2 0: there is no job to price it by.
    """

    worker: int
    rate: int
    difficulty_log2: int
    verdict: Verdict
    count: int


NOT_TAKEN: Final = (Verdict.UNDELIVERED, Verdict.UPSTREAM_REJECTED)  # by an upstream; good to us
MINED: Final = (Verdict.ACCEPTED, *NOT_TAKEN)  # the machine did what it should

# One tally as the engine packs it and as the journal keeps it: what is on disk means the same for ever.
RECORD: Final = np.dtype(
    [
        ("worker", "<u4"),
        ("rate", "<u4"),
        ("difficulty_log2", "i1"),
        ("verdict", "u1"),
        ("zero", "<u2"),
        ("count", "<u4"),
    ]
)
Records = np.ndarray[Any, np.dtype[np.void]]
# A share that was credited on an upstream's work: which one, and in which tally it is; with 1 in `forwarded`
# in none yet.
CREDIT: Final = np.dtype(
    [
        ("hash", "V16"),
        ("worker", "<u4"),
        ("rate", "<u4"),
        ("difficulty_log2", "i1"),
        ("verdict", "u1"),
        ("forwarded", "<u2"),
    ]
)
# A good share that was kept as it was hashed, and what it was credited as.
KEPT: Final = np.dtype(
    [("header", "V80"), ("worker", "<u4"), ("rate", "<u4"), ("difficulty_log2", "i1"), ("zero", "V3")]
)


def pack_tallies(tallies: Mapping[tuple[int, int, int, Verdict], int]) -> bytes:
    """Counts by worker, rate, difficulty_log2 and verdict, as Engine.collect_tallies() packs them."""
    rows = [
        (worker, rate, log2, verdict, 0, count) for (worker, rate, log2, verdict), count in tallies.items()
    ]
    return np.array(rows, dtype=RECORD).tobytes()


def unpack_tallies(packed: bytes) -> Iterator[Tally]:
    """The records of Engine.collect_tallies()."""
    for worker, rate, difficulty_log2, verdict, _, count in np.frombuffer(packed, dtype=RECORD).tolist():
        yield Tally(worker, rate, difficulty_log2, Verdict(verdict), count)


def merge(batches: Iterable[bytes]) -> Records:
    """The records of many batches, added up: one for each worker, rate, difficulty and verdict.

    Rejected shares are counted by worker and verdict alone: they are worth nothing, whatever the rate, and
    whoever sends them can do so at any difficulty.
    """
    records = np.frombuffer(b"".join(batches), dtype=RECORD).copy()
    worthless = ~np.isin(records["verdict"], MINED)
    records["rate"][worthless] = records["difficulty_log2"][worthless] = 0
    key = records["worker"].astype(np.uint64) << np.uint64(32) | records["rate"].astype(np.uint64)
    rest = (records["difficulty_log2"].astype(np.int16) + 32).astype(np.uint16) << np.uint16(8)
    rest |= records["verdict"].astype(np.uint16)
    order = np.lexsort((rest, key))
    key, rest = key[order], rest[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = (key[1:] != key[:-1]) | (rest[1:] != rest[:-1])
    starts = np.flatnonzero(first)
    merged = records[order][starts]
    if len(starts):
        merged["count"] = np.add.reduceat(records["count"][order].astype(np.uint64), starts)
    return merged
