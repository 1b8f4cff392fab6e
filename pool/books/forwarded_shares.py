"""Shares on their way to upstreams: from the engine that accepted them to the tally that counts them.

The engine does not tally a share that is forwarded. It is expected here first, then either noted, when its
upstream has taken it, or not sent. What was noted and is not settled by the next commit of the journal
becomes a row there, and the miner's reply waits for that commit: so a pool that dies leaves a row for every
share that it acknowledged and did not count, and the next one counts it as unanswered. What is settled
gives a tally, and the commit that has the tally deletes the row.

An upstream settles a share in one step of two calls. `settle` says that it is settled and only marks it;
`answered` says how, counts it and forgets it. A commit cannot come in between, and where the second call is
never made the share stays, with its row, until the next start.

Invariants: a share that was expected is tallied exactly once (unless the engine had done it already), and
gives exactly one verdict of its upstream if it was sent. At most SUBMIT_LOG_MAX are unsettled; what is
counted between two commits is added up by machine. Must not know: connections, the database.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec

from pool.books import upstream_verdicts
from pool.books.upstream_verdicts import UpstreamTally
from stratum.tallies import Verdict, pack_tallies
from stratum.upstream.shares import (
    SUBMIT_LOG_MAX,
    RejectReason,
    SubmitAnswer,
    SubmitLogFull,
    SubmitVerdict,
)

TALLY_OF: Final = {
    SubmitVerdict.ACCEPTED: Verdict.ACCEPTED,
    SubmitVerdict.REJECTED: Verdict.UPSTREAM_REJECTED,
    SubmitVerdict.UNANSWERED: Verdict.UNDELIVERED,
}


class Forwarded(msgspec.Struct, frozen=True):
    """A share for an upstream. `key` names it among all that are not settled yet."""

    key: bytes
    worker: int
    epoch: int  # the rate number of its job
    difficulty_log2: int  # that the miner is credited at
    counted: bool  # by the engine: a block that was no accepted share; only the upstream's word is to come
    target: int  # what is a share to the upstream


class SubmitChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What the next commit writes. A key may be in both: the one before is settled, the other is new."""

    noted: tuple[Forwarded, ...] = ()
    settled: tuple[bytes, ...] = ()  # keys of rows
    tallies: bytes = b""  # like the engine's
    upstream: bytes = b""  # as upstream_verdicts packs them

    def __bool__(self) -> bool:
        return bool(self.noted or self.settled or self.tallies or self.upstream)


class ForwardedShares:
    """stratum.upstream.shares.SubmitLog for all upstreams of the process.

    `on_change` is called when there is something to commit, and must not block. Raises KeyError for a share
    that comes in another order than the above: that is a bug of the caller's.
    """

    def __init__(
        self, on_change: Callable[[], None] = lambda: None, *, unsettled_max: int = SUBMIT_LOG_MAX
    ) -> None:
        self.on_change = on_change
        self._unsettled_max = unsettled_max
        self._expected: dict[bytes, Forwarded] = {}
        self._noted: dict[bytes, Forwarded] = {}  # and not settled
        self._marked: set[bytes] = set()  # of those, until `answered`
        self._without_row: dict[bytes, Forwarded] = {}  # of those, since the last commit
        self._rows_settled: list[bytes] = []
        self._tallies: Counter[tuple[int, int, int, Verdict]] = Counter()
        self._verdicts: Counter[UpstreamTally] = Counter()

    def __len__(self) -> int:
        """How many shares are noted and not settled."""
        return len(self._noted)

    def expect(self, share: Forwarded) -> None:
        """The share is about to be submitted: in the same step follows `note` or `not_sent`."""
        if share.key in self._expected or share.key in self._noted:
            raise KeyError(f"{share.key.hex()} is expected already")
        self._expected[share.key] = share

    def not_sent(self, key: bytes) -> None:
        """No upstream took it: it is undelivered, and there is no verdict."""
        self._tally(self._expected.pop(key), Verdict.UNDELIVERED)
        self.on_change()

    def note(self, key: bytes) -> None:
        """Its upstream is about to send it. Raises SubmitLogFull."""
        share = self._expected[key]
        if len(self._noted) >= self._unsettled_max:
            raise SubmitLogFull(f"{self._unsettled_max} shares are not settled")
        del self._expected[key]
        self._noted[key] = self._without_row[key] = share
        self.on_change()

    def settle(self, key: bytes, verdict: SubmitVerdict) -> None:
        """Its answer comes with `answered`, in the same step."""
        if key not in self._noted or key in self._marked:
            raise KeyError(f"{key.hex()} is not noted, or settled already")
        self._marked.add(key)

    def answered(self, answer: SubmitAnswer) -> None:
        """How the share is settled: counted once, and forgotten."""
        self._marked.remove(answer.key)
        share = self._noted.pop(answer.key)
        if self._without_row.pop(answer.key, None) is None:
            self._rows_settled.append(answer.key)
        self._tally(share, TALLY_OF[answer.verdict])
        self._verdicts[upstream_tally(share, answer.verdict, answer.reason)] += 1
        self.on_change()

    def take(self) -> SubmitChanges:
        """What there is to write. Whoever takes it commits it, or stops the pool."""
        changes = SubmitChanges(
            noted=tuple(self._without_row.values()),
            settled=tuple(self._rows_settled),
            tallies=pack_tallies(self._tallies),
            upstream=upstream_verdicts.pack(self._verdicts),
        )
        self._without_row.clear()
        self._rows_settled.clear()
        self._tallies.clear()
        self._verdicts.clear()
        return changes

    def _tally(self, share: Forwarded, verdict: Verdict) -> None:
        if not share.counted:
            self._tallies[share.worker, share.epoch, share.difficulty_log2, verdict] += 1


def unanswered(shares: list[Forwarded]) -> SubmitChanges:
    """The rows of a pool that died: nobody will ever know what became of them."""
    tallies = Counter(
        (it.worker, it.epoch, it.difficulty_log2, Verdict.UNDELIVERED) for it in shares if not it.counted
    )
    verdicts = Counter(upstream_tally(it, SubmitVerdict.UNANSWERED) for it in shares)
    return SubmitChanges(
        settled=tuple(it.key for it in shares),
        tallies=pack_tallies(tallies),
        upstream=upstream_verdicts.pack(verdicts),
    )


def upstream_tally(
    share: Forwarded, verdict: SubmitVerdict, reason: RejectReason | None = None
) -> UpstreamTally:
    """What the upstream said, as it is counted: a rejection always has a reason, nothing else has one."""
    rejected = verdict is SubmitVerdict.REJECTED
    why = (reason or RejectReason.OTHER) if rejected else None
    return UpstreamTally(share.worker, share.epoch, share.target, verdict, why)
