"""Who may connect: counts by address, and bans for protocol abuse before authorize.

A whole container is behind one address, so an address is never banned for what one machine does: only
for many abusive connections in a short time, and never while any session from it is authorised.
Must not know: sockets, messages, tenants.
"""

from collections import Counter, OrderedDict

import msgspec


class DoorLimits(msgspec.Struct, frozen=True, kw_only=True):
    sessions_max: int = 100_000  # the wiring lowers it to what the descriptors allow
    sessions_per_address_max: int = 65_536
    half_open_per_address_max: int = 1_024
    ban_after_abuses: int = 100  # more than a container's worth of one broken firmware in a row
    abuse_window_s: float = 60.0
    ban_s: float = 600.0


ABUSERS_MAX = 65_536  # addresses remembered; the oldest is forgotten first


class Doorkeeper:
    """Every connection passes: `enter`, then `settled` once authorised, then `leave`."""

    def __init__(self, limits: DoorLimits) -> None:
        self.limits = limits
        self.sessions = 0
        self.closed: str | None = None  # why nobody is let in at all
        self._sessions: Counter[str] = Counter()
        self._half_open: Counter[str] = Counter()
        self._abuses: OrderedDict[str, tuple[float, int]] = OrderedDict()  # address -> (window start, count)
        self._banned_until_s: OrderedDict[str, float] = OrderedDict()

    def enter(self, address: str, now_s: float) -> str | None:
        """None and the connection is counted, or why it is refused."""
        if self.closed is not None:
            return self.closed
        until_s = self._banned_until_s.get(address)
        if until_s is not None:
            if now_s < until_s:
                return "banned for protocol abuse"
            del self._banned_until_s[address]
        if self.sessions >= self.limits.sessions_max:
            return "pool is full"
        if self._sessions[address] >= self.limits.sessions_per_address_max:
            return "too many connections from this address"
        if self._half_open[address] >= self.limits.half_open_per_address_max:
            return "too many unfinished handshakes from this address"
        self.sessions += 1
        self._sessions[address] += 1
        self._half_open[address] += 1
        return None

    def settled(self, address: str) -> None:
        """The connection is authorised."""
        self._take(self._half_open, address)

    def leave(self, address: str, *, settled: bool) -> None:
        self.sessions -= 1
        self._take(self._sessions, address)
        if not settled:
            self._take(self._half_open, address)

    def abuse(self, address: str, now_s: float) -> None:
        """An unauthorised connection broke the protocol beyond doubt."""
        start_s, count = self._abuses.pop(address, (now_s, 0))
        if now_s - start_s > self.limits.abuse_window_s:
            start_s, count = now_s, 0
        count += 1
        if count >= self.limits.ban_after_abuses and self._sessions[address] == self._half_open[address]:
            self._banned_until_s[address] = now_s + self.limits.ban_s
            self._forget_oldest(self._banned_until_s)
            return
        self._abuses[address] = (start_s, count)
        self._forget_oldest(self._abuses)

    @staticmethod
    def _take(counter: Counter[str], address: str) -> None:
        counter[address] -= 1
        if counter[address] <= 0:
            del counter[address]

    @staticmethod
    def _forget_oldest(book: OrderedDict[str, float] | OrderedDict[str, tuple[float, int]]) -> None:
        if len(book) > ABUSERS_MAX:
            book.popitem(last=False)
