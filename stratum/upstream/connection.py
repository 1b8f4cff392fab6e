"""One connection to one upstream, from the first packet to its end: a session with bytes and time.

Dead is: closed, or nothing heard for some seconds with shares unanswered (a path that swallows packets), or
no share answered for a minute, or no job for two minutes and no answer to a ping. A pool that rejects
everything for a minute is of no more use than a dead one.

Invariants: `run` ends for every fault of the upstream without an error, with `failure` set, once; what it
heard until then has been handed on.
Must not know: other endpoints, what comes after.
"""

import math
import ssl
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Final

import msgspec
import structlog
import trio

from stratum.upstream.endpoint import UpstreamEndpoint, plain_host, same_domain
from stratum.upstream.events import (
    JobReceived,
    MessageShown,
    OddMessage,
    ReconnectAsked,
    Up,
    UpstreamEvent,
)
from stratum.upstream.messages import BrokenUpstream, Reconnect, RefusedByUpstream
from stratum.upstream.session import State, UpstreamSession
from stratum.upstream.shares import NotSent, SubmitAnswer, SubmitVerdict, UpstreamShare

log = structlog.get_logger()

RECV_BYTES: Final = 65_536
WATCH_INTERVAL_S: Final = 0.25
# Of client.show_message, of redirections that are refused, of odd messages, a connection: more is noise, or
# abuse.
MESSAGES_LOGGED_MAX: Final = 20
# What a pool says unasked: a job every few seconds, a difficulty, at a start some of each. Whoever speaks
# without end takes the time of everybody else in this process.
NOTICES_MAX: Final = 200  # at once
NOTICES_PER_S: Final = 20.0

Connect = Callable[[str, int], Awaitable[trio.abc.Stream]]


class Fault(Enum):
    """Why a connection is over."""

    UNREACHABLE = "unreachable"  # no connection, no TLS, or no first job in time
    REFUSED = "refused"  # it does not want us
    BROKEN = "broken"  # it says what nobody understands
    CLOSED = "closed"  # by the other side, as pools do when they restart
    SILENT = "silent"  # the path, or the pool behind it, is dead
    REJECTS = "rejects"  # it takes shares and counts none
    RECONNECT = "reconnect"  # it asked us to come back
    ENDED = "ended"  # by us


class Failure(msgspec.Struct, frozen=True):
    """The end of a connection, in words for an operator."""

    fault: Fault
    reason: str
    reconnect: Reconnect | None = None


class LinkLimits(msgspec.Struct, frozen=True, kw_only=True):
    """After how long what is held against an upstream."""

    connect_s: float = 5.0  # TLS included
    handshake_s: float = 10.0  # from the first packet to the first job
    # Pools answer in a fraction of a second, and lost packets are sent again within three. With the next
    # upstream up a second later, a dead path costs 5 s.
    silence_s: float = 4.0
    answer_s: float = 60.0  # a pool that is busy, but alive, gets this long for each answer
    quiet_s: float = 120.0
    ping_answer_s: float = 10.0
    # Together: a new block makes the shares of a whole site stale, but not for a minute.
    rejects_s: float = 60.0
    rejects_min: int = 50


class UpstreamLink:
    """`on_event` is for everything but its life: `on_up` comes once, with the first job, `on_end` at the end.

    `decided`: up, or lost before it was.
    """

    def __init__(
        self,
        *,
        name: str,
        endpoint: UpstreamEndpoint,
        address: tuple[str, int],
        session: UpstreamSession,
        tls: ssl.SSLContext | None,
        limits: LinkLimits,
        connect: Connect,
        on_event: Callable[["UpstreamLink", UpstreamEvent], None],
        on_up: Callable[["UpstreamLink"], None],
        on_end: Callable[["UpstreamLink"], None],
    ) -> None:
        self.endpoint = endpoint
        self.address = address
        self.session = session
        self.failure: Failure | None = None
        self.up_at_s = math.inf
        self.decided = trio.Event()
        self.lost = trio.Event()
        self._log = log.bind(upstream=name, endpoint=endpoint.address)
        self._tls = tls
        self._limits = limits
        self._connect = connect
        self._on_event = on_event
        self._on_up = on_up
        self._on_end = on_end
        self._scope = trio.CancelScope()
        self._wake = trio.Event()
        self._opened_at_s = self._heard_at_s = self._alive_at_s = math.inf
        self._answered_at_s = -math.inf
        self._pinged_at_s: float | None = None
        self._rejects = 0
        self._rejects_since_s = math.inf
        self._messages = 0
        self._notices_left = float(NOTICES_MAX)
        self._notices_counted = 0
        self._noticed_at_s = -math.inf

    @property
    def up(self) -> bool:
        """Whether it mines."""
        return self.failure is None and self.session.state is State.MINING

    async def run(self) -> None:
        """Connect and mine, until it is over or cancelled."""
        self._opened_at_s = trio.current_time()
        try:
            with self._scope:
                stream = await self._open()
                if stream is not None:
                    try:
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(self._send, stream)
                            nursery.start_soon(self._watch)
                            await self._receive(stream)
                    finally:
                        await trio.aclose_forcefully(stream)
        finally:
            self.end(Fault.ENDED, "cancelled")
            self._on_end(self)
            self.decided.set()
            self.lost.set()

    def end(self, fault: Fault, reason: str, reconnect: Reconnect | None = None) -> None:
        """It is over; the first one to say so gives the reason."""
        if self.failure is None:
            self.failure = Failure(fault, reason, reconnect)
            self._scope.cancel()

    # Shares

    def refusal(self, share: UpstreamShare) -> NotSent | None:
        """Why a share cannot be sent here; None if it can."""
        return NotSent.NOT_CONNECTED if self.failure is not None else self.session.refusal(share)

    def submit(self, share: UpstreamShare, *, again: bool = False) -> None:
        """Send a share that `refusal` had nothing against."""
        self.session.submit(share, trio.current_time(), again=again)
        self._wake.set()

    # Bytes

    async def _open(self) -> trio.abc.Stream | None:
        limits, host = self._limits, self.address[0]
        stream: trio.abc.Stream | None = None
        opened = False
        try:
            with trio.fail_after(limits.connect_s):
                stream = await self._connect(*self.address)
                if self._tls is not None:
                    tls = trio.SSLStream(stream, self._tls, server_hostname=host, https_compatible=True)
                    stream = tls
                    await tls.do_handshake()
                opened = True
        except trio.TooSlowError:
            self.end(Fault.UNREACHABLE, f"no connection within {limits.connect_s:g} s")
        except OSError as error:
            self.end(Fault.UNREACHABLE, self.endpoint.cleaned(error.strerror or error))
        except trio.BrokenResourceError as error:
            cause = error.__cause__
            words = getattr(cause, "verify_message", None) or getattr(cause, "reason", None) or "closed"
            self.end(Fault.UNREACHABLE, self.endpoint.cleaned(f"TLS handshake failed: {words}"))
        finally:
            if stream is not None and not opened:
                await trio.aclose_forcefully(stream)
        return stream if opened else None

    async def _receive(self, stream: trio.abc.Stream) -> None:
        self._heard_at_s = self._alive_at_s = trio.current_time()
        self.session.open()
        self._wake.set()
        while True:
            try:
                data = await stream.receive_some(RECV_BYTES)
            except trio.BrokenResourceError:
                data = b""
            if not data:
                self.end(Fault.CLOSED, f"closed by the upstream while {self.session.state.value}")
                return
            self._heard_at_s = trio.current_time()
            if self._pinged_at_s is not None:
                self._pinged_at_s, self._alive_at_s = None, self._heard_at_s
            try:
                self.session.receive_data(data)
                while self.failure is None and (event := self.session.next_event()) is not None:
                    self._count_notices()
                    self._note(event)
                self._count_notices()
            except RefusedByUpstream as error:
                self.end(Fault.REFUSED, str(error))
            except BrokenUpstream as error:
                self.end(Fault.BROKEN, str(error))
            except Exception:  # a mistake of ours about one upstream must not cost the others their miners
                self._log.exception("upstream_link_failed")
                self.end(Fault.BROKEN, "internal error")
            self._wake.set()

    async def _send(self, stream: trio.abc.Stream) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            data = self.session.data_to_send()
            if data:
                try:
                    await stream.send_all(data)
                except trio.BrokenResourceError:
                    # What it said last may still be there to be read: the end is the reader's to see.
                    return

    # Events

    def _note(self, event: UpstreamEvent) -> None:
        now_s = trio.current_time()
        if isinstance(event, Up):
            self.up_at_s = self._alive_at_s = now_s
            self._on_up(self)
            self.decided.set()
        elif isinstance(event, ReconnectAsked):
            self._reconnect(event.reconnect)
        elif isinstance(event, MessageShown):
            self._messages += 1
            if self._messages <= MESSAGES_LOGGED_MAX:
                self._log.info("upstream_message", words=event.words)
        elif isinstance(event, OddMessage):
            self._messages += 1
            if self._messages <= MESSAGES_LOGGED_MAX:
                self._log.warning("upstream_message_skipped", words=event.words)
        else:
            self._on_event(self, event)
            if isinstance(event, JobReceived):
                self._alive_at_s = now_s
            elif isinstance(event, SubmitAnswer):
                self._count(event.verdict, now_s)

    def _count_notices(self) -> None:
        """Whether it speaks without end."""
        now_s, count = trio.current_time(), self.session.notices
        earned = min(NOTICES_PER_S * (now_s - self._noticed_at_s), float(NOTICES_MAX))
        left = min(self._notices_left + earned, float(NOTICES_MAX)) - (count - self._notices_counted)
        self._notices_left, self._notices_counted, self._noticed_at_s = left, count, now_s
        if left < 0:
            self.end(Fault.BROKEN, f"says more than {NOTICES_PER_S:g} things a second that nobody asked for")

    def _count(self, verdict: SubmitVerdict, now_s: float) -> None:
        """Whether there is anything but rejections."""
        self._answered_at_s = now_s
        if verdict is not SubmitVerdict.REJECTED:
            self._rejects, self._rejects_since_s = 0, math.inf
            return
        self._rejects += 1
        self._rejects_since_s = min(self._rejects_since_s, now_s)
        lasted_s = now_s - self._rejects_since_s
        if self._rejects >= self._limits.rejects_min and lasted_s >= self._limits.rejects_s:
            self.end(Fault.REJECTS, f"rejected {self._rejects} shares in a row, for {lasted_s:.0f} s")

    def _reconnect(self, asked: Reconnect) -> None:
        host = None if asked.host is None else plain_host(asked.host)
        if asked.host is not None and (host is None or not same_domain(self.endpoint.host, host)):
            self._messages += 1
            if self._messages <= MESSAGES_LOGGED_MAX:
                words = self.endpoint.cleaned(asked.host)
                self._log.warning("upstream_reconnect_refused", host=words, reason="another domain")
            return
        target = msgspec.structs.replace(asked, host=host)
        self.end(Fault.RECONNECT, f"asked us to reconnect in {asked.wait_s:g} s", target)

    # Time

    async def _watch(self) -> None:
        while True:
            await trio.sleep(WATCH_INTERVAL_S)
            now_s = trio.current_time()
            self._watch_handshake(now_s)
            self._watch_answers(now_s)
            self._watch_jobs(now_s)

    def _watch_handshake(self, now_s: float) -> None:
        state = self.session.state
        if state is not State.MINING and now_s - self._opened_at_s >= self._limits.handshake_s:
            self.end(Fault.UNREACHABLE, f"still {state.value} after {self._limits.handshake_s:g} s")

    def _watch_answers(self, now_s: float) -> None:
        oldest_s = self.session.submits.oldest_s
        if oldest_s is None:
            return
        if now_s - max(oldest_s, self._heard_at_s) >= self._limits.silence_s:
            self.end(Fault.SILENT, f"nothing heard for {self._limits.silence_s:g} s, with shares unanswered")
        elif now_s - oldest_s < self._limits.answer_s:
            return
        elif self._answered_at_s < oldest_s:
            self.end(Fault.SILENT, f"no share answered for {self._limits.answer_s:g} s")
        else:
            for answer in self.session.submits.give_up(now_s - self._limits.answer_s):
                self._on_event(self, answer)

    def _watch_jobs(self, now_s: float) -> None:
        limits = self._limits
        if self._pinged_at_s is not None:
            if now_s - self._pinged_at_s >= limits.ping_answer_s:
                self.end(Fault.SILENT, f"no job for {limits.quiet_s:g} s and no answer to a ping")
        elif self.up and now_s - self._alive_at_s >= limits.quiet_s:
            self._pinged_at_s = now_s
            try:
                self.session.ping()
            except BrokenUpstream as error:
                self.end(Fault.BROKEN, str(error))
            self._wake.set()
