"""An edge's journal, published to JetStream: behind what the hub says that it has.

JetStream acknowledges what it loses later, so nothing here goes by that, and the stream acknowledges nothing:
an acknowledgement goes wherever a message wants it, with the rights of the server, and a captured edge could
have one put among another's messages. What the server has read (it answers a ping) makes room for the next
message; what the hub has, it says itself. After each cut, and where the hub found something missing, this
begins again behind that. What comes twice by it is once at the hub. And where nothing comes to it by the
stream, as from servers whose disk was full once, which store nothing any more until somebody starts them
anew, and say so to nobody, the hub is given the journal itself as well for a while. What it has no place
for the servers have, where they can.

Messages have no name that JetStream would tell doubles by (`Nats-Msg-Id`): what it lost of those that it
knows, or gave up delivering, it would take for a double when it is sent again; and another edge could use
up a name. The numbers of the records tell doubles, at the hub.

Invariants: it reads the journal's files and keeps nothing, so miners are served as without it; one message is
on its way, and at most RATE_BYTES_S are published. Must not know: what records say.
"""

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol

import msgspec
import structlog
import trio

from pool.sites.journal_reader import FramesGone, JournalReader
from pool.sites.nats import subjects
from pool.sites.nats.client import NatsAway
from pool.sites.nats.connection import Connection
from pool.sites.nats.contents import CHUNK_BYTES

log = structlog.get_logger()

MESSAGE_BYTES: Final = (
    512 << 10
)  # what one has where there is more to send; a record that is longer goes alone
RECORD_BYTES_MAX: Final = 7 << 20  # what a message can have: a longer one is said to the hub in pieces
RATE_BYTES_S: Final = 4 << 20  # an hour's journal of a large site, 260 MB, in a minute
POLL_S: Final = 1.0  # the books take journals once a minute
AGAIN_S: Final = 5.0  # after what did not work
DIRECTLY_S: Final = 60.0  # then a server may have been mended
DIRECT_BYTES: Final = CHUNK_BYTES // 2  # in a question as it is, for which nobody waits for a turn to be read
TOLD_AGAIN_S: Final = 600.0  # behind the last time that it was not published


NOT_DELIVERED: Final = (
    "what is published does not come to the hub, or it has no place for it: see that its disk has room, and"
    " those of the NATS servers, and start servers anew that had none"
)


class Wanted(Protocol):
    """What is to be sent: pool.journal.inbox.Want."""

    @property
    def behind(self) -> int: ...

    @property
    def whole_file(self) -> bool: ...


class Published(msgspec.Struct, frozen=True, array_like=True):
    """What a message has: frames, and the epoch that the edge was let begin with."""

    epoch: int
    frames: bytes


class PublisherState(msgspec.Struct, frozen=True, kw_only=True):
    """For the page and metrics."""

    number: int = 0  # the last record that a server has read
    error: str = ""  # why it is not publishing now


_ENCODER: Final = msgspec.msgpack.Encoder()


class Publisher:
    """Of one edge. `epoch` is the edge's; `wanted` asks the hub where to begin, `send` gives it what no
    message of the stream has, and both raise what `away` are where it does not answer."""

    def __init__(
        self,
        connection: Connection,
        edge: str,
        reader: JournalReader,
        *,
        epoch: Callable[[], int],
        wanted: Callable[[], Awaitable[Wanted]],
        send: Callable[[bytes], Awaitable[None]],
        away: tuple[type[Exception], ...],
    ) -> None:
        self._connection, self._reader = connection, reader
        self._subject = subjects.journal_of(edge)
        self._epoch, self._wanted, self._send = epoch, wanted, send
        self._failures: tuple[type[Exception], ...] = (NatsAway, FramesGone, OSError, *away)
        self._again: trio.CancelScope | None = None
        self._next: Wanted | None = None
        self._under_way: tuple[int, int, bool] | None = None  # in that epoch, as it was wanted
        self._directly_until_s = -math.inf
        self.state = PublisherState()

    def send_again(self, wanted: Wanted, *, directly: bool = False) -> None:
        """The hub found something missing: begin there, now, where just that is not under way. `directly`: it
        was sent again, and has not come."""
        if directly:
            now_s = trio.current_time()
            if now_s - self._directly_until_s > TOLD_AGAIN_S:
                log.error("journal_not_delivered", reason=NOT_DELIVERED)
            self._directly_until_s = now_s + DIRECTLY_S
        if self._under_way == (self._epoch(), wanted.behind, wanted.whole_file):
            return  # a thin line, or a long record
        self._next = wanted
        if self._again is not None:
            self._again.cancel()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            number = await self._connection.connected()
            try:
                with trio.CancelScope() as self._again:
                    wanted, self._next = self._next, None
                    await self._publish_behind(await self._wanted() if wanted is None else wanted, number)
            except self._failures as error:
                self._tell(str(error))
                await trio.sleep(AGAIN_S)
            finally:
                self._again = self._under_way = None

    async def _publish_behind(self, wanted: Wanted, connection: int) -> None:
        """From there on, as long as the connection is that one."""
        behind, whole_file = wanted.behind, wanted.whole_file
        while self._connection.state.connections == connection:
            directly = trio.current_time() < self._directly_until_s
            size = DIRECT_BYTES if directly else MESSAGE_BYTES
            read = partial(self._reader.read, behind, size, whole_file=whole_file)
            frames = await trio.to_thread.run_sync(read)
            if frames is None:
                await trio.sleep(POLL_S)
                continue
            self._under_way = self._epoch(), behind, whole_file
            long = len(frames.data) > RECORD_BYTES_MAX
            if long:
                log.info("journal_record_long", number=frames.first, bytes=len(frames.data))
            else:
                data = _ENCODER.encode(Published(self._epoch(), frames.data))
                await self._connection.publish(self._subject, data)
                await self._connection.flushed()
            if long or directly:
                await self._send(frames.data)
            self._under_way = None
            await trio.sleep(len(frames.data) / RATE_BYTES_S)
            behind, whole_file = frames.last.number, False
            self.state = PublisherState(number=behind)

    def _tell(self, words: str) -> None:
        if words != self.state.error:
            log.warning("journal_not_published", reason=words)
        self.state = PublisherState(error=words)
