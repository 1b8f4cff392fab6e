"""Work and jobs: what a work source offers, and what a session is told to mine; what comes out of it.

A `Work` is a block to be found, without an identity: the halves of its coinbase around the
extranonces, its merkle branch, its header fields. A channel gives it a sequence number and makes it
a `Job`. Byte orders: `_internal` is the order that is hashed; `_stratum` is internal with each
32-bit word byte-swapped (what mining.notify carries for the previous hash).

Must not know: where work comes from. `origin` is the work source's own note, carried, never read.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """A block to be found. Hashes are 32 bytes in internal order; times are Unix seconds."""

    prevhash_internal: bytes
    coinbase1: bytes  # non-witness serialisation up to the extranonce1
    coinbase2: bytes  # non-witness serialisation after the extranonce2
    branch: tuple[bytes, ...]  # merkle branch of the coinbase, deepest first
    version: int
    nbits: int
    ntime: int
    ntime_min: int
    ntime_max: int
    height: int
    network_target: int  # a header hash not above this is a block
    origin: object = None
    # The same block with a coinbase that nobody could know before; None: whose work it is cannot do that.
    anew: Callable[[], Work] | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Work with an identity. `seq` is unique per boot and never reused; on the wire it is hex."""

    seq: int
    channel: int
    rate: int  # which price of work its shares are credited at
    clean: bool
    work: Work
    space: int = 0  # the job that the same work came with first: a hash of one is a hash of the other
    start_log2: int | None = None  # for who gets it without having been there when it came

    @property
    def job_id(self) -> str:
        """The job id as miners see it."""
        return f"{self.seq:x}"


class Solution(msgspec.Struct, frozen=True, kw_only=True):
    """A submitted header that reaches the network target, or the one of an upstream: all that it was made of.

    `tallied` is False for an accepted share that is in no tally yet: whoever gets it counts it.
    """

    job: Job
    worker: int
    extranonce1: bytes
    extranonce2: bytes
    ntime: int
    nonce: int
    version: int  # as hashed, with the rolled bits
    hash_internal: bytes
    difficulty_log2: int  # that it was judged at
    tallied: bool

    @property
    def is_block(self) -> bool:
        """Whether it reaches the network target."""
        return int.from_bytes(self.hash_internal, "little") <= self.job.work.network_target

    @property
    def coinbase(self) -> bytes:
        """The non-witness coinbase transaction that was hashed."""
        return self.job.work.coinbase1 + self.extranonce1 + self.extranonce2 + self.job.work.coinbase2


def swap_words(data: bytes) -> bytes:
    """Reverse the bytes of each 32-bit word: internal order to stratum order and back."""
    if len(data) % 4:
        raise ValueError("not a whole number of 32-bit words")
    return b"".join(data[i : i + 4][::-1] for i in range(0, len(data), 4))
