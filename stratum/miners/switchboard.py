"""Every miner connection, one Trio task: reads, feeds the engine, writes.

A task per connection would cost 35 us of scheduling a share. Here one task waits for the descriptor of a
nested selector, then reads every ready socket, feeds the engine, and judges once for all of them.
Verdicts are not answered at once: a second task commits the tallies of everything judged so far and
then releases the replies (`Journal`), while the pump goes on reading.

Shares of miners come first. What costs more than a share takes turns, by source and then by connection, and
a round of turns is a millisecond or two: first connections, lines that Python answers, what a connection says
that has not mined lately, steps of a TLS handshake. Who waits for a turn is not read, and who says more than
miners do waits longer. Turns are given in three lanes: handshakes of sources that have mined since the start,
the talk of these, and all that is of strangers, which has a tenth of a core while anybody mines.

Invariants: a reply to a share leaves after the commit that holds it; a solution leaves before anything
else; every buffer is bounded, and who does not read is dropped; nobody is in the turns more than once.
"""

import socket
from collections import Counter
from collections.abc import Callable, Container
from typing import Protocol

import msgspec
import structlog
import trio

from stratum._engine import LineTooLong
from stratum.miners.arrival import GONE_COST, Arrival
from stratum.miners.channel import Channel
from stratum.miners.connection_limits import MADE_ROOM, ConnectionLimits, Place, Standing
from stratum.miners.contracts import Services
from stratum.miners.distribution import Distribution
from stratum.miners.poller import READ, WRITE, new_poller
from stratum.miners.session import MinerSession
from stratum.miners.turns import Lane, Waiting

log = structlog.get_logger()

RECV_BYTES = 4096  # some 25 shares: one socket cannot hold up a round
EVENTS_PER_ROUND = 1024  # 10 ms of work, then other tasks get their turn
# Of replies that wait for a commit: some two seconds of shares at full speed. Behind a slower commit nobody
# is read. As much again may be in the commit itself.
UNCOMMITTED_BYTES_MAX = 32 << 20
REPLY_OVERHEAD_BYTES = 128  # of a reply in the list of those that wait
REPLIES_PER_ROUND = 1024  # 5 ms of writing, then other tasks get their turn
# What is done in a turn, in lines that Python answers, of which one is some 15 us.
ARRIVAL_COST = 4  # a session and its socket
WELCOME_COST = 6  # its name, and its first job
# Turns that are given before everybody else comes to his. A site that comes back shakes hands as fast as that
# goes; while anybody mines a third of the time is for others: 22,400 machines still shake hands in 9 s.
HANDSHAKE_COST_PER_ROUND = 256
HANDSHAKE_COST_BESIDE_MINERS = 128
HANDSHAKE_REST_S = 0.001
# Of sources that nobody knows, while anybody mines: some 400 connections a second. The first of a new site
# have mined after some ten seconds, and then it is known.
STRANGER_COST_BESIDE_MINERS = 16
STRANGER_REST_S = 0.002
STRANGERS_CROWD = 64  # so many wait: who has left by his turn is not served any more
# Who has authorised has time, and leaves it to the others: all the talk of all connections takes a tenth of a
# core.
TALK_COST_PER_ROUND = 16
TALK_REST_S = 0.002
LINES_PER_TURN = 4  # a handshake in one packet is answered in one
NEWCOMER_RECV_BYTES = 1024  # a handshake, or ten shares
SHARES_PER_COST = 4
# A miner says a few lines when it connects, and a rental proxy a few hundred once it is authorised; then they
# send shares, which are not counted here. Whoever has used up its lines is not read until the next look,
# every 5 s.
HALF_OPEN_LINES = 20
LINES_AT_ONCE = 300
LINES_PER_LOOK = 10
OVERDRAWN_LOOKS_MAX = 12  # a minute of that, and it is dropped
SHARELESS_S = 600.0  # then a connection counts for no more than one that has just come
# Rejected shares between two looks that no accepted share stands against: one machine of 200 TH/s finds 230
# shares in that time at the lowest difficulty, and a broken one is sorry after 60 s.
UNEARNED_PER_LOOK_MAX = 500
UNEARNED_TRUSTED_MAX = 50
LOOKS_AT_ONCE = 256  # 3 ms
COMMIT_REPLIES = 32  # worth an fsync of their own: 9 ms of the built-out site's shares
TICK_S = 0.5
TICK_BUCKETS = 10  # each session is looked at every 5 s


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


class Connection:
    """Where a session's bytes come from and go to. `write` never blocks; it drops who does not read.

    While it is held nothing is read: `line` waits for its turn, or what it sends does.
    """

    __slots__ = (
        "accepted",
        "address",
        "board",
        "held",
        "line",
        "lines_left",
        "open",
        "overdrawn_looks",
        "place",
        "session",
        "share_at_s",
        "trusted",
        "unearned",
    )

    def __init__(self, board: "Switchboard", address: str, place: Place) -> None:
        self.board = board
        self.address = address
        self.place = place
        self.open = True
        self.held = False
        self.line: bytes | None = None  # that Python is to answer
        self.lines_left = HALF_OPEN_LINES
        self.overdrawn_looks = 0
        self.trusted = False  # it has mined lately: its shares are read as they come
        self.accepted = self.unearned = 0  # at the last look
        self.share_at_s = 0.0  # an accepted one, or when it was authorised
        self.session = board.session_for(self)

    def read(self, bytes_max: int) -> bytes | None:
        """What has arrived; b"" at the end; None if nothing."""
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        raise NotImplementedError

    def hold(self) -> None:
        """Read nothing for now."""
        raise NotImplementedError

    def release(self) -> None:
        raise NotImplementedError

    def shut(self) -> None:
        raise NotImplementedError

    def take_turn(self) -> int:
        return self.board.take_turn(self)

    def make_room(self) -> None:
        self.board.drop(self, MADE_ROOM)


def _received(sock: socket.socket, bytes_max: int) -> bytes | None:
    """What has arrived; b"" at the end, whatever the end was; None if nothing."""
    try:
        return sock.recv(bytes_max)
    except (BlockingIOError, InterruptedError):
        return None
    except OSError:
        return b""


class SocketConnection(Connection):
    """A plain TCP miner, read and written by the pump."""

    __slots__ = ("_out", "_sock")

    def __init__(self, board: "Switchboard", sock: socket.socket, address: str, place: Place) -> None:
        self._sock = sock
        self._out: bytearray | None = None
        board.poller.register(sock, self)
        super().__init__(board, address, place)

    def read(self, bytes_max: int) -> bytes | None:
        return _received(self._sock, bytes_max)

    def write(self, data: bytes) -> None:
        if not self.open:
            return
        if self._out is not None:
            if len(self._out) + len(data) > self.board.limits.out_bytes_max:
                self.board.drop(self, "does not read")
            else:
                self._out += data
            return
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self.board.drop(self, "connection lost")
            return
        if sent < len(data):
            self._out = bytearray(data[sent:])
            self._watch()

    def flush(self) -> None:
        """The socket takes bytes again."""
        assert self._out is not None
        try:
            sent = self._sock.send(self._out)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.board.drop(self, "connection lost")
            return
        del self._out[:sent]
        if not self._out:
            self._out = None
            self._watch()

    def hold(self) -> None:
        if not self.held:
            self.held = True
            self._watch()

    def release(self) -> None:
        if self.held:
            self.held = False
            self._watch()

    def _watch(self) -> None:
        events = (0 if self.held else READ) | (0 if self._out is None else WRITE)
        self.board.poller.modify(self._sock, events, self)

    def shut(self) -> None:
        self.open = False
        self.board.poller.unregister(self._sock)
        self._sock.close()


class Switchboard:
    """All connections of a server, on the channels that its `distribution` serves."""

    def __init__(
        self,
        *,
        services: Services,
        connection_limits: ConnectionLimits,
        journal: Journal,
        limits: BoardLimits,
    ) -> None:
        self.limits = limits
        self.poller = new_poller()
        self.connections: set[Connection] = set()
        self.dropped: Counter[str] = Counter()
        self._services = services
        self._engine = services.engine
        self.distribution = Distribution(
            services.start_of, judge=self.judge, refresh_spread_s=limits.refresh_spread_s
        )
        self.distribution.add_channel(services.channel)
        self._connection_limits = connection_limits
        self._journal = journal
        self._uncommitted: list[tuple[Connection, bytes]] = []
        self._uncommitted_bytes = 0
        self._judged = trio.Event()
        self._journal_is_owed = False
        self._enough = trio.Event()  # replies for a commit that does not wait for its interval
        self._commit_due_s = 0.0
        self._committed = trio.Event()
        self._arrivals: set[Arrival] = set()
        self._handshakes = Lane(
            cost=HANDSHAKE_COST_PER_ROUND,
            cost_beside_miners=HANDSHAKE_COST_BESIDE_MINERS,
            rest_s=HANDSHAKE_REST_S,
        )
        self._strangers = Lane(
            cost=HANDSHAKE_COST_PER_ROUND,
            cost_beside_miners=STRANGER_COST_BESIDE_MINERS,
            rest_s=STRANGER_REST_S,
        )
        self._talk = Lane(
            cost=TALK_COST_PER_ROUND,
            cost_beside_miners=TALK_COST_PER_ROUND,
            rest_s=TALK_REST_S,
            always_rests=True,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; then every connection is closed."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pump)
                for lane in (self._handshakes, self._strangers, self._talk):
                    nursery.start_soon(self._give_turns, lane)
                nursery.start_soon(self._commit)
                nursery.start_soon(self._tick)
                nursery.start_soon(self.distribution.run)
                task_status.started()
        finally:
            self.close_door("the pool is shutting down")
            self.poller.close()

    # Connections

    def arrive(
        self,
        sock: socket.socket,
        address: str,
        place: Place,
        begin: Callable[[Arrival], int] | None = None,
    ) -> None:
        """A connection that passed the door. Takes over the socket, which must not block.

        `begin` serves it from its first turn on, and says what that cost; without it is a plain miner's.
        """
        arrival = Arrival(
            sock,
            address,
            place,
            all_that_wait=self._arrivals,
            begin=begin or self._begin,
            on_end=self._ended,
        )
        self.wait_for_turn(place, arrival)

    def _ended(self, arrival: Arrival, reason: str) -> None:
        self.wait_no_more(arrival.place, arrival)
        self._connection_limits.leave(arrival.place)
        self.dropped[reason] += 1

    def _begin(self, arrival: Arrival) -> int:
        if len(self._strangers) >= STRANGERS_CROWD and arrival.has_left:
            arrival.end("left")
            return GONE_COST
        data = _received(arrival.sock, RECV_BYTES)
        if data is not None and b"\n" not in data and len(data) in (0, RECV_BYTES):
            arrival.end("line too long" if data else "left")
            return GONE_COST
        connection = SocketConnection(self, arrival.sock, arrival.address, arrival.place)
        queued = self._engine.queued()
        if data is not None:
            self._take(connection, data)
        return ARRIVAL_COST + self._shares_cost(queued) + self._go_on(connection)

    def session_for(self, connection: Connection) -> MinerSession:
        """Open a session for a new connection; until `drop`."""
        session = MinerSession(self._services, connection, trio.current_time())
        self.connections.add(connection)
        connection.place.holder = connection
        self._connection_limits.begin(connection.place)
        return session

    def drop(self, connection: Connection, reason: str) -> None:
        """Close a connection, once, for a reason that is counted."""
        if not connection.open:
            return
        connection.shut()
        self.wait_no_more(connection.place, connection)
        self.connections.discard(connection)
        connection.session.close()
        self._connection_limits.leave(connection.place)
        self.dropped[reason] += 1
        self._journal_is_owed = True  # behind a commit whatever was kept for it may be forgotten

    def drop_workers(self, workers: Container[int], reason: str) -> None:
        """Drop every connection that one of these workers is authorised on."""
        for connection in list(self.connections):
            if any(worker in workers for worker in connection.session.assignment.workers):
                self.drop(connection, reason)

    def drop_channel(self, channel: Channel, reason: str) -> None:
        """Drop everybody who mines this channel."""
        for connection in list(self.connections):
            if connection.session.assignment.channel is channel:
                self.drop(connection, reason)

    def close_door(self, reason: str) -> None:
        """Drop everybody and let nobody in, until the connection_limits's `closed` is None again."""
        self._connection_limits.closed = reason
        for connection in list(self.connections):
            self.drop(connection, reason)
        for arrival in list(self._arrivals):
            arrival.end(reason)

    # Channels

    def remove_channel(self, channel: Channel) -> None:
        """Its sessions have been moved, and what they still send of its jobs is not known any more."""
        assert not channel.sessions
        self.drop_channel(channel, "its work is over")  # who is still shaking hands has its extranonce1
        self.distribution.remove_channel(channel)

    # What miners say

    def readable(self, connection: Connection) -> None:
        """Something has arrived: read it now, or when it is the connection's turn."""
        if not connection.trusted:
            connection.hold()
            self.wait_for_turn(connection.place, connection)
        elif self._read(connection, RECV_BYTES):
            connection.hold()
            if connection.lines_left > 0:
                self.wait_for_turn(connection.place, connection)

    def _read(self, connection: Connection, bytes_max: int) -> bool:
        """Submits are queued; whether there is a line that is none, and is to be answered."""
        data = connection.read(bytes_max)
        return data is not None and self._take(connection, data)

    def _take(self, connection: Connection, data: bytes) -> bool:
        if not data:
            self.drop(connection, "left")
            return False
        session = connection.session
        try:
            connection.line = self._engine.feed(session.slot, data)
        except LineTooLong:
            session.closing = "line too long"
        except Exception:  # a mistake of ours about one miner must not cost the others their work
            log.exception("session_failed", address=connection.address)
            session.closing = "internal error"
        if session.closing is not None:
            self.drop(connection, session.closing)
            return False
        return connection.line is not None

    # Turns

    def wait_for_turn(self, place: Place, waiting: Waiting) -> None:
        """`take_turn` is called when it is the turn of this one, of all at the place's source."""
        lane = self._strangers
        if self._connection_limits.knows(place.source):
            shakes_hands = place.standing in (Standing.WAITING, Standing.HALF_OPEN)
            lane = self._handshakes if shakes_hands else self._talk
        lane.add(place.source, waiting, arrives=place.standing is Standing.WAITING)

    def wait_no_more(self, place: Place, waiting: Waiting) -> None:
        """It is over, wherever it waits: what a source has shown may have changed since."""
        for lane in (self._handshakes, self._strangers, self._talk):
            lane.discard(place.source, waiting)

    async def _give_turns(self, lane: Lane) -> None:
        while True:
            await lane.wanted.wait()
            rest_s = lane.round(beside_miners=self._connection_limits.mining > 0)
            self.judge()
            await self.room()
            await trio.sleep(rest_s)

    def take_turn(self, connection: Connection) -> int:
        """What has arrived of this connection is read, and lines are answered; what that cost."""
        if not connection.open:
            return 0
        if connection.line is not None:
            return self._go_on(connection)
        self._see_first_share(connection)
        queued = self._engine.queued()
        half_open = connection.place.standing is Standing.HALF_OPEN
        self._read(connection, RECV_BYTES if half_open else NEWCOMER_RECV_BYTES)
        return 1 + self._shares_cost(queued) + self._go_on(connection)

    def _see_first_share(self, connection: Connection) -> None:
        """Who mines is read as such from its second share on, and not only from the next look on."""
        place = connection.place
        if place.standing in (Standing.FRESH, Standing.IDLE):
            accepted, _, _ = self._engine.counters(connection.session.slot)
            if accepted != connection.accepted:
                connection.accepted, connection.share_at_s = accepted, trio.current_time()
                connection.trusted = True
                self._connection_limits.stands(place, Standing.MINING)

    def _shares_cost(self, queued_before: int) -> int:
        return (self._engine.queued() - queued_before) // SHARES_PER_COST

    def _go_on(self, connection: Connection) -> int:
        """Answer a line that waits, or listen to more; what that cost."""
        if not connection.open:
            return 0
        if connection.line is None:
            connection.release()
            return 0
        if connection.lines_left == 0:
            connection.hold()
            return 0
        return self._answer(connection)

    def _answer(self, connection: Connection) -> int:
        """What the miner said with this line and a few behind it, in one write; what that cost."""
        session, now_s = connection.session, trio.current_time()
        answers: list[bytes] = []
        line, allowed = connection.line, min(LINES_PER_TURN, connection.lines_left)
        try:
            while line is not None and session.closing is None and len(answers) < allowed:
                answers.append(session.receive_line(line, now_s))
                line = self._engine.feed(session.slot, b"")
        except LineTooLong:
            session.closing = "line too long"
        except Exception:  # as in feed
            log.exception("session_failed", address=connection.address)
            session.closing = "internal error"
        connection.line = line
        connection.lines_left -= len(answers)
        cost = max(1, len(answers))
        if connection.place.standing is Standing.HALF_OPEN and session.authorised:
            self._connection_limits.stands(connection.place, Standing.FRESH)
            connection.share_at_s, connection.lines_left = now_s, LINES_AT_ONCE
            cost += WELCOME_COST
        if any(answers):
            connection.write(b"".join(answers))
        if session.closing is not None:
            self.drop(connection, session.closing)
        elif connection.open and line is None:
            connection.release()
        elif connection.open:
            connection.hold()
            if connection.lines_left > 0:
                self.wait_for_turn(connection.place, connection)
        return cost

    # The way of a share

    async def _pump(self) -> None:
        poller = self.poller
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
                    if connection.held:  # nobody asked: it is broken
                        self.drop(connection, "left")
                    else:
                        self.readable(connection)
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
        replies, finds, retarget = self._engine.validate()
        for found in finds:
            self.distribution.channel(found.channel).hand_over(found)
        if retarget:
            now_s = trio.current_time()
            for connection in retarget:
                connection.session.reconsider_difficulty(now_s)
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

    # Time

    async def _tick(self) -> None:
        bucket = 0
        while True:
            await trio.sleep(TICK_S)
            bucket = (bucket + 1) % TICK_BUCKETS
            now_s = trio.current_time()
            due = [c for c in self.connections if c.session.slot % TICK_BUCKETS == bucket]
            for at in range(0, len(due), LOOKS_AT_ONCE):
                for connection in due[at : at + LOOKS_AT_ONCE]:
                    if connection.open:
                        self._look(connection, now_s)
                await trio.lowlevel.checkpoint()
            self.judge()  # the engine frees the places of those who left
            if self._journal_is_owed:
                self._judged.set()

    def _look(self, connection: Connection, now_s: float) -> None:
        said = connection.session.tick(now_s)
        if said:
            connection.write(said)
        closing = connection.session.closing or self._look_at_lines(connection)
        closing = closing or self._look_at_shares(connection, now_s)
        if closing is not None:
            self.drop(connection, closing)

    def _look_at_lines(self, connection: Connection) -> str | None:
        """More lines for everybody; why to drop who always wants more."""
        overdrawn = connection.lines_left == 0 and connection.line is not None
        most = HALF_OPEN_LINES if connection.place.standing is Standing.HALF_OPEN else LINES_AT_ONCE
        connection.lines_left = min(most, connection.lines_left + LINES_PER_LOOK)
        if not overdrawn:
            connection.overdrawn_looks = 0
            return None
        connection.overdrawn_looks += 1
        if connection.overdrawn_looks >= OVERDRAWN_LOOKS_MAX:
            return "too many lines"
        self.wait_for_turn(connection.place, connection)
        return None

    def _look_at_shares(self, connection: Connection, now_s: float) -> str | None:
        """What the connection counts for when places or turns are scarce; why to drop who wastes them."""
        place, slot = connection.place, connection.session.slot
        accepted, _, _ = self._engine.counters(slot)
        unearned = self._engine.unearned(slot)
        wasted, connection.unearned = unearned - connection.unearned, unearned
        if wasted > UNEARNED_PER_LOOK_MAX:
            return "rejected shares without work"
        if place.standing is not Standing.HALF_OPEN:
            if accepted != connection.accepted:
                connection.accepted, connection.share_at_s = accepted, now_s
                self._connection_limits.stands(place, Standing.MINING)
            elif now_s - connection.share_at_s >= SHARELESS_S:
                self._connection_limits.stands(place, Standing.IDLE)
                if connection.session.assignment.channel.extranonces.full(now_s):
                    return MADE_ROOM
        connection.trusted = place.standing is Standing.MINING and wasted <= UNEARNED_TRUSTED_MAX
        return None
