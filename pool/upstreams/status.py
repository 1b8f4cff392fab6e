"""What a channel on an upstream does at this moment, for whoever shows it.

Must not know: where it is shown, and how it is found out.
"""

import msgspec

from stratum.figures import Count, Seconds


class EndpointStatus(msgspec.Struct, frozen=True):
    """One address of an upstream: idle, trying, up or down; why, where it is not up; since how long."""

    address: str
    state: str
    reason: str
    age_s: Seconds


class UpstreamStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One channel on an upstream; an order's has its number."""

    upstream_id: int
    order_id: int | None
    number: int  # of the channel
    serving: str | None  # address of the endpoint, None where none serves
    since_s: Seconds  # how long it serves, or none does
    endpoints: tuple[EndpointStatus, ...]
    sessions: Count
    prefix_bytes: int  # of extranonce2: one for each session
    miner_bytes: int
    limits: str  # who will not mine on it and what else that means, in words
    unanswered: Count  # shares that were sent and have no answer yet
    diverted: bool  # its miners are on the fallback channel
