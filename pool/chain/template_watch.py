"""A stream of templates from the node that we mine on: one now, one for each new tip, one every 30 s.

Three sources, each enough by itself: a longpoll whose answer is the new template, ZMQ hashblock hints where
the node is configured for them, and the refresh. When a node fails, the set of nodes chooses another, and
the stream goes on from there.

Invariants: a new tip is delivered the moment it is known, once; an answer that was overtaken by a newer one
is never delivered; while no node is up nothing is delivered.

Must not know: jobs, sessions, which node is better.
"""

import contextlib
from typing import Final

import structlog
import trio

from pool.chain.node_set import NodeSet
from pool.chain.nodes import Node
from pool.chain.rpc import NodeError, NodeTimedOut
from pool.chain.templates import Template
from pool.chain.zmq_watch import NoDescriptor, ZmqUnusable, watch_hashblock

log = structlog.get_logger()

# Some miners give up on a pool that sends no job for 30 s, most after 60 s; and fees grow meanwhile.
REFRESH_S: Final = 30.0
# A node that answers longpolls at once with nothing new must not keep us busy.
LONGPOLL_GAP_S: Final = 1.0
SUBSCRIBE_AGAIN_S: Final = 30.0  # where no descriptor was left for it


class TemplateWatch:
    """Delivers templates to one channel, through outages and changes of the node."""

    def __init__(self, nodes: NodeSet, *, refresh_s: float = REFRESH_S) -> None:
        self.tip: Template | None = None  # the last template that was delivered
        self.delivered_s: float | None = None  # when, monotonic
        self._nodes = nodes
        self._refresh_s = refresh_s
        self._refresh_due_s = 0.0
        self._deliveries = 0

    @property
    def tip_height(self) -> int:
        """The height of the best block that we know of; 0 before the first template."""
        return 0 if self.tip is None else self.tip.height - 1

    async def run(self, send: trio.MemorySendChannel[Template]) -> None:
        """Deliver until cancelled; then `send` is closed. The set of nodes must be running."""
        async with send:
            while True:
                node = await self._nodes.chosen()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._follow, node, send)
                    await self._nodes.until_left(node)
                    nursery.cancel_scope.cancel()

    async def _follow(self, node: Node, send: trio.MemorySendChannel[Template]) -> None:
        """Deliver from one node until it fails; then it is down, and somebody else is chosen."""
        try:
            first = await self._ask(node)
        except NodeError as error:
            self._nodes.mark_down(node, error)
            return
        await self._deliver(node, first, send, anyway=True)
        hint, hints = trio.open_memory_channel[None](1)  # one that waits says as much as many
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._refresh, node, hints, send)
            if first.longpoll_id:
                nursery.start_soon(self._longpoll, node, first.longpoll_id, send)
            if node.config.zmq_hashblock is not None:
                nursery.start_soon(self._listen, node, node.config.zmq_hashblock, hint)

    async def _refresh(
        self, node: Node, hints: trio.MemoryReceiveChannel[None], send: trio.MemorySendChannel[Template]
    ) -> None:
        try:
            while True:
                with trio.move_on_at(self._refresh_due_s):
                    await hints.receive()
                await self._deliver(node, await self._ask(node), send)
        except NodeError as error:
            self._nodes.mark_down(node, error)

    async def _longpoll(self, node: Node, longpoll_id: str, send: trio.MemorySendChannel[Template]) -> None:
        try:
            while True:
                asked_s = trio.current_time()
                try:
                    template = await self._ask(node, longpoll_id)
                except NodeTimedOut:
                    continue  # a quiet chain; the refresh notices a node that is gone
                longpoll_id = template.longpoll_id
                news = await self._deliver(node, template, send)
                if not news and trio.current_time() - asked_s < LONGPOLL_GAP_S:
                    await trio.sleep(LONGPOLL_GAP_S)
        except NodeError as error:
            self._nodes.mark_down(node, error)

    async def _listen(self, node: Node, url: str, hint: trio.MemorySendChannel[None]) -> None:
        def on_hint() -> None:
            with contextlib.suppress(trio.WouldBlock):
                hint.send_nowait(None)

        while True:
            try:
                await watch_hashblock(url, on_hint)
            except NoDescriptor as error:
                log.error("zmq_unusable", node=node.name, reason=str(error), again_in_s=SUBSCRIBE_AGAIN_S)
                await trio.sleep(SUBSCRIBE_AGAIN_S)
            except ZmqUnusable as error:
                log.error("zmq_unusable", node=node.name, reason=str(error))
                return

    async def _ask(self, node: Node, longpoll_id: str | None = None) -> Template:
        """A template that is certainly not older than what was delivered while we waited for it."""
        while True:
            deliveries = self._deliveries
            template = await node.template(chain=self._nodes.chain, longpoll_id=longpoll_id)
            tip = self.tip
            if (
                deliveries == self._deliveries
                or tip is None
                or template.height > tip.height
                or template.prevhash_internal == tip.prevhash_internal
            ):
                return template
            longpoll_id = None  # another answer overtook this one: ask for the present

    async def _deliver(
        self, node: Node, template: Template, send: trio.MemorySendChannel[Template], *, anyway: bool = False
    ) -> bool:
        """Send a template that is news, or due. Returns whether its tip is new."""
        now_s = trio.current_time()
        news = self.tip is None or template.prevhash_internal != self.tip.prevhash_internal
        if not news and not anyway and now_s < self._refresh_due_s:
            return False
        self.tip, self.delivered_s = template, now_s
        self._deliveries += 1
        self._refresh_due_s = now_s + self._refresh_s
        if news:
            log.info("new_tip", node=node.name, height=template.height - 1, hash=template.prevhash_hex)
        await send.send(template)
        return news
