"""What watches one miner over time: its handshake, its silence, its invalid shares, whether it left.

A state machine without I/O that is asked every few seconds and says what is to be done about the miner now:
who is silent is asked whether it lives, who finds nothing but invalid shares is given a fresh job, then asked
to connect again, and at last dropped. Who does so with other extranonces than it had is dropped soon: it has
passed them over, as Bitaxes and SRI's translator do, and comes again to where they are its first ones.

Invariants: each kind of help comes once, in its order; one valid share starts the count anew.
Must not know: jobs, difficulties, channels.
"""

from enum import Enum
from typing import Final

import msgspec

UNTAKEN: Final = "other extranonces not taken"
UNTAKEN_S: Final = 15.0  # of invalid shares alone; what comes late, of the work before, is valid meanwhile


class SessionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds and counts after which a miner is helped, asked to come back, or dropped."""

    subscribe_s: float = 10.0
    authorise_s: float = 30.0
    idle_s: float = 600.0
    ping_answer_s: float = 30.0
    invalid_job_s: float = 60.0
    invalid_reconnect_s: float = 120.0
    invalid_drop_s: float = 180.0
    leave_s: float = 10.0  # after client.reconnect for a move; whoever does not know it is dropped
    bad_lines_max: int = 10  # a line broken by the network is rare: ten are abuse
    refusals_max: int = 10  # a wrong tenant name does not get right by repetition


class Due(Enum):
    """What is to be done about a miner."""

    PING = "ping"
    FRESH_JOB = "fresh job"
    RECONNECT = "reconnect"


class Liveness:
    """`closing` is why the miner is to be dropped; the limits are the operator's."""

    __slots__ = (
        "_accepted",
        "_active_at_s",
        "_bad_lines",
        "_invalid_since_s",
        "_invalid_step",
        "_leave_by_s",
        "_limits",
        "_pinged_at_s",
        "_refusals",
        "_rejected",
        "_told_at_s",
        "closing",
    )

    def __init__(self, limits: SessionLimits, now_s: float) -> None:
        self.closing: str | None = None
        self._limits = limits
        self._active_at_s = now_s  # of who does not mine yet: when it came
        self._leave_by_s: float | None = None
        self._pinged_at_s: float | None = None
        self._invalid_since_s: float | None = None
        self._invalid_step = 0
        self._told_at_s: float | None = None  # other extranonces, which it may not have taken
        self._accepted = self._rejected = 0
        self._bad_lines = self._refusals = 0

    def spoke(self, now_s: float) -> None:
        """It mines, and said something, whatever it was: it lives, however short the bound for silence is."""
        self._active_at_s, self._pinged_at_s = now_s, None

    def bad_line(self) -> str | None:
        """It said something that is no message; why to drop it, if that was once too often."""
        self._bad_lines += 1
        return "malformed lines" if self._bad_lines >= self._limits.bad_lines_max else None

    def refused(self, *, authorised: bool) -> str | None:
        """A worker of its was refused; why to drop it, if that was once too often and it has no other."""
        self._refusals += 1
        too_often = self._refusals >= self._limits.refusals_max and not authorised
        return "refused too often" if too_often else None

    def sent_away(self, now_s: float, *, at_once: bool) -> None:
        """It was asked to connect again, and is dropped if it does not."""
        self._leave_by_s = now_s + (0.0 if at_once else self._limits.leave_s)

    def told_extranonces(self, now_s: float) -> None:
        """Other ones than it had, with a job."""
        self._told_at_s = now_s

    @property
    def counted(self) -> tuple[int, int]:
        """Shares accepted and rejected by the last check."""
        return self._accepted, self._rejected

    @property
    def leaving(self) -> bool:
        """Whether it was sent away."""
        return self._leave_by_s is not None

    def check_handshake(self, *, subscribed: bool, now_s: float) -> None:
        """It does not mine yet: for how long not?"""
        waited_s = now_s - self._active_at_s
        if not subscribed and waited_s >= self._limits.subscribe_s:
            self.closing = "no subscribe"
        elif waited_s >= self._limits.authorise_s:
            self.closing = "no authorize"

    @property
    def rests_until_s(self) -> float:
        """Until when there is nothing to be done about it, as long as nothing of it is rejected."""
        waiting = (self._leave_by_s, self._pinged_at_s, self._invalid_since_s)
        return self._active_at_s + self._limits.idle_s if waiting == (None, None, None) else 0.0

    def check_shares(self, accepted: int, rejected: int, now_s: float, heard_s: float) -> Due | None:
        """It mines: with these counts of shares since it connected, of which the latest accepted one was seen
        at heard_s."""
        limits = self._limits
        valid, invalid = accepted != self._accepted, rejected != self._rejected
        self._accepted, self._rejected = accepted, rejected
        if self._leave_by_s is not None and now_s >= self._leave_by_s:
            self.closing = "moved"
            return None
        if valid or invalid:
            self.spoke(now_s if invalid else max(heard_s, self._active_at_s))
        if valid:
            self._invalid_since_s, self._invalid_step = None, 0
            if self._told_at_s is not None and now_s - self._told_at_s >= UNTAKEN_S:
                self._told_at_s = None
        elif invalid and self._invalid_since_s is None:
            self._invalid_since_s = now_s
        if self._pinged_at_s is not None:
            if now_s - self._pinged_at_s >= limits.ping_answer_s:
                self.closing = "idle"
                return None
        elif now_s - self._active_at_s >= limits.idle_s:
            self._pinged_at_s = now_s
            return Due.PING
        return self._help(now_s) if invalid and not valid else None

    def _help(self, now_s: float) -> Due | None:
        """Nothing but invalid shares: a fresh job, then a reconnect, then good-bye."""
        assert self._invalid_since_s is not None
        limits = self._limits
        invalid_s = now_s - self._invalid_since_s
        if self._told_at_s is not None and min(invalid_s, now_s - self._told_at_s) >= UNTAKEN_S:
            self.closing = UNTAKEN
            return None
        if self._invalid_step == 0 and invalid_s >= limits.invalid_job_s:
            self._invalid_step = 1
            return Due.FRESH_JOB
        if self._invalid_step == 1 and invalid_s >= limits.invalid_reconnect_s:
            self._invalid_step = 2
            return Due.RECONNECT
        if self._invalid_step == 2 and invalid_s >= limits.invalid_drop_s:
            self.closing = "only invalid shares"
        return None
