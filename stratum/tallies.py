"""What the engine can decide about a share, and the tallies that it counts them in.

The order of `Verdict` is the engine's (stratum/native/engine.hpp), and the order of its checks; the last one
comes from an upstream.
"""

import struct
from collections.abc import Iterator
from enum import IntEnum

import msgspec


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


_RECORD = struct.Struct("=IIbBHI")


def unpack_tallies(packed: bytes) -> Iterator[Tally]:
    """The records of Engine.take_tallies()."""
    for worker, rate, difficulty_log2, verdict, _, count in _RECORD.iter_unpack(packed):
        yield Tally(worker, rate, difficulty_log2, Verdict(verdict), count)
