"""A bitcoind's ZMQ hashblock notifications: the quickest word that there is a new tip.

Invariants: a notification is a hint and nothing else. Its content is not believed, a lost one costs only
time (longpoll and refresh find the tip too), and reconnecting is libzmq's business.

Must not know: templates, or what is done about a new tip.
"""

from collections.abc import Callable
from typing import Final

import trio
from zmq.constants import Flag, PollEvent, SocketOption, SocketType
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


class ZmqUnusable(Exception):
    """An address that libzmq cannot connect to."""


async def watch_hashblock(url: str, on_hint: Callable[[], None]) -> None:
    """Call `on_hint` for each burst of hashblock notifications from `url`, until cancelled.

    Raises ZmqUnusable for an address that is none; a publisher that is away is no error.
    """
    context: Context[Socket[bytes]] = Context()
    try:
        socket = _subscribed(context, url)
        while True:
            if _drain(socket):
                on_hint()
            await trio.lowlevel.wait_readable(socket.fileno())
    finally:
        context.destroy(linger=0)


def _subscribed(context: Context[Socket[bytes]], url: str) -> Socket[bytes]:
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
    try:
        socket.connect(url)
    except ZMQError as error:
        raise ZmqUnusable(f"cannot subscribe to {url}: {error.strerror}") from None
    return socket


def _drain(socket: Socket[bytes]) -> bool:
    """Whether there was a hashblock among everything that has arrived.

    libzmq's descriptor is edge-triggered: it says once that something changed, and stays silent until
    everything is taken.
    """
    hinted = False
    while socket.poll(0, PollEvent.POLLIN):
        hinted = socket.recv_multipart(Flag.DONTWAIT)[0] == HASHBLOCK_TOPIC or hinted
    return hinted
