"""Bytes to one machine and back, within bounds: what is at its address may be anything.

An answer has ANSWER_BYTES_MAX and JSON in it a bounded depth, each step has its time, nothing is followed
elsewhere, nothing is decompressed, and no password is shown to who asks for it in clear (HTTP Basic). One
connection a question, as cgminer's API has it. Must not know: what is asked.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import h11
import httpx
import msgspec
import trio

from stratum.json_depth import too_deep
from stratum.unreadable import NOT_READ

CONNECT_S: Final = 5.0  # on the machines' own network; one without power never answers
ANSWER_S: Final = 35.0  # Antminers of 2022 take 21 s to write their settings (asic-rs#249)
ANSWER_BYTES_MAX: Final = 256 << 10  # `stats` of a machine with four boards of 126 chips: 40 KiB
HEAD_BYTES_MAX: Final = 16 << 10
RECEIVE_BYTES: Final = 16 << 10
LENGTH_BYTES: Final = 4

Connect = Callable[[str, int], Awaitable[trio.abc.Stream]]


class Unreached(Exception):
    """There is no connection, so nothing was sent."""


class Unanswered(Exception):
    """Nothing that can be read came back in time."""


class Refused(Exception):
    """The machine understood, and said no: its words."""


class HttpAnswer(msgspec.Struct, frozen=True):
    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Wire:
    """To one machine. `connect` reaches it in another way than by TCP. Raises Unreached and Unanswered."""

    def __init__(self, address: str, port: int, connect: Connect = trio.open_tcp_stream) -> None:
        self._address, self._port, self._connect = address, port, connect

    async def command(self, request: dict[str, Any]) -> dict[str, Any]:
        """One of cgminer's API: JSON there and back, which ends with a NUL, or with the connection."""
        received = bytearray()

        async def spoken(stream: trio.abc.Stream) -> None:
            await stream.send_all(msgspec.json.encode(request))
            while not received.endswith((b"\0", b"}\n")):
                received.extend(data := await stream.receive_some(RECEIVE_BYTES))
                if not data:
                    return
                if len(received) > ANSWER_BYTES_MAX:
                    raise Unanswered(f"an answer of more than {ANSWER_BYTES_MAX} bytes")

        await self._spoken(spoken)
        return json_of(bytes(received.split(b"\0", 1)[0]))

    async def packet(self, request: dict[str, Any]) -> dict[str, Any]:
        """One of Whatsminers' API v3: a length of four bytes, and JSON, there and back."""
        received = bytearray()

        async def spoken(stream: trio.abc.Stream) -> None:
            asked = msgspec.json.encode(request)
            await stream.send_all(len(asked).to_bytes(LENGTH_BYTES, "little") + asked)
            while len(received) < LENGTH_BYTES or len(received) < LENGTH_BYTES + _length(received):
                data = await stream.receive_some(RECEIVE_BYTES)
                if not data:
                    raise Unanswered("an answer that is cut off")
                received.extend(data)

        await self._spoken(spoken)
        return json_of(bytes(received[LENGTH_BYTES : LENGTH_BYTES + _length(received)]))

    async def request(
        self, method: str, path: str, body: Any = None, headers: tuple[tuple[str, str], ...] = ()
    ) -> HttpAnswer:
        """One of HTTP."""
        content = b"" if body is None else msgspec.json.encode(body)
        host = f"[{self._address}]" if ":" in self._address else self._address
        head = [("Host", host), ("Connection", "close"), ("Accept", "application/json"), *headers]
        if body is not None:
            head += [("Content-Type", "application/json"), ("Content-Length", str(len(content)))]
        found: list[HttpAnswer] = []

        async def spoken(stream: trio.abc.Stream) -> None:
            http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES_MAX)
            await stream.send_all(http.send(h11.Request(method=method, target=path, headers=head)) or b"")
            await stream.send_all(
                (http.send(h11.Data(data=content)) or b"") + (http.send(h11.EndOfMessage()) or b"")
            )
            found.append(await _answer(http, stream))

        await self._spoken(spoken)
        return found[0]

    async def request_with_digest(
        self, method: str, path: str, body: Any, auth: httpx.DigestAuth
    ) -> HttpAnswer:
        """The same, where the machine asks for a proof of the password (RFC 7616); `auth` keeps what it asked
        for, and the next one is proven at once. Raises Refused where it asks for anything but a proof."""
        asked = httpx.Request(method, f"http://machine{path}")
        flow = auth.auth_flow(asked)
        answer = await self.request(method, path, body, _proof(next(flow)))
        if answer.status != 401:
            return answer
        try:
            proven = _proof(flow.send(httpx.Response(401, headers=answer.headers, request=asked)))
        except (httpx.ProtocolError, NotImplementedError, LookupError, ValueError, StopIteration):
            raise Refused("it asks for a password, and not for a proof of it") from None
        return await self.request(method, path, body, proven)

    async def _spoken(self, speak: Callable[[trio.abc.Stream], Awaitable[None]]) -> None:
        try:
            with trio.fail_after(CONNECT_S):
                stream = await self._connect(self._address, self._port)
        except (OSError, trio.TooSlowError) as error:
            raise Unreached(f"does not listen at port {self._port}: {_words(error)}") from None
        try:
            with trio.fail_after(ANSWER_S):
                await speak(stream)
        except (OSError, trio.BrokenResourceError, trio.TooSlowError, h11.ProtocolError) as error:
            raise Unanswered(_words(error)) from None
        finally:
            await trio.aclose_forcefully(stream)


def _length(received: bytearray) -> int:
    """That a packet says it has. Raises Unanswered."""
    length = int.from_bytes(received[:LENGTH_BYTES], "little")
    if length > ANSWER_BYTES_MAX:
        raise Unanswered(f"an answer of more than {ANSWER_BYTES_MAX} bytes")
    return length


def json_of(text: bytes) -> dict[str, Any]:
    """Raises Unanswered for what is none, and for what is no object."""
    if too_deep(text):
        raise Unanswered("an answer that is nested too deep")
    try:
        found = msgspec.json.decode(text)
    except NOT_READ:
        raise Unanswered("an answer that is no JSON") from None
    if not isinstance(found, dict):
        raise Unanswered("an answer that says nothing")
    return found


async def _answer(http: h11.Connection, stream: trio.abc.Stream) -> HttpAnswer:
    status, headers, body = 0, [], bytearray()
    taken = 0
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            data = await stream.receive_some(RECEIVE_BYTES)
            taken += len(data)
            if taken > ANSWER_BYTES_MAX:
                raise Unanswered(f"an answer of more than {ANSWER_BYTES_MAX} bytes")
            http.receive_data(bytes(data))
        elif isinstance(event, h11.Response):
            status = event.status_code
            headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers]
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.InformationalResponse):
            continue
        else:
            break
    if status == 0:
        raise Unanswered("an answer that is cut off")
    return HttpAnswer(status, headers, bytes(body))


def _proof(request: httpx.Request) -> tuple[tuple[str, str], ...]:
    said = request.headers.get("Authorization")
    return () if said is None else (("Authorization", said),)


def _words(error: BaseException) -> str:
    if isinstance(error, trio.TooSlowError):
        return "no answer in time"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__)[:100]
