"""Questions and answers between two processes of one pool, over a socket pair that one inherits of the other.

A frame is its length, in 4 bytes, and a message in msgpack. Both sides ask and answer; what may be asked is a
protocol of async methods whose arguments and answers msgspec can encode (`asking`, `Link.answer`). The socket
has no name and the processes are of one account, so who is at the other end needs no proof; what he says is
decoded in its types all the same.

Invariants: at most ASKED_MAX questions of a side wait for an answer; a question that is not answered in
ANSWER_S ends the link, and with it all others: who is asked does not live. Must not know: what is asked.
"""

import itertools
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Final, get_type_hints

import msgspec
import structlog
import trio

log = structlog.get_logger()

FRAME_BYTES_MAX: Final = 256 << 20  # all of a registry: 100,000 workers are 20 MiB
READ_BYTES: Final = 1 << 16
ASKED_MAX: Final = 1_000
WAITING_MAX: Final = 16  # frames that are made and not sent
ANSWER_S: Final = 60.0  # a turn of an event loop is milliseconds, and a database that is away says so
WORDS_CHARS_MAX: Final = 500  # of an error
_LENGTH: Final = struct.Struct(">I")


class LinkClosed(Exception):
    """The other process is gone, or does not answer."""


class AnsweredWithError(Exception):
    """Whoever was asked could not answer: its words."""


class _Ask(msgspec.Struct, frozen=True, array_like=True, tag=1):
    number: int
    method: str
    content: bytes


class _Answer(msgspec.Struct, frozen=True, array_like=True, tag=2):
    number: int
    content: bytes


class _Error(msgspec.Struct, frozen=True, array_like=True, tag=3):
    number: int
    kind: str
    words: str


class _Method(msgspec.Struct, frozen=True):
    call: Callable[..., Awaitable[Any]]
    arguments: Any
    answer: Any


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final[msgspec.msgpack.Decoder[_Ask | _Answer | _Error]] = msgspec.msgpack.Decoder(
    _Ask | _Answer | _Error
)


class Link:
    """One end. `errors` are exceptions that cross it as what they are; the others as AnsweredWithError."""

    def __init__(self, end: socket.socket, *, errors: tuple[type[Exception], ...] = ()) -> None:
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(end))
        self._errors = {it.__name__: it for it in errors}
        self._methods: dict[str, _Method] = {}
        self._numbers = itertools.count(1)
        self._asked: dict[int, tuple[trio.Event, list[_Answer | _Error]]] = {}
        self._room = trio.CapacityLimiter(ASKED_MAX)
        self._out, self._to_send = trio.open_memory_channel[bytes](WAITING_MAX)
        self.closed = trio.Event()

    def answer(self, protocol: type[Any], by: object) -> None:
        """Have the methods of a protocol answered from here on."""
        for name, (arguments, answer) in _methods(protocol).items():
            self._methods[name] = _Method(getattr(by, name), arguments, answer)

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
            raise self._errors.get(answer.kind, AnsweredWithError)(answer.words)
        return answer.content

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until the other end closes, or this one; then every question that waits fails."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                task_status.started()
                data = bytearray()
                while chunk := await self._read():
                    data += chunk
                    while (frame := _cut(data)) is not None:
                        self._take(_DECODER.decode(frame), nursery)
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await self.aclose()

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
        elif (asked := self._asked.get(message.number)) is not None:
            asked[1].append(message)
            asked[0].set()

    async def _reply(self, it: _Ask) -> None:
        answer: _Answer | _Error
        method = self._methods.get(it.method)
        try:
            if method is None:
                raise AnsweredWithError(f"nobody answers {it.method} here")
            arguments = msgspec.msgpack.decode(it.content, type=method.arguments)
            answered = await method.call(*arguments)
            answer = _Answer(it.number, _ENCODER.encode(answered))
        except Exception as error:
            if type(error).__name__ not in self._errors:
                log.error("link_question_failed", method=it.method, exc_info=True)
            answer = _Error(it.number, type(error).__name__, str(error)[:WORDS_CHARS_MAX])
        await self._send(answer)

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


def asking(link: Link, protocol: type[Any]) -> Any:
    """Who answers at the other end, as if he were here: of that protocol."""
    asked = type(f"Asked{protocol.__name__}", (), {})()
    for name, (arguments, answer) in _methods(protocol).items():
        setattr(asked, name, _asked(link, name, arguments, answer))
    return asked


def _asked(link: Link, name: str, arguments: Any, answer: Any) -> Callable[..., Awaitable[Any]]:
    async def ask(*given: object) -> Any:
        content = await link.ask(name, _ENCODER.encode(given))
        return msgspec.msgpack.decode(content, type=answer)

    return ask


def _methods(protocol: type[Any]) -> dict[str, tuple[Any, Any]]:
    """The types of arguments, as of a tuple, and of the answer."""
    found = {}
    for name, method in vars(protocol).items():
        if name.startswith("_") or not callable(method):
            continue
        hints = get_type_hints(method)
        answer = hints.pop("return")
        arguments: Any = tuple.__class_getitem__(tuple(hints.values()))
        found[name] = (arguments, answer)
    assert found, f"{protocol} asks nothing"
    return found


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
