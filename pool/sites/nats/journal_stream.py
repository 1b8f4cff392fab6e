"""The journals that edges publish, out of JetStream: to whoever puts them in order.

The stream is a pipe and no store: what is in it may go at any moment, whole or in part, and is published
again. It is made where it is not there, and so is its consumer. A message is acknowledged to JetStream
when it was taken; one that was not comes again, DELIVERIES_MAX times, and then is what the hub asks the
edge for.

When a message was stored says JetStream, and nobody else. One that was stored while we did not listen is
handed on without: whoever published it was alone then, for nobody was here to tell it anything, and may be
alone now.

Each edge has a queue of its own, of WAITING_MAX messages: one whose journal is slow to take, or that
publishes without end, holds up no other. What does not fit comes again.

Invariants: whose a message is comes from its subject alone, which nobody else can publish to; nothing in
it, or in what JetStream says, raises here. Must not know: what frames say, and where they go.
"""

import contextlib
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import structlog
import trio

from pool.sites.nats import subjects
from pool.sites.nats.client import Message, NatsAway
from pool.sites.nats.connection import Connection, Subscribed
from pool.sites.nats.publisher import Published
from pool.sites.nats.replies import Replies
from pool.sites.nats.server_settings import PAYLOAD_BYTES_MAX
from stratum.unreadable import NOT_READ

log = structlog.get_logger()

CONSUMER: Final = "hub"
STREAM_BYTES_MAX: Final = 16 << 30  # an hour of a million machines; what is older is asked for at the edges
STREAM_AGE_S: Final = 24 * 3600
EDGE_MESSAGES_MAX: Final = (
    4_096  # an hour of an edge, a message a second; or 2 GiB of one that sends without end
)
REPLICAS: Final = (1, 3)
API_S: Final = 10.0
PULL: Final = 16  # messages asked for at once
PULL_S: Final = 5.0  # then it is asked anew
PULL_LATE_S: Final = 5.0  # JetStream says when a pull is over; where it does not, it is looked after
WAITING_MAX: Final = 4  # of an edge
EDGES_MAX: Final = 256
ACK_WAIT_S: Final = 60.0
DELIVERIES_MAX: Final = 5
AGAIN_S: Final = 2.0
INFLOW_MESSAGES_MAX: Final = 4 * PULL
INFLOW_BYTES_MAX: Final = 64 << 20
NANOSECONDS_DIGITS: Final = 19  # until the year 2262
ACK: Final = f"$JS.ACK.{subjects.JOURNAL_STREAM}."
_API: Final = "$JS.API"
_NAMES: Final = f"{subjects.JOURNAL_STREAM}.{CONSUMER}"
_NOT_FOUND: Final = 10059
_DECODER: Final = msgspec.msgpack.Decoder(Published)

# An edge's name, its epoch, frames, and when they were stored; None: before we listened, or that is not said.
Take = Callable[[str, int, bytes, float | None], Awaitable[None]]
_Waiting = tuple[Message, Published, float | None]


class _Error(msgspec.Struct, frozen=True):
    """Of JetStream: a number of its own, and words."""

    err_code: int
    description: str


class _Said(msgspec.Struct, frozen=True):
    error: _Error | None = None


_SAID: Final = msgspec.json.Decoder(_Said)


class JournalStream:
    """Of a hub; `servers` is how many there are. `replies` are those of its own inbox."""

    def __init__(
        self,
        connection: Connection,
        replies: Replies,
        take: Take,
        *,
        servers: int,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._connection, self._replies, self._take = connection, replies, take
        self._replicas = REPLICAS[1] if servers >= REPLICAS[1] else REPLICAS[0]
        self._queues: dict[str, trio.MemorySendChannel[_Waiting]] = {}
        self._wall_clock, self._listens_since_s = wall_clock, 0.0
        self.there = trio.Event()  # it was made, or found
        self.error = ""  # why nothing comes now, for the page

    async def run(self) -> None:
        """Until cancelled."""
        inbox = f"{subjects.inbox_of(subjects.HUB)}.pull"
        async with (
            self._connection.subscribed(
                f"{inbox}.*", messages_max=INFLOW_MESSAGES_MAX, bytes_max=INFLOW_BYTES_MAX
            ) as messages,
            trio.open_nursery() as nursery,
        ):
            while True:
                number = await self._connection.connected()
                try:
                    await self._make()
                    self._listens_since_s = self._wall_clock()
                    self.there.set()
                    self.error = ""
                    async with self._connection.while_it_is(number):
                        while True:
                            await self._pull(inbox, messages, nursery)
                except NatsAway as error:
                    if self.error != str(error):
                        log.warning("journal_stream_away", reason=str(error))
                    self.error = str(error)
                    await trio.sleep(AGAIN_S)

    async def _make(self) -> None:
        """Stream and consumer, as they should be. Raises NatsAway."""
        stream = {
            "name": subjects.JOURNAL_STREAM,
            "subjects": [subjects.journal_of("*")],
            "retention": "limits",
            "discard": "old",
            "storage": "file",
            "max_bytes": STREAM_BYTES_MAX,
            "max_age": STREAM_AGE_S * 10**9,
            "max_msg_size": PAYLOAD_BYTES_MAX,
            "max_msgs_per_subject": EDGE_MESSAGES_MAX,
            "num_replicas": self._replicas,
            "deny_delete": True,
            "deny_purge": True,
            "allow_rollup_hdrs": False,
            "no_ack": True,  # pool.sites.nats.publisher
        }
        try:  # first: CREATE makes sure that there is room for another one, also where it is there
            await self._ask(f"STREAM.UPDATE.{subjects.JOURNAL_STREAM}", stream)
        except _Refused as refused:
            if refused.code != _NOT_FOUND:
                raise
            await self._ask(f"STREAM.CREATE.{subjects.JOURNAL_STREAM}", stream)
        consumer = {
            "name": CONSUMER,
            "durable_name": CONSUMER,
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": int(ACK_WAIT_S) * 10**9,
            "max_deliver": DELIVERIES_MAX,
            "max_ack_pending": EDGES_MAX * WAITING_MAX,
        }
        asked = {"stream_name": subjects.JOURNAL_STREAM, "config": consumer}
        await self._ask(f"CONSUMER.CREATE.{_NAMES}", asked)

    async def _ask(self, method: str, content: dict[str, Any]) -> None:
        """Raises NatsAway."""
        said = await self._replies.request(f"{_API}.{method}", json.dumps(content).encode(), within_s=API_S)
        try:
            error = _SAID.decode(said.data).error
        except NOT_READ:
            raise NatsAway("what JetStream says is no answer") from None
        if error is not None:
            raise _Refused(error.err_code, f"JetStream: {error.description[:200]}")

    async def _pull(self, inbox: str, messages: Subscribed, nursery: trio.Nursery) -> None:
        """Some messages, or none for a while. Raises NatsAway where there is nobody to ask."""
        place = f"{inbox}.{secrets.token_hex(16)}"
        asked = {"batch": PULL, "expires": int(PULL_S * 10**9)}
        await self._connection.publish(
            f"{_API}.CONSUMER.MSG.NEXT.{_NAMES}", json.dumps(asked).encode(), reply=place
        )
        left = PULL
        with trio.move_on_after(PULL_S + PULL_LATE_S) as bound:
            while left:
                message = await messages.next()
                if message.reply.startswith(ACK):
                    left -= 1
                    await self._hand_on(message, nursery)
                elif message.subject == place and message.status == "408":
                    return  # this pull is over
                elif message.subject == place and message.status != "100":
                    raise NatsAway(
                        f"JetStream does not deliver the journals ({message.status or 'no status'})"
                    )
        if bound.cancelled_caught:
            raise NatsAway("JetStream does not answer")

    async def _hand_on(self, message: Message, nursery: trio.Nursery) -> None:
        """To the queue of its edge; what finds no room comes again."""
        found = subjects.parts(message.subject, "angara.journal")
        if found is None or len(found) != 1:
            return
        (edge,) = found
        try:
            published = _DECODER.decode(message.data)
        except NOT_READ as error:
            log.warning("journal_message_refused", edge=edge, reason=str(error))
            await self._acknowledge(message)
            return
        if edge not in self._queues:
            if len(self._queues) >= EDGES_MAX:
                return
            self._queues[edge], queue = trio.open_memory_channel[_Waiting](WAITING_MAX)
            nursery.start_soon(self._work, edge, queue)
        at_s = _stored_at_s(message.reply)
        if at_s is not None and at_s < self._listens_since_s:
            at_s = None
        try:
            self._queues[edge].send_nowait((message, published, at_s))
        except trio.WouldBlock:
            log.info("journal_message_put_off", edge=edge)

    async def _work(self, edge: str, queue: trio.MemoryReceiveChannel[_Waiting]) -> None:
        async for message, published, at_s in queue:
            try:
                await self._take(edge, published.epoch, published.frames, at_s)
            except Exception:
                log.error("journal_message_failed", edge=edge, exc_info=True)
                continue  # it comes again
            await self._acknowledge(message)

    async def _acknowledge(self, message: Message) -> None:
        """To JetStream, which sends it again where that is lost."""
        with contextlib.suppress(NatsAway):
            await self._connection.publish(message.reply, b"+ACK")


def _stored_at_s(reply: str) -> float | None:
    """By where JetStream has it acknowledged: behind ACK are the consumer, how often it was delivered, two
    numbers of it, the moment in nanoseconds, and how many wait."""
    parts = reply.split(".")
    if len(parts) != 9 or not parts[7].isdecimal() or len(parts[7]) > NANOSECONDS_DIGITS:
        return None
    return int(parts[7]) / 10**9


class _Refused(NatsAway):
    """By JetStream, with the number that it gives an error."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code
