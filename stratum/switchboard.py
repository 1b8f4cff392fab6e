"""Every miner connection, one Trio task: reads, feeds the engine, writes.

A task per connection would cost 35 us of scheduling a share. Here one task waits for the descriptor of a
nested selector, then reads every ready socket, feeds the engine, and judges once for all of them.
Verdicts are not answered at once: a second task commits the tallies of everything judged so far and
then releases the replies (`Journal`), while the pump goes on reading.

Invariants: a reply to a share leaves after the commit that holds it; a solution leaves before anything
else; every buffer is bounded, and who does not read is dropped.
"""

import socket
from collections import Counter, deque
from collections.abc import Callable, Container
from typing import Protocol

import msgspec
import structlog
import trio

from stratum._engine import LineTooLong
from stratum.channel import Channel, Moved
from stratum.doorkeeper import Doorkeeper
from stratum.extranonce import ExtranonceExhausted
from stratum.job import Solution, Work
from stratum.poller import READ, WRITE, new_poller
from stratum.services import Services
from stratum.session import MinerSession

log = structlog.get_logger()

RECV_BYTES = 4096  # some 25 shares: one socket cannot hold up a round
EVENTS_PER_ROUND = 1024  # 10 ms of work, then other tasks get their turn
# Of replies that wait for a commit: some two seconds of shares at full speed. Behind a slower commit nobody
# is read. As much again may be in the commit itself.
UNCOMMITTED_BYTES_MAX = 32 << 20
REPLY_OVERHEAD_BYTES = 128  # of a reply in the list of those that wait
REPLIES_PER_ROUND = 1024  # 5 ms of writing, then other tasks get their turn
# A miner says a few lines when it connects, and a rental proxy a few hundred; then they send shares, which
# are not counted here. The count starts again at each look, every 5 s.
LINES_PER_LOOK_MAX = 1000
ABUSES = {"malformed lines", "line too long", "too many lines"}  # no miner does that, however broken
COMMIT_REPLIES = 32  # worth an fsync of their own: 9 ms of the built-out site's shares
ALIAS_INTERVAL_S = 2.0  # how long a new difficulty waits for others to share its alias
# Miners give up on a pool that sends no job for 60 s. Work comes every 30 s; when it does not, because the
# node is slow or gone, what there is goes out again as an alias.
JOB_INTERVAL_S = 45.0
TICK_S = 0.5
TICK_BUCKETS = 10  # each session is looked at every 5 s
PACE_CHUNK = 256  # sessions written in one go of a routine refresh: 1 ms


class Journal(Protocol):
    """Makes tallies durable, and what else it has by then. Returns when they are; raises when they may not
    be, which ends the board.

    Not cancelled: a stop waits for the commit that is under way.
    """

    async def commit(self, tallies: bytes) -> None: ...


class BoardLimits(msgspec.Struct, frozen=True, kw_only=True):
    out_bytes_max: int = 65_536  # per miner: 40 jobs that it did not read
    # A commit comes at least so long after the one before it, unless COMMIT_REPLIES wait: an idle pool
    # answers at once, a busy one groups, and fsyncs are bounded in between.
    commit_interval_s: float = 0.02
    refresh_spread_s: float = 5.0  # over which a routine refresh reaches everybody


class Connection(Protocol):
    """Where a session's bytes go. `write` never blocks; it drops the connection that does not read."""

    session: MinerSession
    address: str
    settled: bool
    open: bool
    lines: int  # that Python had to answer since the last look

    def write(self, data: bytes) -> None: ...
    def shut(self) -> None: ...


class SocketConnection:
    """A plain TCP miner, read and written by the pump."""

    __slots__ = ("_board", "_out", "_sock", "address", "lines", "open", "session", "settled")

    def __init__(self, board: "Switchboard", sock: socket.socket, address: str) -> None:
        self.address = address
        self.settled = False
        self.open = True
        self.lines = 0
        self._board = board
        self._sock = sock
        self._out: bytearray | None = None
        board.poller.register(sock, self)
        self.session = board.session_for(self)

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
            self._board.poller.modify(self._sock, READ | WRITE, self)

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
            self._board.poller.modify(self._sock, READ, self)

    def shut(self) -> None:
        self.open = False
        self._board.poller.unregister(self._sock)
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
        self.poller = new_poller()
        self.connections: set[Connection] = set()
        self.dropped: Counter[str] = Counter()
        self.moved: Counter[Moved] = Counter()
        self._services = services
        self._engine = services.engine
        self._channels = {services.channel.number: services.channel}
        self._doorkeeper = doorkeeper
        self._journal = journal
        self._on_solution = on_solution
        self._uncommitted: list[tuple[Connection, bytes]] = []
        self._uncommitted_bytes = 0
        self._judged = trio.Event()
        self._journal_is_owed = False
        self._enough = trio.Event()  # replies for a commit that does not wait for its interval
        self._commit_due_s = 0.0
        self._committed = trio.Event()
        self._refreshed: deque[Channel] = deque()  # whose sessions get the current job in due course
        self._refresh = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; then every connection is closed."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pump)
                nursery.start_soon(self._commit)
                nursery.start_soon(self._tick)
                nursery.start_soon(self._serve_waiting)
                nursery.start_soon(self._pace)
                task_status.started()
        finally:
            self.close_door("the pool is shutting down")
            self.poller.close()

    # Connections

    def add_socket(self, sock: socket.socket, address: str) -> None:
        """A connection that passed the door. Takes over the socket, which must not block.

        Raises OSError, and takes over nothing, when the kernel cannot watch another socket.
        """
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
        self.commit_soon()  # behind which whatever was kept for it may be forgotten

    def drop_workers(self, workers: Container[int], reason: str) -> None:
        """Drop every connection that one of these workers is authorised on."""
        for connection in list(self.connections):
            if any(worker in workers for worker in connection.session.workers):
                self.drop(connection, reason)

    def drop_channel(self, channel: Channel, reason: str) -> None:
        """Drop everybody who mines this channel."""
        for connection in list(self.connections):
            if connection.session.channel is channel:
                self.drop(connection, reason)

    def close_door(self, reason: str) -> None:
        """Drop everybody and let nobody in, until the doorkeeper's `closed` is None again."""
        self._doorkeeper.closed = reason
        for connection in list(self.connections):
            self.drop(connection, reason)

    # Channels

    @property
    def channels(self) -> tuple[Channel, ...]:
        """All that are served."""
        return tuple(self._channels.values())

    def add_channel(self, channel: Channel) -> None:
        """Serve its sessions, until it is removed."""
        self._channels[channel.number] = channel

    def remove_channel(self, channel: Channel) -> None:
        """Its sessions have been moved, and what they still send of its jobs is not known any more."""
        assert not channel.sessions
        self.drop_channel(channel, "its work is over")  # who is still shaking hands has its extranonce1
        self.judge()
        del self._channels[channel.number]
        channel.close()

    def forget_work(self, channel: Channel) -> None:
        """Nobody mines it, nor will before it has other work."""
        self.judge()
        channel.forget_work()

    def move(self, session: MinerSession, channel: Channel) -> Moved | None:
        """Let a session that mines do so on another channel. None: there is no extranonce left on it."""
        try:
            moved = session.move_to(channel)
        except ExtranonceExhausted:
            return None
        if moved is Moved.RECONNECT:
            session.owner.write(session.send_away(trio.current_time()))
        self.moved[moved] += 1
        return moved

    def mask_changed(self, channel: Channel) -> None:
        """Tell the channel's sessions which version bits they may roll from now on."""
        for session in list(channel.sessions):
            said = session.mask_changed()
            if said:
                session.owner.write(said)

    def feed(self, connection: Connection, data: bytes | bytearray) -> None:
        """Bytes of one miner: submits are queued, everything else is answered."""
        session = connection.session
        try:
            line = self._engine.feed(session.slot, data)
            if line is not None:
                self._answer(connection, line)
        except LineTooLong:
            session.closing = "line too long"
        except Exception:  # a mistake of ours about one miner must not cost the others their work
            log.exception("session_failed", address=connection.address)
            session.closing = "internal error"
        if session.closing is not None:
            if session.closing in ABUSES and not connection.settled:
                self._doorkeeper.abuse(connection.address, trio.current_time())
            self.drop(connection, session.closing)

    def _answer(self, connection: Connection, line: bytes | None) -> None:
        """Everything that the miner said with this line and behind it, in one write."""
        session, now_s = connection.session, trio.current_time()
        answers = []
        try:
            while line is not None and session.closing is None:
                answers.append(session.receive_line(line, now_s))
                connection.lines += 1
                if connection.lines > LINES_PER_LOOK_MAX:
                    session.closing = "too many lines"
                line = self._engine.feed(session.slot, b"")
        finally:
            if not connection.settled and session.authorised:
                connection.settled = True
                self._doorkeeper.settled(connection.address)
            if any(answers):
                connection.write(b"".join(answers))

    # The way of a share

    async def _pump(self) -> None:
        poller, feed = self.poller, self.feed
        descriptor = poller.fileno()
        while True:
            await trio.lowlevel.wait_readable(descriptor)
            for connection, events in poller.poll(EVENTS_PER_ROUND):
                if not connection.open:
                    continue
                if events & WRITE:
                    connection.flush()
                    if not connection.open:
                        continue
                if events & READ:
                    data = connection.read()
                    if data:
                        feed(connection, data)
                    elif data is not None:
                        self.drop(connection, "left")
            self.judge()
            await self.room()

    async def room(self) -> None:
        """Returns at once, or after a commit when too many replies wait for one."""
        while self._uncommitted_bytes > UNCOMMITTED_BYTES_MAX:
            await self._committed.wait()

    def judge(self) -> None:
        """Judge everything fed since the last call, and let the commit know."""
        if self._engine.queued():
            self._judged.set()
        replies, solutions, retarget = self._engine.validate()
        for raw in solutions:
            solution = self._channels[raw[0]].solution(raw)
            if solution is not None:
                self._on_solution(solution)
        if retarget:
            now_s = trio.current_time()
            for connection in retarget:
                connection.session.look(now_s)
        self._uncommitted += replies
        if len(self._uncommitted) >= COMMIT_REPLIES:
            self._enough.set()
        for _, data in replies:
            self._uncommitted_bytes += len(data) + REPLY_OVERHEAD_BYTES

    def commit_soon(self) -> None:
        """The journal has something to write, whether or not there are tallies."""
        self._journal_is_owed = True
        self._judged.set()

    async def _commit(self) -> None:
        try:
            while True:
                await self._judged.wait()
                with trio.move_on_at(self._commit_due_s):
                    await self._enough.wait()
                # Not to be interrupted: what the engine has handed over is nowhere else.
                with trio.CancelScope(shield=True):
                    await self._commit_judged()
        except trio.Cancelled:
            if self._judged.is_set():  # a stop: what was read still counts
                with trio.CancelScope(shield=True):
                    await self._commit_judged()
            raise

    async def _commit_judged(self) -> None:
        """Make everything durable that was said by now, then answer it."""
        self.judge()  # so that nothing is under way of who has left before
        self._judged, self._enough = trio.Event(), trio.Event()
        self._commit_due_s = trio.current_time() + self.limits.commit_interval_s
        replies, self._uncommitted, self._uncommitted_bytes = self._uncommitted, [], 0
        tallies = self._engine.take_tallies()
        owed, self._journal_is_owed = self._journal_is_owed, False
        if tallies or owed:  # else nobody is to be charged with these: garbage is not worth an fsync
            await self._journal.commit(tallies)
        for at in range(0, len(replies), REPLIES_PER_ROUND):
            for connection, data in replies[at : at + REPLIES_PER_ROUND]:
                connection.write(data)
            await trio.lowlevel.checkpoint()
        self._committed.set()
        self._committed = trio.Event()

    # Jobs

    def publish(
        self,
        channel: Channel,
        work: Work,
        *,
        rate: int,
        forward_target: int | None = None,
        clean: bool = False,
        outdates: bool = False,
    ) -> None:
        """New work: to everyone at once where the previous block changed or `clean`, paced otherwise."""
        self.judge()  # no share is on the way to the job that drops out of the channel now
        job = channel.publish(work, rate=rate, forward_target=forward_target, clean=clean, outdates=outdates)
        channel.told_s = trio.current_time()
        if job.clean:
            self._send_current(channel, list(channel.sessions), clean=True)
        else:
            self._refresh_in_due_course(channel)

    def _send_current(self, channel: Channel, sessions: list[MinerSession], *, clean: bool) -> None:
        assert channel.current is not None
        line, seq, now_s = channel.notify_line(clean=clean), channel.current.seq, trio.current_time()
        for session in sessions:
            if session.channel is channel and session.sent_seq < seq:
                session.owner.write(session.send_job(line, seq, now_s))

    def _refresh_in_due_course(self, channel: Channel) -> None:
        if channel not in self._refreshed:
            self._refreshed.append(channel)
        self._refresh.set()

    async def _pace(self) -> None:
        """Routine refreshes, spread over a while. One that comes meanwhile is sent from there on."""
        while True:
            await self._refresh.wait()
            self._refresh = trio.Event()
            chunks: list[tuple[Channel, list[MinerSession]]] = []
            while self._refreshed:
                channel = self._refreshed.popleft()
                sessions = list(channel.sessions)
                chunks += [
                    (channel, sessions[at : at + PACE_CHUNK]) for at in range(0, len(sessions), PACE_CHUNK)
                ]
            for channel, chunk in chunks:
                if not channel.paused:  # else there is something better, soon
                    self._send_current(channel, [s for s in chunk if s.owner.open], clean=False)
                await trio.sleep(self.limits.refresh_spread_s / len(chunks))

    async def _serve_waiting(self) -> None:
        """Between two jobs: one alias for all who wait for a difficulty, or for everybody after a while."""
        while True:
            await trio.sleep(ALIAS_INTERVAL_S)
            for channel in list(self._channels.values()):
                if channel.paused:
                    continue
                waiting = list(channel.waiting)
                channel.waiting.clear()
                quiet = trio.current_time() - channel.told_s >= JOB_INTERVAL_S
                if not waiting and not quiet:
                    continue
                self.judge()  # as in publish
                if channel.alias() is None:
                    continue
                self._send_current(channel, waiting, clean=False)
                if quiet:
                    channel.told_s = trio.current_time()
                    self._refresh_in_due_course(channel)

    # Time

    async def _tick(self) -> None:
        bucket = 0
        while True:
            await trio.sleep(TICK_S)
            bucket = (bucket + 1) % TICK_BUCKETS
            now_s = trio.current_time()
            due = [c for c in self.connections if c.session.slot % TICK_BUCKETS == bucket]
            for connection in due:
                connection.lines = 0
                said = connection.session.tick(now_s)
                if said:
                    connection.write(said)
                if connection.session.closing is not None:
                    self.drop(connection, connection.session.closing)
            self.judge()  # the engine frees the places of those who left
