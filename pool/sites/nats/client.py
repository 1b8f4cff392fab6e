"""One connection to NATS servers at a time, in a thread of its own with a loop of asyncio: for ever.

nats-py connects and speaks; when to try again is decided here, and each connection is a client of its own, so
that nothing of one that broke is left in the next. A server is believed to be one of ours by its certificate,
before a byte of the protocol (`handshake_first`): nobody on the way can talk us out of TLS.

Invariants: nothing that a server says or does ends the thread but `close`; all that it says is bounded before
it is kept; of where somebody who is captured may speak (`bounded`) it passes on no more than can be read.
Must not know: Trio, and what is said.
"""

import asyncio
import collections
import contextlib
import logging
import random
import ssl
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlparse

import msgspec
import nats.aio.client
import nats.errors
import structlog
from nats.protocol.parser import AWAITING_CONTROL_LINE, CRLF_SIZE, Parser

from pool.settings_file import BadConfig
from pool.sites.nats.key import seed_in

log = structlog.get_logger()

CONNECT_S: Final = 10.0  # to one server: a line over two satellites needs two
AGAIN_S: Final = (0.0, 0.25, 0.5, 1.0, 2.0, 5.0)  # between two attempts, ever longer; jitter beside it
WELL_S: Final = 10.0  # a connection that lived so long has the next attempt at once
PING_S: Final = 10.0  # a line that is cut says nothing: it is asked
PONG_S: Final = 30.0  # behind a block of 4 MB on a line of a megabit
DROP_S: Final = 1.0  # to close a connection in order
ABORT_TURNS: Final = 20  # of the loop: an attempt to connect that is cancelled has closed its socket in five
BUFFER_BYTES_MAX: Final = 16 << 20  # twice the largest message of our servers' settings
UNSENT_BYTES_MAX: Final = 2 << 20  # then whoever publishes waits
# Of a bounded subject so many messages, and so many more at the earliest so long after: the registry of a
# site is read by a hundred questions. Whoever publishes without end, and is heard, has the thread that reads
# it for himself, and the server drops who is behind.
PASSED_ON_MAX: Final = 1_000
PASSED_ON_BYTES: Final = 16 << 20  # a server knows no such bound: what it has sent by then comes as well
PASSED_ON_S: Final = 2.5
BESIDE_S: Final = 1.0  # that both subscriptions are there: what is being delivered to the one goes with it
WORDS_CHARS_MAX: Final = 300
URLS_MAX: Final = 16
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class NatsAway(Exception):
    """No server is connected now, or it does not take what it is given: in words."""


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """Where the servers are, and what we show them."""

    urls: tuple[str, ...]  # tls://host:port; nats:// on this host alone
    name: str  # whose connection it is, as the servers' lists have it
    seed: Path
    authorities: Path | None = None  # whose servers' certificates are good, as PEM


class Message(msgspec.Struct, frozen=True):
    subject: str
    data: bytes
    reply: str = ""
    status: str = ""  # what the server says itself: "503" for nobody listens there


class ConnectionState(msgspec.Struct, frozen=True, kw_only=True):
    """For the page and metrics; `since_s` by the wall clock."""

    connected: bool = False
    since_s: int = 0
    url: str = ""
    connections: int = 0  # since it began
    payload_bytes_max: int = 0  # of a message, as the server has it
    dropped: int = 0  # messages that came faster than they were read
    error: str = ""  # the last one


class Inflow:
    """Messages of one subject that wait to be read: bounded, and what is too much is dropped and counted."""

    def __init__(
        self,
        subject: str,
        messages_max: int,
        bytes_max: int,
        arrived: Callable[[], None],
        *,
        bounded: bool = False,
    ) -> None:
        self.subject, self.bounded = subject, bounded
        self.dropped = 0
        self._messages_max, self._bytes_max = messages_max, bytes_max
        self._arrived = arrived
        self._waiting: collections.deque[Message] = collections.deque()
        self._bytes = 0
        self._turn = threading.Lock()

    def put(self, message: Message) -> bool:
        size = len(message.data)
        with self._turn:
            if len(self._waiting) >= self._messages_max or self._bytes + size > self._bytes_max:
                self.dropped += 1
                return False
            self._waiting.append(message)
            self._bytes += size
        self._arrived()
        return True

    def take(self) -> Message | None:
        with self._turn:
            if not self._waiting:
                return None
            message = self._waiting.popleft()
            self._bytes -= len(message.data)
            return message


class _Parser(Parser):
    """A server may say how long a message is, and go on for ever. And whoever publishes chooses a subject, of
    bytes at which nats-py cuts a line in two and a server does not."""

    def reset(self) -> None:
        super().reset()
        self._unread = bytearray()

    async def parse(self, data: bytes = b"") -> None:
        if len(self.buf) + len(self._unread) + len(data) > BUFFER_BYTES_MAX:
            raise nats.errors.ProtocolError
        self._unread += data
        while piece := self._piece():
            await super().parse(piece)

    def _piece(self) -> bytes:
        """The line that is next, or what there is of the message behind it."""
        line = self.state == AWAITING_CONTROL_LINE
        size = self._unread.find(b"\r\n") + 2 if line else self.needed + CRLF_SIZE - len(self.buf)
        if line and size < 2:
            return b""
        piece = bytes(self._unread[:size])
        del self._unread[:size]
        return piece.translate(_NO_SPACES) if line else piece


_NO_SPACES: Final = bytes.maketrans(b"\v\f", b"??")


class _Speaker(nats.aio.client.Client):
    """nats-py's, for one connection to a server that we chose: other servers' addresses, of which a
    server may tell any number, are nothing to it. Nor is what others publish, who may be captured: what it
    raised would have the connection be read no more."""

    def __init__(self) -> None:
        super().__init__()
        self._ps = _Parser(self)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        await super()._process_info(
            {name: it for name, it in info.items() if name != "connect_urls"}, initial_connection
        )

    async def _process_headers(self, headers: bytes | None) -> dict[str, str] | None:
        """None where they are none. What is in the stream comes again until it is acknowledged, so its
        message is one all the same."""
        try:
            found: dict[str, str] | None = await super()._process_headers(headers)
        except Exception:  # whatever its reader stumbles over
            return None
        return found

    async def _process_msg(self, sid: int, subject: bytes, *others: Any) -> None:
        try:
            await super()._process_msg(sid, subject, *others)
        except UnicodeDecodeError:
            log.warning("nats_message_not_read", subject=repr(subject)[:WORDS_CHARS_MAX])

    async def hear(
        self, subject: str, said: Callable[[Any], Coroutine[Any, Any, None]], messages_max: int
    ) -> Any:
        """A subscription, of which the server passes on so many messages; 0: all. nats-py is not told of
        it: it would drop what of them is not read yet."""
        subscribed = await self.subscribe(subject, cb=said)
        if messages_max:
            await self._send_unsubscribe(subscribed._id, limit=messages_max)
        return subscribed

    async def flushed(self) -> None:
        """Until the server has read all that was given to it: a ping alone would overtake what waits."""
        await self._flush_pending(force_flush=True)
        await self.flush(int(PONG_S))
        if self._reading_task is None or self._reading_task.done():  # then nobody waited for the answer
            raise NatsAway("what the server said is nothing that one of NATS says")

    def abort(self) -> None:
        """Whatever waits for the other end does not any more."""
        writers = (getattr(self._transport, name, None) for name in ("_io_writer", "_bare_io_writer"))
        for writer in writers:
            if writer is not None:
                with contextlib.suppress(Exception):  # of whatever state it is in: the next one is closed too
                    writer.transport.abort()


class Client:
    """`changed` is called in the thread whenever `state` has another connection or error."""

    def __init__(self, access: Access, changed: Callable[[], None]) -> None:
        self._urls = _checked(access)
        self._access = access
        self._seed = seed_in(access.seed)
        self._tls = None if access.authorities is None else _tls(access.authorities)
        self._changed = changed
        self.state = ConnectionState()
        self.loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._speaker: _Speaker | None = None
        self._open: set[_Speaker] = set()  # that may have a socket
        self._inflows: dict[Inflow, Any] = {}  # and nats-py's subscription of this connection
        self._work: set[asyncio.Task[None]] = set()

    def run(self) -> None:
        """Until it is closed: a thread's work."""
        logging.getLogger("nats").setLevel(logging.CRITICAL + 1)  # it would tell a traceback for each cut
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(self._serve())
        finally:
            self.loop.run_until_complete(self._abort())
            asyncio.set_event_loop(None)
            self.loop.close()  # does not wait for a name server that does not answer

    # From other threads

    def start(
        self, work: Callable[[], Coroutine[Any, Any, None]], over: Callable[[NatsAway | None], None]
    ) -> Callable[[], None]:
        """Have something done with the connection of now, and be told in the loop when it is over; what is
        given back gives it up. Raises RuntimeError when it is closed."""
        tasks: list[asyncio.Task[None]] = []

        def ended(task: asyncio.Task[None]) -> None:
            self._work.discard(task)
            if task.cancelled():
                over(NatsAway(self.state.error or "the connection was lost"))
            elif (error := task.exception()) is not None:
                over(error if isinstance(error, NatsAway) else NatsAway(_words(error)))
            else:
                over(None)

        def begin() -> None:
            task = self.loop.create_task(work())
            tasks.append(task)
            self._work.add(task)
            task.add_done_callback(ended)

        def give_up() -> None:
            with contextlib.suppress(RuntimeError):  # it is closed
                self.loop.call_soon_threadsafe(lambda: tasks[0].cancel())

        self.loop.call_soon_threadsafe(begin)
        return give_up

    def listen(self, inflow: Inflow) -> None:
        """From here on, over every connection."""

        def begin() -> None:
            self._inflows[inflow] = None
            if (speaker := self._speaker) is not None:
                self._keep(self._subscribe(speaker, inflow))

        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(begin)

    def listen_no_more(self, inflow: Inflow) -> None:
        def end() -> None:
            subscribed = self._inflows.pop(inflow, None)
            if subscribed is not None and self._speaker is not None:
                self._keep(_ended(subscribed))

        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(end)

    def close(self) -> None:
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._closing.set)

    # In the loop

    async def publish(self, subject: str, data: bytes, reply: str) -> None:
        """Raises NatsAway."""
        if self._speaker is None:
            raise NatsAway(self.state.error or "no NATS server is connected yet")
        if len(data) > self.state.payload_bytes_max:
            raise NatsAway(
                f"{len(data)} bytes for {subject}: a message has {self.state.payload_bytes_max} at most"
            )
        try:
            await self._speaker.publish(subject, data, reply)
        except Exception as error:
            raise NatsAway(f"cannot publish to {subject}: {_words(error)}") from None

    async def flush(self) -> None:
        """Until the server has read all that was published. Raises NatsAway."""
        try:
            if self._speaker is None:
                raise NatsAway(self.state.error or "no NATS server is connected yet")
            await asyncio.wait_for(self._speaker.flushed(), PONG_S)
        except Exception as error:
            raise NatsAway(f"the server does not answer: {_words(error)}") from None

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        """A task, until it is over or the connection is."""
        task = self.loop.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _serve(self) -> None:
        failures, turn = 0, random.randrange(len(self._urls))  # noqa: S311 - which server is first
        while not self._closing.is_set():
            began_s = time.monotonic()
            await self._unless_closing(self._live(self._urls[turn % len(self._urls)]))
            turn += 1
            failures = 0 if time.monotonic() - began_s >= WELL_S + CONNECT_S else failures + 1
            pause_s = AGAIN_S[min(failures // len(self._urls), len(AGAIN_S) - 1)]
            await self._unless_closing(asyncio.sleep(pause_s * random.uniform(0.5, 1.5)))  # noqa: S311
        for task in (left := asyncio.all_tasks() - {asyncio.current_task()}):
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=DROP_S)

    async def _abort(self) -> None:
        """Where there was no time to close in order, as on a machine that is busy: no socket stays open."""
        for speaker in self._open:
            speaker.abort()
        for _ in range(ABORT_TURNS):
            await asyncio.sleep(0)

    async def _unless_closing(self, work: Coroutine[Any, Any, None]) -> None:
        doing, closing = self.loop.create_task(work), self.loop.create_task(self._closing.wait())
        await asyncio.wait({doing, closing}, return_when=asyncio.FIRST_COMPLETED)
        for task in (doing, closing):
            task.cancel()
        await asyncio.wait({doing, closing}, timeout=2 * DROP_S)

    async def _live(self, url: str) -> None:
        """From an attempt to connect to the end of the connection."""
        lost = asyncio.Event()
        speaker = _Speaker()
        self._open.add(speaker)
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._connect(speaker, url, lost)
            await self._until_lost(speaker, url, lost)
        except nats.errors.NoServersError:
            pass  # why not the only one that it was given, has been told
        except Exception as error:
            self._tell(error, url)
        finally:
            self._speaker = None
            for task in list(self._work):  # what waits for this one would wait for ever
                task.cancel()
            self._inflows = dict.fromkeys(self._inflows)
            if self.state.connected:
                self._change(connected=False, since_s=int(time.time()))
                if not self._closing.is_set():
                    log.warning("nats_disconnected", url=url, reason=self.state.error)
            await self._drop(speaker)

    async def _connect(self, speaker: _Speaker, url: str, lost: asyncio.Event) -> None:
        async def failed(error: Exception) -> None:
            self._tell(error, url)
            if "permissions violation" not in str(error) and not isinstance(
                error, nats.errors.SlowConsumerError
            ):
                lost.set()

        async def closed() -> None:
            lost.set()

        await speaker.connect(
            [url],
            name=self._access.name,
            error_cb=failed,
            closed_cb=closed,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=int(CONNECT_S),
            ping_interval=1 << 20,  # we ask ourselves: it waits for ever for a server that does not read
            tls=self._tls,
            tls_handshake_first=self._tls is not None,
            nkeys_seed_str=self._seed,
            pending_size=UNSENT_BYTES_MAX,
        )
        lost.clear()  # of the attempts before the one that came through
        if not speaker.is_connected:
            raise NatsAway("the server does not answer as one of NATS does")
        for inflow in list(self._inflows):
            await self._subscribe(speaker, inflow)
        await speaker.flushed()

    async def _until_lost(self, speaker: _Speaker, url: str, lost: asyncio.Event) -> None:
        self._speaker = speaker
        for inflow, subscribed in list(self._inflows.items()):
            if subscribed is None:  # listened to since
                await self._subscribe(speaker, inflow)
        self._change(
            connected=True,
            since_s=int(time.time()),
            url=url,
            connections=self.state.connections + 1,
            payload_bytes_max=min(speaker.max_payload, BUFFER_BYTES_MAX // 2),
        )
        log.info("nats_connected", url=url)
        while not lost.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(lost.wait(), PING_S)
            if not lost.is_set():
                await asyncio.wait_for(speaker.flushed(), PONG_S)

    async def _subscribe(self, speaker: _Speaker, inflow: Inflow) -> None:
        messages_max, count, size, asked = PASSED_ON_MAX if inflow.bounded else 0, 0, 0, False
        next_s = time.monotonic() + PASSED_ON_S

        async def arrived(it: Any) -> None:
            nonlocal count, size, asked
            before, count, size = size, count + 1, size + len(it.data)
            if inflow.bounded and not asked and (count * 2 >= messages_max or size * 2 >= PASSED_ON_BYTES):
                asked = True  # in time: whoever says less than he may never finds nobody listening
                self._keep(self._subscribe_anew(speaker, inflow, next_s))
            if inflow.bounded and before < PASSED_ON_BYTES <= size:
                self._keep(speaker._send_unsubscribe(subscribed._id))
            status = (it.headers or {}).get("Status", "")
            self._arrived(inflow, Message(it.subject, it.data, it.reply, status))

        try:
            subscribed = await speaker.hear(inflow.subject, arrived, messages_max)
        except Exception as error:
            self._tell(error, inflow.subject)
            return
        if inflow in self._inflows:
            self._inflows[inflow] = subscribed
        else:  # nobody listens any more
            await _ended(subscribed)

    async def _subscribe_anew(self, speaker: _Speaker, inflow: Inflow, at_s: float) -> None:
        await asyncio.sleep(max(0.0, at_s - time.monotonic()))
        if (before := self._inflows.get(inflow)) is not None:
            await self._subscribe(speaker, inflow)
            await asyncio.sleep(BESIDE_S)
            with contextlib.suppress(Exception):
                await before.drain()

    def _arrived(self, inflow: Inflow, message: Message) -> None:
        if not inflow.put(message):
            self.state = msgspec.structs.replace(self.state, dropped=self.state.dropped + 1)
            log.warning("nats_message_dropped", subject=inflow.subject, dropped=inflow.dropped)

    async def _drop(self, speaker: _Speaker) -> None:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(speaker.close(), DROP_S)
        speaker.abort()
        self._open.discard(speaker)
        await asyncio.sleep(0)

    def _tell(self, error: BaseException, about: str) -> None:
        words = _words(error)
        log.warning("nats_failed", about=about, reason=words)
        self._change(error=words)

    def _change(self, **news: Any) -> None:
        self.state = msgspec.structs.replace(self.state, **news)
        self._changed()


async def _ended(subscribed: Any) -> None:
    with contextlib.suppress(Exception):
        await subscribed.unsubscribe()


def _words(error: BaseException) -> str:
    said = str(getattr(error, "strerror", None) or error) or type(error).__name__
    if "authorization violation" in said.lower():
        return "the server does not know this key: is its public half in the server's settings?"
    return said[:WORDS_CHARS_MAX]


def _checked(access: Access) -> list[str]:
    """Raises BadConfig."""
    if not access.urls or len(access.urls) > URLS_MAX:
        raise BadConfig(f"NATS: give one to {URLS_MAX} addresses of servers")
    for url in access.urls:
        scheme, host = _parts(url)
        if scheme == "nats" and host not in LOOPBACK:
            raise BadConfig(f"NATS: {url} would be without TLS, which is for this host alone: use tls://")
        if scheme == "tls" and access.authorities is None:
            raise BadConfig(f"NATS: say which authorities the certificate of {url} is good by")
    if len({_parts(url)[0] for url in access.urls}) > 1:
        raise BadConfig("NATS: all servers are reached by tls://, or all by nats://")
    return list(access.urls)


def _parts(url: str) -> tuple[str, str]:
    """Scheme and host. Raises BadConfig."""
    try:
        found = urlparse(url)
        whole = url == f"{found.scheme}://{found.netloc}" and "@" not in url
        if whole and found.scheme in ("tls", "nats") and found.hostname and found.port:
            return found.scheme, found.hostname
    except ValueError:
        pass
    raise BadConfig(f"NATS: {url!r} is no tls://host:port")


def _tls(authorities: Path) -> ssl.SSLContext:
    """Raises BadConfig."""
    try:
        context = ssl.create_default_context(cafile=str(authorities))
    except (OSError, ssl.SSLError) as error:
        raise BadConfig(f"NATS: cannot read certificates of authorities in {authorities}: {error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
