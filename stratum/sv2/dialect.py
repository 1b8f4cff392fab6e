"""All who speak Stratum V2, on three tasks: one hears them, one sends, one has patience.

Tasks of their own would cost each of them 35 us of scheduling a share, and five thousand that are cut off
together would all be run at once, before anybody else is. Here a round is some of them, then others get
their turn.

Invariants: what one does ends its own connection and nothing else; the sockets of those who have ended are
closed after LAST_WORDS_S at the latest. Must not know: what is said, encryption, whose turn it is.
"""

import socket
from collections import OrderedDict
from itertools import islice
from typing import Final

import trio

from stratum.miners.poller import Poller, new_poller
from stratum.miners.switchboard import Switchboard
from stratum.miners.turns.connection_limits import ConnectionLimits, Place
from stratum.sv2.authority import Credentials
from stratum.sv2.connection import Sv2Connection

EVENTS_PER_ROUND: Final = 32  # shares of as many machines, 3 ms
SENDS_PER_ROUND: Final = 32  # a job each, encrypted and sent: 1 ms
TICK_S: Final = 0.5
# Of one known source, that have been begun with and have no channel yet. Who comes from there while there are
# so many waits before his handshake and not behind it: else those who are slow would be let go, at the bound
# of half-open ones of a source, for others who are as slow. Of who says nothing nobody waits for longer, and
# for those of other sources nobody waits.
SHAKING_MAX: Final = 512
SHAKES_S: Final = 5.0
CHECKS_AT_ONCE: Final = 256  # of those whose time is bounded, a tenth of a millisecond


class Sv2:
    """stratum.miners.listening.listeners.Dialect, and the `Crowd` of its connections: those who know the
    authority's key."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self.channels = 0  # now
        self.handshakes = 0  # since the start
        self._poller: Poller | None = None  # while it runs
        self._all: set[Sv2Connection] = set()
        self._unsent: dict[Sv2Connection, None] = {}  # who has waited longest first
        self._to_send = trio.Event()
        self._shaking: dict[str, OrderedDict[Sv2Connection, float]] = {}  # by source; and since when
        self._timed: set[Sv2Connection] = set()
        self._patience = trio.Event()

    @property
    def connections(self) -> int:
        """Now."""
        return len(self._all)

    def connection(
        self, board: Switchboard, limits: ConnectionLimits, sock: socket.socket, address: str, place: Place
    ) -> int:
        """Its first turn has come: what that cost. Raises OSError where it cannot be served."""
        if self._poller is None:
            raise ConnectionAbortedError
        connection = Sv2Connection(self, board, limits, sock, address, place)
        if limits.knows(place.source):
            shaking = self._shaking.setdefault(connection.source, OrderedDict())
            shaking[connection] = trio.current_time()
        return connection.begin()

    def _may_arrive(self, source: str) -> bool:
        shaking = self._shaking.get(source)
        if shaking is None or len(shaking) < SHAKING_MAX:
            return True
        longest, since_s = next(iter(shaking.items()))
        if trio.current_time() - since_s < SHAKES_S:
            return False
        self._shakes_no_more(longest)
        return True

    def _shakes_no_more(self, connection: Sv2Connection) -> None:
        shaking = self._shaking.get(connection.source)
        if shaking is not None and shaking.pop(connection, None) is not None and not shaking:
            del self._shaking[connection.source]

    async def run(
        self, board: Switchboard, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Until cancelled; then every connection is closed."""
        poller = self._poller = new_poller(board.engine)
        board.lanes.dear.may_arrive = self._may_arrive
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hear, poller, board)
                nursery.start_soon(self._send)
                nursery.start_soon(self._have_patience)
                task_status.started()
        finally:
            for connection in list(self._all):
                connection.close()
            self._poller = None
            poller.close()

    async def _hear(self, poller: Poller, board: Switchboard) -> None:
        descriptor = poller.fileno()
        while True:
            await trio.lowlevel.wait_readable(descriptor)
            for connection, events in poller.poll(EVENTS_PER_ROUND).ready:
                connection.ready(events)
            board.judge()
            await board.commits.room()

    async def _send(self) -> None:
        """What was said to many of them since the last time, in one piece to each."""
        while True:
            await self._to_send.wait()
            self._to_send = trio.Event()
            while self._unsent:
                for connection in list(islice(self._unsent, SENDS_PER_ROUND)):
                    del self._unsent[connection]
                    connection.flush()
                await trio.lowlevel.checkpoint()

    async def _have_patience(self) -> None:
        while True:
            await self._patience.wait()
            await trio.sleep(TICK_S)
            timed = list(self._timed)
            for at in range(0, len(timed), CHECKS_AT_ONCE):
                now_s = trio.current_time()
                for connection in timed[at : at + CHECKS_AT_ONCE]:
                    if connection.due_s <= now_s:
                        connection.time_is_up()
                await trio.lowlevel.checkpoint()
            del timed  # who has left since is free
            if not self._timed:
                self._patience = trio.Event()

    # stratum.sv2.connection.Crowd

    @property
    def poller(self) -> Poller:
        assert self._poller is not None
        return self._poller

    def enter(self, connection: Sv2Connection) -> None:
        self._all.add(connection)

    def leave(self, connection: Sv2Connection) -> None:
        self._all.discard(connection)
        self._unsent.pop(connection, None)
        self._shakes_no_more(connection)
        self._timed.discard(connection)

    def send_soon(self, connection: Sv2Connection) -> None:
        self._unsent[connection] = None
        self._to_send.set()

    def be_patient(self, connection: Sv2Connection, *, bounded: bool) -> None:
        if bounded:
            self._timed.add(connection)
            self._patience.set()
        else:
            self._timed.discard(connection)
            self._shakes_no_more(connection)
