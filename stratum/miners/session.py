"""One miner connection as a state machine without I/O: lines in, bytes out.

    CONNECTED --subscribe--> SUBSCRIBED --authorise--> MINING
    CONNECTED --authorise--> AUTHORISED --subscribe--> MINING

The engine answers mining.submit; everything else a miner says comes here, a line at a time, and what
comes back is sent before anything else is read. `tick` is called every few seconds and does what
needs a clock: handshake deadlines, vardiff, idle and invalid miners.

Where it mines and what it was told is its `assignment`'s, which channels and placement know; what its work
counts is its `difficulty`'s.

Invariants: nothing that was not asked for is sent before a job is; no job before subscribe and authorize.
Must not know: sockets, tasks, how tenants are kept, who mines which channel.
"""

from collections.abc import Callable
from enum import Enum
from fractions import Fraction
from typing import Any, cast

from stratum import messages
from stratum._engine import WORKER_NAME_BYTES_MAX, WORKERS_PER_SESSION_MAX
from stratum.messages import ErrorCode
from stratum.miners.agents import least_difficulty_log2
from stratum.miners.assignment import Assignment
from stratum.miners.channel import VERSION_MASK, Channel
from stratum.miners.contracts import Refusal, Services
from stratum.miners.decisions import What
from stratum.miners.extranonce import ExtranonceExhausted
from stratum.miners.firmware import Firmware
from stratum.miners.liveness import SAID, Due, Liveness
from stratum.miners.owner import Owner
from stratum.miners.session_difficulty import SessionDifficulty
from stratum.miners.uncharged import NOBODY, REFUSED, UNREADABLE

RESUMED = "it came back with its session of before"
ANEW = "it came, without a session of before"


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


class MinerSession:
    """One connection; `slot` is the engine's number for it, `closing` why it is to be closed."""

    __slots__ = (
        "_agent",
        "_asked",
        "_firmware",
        "_home",
        "_liveness",
        "_party",
        "_resumed",
        "_services",
        "assignment",
        "closing",
        "difficulty",
        "owner",
        "slot",
        "state",
    )

    def __init__(self, services: Services, owner: Owner, now_s: float) -> None:
        self.owner = owner
        self.slot = services.engine.open(owner)
        self.state = State.CONNECTED
        self.closing: str | None = None
        self._services = services
        self._liveness = Liveness(services.limits, now_s)
        self._agent = ""
        self._firmware: Firmware | None = None  # known when it subscribes
        self._asked = ""  # its first request of each sort, in order; none once it is noted
        self._resumed = False  # with the extranonces that it had before
        # Of the first worker: it decides for the others.
        self._party: int | None = None
        self._home: Channel | None = None  # where it belongs, if it does anywhere
        self.difficulty = SessionDifficulty(services, self.slot, now_s)
        self.assignment = Assignment(services, owner, self.slot, self.difficulty, self._liveness)

    @property
    def agent(self) -> str:
        """What the miner says that it is."""
        return self._agent

    @property
    def authorised(self) -> bool:
        return self.state in (State.AUTHORISED, State.MINING)

    def close(self, *, left: bool = False) -> None:
        """Give everything back. Shares already fed are still counted. `left`: the miner closed it."""
        if self.state is State.MINING:
            self.difficulty.leave(self.assignment.workers[0])
        self._note_end(left=left)
        self._services.admission.leave(self.owner)
        self.assignment.close(authorised=self.authorised)
        self._services.engine.close(self.slot)

    # What miners say

    def receive_line(self, line: bytes, now_s: float) -> bytes:
        """The answer to one line; check `closing` afterwards."""
        self._liveness.spoke(now_s)
        try:
            message = messages.decode(line)
        except messages.BadLine:
            self._note_line(UNREADABLE)
            self.closing = self._liveness.bad_line()
            return messages.refusal(b"null", ErrorCode.OTHER, "Malformed JSON")
        if isinstance(message, messages.Answer):
            if self._firmware is not None:
                self._firmware.answers += 1
            return b""  # to our ping: that it came is all we want
        try:
            params = messages.parse(message)
        except messages.BadParams as error:
            return self._refusal(message.id, ErrorCode.OTHER, str(error))
        self._note_asked(params)
        return _HANDLERS[type(params)](self, message.id, params, now_s)

    def _subscribe(self, raw_id: bytes, params: messages.Subscribe, now_s: float) -> bytes:
        assignment = self.assignment
        if assignment.extranonce1 is None:
            assignment.channel = self._first_channel()
            try:
                earlier_log2 = assignment.subscribe(params.session_id, now_s, named=self.authorised)
            except ExtranonceExhausted:
                self.closing = "extranonce space exhausted"
                return self._refusal(raw_id, ErrorCode.OTHER, "Pool is full: no extranonce left")
            self._agent = params.agent
            self._firmware = self._services.firmware.begin(params.agent)
            least_log2 = least_difficulty_log2(params.agent)
            if least_log2 is not None:
                self.difficulty.keep_above(least_log2)
            if earlier_log2 is not None:
                self._resumed = True
                self.difficulty.remember(earlier_log2, now_s)
        session_id, extranonce2_size = assignment.told
        topics = [["mining.set_difficulty", session_id], ["mining.notify", session_id]]
        answer = messages.reply(raw_id, [topics, session_id, extranonce2_size])
        if self.state is State.MINING:
            assignment.owe_job()  # it starts anew: the job that it had is forgotten
        return answer + self._advance(Event.SUBSCRIBE, now_s)

    def _first_channel(self) -> Channel:
        """What it is to mine, as far as anybody knows."""
        channel = self._home
        if self._party is None and self._services.placement_guess is not None:
            channel = self._services.placement_guess.guess(self.owner.address)
        return channel or self.assignment.channel

    def _authorize(self, raw_id: bytes, params: messages.Authorize, now_s: float) -> bytes:
        raw_name = params.name.encode()
        if not raw_name or len(raw_name) > WORKER_NAME_BYTES_MAX:
            text = f"A worker name has 1 to {WORKER_NAME_BYTES_MAX} bytes"
            return self._refuse(raw_id, text)
        answer = self._services.admission.admit(params.name, self._agent, self.owner)
        if isinstance(answer, Refusal):
            return self._refuse(raw_id, answer.reason)
        if self._party not in (None, answer.party):
            return self._refuse(raw_id, "Workers of one connection belong to one tenant")
        try:
            self._services.engine.authorise(self.slot, raw_name, answer.worker)
        except ValueError:
            return self._refuse(raw_id, f"At most {WORKERS_PER_SESSION_MAX} workers on one connection")
        if self._party is None:
            self._party, self._home = answer.party, answer.channel
        if answer.worker not in self.assignment.workers:
            self.assignment.workers += (answer.worker,)
        self._ask_for(params.minimum)
        if self.state is not State.MINING:
            if answer.difficulty_log2 is not None:
                log2, silent = answer.difficulty_log2, self._services.silent
                log2 = log2 if silent is None else silent.start_log2(answer.worker, log2)
                self.difficulty.remember(log2, now_s)
            elif params.difficulty is not None:
                self.difficulty.suggest(self.assignment.policy, params.difficulty)
        return messages.reply(raw_id, True) + self._advance(Event.AUTHORISE, now_s)

    def _refuse(self, raw_id: bytes, reason: str) -> bytes:
        """A worker is refused. The others on the connection, if there are any, go on mining."""
        self.closing = self._liveness.refused(authorised=self.authorised)
        return self._refusal(raw_id, ErrorCode.UNAUTHORISED, reason)

    def _refusal(self, raw_id: bytes, code: int, text: str) -> bytes:
        """Some firmware counts it as a rejected share, whatever it was that was refused."""
        self._note_line(REFUSED)
        return messages.refusal(raw_id, code, text)

    def _get_transactions(self, raw_id: bytes, _: messages.GetTransactions, now_s: float) -> bytes:
        return self._refusal(raw_id, ErrorCode.OTHER, "Not given out")

    def _configure(self, raw_id: bytes, params: messages.Configure, now_s: float) -> bytes:
        """Answers exactly the keys that were asked: more sends some firmware into a reconnect loop."""
        result: dict[str, object] = {}
        for extension in params.extensions:
            result[extension] = extension in ("subscribe-extranonce", "info")
        if params.version_mask is not None:
            asked = params.version_mask & VERSION_MASK
            result["version-rolling"] = asked != 0
            if asked != 0:
                result["version-rolling.mask"] = f"{self.assignment.ask_mask(asked):08x}"
        if "minimum-difficulty" in result:
            result["minimum-difficulty"] = self._ask_for(params.minimum)
        if "subscribe-extranonce" in result:
            self.assignment.wants_extranonce = True
        return messages.reply(raw_id, result)

    def _ask_for(self, minimum: Fraction | None) -> bool:
        """The miner's lowest difficulty; False for one that we do not have."""
        granted = self.difficulty.ask_for(self.assignment.policy, minimum)
        if granted and self.state is State.MINING:
            self.assignment.want_difficulty()
        return granted

    def _extranonce_subscribe(self, raw_id: bytes, _: messages.ExtranonceSubscribe, now_s: float) -> bytes:
        self.assignment.wants_extranonce = True
        return messages.reply(raw_id, True)

    def _suggest(self, raw_id: bytes, params: messages.SuggestDifficulty, now_s: float) -> bytes:
        wished_log2 = self.difficulty.suggest(self.assignment.policy, params.difficulty)
        if wished_log2 is not None and self.state is State.MINING:
            self.assignment.want_difficulty(wished_log2)
        return messages.reply(raw_id, True)

    def _submit(self, raw_id: bytes, params: messages.Submit, now_s: float) -> bytes:
        self._services.engine.submit(self.slot, raw_id, params.params)
        return b""

    # Life

    def _advance(self, event: Event, now_s: float) -> bytes:
        before = self.state
        self.state = TRANSITIONS[before, event]
        if self.state is not State.MINING or before is State.MINING:
            return b""
        self.assignment.named()
        self._services.note(self.assignment.workers, What.CONNECTED, RESUMED if self._resumed else ANEW)
        said = self._go_where_it_belongs(now_s)
        self.difficulty.start(self.assignment.policy)
        self._liveness.spoke(now_s)
        return said + self.assignment.start(now_s)

    def _go_where_it_belongs(self, now_s: float) -> bytes:
        """Now that it is known what this miner is to mine: go there, before its first job.

        A miner that cannot be given other extranonces is asked to come back, once, and is given the right
        ones then; if it has come back already it mines where it is.
        """
        here, to = self.assignment.channel, self._home
        if to is None or to is here:
            return b""
        if not to.same_extranonces(here) and to.extranonces.full(now_s):
            to = self._services.channel  # as in subscribe: what it was guessed to mine may pay somebody else
        if to is here or self.assignment.start_on(to, now_s):
            return b""
        placement_guess = self._services.placement_guess
        if placement_guess is not None and placement_guess.come_back(self.owner.address, here, to):
            self.closing = "moved"  # it has no work yet, so nobody waits until it goes
            return self.assignment.send_away(now_s)
        return b""

    def retarget(self, now_s: float) -> None:
        """So many shares have come as were to be waited for."""
        if self.state is State.MINING:
            accepted, _, shares = self._services.engine.counters(self.slot)
            self._retarget(accepted, shares, now_s)

    def _retarget(self, accepted: int, shares: int, now_s: float) -> None:
        """Let vardiff see the shares accepted, and those of them at the current difficulty."""
        assignment = self.assignment
        wanted_log2 = self.difficulty.retarget(
            assignment.policy, assignment.workers[0], accepted, shares, now_s
        )
        if wanted_log2 is not None:
            assignment.want_difficulty(wanted_log2)

    def tick(self, now_s: float, heard_s: float | None = None) -> bytes:
        """Every few seconds: deadlines, vardiff, help; check `closing` afterwards.

        `heard_s`: when its latest accepted share was seen, where that was before this.
        """
        liveness, said = self._liveness, b""
        if self.state is not State.MINING:
            liveness.check_handshake(subscribed=self.state is State.SUBSCRIBED, now_s=now_s)
        else:
            accepted, rejected, shares = self._services.engine.counters(self.slot)
            self._note_shares(accepted, rejected)
            due = liveness.check_shares(accepted, rejected, now_s, now_s if heard_s is None else heard_s)
            if due is Due.FRESH_JOB:
                self.assignment.owe_job()
            elif due is not None:
                said = SAID[due]
                if due is Due.PING and self._firmware is not None:
                    self._firmware.pings += 1
            self._retarget(accepted, shares, now_s)
        self.closing = self.closing or liveness.closing
        return said

    def rests_until_s(self, now_s: float) -> float:
        """Right after a tick: until when others would find nothing to do, if it mines on as it does."""
        at_ease = self.state is State.MINING and not self._asked and self.difficulty.settled(now_s)
        return self._liveness.rests_until_s if at_ease else 0.0

    # What its firmware is seen to do

    def _note_line(self, what: int) -> None:
        """A line that is no share was REFUSED, or is UNREADABLE."""
        workers = self.assignment.workers
        self._services.uncharged.add_line(workers[0] if workers else NOBODY, what)
        if self._firmware is None:
            return
        if what == REFUSED:
            self._firmware.refused += 1
        else:
            self._firmware.unreadable += 1

    def _note_asked(self, params: messages.Message) -> None:
        word = _ASKED.get(type(params))
        if word is None or (self.state is State.MINING and not self._asked) or word in self._asked:
            return
        self._asked += f" {word}" if self._asked else word

    def _note_shares(self, accepted: int, rejected: int) -> None:
        """At the first check that it mines, what it asked for as well: some configure behind authorize."""
        firmware = self._firmware
        if firmware is None:
            return
        accepted_before, rejected_before = self._liveness.counted
        self._services.firmware.count(firmware, accepted - accepted_before, rejected - rejected_before)
        if accepted != accepted_before:
            firmware.rolled |= self._services.engine.rolled(self.slot)
            self._services.firmware.prove(firmware)
        if self._asked:
            asked, self._asked = self._asked, ""
            firmware.mined += 1
            firmware.asked_in_order(asked)
            firmware.configured += "configure" in asked
            firmware.suggested += "suggest" in asked
            firmware.extranonce += self.assignment.wants_extranonce
            if self.assignment.asked_mask is not None:
                firmware.asked_to_roll(self.assignment.asked_mask)

    def _note_end(self, *, left: bool) -> None:
        firmware = self._firmware
        if firmware is None:
            return
        self._services.firmware.end(firmware)
        if self.state is State.MINING:
            accepted, rejected, _ = self._services.engine.counters(self.slot)
            self._note_shares(accepted, rejected)
            if self.assignment.leaving and (left or self._liveness.closing is not None):
                firmware.reconnects += 1
                firmware.obeyed += left


_ASKED: dict[type, str] = {
    messages.Subscribe: "subscribe",
    messages.Authorize: "authorize",
    messages.Configure: "configure",
    messages.ExtranonceSubscribe: "extranonce",
    messages.SuggestDifficulty: "suggest",
}
_Handler = Callable[[MinerSession, bytes, Any, float], bytes]
_HANDLERS: dict[type, _Handler] = {
    messages.Subscribe: cast(_Handler, MinerSession._subscribe),
    messages.Authorize: cast(_Handler, MinerSession._authorize),
    messages.Configure: cast(_Handler, MinerSession._configure),
    messages.ExtranonceSubscribe: cast(_Handler, MinerSession._extranonce_subscribe),
    messages.SuggestDifficulty: cast(_Handler, MinerSession._suggest),
    messages.GetTransactions: cast(_Handler, MinerSession._get_transactions),
    messages.Ping: lambda _, raw_id, *__: messages.reply(raw_id, "pong"),
    messages.Pong: lambda *_: b"",
    # Not refused: bmminer counts a refusal of anything as a rejected share.
    messages.MultiVersion: lambda _, raw_id, *__: messages.reply(raw_id, True),
    messages.Submit: cast(_Handler, MinerSession._submit),
}
