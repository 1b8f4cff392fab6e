"""NATS as tasks of Trio use it: publish, and read what comes, over whichever connection there is now.

Who publishes while there is none is told so at once (NatsAway); what is subscribed to stays so over all
connections. What NATS is given may be lost, so whoever needs to know asks for an answer. Nothing that a
server does raises here but that.

Invariants: at most PUBLISHING_MAX messages are on their way to a server; what was not taken by one in
PUBLISH_S, and for as long as its bytes need, is given up. Must not know: what is said.
"""

import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
import trio

from pool.sites.nats.client import Access, Client, ConnectionState, Inflow, Message, NatsAway

log = structlog.get_logger()

PUBLISH_S: Final = 10.0
THIN_BYTES_S: Final = 64 << 10  # half a line of a megabit: what is long has time for that
PUBLISHING_MAX: Final = 16  # 128 MiB of the largest
CLOSE_S: Final = 5.0  # the thread needs one to drop what does not answer
# That wait to be read, of one subscription.
WAITING_MESSAGES_MAX: Final = 1_000
WAITING_BYTES_MAX: Final = 32 << 20


class Subscribed:
    """Messages of a subject, as they come. One task reads them."""

    def __init__(
        self,
        subject: str,
        messages_max: int,
        bytes_max: int,
        token: trio.lowlevel.TrioToken,
        *,
        bounded: bool = False,
    ) -> None:
        self._there = trio.Event()
        self._token = token
        self.inflow = Inflow(subject, messages_max, bytes_max, self._arrived, bounded=bounded)

    def _arrived(self) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._wake, idempotent=True)

    def _wake(self) -> None:
        self._there.set()

    async def next(self) -> Message:
        """Whoever is cancelled has taken nothing."""
        await trio.lowlevel.checkpoint()
        while True:
            if (message := self.inflow.take()) is not None:
                return message
            self._there = trio.Event()
            if (message := self.inflow.take()) is not None:
                return message
            await self._there.wait()


class Connection:
    """`run` is a task; before it and behind it there is no server. Raises BadConfig."""

    def __init__(self, access: Access) -> None:
        self._client = Client(access, self._changed)
        self._token: trio.lowlevel.TrioToken | None = None
        self._room = trio.CapacityLimiter(PUBLISHING_MAX)
        self._news = trio.Event()

    @property
    def state(self) -> ConnectionState:
        """As of now."""
        return self._client.state

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; it has begun before a server is connected. Once."""
        self._token = trio.lowlevel.current_trio_token()
        thread = threading.Thread(target=self._client.run, name="nats", daemon=True)
        thread.start()
        try:
            task_status.started()
            await trio.sleep_forever()
        finally:
            self._token = None
            self._client.close()
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(thread.join, CLOSE_S)
            if thread.is_alive():
                log.error("nats_thread_does_not_end", after_s=CLOSE_S)

    async def changed(self) -> ConnectionState:
        """Wait for another state."""
        await self._news.wait()
        return self.state

    async def connected(self, connections: int = 0) -> int:
        """Wait until there is a server, by another connection than that one; its number."""
        while not (self.state.connected and self.state.connections != connections):
            await self.changed()
        return self.state.connections

    @asynccontextmanager
    async def while_it_is(self, connections: int) -> AsyncIterator[None]:
        """The block is left when that connection is lost."""
        failed: Exception | None = None
        async with trio.open_nursery() as nursery:

            async def lost() -> None:
                while self.state.connected and self.state.connections == connections:
                    await self.changed()
                nursery.cancel_scope.cancel()

            nursery.start_soon(lost)
            try:
                yield
            except Exception as error:
                failed = error
            nursery.cancel_scope.cancel()
        if failed is not None:
            raise failed

    async def publish(self, subject: str, data: bytes, *, reply: str = "") -> None:
        """Raises NatsAway: then nobody will have it, or nobody knows."""
        with trio.move_on_after(PUBLISH_S + len(data) / THIN_BYTES_S):
            async with self._room:
                return await self._in_loop(lambda: self._client.publish(subject, data, reply))
        raise NatsAway(f"the server does not take what is published to {subject}")

    async def flushed(self) -> None:
        """Wait until the server has read all that was published. Raises NatsAway."""
        await self._in_loop(self._client.flush)

    @asynccontextmanager
    async def subscribed(
        self,
        subject: str,
        *,
        messages_max: int = WAITING_MESSAGES_MAX,
        bytes_max: int = WAITING_BYTES_MAX,
        bounded: bool = False,
    ) -> AsyncIterator[Subscribed]:
        """Over all connections, while the block lasts. `bounded`: whoever speaks there may be captured."""
        token = trio.lowlevel.current_trio_token()
        it = Subscribed(subject, messages_max, bytes_max, token, bounded=bounded)
        self._client.listen(it.inflow)
        try:
            with contextlib.suppress(
                NatsAway
            ):  # a server that is connected later knows it from the beginning
                await self._in_loop(self._client.flush)
            yield it
        finally:
            self._client.listen_no_more(it.inflow)

    async def _in_loop(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Whoever is cancelled waits for nothing. Raises NatsAway."""
        token, done, failed = self._token, trio.Event(), list[NatsAway]()
        if token is None:
            raise NatsAway("NATS is not used now")

        def over(error: NatsAway | None) -> None:
            if error is not None:
                failed.append(error)
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(done.set)

        try:
            give_up = self._client.start(work, over)
        except RuntimeError:
            raise NatsAway("NATS is not used now") from None
        try:
            await done.wait()
        except trio.Cancelled:
            give_up()
            raise
        if failed:
            raise failed[0]

    def _changed(self) -> None:
        if (token := self._token) is not None:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(self._tell)

    def _tell(self) -> None:
        news, self._news = self._news, trio.Event()
        news.set()
