"""A connection of a miner: where a session's bytes come from and go to, and how many lines it may say.

Invariants: `write` never blocks, and drops who does not read; while it is held nothing is read; it is shut
once, by `Board.drop`. Must not know: what is said, whose turn it is.
"""

import os
import socket
from collections.abc import Collection, Iterable
from typing import Protocol

import trio

from stratum._engine import Engine, send_all
from stratum.miners.contracts import Services
from stratum.miners.group_commit import GroupCommit
from stratum.miners.mining_session import MiningSession
from stratum.miners.owner import Owner
from stratum.miners.poller import READ, WRITE, Poller
from stratum.miners.session import MinerSession
from stratum.miners.traces.traces import Tap
from stratum.miners.turns.connection_limits import MADE_ROOM, Place, Standing
from stratum.miners.turns.lanes import Lanes

RECV_BYTES = 4096  # some 25 shares: one socket cannot hold up a round
# A miner says a few lines when it connects, and a rental proxy a few hundred once it is authorised; then they
# send shares, which are not counted here. Whoever has used up its lines is not read until the next
# check, every 5 s.
HALF_OPEN_LINES = 20
LINES_AT_ONCE = 300
LINES_PER_CHECK = 10
OVERDRAWN_CHECKS_MAX = 12  # a minute of that, and it is dropped
CLOSED = -1  # the number of a socket that is no more: the one that it had is somebody else's next


class Board(Protocol):
    """What a connection needs of the switchboard that it is on."""

    out_bytes_max: int  # that wait for a miner
    poller: Poller
    commits: GroupCommit
    engine: Engine
    lanes: Lanes
    services: Services

    def entered(self, connection: "Connection") -> None: ...
    def readable(self, connection: "Connection") -> None: ...
    def judge(self) -> None: ...
    def take_turn(self, connection: "Connection") -> int: ...
    def drop(self, connection: "Connection", reason: str) -> None: ...


class Connection:
    """stratum.miners.owner.Owner. While it is held `line` waits for its turn, or what it sends does."""

    __slots__ = (
        "_taps",
        "_trusted",
        "accepted",
        "address",
        "board",
        "held",
        "line",
        "lines_left",
        "open",
        "overdrawn_checks",
        "place",
        "session",
        "share_at_s",
        "unearned",
    )

    def __init__(self, board: Board, address: str, place: Place) -> None:
        self.board = board
        # Of IPv4 one string for all who are there.
        self.address = place.source if address == place.source else address
        self.place = place
        self.open = True
        self.held = False
        self.line: bytes | None = None  # that Python is to answer
        self.lines_left = HALF_OPEN_LINES
        self.overdrawn_checks = 0
        self._trusted = False
        self.accepted = self.unearned = 0  # at the last check
        self.share_at_s = 0.0  # an accepted one, or when it was authorised
        self._taps: tuple[Tap, ...] = ()
        self.session = self._begin_session()
        board.entered(self)

    def _begin_session(self) -> MiningSession:
        return MinerSession(self.board.services, self, trio.current_time())

    @property
    def trusted(self) -> bool:
        """It has mined lately: its shares are read as they come."""
        return self._trusted

    @trusted.setter
    def trusted(self, trusted: bool) -> None:
        if trusted is not self._trusted:
            self._trusted = trusted
            self._rewire()

    @property
    def taps(self) -> tuple[Tap, ...]:
        """Who looks at what passes."""
        return self._taps

    @taps.setter
    def taps(self, taps: tuple[Tap, ...]) -> None:
        self._taps = taps
        self._rewire()

    def _rewire(self) -> None:
        """Whether its bytes need Python may have changed."""

    @property
    def workers(self) -> Collection[int]:
        return self.session.assignment.workers

    def read(self, bytes_max: int) -> bytes | None:
        """What has arrived; b"" at the end; None if nothing."""
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        raise NotImplementedError

    def answer(self, data: bytes) -> None:
        """Replies of the engine to its shares."""
        self.write(data)

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

    def more_lines(self) -> str | None:
        """At every check, for everybody; why to drop who always wants more."""
        overdrawn = self.lines_left == 0 and self.line is not None
        most = HALF_OPEN_LINES if self.place.standing is Standing.HALF_OPEN else LINES_AT_ONCE
        self.lines_left = min(most, self.lines_left + LINES_PER_CHECK)
        if not overdrawn:
            self.overdrawn_checks = 0
            return None
        self.overdrawn_checks += 1
        if self.overdrawn_checks >= OVERDRAWN_CHECKS_MAX:
            return "too many lines"
        self.board.lanes.add(self.place, self)
        return None


def receive(descriptor: int, bytes_max: int) -> bytes | None:
    """What has arrived; b"" at the end, whatever the end was; None if nothing."""
    try:
        return os.read(descriptor, bytes_max)
    except (BlockingIOError, InterruptedError):
        return None
    except OSError:
        return b""


class SocketConnection(Connection):
    """A plain TCP miner, read and written by the pump. It has its socket as a number, as the engine has: an
    object would be a hundred bytes more."""

    __slots__ = ("_out", "descriptor")

    def __init__(self, board: Board, sock: socket.socket, address: str, place: Place) -> None:
        self._out: bytearray | None = None
        board.poller.register(sock.fileno(), self)
        self.descriptor = sock.detach()
        super().__init__(board, address, place)
        self._rewire()

    def _rewire(self) -> None:
        """The engine reads what comes while it is trusted, and sends replies while none wait; but whoever
        looks at what passes looks here."""
        if self.open:
            free = not self._taps
            self.board.engine.set_wire(
                self.session.slot,
                self.descriptor,
                reads=free and self._trusted,
                writes=free and self._out is None,
            )

    def read(self, bytes_max: int) -> bytes | None:
        return receive(self.descriptor, bytes_max)

    def write(self, data: bytes) -> None:
        if self.begin_write(data):
            for _, taken in send_all([self.descriptor], [data]):
                self.wrote(data, taken)

    def begin_write(self, data: bytes) -> bool:
        """Whether this is to be sent now, by `send_all`; else it waits behind what the miner has not read."""
        if not self.open:
            return False
        for tap in self.taps:
            tap.said(data)
        if self._out is None:
            return True
        if len(self._out) + len(data) > self.board.out_bytes_max:
            self.board.drop(self, "does not read")
        else:
            self._out += data
        return False

    def wrote(self, data: bytes, taken: int) -> None:
        """The socket took so much of it and no more, or is broken (-errno)."""
        if taken < 0:
            self.board.drop(self, "connection lost")
        else:
            self._out = bytearray(data[taken:])
            self._out_changed()

    def flush(self) -> None:
        """The socket takes bytes again."""
        assert self._out is not None
        try:
            sent = os.write(self.descriptor, self._out)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.board.drop(self, "connection lost")
            return
        del self._out[:sent]
        if not self._out:
            self._out = None
            self._out_changed()

    def hold(self) -> None:
        if not self.held:
            self.held = True
            self._watch()

    def release(self) -> None:
        if self.held:
            self.held = False
            self._watch()

    def _out_changed(self) -> None:
        self._watch()
        self._rewire()

    def _watch(self) -> None:
        events = (0 if self.held else READ) | (0 if self._out is None else WRITE)
        self.board.poller.modify(self.descriptor, events, self)

    def shut(self) -> None:
        self.open = False
        self.board.poller.unregister(self.descriptor)
        socket.close(self.descriptor)
        self.descriptor = CLOSED


def write_all(said: Iterable[tuple[Owner, bytes]]) -> None:
    """What `write` does for each; to plain sockets all at once, without Python between two of them."""
    waiting: dict[SocketConnection, bytes] = {}
    for owner, data in said:
        if not isinstance(owner, SocketConnection):
            owner.write(data)
            continue
        before = waiting.get(owner)
        if before is not None and len(before) + len(data) > owner.board.out_bytes_max:
            _send(waiting)
            waiting, before = {}, None
        if owner.begin_write(data):
            waiting[owner] = data if before is None else before + data
    _send(waiting)


def answer_all(said: Iterable[tuple[Owner, bytes]]) -> None:
    """What `answer` does for each, likewise."""
    lines: list[tuple[Owner, bytes]] = []
    for owner, data in said:
        if isinstance(owner, Connection) and not isinstance(owner, SocketConnection):
            owner.answer(data)
        else:
            lines.append((owner, data))
    write_all(lines)


def _send(waiting: dict[SocketConnection, bytes]) -> None:
    connections, data = list(waiting), list(waiting.values())
    for at, taken in send_all([it.descriptor for it in connections], data):
        connections[at].wrote(data[at], taken)
