"""One machine or proxy on a socket: the handshake, what it says, a step a turn, and what it is told.

A Trio task hears it, and one speaks to it. The handshake costs a third of a millisecond, so it waits for its
turn like everything else that costs more than a share, of all connections of all sources; shares of who has
mined lately do not wait.

Invariants: a place is held by the line until its first channel has one, and by its channels from then on;
what waits for a machine that does not read is bounded; whatever one does ends its own connection and nothing
else. Must not know: what messages mean, jobs.
"""

import socket
from math import inf
from typing import Final

import structlog
import trio

from stratum.miners.connection import RECV_BYTES
from stratum.miners.mining_session import State
from stratum.miners.switchboard import ARRIVAL_COST, WELCOME_COST, Switchboard
from stratum.miners.turns.connection_limits import MADE_ROOM, ConnectionLimits, Place, Standing
from stratum.sv2 import messages
from stratum.sv2.authority import Credentials
from stratum.sv2.channel_session import ChannelSession, NotOpened
from stratum.sv2.conversation import Conversation, is_for_channel, is_share
from stratum.sv2.messages import OpenChannel
from stratum.sv2.mining_channel import MiningChannel
from stratum.sv2.noise import BadPeer, Frame, NoiseServer
from stratum.sv2.secp256k1 import ENCODED_BYTES

log = structlog.get_logger()

HANDSHAKE_S: Final = 10.0  # a packet and its answer
HANDSHAKE_COST: Final = 24  # in lines that Python answers: two shared secrets and a key
TURN_COST: Final = 16  # of one turn at most, or a little more
CHANNELS_MAX: Final = 1_024  # of one connection: four containers behind one proxy
# Beside what waits for any machine: some six jobs of each channel. A new block is told to all of them at
# once.
OUT_BYTES_PER_CHANNEL: Final = 8_192
LAST_WORDS_S: Final = 1.0  # for what is still to be sent on a connection that we end


class Sv2:
    """stratum.miners.listening.listeners.Dialect: those who know the authority's key."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self.connections = self.channels = 0  # now
        self.handshakes = 0  # since the start

    def connection(
        self, board: Switchboard, limits: ConnectionLimits, sock: socket.socket, address: str, place: Place
    ) -> "Sv2Connection":
        return Sv2Connection(self, board, limits, sock, address, place)


class Sv2Connection:
    """The `Line` of its channels and the `Host` of its conversation. `place` is its own until it mines."""

    def __init__(
        self,
        of: Sv2,
        board: Switchboard,
        limits: ConnectionLimits,
        sock: socket.socket,
        address: str,
        place: Place,
    ) -> None:
        self.address = address
        self.open = True
        self._board, self._limits, self._of = board, limits, of
        self._place = place
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self._noise = NoiseServer()
        self._conversation = Conversation(self, refusals_max=board.services.limits.refusals_max)
        self._channels: dict[int, MiningChannel] = {}
        self._last_number = self._trusted = 0
        self._closed_by_machine = self._has_mined = False
        self._reason = "left"
        self._shakes = True
        self._first = bytearray()  # of the handshake
        self._frame: Frame | None = None  # that waits for its turn
        self._turn = trio.Event()
        self._out = bytearray()
        self._sending_bytes = 0
        self._wake = trio.Event()
        self._scope = trio.CancelScope()
        # Until it mines. What it waits for turns is our time and not its own.
        self._patience = trio.CancelScope(deadline=trio.current_time() + HANDSHAKE_S)
        limits.begin(place)

    async def run(self) -> None:
        """Until it is over, one way or another; raises nothing."""
        self._of.connections += 1
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send)
                    with self._patience:
                        await self._hear()
                    if self._patience.cancelled_caught:
                        self._reason = "SV2 handshake failed" if self._shakes else "no channel opened"
                    self.end(self._reason)
        finally:
            self._of.connections -= 1
            self.end("left")
            self._limits.leave(self._place)
            self._board.lanes.discard(self._place, self)
            await trio.aclose_forcefully(self._stream)

    def make_room(self) -> None:
        self.end(MADE_ROOM)

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
        self._turn.set()
        self._scope.deadline = trio.current_time() + LAST_WORDS_S
        self._wake.set()  # the sender empties what is left, then ends the connection

    # What it says

    async def _hear(self) -> None:
        try:
            while self.open:
                data = await self._stream.receive_some(RECV_BYTES)
                if not data:
                    return
                await self._take(bytes(data))
                self._board.judge()
                await self._board.commits.room()
        except trio.BrokenResourceError:
            self._reason = "connection lost"
        except BadPeer as error:
            self._reason = "SV2 handshake failed" if self._shakes else str(error)
        except Exception:  # a mistake of ours about one machine must not cost the others their work
            log.exception("session_failed", address=self.address)
            self._reason = "internal error"

    async def _take(self, data: bytes) -> None:
        if self._shakes:
            self._first += data
            if len(self._first) < ENCODED_BYTES:
                return
            await self._wait_for_turn()
            if not self.open:
                return
            data = bytes(self._first[ENCODED_BYTES:])
            self._patience.deadline = trio.current_time() + self._board.services.limits.subscribe_s
        self._noise.feed(data)
        if not self._hear_shares():
            await self._wait_for_turn()

    async def _wait_for_turn(self) -> None:
        """Until it has had as many as it needs for what has come."""
        self._turn = trio.Event()
        self._board.lanes.add(self._place, self)
        since_s, deadline_s = trio.current_time(), self._patience.deadline
        self._patience.deadline = inf
        await self._turn.wait()
        if self._patience.deadline == inf and not self.mines:
            self._patience.deadline = deadline_s + trio.current_time() - since_s

    def _hear_shares(self) -> bool:
        """Of who has mined lately they are heard as they come. Whether that was all; else the rest waits for
        turns, before anything of it is decrypted."""
        while self.open and self._trusted and (frame := self._noise.next_frame()) is not None:
            if not self._is_share(frame):
                self._frame = frame
                return False
            self._answer(frame)
        return not (self.open and self._noise.has_more)

    def take_turn(self) -> int:
        """Shake hands, or hear some of what it said; what that cost."""
        if not self.open:
            self._turn.set()
            return 0
        if self._shakes:
            said = self._noise.shake(bytes(self._first[:ENCODED_BYTES]), self._of.credentials)
            self._shakes = False
            self._of.handshakes += 1
            self._send_soon(said)
            self._turn.set()
            return HANDSHAKE_COST
        cost = 0
        try:
            while self.open and cost < TURN_COST and (frame := self._next_frame()) is not None:
                cost += self._answer(frame)
        except BadPeer as error:
            self.end(str(error))
        except Exception:  # as above
            log.exception("session_failed", address=self.address)
            self.end("internal error")
        if self.open and (self._frame is not None or self._noise.has_more):
            self._board.lanes.add(self._place, self)
        else:
            self._turn.set()
        return max(1, cost)

    def _next_frame(self) -> Frame | None:
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
        self.write(self._conversation.hear(frame))
        if begins:
            self._patience.deadline = trio.current_time() + self._board.services.limits.authorise_s
        if self._conversation.closing is not None:
            self.end(self._conversation.closing)
        begun = self._last_number > asked_for  # a channel, which may have been refused then
        return 1 + (ARRIVAL_COST + WELCOME_COST if begun else 0)

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
        place = self._limits.enter(self.address)
        if isinstance(place, str):
            raise NotOpened(f"refused: {place}")
        self._last_number += 1
        channel = MiningChannel(self._board, self, place, self._last_number)
        try:
            said = channel.open_with(asked, agent, rolls=rolls)
        except NotOpened:
            self._board.drop(channel, "refused")
            raise
        self._channels[channel.number] = channel
        self._of.channels += 1
        self._has_mined = True
        self._limits.stands(place, Standing.FRESH)
        self._limits.leave(self._place)
        self._patience.deadline = inf
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
        self._patience.deadline = trio.current_time() + self._board.services.limits.authorise_s

    # stratum.sv2.mining_channel.Line

    def trusts(self, more: int) -> None:
        """So many channels of it have mined lately, more or less than before."""
        self._trusted += more

    def words_to_leave(self, channel: MiningChannel) -> bytes:
        """To a channel that is alone: come again; to one beside others: open another one."""
        if len(self._channels) <= 1:
            return messages.reconnect()
        channel.is_told_to_leave = True
        return messages.close_channel(channel.number, "moved")

    def shut(self, channel: MiningChannel) -> None:
        """The switchboard has ended it; without any the connection has no purpose."""
        if self._channels.pop(channel.number, None) is None:
            return
        self._of.channels -= 1
        if self.open and not self._closed_by_machine:
            if not channel.is_told_to_leave and channel.session.state is State.MINING:
                self.write(messages.close_channel(channel.number, channel.session.closing or "ended"))
            if not self._channels:
                self.end("left")

    # What it is told

    def write(self, frames: bytes) -> None:
        if frames and not self._shakes:
            self._send_soon(self._noise.encrypt(frames))

    def _send_soon(self, data: bytes) -> None:
        waiting = self._sending_bytes + len(self._out)
        most = self._board.out_bytes_max + OUT_BYTES_PER_CHANNEL * len(self._channels)
        if waiting and waiting + len(data) > most:
            self._out.clear()
            self.end("does not read")
            return
        self._out += data
        self._wake.set()

    async def _send(self) -> None:
        while self.open or self._out:
            await self._wake.wait()
            self._wake = trio.Event()
            data, self._out = self._out, bytearray()
            self._sending_bytes = len(data)
            if data:
                try:
                    await self._stream.send_all(data)
                except trio.BrokenResourceError:
                    self.end("connection lost")
                    break
            self._sending_bytes = 0
        self._scope.cancel()
