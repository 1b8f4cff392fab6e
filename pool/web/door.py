"""The door: a TCP listener, TLS where there is a certificate, and connections that wait for their turns.

Whatever comes in by it is work on the loop that miners are served on. So what arrives of a connection is not
read before its turn: one address after the other (IPv6: one /64), and between two turns the loop is left to
others. All who have not been let in to anything take a twentieth of a core together, at any rate of theirs;
who has been let in does not wait behind them.

Invariants: connections are bounded, in all and by address; where there is no place, who has been let in to
nothing makes room. Must not know: what is asked, who may ask.
"""

import errno
from collections import Counter
from contextlib import suppress
from typing import Final

import structlog
import trio
from starlette.types import ASGIApp

from pool.http_server import CONNECTIONS_MAX, HEAD_S, HttpListener, HttpServer
from stratum.miners.listening.certificate import Certificate
from stratum.miners.listening.listeners import Endpoint, open_listener
from stratum.miners.turns.connection_limits import (
    ConnectionBounds,
    ConnectionLimits,
    Place,
    Standing,
    real_address,
)
from stratum.miners.turns.turns import Lane

log = structlog.get_logger()

BOUNDS: Final = ConnectionBounds(
    sessions_max=CONNECTIONS_MAX,
    sessions_per_address_max=160,  # all the browsers, behind one address
    half_open_per_address_max=32,  # who has been let in to nothing
)
ACCEPT_REST_S: Final = 0.005  # between two connections: to let one wait is a quarter of a millisecond
HANDSHAKE_S: Final = 10.0
# In lines that Python answers to miners, 15 us each: a request, a step of a TLS handshake, or to begin with
# somebody, is a millisecond. There may be many requests in a packet, so both have their turns.
REQUEST_COST: Final = 64
PACKET_COST: Final = 16
RECV_BYTES: Final = 4_096  # in one turn
STRANGER_REST_S: Final = 0.019  # behind a millisecond: a twentieth of a core, and fifty requests a second
KNOWN_REST_S: Final = 0.003  # a quarter
FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: application/json\r\n\r\n"
    b'{"error":"there are too many connections","code":"full"}'
)
FULL_S: Final = 1.0  # to say so: a new connection takes it at once, or never


class Caller(trio.abc.HalfCloseableStream):
    """One connection's bytes, under TLS and HTTP; what it says is read when it is its turn."""

    def __init__(self, stream: trio.SocketStream, address: str, place: Place, door: "Door") -> None:
        self.address = address
        self.place = place
        self.scope = trio.CancelScope()
        self._stream, self._door = stream, door
        self._turn, self._cost = trio.Event(), 0
        self.packet_cost = PACKET_COST

    def let_in(self) -> None:
        """It may ask for more than what anybody may."""
        self._door.limits.stands(self.place, Standing.FRESH)

    def make_room(self) -> None:
        self.scope.cancel()

    def take_turn(self) -> int:
        self._turn.set()
        return self._cost

    async def turn(self, cost: int = REQUEST_COST) -> None:
        """Returns when it is this one's turn, for what costs so much."""
        self._turn, self._cost = trio.Event(), cost
        lane = self._door.lane_of(self.place)
        lane.add(self.place.source, self)
        try:
            await self._turn.wait()
        finally:
            lane.discard(self.place.source, self)

    async def says_something(self) -> None:
        """Or has left. Raises ClosedResourceError where we were the ones to end it."""
        if self._stream.socket.fileno() < 0:
            raise trio.ClosedResourceError
        await trio.lowlevel.wait_readable(self._stream.socket)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        await self.says_something()
        await self.turn(self.packet_cost)
        return await self._stream.receive_some(RECV_BYTES)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Unhurried(HttpListener):
    """Lets one in, and rests: a flood of connections leaves the loop to others."""

    async def accept(self) -> trio.SocketStream:
        stream = await super().accept()
        try:
            await trio.sleep(ACCEPT_REST_S)
        except trio.Cancelled:  # nobody else has it
            stream.socket.close()
            raise
        return stream


class Door:
    """`address` is as listened on; `refused`: how often there was no place, and why."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.address: tuple[str, int] | None = None
        self.limits = ConnectionLimits(BOUNDS)
        self.refused: Counter[str] = Counter()
        self._endpoint = endpoint
        self._strangers = _lane(STRANGER_REST_S)
        self._known = _lane(KNOWN_REST_S)

    async def run(
        self, app: ASGIApp, *, task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen until cancelled. Raises BadEndpoint or BadCertificate before it has started."""
        server, endpoint, certificate = HttpServer(app), self._endpoint, None
        if endpoint.certificate is not None:
            certificate = Certificate(endpoint.certificate, endpoint.key)
        with open_listener(endpoint) as listening:
            host, port = listening.getsockname()[:2]
            self.address = host, port
            log.info("web_listening", host=host, port=port, tls=certificate is not None)
            listener = _Unhurried(listening, "web")

            async def serve(stream: trio.SocketStream) -> None:
                await self._serve(stream, server, certificate)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(_give_turns, self._strangers)
                nursery.start_soon(_give_turns, self._known)
                task_status.started((host, port))
                await trio.serve_listeners(serve, [listener], handler_nursery=nursery)

    def lane_of(self, place: Place) -> Lane:
        """Where this one waits."""
        return self._known if place.standing is Standing.FRESH else self._strangers

    async def _serve(
        self, stream: trio.SocketStream, server: HttpServer, certificate: Certificate | None
    ) -> None:
        async with stream:
            try:
                address = real_address(stream.socket.getpeername()[0])
            except OSError as error:
                if error.errno != errno.ENOTCONN:
                    raise
                return  # it has left
            place = self.limits.enter(address)
            if isinstance(place, str):
                self.refused[place] += 1
                if certificate is None:
                    with suppress(trio.BrokenResourceError), trio.move_on_after(FULL_S):
                        await stream.send_all(FULL)
                return
            caller = Caller(stream, address, place, self)
            place.holder = caller
            self.limits.begin(place)
            try:
                with caller.scope:
                    await _talk(caller, server, certificate)
            finally:
                self.limits.leave(place)


async def _talk(caller: Caller, server: HttpServer, certificate: Certificate | None) -> None:
    state = {"caller": caller}
    with trio.move_on_after(HEAD_S) as patience:  # whoever does not stay so long has cost next to nothing
        await caller.says_something()
        await caller.turn()
    if patience.cancelled_caught:
        return
    if certificate is None:
        await server.serve(caller, state, turn=caller.turn)
        return
    caller.packet_cost = REQUEST_COST
    stream = trio.SSLStream(caller, certificate.context(), server_side=True, https_compatible=True)
    try:
        with trio.fail_after(HANDSHAKE_S):
            await stream.do_handshake()
    except (trio.BrokenResourceError, trio.TooSlowError):
        return
    caller.packet_cost = PACKET_COST
    await server.serve(stream, state, turn=caller.turn)


def _lane(rest_s: float) -> Lane:
    return Lane(cost=REQUEST_COST, cost_beside_miners=REQUEST_COST, rest_s=rest_s)


async def _give_turns(lane: Lane) -> None:
    while True:
        await lane.wanted.wait()
        await trio.sleep(lane.round(beside_miners=True))
