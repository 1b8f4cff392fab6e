"""Every miner connection, one Trio task: reads, feeds the engine, writes.

A task per connection would cost 35 us of scheduling a share. Here one task waits for the descriptor of a
nested selector, then reads every ready socket, feeds the engine, and judges once for all of them.
Verdicts are not answered at once: the group commit makes the tallies of everything judged so far durable and
then releases the replies, while the pump goes on reading.

Shares of miners come first. What costs more than a share takes turns, by source and then by connection, and
a round of turns is a millisecond or two: first connections, lines that Python answers, what a connection says
that has not mined lately, steps of a TLS handshake. Who waits for a turn is not read, and who says more than
miners do waits longer. Turns are given in four lanes (`Lanes`).

Invariants: a solution leaves before anything else is done; every buffer is bounded, and who does not read is
dropped; nobody is in the turns more than once.
"""

import socket
from collections import Counter
from collections.abc import Callable, Container, Iterator

import msgspec
import structlog
import trio

from stratum._engine import LineTooLong
from stratum.miners.channel import Channel
from stratum.miners.connection import (
    LINES_AT_ONCE,
    RECV_BYTES,
    Connection,
    SocketConnection,
    answer_all,
    receive,
    write_all,
)
from stratum.miners.contracts import Services
from stratum.miners.decisions import What
from stratum.miners.distribution import Distribution
from stratum.miners.group_commit import GroupCommit, Journal
from stratum.miners.mining_session import State
from stratum.miners.poller import READ, WRITE, new_poller
from stratum.miners.session import MinerSession
from stratum.miners.traces.traces import Traces
from stratum.miners.turns.arrival import GONE_COST, Arrival
from stratum.miners.turns.connection_limits import MADE_ROOM, ConnectionLimits, Place, Standing
from stratum.miners.turns.lanes import Lanes
from stratum.miners.turns.turns import Lane

log = structlog.get_logger()

# Two ms of work, then other tasks get their turn; and what the kernel has of so many sockets is in the
# processor's caches still when they are answered.
EVENTS_PER_ROUND = 256
# What is done in a turn, in lines that Python answers, of which one is 10 to 15 us.
ARRIVAL_COST = 4  # a session and its socket
WELCOME_COST = 6  # its name, and its first job
LINES_PER_TURN = 4  # a handshake in one packet is answered in one
NEWCOMER_RECV_BYTES = 1024  # a handshake, or ten shares
SHARES_PER_COST = 4
SHARELESS_S = 600.0  # then a connection counts for no more than one that has just come
# Rejected shares between two checks that no accepted share stands against: one machine of 200 TH/s finds 230
# shares in that time at the lowest difficulty, and a broken one is sorry after 60 s.
UNEARNED_PER_CHECK_MAX = 500
UNEARNED_TRUSTED_MAX = 50
CHECKS_AT_ONCE = 32  # under a millisecond, for which a commit that is done would wait
LEFT = ("left", "connection lost")  # by itself
TICK_S = 0.5
TICK_BUCKETS = 10  # each session is checked every 5 s, unless it rests
# Who mines as it did before is not looked at in Python for so long: a check is 10 to 30 us, most of that for
# memory that is not near. What its firmware did is counted so much later.
REST_S = 30.0


class BoardLimits(msgspec.Struct, frozen=True, kw_only=True):
    out_bytes_max: int = 65_536  # per miner: 40 jobs that it did not read
    commit_interval_s: float = 0.02  # a commit comes so long after the one before it, unless many wait
    refresh_spread_s: float = 5.0  # over which a routine refresh reaches everybody


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
        self.out_bytes_max = limits.out_bytes_max
        self.poller = new_poller(services.engine)
        self.connections: set[Connection] = set()
        self.dropped: Counter[str] = Counter()
        self.services = services
        self.engine = services.engine
        self.distribution = Distribution(
            services.start_of,
            judge=self.judge,
            write_all=write_all,
            refresh_spread_s=limits.refresh_spread_s,
        )
        self.distribution.add_channel(services.channel)
        self.commits = GroupCommit(
            services.engine,
            journal,
            judge=self.judge,
            write_all=answer_all,
            on_uncharged=services.uncharged.add_shares,
            interval_s=limits.commit_interval_s,
        )
        self._connection_limits = connection_limits
        self.lanes = Lanes(connection_limits)
        self._answers: list[tuple[Connection, bytes]] = []  # of this round of turns, to be said at its end
        self.traces = Traces()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; then every connection is closed."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pump)
                for lane in self.lanes.all:
                    nursery.start_soon(self._give_turns, lane)
                nursery.start_soon(self.commits.run)
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
        *,
        dear: bool = False,
    ) -> None:
        """A connection that passed the door. Takes over the socket, which must not block.

        `begin` serves it from its first turn on, and says what that cost; without it is a plain miner's.
        `dear`: as in `Lanes.add`.
        """
        arrival = Arrival(
            sock,
            address,
            place,
            begin=begin or self._begin,
            on_end=self._ended,
        )
        self.lanes.add(place, arrival, dear=dear)

    def _ended(self, arrival: Arrival, reason: str) -> None:
        self.lanes.discard(arrival.place, arrival)
        self._connection_limits.leave(arrival.place)
        self.dropped[reason] += 1

    def _begin(self, arrival: Arrival) -> int:
        if self.lanes.crowded and arrival.has_left:
            arrival.end("left")
            return GONE_COST
        data = receive(arrival.sock.fileno(), RECV_BYTES)
        if data is not None and b"\n" not in data and len(data) in (0, RECV_BYTES):
            arrival.end("line too long" if data else "left")
            return GONE_COST
        connection = SocketConnection(self, arrival.sock, arrival.address, arrival.place)
        queued = self.engine.queued()
        if data is not None:
            self._feed(connection, data)
        return ARRIVAL_COST + self._shares_cost(queued) + self._go_on(connection)

    def entered(self, connection: Connection) -> None:
        """A new one, with its session; until `drop`."""
        self.connections.add(connection)
        connection.place.holder = connection
        self._connection_limits.begin(connection.place)
        if self.traces:
            self.traces.arrived(connection)

    def drop(self, connection: Connection, reason: str) -> None:
        """Close a connection, once, for a reason that is counted."""
        if not connection.open:
            return
        connection.shut()
        if connection.held:  # as everybody is who waits for a turn
            self.lanes.discard(connection.place, connection)
        self.connections.discard(connection)
        self.traces.left(connection, reason)
        self.services.note(connection.workers, What.ENDED, reason)
        connection.session.close(left=reason in LEFT)
        self._connection_limits.leave(connection.place)
        self.dropped[reason] += 1
        self.commits.owe()  # behind a commit whatever was kept for it may be forgotten

    def let_go(self, connection: Connection, reason: str) -> None:
        """Ask who mines to connect again, of whom who does not is dropped; drop who does not mine yet."""
        session = connection.session
        if session.state is State.MINING:
            self.services.note(connection.workers, What.SENT_AWAY, reason)
            connection.write(session.assignment.send_away(trio.current_time()))
        else:
            self.drop(connection, reason)

    def drop_workers(self, workers: Container[int], reason: str) -> None:
        """Drop every connection that one of these workers is authorised on."""
        for connection in list(self.connections):
            if any(worker in workers for worker in connection.session.assignment.workers):
                self.drop(connection, reason)

    def drop_channel(self, channel: Channel, reason: str) -> None:
        """Drop everybody who mines this channel, or is about to."""
        for connection in list(self.connections):
            session = connection.session
            if session.assignment.channel is channel or session.is_let_in_for(channel):
                self.drop(connection, reason)

    def close_door(self, reason: str) -> None:
        """Drop everybody and let nobody in, until it is opened."""
        self._connection_limits.closed = reason
        for connection in list(self.connections):
            self.drop(connection, reason)
        for lane in self.lanes.all:
            for arrival in lane.arriving:
                assert isinstance(arrival, Arrival)
                arrival.end(reason)

    def open_door(self) -> None:
        """Let miners in again."""
        self._connection_limits.closed = None

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
            self.lanes.add(connection.place, connection)
        elif self._read(connection, RECV_BYTES):
            self._line_waits(connection)

    def _line_waits(self, connection: Connection) -> None:
        connection.hold()
        if connection.lines_left > 0:
            self.lanes.add(connection.place, connection)

    def _read(self, connection: Connection, bytes_max: int) -> bool:
        """Submits are queued; whether there is a line that is none, and is to be answered."""
        data = connection.read(bytes_max)
        return data is not None and self._feed(connection, data)

    def _feed(self, connection: Connection, data: bytes) -> bool:
        if not data:
            self.drop(connection, "left")
            return False
        for tap in connection.taps:
            tap.heard(data)
        session = connection.session
        try:
            connection.line = self.engine.feed(session.slot, data)
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

    async def _give_turns(self, lane: Lane) -> None:
        while True:
            await lane.wanted.wait()
            rest_s = lane.round(beside_miners=self._connection_limits.mining > 0)
            self._say_answers()
            self.judge()
            await self.commits.room()
            await trio.sleep(rest_s)

    def take_turn(self, connection: Connection) -> int:
        """What has arrived of this connection is read, and lines are answered; what that cost."""
        if not connection.open:
            return 0
        if connection.line is not None:
            return self._go_on(connection)
        self._see_first_share(connection)
        queued = self.engine.queued()
        half_open = connection.place.standing is Standing.HALF_OPEN
        self._read(connection, RECV_BYTES if half_open else NEWCOMER_RECV_BYTES)
        return 1 + self._shares_cost(queued) + self._go_on(connection)

    def _see_first_share(self, connection: Connection) -> None:
        """Who mines is read as such from its second share on, and not only from the next check on."""
        place = connection.place
        if place.standing in (Standing.FRESH, Standing.IDLE):
            accepted, _, _ = self.engine.counters(connection.session.slot)
            if accepted != connection.accepted:
                connection.accepted, connection.share_at_s = accepted, trio.current_time()
                connection.trusted = True
                self._connection_limits.stands(place, Standing.MINING)

    def _say_answers(self) -> None:
        """All that were given in a round, without Python between two of them."""
        answers, self._answers = self._answers, []
        write_all(answers)

    def _shares_cost(self, queued_before: int) -> int:
        return (self.engine.queued() - queued_before) // SHARES_PER_COST

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
        """What the miner said with this line and a few behind it, in one write at the end of the round; what
        that cost."""
        session, now_s = connection.session, trio.current_time()
        assert isinstance(session, MinerSession), "lines are of V1"
        answers: list[bytes] = []
        line, allowed = connection.line, min(LINES_PER_TURN, connection.lines_left)
        try:
            while line is not None and session.closing is None and len(answers) < allowed:
                answers.append(session.receive_line(line, now_s))
                line = self.engine.feed(session.slot, b"")
        except LineTooLong:
            session.closing = "line too long"
        except Exception:  # as in feed
            log.exception("session_failed", address=connection.address)
            session.closing = "internal error"
        if self.traces:
            self.traces.spoke(connection)
        connection.line = line
        connection.lines_left -= len(answers)
        if session.closing is None:
            self.engine.rest(session.slot, 0.0)
        cost = max(1, len(answers))
        if connection.place.standing is Standing.HALF_OPEN and session.authorised:
            self._connection_limits.stands(connection.place, Standing.FRESH)
            connection.share_at_s, connection.lines_left = now_s, LINES_AT_ONCE
            cost += WELCOME_COST
        if any(answers):
            self._answers.append((connection, b"".join(answers)))
        if session.closing is not None:
            self._say_answers()
            self.drop(connection, session.closing)
        elif connection.open and line is None:
            connection.release()
        elif connection.open:
            self._line_waits(connection)
        return cost

    # The way of a share

    async def _pump(self) -> None:
        descriptor = self.poller.fileno()
        while True:
            await trio.lowlevel.wait_readable(descriptor)
            await self.commits.answered()
            for connection, events in self._read_round():
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
            await self.commits.room()

    def _read_round(self) -> list[tuple[SocketConnection, int]]:
        """What is ready and is to be read or flushed here: the engine reads those who mine."""
        ready, lines, ends = self.poller.poll(EVENTS_PER_ROUND)
        for connection, line in lines:
            connection.line = line
            self._line_waits(connection)
        for connection, reason, error in ends:
            if error:
                log.error("session_failed", address=connection.address, error=error)
            self.drop(connection, reason)
        return ready

    def judge(self) -> None:
        """Judge everything fed since the last call, and let the commit know."""
        if self.engine.queued():
            self.commits.want()
        replies, finds, retarget = self.engine.validate()
        for found in finds:
            self.distribution.channel(found.channel).hand_over(found)
        if retarget:
            now_s = trio.current_time()
            for connection in retarget:
                connection.session.retarget(now_s)
        self.commits.add(replies)

    # Time

    async def _tick(self) -> None:
        bucket, at_s = 0, trio.current_time()
        while True:
            at_s = max(at_s + TICK_S, trio.current_time())
            await trio.sleep_until(at_s)
            bucket = (bucket + 1) % TICK_BUCKETS
            now_s = trio.current_time()
            self.traces.expire(now_s)
            self.judge()  # the engine frees the places of those who left
            self.commits.want_what_is_owed()
            for slices in self.checks(bucket):
                await trio.sleep(TICK_S / (slices + 1))

    def checks(self, bucket: int) -> Iterator[int]:
        """Check the connections of one tick, a slice of them a step; each time, how many slices there are."""
        due: list[Connection] = self.engine.awake(bucket, TICK_BUCKETS, trio.current_time())
        slices = -(-len(due) // CHECKS_AT_ONCE)
        for at in range(0, len(due), CHECKS_AT_ONCE):
            now_s = trio.current_time()
            for connection in due[at : at + CHECKS_AT_ONCE]:
                if connection.open:
                    self._check(connection, now_s)
            yield slices

    def _check(self, connection: Connection, now_s: float) -> None:
        session = connection.session
        heard_s = self.engine.heard_at(session.slot, now_s)
        said = session.tick(now_s, heard_s)
        if said:
            connection.write(said)
        closing = session.closing or connection.more_lines()
        closing = closing or self._check_shares(connection, now_s, heard_s)
        if closing is not None:
            self.drop(connection, closing)
        elif connection.open and connection.trusted and connection.lines_left == LINES_AT_ONCE:
            until_s = min(now_s + REST_S, connection.share_at_s + SHARELESS_S, session.rests_until_s(now_s))
            self.engine.rest(session.slot, until_s)

    def _check_shares(self, connection: Connection, now_s: float, heard_s: float) -> str | None:
        """What the connection counts for when places or turns are scarce; why to drop who wastes them."""
        place, slot = connection.place, connection.session.slot
        accepted, _, _ = self.engine.counters(slot)
        unearned = self.engine.unearned(slot)
        wasted, connection.unearned = unearned - connection.unearned, unearned
        if wasted > UNEARNED_PER_CHECK_MAX:
            return "rejected shares without work"
        if place.standing is not Standing.HALF_OPEN:
            if accepted != connection.accepted:
                connection.accepted, connection.share_at_s = accepted, heard_s
                self._connection_limits.stands(place, Standing.MINING)
            elif now_s - connection.share_at_s >= SHARELESS_S:
                self._connection_limits.stands(place, Standing.IDLE)
                if connection.session.assignment.channel.extranonces.full(now_s):
                    return MADE_ROOM
        connection.trusted = place.standing is Standing.MINING and wasted <= UNEARNED_TRUSTED_MAX
        return None
