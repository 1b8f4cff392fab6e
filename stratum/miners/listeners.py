"""Listeners: TCP and TLS sockets in, connections on the switchboard out.

Plain sockets go to the pump. TLS needs a task per connection (Trio's SSLStream), which feeds the same
engine. From the addresses of trusted load balancers a PROXY header comes first. A full process, or one out
of descriptors, refuses new miners in words and leaves the others alone.

Invariants: whatever one connection does ends that connection and nothing else; who is not authorised yet is
bounded in number and in time, with a PROXY header and a TLS handshake ahead as well.
Must not know: messages, jobs, tenants.
"""

import errno
import ipaddress
import os
import socket
from collections import OrderedDict
from math import inf

import msgspec
import structlog
import trio

from stratum import messages
from stratum.miners.arrival import Arrival
from stratum.miners.certificate import Certificate
from stratum.miners.connection_limits import MADE_ROOM, ConnectionLimits, Place, real_address
from stratum.miners.proxy_protocol import HEADER_BYTES_MAX, BadProxyHeader, parse_proxy_header
from stratum.miners.switchboard import RECV_BYTES, Connection, Switchboard

log = structlog.get_logger()

BACKLOG = 4096  # the kernel's usual somaxconn: a site that comes back at once waits here, not in SYN retries
# A site that comes back is let in as fast as it comes: the kernel makes whoever finds the backlog full wait
# for seconds. While anybody mines a round is a millisecond: who floods the door takes a sixth of a core.
ACCEPTS_PER_ROUND = 256
ACCEPTS_BESIDE_MINERS = 32
ACCEPT_REST_S = 0.005
# Of the kernel, per miner: some twenty jobs. Left alone it grows to megabytes for each one that never reads.
SEND_BUFFER_BYTES = 65_536
TLS_HANDSHAKE_S = 10.0
# What a packet of a TLS handshake costs, in lines that Python answers: a millisecond of arithmetic.
TLS_STEP_COST = 64
TLS_TASK_COST = 16
PROXY_HEADER_S = 5.0  # the balancer sends it with its first packet
PROXY_HEADERS_MAX = 1_024  # connections whose header is not here yet
LAST_WORDS_S = 1.0  # for what is still to be sent on a TLS connection that we end
DESCRIPTORS_RETRY_S = 0.1
KEEPALIVE_S = 60  # a miner that lost power is noticed in two minutes

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
# Of accept(): our own mistakes. Every other error is that of one connection, which is gone.
_BUGS = {errno.EBADF, errno.EFAULT, errno.EINVAL, errno.ENOTSOCK, errno.EOPNOTSUPP}

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An address to listen on; certificate and key (PEM files) make it TLS.

    Connections from `proxies` start with a PROXY header, and all others without.
    """

    host: str
    port: int
    certificate: str | None = None
    key: str | None = None
    proxies: tuple[Network, ...] = ()


class BadEndpoint(Exception):
    """An address that cannot be listened on."""


def open_listener(endpoint: Endpoint) -> socket.socket:
    """A bound, listening, non-blocking socket."""
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # What accepted ones inherit.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
        listener.bind((endpoint.host, endpoint.port))
        listener.listen(BACKLOG)
    except (OSError, ValueError, TypeError) as error:  # the last two: a host that can be none
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise BadEndpoint(f"cannot listen on {endpoint.host}:{endpoint.port}: {reason}") from error
    listener.setblocking(False)
    return listener


class _Door(msgspec.Struct, frozen=True):
    """One open listener."""

    listener: socket.socket
    certificate: Certificate | None
    proxies: tuple[Network, ...]

    def expects_header(self, address: str) -> bool:
        if not self.proxies:
            return False
        peer = ipaddress.ip_address(address)
        if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped is not None:
            peer = peer.ipv4_mapped
        return any(peer in network for network in self.proxies)


class Server:
    """Listeners of one switchboard. `addresses` are filled in when they listen."""

    def __init__(
        self, *, board: Switchboard, connection_limits: ConnectionLimits, endpoints: tuple[Endpoint, ...]
    ) -> None:
        self.addresses: list[tuple[str, int]] = []
        self._board = board
        self._connection_limits = connection_limits
        self._endpoints = endpoints
        self._headers_awaited: OrderedDict[trio.CancelScope, None] = OrderedDict()  # oldest first
        # Given up for a moment when descriptors run out, so that a miner can be refused in words.
        self._spare: int | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled. Raises BadEndpoint or BadCertificate before it has started."""
        doors: list[_Door] = []
        try:
            for endpoint in self._endpoints:
                doors.append(self._open(endpoint))
            self._keep_spare()
            async with trio.open_nursery() as nursery:
                for door in doors:
                    nursery.start_soon(self._accept, door, nursery)
                task_status.started()
        finally:
            for door in doors:
                door.listener.close()
            if self._spare is not None:
                os.close(self._spare)
                self._spare = None

    def _open(self, endpoint: Endpoint) -> _Door:
        certificate = None
        if endpoint.certificate is not None:
            certificate = Certificate(endpoint.certificate, endpoint.key)
        listener = open_listener(endpoint)
        host, port = listener.getsockname()[:2]
        self.addresses.append((host, port))
        log.info("listening", host=host, port=port, tls=certificate is not None)
        return _Door(listener, certificate, endpoint.proxies)

    async def _accept(self, door: _Door, nursery: trio.Nursery) -> None:
        exhausted = False
        while True:
            await trio.lowlevel.wait_readable(door.listener)
            for _ in range(ACCEPTS_BESIDE_MINERS if self._connection_limits.mining else ACCEPTS_PER_ROUND):
                try:
                    sock, peer = door.listener.accept()
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno in _BUGS:
                        raise
                    if error.errno not in _EXHAUSTED:
                        continue
                    if not exhausted:
                        log.error("descriptors_exhausted", sessions=self._connection_limits.sessions)
                    exhausted = True
                    self._refuse_waiting(door.listener)
                    await trio.sleep(DESCRIPTORS_RETRY_S)
                    break
                exhausted = False
                if door.expects_header(peer[0]):
                    nursery.start_soon(self._admit_proxied, sock, door, nursery, peer[0])
                else:
                    self._admit(sock, door, nursery, peer[0])
            if self._connection_limits.mining:
                await trio.sleep(ACCEPT_REST_S)

    def _admit(self, sock: socket.socket, door: _Door, nursery: trio.Nursery, address: str) -> None:
        address = real_address(address)
        place = self._connection_limits.enter(address)
        if isinstance(place, str):
            self._board.dropped[place] += 1
            _refuse(sock, place)
            return
        sock.setblocking(False)

        def begin(arrival: Arrival) -> int:
            assert door.certificate is not None
            place.holder = handshake = _Handshake(self._board, place, sock)
            self._connection_limits.begin(place)
            nursery.start_soon(self._serve_tls, handshake, door.certificate, address)
            return TLS_TASK_COST

        self._board.arrive(sock, address, place, None if door.certificate is None else begin)

    def _refuse_waiting(self, listener: socket.socket) -> None:
        """With the spare descriptor, one after the other: who is left in the backlog hears nothing."""
        if self._spare is None:
            self._keep_spare()
            return
        os.close(self._spare)
        self._spare = None
        try:
            for _ in range(ACCEPTS_BESIDE_MINERS):
                _refuse(listener.accept()[0], "pool is full")
                self._board.dropped["descriptors exhausted"] += 1
        except OSError:
            pass
        finally:
            self._keep_spare()

    def _keep_spare(self) -> None:
        try:
            self._spare = os.open(os.devnull, os.O_RDONLY)
        except OSError:  # somebody was quicker: without it until the next round
            self._spare = None

    async def _admit_proxied(
        self, sock: socket.socket, door: _Door, nursery: trio.Nursery, balancer: str
    ) -> None:
        """The door sees the miner's own address, not that of the load balancer."""
        if len(self._headers_awaited) >= PROXY_HEADERS_MAX:
            oldest, _ = self._headers_awaited.popitem(last=False)
            oldest.cancel()
        address: str | None = None
        patience = trio.move_on_after(PROXY_HEADER_S)
        self._headers_awaited[patience] = None
        try:
            sock.setblocking(False)
            with patience:
                address = await _proxied_address(sock) or balancer
        except (BadProxyHeader, OSError):
            pass
        finally:
            self._headers_awaited.pop(patience, None)
            if address is None:
                self._board.dropped["bad PROXY header"] += 1
                sock.close()
        if address is not None:
            self._admit(sock, door, nursery, address)

    async def _serve_tls(self, handshake: "_Handshake", certificate: Certificate, address: str) -> None:
        connection: StreamConnection | None = None
        stream = trio.SSLStream(handshake, certificate.context(), server_side=True, https_compatible=True)
        try:
            with handshake.scope, handshake.patience:
                await stream.do_handshake()
            handshake.over = True
            if handshake.patience.cancelled_caught:
                raise trio.TooSlowError
            closed = MADE_ROOM if handshake.scope.cancelled_caught else self._connection_limits.closed
            if closed is None:
                connection = StreamConnection(self._board, address, handshake.place)
                await connection.serve(stream)
            else:
                self._board.dropped[closed] += 1
        except (trio.BrokenResourceError, trio.TooSlowError):  # plaintext, a scanner, a bad client
            self._board.dropped["TLS handshake failed"] += 1
        finally:
            handshake.over = True
            self._board.wait_no_more(handshake.place, handshake)
            if connection is None:
                self._connection_limits.leave(handshake.place)
            else:
                self._board.drop(connection, "left")
            await trio.aclose_forcefully(stream)


class _Handshake(trio.abc.Stream):
    """The bytes under TLS. Until it is `over`, each packet waits for its turn to be worked on."""

    def __init__(self, board: Switchboard, place: Place, sock: socket.socket) -> None:
        self.place = place
        self.scope = trio.CancelScope()
        # What it waits for turns is our time and not its own: else a crowd at the door would keep it out.
        self.patience = trio.move_on_after(TLS_HANDSHAKE_S)
        self.over = False
        self._board = board
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self._turn = trio.Event()

    def make_room(self) -> None:
        self.scope.cancel()

    def take_turn(self) -> int:
        self._turn.set()
        return 0 if self.over else TLS_STEP_COST

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._stream.receive_some(max_bytes)
        if data and not self.over:
            self._turn = trio.Event()
            self._board.wait_for_turn(self.place, self)
            since_s = trio.current_time()
            deadline_s, self.patience.deadline = self.patience.deadline, inf
            await self._turn.wait()
            self.patience.deadline = deadline_s + trio.current_time() - since_s
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


class StreamConnection(Connection):
    """A miner on a Trio stream (TLS), with a task of its own for each direction."""

    __slots__ = ("_out", "_received", "_released", "_scope", "_sending_bytes", "_wake")

    def __init__(self, board: Switchboard, address: str, place: Place) -> None:
        self._out = bytearray()
        self._received: bytes | bytearray | None = None
        self._released = trio.Event()
        self._sending_bytes = 0
        self._wake = trio.Event()
        self._scope = trio.CancelScope()
        super().__init__(board, address, place)

    def read(self, bytes_max: int) -> bytes | None:
        data, self._received = self._received, None
        return None if data is None else bytes(data)

    def hold(self) -> None:
        self.held = True

    def release(self) -> None:
        self.held = False
        self._released.set()

    def write(self, data: bytes) -> None:
        if not self.open:
            return
        waiting = self._sending_bytes + len(self._out)
        if waiting and waiting + len(data) > self.board.limits.out_bytes_max:
            self.board.drop(self, "does not read")
            return
        self._out += data
        self._wake.set()

    def shut(self) -> None:
        self.open = False
        self._released.set()
        self._scope.deadline = trio.current_time() + LAST_WORDS_S
        self._wake.set()  # the sender empties what is left, then ends the connection

    async def serve(self, stream: trio.SSLStream[_Handshake]) -> None:
        """Until it is over, one way or another; raises nothing."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send, stream)
                await self._receive(stream)

    async def _receive(self, stream: trio.SSLStream[_Handshake]) -> None:
        while self.open:
            try:
                self._received = await stream.receive_some(RECV_BYTES)
            except trio.BrokenResourceError:
                self._received = b""
            self.board.readable(self)
            self.board.judge()
            while self.held and self.open:
                self._released = trio.Event()
                await self._released.wait()
            await self.board.room()

    async def _send(self, stream: trio.SSLStream[_Handshake]) -> None:
        while self.open or self._out:
            await self._wake.wait()
            self._wake = trio.Event()
            data, self._out = self._out, bytearray()
            self._sending_bytes = len(data)
            if data:
                try:
                    await stream.send_all(data)
                except trio.BrokenResourceError:
                    self.board.drop(self, "connection lost")
            self._sending_bytes = 0
        self._scope.cancel()


async def _proxied_address(sock: socket.socket) -> str | None:
    """Takes the PROXY header off the connection, and not a byte more."""
    header = b""
    while True:
        await trio.lowlevel.wait_readable(sock)
        try:
            seen = sock.recv(HEADER_BYTES_MAX, socket.MSG_PEEK)
        except BlockingIOError:
            continue
        if not seen:
            raise BadProxyHeader("left before its header was complete")
        parsed = parse_proxy_header(header + seen)
        header += sock.recv(len(seen) if parsed is None else parsed.size - len(header))
        if parsed is not None:
            return parsed.source


def _refuse(sock: socket.socket, reason: str) -> None:
    """Say why, as far as the socket takes it without waiting, and close."""
    with sock:
        try:
            sock.setblocking(False)
            sock.send(messages.notification("client.show_message", [f"Connection refused: {reason}"]))
        except OSError:
            return
