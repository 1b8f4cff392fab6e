"""A share on its way to an upstream: what is sent, and what can come of it.

Invariant: a share that was sent is resolved once, by exactly one of accepted, rejected, unanswered.
Must not know: connections, who found the share, what it is worth.
"""

from enum import Enum
from typing import Final

import msgspec

# A site finds 3,700 shares/s where the upstream's difficulty is as low as the miners' own; at a usual one it
# is a few a second. So many are four seconds of the first.
UNANSWERED_MAX: Final = 16_384
# Beyond that bound for those that are blocks: there are never many, and not one may be left behind.
UNANSWERED_BLOCKS_MAX: Final = 256
# One connection that serves, and the one before it whose last answers are still to come.
UNRESOLVED_MAX: Final = 2 * (UNANSWERED_MAX + UNANSWERED_BLOCKS_MAX)


class SubmitVerdict(Enum):
    """What an upstream made of a share."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNANSWERED = "unanswered"  # nobody will ever know


class RejectReason(Enum):
    """Why an upstream rejected a share: a short list, whatever the pool's own words are."""

    STALE = "stale"
    DUPLICATE = "duplicate"
    LOW_DIFFICULTY = "low_difficulty"
    UNAUTHORISED = "unauthorised"
    NOT_SUBSCRIBED = "not_subscribed"
    OTHER = "other"


class NotSent(Enum):
    """Why a share was not sent at all: no answer will come."""

    OTHER_SOURCE = "other_source"  # its job is not from this upstream
    NOT_CONNECTED = "not_connected"  # the connection that its job came from is gone
    LOW_DIFFICULTY = "low_difficulty"  # its hash is above the target that the upstream set for the job
    # The upstream's mask is narrower than the one it was mined with: no submit can say these bits.
    VERSION_OUTSIDE_MASK = "version_outside_mask"
    TOO_MANY_UNANSWERED = "too_many_unanswered"  # by this connection
    TOO_MANY_UNRESOLVED = "too_many_unresolved"  # by all upstreams


class UpstreamJob(msgspec.Struct, frozen=True, kw_only=True):
    """The `origin` of work from an upstream: what a submit on it needs."""

    upstream: str
    connection: int  # counts those to the upstream: job ids mean nothing on another one
    job_id: str  # as the upstream calls it
    version: int
    filler: bytes  # the upstream's extranonce2 begins with it
    target: int  # a hash not above this is a share of the upstream


class UpstreamShare(msgspec.Struct, frozen=True, kw_only=True):
    """One share for an upstream. `key` is the owner's name for it, unique among those not resolved yet."""

    key: bytes
    job: UpstreamJob
    extranonce2: bytes  # our prefix and the miner's part
    ntime: int
    nonce: int
    version: int  # as hashed
    is_block: bool = False


class SubmitAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How a share was resolved. `words` are the upstream's own, for a log; empty where there are none."""

    share: UpstreamShare
    verdict: SubmitVerdict
    reason: RejectReason | None = None  # where it was rejected
    words: str = ""

    @property
    def key(self) -> bytes:
        """The owner's name for the share."""
        return self.share.key
