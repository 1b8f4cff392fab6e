"""Shares on their way to upstreams: from the engine that accepted them to the tally that counts them.

The engine does not tally a share that is forwarded. It is noted here just before it is sent, and resolved by
what became of it: its upstream's answer, that there will be none, or why it could not be sent. What is noted
and not resolved by the next commit of the journal becomes a row there, and the miner's reply waits for that
commit: so a pool that dies leaves a row for every share that it acknowledged and did not count, and the next
one counts it as unanswered. What is resolved gives a tally, and the commit with the tally deletes the row.

Invariants: a share that was noted is tallied exactly once (unless the engine had done it already), and gives
exactly one verdict of its upstream if it was sent. What cannot be sent is resolved in the same step: no
commit comes in between, so there is no row of it. At most `unresolved_max` wait, and beside them
UNRESOLVED_BLOCKS_MAX blocks of each upstream; what is counted between two commits is added up by machine.
Must not know: connections, the database.
"""

import struct
from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec

from pool.books.journal import upstream_verdicts
from pool.books.journal.upstream_verdicts import UpstreamTally
from pool.journal.records import Noted
from stratum.tallies import Verdict, pack_tallies
from stratum.upstream.shares import (
    UNANSWERED_BLOCKS_MAX,
    UNRESOLVED_MAX,
    NotSent,
    RejectReason,
    SubmitAnswer,
    SubmitVerdict,
)

# Blocks of one upstream for which there is room whatever else waits: of a connection that serves and of the
# one before it. Each upstream has its own, since it is the upstream that says what is a block: one that
# answers nothing and calls every share a block fills nobody else's. Of all 64 upstreams together 10 MiB.
UNRESOLVED_BLOCKS_MAX: Final = 2 * UNANSWERED_BLOCKS_MAX

_CREDIT: Final = struct.Struct("<16sIIbBH")  # stratum.tallies.CREDIT
TALLY_OF: Final = {
    SubmitVerdict.ACCEPTED: Verdict.ACCEPTED,
    SubmitVerdict.REJECTED: Verdict.UPSTREAM_REJECTED,
    SubmitVerdict.UNANSWERED: Verdict.UNDELIVERED,
}


class Forwarded(msgspec.Struct, frozen=True):
    """A share for an upstream. `key` names it among all that are not resolved yet."""

    key: bytes
    worker: int
    epoch: int  # the rate number of its job
    difficulty_log2: int  # that the miner is credited at
    counted: bool  # by the engine: a block that was no accepted share; only the upstream's word is to come
    target: int  # what is a share to the upstream


def forwarded(left: Noted) -> Forwarded:
    """One that whoever wrote the journal before has left."""
    return Forwarded(
        key=left.key,
        worker=left.worker,
        epoch=left.epoch,
        difficulty_log2=left.difficulty_log2,
        counted=left.counted,
        target=int.from_bytes(left.target, "big"),
    )


class SubmitChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What the next commit writes. A key may be in both: the one before is resolved, the other is new."""

    noted: tuple[Forwarded, ...] = ()
    resolved: tuple[bytes, ...] = ()  # keys of rows
    tallies: bytes = b""  # like the engine's
    upstream: bytes = b""  # as upstream_verdicts packs them
    answered: bytes = b""  # each share that is in `tallies` from here on, as pool.journal.records has it

    def __bool__(self) -> bool:
        return bool(self.noted or self.resolved or self.tallies or self.upstream)


NOTHING: Final = SubmitChanges()


class ForwardedShares:
    """For all upstreams of the process.

    `on_change` is called when there is something to commit, and must not block. Raises KeyError, and changes
    nothing, for a share that is noted or resolved twice.
    """

    def __init__(
        self, on_change: Callable[[], None] = lambda: None, *, unresolved_max: int = UNRESOLVED_MAX
    ) -> None:
        self.on_change = on_change
        self._unresolved_max = unresolved_max
        self._noted: dict[bytes, Forwarded] = {}  # and not resolved
        self._block_of: dict[bytes, str] = {}  # which upstream's, of those that have a place of their own
        self._blocks: Counter[str] = Counter()  # the same by upstream
        self._without_row: dict[bytes, Forwarded] = {}  # of those, since the last commit
        self._rows_resolved: list[bytes] = []
        self._tallies: Counter[tuple[int, int, int, Verdict]] = Counter()
        self._verdicts: Counter[UpstreamTally] = Counter()
        self._answered: list[bytes] = []
        # By upstream, since the start: for whoever looks on, while the books have it for ever.
        self.said: Counter[tuple[int, SubmitVerdict, RejectReason | None]] = Counter()

    def __len__(self) -> int:
        """How many shares are noted and not resolved."""
        return len(self._noted)

    def note(self, share: Forwarded, *, block_of: str | None = None) -> NotSent | None:
        """It is about to be sent. Where there is no room it must not be: then that is what became of it.

        `block_of` is the upstream to which the share is a block."""
        if share.key in self._noted:
            raise KeyError(f"{share.key.hex()} is noted already")
        reserved = block_of is not None and self._blocks[block_of] < UNRESOLVED_BLOCKS_MAX
        full = not reserved and len(self._noted) - len(self._block_of) >= self._unresolved_max
        if reserved and block_of is not None:
            self._block_of[share.key] = block_of
            self._blocks[block_of] += 1
        if full:
            self._tally(share, Verdict.UNDELIVERED)
        else:
            self._noted[share.key] = self._without_row[share.key] = share
        self.on_change()
        return NotSent.TOO_MANY_UNRESOLVED if full else None

    def resolve(self, key: bytes, answer: SubmitAnswer | NotSent) -> None:
        """What became of a share that was noted: it is counted, and forgotten."""
        share = self._noted.pop(key)
        if (upstream := self._block_of.pop(key, None)) is not None:
            self._blocks[upstream] -= 1
        if self._without_row.pop(key, None) is None:
            self._rows_resolved.append(key)
        if isinstance(answer, NotSent):
            self._tally(share, Verdict.UNDELIVERED)
        else:
            self._tally(share, TALLY_OF[answer.verdict])
            self._verdicts[upstream_tally(share, answer.verdict, answer.reason)] += 1
        self.on_change()

    def collect(self) -> SubmitChanges:
        """What there is to write. Whoever collects it commits it, or stops the pool."""
        if not (self._without_row or self._rows_resolved or self._verdicts or self._answered):
            return NOTHING
        changes = SubmitChanges(
            noted=tuple(self._without_row.values()),
            resolved=tuple(self._rows_resolved),
            tallies=pack_tallies(self._tallies),
            upstream=upstream_verdicts.pack(self._verdicts),
            answered=b"".join(self._answered),
        )
        self._without_row.clear()
        self._rows_resolved.clear()
        self._tallies.clear()
        self._verdicts.clear()
        self._answered.clear()
        return changes

    def _tally(self, share: Forwarded, verdict: Verdict) -> None:
        if not share.counted:
            self._tallies[share.worker, share.epoch, share.difficulty_log2, verdict] += 1
            self._answered.append(_answered(share, verdict))


def unanswered(shares: list[Forwarded]) -> SubmitChanges:
    """The rows of a pool that died: nobody will ever know what became of them."""
    tallies = Counter(
        (it.worker, it.epoch, it.difficulty_log2, Verdict.UNDELIVERED) for it in shares if not it.counted
    )
    verdicts = Counter(upstream_tally(it, SubmitVerdict.UNANSWERED) for it in shares)
    return SubmitChanges(
        resolved=tuple(it.key for it in shares),
        tallies=pack_tallies(tallies),
        upstream=upstream_verdicts.pack(verdicts),
        answered=b"".join(_answered(it, Verdict.UNDELIVERED) for it in shares if not it.counted),
    )


def _answered(share: Forwarded, verdict: Verdict) -> bytes:
    """Its key begins with the hash that it was credited by."""
    return _CREDIT.pack(share.key, share.worker, share.epoch, share.difficulty_log2, verdict, 1)


def upstream_tally(
    share: Forwarded, verdict: SubmitVerdict, reason: RejectReason | None = None
) -> UpstreamTally:
    """What the upstream said, as it is counted: a rejection always has a reason, nothing else has one."""
    rejected = verdict is SubmitVerdict.REJECTED
    why = (reason or RejectReason.OTHER) if rejected else None
    return UpstreamTally(share.worker, share.epoch, share.target, verdict, why)
