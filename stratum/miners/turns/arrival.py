"""A connection that was let in and waits for its first turn: until then it costs a descriptor and a place.

Letting somebody in is cheap, so that whoever floods the door waits inside it, among his own, and not in
front of everybody else. What costs (a session, a handshake, a job) is done when it is the turn of his source;
whoever has left by then has cost nothing of it.

Must not know: what is served, how turns are given.
"""

import select
import socket
from collections.abc import Callable

from stratum.miners.turns.connection_limits import MADE_ROOM, Place

GONE_COST = 3  # in lines that Python answers: to close what has left, with all that it had sent


class Arrival:
    """One of those who wait. `begin` serves it from its first turn on, and says what that cost, in lines; an
    OSError of it is the connection's end. `on_end` is told why it came to nothing.
    """

    __slots__ = ("_begin", "_on_end", "_waits", "address", "place", "sock")

    def __init__(
        self,
        sock: socket.socket,
        address: str,
        place: Place,
        *,
        begin: Callable[["Arrival"], int],
        on_end: Callable[["Arrival", str], None],
    ) -> None:
        self.sock = sock
        self.address = address
        self.place = place
        self._begin = begin
        self._on_end = on_end
        self._waits = True
        place.holder = self

    def make_room(self) -> None:
        self.end(MADE_ROOM)

    def end(self, reason: str) -> None:
        """Close it, if nobody serves it yet."""
        if self._waits:
            self._waits = False
            self.sock.close()
            self._on_end(self, reason)

    def take_turn(self) -> int:
        """Serve it from now on."""
        if not self._waits:
            return 0
        try:
            cost = self._begin(self)
        except OSError:  # it left before we came to it, or the kernel cannot watch another one
            self.end("connection lost")
            return GONE_COST
        self._waits = False
        return cost

    @property
    def has_left(self) -> bool:
        """Whether it sends no more, and so does not wait for what we would say."""
        poll = select.poll()
        poll.register(self.sock, select.POLLRDHUP if hasattr(select, "POLLRDHUP") else select.POLLHUP)
        return bool(poll.poll(0))
