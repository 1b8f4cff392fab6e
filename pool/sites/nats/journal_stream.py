"""The journals that edges publish, out of JetStream: to whoever puts them in order.

The stream is a pipe and no store: what is in it may go at any moment, whole or in part, and is published
again. It is made where it is not there, and so is its consumer. A message is acknowledged to JetStream
when it was taken; one that was not comes again, DELIVERIES_MAX times, and then is what the hub asks the
edge for. One that cannot be taken yet is waited with, and all behind it stay where they are.

When a message was stored says JetStream, and nobody else. One that was stored while we did not listen is
handed on without: whoever published it was alone then, for nobody was here to tell it anything, and may be
alone now.

Each edge has a consumer of its own, of which the next messages are asked for when those before are taken: so
they come in their order, and one whose journal is slow to take, or that publishes without end, holds up no
other. MESSAGES_PER_S of one are taken.

Invariants: whose a message is comes from its subject alone, which nobody else can publish to; nothing in
it, or in what JetStream says, raises here. Must not know: what frames say, and where they go.
"""

import contextlib
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
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

BEFORE: Final = "hub"  # versions of before had one consumer for all edges
STREAM_BYTES_MAX: Final = 16 << 30  # an hour of a million machines; what is older is asked for at the edges
STREAM_AGE_S: Final = 24 * 3600
EDGE_MESSAGES_MAX: Final = (
    4_096  # an hour of an edge, a message a second; or 2 GiB of one that sends without end
)
REPLICAS: Final = (1, 3)
API_S: Final = 10.0
PULL: Final = 4  # messages asked for at once
PULL_S: Final = 5.0  # then it is asked anew
PULL_LATE_S: Final = 5.0  # JetStream says when a pull is over; where it does not, it is looked after
MESSAGES_PER_S: Final = 50.0  # of an edge: it publishes one a second, and eight where it catches up
ACK_WAIT_S: Final = 20.0  # for so long nothing new comes where a hub was killed that had some
DELIVERIES_MAX: Final = 15
AGAIN_S: Final = 2.0
# A consumer that is not there yet begins so far back: what is older another one had, or the edge is asked.
# And it goes when nobody has used it for so long.
BEGINS_S: Final = 600.0
UNUSED_S: Final = 30 * 86_400
INFLOW_MESSAGES_MAX: Final = 4 * PULL
INFLOW_BYTES_MAX: Final = 64 << 20
NANOSECONDS_DIGITS: Final = 19  # until the year 2262
ACK: Final = f"$JS.ACK.{subjects.JOURNAL_STREAM}."
_API: Final = "$JS.API"
_NO_STREAM: Final = 10059
_NO_CONSUMER: Final = 10014
_DECODER: Final = msgspec.msgpack.Decoder(Published)

# An edge's name, its epoch, frames, and when they were stored; None: before we listened, or that is not said.
# Raises TakenLater.
Take = Callable[[str, int, bytes, float | None], Awaitable[None]]


class TakenLater(Exception):
    """By whoever takes: what it is given has no place now, and may have one later."""


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
        self._wall_clock = wall_clock
        self._making, self._made = trio.Lock(), 0  # by which connection the stream was made, or found
        self.there = trio.Event()  # a consumer was made, or found
        self.error = ""  # why nothing comes now, for the page

    async def follow(self, edge: str) -> None:
        """Its journal, until cancelled."""
        inbox = f"{subjects.inbox_of(subjects.HUB)}.pull.{edge}"
        async with self._connection.subscribed(
            f"{inbox}.*", messages_max=INFLOW_MESSAGES_MAX, bytes_max=INFLOW_BYTES_MAX
        ) as messages:
            while True:
                number = await self._connection.connected()
                try:
                    await self._make(number)
                    await self._make_consumer(edge)
                    since_s = self._wall_clock()
                    self.there.set()
                    self.error = ""
                    async with self._connection.while_it_is(number):
                        while True:
                            await self._pull(edge, inbox, messages, since_s)
                except NatsAway as error:
                    self._made = 0
                    if self.error != str(error):
                        log.warning("journal_stream_away", edge=edge, reason=str(error))
                    self.error = str(error)
                    await trio.sleep(AGAIN_S)

    async def _make(self, connection: int) -> None:
        """The stream, as it should be: once for all edges. Raises NatsAway."""
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
        async with self._making:
            if self._made == connection:
                return
            try:  # first: CREATE makes sure that there is room for another one, also where it is there
                await self._ask(f"STREAM.UPDATE.{subjects.JOURNAL_STREAM}", stream)
            except _Refused as refused:
                if refused.code != _NO_STREAM:
                    raise
                await self._ask(f"STREAM.CREATE.{subjects.JOURNAL_STREAM}", stream)
            with contextlib.suppress(_Refused):
                await self._ask(f"CONSUMER.DELETE.{subjects.JOURNAL_STREAM}.{BEFORE}", {})
            self._made = connection

    async def _make_consumer(self, edge: str) -> None:
        """Raises NatsAway."""
        try:
            await self._ask(f"CONSUMER.INFO.{_consumer(edge)}", {})
        except _Refused as refused:
            if refused.code != _NO_CONSUMER:
                raise
            begins = datetime.fromtimestamp(self._wall_clock() - BEGINS_S, UTC)
            name = _consumer(edge).partition(".")[2]
            consumer = {
                "name": name,
                "durable_name": name,
                "filter_subject": subjects.journal_of(edge),
                "deliver_policy": "by_start_time",
                "opt_start_time": begins.isoformat(),
                "ack_policy": "explicit",
                "ack_wait": int(ACK_WAIT_S) * 10**9,
                "max_deliver": DELIVERIES_MAX,
                "max_ack_pending": PULL,
                "inactive_threshold": UNUSED_S * 10**9,
            }
            asked = {"stream_name": subjects.JOURNAL_STREAM, "config": consumer}
            await self._ask(f"CONSUMER.CREATE.{_consumer(edge)}", asked)

    async def _ask(self, method: str, content: dict[str, Any]) -> None:
        """Raises NatsAway."""
        said = await self._replies.request(f"{_API}.{method}", json.dumps(content).encode(), within_s=API_S)
        try:
            error = _SAID.decode(said.data).error
        except NOT_READ:
            raise NatsAway("what JetStream says is no answer") from None
        if error is not None:
            raise _Refused(error.err_code, f"JetStream: {error.description[:200]}")

    async def _pull(self, edge: str, inbox: str, messages: Subscribed, since_s: float) -> None:
        """Some messages, or none for a while. Raises NatsAway where there is nobody to ask."""
        place = f"{inbox}.{secrets.token_hex(16)}"
        asked = {"batch": PULL, "expires": int(PULL_S * 10**9)}
        await self._connection.publish(
            f"{_API}.CONSUMER.MSG.NEXT.{_consumer(edge)}", json.dumps(asked).encode(), reply=place
        )
        left = PULL
        while left:
            with trio.move_on_after(PULL_S + PULL_LATE_S) as bound:
                message = await messages.next()
            if bound.cancelled_caught:
                raise NatsAway("JetStream does not answer")
            if message.reply.startswith(ACK):
                left -= 1
                await self._hand_on(edge, message, since_s)
            elif message.subject == place and message.status == "408":
                return  # this pull is over
            elif message.subject == place and message.status != "100":
                raise NatsAway(f"JetStream does not deliver the journals ({message.status or 'no status'})")

    async def _hand_on(self, edge: str, message: Message, since_s: float) -> None:
        """What is not taken comes again. It listens since then."""
        if message.subject != subjects.journal_of(edge):
            return
        try:
            published = _DECODER.decode(message.data)
        except NOT_READ as error:
            log.warning("journal_message_refused", edge=edge, reason=str(error))
        else:
            at_s = _stored_at_s(message.reply)
            try:
                await self._until_taken(edge, published, None if at_s is None or at_s < since_s else at_s)
            except Exception:
                log.error("journal_message_failed", edge=edge, exc_info=True)
                return
        await self._acknowledge(message)
        await trio.sleep(1 / MESSAGES_PER_S)

    async def _until_taken(self, edge: str, published: Published, at_s: float | None) -> None:
        while True:
            try:
                return await self._take(edge, published.epoch, published.frames, at_s)
            except TakenLater:
                await trio.sleep(AGAIN_S)

    async def _acknowledge(self, message: Message) -> None:
        """To JetStream, which sends it again where that is lost."""
        with contextlib.suppress(NatsAway):
            await self._connection.publish(message.reply, b"+ACK")


def _consumer(edge: str) -> str:
    """By its stream."""
    return f"{subjects.JOURNAL_STREAM}.hub-{edge}"


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
