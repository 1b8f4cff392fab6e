"""A miner that speaks TLS: its handshake, a step a turn, and its connection on a Trio stream.

Trio's SSLStream needs a task for each direction, which feeds the same engine as the pump.
Invariants: as of every `Connection`; a handshake costs others no more than its turns, and what it waits for
them is not its own time. Must not know: messages, jobs, who may connect.
"""

import socket
from math import inf

import trio

from stratum.miners.connection import RECV_BYTES, Board, Connection
from stratum.miners.turns.connection_limits import Place

TLS_HANDSHAKE_S = 10.0
# What a packet of a TLS handshake costs, in lines that Python answers: a millisecond of arithmetic.
TLS_STEP_COST = 64
LAST_WORDS_S = 1.0  # for what is still to be sent on a TLS connection that we end


class Handshake(trio.abc.Stream):
    """The bytes under TLS. Until it is `over`, each packet waits for its turn to be worked on."""

    def __init__(self, board: Board, place: Place, sock: socket.socket) -> None:
        self.place = place
        self.scope = trio.CancelScope()
        # What it waits for turns is our time and not its own: else a crowd at the door would keep it out.
        self.patience = trio.move_on_after(TLS_HANDSHAKE_S)
        self.over = False
        self._board = board
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self._turn = trio.Event()

    def make_room(self) -> None:
        self.scope.cancel()

    def take_turn(self) -> int:
        self._turn.set()
        return 0 if self.over else TLS_STEP_COST

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._stream.receive_some(max_bytes)
        if data and not self.over:
            self._turn = trio.Event()
            self._board.lanes.add(self.place, self)
            since_s = trio.current_time()
            deadline_s, self.patience.deadline = self.patience.deadline, inf
            await self._turn.wait()
            self.patience.deadline = deadline_s + trio.current_time() - since_s
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


class TlsConnection(Connection):
    """A miner on a Trio stream (TLS), with a task of its own for each direction."""

    __slots__ = ("_out", "_received", "_released", "_scope", "_sending_bytes", "_wake")

    def __init__(self, board: Board, address: str, place: Place) -> None:
        self._out = bytearray()
        self._received: bytes | bytearray | None = None
        self._released = trio.Event()
        self._sending_bytes = 0
        self._wake = trio.Event()
        self._scope = trio.CancelScope()
        super().__init__(board, address, place)

    def read(self, bytes_max: int) -> bytes | None:
        data, self._received = self._received, None
        return None if data is None else bytes(data)

    def hold(self) -> None:
        self.held = True

    def release(self) -> None:
        self.held = False
        self._released.set()

    def write(self, data: bytes) -> None:
        if not self.open:
            return
        for tap in self.taps:
            tap.said(data)
        waiting = self._sending_bytes + len(self._out)
        if waiting and waiting + len(data) > self.board.out_bytes_max:
            self.board.drop(self, "does not read")
            return
        self._out += data
        self._wake.set()

    def shut(self) -> None:
        self.open = False
        self._released.set()
        self._scope.deadline = trio.current_time() + LAST_WORDS_S
        self._wake.set()  # the sender empties what is left, then ends the connection

    async def serve(self, stream: trio.SSLStream[Handshake]) -> None:
        """Until it is over, one way or another; raises nothing."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send, stream)
                await self._receive(stream)

    async def _receive(self, stream: trio.SSLStream[Handshake]) -> None:
        while self.open:
            try:
                self._received = await stream.receive_some(RECV_BYTES)
            except trio.BrokenResourceError:
                self._received = b""
            self.board.readable(self)
            self.board.judge()
            while self.held and self.open:
                self._released = trio.Event()
                await self._released.wait()
            await self.board.commits.room()

    async def _send(self, stream: trio.SSLStream[Handshake]) -> None:
        while self.open or self._out:
            await self._wake.wait()
            self._wake = trio.Event()
            data, self._out = self._out, bytearray()
            self._sending_bytes = len(data)
            if data:
                try:
                    await stream.send_all(data)
                except trio.BrokenResourceError:
                    self.board.drop(self, "connection lost")
            self._sending_bytes = 0
        self._scope.cancel()
