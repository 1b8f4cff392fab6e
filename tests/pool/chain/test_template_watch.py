"""The stream of templates: the first, new tips at once, refreshes, and through the faults of nodes."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import structlog
import trio
import trio.testing
import zmq.constants
from zmq.sugar.context import Context

from pool.chain.node_set import NodeSet
from pool.chain.nodes import LONGPOLL_TIMEOUT_S, NodeState
from pool.chain.template_watch import LONGPOLL_GAP_S, REFRESH_S, TemplateWatch
from pool.chain.templates import Template
from pool.chain.zmq_watch import NoDescriptor
from tests.fakes.bitcoinds import (
    FakeBitcoind,
    answers_503,
    closes_the_connection,
    never_answers,
    refuses_connections,
    truncates_json,
)

Clock = trio.testing.MockClock


class Watched:
    """A running watch and what it delivers."""

    def __init__(
        self, nodes: NodeSet, watch: TemplateWatch, receive: trio.MemoryReceiveChannel[Template]
    ) -> None:
        self.nodes = nodes
        self.watch = watch
        self.receive = receive

    async def next(self) -> tuple[int, str]:
        """Height of the tip that the next template is on, and the tip."""
        template = await self.receive.receive()
        return template.height - 1, template.prevhash_hex

    async def nothing_for(self, seconds: float) -> bool:
        with trio.move_on_after(seconds):
            await self.receive.receive()
            return False
        return True


@asynccontextmanager
async def watched(*fakes: FakeBitcoind) -> AsyncIterator[Watched]:
    transports = {fake.name: fake for fake in fakes}
    nodes = NodeSet(
        [fake.config for fake in fakes], chain="regtest", transport=lambda config: transports[config.name]
    )
    watch = TemplateWatch(nodes)
    send, receive = trio.open_memory_channel[Template](0)
    async with trio.open_nursery() as nursery:
        await nursery.start(nodes.run)
        nursery.start_soon(watch.run, send)
        yield Watched(nodes, watch, receive)
        nursery.cancel_scope.cancel()


async def test_the_first_template_comes_at_once(autojump_clock: Clock) -> None:
    fake = FakeBitcoind(height=100)
    async with watched(fake) as stream:
        assert stream.watch.tip_height == 0
        began_s = trio.current_time()
        assert await stream.next() == (100, fake.best)
        assert trio.current_time() == began_s
        assert stream.watch.tip_height == 100


async def test_a_new_tip_comes_by_longpoll_without_waiting_for_the_refresh(autojump_clock: Clock) -> None:
    fake = FakeBitcoind()
    async with watched(fake) as stream:
        await stream.next()
        for height in (101, 102, 103):
            await trio.sleep(5)
            assert fake.longpolls == 1
            fake.move_to(height)
            began_s = trio.current_time()
            assert await stream.next() == (height, fake.best)
            assert trio.current_time() == began_s


async def test_a_new_tip_is_delivered_once(autojump_clock: Clock) -> None:
    fake = FakeBitcoind()
    async with watched(fake) as stream:
        await stream.next()
        fake.move_to(101)
        assert await stream.next() == (101, fake.best)
        assert await stream.nothing_for(REFRESH_S - 1)


async def test_the_same_tip_is_refreshed_in_time_for_impatient_miners(autojump_clock: Clock) -> None:
    fake = FakeBitcoind()
    async with watched(fake) as stream:
        first = await stream.next()
        for _ in range(5):
            began_s = trio.current_time()
            assert await stream.next() == first
            assert trio.current_time() - began_s == pytest.approx(REFRESH_S)


async def test_the_refresh_finds_a_new_tip_on_a_node_without_longpolling(autojump_clock: Clock) -> None:
    fake = FakeBitcoind()
    fake.template_changes["longpollid"] = None
    async with watched(fake) as stream:
        await stream.next()
        fake.move_to(101)
        began_s = trio.current_time()
        assert await stream.next() == (101, fake.best)
        assert trio.current_time() - began_s <= REFRESH_S
        assert fake.longpolls == 0


async def test_a_quiet_chain_is_no_fault(autojump_clock: Clock) -> None:
    fake = FakeBitcoind()
    with structlog.testing.capture_logs() as logs:
        async with watched(fake) as stream:
            for _ in range(int(1.2 * LONGPOLL_TIMEOUT_S / REFRESH_S)):
                assert await stream.next() == (100, fake.best)
            fake.move_to(101)
            assert await stream.next() == (101, fake.best)
    assert "node_down" not in [entry["event"] for entry in logs]


async def test_a_node_that_answers_longpolls_at_once_does_not_keep_us_busy(autojump_clock: Clock) -> None:
    fake = FakeBitcoind()
    fake.template_changes["longpollid"] = "always another"
    async with watched(fake) as stream:
        await stream.next()
        asked = fake.methods().count("getblocktemplate")
        assert await stream.nothing_for(REFRESH_S - 1)
        assert fake.methods().count("getblocktemplate") - asked <= REFRESH_S / LONGPOLL_GAP_S + 10


async def test_a_reorganisation_to_the_same_height_is_a_new_tip(autojump_clock: Clock) -> None:
    fake = FakeBitcoind()
    async with watched(fake) as stream:
        before = await stream.next()
        fake.move_to(100, fork="rival")
        assert await stream.next() == (100, fake.best)
        assert before != (100, fake.best)


async def test_an_answer_that_was_overtaken_by_a_new_tip_is_not_delivered(autojump_clock: Clock) -> None:
    """The refresh's answer is on its way with the old tip while the longpoll brings the new one."""

    class NodeWhoseAnswerIsOvertaken(FakeBitcoind):
        async def _getblocktemplate(self, request: dict[str, Any]) -> dict[str, Any]:
            answer = await super()._getblocktemplate(request)
            if "longpollid" not in request and trio.current_time() - began_s >= REFRESH_S:
                await trio.sleep(2 if self.height == 100 else 0)
            return answer

    fake = NodeWhoseAnswerIsOvertaken(height=100)
    began_s = trio.current_time()
    async with watched(fake) as stream:
        assert await stream.next() == (100, fake.best)
        await trio.sleep(REFRESH_S + 1)  # the refresh is on its way
        fake.move_to(101)
        assert await stream.next() == (101, fake.best)
        assert await stream.next() == (101, fake.best)  # never 100 again
        assert trio.current_time() - began_s > 2 * REFRESH_S


@pytest.mark.parametrize(
    "fault", [refuses_connections, never_answers, closes_the_connection, answers_503, truncates_json]
)
async def test_when_the_node_fails_the_next_one_takes_over_and_later_gives_back(
    fault: Any, autojump_clock: Clock
) -> None:
    first, second = FakeBitcoind("first"), FakeBitcoind("second")
    second.move_to(100, "other")
    async with watched(first, second) as stream:
        assert await stream.next() == (100, first.best)
        first.fault = fault
        while (tip := await stream.next()) == (100, first.best):
            pass
        assert tip == (100, second.best)
        second.move_to(101, "other")
        assert await stream.next() == (101, second.best)
        first.move_to(101)
        first.fault = None
        while (tip := await stream.next()) == (101, second.best):
            pass
        assert tip == (101, first.best)
        first.move_to(102)
        assert await stream.next() == (102, first.best)


async def test_a_node_that_dies_in_a_longpoll_is_left_at_once(autojump_clock: Clock) -> None:
    first, second = FakeBitcoind("first"), FakeBitcoind("second")
    async with watched(first, second) as stream:
        assert await stream.next() == (100, first.best)
        await trio.sleep(1)
        began_s = trio.current_time()
        first.fault = closes_the_connection
        first.move_to(101)  # what ends the longpoll
        assert await stream.next() == (100, second.best)
        assert trio.current_time() == began_s
        assert stream.nodes.nodes[0].state is NodeState.DOWN


async def test_while_no_node_answers_nothing_is_delivered_and_then_it_goes_on(autojump_clock: Clock) -> None:
    fake = FakeBitcoind()
    async with watched(fake) as stream:
        await stream.next()
        fake.fault = refuses_connections
        fake.move_to(101)
        assert await stream.nothing_for(1000)
        assert stream.nodes.outage_since_s is not None
        fake.fault = None
        assert await stream.next() == (101, fake.best)
        assert stream.nodes.outage_since_s is None


async def test_a_bad_template_in_mid_stream_is_not_delivered(autojump_clock: Clock) -> None:
    first, second = FakeBitcoind("first"), FakeBitcoind("second", height=101)
    async with watched(first, second) as stream:
        await stream.next()
        first.template_changes["rules"] = ["!segwit", "!quantum"]
        first.move_to(101)
        assert await stream.next() == (101, second.best)
        assert "!quantum" in stream.nodes.nodes[0].reason


async def test_the_channel_is_closed_when_the_watch_ends(autojump_clock: Clock) -> None:
    fake = FakeBitcoind()
    async with watched(fake) as stream:
        await stream.next()
    with pytest.raises(trio.EndOfChannel):
        await stream.receive.receive()


async def test_a_hint_over_zmq_brings_the_new_tip_at_once() -> None:
    """The only template source of this node that is quicker than its refresh; real sockets, real time."""
    context: Any = Context()
    publisher = context.socket(zmq.constants.SocketType.PUB)
    port = publisher.bind_to_random_port("tcp://127.0.0.1")
    fake = FakeBitcoind()
    fake.template_changes["longpollid"] = None
    fake.config = msgspec.structs.replace(fake.config, zmq_hashblock=f"tcp://127.0.0.1:{port}")
    async with watched(fake) as stream:
        await stream.next()
        fake.move_to(101)
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:

                async def publish() -> None:
                    while True:  # until the subscription has arrived
                        publisher.send_multipart([b"hashblock", bytes(32), bytes(4)])
                        await trio.sleep(0.01)

                nursery.start_soon(publish)
                assert await stream.next() == (101, fake.best)
                nursery.cancel_scope.cancel()
    publisher.close(linger=0)
    context.term()


async def test_an_unusable_zmq_address_costs_nothing_but_a_log_line(autojump_clock: Clock) -> None:
    fake = FakeBitcoind()
    fake.config = msgspec.structs.replace(fake.config, zmq_hashblock="nonsense://127.0.0.1")
    with structlog.testing.capture_logs() as logs:
        async with watched(fake) as stream:
            await stream.next()
            fake.move_to(101)
            assert await stream.next() == (101, fake.best)
    assert [entry["event"] for entry in logs].count("zmq_unusable") == 1


async def test_where_no_descriptor_is_left_for_zmq_templates_come_and_it_is_tried_again(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []

    async def without_descriptors(url: str, on_hint: Callable[[], None]) -> None:
        tried.append(trio.current_time())
        if len(tried) <= 2:
            raise NoDescriptor("no descriptor is left")
        await trio.sleep_forever()

    monkeypatch.setattr("pool.chain.template_watch.watch_hashblock", without_descriptors)
    fake = FakeBitcoind()
    fake.config = msgspec.structs.replace(fake.config, zmq_hashblock="tcp://127.0.0.1:9")
    begun_s = trio.current_time()
    async with watched(fake) as stream:
        await stream.next()
        fake.move_to(101)
        assert await stream.next() == (101, fake.best)
        with trio.move_on_after(300):
            while True:
                await stream.next()
    assert [round(it - begun_s) for it in tried] == [0, 30, 60]
