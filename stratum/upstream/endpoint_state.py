"""What we know of one endpoint of an upstream between connections: when to try it again, and as whom.

    IDLE --try--> TRYING --first job--> UP --lost--> DOWN (or IDLE, where nothing speaks against it)

Invariants: the pause before the next attempt is bounded, has jitter, and doubles with every connection that
did not last; whoever lasted may be tried again at once.
Must not know: tasks, streams, the other endpoints.
"""

import math
import random
import ssl
from enum import Enum
from typing import Final

import msgspec

from stratum.upstream.connection import Failure, Fault
from stratum.upstream.endpoint import UpstreamEndpoint


class PlaceState(Enum):
    """What is known of an endpoint."""

    IDLE = "idle"
    TRYING = "trying"
    UP = "up"
    DOWN = "down"


class BackOff(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds between attempts."""

    min_s: float = 1.0
    max_s: float = 60.0
    steady_s: float = 60.0  # a connection that lasted so long is forgiven its end
    # A pool that connects and rejects every share would be taken for healthy every minute.
    rejects_pause_s: float = 600.0


class PlaceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """For an operator: how an endpoint is, since when (monotonic); where it is not up, why it was lost."""

    endpoint: UpstreamEndpoint
    state: PlaceState
    reason: str
    since_s: float


_FORGIVEN: Final = {Fault.CLOSED, Fault.RECONNECT}


class Place:
    """One endpoint. `session_id` may get our last extranonce1 back; `redirect` is where it sent us."""

    def __init__(
        self, endpoint: UpstreamEndpoint, tls: ssl.SSLContext | None, back_off: BackOff, rng: random.Random
    ) -> None:
        self.endpoint = endpoint
        self.tls = tls
        self.not_before_s = -math.inf
        self.session_id: str | None = None
        self.redirect: tuple[str, int] | None = None
        self.connection = 0  # the newest one
        self.logged = ""  # why it failed, when that was logged last
        self.state = PlaceState.IDLE
        self.reason = "not tried yet"
        self._since_s = 0.0
        self._back_off = back_off
        self._rng = rng
        self._pause_s = 0.0

    @property
    def status(self) -> PlaceStatus:
        """As of now."""
        return PlaceStatus(
            endpoint=self.endpoint, state=self.state, reason=self.reason, since_s=self._since_s
        )

    def enter(self, state: PlaceState, reason: str, now_s: float) -> None:
        """Be in another state from now on."""
        self.state, self.reason, self._since_s = state, reason, now_s

    def next_address(self) -> tuple[str, int]:
        """Where to connect this time. A redirection counts once."""
        redirect, self.redirect = self.redirect, None
        return redirect or (self.endpoint.host, self.endpoint.port)

    def next_session_id(self) -> str | None:
        """Which session to resume this time. Once: an upstream that cannot must not be asked for ever."""
        session_id, self.session_id = self.session_id, None
        return session_id

    def ended(self, failure: Failure, *, lasted_s: float, now_s: float) -> None:
        """A connection is over; it was up for `lasted_s`, 0 for one that never was."""
        if failure.fault is Fault.ENDED:
            self.enter(PlaceState.IDLE, failure.reason, now_s)
            return
        self.enter(PlaceState.DOWN, failure.reason, now_s)
        if lasted_s >= self._back_off.steady_s:
            self._pause_s = 0.0
        if lasted_s < self._back_off.steady_s or failure.fault not in _FORGIVEN:
            self._pause_s = min(max(2 * self._pause_s, self._back_off.min_s), self._back_off.max_s)
        pause_s = self._pause_s * self._rng.uniform(0.5, 1.0)
        if failure.fault is Fault.REJECTS:
            pause_s = self._back_off.rejects_pause_s
        if failure.reconnect is not None:
            pause_s = max(pause_s, failure.reconnect.wait_s)
            if failure.reconnect.host is not None or failure.reconnect.port is not None:
                host = failure.reconnect.host or self.endpoint.host
                self.redirect = host, failure.reconnect.port or self.endpoint.port
        self.not_before_s = now_s + pause_s
