"""One machine or proxy on a socket: the handshake, what it says, a step a turn, and what it is told.

It has no task of its own: its `Crowd` says when the socket is ready, and turns are the board's. A handshake
costs as much as all that a machine of V1 says until it mines, so it waits for its turn, as does everything
that costs more than a share, the end included: thousands may leave at once. Shares of who has mined lately
do not wait.

Invariants: a place is held by the line until its first channel has one, and by its channels from then on;
while it waits for a turn nothing is read; what waits for a machine that does not read is bounded; whatever
one does ends its own connection and nothing else. Must not know: what messages mean, jobs.
"""

import socket
from itertools import islice
from math import inf
from typing import Final, Protocol

import structlog
import trio

from stratum.miners.connection import RECV_BYTES, receive
from stratum.miners.liveness import UNTAKEN
from stratum.miners.mining_session import State
from stratum.miners.poller import READ, WRITE, Poller
from stratum.miners.switchboard import Switchboard
from stratum.miners.turns.connection_limits import MADE_ROOM, ConnectionLimits, Place, Standing
from stratum.sv2 import messages
from stratum.sv2.authority import Credentials
from stratum.sv2.channel_session import ChannelSession, NotNow, NotOpened
from stratum.sv2.conversation import Conversation, is_for_channel, is_share
from stratum.sv2.messages import OpenChannel
from stratum.sv2.mining_channel import MiningChannel
from stratum.sv2.noise import BadPeer, Frame, NoiseServer
from stratum.sv2.secp256k1 import ENCODED_BYTES

log = structlog.get_logger()

HANDSHAKE_S: Final = 10.0  # a packet and its answer
# What is done in a turn, in lines that Python answers, of 15 us each. Measured in a pool at work, with other
# load on its 2 cores of 2.5 GHz, as 1,200 machines came, opened a channel and left: medians of the time of
# the processor. Where nothing else runs it is half of that, for a line too.
BEGIN_COST: Final = 4  # a connection and its socket: 45 us, with its arrival
READ_COST: Final = 2  # a packet: 15 us, and as much to hold, release and send
HANDSHAKE_COST: Final = 32  # two shared secrets and a key: 485 us
FRAME_COST: Final = 4  # decrypted, heard and answered: 64 us
OPEN_COST: Final = 33  # a channel: its session, its name, its first job: 490 us
END_COST: Final = 5  # of a connection, and of each channel: 140 us for both
TURN_COST: Final = 16  # of one turn at most, or a little more
ENDS_PER_TURN: Final = 4  # channels of who has left
CHANNELS_MAX: Final = 1_024  # of one connection: four containers behind one proxy
# Beside what waits for any machine: some six jobs of each channel. A new block is told to all of them at
# once.
OUT_BYTES_PER_CHANNEL: Final = 8_192
LAST_WORDS_S: Final = 1.0  # for what is still to be sent on a connection that we end


class Crowd(Protocol):
    """What a connection needs of all of them."""

    credentials: Credentials
    channels: int
    handshakes: int

    @property
    def poller(self) -> Poller:
        """Of their sockets."""

    def enter(self, connection: "Sv2Connection") -> None: ...
    def leave(self, connection: "Sv2Connection") -> None: ...
    def send_soon(self, connection: "Sv2Connection") -> None:
        """Have it `flush`, when others have had their turn."""

    def be_patient(self, connection: "Sv2Connection", *, bounded: bool) -> None:
        """Whether its `due_s` is looked at from now on."""


class Sv2Connection:
    """The `Line` of its channels and the `Host` of its conversation. `place` is its own until it mines.

    `due_s` is until when it is to have said what it has to, or to have read our last words.
    """

    def __init__(
        self,
        of: Crowd,
        board: Switchboard,
        limits: ConnectionLimits,
        sock: socket.socket,
        address: str,
        place: Place,
    ) -> None:
        of.poller.register(sock.fileno(), self)
        self._watched: int | None = READ  # what the poller tells of; nothing of who has left
        self._sock = sock
        self.address, self.source = address, place.source
        self.open = True
        self._board, self._limits, self._of = board, limits, of
        self._place = place
        self._noise = NoiseServer()
        self._conversation = Conversation(refusals_max=board.services.limits.refusals_max)
        self._channels: dict[int, MiningChannel] = {}
        self._last_number = self._trusted = 0
        self._closed_by_machine = self._has_mined = self._closed = False
        self._lacks = False  # own work that stands still: all on it come again when there is some
        self._shakes = True
        self._first = bytearray()  # of the handshake
        self._frame: Frame | None = None  # that waits for its turn
        self._waits = False  # for a turn
        self._time_left_s = inf  # by then
        self._left: str | None = None  # why it ends when it has its turn
        self._deaf = False  # it broke a rule: nothing more of it is heard, and nothing is said to it
        self._unsealed = bytearray()  # frames to be encrypted behind what is out: when it is sent
        self._out = bytearray()
        self._is_full = False  # its socket, which takes no more
        of.enter(self)
        self._bound(HANDSHAKE_S)
        place.holder = self
        limits.begin(place)

    def begin(self) -> int:
        """Its first turn: hear what has come with it; what that cost."""
        return BEGIN_COST + self._hear_in_turn()

    def make_room(self) -> None:
        self.end(MADE_ROOM)

    def _bound(self, more_s: float) -> None:
        """It has so much time from now on. What it waits for turns is ours and not its own."""
        self.due_s = trio.current_time() + more_s
        self._of.be_patient(self, bounded=True)

    def time_is_up(self) -> None:
        if self.open:
            self._leave("SV2 handshake failed" if self._shakes else "no channel opened")
        else:
            self._close()

    def _leave(self, reason: str) -> None:
        """It ends when it has its turn; what was read of it is heard then."""
        if self.open and self._left is None:
            self._left = reason
            self._watch(None)
            if self._waits and self._channels:  # to say something, which has more time
                self._board.lanes.discard(self._place, self)
                self._waits = False
            self._wait_for_turn()

    def _fail(self, reason: str) -> None:
        """It broke a rule, or does not read. A thousand channels do not end in one turn: that is 72 ms, in
        which nobody's shares are answered."""
        self._deaf = True
        if len(self._channels) > ENDS_PER_TURN:
            self._leave(reason)
        else:
            self.end(reason)

    def _leave_in_turn(self) -> int:
        """Some of its channels at a time; what that cost."""
        assert self._left is not None
        self._closed_by_machine = True
        leaving = list(islice(self._channels.values(), ENDS_PER_TURN))
        for channel in leaving:
            self._board.drop(channel, self._left)
        if self._channels:
            self._wait_for_turn()
        else:
            self.end(self._left)
        return END_COST * (1 + len(leaving))

    def end(self, reason: str) -> None:
        """Once. The reason is counted for each of its channels, or for itself where it never had one."""
        if not self.open:
            return
        self.open = False
        self._limits.leave(self._place)
        if not self._has_mined:
            self._board.dropped[reason] += 1
        for channel in list(self._channels.values()):
            self._board.drop(channel, reason)
        self._board.lanes.discard(self._place, self)
        self._bound(LAST_WORDS_S)
        self.flush()

    def close(self) -> None:
        """At once, whatever is still to be sent."""
        self.end("left")
        self._close()

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._watch(None)
            self._of.leave(self)
            self._sock.close()

    # What it says

    def ready(self, events: int) -> None:
        """Its socket is."""
        if events & WRITE and not self._closed:
            self.flush()
        if not events & READ or self._closed or self._left is not None:
            return
        if not self.open:  # nobody hears our last words
            self._close()
        elif self._waits:  # nobody asked: it is broken
            self._leave("left")
        elif self._trusted:
            self._hear_at_once()
        else:
            self._wait_for_turn()

    def _read(self) -> None:
        data = receive(self._sock.fileno(), RECV_BYTES)
        if data == b"":
            self._left = "left"
            self._watch(None)
        elif data and self._shakes:
            self._first += data
        elif data:
            self._noise.feed(data)

    @property
    def _has_more(self) -> bool:
        """Of what was read, to be heard."""
        return not self._deaf and (self._frame is not None or self._noise.has_more)

    def _hear_at_once(self) -> None:
        """Shares of who has mined lately; the rest waits for turns, before anything of it is decrypted."""
        try:
            self._read()
            while self.open and self._trusted and (frame := self._next_frame()) is not None:
                if not self._is_share(frame):
                    self._frame = frame
                    break
                self._answer(frame)
        except BadPeer as error:
            self._fail(str(error))
        except Exception:  # a mistake of ours about one machine must not cost the others their work
            log.exception("session_failed", address=self.address)
            self._fail("internal error")
        if self.open and (self._has_more or self._left is not None):
            self._wait_for_turn()

    def _wait_for_turn(self) -> None:
        """It is not read until then, and its time stands still."""
        if self._waits:
            return
        self._waits = True
        self._time_left_s, self.due_s = self.due_s - trio.current_time(), inf
        if self._watched is not None:
            self._rewatch()
        dear = self._left is not None or not self._channels
        self._board.lanes.add(self._place, self, dear=dear)

    def take_turn(self) -> int:
        """Shake hands, or hear some of what it said, or leave; what that cost."""
        if not self.open:
            return 0
        self._waits = False
        self.due_s = trio.current_time() + self._time_left_s
        return self._hear_in_turn()

    def _hear_in_turn(self) -> int:
        cost, leaves, channels = 0, self._left is not None, len(self._channels)
        try:
            if not leaves and not self._has_more:
                cost += READ_COST
                self._read()
            if self._shakes and len(self._first) >= ENCODED_BYTES:
                cost += HANDSHAKE_COST
                self._shake()
            elif not self._shakes:
                while self.open and cost < TURN_COST and (frame := self._next_frame()) is not None:
                    cost += self._answer(frame)
        except BadPeer as error:
            self._fail("SV2 handshake failed" if self._shakes else str(error))
        except Exception:  # as above
            log.exception("session_failed", address=self.address)
            self._fail("internal error")
        if not self.open:
            cost += END_COST * (1 + channels)
        elif self._has_more or (self._left is not None and not leaves):
            self._wait_for_turn()
        elif leaves:
            cost += self._leave_in_turn()
        else:
            self._rewatch()
        return max(1, cost)

    def _shake(self) -> None:
        said = self._noise.shake(bytes(self._first[:ENCODED_BYTES]), self._of.credentials)
        self._noise.feed(bytes(self._first[ENCODED_BYTES:]))
        self._shakes = False
        self._first.clear()
        self._of.handshakes += 1
        self._bound(self._board.services.limits.subscribe_s)
        self._out += said
        self._send_soon()

    def _next_frame(self) -> Frame | None:
        if self._deaf:
            return None
        frame, self._frame = self._frame, None
        return self._noise.next_frame() if frame is None else frame

    def _is_share(self, frame: Frame) -> bool:
        """Of a channel that there is: then it is answered when it is judged, at the cost of a share."""
        session = self.session(int.from_bytes(frame.payload[:4], "little"))
        return session is not None and is_share(frame, extended=session.language.extranonce_size > 0)

    def _answer(self, frame: Frame) -> int:
        """What is to be said to one frame; what that cost."""
        asked_for, begins = self._last_number, self._conversation.agent is None
        if self._board.traces:
            channel = self._channels.get(int.from_bytes(frame.payload[:4], "little"))
            if channel is not None and is_for_channel(frame):
                channel.heard(frame)
        self.write(self._conversation.hear(frame, self))
        if begins:
            self._await_channel()
        if self._conversation.closing is not None:
            self._fail(self._conversation.closing)
        begun = self._last_number > asked_for  # a channel, which may have been refused then
        return FRAME_COST + (OPEN_COST if begun else 0)

    # stratum.sv2.conversation.Host

    @property
    def mines(self) -> bool:
        return bool(self._channels)

    def session(self, channel_id: int) -> ChannelSession | None:
        channel = self._channels.get(channel_id)
        return None if channel is None else channel.session

    def open_channel(self, asked: OpenChannel, agent: str, *, rolls: bool) -> None:
        if len(self._channels) >= CHANNELS_MAX:
            raise NotOpened("too-many-channels")
        if (reason := self._limits.refuses) is not None:  # it comes again: a refusal ends SRI's translator
            self._leave(reason)
            return
        place = self._limits.enter(self.address, instead_of=self._place)
        if isinstance(place, str):
            raise NotOpened(f"refused: {place}")
        if not self.open:  # its own last channel, which was idle, has made room
            self._limits.leave(place)
            raise NotOpened(f"refused: {MADE_ROOM}")
        self._last_number += 1
        channel = MiningChannel(self._board, self, place, self._last_number)
        try:
            said = channel.open_with(asked, agent, rolls=rolls)
        except NotOpened as error:
            self._board.drop(channel, "refused")
            if isinstance(error, NotNow) and not self._channels:  # as above, where that costs nobody his work
                self._leave("refused")
                return
            if isinstance(error, NotNow) and self._own_work_stands_still:  # as above: others mine on
                self._lacks = True
                return
            raise
        self._channels[channel.number] = channel
        self._of.channels += 1
        self._has_mined = True
        self._limits.stands(place, Standing.FRESH)
        self._limits.leave(self._place)
        self._of.be_patient(self, bounded=False)
        self._board.traces.spoke(channel)
        channel.said(said)
        self.write(said)

    def close_channel(self, channel_id: int) -> None:
        self._closed_by_machine = True
        try:
            self._board.drop(self._channels[channel_id], "left")
        finally:
            self._closed_by_machine = False
        if not self._channels and self.open:
            self._begin_anew()

    def _begin_anew(self) -> None:
        """It has closed its last channel, and may open another one in time."""
        place = self._limits.enter(self.address)
        if isinstance(place, str):
            self.end("left")
            return
        self._place, place.holder = place, self
        self._limits.begin(place)
        self._await_channel()

    def _await_channel(self) -> None:
        """Whose machines may all be switched off has no time limit: its place is among the first to go where
        others want in."""
        if self._conversation.may_be_proxy:
            self.due_s = inf
            self._of.be_patient(self, bounded=False)
        else:
            self._bound(self._board.services.limits.authorise_s)

    # stratum.sv2.mining_channel.Line

    def trusts(self, more: int) -> None:
        """So many channels of it have mined lately, more or less than before."""
        self._trusted += more

    def words_to_leave(self, number: int) -> bytes:
        """To a channel beside others, where another one may be opened instead: do so.

        Else nothing: the connection ends when the time to leave is over, and is made again by whoever was on
        it. No Reconnect is said: Bitaxes do not know it, and a proxy of SRI's never mines again after one.
        """
        if len(self._channels) <= 1 or self._limits.draining is not None:
            return b""
        self._channels[number].told_to_leave = self._last_number
        return messages.close_channel(number, "moved")

    def shut(self, channel: MiningChannel) -> None:
        """The switchboard has ended it; without any the connection has no purpose."""
        if self._channels.pop(channel.number, None) is None:
            return
        self._of.channels -= 1
        if self.open and not self._closed_by_machine:
            if channel.told_to_leave is None and channel.session.state is State.MINING:
                self.write(messages.close_channel(channel.number, channel.session.closing or "ended"))
            if not self._channels:
                self.end("left")
            elif self._limits.draining is not None or self._stays_away(channel):
                self._leave("moved")  # no other one may be opened, or would be: all come again together
            elif self._own_work_stands_still:  # SRI's translator opens no channel again that was closed
                self._lacks = True

    def _stays_away(self, channel: MiningChannel) -> bool:
        """Whether it goes to come again, and its machine has no other one: it was told of none, or passes
        CloseChannel over, as SRI's translator does."""
        why, since = channel.session.closing, channel.told_to_leave
        instead = (it for it in self._channels.values() if since is not None and it.number > since)
        came = any(it.session.name == channel.session.name for it in instead)
        return why == UNTAKEN or (why == "moved" and not came)

    @property
    def _own_work_stands_still(self) -> bool:
        return self._board.services.channel.paused

    # What it is told

    def write(self, frames: bytes) -> None:
        if not frames or self._shakes or self._deaf:
            return
        if self._lacks and not self._own_work_stands_still:
            self._leave("moved")
        most = self._board.out_bytes_max + OUT_BYTES_PER_CHANNEL * len(self._channels)
        waiting = len(self._out) + len(self._unsealed)
        if waiting and waiting + len(frames) > most:
            self._out.clear()
            self._unsealed.clear()
            self._fail("does not read")
            return
        self._unsealed += frames
        self._send_soon()

    def _send_soon(self) -> None:
        if self.open and not self._is_full:
            self._of.send_soon(self)

    def flush(self) -> None:
        """Send what its socket takes. Who has ended is closed when that is all."""
        if self._closed:
            return
        if self._unsealed:
            self._out += self._noise.encrypt(bytes(self._unsealed))
            self._unsealed.clear()
        try:
            if self._out:
                del self._out[: self._sock.send(self._out)]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._out.clear()
            self._leave("connection lost")
        self._is_full = bool(self._out)
        if not self.open and (self._watched is None or not self._out):
            self._close()
        elif self._watched is not None:
            self._rewatch()

    def _rewatch(self) -> None:
        hears = self.open and not self._waits
        self._watch((READ if hears else 0) | (WRITE if self._is_full else 0))

    def _watch(self, events: int | None) -> None:
        """With none at all only errors are told of, and of nobody they are told for ever."""
        if events == self._watched:
            return
        if events is None:
            self._of.poller.unregister(self._sock.fileno())
        else:
            self._of.poller.modify(self._sock.fileno(), events, self)
        self._watched = events
