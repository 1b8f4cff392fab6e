"""Who is at the other end of the Unix socket, as the kernel knows it, and how many connections each may have.

The account that runs the pool, and root, connect as they like: they could end the pool. Another account has
few connections, and one that turned out to be nobody's is not answered for a while: it costs an accept, and a
pause before the next one, so that what is left of the time is the miners'. Whoever may try at all is in the
socket's group.

Must not know: users, commands.
"""

import socket
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection
from typing import Final

import trio

UCRED: Final = struct.Struct("3i")  # process, user, group
PEER_CONNECTIONS_MAX: Final = 8  # of an account: a command has one, and they are carried out one by one
PEERS_CONNECTIONS_MAX: Final = 32  # of all of them: half of what is answered at a time
STRANGER_S: Final = 5.0  # for which an account that was nobody's is not looked up again
STRANGERS_MAX: Final = 256  # accounts that this is kept of: a host has less; the oldest makes room
PAUSE_S: Final = 0.02  # after each that is turned away: 50 a second, of which an operator waits for a few


class Peers(trio.abc.Listener[trio.SocketStream]):
    """A listener that hands on whom to answer. `without_bounds` are user numbers; `refused` is told of each
    connection of an account that is nobody's."""

    def __init__(
        self,
        listener: trio.abc.Listener[trio.SocketStream],
        without_bounds: Collection[int],
        refused: Callable[[int], None] = lambda uid: None,
    ) -> None:
        self._listener, self._refused = listener, refused
        self._without_bounds = without_bounds
        self._open: Counter[int] = Counter()
        self._strangers: OrderedDict[int, float] = OrderedDict()  # until when

    async def accept(self) -> trio.SocketStream:
        while True:
            stream = await self._listener.accept()
            uid = peer_uid(stream)
            if self._may(uid):
                self._open[uid] += 1
                return stream
            if self._is_stranger(uid):
                self._refused(uid)
            await stream.aclose()
            await trio.sleep(PAUSE_S)

    async def aclose(self) -> None:
        await self._listener.aclose()

    def left(self, uid: int) -> None:
        """A connection of that account is over."""
        self._open[uid] -= 1
        if not self._open[uid]:
            del self._open[uid]

    def nobody(self, uid: int) -> None:
        """That account is no user's."""
        self._refused(uid)
        self._strangers.pop(uid, None)
        self._strangers[uid] = trio.current_time() + STRANGER_S
        if len(self._strangers) > STRANGERS_MAX:
            self._strangers.popitem(last=False)

    def _is_stranger(self, uid: int) -> bool:
        return self._strangers.get(uid, 0.0) > trio.current_time()

    def _may(self, uid: int) -> bool:
        if uid in self._without_bounds:
            return True
        others = sum(count for it, count in self._open.items() if it not in self._without_bounds)
        return (
            not self._is_stranger(uid)
            and self._open[uid] < PEER_CONNECTIONS_MAX
            and others < PEERS_CONNECTIONS_MAX
        )


def peer_uid(stream: trio.SocketStream) -> int:
    """Whose process is at the other end; the kernel took it down when that connected (unix(7))."""
    credentials = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
    _, uid, _ = UCRED.unpack(credentials)
    return int(uid)
