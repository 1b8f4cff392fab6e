"""The network between miners and a pool: connections whose bytes come late, in order, or not at all.

The pool's end of a connection is a real socket, so that the engine reads and writes it as it does in
production; the miner's end is this. Bytes of one connection never overtake each other, those of two do. A
connection that is cut is closed at both ends, with what was on its way lost by chance; in one that swallows,
bytes are lost both ways and nobody is told.
"""

import heapq
import select
import socket
from collections.abc import Callable
from itertools import count
from typing import Final, Protocol

import trio

from tests.simulation.dice import Dice

READ_BYTES: Final = 1 << 16
EVENTS_MAX: Final = 1024
DELAY_S: Final = (0.0005, 0.03)
LATE_S: Final = 0.6  # now and then a packet is sent again
LATE_CHANCE: Final = 0.03


class Caller(Protocol):
    """Who has opened a connection. After `closed` nothing more is heard."""

    def heard(self, data: bytes) -> None: ...
    def closed(self) -> None: ...


class Connection:
    """One connection, as its caller has it."""

    def __init__(self, network: "Network", caller: Caller, sock: socket.socket, chance: Dice) -> None:
        self.swallows = False
        self.open = True
        self._network, self._caller, self._sock, self._chance = network, caller, sock, chance
        self._up_s = self._down_s = 0.0  # when what was said last arrives

    def fileno(self) -> int:
        return self._sock.fileno()

    def say(self, data: bytes) -> None:
        """To the pool, where it arrives a while later."""
        self._up_s = max(self._up_s, self._due_s())
        self._network.at(self._up_s, lambda: self._arrives(data))

    def close(self) -> None:
        """Both ends are told; what is on its way arrives or does not."""
        if self.open:
            self.open = False
            self._network.forget(self)
            self._sock.close()
            self._network.at(self._due_s(), self._caller.closed)

    def read(self) -> None:
        """What the pool has written by now is on its way."""
        while self.open:
            try:
                data = self._sock.recv(READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            self._down_s = max(self._down_s, self._due_s())
            if not data:
                self.open = False
                self._network.forget(self)
                self._sock.close()
                self._network.at(self._down_s, self._caller.closed)
            elif not self.swallows:
                self._network.at(self._down_s, lambda data=data: self._caller.heard(data))  # type: ignore[misc]

    def lost_with_its_pool(self, kept: bool) -> None:
        """The pool is gone. What it had said by then arrives, where that is `kept`."""
        if kept:
            self.read()
        self.close()

    def _arrives(self, data: bytes) -> None:
        if self.open and not self.swallows:
            try:
                self._sock.send(data)
            except OSError:
                self.close()

    def _due_s(self) -> float:
        late_s = LATE_S if self._chance.random() < LATE_CHANCE else 0.0
        return trio.current_time() + self._chance.uniform(*DELAY_S) + late_s


class Network:
    """Delivers what is due, in the order in which it is. All that moves by itself in a world is here."""

    def __init__(self) -> None:
        self.connections: dict[int, Connection] = {}  # by descriptor, in the order in which they came
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._ready = select.epoll()
        self._woken = trio.Event()

    def at(self, time_s: float, act: Callable[[], None]) -> None:
        """Do it then, by the clock that only goes forward."""
        heapq.heappush(self._due, (time_s, next(self._numbers), act))
        self._woken.set()

    def after(self, delay_s: float, act: Callable[[], None]) -> None:
        self.at(trio.current_time() + delay_s, act)

    def connect(self, caller: Caller, chance: Dice) -> tuple[Connection, socket.socket]:
        """A connection, and its other end."""
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        connection = Connection(self, caller, near, chance)
        self.connections[near.fileno()] = connection
        self._ready.register(near, select.EPOLLIN)
        return connection, far

    def forget(self, connection: Connection) -> None:
        self._ready.unregister(connection.fileno())
        del self.connections[connection.fileno()]

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._deliver)
                nursery.start_soon(self._read)
        finally:
            for connection in list(self.connections.values()):
                connection.close()
            self._ready.close()

    async def _deliver(self) -> None:
        while True:
            self._woken = trio.Event()
            now_s = trio.current_time()
            while self._due and self._due[0][0] <= now_s:
                heapq.heappop(self._due)[2]()
            with trio.move_on_at(self._due[0][0] if self._due else float("inf")):
                await self._woken.wait()

    async def _read(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._ready.fileno())
            ready = {descriptor for descriptor, _ in self._ready.poll(0, EVENTS_MAX)}
            for descriptor, connection in list(self.connections.items()):
                if descriptor in ready:
                    connection.read()
