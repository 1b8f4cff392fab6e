"""One connection of ours to another pool, as a state machine without I/O: the miner's side of Stratum V1.

    NEW --opened--> SUBSCRIBING --subscribed--> AUTHORISING --authorised--> WAITING --job--> MINING

Some pools send the first job before they answer mining.authorize: then AUTHORISING --job--> PREPARED
--authorised--> MINING. mining.configure is asked together with mining.subscribe, and nothing waits for its
answer: pools that do not know it may never give one.

`receive_data` and `next_event` until None; `data_to_send` after each. Difficulty and extranonce belong to the
next job that arrives, a version mask holds at once (BIP 310).

Invariants: jobs and what belongs to them are events from MINING on, after `Up`; every share that was taken
is in exactly one `SubmitAnswer`, or in what `submits` gives back at the end; every buffer is bounded.
Must not know: sockets, clocks, other connections, miners.
"""

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Final

from stratum import messages
from stratum.job import Work
from stratum.messages import Answer, ErrorCode, Request
from stratum.upstream.endpoint import UpstreamEndpoint
from stratum.upstream.events import (
    ExtranonceChanged,
    JobReceived,
    MaskChanged,
    MessageShown,
    OddMessage,
    ReconnectAsked,
    TargetChanged,
    Up,
    UpstreamEvent,
)
from stratum.upstream.extranonce_split import (
    ExtranonceNeed,
    ExtranonceSplit,
    TooLittleExtranonce,
    split_extranonce2,
)
from stratum.upstream.messages import (
    VERSION_MASK,
    BrokenUpstream,
    RefusedByUpstream,
    accepted,
    parse_configured,
    parse_notify,
    parse_reconnect,
    parse_set_extranonce,
    parse_set_version_mask,
    parse_subscribed,
    parse_target,
    words_of,
    work_from_notify,
)
from stratum.upstream.shares import NotSent, UpstreamJob, UpstreamShare
from stratum.upstream.submits import Submits

AGENT: Final = "angara/0.1"
# A job whose coinbase is as long as the engine takes has 131,072 characters of it and 2,144 of merkle branch.
LINE_BYTES_MAX: Final = 256 * 1024
# As many submits as may be unanswered have 4 MiB; an upstream that asks and does not read gets no more.
OUT_BYTES_MAX: Final = 8 * 1024 * 1024
VERSION_BITS_MIN: Final = 2  # what Antminers ask for
DIFFICULTY_1_TARGET: Final = parse_target([1])  # in force until the pool says otherwise


class State(Enum):
    """What the connection waits for."""

    NEW = "new"
    SUBSCRIBING = "subscribing"
    AUTHORISING = "authorising"
    PREPARED = "prepared"  # has a job, is not authorised yet
    WAITING = "waiting"  # authorised, without a job
    MINING = "mining"


class Step(Enum):
    """What moves it on."""

    OPENED = "opened"
    SUBSCRIBED = "subscribed"
    AUTHORISED = "authorised"
    JOB = "job"


TRANSITIONS: Final = {
    (State.NEW, Step.OPENED): State.SUBSCRIBING,
    (State.SUBSCRIBING, Step.SUBSCRIBED): State.AUTHORISING,
    (State.AUTHORISING, Step.JOB): State.PREPARED,
    (State.AUTHORISING, Step.AUTHORISED): State.WAITING,
    (State.PREPARED, Step.JOB): State.PREPARED,
    (State.PREPARED, Step.AUTHORISED): State.MINING,
    (State.WAITING, Step.JOB): State.MINING,
    (State.MINING, Step.JOB): State.MINING,
}


class Question(Enum):
    """What we ask of an upstream, with the id that it is asked by."""

    CONFIGURE = 1
    SUBSCRIBE = 2
    AUTHORISE = 3
    EXTRANONCE = 4
    SUGGEST = 5
    PING = 6


class UpstreamSession:
    """`upstream` and `connection` name it in the origin of every work; `session_id` asks for the extranonce1
    of an earlier one.

    `work`, `extranonce1`, `split`, `target` are of the newest job, `mask` is of now (None: no version
    rolling). `notices` counts what it said unasked.
    """

    def __init__(
        self,
        *,
        upstream: str,
        connection: int,
        endpoint: UpstreamEndpoint,
        need: ExtranonceNeed,
        session_id: str | None = None,
        suggest_difficulty: int | float | None = None,
    ) -> None:
        self.state = State.NEW
        self.connection = connection
        self._upstream = upstream
        self.session_id = session_id
        self.work: Work | None = None
        self.extranonce1 = b""
        self.split: ExtranonceSplit | None = None
        self.target = DIFFICULTY_1_TARGET
        self.mask: int | None = None
        self.notices = 0
        self._endpoint = endpoint
        self._need = need
        self._suggest_difficulty = suggest_difficulty
        self._next_extranonce: tuple[bytes, ExtranonceSplit] | None = None
        self._next_target = DIFFICULTY_1_TARGET
        self._asked: set[Question] = set()
        self._answers_extranonce_subscribe = False
        self._received = bytearray()
        self._searched = 0  # no line ends before it in what was received
        self._events: deque[UpstreamEvent] = deque()
        self._out: deque[bytes] = deque()
        self._out_bytes = 0
        self.submits = Submits(cleaned=endpoint.cleaned, first_id=len(Question) + 1)

    # Bytes

    def open(self) -> None:
        """Begin the conversation."""
        options = {
            "version-rolling.mask": f"{VERSION_MASK:08x}",
            "version-rolling.min-bit-count": VERSION_BITS_MIN,
        }
        self._ask(
            Question.CONFIGURE, "mining.configure", [["version-rolling", "subscribe-extranonce"], options]
        )
        resume = [] if self.session_id is None else [self.session_id]
        self._ask(Question.SUBSCRIBE, "mining.subscribe", [AGENT, *resume])
        self._advance(Step.OPENED)

    def receive_data(self, data: bytes | bytearray) -> None:
        """Bytes from the upstream, to be read by `next_event`."""
        self._received += data

    def next_event(self) -> UpstreamEvent | None:
        """What happened next; None until more data is here. Raises BrokenUpstream: the connection is over."""
        while not self._events:
            end = self._received.find(b"\n", self._searched)
            size = len(self._received) if end < 0 else end
            if size > LINE_BYTES_MAX:
                raise BrokenUpstream(f"a line of more than {LINE_BYTES_MAX} bytes")
            if end < 0:
                self._searched = size
                return None
            line = bytes(self._received[:end])
            del self._received[: end + 1]
            self._searched = 0
            if line.strip():  # some pools keep the connection alive with empty lines
                self._on_line(line)
        return self._events.popleft()

    def data_to_send(self) -> bytes:
        """Everything that is to be sent by now, blocks first."""
        data = b"".join(self._out)
        self._out.clear()
        self._out_bytes = 0
        return data

    def _on_line(self, line: bytes) -> None:
        try:
            message = messages.decode(line)
        except messages.BadLine as error:
            raise BrokenUpstream(f"a line of {len(line)} bytes that is no message: {error}") from None
        if isinstance(message, Answer):
            self._on_answer(message, line)
            return
        self.notices += 1
        if message.method in _HANDLERS:
            _HANDLERS[message.method](self, message)
            return
        self._events.append(OddMessage(self._endpoint.cleaned(f"{message.method}: there is no such method")))
        if message.id != b"null":
            self._say(messages.refusal(message.id, ErrorCode.OTHER, "Method not supported"))

    def _say(self, line: bytes) -> None:
        if self._out_bytes + len(line) > OUT_BYTES_MAX:
            raise BrokenUpstream("asks much and reads nothing")
        self._out.append(line)
        self._out_bytes += len(line)

    def _ask(self, question: Question, method: str, params: list[object]) -> None:
        self._asked.add(question)
        self._say(messages.request(question.value, method, params))

    def _advance(self, step: Step) -> None:
        before = self.state
        after = TRANSITIONS.get((before, step))
        if after is None:
            raise BrokenUpstream(f"{step.value} while {before.value}")
        self.state = after
        if after is State.MINING and before is not State.MINING:
            self._events.append(Up())

    # Shares

    def refusal(self, share: UpstreamShare) -> NotSent | None:
        """Why this share cannot be sent now; None if it can."""
        if self.state is not State.MINING:
            return NotSent.NOT_CONNECTED
        if (share.version ^ share.job.version) & ~(self.mask or 0):
            return NotSent.VERSION_OUTSIDE_MASK
        if self._out_bytes >= OUT_BYTES_MAX // 2:
            return NotSent.TOO_MANY_UNANSWERED
        return self.submits.refusal(share)

    def submit(self, share: UpstreamShare, now_s: float, *, again: bool = False) -> None:
        """Send a share that `refusal` had nothing against; a block ahead of everything that waits.

        `again`: on a connection that resumed the one it was sent on before, without an answer.
        """
        line = self.submits.send(share, now_s, user=self._endpoint.user, mask=self.mask, again=again)
        self._out_bytes += len(line)
        if share.is_block:
            self._out.appendleft(line)
        else:
            self._out.append(line)

    def ping(self) -> None:
        """Ask something harmless: whatever comes back shows that the upstream lives."""
        if self._answers_extranonce_subscribe:
            self._ask(Question.EXTRANONCE, "mining.extranonce.subscribe", [])
        else:
            self._ask(Question.PING, "mining.ping", [])

    # Answers

    def _on_answer(self, answer: Answer, line: bytes) -> None:
        number = _number(answer.id)
        resolved = self.submits.resolve(number, answer, line)
        if resolved is not None:
            self._events.append(resolved)
            return
        question = next((asked for asked in self._asked if asked.value == number), None)
        if question is None:
            return
        self._asked.remove(question)
        if question is Question.CONFIGURE:
            self._set_mask(parse_configured(answer))
        elif question is Question.SUBSCRIBE:
            self._on_subscribed(answer, line)
        elif question is Question.AUTHORISE:
            self._on_authorised(answer, line)
        elif question is Question.EXTRANONCE:
            self._answers_extranonce_subscribe = True

    def _on_subscribed(self, answer: Answer, line: bytes) -> None:
        if answer.error:
            raise self._refused("mining.subscribe", answer, line)
        subscribed = parse_subscribed(answer.result)
        self.session_id = subscribed.session_id
        self._plan_extranonce(subscribed.extranonce1, subscribed.extranonce2_bytes)
        self._advance(Step.SUBSCRIBED)
        self._ask(Question.AUTHORISE, "mining.authorize", [self._endpoint.user, self._endpoint.password])

    def _on_authorised(self, answer: Answer, line: bytes) -> None:
        if not accepted(answer):
            raise self._refused("mining.authorize", answer, line)
        self._ask(Question.EXTRANONCE, "mining.extranonce.subscribe", [])
        if self._suggest_difficulty is not None:
            self._ask(Question.SUGGEST, "mining.suggest_difficulty", [self._suggest_difficulty])
        self._advance(Step.AUTHORISED)

    def _refused(self, method: str, answer: Answer, line: bytes) -> RefusedByUpstream:
        words = self._endpoint.cleaned(words_of(answer, line))
        return RefusedByUpstream(f"refuses {method}: {words or 'without a word'}")

    # Requests and notifications

    def _on_notify(self, request: Request) -> None:
        if self._next_extranonce is None:
            return  # not subscribed: nobody could mine it
        extranonce1, split = self._next_extranonce
        notify = parse_notify(request.params)
        filler = bytes(split.filler_bytes)
        origin = UpstreamJob(
            upstream=self._upstream,
            connection=self.connection,
            job_id=notify.job_id,
            version=notify.version,
            filler=filler,
            target=self._next_target,
        )
        work = work_from_notify(
            notify,
            before=extranonce1 + filler,
            extranonce2_bytes=split.prefix_bytes + split.miner_bytes,
            origin=origin,
        )
        other_block = self.work is None or self.work.prevhash_internal != work.prevhash_internal
        other_extranonce = (extranonce1, split) != (self.extranonce1, self.split)
        other_target = self._next_target != self.target
        self.work, self.extranonce1, self.split, self.target = work, extranonce1, split, self._next_target
        if self.state is State.MINING:
            if other_extranonce:
                self._events.append(ExtranonceChanged(extranonce1, split))
            if other_target:
                self._events.append(TargetChanged(self.target))
            # Pools build the coinbase of an older job with the extranonce1 of now: its shares would be wrong.
            self._events.append(JobReceived(work, notify.clean or other_block or other_extranonce))
        self._advance(Step.JOB)

    def _on_set_difficulty(self, request: Request) -> None:
        self._next_target = parse_target(request.params)

    def _on_set_extranonce(self, request: Request) -> None:
        self._plan_extranonce(*parse_set_extranonce(request.params))

    def _plan_extranonce(self, extranonce1: bytes, extranonce2_bytes: int) -> None:
        try:
            self._next_extranonce = extranonce1, split_extranonce2(extranonce2_bytes, self._need)
        except TooLittleExtranonce as error:
            raise BrokenUpstream(str(error)) from None

    def _on_set_version_mask(self, request: Request) -> None:
        if self.mask is None:  # version rolling was not granted, and the submits have no place for it
            self._events.append(OddMessage("mining.set_version_mask: version rolling was not granted"))
        else:
            self._set_mask(parse_set_version_mask(request.params))

    def _set_mask(self, mask: int | None) -> None:
        changed, self.mask = mask != self.mask, mask
        if changed and self.state is State.MINING:
            self._events.append(MaskChanged(mask or 0))

    def _on_reconnect(self, request: Request) -> None:
        try:
            self._events.append(ReconnectAsked(parse_reconnect(request.params)))
        except BrokenUpstream as error:  # it wants us elsewhere: who cannot say where has us here
            self._events.append(OddMessage(str(error)))

    def _on_show_message(self, request: Request) -> None:
        shown = request.params[0] if isinstance(request.params, list) and request.params else ""
        self._events.append(MessageShown(self._endpoint.cleaned(shown if isinstance(shown, str) else "")))

    def _on_get_version(self, request: Request) -> None:
        self._say(messages.reply(request.id, AGENT))

    def _on_ping(self, request: Request) -> None:
        self._say(messages.reply(request.id, "pong"))

    def _on_pong(self, request: Request) -> None:
        pass  # that it came is all


def _number(raw_id: bytes) -> int:
    """The id of an answer; some pools make text of it. -1 for what was never one of ours."""
    digits = raw_id.strip(b'"')
    return int(digits) if digits.isdigit() and len(digits) <= 18 else -1


_HANDLERS: Final[dict[str, Callable[[UpstreamSession, Request], None]]] = {
    "mining.notify": UpstreamSession._on_notify,
    "mining.set_difficulty": UpstreamSession._on_set_difficulty,
    "mining.set_extranonce": UpstreamSession._on_set_extranonce,
    "mining.set_version_mask": UpstreamSession._on_set_version_mask,
    "client.reconnect": UpstreamSession._on_reconnect,
    "client.show_message": UpstreamSession._on_show_message,
    "client.get_version": UpstreamSession._on_get_version,
    "mining.ping": UpstreamSession._on_ping,
    "mining.pong": UpstreamSession._on_pong,
}
