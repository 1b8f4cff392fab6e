"""Listeners: TCP and TLS sockets in, connections on the switchboard out.

Plain sockets go to the pump. TLS needs a task per connection (Trio's SSLStream), which feeds the same
engine. A full process, or one out of descriptors, refuses new miners in words and leaves the others alone.
Must not know: messages, jobs, tenants.
"""

import errno
import os
import socket
import ssl
from collections.abc import Callable

import msgspec
import structlog
import trio

from stratum import messages
from stratum.doorkeeper import Doorkeeper
from stratum.switchboard import RECV_BYTES, Switchboard

log = structlog.get_logger()

BACKLOG = 4096  # the kernel's usual somaxconn: a site that comes back at once waits here, not in SYN retries
ACCEPTS_PER_ROUND = 64  # then the pump gets its turn
TLS_HANDSHAKE_S = 10.0
DESCRIPTORS_RETRY_S = 0.1
KEEPALIVE_S = 60  # a miner that lost power is noticed in two minutes


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An address to listen on; certificate and key (PEM files) make it TLS."""

    host: str
    port: int
    certificate: str | None = None
    key: str | None = None


class BadEndpoint(Exception):
    """An address that cannot be listened on, or a certificate that cannot be used."""


def open_listener(endpoint: Endpoint) -> socket.socket:
    """A bound, listening, non-blocking socket."""
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((endpoint.host, endpoint.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise BadEndpoint(
            f"cannot listen on {endpoint.host}:{endpoint.port}: {error.strerror or error}"
        ) from error
    listener.setblocking(False)
    return listener


def tls_context(endpoint: Endpoint) -> ssl.SSLContext:
    assert endpoint.certificate is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(endpoint.certificate, endpoint.key)
    except (OSError, ssl.SSLError) as error:
        raise BadEndpoint(f"cannot use the certificate {endpoint.certificate}: {error}") from error
    return context


class Server:
    """Listeners of one switchboard. `addresses` are filled in when they listen."""

    def __init__(
        self, *, board: Switchboard, doorkeeper: Doorkeeper, endpoints: tuple[Endpoint, ...]
    ) -> None:
        self.addresses: list[tuple[str, int]] = []
        self._board = board
        self._doorkeeper = doorkeeper
        self._endpoints = endpoints
        # Given up for a moment when descriptors run out, so that a miner can be refused in words.
        self._spare = os.open(os.devnull, os.O_RDONLY)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled. Raises BadEndpoint before it has started."""
        listeners: list[socket.socket] = []
        try:
            async with trio.open_nursery() as nursery:
                for endpoint in self._endpoints:
                    listener = open_listener(endpoint)
                    listeners.append(listener)
                    context = tls_context(endpoint) if endpoint.certificate is not None else None
                    host, port = listener.getsockname()[:2]
                    self.addresses.append((host, port))
                    log.info("listening", host=host, port=port, tls=context is not None)
                    nursery.start_soon(self._accept, listener, self._take(nursery, context))
                task_status.started()
        finally:
            for listener in listeners:
                listener.close()
            os.close(self._spare)

    def _take(
        self, nursery: trio.Nursery, context: ssl.SSLContext | None
    ) -> Callable[[socket.socket, str], None]:
        if context is None:
            return self._board.add_socket
        return lambda sock, address: nursery.start_soon(self._serve_tls, context, sock, address)

    async def _accept(self, listener: socket.socket, take: Callable[[socket.socket, str], None]) -> None:
        while True:
            await trio.lowlevel.wait_readable(listener)
            for _ in range(ACCEPTS_PER_ROUND):
                try:
                    sock, peer = listener.accept()
                except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                    break
                except OSError as error:
                    if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                        raise
                    log.error("descriptors_exhausted", sessions=self._doorkeeper.sessions)
                    self._refuse_with_spare(listener)
                    await trio.sleep(DESCRIPTORS_RETRY_S)
                    break
                self._admit(sock, peer[0], take)

    def _admit(self, sock: socket.socket, address: str, take: Callable[[socket.socket, str], None]) -> None:
        reason = self._doorkeeper.enter(address, trio.current_time())
        if reason is not None:
            self._board.dropped[reason] += 1
            _refuse(sock, reason)
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
        take(sock, address)

    def _refuse_with_spare(self, listener: socket.socket) -> None:
        os.close(self._spare)
        try:
            sock, _ = listener.accept()
            _refuse(sock, "pool is full")
        except OSError:
            pass
        finally:
            self._spare = os.open(os.devnull, os.O_RDONLY)

    async def _serve_tls(self, context: ssl.SSLContext, sock: socket.socket, address: str) -> None:
        stream = trio.SSLStream(
            trio.SocketStream(trio.socket.from_stdlib_socket(sock)),
            context,
            server_side=True,
            https_compatible=True,
        )
        connection: StreamConnection | None = None
        try:
            with trio.move_on_after(TLS_HANDSHAKE_S) as handshake:
                await stream.do_handshake()
            if handshake.cancelled_caught:
                raise trio.BrokenResourceError
            connection = StreamConnection(self._board, address)
            await connection.serve(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
            if connection is None:  # plaintext on the TLS port, a scanner, a bad client
                self._board.dropped["TLS handshake failed"] += 1
                self._doorkeeper.leave(address, settled=False)
        finally:
            if connection is not None:
                self._board.drop(connection, "left")
            with trio.CancelScope(shield=True) as closing:
                closing.cancel()
                await stream.aclose()


class StreamConnection:
    """A miner on a Trio stream (TLS), with a task of its own for each direction."""

    __slots__ = ("_board", "_out", "_scope", "_wake", "address", "open", "session", "settled")

    def __init__(self, board: Switchboard, address: str) -> None:
        self.address = address
        self.settled = False
        self.open = True
        self._board = board
        self._out = bytearray()
        self._wake = trio.Event()
        self._scope = trio.CancelScope()
        self.session = board.session_for(self)

    def write(self, data: bytes) -> None:
        if not self.open:
            return
        if len(self._out) + len(data) > self._board.limits.out_bytes_max:
            self._board.drop(self, "does not read")
            return
        self._out += data
        self._wake.set()

    def shut(self) -> None:
        self.open = False
        self._wake.set()  # the sender empties what is left, then ends the connection

    async def serve(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send, stream)
                while self.open:
                    data = await stream.receive_some(RECV_BYTES)
                    if not data:
                        break
                    self._board.feed(self, bytes(data))
                    self._board.judge()
                nursery.cancel_scope.cancel()

    async def _send(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            data, self._out = self._out, bytearray()
            if data:
                with trio.move_on_after(TLS_HANDSHAKE_S) as sending:
                    await stream.send_all(data)
                if sending.cancelled_caught:
                    self._board.drop(self, "does not read")
            if not self.open:
                self._scope.cancel()
                return


def _refuse(sock: socket.socket, reason: str) -> None:
    """Say why, as far as the socket takes it without waiting, and close."""
    with sock:
        sock.setblocking(False)
        try:
            sock.send(messages.notification("client.show_message", [f"Connection refused: {reason}"]))
        except OSError:
            return
