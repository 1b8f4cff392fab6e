"""Listeners: TCP and TLS sockets in, connections on the switchboard out.

Plain sockets go to the pump. TLS needs a task per connection (Trio's SSLStream), which feeds the same engine;
connections that speak another protocol than V1 are served by their dialect. From the addresses of trusted
load balancers a PROXY header comes first. A full process, or one out of descriptors, refuses new miners in
words and leaves the others alone.

Invariants: whatever one connection does ends that connection and nothing else; who is not authorised yet is
bounded in number and in time, with a PROXY header and a TLS handshake ahead as well.
Must not know: messages, jobs, tenants.
"""

import errno
import ipaddress
import os
import socket
from collections import OrderedDict
from collections.abc import Mapping
from typing import Protocol

import msgspec
import structlog
import trio

from stratum import messages
from stratum.miners.listening.certificate import Certificate
from stratum.miners.listening.proxy_protocol import HEADER_BYTES_MAX, BadProxyHeader, parse_proxy_header
from stratum.miners.listening.tls_connection import Handshake, TlsConnection
from stratum.miners.switchboard import Switchboard
from stratum.miners.turns.arrival import GONE_COST, Arrival
from stratum.miners.turns.connection_limits import (
    MADE_ROOM,
    ConnectionLimits,
    Place,
    real_address,
)

log = structlog.get_logger()

BACKLOG = 4096  # the kernel's usual somaxconn: a site that comes back at once waits here, not in SYN retries
# A site that comes back is let in as fast as it comes: the kernel makes whoever finds the backlog full wait
# for seconds. While anybody mines a round is a millisecond: who floods the door takes a sixth of a core.
ACCEPTS_PER_ROUND = 256
ACCEPTS_BESIDE_MINERS = 32
ACCEPT_REST_S = 0.005
# Of the kernel, per miner: some twenty jobs. Left alone it grows to megabytes for each one that never reads.
SEND_BUFFER_BYTES = 65_536
TASK_COST = 16  # to begin one, in lines that Python answers
PROXY_HEADER_S = 5.0  # the balancer sends it with its first packet
PROXY_HEADERS_MAX = 1_024  # connections whose header is not here yet
DESCRIPTORS_RETRY_S = 0.1
KEEPALIVE_S = 60  # a miner that lost power is noticed in two minutes

EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
# Of accept(): our own mistakes. Every other error is that of one connection, which is gone.
_BUGS = {errno.EBADF, errno.EFAULT, errno.EINVAL, errno.ENOTSOCK, errno.EOPNOTSUPP}

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An address to listen on; certificate and key (PEM files) make it TLS.

    Connections from `proxies` start with a PROXY header, and all others without. `dialect` names the
    protocol that is spoken there, where it is not V1.
    """

    host: str
    port: int
    certificate: str | None = None
    key: str | None = None
    proxies: tuple[Network, ...] = ()
    dialect: str | None = None


class Dialect(Protocol):
    """A protocol beside V1."""

    async def run(
        self, board: Switchboard, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve those who speak it until cancelled; then their connections are closed."""

    def connection(
        self, board: Switchboard, limits: ConnectionLimits, sock: socket.socket, address: str, place: Place
    ) -> int:
        """The first turn of one has come: it takes over the socket and holds the place; what that cost, in
        lines that Python answers. Raises OSError where it does not."""


def is_this_host(name: str) -> bool:
    """Whether a name or an address is of this host itself and of no other."""
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class BadEndpoint(Exception):
    """An address that cannot be listened on."""


def open_listener(endpoint: Endpoint, *, shared: bool = False) -> socket.socket:
    """A bound, listening, non-blocking socket."""
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:  # the kernel gives each of them its part of those who come
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
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
    dialect: Dialect | None

    def expects_header(self, address: str) -> bool:
        if not self.proxies:
            return False
        peer = ipaddress.ip_address(address)
        if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped is not None:
            peer = peer.ipv4_mapped
        return any(peer in network for network in self.proxies)


class Server:
    """Listeners of one switchboard. `addresses` are filled in when they listen. `shared`: other processes of
    this account listen at the same endpoints."""

    def __init__(
        self,
        *,
        board: Switchboard,
        connection_limits: ConnectionLimits,
        endpoints: tuple[Endpoint, ...],
        shared: bool = False,
        dialects: Mapping[str, Dialect] | None = None,
    ) -> None:
        self.addresses: list[tuple[str, int]] = []
        self._board = board
        self._connection_limits = connection_limits
        self._endpoints, self._shared = endpoints, shared
        self._dialects = dialects or {}
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
                for dialect in {door.dialect for door in doors if door.dialect is not None}:
                    await nursery.start(dialect.run, self._board)
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
        listener = open_listener(endpoint, shared=self._shared)
        host, port = listener.getsockname()[:2]
        self.addresses.append((host, port))
        dialect = None if endpoint.dialect is None else self._dialects[endpoint.dialect]
        spoken = {} if endpoint.dialect is None else {"dialect": endpoint.dialect}
        log.info("listening", host=host, port=port, tls=certificate is not None, **spoken)
        return _Door(listener, certificate, endpoint.proxies, dialect)

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
                    if error.errno not in EXHAUSTED:
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
            if door.dialect is not None:
                if arrival.has_left:  # who gave up while others had their turns would keep out who has not
                    arrival.end("left")
                    return GONE_COST
                return door.dialect.connection(self._board, self._connection_limits, sock, address, place)
            assert door.certificate is not None
            place.holder = handshake = Handshake(self._board, place, sock)
            try:
                nursery.start_soon(self._serve_tls, handshake, door.certificate, address)
            except RuntimeError as error:  # we stop: turns may be given once more than there are listeners
                raise ConnectionAbortedError from error
            self._connection_limits.begin(place)
            return TASK_COST

        plain = door.certificate is None and door.dialect is None
        self._board.arrive(sock, address, place, None if plain else begin, dear=door.dialect is not None)

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

    async def _serve_tls(self, handshake: Handshake, certificate: Certificate, address: str) -> None:
        connection: TlsConnection | None = None
        stream = trio.SSLStream(handshake, certificate.context(), server_side=True, https_compatible=True)
        try:
            with handshake.scope, handshake.patience:
                await stream.do_handshake()
            handshake.over = True
            if handshake.patience.cancelled_caught:
                raise trio.TooSlowError
            closed = MADE_ROOM if handshake.scope.cancelled_caught else self._connection_limits.closed
            if closed is None:
                connection = TlsConnection(self._board, address, handshake.place)
                await connection.serve(stream)
            else:
                self._board.dropped[closed] += 1
        except (trio.BrokenResourceError, trio.TooSlowError):  # plaintext, a scanner, a bad client
            self._board.dropped["TLS handshake failed"] += 1
        finally:
            handshake.over = True
            self._board.lanes.discard(handshake.place, handshake)
            if connection is None:
                self._connection_limits.leave(handshake.place)
            else:
                self._board.drop(connection, "left")
            await trio.aclose_forcefully(stream)


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
