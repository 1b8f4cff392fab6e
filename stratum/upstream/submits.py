"""The shares that one connection has sent to its upstream and that wait for their answers.

Invariants: every share that was sent comes out once: resolved by its answer, given up, or taken at the end;
the table is bounded, with places kept for blocks.
Must not know: sockets, states, what a share is worth.
"""

from collections.abc import Callable

import msgspec

from stratum import messages
from stratum.messages import Answer
from stratum.upstream.messages import accepted, reject_reason, words_of
from stratum.upstream.shares import (
    UNANSWERED_BLOCKS_MAX,
    UNANSWERED_MAX,
    NotSent,
    RejectReason,
    SubmitAnswer,
    SubmitVerdict,
    UpstreamShare,
)


class _Sent(msgspec.Struct, frozen=True):
    share: UpstreamShare
    at_s: float
    again: bool  # it had been sent before, on an earlier connection


class Submits:
    """`cleaned` makes the upstream's words fit for others; ids count from `first_id`."""

    def __init__(self, *, cleaned: Callable[[object], str], first_id: int) -> None:
        self._cleaned = cleaned
        self._next_id = first_id
        self._sent: dict[int, _Sent] = {}  # by id, oldest first

    def __len__(self) -> int:
        return len(self._sent)

    @property
    def oldest_s(self) -> float | None:
        """When the share was sent that waits longest."""
        return next(iter(self._sent.values())).at_s if self._sent else None

    def refusal(self, share: UpstreamShare) -> NotSent | None:
        """Whether there is room for this one."""
        bound = UNANSWERED_MAX + (UNANSWERED_BLOCKS_MAX if share.is_block else 0)
        return NotSent.TOO_MANY_UNANSWERED if len(self._sent) >= bound else None

    def send(self, share: UpstreamShare, now_s: float, *, user: str, mask: int | None, again: bool) -> bytes:
        """The line that submits a share; `mask` None: without version bits."""
        number, self._next_id = self._next_id, self._next_id + 1
        params = [
            user,
            share.job.job_id,
            (share.job.filler + share.extranonce2).hex(),
            f"{share.ntime:08x}",
            f"{share.nonce:08x}",
        ]
        if mask is not None:
            # BIP 310: the upstream takes these bits inside the mask, and the job's version outside it.
            params.append(f"{share.version & mask:08x}")
        self._sent[number] = _Sent(share, now_s, again)
        return messages.request(number, "mining.submit", params)

    def resolve(self, number: int, answer: Answer, line: bytes) -> SubmitAnswer | None:
        """The answer to the submit with this id; None if none with it waits.

        A share that was sent again may have arrived the first time. Then "duplicate" says that it did, and
        was good: pools remember only shares that they count. "Stale" says nothing of the kind, it is what
        pools look at first; nor does anything else that is not about the share itself.
        """
        sent = self._sent.pop(number, None)
        if sent is None:
            return None
        if accepted(answer):
            return SubmitAnswer(share=sent.share, verdict=SubmitVerdict.ACCEPTED)
        said = words_of(answer, line)
        reason, words = reject_reason(answer, said), self._cleaned(said)
        if sent.again and reason is RejectReason.DUPLICATE:
            return SubmitAnswer(share=sent.share, verdict=SubmitVerdict.ACCEPTED, words=words)
        if sent.again and reason is not RejectReason.LOW_DIFFICULTY:
            return SubmitAnswer(share=sent.share, verdict=SubmitVerdict.UNANSWERED, words=words)
        return SubmitAnswer(share=sent.share, verdict=SubmitVerdict.REJECTED, reason=reason, words=words)

    def give_up(self, sent_until_s: float) -> list[SubmitAnswer]:
        """No longer wait for answers to what was sent until then; one that comes all the same is ignored."""
        overdue = [number for number, sent in self._sent.items() if sent.at_s <= sent_until_s]
        return [unanswered(self._sent.pop(number).share) for number in overdue]

    def collect(self) -> tuple[list[UpstreamShare], list[UpstreamShare]]:
        """At the end of the connection: what was sent once, and what was sent a second time."""
        sent, self._sent = self._sent, {}
        once = [entry.share for entry in sent.values() if not entry.again]
        return once, [entry.share for entry in sent.values() if entry.again]


def unanswered(share: UpstreamShare) -> SubmitAnswer:
    """How a share is resolved that nobody will ever answer."""
    return SubmitAnswer(share=share, verdict=SubmitVerdict.UNANSWERED)
