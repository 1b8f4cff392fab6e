"""Questions and answers between two processes of one pool, over a socket pair that one inherits of the other.

A frame is its length, in 4 bytes, and a message in msgpack. Both sides ask and answer, in the types of
protocols (`pool.questions`). The socket has no name and the processes are of one account, so who is at the
other end needs no proof.

Invariants: at most ASKED_MAX questions of a side wait for an answer; a question that is not answered in
ANSWER_S ends the link, and with it all others: who is asked does not live. What is no frame ends it too:
where the next one begins nobody knows then. Must not know: what is asked.
"""

import itertools
import socket
import struct
from typing import Any, Final

import msgspec
import structlog
import trio

from pool.questions import WORDS_CHARS_MAX, Answering, Refusal
from stratum.unreadable import NOT_READ

log = structlog.get_logger()

FRAME_BYTES_MAX: Final = 256 << 20  # all of a registry: 100,000 workers are 20 MiB
READ_BYTES: Final = 1 << 16
ASKED_MAX: Final = 1_000
WAITING_MAX: Final = 16  # frames that are made and not sent
ANSWER_S: Final = 60.0  # a turn of an event loop is milliseconds, and a database that is away says so
_LENGTH: Final = struct.Struct(">I")


class LinkClosed(Exception):
    """The other process is gone, or does not answer."""


class _Ask(msgspec.Struct, frozen=True, array_like=True, tag=1):
    number: int
    method: str
    content: bytes


class _Answer(msgspec.Struct, frozen=True, array_like=True, tag=2):
    number: int
    content: bytes


class _Error(msgspec.Struct, frozen=True, array_like=True, tag=3):
    number: int
    refusal: Refusal


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final[msgspec.msgpack.Decoder[_Ask | _Answer | _Error]] = msgspec.msgpack.Decoder(
    _Ask | _Answer | _Error
)


class Link:
    """One end. `errors` are as pool.questions.Answering has them."""

    def __init__(self, end: socket.socket, *, errors: tuple[type[Exception], ...] = ()) -> None:
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(end))
        self._answering = Answering(errors)
        self._numbers = itertools.count(1)
        self._asked: dict[int, tuple[trio.Event, list[_Answer | _Error]]] = {}
        self._room = trio.CapacityLimiter(ASKED_MAX)
        self._out, self._to_send = trio.open_memory_channel[bytes](WAITING_MAX)
        self.closed = trio.Event()

    def answer(self, protocol: type[Any], by: object) -> None:
        """Have the methods of a protocol answered from here on."""
        self._answering.answer(protocol, by)

    async def ask(self, method: str, content: bytes) -> bytes:
        """Raises LinkClosed, AnsweredWithError, and `errors`."""
        async with self._room:
            if self.closed.is_set():
                raise LinkClosed(f"nobody is there to ask for {method}")
            number = next(self._numbers)
            done, said = self._asked[number] = trio.Event(), []
            try:
                with trio.move_on_after(ANSWER_S) as bound:
                    await self._send(_Ask(number, method, content))
                    await done.wait()
                if bound.cancelled_caught:
                    log.error("link_does_not_answer", method=method, after_s=ANSWER_S)
                    await self.aclose()
            finally:
                del self._asked[number]
        if not said:
            raise LinkClosed(f"there was no answer to {method}")
        (answer,) = said
        if isinstance(answer, _Error):
            raise self._answering.raised(answer.refusal)
        return answer.content

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until the other end closes or sends what is no frame, or this one closes; then every question that
        waits fails."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                task_status.started()
                await self._take_all(nursery)
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await self.aclose()

    async def _take_all(self, nursery: trio.Nursery) -> None:
        data = bytearray()
        while chunk := await self._read():
            data += chunk
            try:
                while (frame := _cut(data)) is not None:
                    self._take(_DECODER.decode(frame), nursery)
            except (ValueError, *NOT_READ) as error:
                log.error("link_not_read", reason=str(error)[:WORDS_CHARS_MAX])
                return
        if data and not self.closed.is_set():
            log.error("link_not_read", reason=f"it ended in a frame, behind {len(data)} bytes of it")

    async def aclose(self) -> None:
        """For good."""
        self.closed.set()
        for done, _ in self._asked.values():
            done.set()
        await trio.aclose_forcefully(self._stream)

    async def _read(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(READ_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    def _take(self, message: _Ask | _Answer | _Error, nursery: trio.Nursery) -> None:
        if isinstance(message, _Ask):
            nursery.start_soon(self._reply, message)
        elif (asked := self._asked.get(message.number)) is not None and not asked[1]:
            asked[1].append(message)
            asked[0].set()

    async def _reply(self, it: _Ask) -> None:
        said = await self._answering.reply(it.method, it.content)
        if isinstance(said, Refusal):
            await self._send(_Error(it.number, said))
        else:
            await self._send(_Answer(it.number, said))

    async def _send(self, message: _Ask | _Answer | _Error) -> None:
        body = _ENCODER.encode(message)
        if len(body) > FRAME_BYTES_MAX:
            raise ValueError(f"a message of {len(body)} bytes is too long for a link")
        await self._out.send(_LENGTH.pack(len(body)) + body)

    async def _write(self) -> None:
        """Whoever is cancelled while he waits here has not cut a frame in two."""
        try:
            async for frame in self._to_send:
                await self._stream.send_all(frame)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await self.aclose()


def _cut(data: bytearray) -> bytes | None:
    """The first whole frame. Raises ValueError for one that is too long."""
    if len(data) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack_from(data)
    if length > FRAME_BYTES_MAX:
        raise ValueError(f"a frame of {length} bytes")
    end = _LENGTH.size + length
    if len(data) < end:
        return None
    frame = bytes(data[_LENGTH.size : end])
    del data[:end]
    return frame
