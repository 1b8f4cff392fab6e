"""hashblock over ZMQ: every burst is one hint, whatever else the publisher sends or does; that there is
none is said in words."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from zmq.constants import PollEvent, SocketType
from zmq.sugar.context import Context

from pool.chain.zmq_watch import LOOK_S, ZmqUnusable, look_for_publisher, watch_hashblock
from tests.fixtures.held_ports import held_port

PATIENCE_S = 120.0  # a safety net for loaded machines


class Publisher:
    """bitcoind's side, which here says who subscribes (XPUB): who publishes before is not heard."""

    def __init__(self, url: str = "tcp://127.0.0.1:*") -> None:
        self._context: Any = Context()
        self.socket = self._context.socket(SocketType.XPUB)
        self.socket.bind(url)
        self.url = self.socket.last_endpoint.decode()

    async def subscribed(self) -> None:
        """Wait until somebody has."""
        with trio.fail_after(PATIENCE_S):
            while not self.socket.poll(0, PollEvent.POLLIN):
                await trio.lowlevel.wait_readable(self.socket.fileno())
        assert self.socket.recv() == b"\x01hashblock"

    def publish(self, topic: bytes = b"hashblock", body: bytes = bytes(32)) -> None:
        self.socket.send_multipart([topic, body, bytes(4)])

    def __enter__(self) -> "Publisher":
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)  # waits until the port is free again


class Hints:
    def __init__(self) -> None:
        self.count = 0
        self._heard = trio.Event()

    def take(self) -> None:
        self.count += 1
        self._heard.set()
        self._heard = trio.Event()

    async def more_than(self, count: int) -> None:
        """Wait for the next hint after `count` of them."""
        with trio.fail_after(PATIENCE_S):
            while self.count <= count:
                await self._heard.wait()

    async def quiet(self) -> None:
        """Wait until no more hints arrive for a while."""
        while True:
            heard = self._heard
            with trio.move_on_after(0.05):
                await heard.wait()
                continue
            return


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[Hints]:
    hints = Hints()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_hashblock, url, hints.take)
        yield hints
        nursery.cancel_scope.cancel()


async def test_each_notification_is_heard() -> None:
    with Publisher() as publisher:
        async with listening(publisher.url) as hints:
            await publisher.subscribed()
            for heard in range(5):
                publisher.publish()
                await hints.more_than(heard)
                assert hints.count == heard + 1


async def test_a_burst_is_drained_and_the_next_notification_is_heard_again() -> None:
    with Publisher() as publisher:
        async with listening(publisher.url) as hints:
            await publisher.subscribed()
            for _ in range(200):
                publisher.publish()
            await hints.more_than(0)
            await hints.quiet()
            burst = hints.count
            assert burst < 200
            publisher.publish()
            await hints.more_than(burst)


@pytest.mark.parametrize(("topic", "body"), [(b"hashtx", bytes(32)), (b"hashblocks", bytes(32))])
async def test_other_topics_are_no_hints(topic: bytes, body: bytes) -> None:
    with Publisher() as publisher:
        async with listening(publisher.url) as hints:
            await publisher.subscribed()
            publisher.publish(topic, body)
            await hints.quiet()
            assert hints.count == 0


async def test_a_publisher_that_is_restarted_is_heard_again() -> None:
    with held_port() as held:
        url = "tcp://{}:{}".format(*held.getsockname())
        async with listening(url) as hints:
            for heard in range(2):
                with Publisher(url) as publisher:
                    await publisher.subscribed()
                    publisher.publish()
                    await hints.more_than(heard)


async def test_what_is_no_address_is_refused_in_words() -> None:
    with pytest.raises(ZmqUnusable, match="Protocol not supported"):
        await watch_hashblock("nonsense://127.0.0.1", lambda: None)


OUT_OF_DESCRIPTORS = """
import os, resource, trio
from pool.chain.zmq_watch import NoDescriptor, watch_hashblock

async def with_some_left(some):
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    held = []
    try:
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        for _ in range(some):
            os.close(held.pop())
    try:
        await watch_hashblock("tcp://127.0.0.1:9", print)
    except NoDescriptor as error:
        print(some, error)
    finally:
        for it in held:
            os.close(it)

for some in range(8):
    trio.run(with_some_left, some)
"""


def test_however_few_descriptors_are_left_the_process_goes_on() -> None:
    """libzmq aborts where it gets some of those that it needs and not all."""
    ran = subprocess.run([sys.executable, "-c", OUT_OF_DESCRIPTORS], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [
        f"{some} no descriptor is left to subscribe: Too many open files" for some in range(8)
    ]


async def test_who_publishes_is_found() -> None:
    with Publisher() as publisher:
        await look_for_publisher(publisher.url)


async def test_where_nobody_listens_nothing_answers() -> None:
    with held_port() as held:
        url = "tcp://{}:{}".format(*held.getsockname())
        with pytest.raises(ZmqUnusable, match=f"^{url}: nothing answers$"):
            await look_for_publisher(url)
    with pytest.raises(ZmqUnusable, match="Protocol not supported"):
        await look_for_publisher("nonsense://127.0.0.1")


async def test_a_zmq_socket_that_only_answers_is_no_publisher() -> None:
    context: Any = Context()
    try:
        answers = context.socket(SocketType.REP)
        answers.bind("tcp://127.0.0.1:*")
        with pytest.raises(ZmqUnusable, match=r"what answers is no ZMQ publisher$"):
            await look_for_publisher(answers.last_endpoint.decode())
    finally:
        context.destroy(linger=0)


async def test_who_hangs_up_is_no_publisher() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    url = "tcp://{}:{}".format(*listener.socket.getsockname())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, trio.aclose_forcefully, [listener])
        with pytest.raises(ZmqUnusable, match=r"what answers is no ZMQ publisher$"):
            await look_for_publisher(url)
        nursery.cancel_scope.cancel()


async def test_who_says_nothing_is_waited_for_some_seconds(autojump_clock: object) -> None:
    (silent,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with silent:
        url = "tcp://{}:{}".format(*silent.socket.getsockname())
        with pytest.raises(ZmqUnusable, match=f", for {LOOK_S:g} s$"):
            await look_for_publisher(url)
