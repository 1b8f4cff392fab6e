"""Questions and answers between the hub and one edge, over NATS: as of pool.link, and each may be lost.

Both ends say which hub they mean, by the epoch of its lease. An edge believes no hub of before one that
it has heard of, and a hub that an edge has heard of a later one answers nothing: somebody else keeps the
books.

A question says where it wants its answer. It gets one nowhere but where its edge may be answered, else
whoever asks would speak with the rights of who answers.

Invariants: a question is answered once, however often it comes; ANSWERING_MAX are at once, and
QUESTIONS_PER_S in the long run: more are not read. A question waits ANSWER_S at most, and a long one for as
long as it is read besides. Nothing that the other end sends raises here, or fills a log.
Must not know: what is asked.
"""

import contextlib
import secrets
from typing import Any, Final

import msgspec
import structlog
import trio

from pool.questions import WORDS_CHARS_MAX, AnsweredWithError, Answering, Refusal
from pool.sites.allowance import Allowance
from pool.sites.nats import subjects
from pool.sites.nats.client import Message, NatsAway
from pool.sites.nats.connection import THIN_BYTES_S, Connection
from pool.sites.nats.contents import CHUNK_BYTES, CONTENT_BYTES_MAX, KEPT_S, Kept, Shelf, read_in_chunks
from pool.sites.nats.replies import Replies
from stratum.unreadable import NOT_READ

log = structlog.get_logger()

ANSWER_S: Final = 30.0  # the books are given 20 before they are said to be away
CHUNK_S: Final = 20.0  # a quarter of a megabyte, four of them at once, over a line of a megabit
QUESTION_BYTES_MAX: Final = 65 << 20  # of an edge's: one record of a journal, of 64 MiB
ANSWERING_MAX: Final = 32
QUESTIONS_PER_S: Final = 100.0  # an edge asks some a minute; chunks of what it reads are the most
BURST: Final = 400.0
WAITING_MESSAGES_MAX: Final = 400
WAITING_BYTES_MAX: Final = 8 << 20  # of questions; chunks come as answers
# A question comes twice while its subject is subscribed to anew (pool.sites.nats.client), and whoever is let
# begin twice is refused with the first answer.
REMEMBERED_MAX: Final = WAITING_MESSAGES_MAX
# In the log, of what cannot be answered: whoever asks such things without end would fill a disk, 100 lines a
# second of which some have a traceback.
LINES: Final = 100
LINE_EACH_S: Final = 10.0
CHUNK: Final = "chunk"
EPOCH_MAX: Final = 1 << 62
AWAY: Final = ""  # kind of a refusal: whoever was asked could not even be asked


class HubEpoch(msgspec.Struct):
    """Of the hub that this end believes in: its own lease's, or the latest that an edge has heard of."""

    number: int = 0


class _Question(msgspec.Struct, frozen=True, array_like=True):
    epoch: int
    content: bytes | None
    kept: Kept | None = None


class _Answer(msgspec.Struct, frozen=True, array_like=True):
    epoch: int
    content: bytes | None
    kept: Kept | None = None
    refusal: Refusal | None = None


class _WantedChunk(msgspec.Struct, frozen=True, array_like=True):
    token: str
    index: int


_ENCODER: Final = msgspec.msgpack.Encoder()
_QUESTIONS: Final = msgspec.msgpack.Decoder(_Question)
_ANSWERS: Final = msgspec.msgpack.Decoder(_Answer)
_WANTED: Final = msgspec.msgpack.Decoder(_WantedChunk)


class Line:
    """One end. `away` is what is raised where there is no answer; `errors` are as Answering has them."""

    def __init__(
        self,
        connection: Connection,
        edge: str,
        replies: Replies,
        *,
        at_hub: bool,
        epoch: HubEpoch,
        shelf: Shelf,
        errors: tuple[type[Exception], ...],
        away: type[Exception],
    ) -> None:
        self._connection, self._replies, self._shelf, self._away = connection, replies, shelf, away
        self.edge, self._at_hub = edge, at_hub
        self._epoch = epoch
        self._subject = subjects.of_edge if at_hub else subjects.of_hub
        self._asked_at = (subjects.of_hub if at_hub else subjects.of_edge)(edge, "*")
        self._answered_at = subjects.inbox_of(edge) if at_hub else subjects.answers_of(edge)
        self._question_bytes_max = QUESTION_BYTES_MAX if at_hub else CONTENT_BYTES_MAX
        self._answering = Answering(errors, self._failed)
        self._lines = Allowance(LINES, LINE_EACH_S)
        self._room = trio.CapacityLimiter(ANSWERING_MAX)
        self._reading = trio.CapacityLimiter(1)  # who does not give what he offers has not both

    def answer(self, protocol: type[Any], by: object) -> None:
        """Have the methods of a protocol answered from here on."""
        self._answering.answer(protocol, by)

    async def ask(self, method: str, content: bytes) -> bytes:
        """Raises AnsweredWithError and `away`, and an edge what `errors` are."""
        try:
            answer = await self._asked(method, content)
            if answer.refusal is not None and answer.refusal.kind == AWAY:
                raise NatsAway(answer.refusal.words)
            if answer.refusal is not None and self._at_hub:  # an edge chooses no exception of the hub's
                raise AnsweredWithError(answer.refusal.words)
            if answer.refusal is not None:
                raise self._answering.raised(answer.refusal)
            return await self._content(answer.content, answer.kept, CONTENT_BYTES_MAX)
        except NatsAway as error:
            raise self._away(str(error)) from None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer until cancelled. `replies` and the connection run beside it."""
        allowance, since_s = BURST, trio.current_time()
        heard: dict[tuple[str, str], None] = {}
        async with (
            self._connection.subscribed(
                self._asked_at,
                messages_max=WAITING_MESSAGES_MAX,
                bytes_max=WAITING_BYTES_MAX,
                bounded=self._at_hub,
            ) as messages,
            trio.open_nursery() as nursery,
        ):
            task_status.started()
            while True:
                message = await messages.next()
                if (question := (message.subject, message.reply)) in heard:
                    continue
                heard[question] = None
                if len(heard) > REMEMBERED_MAX:
                    del heard[next(iter(heard))]
                now_s = trio.current_time()
                allowance = min(BURST, allowance + (now_s - since_s) * QUESTIONS_PER_S) - 1
                since_s = now_s
                if allowance < 0:
                    await trio.sleep(-allowance / QUESTIONS_PER_S)
                place = object()
                await self._room.acquire_on_behalf_of(place)
                nursery.start_soon(self._reply, message, place)

    # Asking

    async def _asked(self, method: str, content: bytes) -> _Answer:
        kept, within_s = None, ANSWER_S
        if len(content) > CHUNK_BYTES:
            kept = self._shelf.keep(self.edge, content)
            within_s = min(ANSWER_S + len(content) / THIN_BYTES_S, KEPT_S)
        question = _Question(self._epoch.number, None if kept else content, kept)
        message = await self._replies.request(
            self._subject(self.edge, method), _ENCODER.encode(question), within_s=within_s
        )
        try:
            answer = _ANSWERS.decode(message.data)
        except NOT_READ as error:
            raise AnsweredWithError(f"what was answered to {method} is no answer: {error}") from None
        self._check(answer.epoch)
        return answer

    async def _content(self, content: bytes | None, kept: Kept | None, bytes_max: int) -> bytes:
        """What is in a message, or where a message says. Raises NatsAway."""
        if kept is None:
            return content or b""

        async def chunk(index: int) -> bytes:
            wanted = _ENCODER.encode(_WantedChunk(kept.token, index))
            subject = self._subject(self.edge, CHUNK)
            return (await self._replies.request(subject, wanted, within_s=CHUNK_S)).data

        data = await read_in_chunks(kept, chunk, bytes_max)
        served = _ENCODER.encode(_WantedChunk(kept.token, -(-kept.size // CHUNK_BYTES)))
        with contextlib.suppress(NatsAway):  # nobody waits for the answer to that
            await self._connection.publish(self._subject(self.edge, CHUNK), served, reply=self._nowhere())
        return data

    def _nowhere(self) -> str:
        prefix = subjects.answers_of(self.edge) if self._at_hub else subjects.inbox_of(self.edge)
        return f"{prefix}.{secrets.token_hex(16)}"

    # Answering

    async def _reply(self, message: Message, place: object) -> None:
        try:
            await self._reply_to(message)
        except NatsAway as error:
            self._warn("nats_answer_not_sent", subject=message.subject, reason=str(error))
        except NOT_READ as error:
            self._warn("nats_question_refused", subject=message.subject, reason=str(error))
        finally:
            self._room.release_on_behalf_of(place)

    async def _reply_to(self, message: Message) -> None:
        method = message.subject.rpartition(".")[2]
        if not subjects.is_answered_at(self._answered_at, message.reply):
            self._warn("nats_question_refused", subject=message.subject, reason="reply")
            return
        if method == CHUNK:
            wanted = _WANTED.decode(message.data)
            chunk = self._shelf.chunk(self.edge, wanted.token, wanted.index)
            await self._connection.publish(message.reply, b"" if chunk is None else chunk)
            return
        question = _QUESTIONS.decode(message.data)
        answer = await self._answer_to(method, question)
        await self._connection.publish(message.reply, _ENCODER.encode(answer))

    async def _answer_to(self, method: str, question: _Question) -> _Answer:
        try:
            self._check(question.epoch)
            if question.kept is not None:
                async with self._reading, self._shelf.reading:
                    content = await self._content(None, question.kept, self._question_bytes_max)
            else:
                content = question.content or b""
            said = await self._answering.reply(method, content)
            if isinstance(said, Refusal):
                return _Answer(self._epoch.number, None, refusal=said)
            if len(said) <= CHUNK_BYTES:
                return _Answer(self._epoch.number, said)
            return _Answer(self._epoch.number, None, self._shelf.keep(self.edge, said))
        except NatsAway as error:
            refusal = Refusal(AWAY, str(error)[:WORDS_CHARS_MAX])
            return _Answer(self._epoch.number, None, refusal=refusal)

    def _failed(self, method: str, badly: bool) -> None:
        if self._lines.take():
            log.error("question_failed", edge=self.edge, method=method, exc_info=not badly)

    def _warn(self, event: str, **keys: object) -> None:
        if self._lines.take():
            log.warning(event, edge=self.edge, **keys)

    def _check(self, epoch: int) -> None:
        """Raises NatsAway for what is said by a former hub, or to one."""
        if not 0 <= epoch <= EPOCH_MAX:
            raise NatsAway(f"there is no hub of epoch {epoch}")
        if self._at_hub and epoch > self._epoch.number:
            if self._lines.take():
                log.error("hub_is_a_former_one", edge=self.edge, epoch=self._epoch.number, later=epoch)
            raise NatsAway("another hub has taken over since")
        if not self._at_hub and epoch < self._epoch.number:
            self._warn("former_hub_not_believed", epoch=epoch, later=self._epoch.number)
            raise NatsAway("a hub of before has answered")
        if not self._at_hub:
            self._epoch.number = epoch
