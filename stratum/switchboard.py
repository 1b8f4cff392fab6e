"""Every miner connection, one Trio task: reads, feeds the engine, writes.

A task per connection would cost 35 us of scheduling a share. Here one task waits for the descriptor of a
nested selector, then reads every ready socket, feeds the engine, and judges once for all of them.
Verdicts are not answered at once: a second task commits the tallies of everything judged so far and
then releases the replies (`Journal`), while the pump goes on reading.

Invariants: a reply to a share leaves after the commit that holds it; a solution leaves before anything
else; every buffer is bounded, and who does not read is dropped.
"""

import selectors
import socket
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import msgspec
import structlog
import trio

from stratum._engine import LineTooLong
from stratum.channel import Channel
from stratum.doorkeeper import Doorkeeper
from stratum.job import Solution, Work
from stratum.session import MinerSession, Services

log = structlog.get_logger()

RECV_BYTES = 4096  # some 25 shares: one socket cannot hold up a round
EVENTS_PER_ROUND = 1024  # 10 ms of work, then other tasks get their turn
UNCOMMITTED_REPLIES_MAX = (
    100_000  # two seconds of shares at full speed: a commit slower than that stops reading
)
ALIAS_INTERVAL_S = 2.0  # how long a new difficulty waits for others to share its alias
TICK_S = 0.5
TICK_BUCKETS = 10  # each session is looked at every 5 s
PACE_CHUNK = 256  # sessions written in one go of a routine refresh: 1 ms


class Journal(Protocol):
    """Makes tallies durable. Returns when they are; raises when they may not be."""

    async def commit(self, tallies: bytes) -> None: ...


class BoardLimits(msgspec.Struct, frozen=True, kw_only=True):
    out_bytes_max: int = 65_536  # per miner: 40 jobs that it did not read
    refresh_spread_s: float = 5.0  # over which a routine refresh reaches everybody


class Connection(Protocol):
    """Where a session's bytes go. `write` never blocks; it drops the connection that does not read."""

    session: MinerSession
    address: str
    settled: bool
    open: bool

    def write(self, data: bytes) -> None: ...
    def shut(self) -> None: ...


class SocketConnection:
    """A plain TCP miner, read and written by the pump."""

    __slots__ = ("_board", "_out", "_sock", "address", "open", "session", "settled")

    def __init__(self, board: "Switchboard", sock: socket.socket, address: str) -> None:
        self.address = address
        self.settled = False
        self.open = True
        self._board = board
        self._sock = sock
        self._out: bytearray | None = None
        self.session = board.session_for(self)
        board.selector.register(sock, selectors.EVENT_READ, self)

    def read(self) -> bytes | None:
        """What has arrived; b"" at the end; None if nothing."""
        try:
            return self._sock.recv(RECV_BYTES)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return b""

    def write(self, data: bytes) -> None:
        if not self.open:
            return
        if self._out is not None:
            if len(self._out) + len(data) > self._board.limits.out_bytes_max:
                self._board.drop(self, "does not read")
            else:
                self._out += data
            return
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._board.drop(self, "connection lost")
            return
        if sent < len(data):
            self._out = bytearray(data[sent:])
            self._board.selector.modify(self._sock, selectors.EVENT_READ | selectors.EVENT_WRITE, self)

    def flush(self) -> None:
        """The socket takes bytes again."""
        assert self._out is not None
        try:
            sent = self._sock.send(self._out)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._board.drop(self, "connection lost")
            return
        del self._out[:sent]
        if not self._out:
            self._out = None
            self._board.selector.modify(self._sock, selectors.EVENT_READ, self)

    def shut(self) -> None:
        self.open = False
        self._board.selector.unregister(self._sock)
        self._sock.close()


class Switchboard:
    """`on_solution` is called at once, before anything else is done, and must not block or raise."""

    def __init__(
        self,
        *,
        services: Services,
        doorkeeper: Doorkeeper,
        journal: Journal,
        on_solution: Callable[[Solution], None],
        limits: BoardLimits,
    ) -> None:
        self.limits = limits
        self.selector = selectors.DefaultSelector()
        self.connections: set[Connection] = set()
        self.dropped: Counter[str] = Counter()
        self._services = services
        self._engine = services.engine
        self._channel = services.channel
        self._doorkeeper = doorkeeper
        self._journal = journal
        self._on_solution = on_solution
        self._uncommitted: list[tuple[Connection, bytes]] = []
        self._judged = trio.Event()
        self._committed = trio.Event()
        self._pacing: trio.CancelScope | None = None
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; then every connection is closed."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._pump)
                nursery.start_soon(self._commit)
                nursery.start_soon(self._tick)
                nursery.start_soon(self._serve_waiting)
                task_status.started()
        finally:
            self._nursery = None
            self._judge()  # what was read is counted, answered or not
            for connection in list(self.connections):
                self.drop(connection, "shutdown")
            self.selector.close()

    # Connections

    def add_socket(self, sock: socket.socket, address: str) -> None:
        """A connection that passed the door. Takes over the socket, which must not block."""
        SocketConnection(self, sock, address)

    def session_for(self, connection: Connection) -> MinerSession:
        """Open a session for a new connection; until `drop`."""
        session = MinerSession(self._services, connection, trio.current_time())
        self.connections.add(connection)
        return session

    def drop(self, connection: Connection, reason: str) -> None:
        """Close a connection, once, for a reason that is counted."""
        if not connection.open:
            return
        connection.shut()
        self.connections.discard(connection)
        connection.session.close()
        self._doorkeeper.leave(connection.address, settled=connection.settled)
        self.dropped[reason] += 1

    def close_door(self, reason: str) -> None:
        """Drop everybody and let nobody in, until the doorkeeper's `closed` is None again."""
        self._doorkeeper.closed = reason
        for connection in list(self.connections):
            self.drop(connection, reason)

    def feed(self, connection: Connection, data: bytes) -> None:
        """Bytes of one miner: submits are queued, everything else is answered."""
        session = connection.session
        slot = session.slot
        try:
            line = self._engine.feed(slot, data)
            while line is not None:
                answer = session.receive_line(line, trio.current_time())
                if answer:
                    connection.write(answer)
                if not connection.settled and session.authorised:
                    connection.settled = True
                    self._doorkeeper.settled(connection.address)
                if session.closing is not None:
                    self._part(connection, abuse=session.closing == "malformed lines")
                if not connection.open:
                    return
                line = self._engine.feed(slot, b"")
        except LineTooLong:
            session.closing = "line too long"
            self._part(connection, abuse=True)

    def _part(self, connection: Connection, *, abuse: bool) -> None:
        if abuse and not connection.settled:
            self._doorkeeper.abuse(connection.address, trio.current_time())
        self.drop(connection, connection.session.closing or "")

    # The way of a share

    async def _pump(self) -> None:
        selector, feed = self.selector, self.feed
        descriptor = selector.fileno()
        while True:
            await trio.lowlevel.wait_readable(descriptor)
            for key, mask in selector.select(0)[:EVENTS_PER_ROUND]:
                connection: SocketConnection = key.data
                if not connection.open:
                    continue
                if mask & selectors.EVENT_WRITE:
                    connection.flush()
                    if not connection.open:
                        continue
                if mask & selectors.EVENT_READ:
                    data = connection.read()
                    if data:
                        feed(connection, data)
                    elif data is not None:
                        self.drop(connection, "left")
            self.judge()
            while len(self._uncommitted) > UNCOMMITTED_REPLIES_MAX:
                await self._committed.wait()

    def judge(self) -> None:
        """Judge everything fed since the last call, and let the commit know."""
        if self._judge():
            self._judged.set()

    def _judge(self) -> bool:
        replies, solutions, retarget = self._engine.validate()
        for raw in solutions:
            solution = self._channel.solution(raw)
            if solution is not None:
                self._on_solution(solution)
        if retarget:
            now_s = trio.current_time()
            for connection in retarget:
                connection.session.look(now_s)
        self._uncommitted += replies
        return bool(replies)

    async def _commit(self) -> None:
        while True:
            await self._judged.wait()
            self._judged = trio.Event()
            replies, self._uncommitted = self._uncommitted, []
            await self._journal.commit(self._engine.take_tallies())
            for connection, data in replies:
                connection.write(data)
            self._committed.set()
            self._committed = trio.Event()

    # Jobs

    def publish(self, channel: Channel, work: Work, *, rate: int) -> None:
        """New work: to everyone at once where the previous block changed, paced otherwise."""
        job = channel.publish(work, rate=rate)
        if self._pacing is not None:
            self._pacing.cancel()
        if job.clean:
            self._send_current(channel, list(channel.sessions), clean=True)
        elif self._nursery is not None:
            self._nursery.start_soon(self._pace, channel)

    def _send_current(self, channel: Channel, sessions: list[MinerSession], *, clean: bool) -> None:
        assert channel.current is not None
        line, seq, now_s = channel.notify_line(clean=clean), channel.current.seq, trio.current_time()
        for session in sessions:
            if session.sent_seq < seq:
                session.owner.write(session.send_job(line, seq, now_s))

    async def _pace(self, channel: Channel) -> None:
        sessions = list(channel.sessions)
        chunks = [sessions[at : at + PACE_CHUNK] for at in range(0, len(sessions), PACE_CHUNK)]
        with trio.CancelScope() as self._pacing:
            for chunk in chunks:
                self._send_current(channel, [s for s in chunk if s.owner.open], clean=False)
                await trio.sleep(self.limits.refresh_spread_s / len(chunks))

    async def _serve_waiting(self) -> None:
        """New difficulties between two jobs: one alias for all who wait."""
        channel = self._channel
        while True:
            await trio.sleep(ALIAS_INTERVAL_S)
            waiting = list(channel.waiting)
            channel.waiting.clear()
            if waiting and channel.alias() is not None:
                self._send_current(channel, waiting, clean=False)

    # Time

    async def _tick(self) -> None:
        bucket = 0
        while True:
            await trio.sleep(TICK_S)
            bucket = (bucket + 1) % TICK_BUCKETS
            now_s = trio.current_time()
            for connection in list(self.connections)[bucket::TICK_BUCKETS]:
                if not connection.open:
                    continue
                said = connection.session.tick(now_s)
                if said:
                    connection.write(said)
                if connection.session.closing is not None:
                    self.drop(connection, connection.session.closing)
