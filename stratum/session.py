"""One miner connection as a state machine without I/O: lines in, bytes out.

The engine answers mining.submit; everything else a miner says comes here, a line at a time, and what
comes back is sent before anything else is read. `tick` is called every few seconds and does what
needs a clock: handshake deadlines, vardiff, idle and invalid miners.

Invariants: nothing that was not asked for is sent before a job is; no job before subscribe and authorize;
each job id was sent at one difficulty, the one pinned in the engine from that id on.
Must not know: sockets, tasks, how tenants are kept.
"""

from collections.abc import Callable
from enum import Enum
from fractions import Fraction
from typing import Any, Protocol, cast

import msgspec

from stratum import messages, vardiff
from stratum._engine import WORKER_NAME_BYTES_MAX, WORKERS_PER_SESSION_MAX, Engine
from stratum.channel import Channel
from stratum.difficulty import ceil_log2, difficulty_from_log2, floor_log2, wire_difficulty
from stratum.extranonce import ExtranonceExhausted
from stratum.messages import ErrorCode

VERSION_MASK = 0x1FFFE000  # BIP 310 with the bits that BIP 320 sets aside


class State(Enum):
    CONNECTED = "connected"
    SUBSCRIBED = "subscribed"
    AUTHORISED = "authorised"  # before subscribe: some firmware does
    MINING = "mining"


class Event(Enum):
    SUBSCRIBE = "subscribe"
    AUTHORISE = "authorise"


TRANSITIONS = {
    (State.CONNECTED, Event.SUBSCRIBE): State.SUBSCRIBED,
    (State.CONNECTED, Event.AUTHORISE): State.AUTHORISED,
    (State.SUBSCRIBED, Event.SUBSCRIBE): State.SUBSCRIBED,
    (State.SUBSCRIBED, Event.AUTHORISE): State.MINING,
    (State.AUTHORISED, Event.SUBSCRIBE): State.MINING,
    (State.AUTHORISED, Event.AUTHORISE): State.AUTHORISED,
    (State.MINING, Event.SUBSCRIBE): State.MINING,
    (State.MINING, Event.AUTHORISE): State.MINING,
}


class SessionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds and counts after which a miner is helped, asked to come back, or dropped."""

    subscribe_s: float = 10.0
    authorise_s: float = 30.0
    idle_s: float = 600.0
    ping_answer_s: float = 30.0
    invalid_job_s: float = 60.0
    invalid_reconnect_s: float = 120.0
    invalid_drop_s: float = 180.0
    bad_lines_max: int = 10  # a line broken by the network is rare: ten are abuse
    refusals_max: int = 10  # a wrong tenant name does not get right by repetition


class Admission(msgspec.Struct, frozen=True):
    """A worker, 1 or above, may mine. `difficulty_log2` is the one it had last, None at first contact."""

    worker: int
    difficulty_log2: int | None = None


class Refusal(msgspec.Struct, frozen=True):
    """A worker may not mine; the reason is for the miner's log."""

    reason: str


class Gate(Protocol):
    """Who may mine. Answers at once: it is asked in the middle of a handshake."""

    def admit(self, name: str, agent: str) -> Admission | Refusal: ...


class Owner(Protocol):
    """The connection of a session: the engine hands it back with replies, jobs are written to it."""

    open: bool

    def write(self, data: bytes) -> None: ...


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """What every session of a server shares."""

    engine: Engine
    channel: Channel
    gate: Gate
    vardiff: vardiff.VardiffPolicy
    start_difficulty_log2: int
    limits: SessionLimits


PING_ID = 1  # of client.get_version, the one question that all firmware answers


class MinerSession:
    """One connection; `sent_seq` is the newest job id that this miner was given.

    `pending_log2` is the difficulty that goes out with the next job or alias, None where that needs none.
    """

    __slots__ = (
        "_accepted",
        "_active_at_s",
        "_agent",
        "_bad_lines",
        "_extranonce1",
        "_floor_log2",
        "_history",
        "_invalid_since_s",
        "_invalid_step",
        "_mask",
        "_opened_at_s",
        "_owes_job",
        "_pinged_at_s",
        "_refusals",
        "_rejected",
        "_services",
        "_wished_log2",
        "closing",
        "difficulty_log2",
        "owner",
        "pending_log2",
        "sent_seq",
        "slot",
        "state",
        "wants_extranonce",
        "workers",
    )

    def __init__(self, services: Services, owner: Owner, now_s: float) -> None:
        self._services = services
        self.owner = owner
        self.slot = services.engine.open(owner)
        self.state = State.CONNECTED
        self.closing: str | None = None
        self.wants_extranonce = False
        self.difficulty_log2 = services.start_difficulty_log2
        self.pending_log2: int | None = None
        self.sent_seq = 0
        self.workers: tuple[int, ...] = ()  # authorised; the engine bounds them
        self._opened_at_s = self._active_at_s = now_s
        # Settled: this machine's own shares have said what it needs, in this session or an earlier one.
        self._history = vardiff.History(from_s=now_s)
        self._owes_job = True  # the next job is a clean one, with its difficulty, whatever came before
        self._pinged_at_s: float | None = None
        self._invalid_since_s: float | None = None
        self._invalid_step = 0
        self._agent = ""
        self._extranonce1: bytes | None = None
        self._floor_log2: int | None = None
        self._wished_log2: int | None = None
        self._mask: int | None = None
        self._bad_lines = self._refusals = 0
        self._accepted = self._rejected = 0
        services.engine.set_version_mask(self.slot, VERSION_MASK)

    def close(self) -> None:
        """Give everything back. Shares already fed are still counted."""
        services = self._services
        services.channel.sessions.discard(self)
        services.channel.waiting.discard(self)
        if self._extranonce1 is not None:
            services.channel.give_back(self._extranonce1, services.engine.pins(self.slot))
            self._extranonce1 = None
        services.engine.close(self.slot)

    @property
    def authorised(self) -> bool:
        return self.state in (State.AUTHORISED, State.MINING)

    # What miners say

    def receive_line(self, line: bytes, now_s: float) -> bytes:
        """The answer to one line; check `closing` afterwards."""
        self._active_at_s = now_s
        try:
            message = messages.decode(line)
        except messages.BadLine:
            self._bad_lines += 1
            if self._bad_lines >= self._services.limits.bad_lines_max:
                self.closing = "malformed lines"
            return messages.refusal(b"null", ErrorCode.OTHER, "Malformed JSON")
        if isinstance(message, messages.Answer):
            return b""  # to our ping: that it came is all we want
        try:
            params = messages.parse(message)
        except messages.BadParams as error:
            return messages.refusal(message.id, ErrorCode.OTHER, str(error))
        return _HANDLERS[type(params)](self, message.id, params, now_s)

    def _subscribe(self, raw_id: bytes, params: messages.Subscribe, now_s: float) -> bytes:
        channel = self._services.channel
        first = self._extranonce1 is None
        if first:
            try:
                self._extranonce1, pins = channel.lease(params.session_id)
            except ExtranonceExhausted:
                self.closing = "extranonce space exhausted"
                return messages.refusal(raw_id, ErrorCode.OTHER, "Pool is full: no extranonce left")
            self._agent = params.agent
            engine = self._services.engine
            engine.subscribe(self.slot, channel.number, self._extranonce1, channel.extranonce2_size)
            for from_seq, difficulty_log2 in pins:
                engine.pin_difficulty(self.slot, difficulty_log2, from_seq)
                self._remembered(difficulty_log2, now_s)
        assert self._extranonce1 is not None
        session_id = self._extranonce1.hex()
        topics = [["mining.set_difficulty", session_id], ["mining.notify", session_id]]
        answer = messages.reply(raw_id, [topics, session_id, channel.extranonce2_size])
        if self.state is State.MINING:
            self._owe_job()  # it starts anew: the job that it had is forgotten
        return answer + self._advance(Event.SUBSCRIBE, now_s)

    def _authorize(self, raw_id: bytes, params: messages.Authorize, now_s: float) -> bytes:
        raw_name = params.name.encode()
        if not raw_name or len(raw_name) > WORKER_NAME_BYTES_MAX:
            text = f"A worker name has 1 to {WORKER_NAME_BYTES_MAX} bytes"
            return self._refuse(raw_id, text)
        answer = self._services.gate.admit(params.name, self._agent)
        if isinstance(answer, Refusal):
            return self._refuse(raw_id, answer.reason)
        try:
            self._services.engine.authorise(self.slot, raw_name, answer.worker)
        except ValueError:
            return self._refuse(raw_id, f"At most {WORKERS_PER_SESSION_MAX} workers on one connection")
        if answer.worker not in self.workers:
            self.workers += (answer.worker,)
        self._ask_for(params.minimum)
        if self.state is not State.MINING:
            if answer.difficulty_log2 is not None:
                self._remembered(answer.difficulty_log2, now_s)
            elif params.difficulty is not None:
                self._wish(params.difficulty)
        return messages.reply(raw_id, True) + self._advance(Event.AUTHORISE, now_s)

    def _refuse(self, raw_id: bytes, reason: str) -> bytes:
        """A worker is refused. The others on the connection, if there are any, go on mining."""
        self._refusals += 1
        if self._refusals >= self._services.limits.refusals_max and not self.authorised:
            self.closing = "refused too often"
        return messages.refusal(raw_id, ErrorCode.UNAUTHORISED, reason)

    def _configure(self, raw_id: bytes, params: messages.Configure, now_s: float) -> bytes:
        """Answers exactly the keys that were asked: more sends some firmware into a reconnect loop."""
        result: dict[str, object] = {}
        for extension in params.extensions:
            result[extension] = extension in ("subscribe-extranonce", "info")
        if params.version_mask is not None:
            mask = params.version_mask & VERSION_MASK
            result["version-rolling"] = mask != 0
            if mask != 0:
                result["version-rolling.mask"] = f"{mask:08x}"
                self._mask = mask
                self._services.engine.set_version_mask(self.slot, mask)
        if "minimum-difficulty" in result:
            result["minimum-difficulty"] = self._ask_for(params.minimum)
        if "subscribe-extranonce" in result:
            self.wants_extranonce = True
        return messages.reply(raw_id, result)

    def _extranonce_subscribe(self, raw_id: bytes, _: messages.ExtranonceSubscribe, now_s: float) -> bytes:
        self.wants_extranonce = True
        return messages.reply(raw_id, True)

    def _suggest(self, raw_id: bytes, params: messages.SuggestDifficulty, now_s: float) -> bytes:
        if self._wish(params.difficulty) and self.state is State.MINING:
            assert self._wished_log2 is not None
            self._retarget(self._wished_log2)
        return messages.reply(raw_id, True)

    def _get_transactions(self, raw_id: bytes, _: messages.GetTransactions, now_s: float) -> bytes:
        return messages.refusal(raw_id, ErrorCode.OTHER, "Transactions are not given out")

    def _ping(self, raw_id: bytes, _: messages.Ping, now_s: float) -> bytes:
        return messages.reply(raw_id, "pong")

    def _pong(self, raw_id: bytes, _: messages.Pong, now_s: float) -> bytes:
        return b""

    def _submit(self, raw_id: bytes, params: messages.Submit, now_s: float) -> bytes:
        self._services.engine.submit(self.slot, raw_id, params.params)
        return b""

    # Difficulty

    def _wish(self, difficulty: Fraction) -> bool:
        """What the miner suggests, at first contact and within the range; else as if it had said nothing.

        Firmware suggests what it was shipped with: a site that comes back must not start there.
        """
        policy = self._services.vardiff
        least = difficulty_from_log2(policy.difficulty_log2_min)
        beyond = difficulty_from_log2(policy.difficulty_log2_max + 1)
        if self._history.settled or not least <= difficulty < beyond:
            return False
        self._wished_log2 = floor_log2(difficulty)
        return True

    def _remembered(self, difficulty_log2: int, now_s: float) -> None:
        self._wished_log2 = difficulty_log2
        self._history = vardiff.History(from_s=now_s, settled=True)

    def _ask_for(self, minimum: Fraction | None) -> bool:
        """The miner's lowest difficulty; vardiff never goes below it. False for one that we do not have."""
        policy = self._services.vardiff
        if minimum is None or minimum > difficulty_from_log2(policy.difficulty_log2_max):
            return False
        # Of several workers on a connection the most demanding one decides.
        asked = ceil_log2(minimum)
        self._floor_log2 = asked if self._floor_log2 is None else max(self._floor_log2, asked)
        if self.state is State.MINING:
            self._retarget(self.difficulty_log2 if self.pending_log2 is None else self.pending_log2)
        return True

    def _retarget(self, difficulty_log2: int) -> None:
        """Wait with a new difficulty for the next job or alias; the same one again is none."""
        wanted = self._services.vardiff.clamp(difficulty_log2, self._floor_log2)
        waiting = self._services.channel.waiting
        if wanted != self.difficulty_log2 or self._owes_job:
            self.pending_log2 = wanted
            waiting.add(self)
        else:
            self.pending_log2 = None
            waiting.discard(self)

    def _owe_job(self) -> None:
        """A clean job with its difficulty, as soon as there is a job that this miner has not had."""
        self._owes_job = True
        self._retarget(self.difficulty_log2 if self.pending_log2 is None else self.pending_log2)

    def send_job(self, line: bytes, seq: int, now_s: float) -> bytes:
        """The bytes that give this session the job `seq`, with its new difficulty first if one waits."""
        self.sent_seq = seq
        if self.pending_log2 is None:
            return line
        if self._owes_job:
            line = self._services.channel.notify_line(clean=True)
        return self._pin(self.pending_log2, seq, now_s) + line

    def _pin(self, difficulty_log2: int, seq: int, now_s: float) -> bytes:
        """Set the difficulty of the jobs from `seq` on."""
        engine = self._services.engine
        if self._owes_job:  # it had nothing to do until now
            self._owes_job = False
            self._history = vardiff.History(from_s=now_s, settled=self._history.settled)
        else:
            _, _, shares = engine.counters(self.slot)
            self._history = vardiff.moved(
                self._services.vardiff,
                self._history,
                difficulty_log2=self.difficulty_log2,
                shares=shares,
                now_s=now_s,
            )
        engine.pin_difficulty(self.slot, difficulty_log2, seq)
        engine.set_retarget_after(self.slot, vardiff.next_look(0))
        self.difficulty_log2 = difficulty_log2
        self.pending_log2 = None
        return messages.notification("mining.set_difficulty", [wire_difficulty(difficulty_log2)])

    def look(self, now_s: float) -> None:
        """Let vardiff see the shares accepted at the current difficulty."""
        if self.state is not State.MINING or self.pending_log2 is not None:
            return
        _, _, shares = self._services.engine.counters(self.slot)
        wanted_log2, self._history = vardiff.look(
            self._services.vardiff,
            self._history,
            difficulty_log2=self.difficulty_log2,
            floor_log2=self._floor_log2,
            shares=shares,
            now_s=now_s,
        )
        if wanted_log2 != self.difficulty_log2:
            self._retarget(wanted_log2)
            return
        before = self._history.shares_before
        self._services.engine.set_retarget_after(self.slot, before + vardiff.next_look(shares - before))

    # Life

    def _advance(self, event: Event, now_s: float) -> bytes:
        before = self.state
        self.state = TRANSITIONS[before, event]
        if self.state is not State.MINING or before is State.MINING:
            return b""
        wished = self._services.start_difficulty_log2 if self._wished_log2 is None else self._wished_log2
        self.difficulty_log2 = self._services.vardiff.clamp(wished, self._floor_log2)
        self.pending_log2 = self.difficulty_log2
        self._active_at_s = now_s
        self._services.channel.sessions.add(self)
        mask = b""
        if self._mask is not None:  # only after the authorize reply: some firmware fails on it before
            mask = messages.notification("mining.set_version_mask", [f"{self._mask:08x}"])
        channel = self._services.channel
        if channel.current is None:
            return mask  # the first job comes when there is one
        return mask + self.send_job(b"", channel.current.seq, now_s)

    def tick(self, now_s: float) -> bytes:
        """Every few seconds: deadlines, vardiff, help; check `closing` afterwards."""
        limits = self._services.limits
        if self.state is not State.MINING:
            waited_s = now_s - self._opened_at_s
            if self.state in (State.CONNECTED, State.AUTHORISED) and waited_s >= limits.subscribe_s:
                self.closing = "no subscribe"
            elif waited_s >= limits.authorise_s:
                self.closing = "no authorize"
            return b""
        said = self._watch_shares(now_s)
        self.look(now_s)
        return said

    def _watch_shares(self, now_s: float) -> bytes:
        """Idle miners are asked whether they live; miners with nothing but invalid shares are helped."""
        limits = self._services.limits
        accepted, rejected, _ = self._services.engine.counters(self.slot)
        valid, invalid = accepted != self._accepted, rejected != self._rejected
        self._accepted, self._rejected = accepted, rejected
        if valid or invalid:
            self._active_at_s = now_s
        if valid:
            self._invalid_since_s, self._invalid_step = None, 0
        elif invalid and self._invalid_since_s is None:
            self._invalid_since_s = now_s
        if now_s - self._active_at_s < limits.idle_s:
            self._pinged_at_s = None
        elif self._pinged_at_s is None:
            self._pinged_at_s = now_s
            return messages.request(PING_ID, "client.get_version", [])
        elif now_s - self._pinged_at_s >= limits.ping_answer_s:
            self.closing = "idle"
            return b""
        return self._help_invalid(now_s) if invalid and not valid else b""

    def _help_invalid(self, now_s: float) -> bytes:
        """Nothing but invalid shares: a fresh job, then a reconnect, then good-bye."""
        assert self._invalid_since_s is not None
        limits = self._services.limits
        invalid_s = now_s - self._invalid_since_s
        if self._invalid_step == 0 and invalid_s >= limits.invalid_job_s:
            self._invalid_step = 1
            self._owe_job()
        elif self._invalid_step == 1 and invalid_s >= limits.invalid_reconnect_s:
            self._invalid_step = 2
            return messages.notification("client.reconnect", [])
        elif self._invalid_step == 2 and invalid_s >= limits.invalid_drop_s:
            self.closing = "only invalid shares"
        return b""


_Handler = Callable[[MinerSession, bytes, Any, float], bytes]
_HANDLERS: dict[type, _Handler] = {
    messages.Subscribe: cast(_Handler, MinerSession._subscribe),
    messages.Authorize: cast(_Handler, MinerSession._authorize),
    messages.Configure: cast(_Handler, MinerSession._configure),
    messages.ExtranonceSubscribe: cast(_Handler, MinerSession._extranonce_subscribe),
    messages.SuggestDifficulty: cast(_Handler, MinerSession._suggest),
    messages.GetTransactions: cast(_Handler, MinerSession._get_transactions),
    messages.Ping: cast(_Handler, MinerSession._ping),
    messages.Pong: cast(_Handler, MinerSession._pong),
    messages.Submit: cast(_Handler, MinerSession._submit),
}
