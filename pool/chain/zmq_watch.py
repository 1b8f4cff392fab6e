"""A bitcoind's ZMQ hashblock notifications: the quickest word that there is a new tip.

Invariants: a notification is a hint and nothing else. Its content is not believed, a lost one costs only
time (longpoll and refresh find the tip too), and reconnecting is libzmq's business.

Must not know: templates, or what is done about a new tip.
"""

import os
import struct
from collections.abc import Callable, Iterator
from typing import Final

import trio
from zmq.constants import Event, Flag, PollEvent, SocketOption, SocketType
from zmq.error import ZMQError
from zmq.sugar.context import Context
from zmq.sugar.socket import Socket

HASHBLOCK_TOPIC: Final = b"hashblock"
# A hint that waits behind 16 others says nothing new.
QUEUED_HINTS_MAX: Final = 16
# A notification has 45 bytes; the largest thing that any bitcoind publishes is a block. libzmq gives up a
# connection for good that brings more, and longpoll and refresh go on alone.
MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024
RECONNECT_MIN_MS: Final = 100
RECONNECT_MAX_MS: Final = 5_000
# A path that went away without a word is noticed after 60 + 3 * 10 s.
KEEPALIVE_IDLE_S: Final = 60
KEEPALIVE_INTERVAL_S: Final = 10
KEEPALIVE_PROBES: Final = 3
# libzmq takes six for its threads, and ends the whole process where it gets some of them and not all.
DESCRIPTORS: Final = 16
LOOK_S: Final = 5.0  # for a look whether somebody publishes: a handshake is two ways there and back
_GOING_ON: Final = {Event.CONNECT_DELAYED, Event.CONNECTED}


class ZmqUnusable(Exception):
    """An address that libzmq cannot connect to, or at which nobody publishes; the text says which."""


class NoDescriptor(ZmqUnusable):
    """The process has none left for libzmq now."""


async def watch_hashblock(url: str, on_hint: Callable[[], None]) -> None:
    """Call `on_hint` for each burst of hashblock notifications from `url`, until cancelled.

    Raises ZmqUnusable for an address that is none, and NoDescriptor; a publisher that is away is no error.
    """
    context = _context()
    try:
        socket = _subscriber(context)
        _connect(socket, url)
        while True:
            if _drain(socket):
                on_hint()
            await trio.lowlevel.wait_readable(socket.fileno())
    finally:
        context.destroy(linger=0)


async def look_for_publisher(url: str) -> None:
    """Whether who answers at `url` publishes, by the handshake: what it will publish nobody is told.

    Raises ZmqUnusable, in words, where none does within LOOK_S."""
    context = _context()
    try:
        socket = _subscriber(context)
        monitor = socket.get_monitor_socket()
        _connect(socket, url)
        words = "nothing answers"
        with trio.move_on_after(LOOK_S):
            while True:
                for event in _events(monitor):
                    if event == Event.HANDSHAKE_SUCCEEDED:
                        return
                    if event == Event.CONNECTED:
                        words = "what answers is no ZMQ publisher"
                    if event not in _GOING_ON:
                        raise ZmqUnusable(f"{url}: {words}")
                await trio.lowlevel.wait_readable(monitor.fileno())
        raise ZmqUnusable(f"{url}: {words}, for {LOOK_S:g} s")
    finally:
        context.destroy(linger=0)


def _context() -> Context[Socket[bytes]]:
    """Raises NoDescriptor."""
    free: list[int] = []
    try:
        for _ in range(DESCRIPTORS):
            free.append(os.open(os.devnull, os.O_RDONLY))  # closed, also where one is not had
    except OSError as error:
        raise NoDescriptor(f"no descriptor is left to subscribe: {error.strerror}") from None
    finally:
        for it in free:
            os.close(it)
    return Context()


def _subscriber(context: Context[Socket[bytes]]) -> Socket[bytes]:
    socket = context.socket(SocketType.SUB)
    for option, value in (
        (SocketOption.LINGER, 0),
        (SocketOption.RCVHWM, QUEUED_HINTS_MAX),
        (SocketOption.MAXMSGSIZE, MESSAGE_BYTES_MAX),
        (SocketOption.RECONNECT_IVL, RECONNECT_MIN_MS),
        (SocketOption.RECONNECT_IVL_MAX, RECONNECT_MAX_MS),
        (SocketOption.TCP_KEEPALIVE, 1),
        (SocketOption.TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S),
        (SocketOption.TCP_KEEPALIVE_INTVL, KEEPALIVE_INTERVAL_S),
        (SocketOption.TCP_KEEPALIVE_CNT, KEEPALIVE_PROBES),
        (SocketOption.SUBSCRIBE, HASHBLOCK_TOPIC),
    ):
        socket.setsockopt(option, value)
    return socket


def _connect(socket: Socket[bytes], url: str) -> None:
    try:
        socket.connect(url)
    except ZMQError as error:
        raise ZmqUnusable(f"cannot subscribe to {url}: {error.strerror}") from None


def _events(monitor: Socket[bytes]) -> Iterator[int]:
    """What has become of the connection since."""
    while monitor.poll(0, PollEvent.POLLIN):
        number, _ = struct.unpack("=Hi", monitor.recv_multipart(Flag.DONTWAIT)[0])
        yield number


def _drain(socket: Socket[bytes]) -> bool:
    """Whether there was a hashblock among everything that has arrived.

    libzmq's descriptor is edge-triggered: it says once that something changed, and stays silent until
    everything is taken.
    """
    hinted = False
    while socket.poll(0, PollEvent.POLLIN):
        hinted = socket.recv_multipart(Flag.DONTWAIT)[0] == HASHBLOCK_TOPIC or hinted
    return hinted
