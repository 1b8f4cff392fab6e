"""One miner connection as a state machine without I/O: lines in, bytes out.

The engine answers mining.submit; everything else a miner says comes here, a line at a time, and what
comes back is sent before anything else is read. `tick` is called every few seconds and does what
needs a clock: handshake deadlines, vardiff, idle and invalid miners.

A session mines one channel, and may be moved to another: with its next job there, and before it the new
extranonces where that channel has others. What it was given before stays the former channel's.

A new difficulty holds for work that comes after it was chosen: whoever chose one for work that is known could
choose by the hashes that he has found. Until there is such work the session waits, with the job that it has.

Invariants: nothing that was not asked for is sent before a job is; no job before subscribe and authorize;
each job was sent at one difficulty, the one that the engine judges its work at.
Must not know: sockets, tasks, how tenants are kept, who mines which channel.
"""

from collections.abc import Callable
from enum import Enum
from fractions import Fraction
from typing import Any, cast

from stratum import messages
from stratum._engine import WORKER_NAME_BYTES_MAX, WORKERS_PER_SESSION_MAX
from stratum.difficulty import (
    DIFFICULTY_LOG2_MIN,
    ceil_log2,
    difficulty_from_log2,
    floor_log2,
    wire_difficulty,
)
from stratum.job import Job
from stratum.messages import ErrorCode
from stratum.miners import vardiff
from stratum.miners.agents import least_difficulty_log2
from stratum.miners.channel import VERSION_MASK, Channel, Moved
from stratum.miners.contracts import Admitted, Refusal, Services
from stratum.miners.extranonce import ExtranonceExhausted
from stratum.miners.liveness import SAID, Due, Liveness
from stratum.miners.owner import Owner


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

NOT_GIVEN = "Transactions are not given out"


class MinerSession:
    """One connection; `sent_seq` is the newest job id that this miner was given.

    `pending_log2` is the difficulty for the next work, None where that needs none.
    `channel` is what it mines from its next job on. Until then the miner has the extranonces of
    `_told_channel`, if there was one.
    """

    __slots__ = (
        "_admitted",
        "_agent",
        "_extranonce1",
        "_floor_log2",
        "_history",
        "_inherited",
        "_liveness",
        "_mask",
        "_owes_job",
        "_pinned_from",
        "_returned_log2",
        "_services",
        "_told_channel",
        "_told_extranonce1",
        "_told_mask",
        "_wished_log2",
        "channel",
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
        self.channel = services.channel
        self.owner = owner
        self.slot = services.engine.open(owner)
        self.state = State.CONNECTED
        self.closing: str | None = None
        self.wants_extranonce = False
        self.difficulty_log2 = services.start_difficulty_log2
        self.pending_log2: int | None = None
        self.sent_seq = 0
        self.workers: tuple[int, ...] = ()  # authorised; the engine bounds them
        self._liveness = Liveness(services.limits, now_s)
        # Settled: this machine's own shares have said what it needs, in this session or an earlier one.
        self._history = vardiff.History(from_s=now_s)
        self._owes_job = True  # the next job is a clean one, with its difficulty, whatever came before
        self._pinned_from = 0  # the job that the difficulty came with
        self._returned_log2: int | None = None  # what it came back with, until it is heard
        self._agent = ""
        self._extranonce1: bytes | None = None  # of `channel`
        self._inherited: list[tuple[int, int]] = []  # pins of it, on the way to where nobody was told yet
        self._told_channel: Channel | None = None
        self._told_extranonce1 = b""
        self._told_mask = VERSION_MASK  # what the engine takes; the miner was told if it asked
        self._admitted: Admitted | None = None  # of the first worker: it decides for the others
        self._floor_log2: int | None = None
        self._wished_log2: int | None = None
        self._mask: int | None = None
        services.engine.set_version_mask(self.slot, VERSION_MASK)

    @property
    def mining(self) -> bool:
        """Subscribed, authorised, and on a job."""
        return self.state is State.MINING

    def close(self) -> None:
        """Give everything back. Shares already fed are still counted."""
        services = self._services
        if self._returned_log2 is not None and services.silent is not None:
            services.silent.left(self.workers[0])
        self.channel.sessions.discard(self)
        self.channel.waiting.discard(self)
        self.channel.extranonces.unnamed.pop(self, None)
        services.admission.leave(self.owner)
        if self._extranonce1 is not None:
            pins = services.engine.pins(self.slot)
            accepted, _, _ = services.engine.counters(self.slot)
            # What is queued may be its own, if it has a name.
            worked = accepted > 0 or (self.authorised and services.engine.queued() > 0)
            if self._told_channel is None or self._told_channel.same_extranonces(self.channel):
                self.channel.give_back(self._extranonce1, pins, worked=worked)
            else:  # it is on its way, and has both
                self.channel.give_back(self._extranonce1, self._inherited, worked=worked)
                self._told_channel.give_back(self._told_extranonce1, pins)
            self._extranonce1 = None
        services.engine.close(self.slot)

    def make_room(self) -> None:
        """Others need its extranonces, and it has not said its name."""
        self.owner.make_room()

    @property
    def authorised(self) -> bool:
        return self.state in (State.AUTHORISED, State.MINING)

    # What miners say

    def receive_line(self, line: bytes, now_s: float) -> bytes:
        """The answer to one line; check `closing` afterwards."""
        self._liveness.spoke(now_s)
        try:
            message = messages.decode(line)
        except messages.BadLine:
            self.closing = self._liveness.bad_line()
            return messages.refusal(b"null", ErrorCode.OTHER, "Malformed JSON")
        if isinstance(message, messages.Answer):
            return b""  # to our ping: that it came is all we want
        try:
            params = messages.parse(message)
        except messages.BadParams as error:
            return messages.refusal(message.id, ErrorCode.OTHER, str(error))
        return _HANDLERS[type(params)](self, message.id, params, now_s)

    def _subscribe(self, raw_id: bytes, params: messages.Subscribe, now_s: float) -> bytes:
        if self._extranonce1 is None:
            if self._admitted is not None:
                self.channel = self._admitted.channel or self.channel
            elif self._services.placement_guess is not None:
                self.channel = self._services.placement_guess.guess(self.owner.address) or self.channel
            try:
                pins = self._lease(params.session_id, now_s)
            except ExtranonceExhausted:
                self.closing = "extranonce space exhausted"
                return messages.refusal(raw_id, ErrorCode.OTHER, "Pool is full: no extranonce left")
            self._agent = params.agent
            least_log2 = least_difficulty_log2(params.agent)
            if least_log2 is not None:
                self._floor_log2 = max(least_log2, self._floor_log2 or least_log2)
            self._occupy(pins)
            had = [log2 for _, log2 in pins if log2 >= DIFFICULTY_LOG2_MIN]
            assert self._extranonce1 is not None
            if had and params.session_id == self._extranonce1.hex():
                self._remembered(had[-1], now_s)
        # Of what it mines now: where it is on its way to another channel, that comes with its next job.
        assert self._told_channel is not None
        session_id = self._told_extranonce1.hex()
        topics = [["mining.set_difficulty", session_id], ["mining.notify", session_id]]
        answer = messages.reply(raw_id, [topics, session_id, self._told_channel.extranonce2_size])
        if self.state is State.MINING:
            self._owe_job()  # it starts anew: the job that it had is forgotten
        return answer + self._advance(Event.SUBSCRIBE, now_s)

    def _lease(self, session_id: str | None, now_s: float) -> list[tuple[int, int]]:
        """Extranonces and pins on `channel`; where that is full, on the one for miners that nobody knows."""
        try:
            self._extranonce1, pins = self.channel.lease(session_id, now_s)
        except ExtranonceExhausted:  # the space of an upstream may be small
            self.channel = self._services.channel
            self._extranonce1, pins = self.channel.lease(None, now_s)
        if not self.authorised:
            self.channel.extranonces.unnamed[self] = now_s
        return pins

    def _occupy(self, pins: list[tuple[int, int]]) -> None:
        """Mine `channel` from the first job on; `pins` are of an earlier connection with this extranonce1."""
        assert self._extranonce1 is not None
        engine, channel = self._services.engine, self.channel
        engine.subscribe(self.slot, channel.number, self._extranonce1, channel.extranonce2_size)
        for from_seq, difficulty_log2 in pins:
            engine.pin_difficulty(self.slot, difficulty_log2, from_seq)
        self._told_channel, self._told_extranonce1 = channel, self._extranonce1

    def _authorize(self, raw_id: bytes, params: messages.Authorize, now_s: float) -> bytes:
        raw_name = params.name.encode()
        if not raw_name or len(raw_name) > WORKER_NAME_BYTES_MAX:
            text = f"A worker name has 1 to {WORKER_NAME_BYTES_MAX} bytes"
            return self._refuse(raw_id, text)
        answer = self._services.admission.admit(params.name, self._agent, self.owner)
        if isinstance(answer, Refusal):
            return self._refuse(raw_id, answer.reason)
        if self._admitted is not None and answer.party != self._admitted.party:
            return self._refuse(raw_id, "Workers of one connection belong to one tenant")
        try:
            self._services.engine.authorise(self.slot, raw_name, answer.worker)
        except ValueError:
            return self._refuse(raw_id, f"At most {WORKERS_PER_SESSION_MAX} workers on one connection")
        self._admitted = self._admitted or answer
        if answer.worker not in self.workers:
            self.workers += (answer.worker,)
        self._ask_for(params.minimum)
        if self.state is not State.MINING:
            if answer.difficulty_log2 is not None:
                log2, silent = answer.difficulty_log2, self._services.silent
                self._remembered(log2 if silent is None else silent.start_log2(answer.worker, log2), now_s)
            elif params.difficulty is not None:
                self._wish(params.difficulty)
        return messages.reply(raw_id, True) + self._advance(Event.AUTHORISE, now_s)

    def _refuse(self, raw_id: bytes, reason: str) -> bytes:
        """A worker is refused. The others on the connection, if there are any, go on mining."""
        self.closing = self._liveness.refused(authorised=self.authorised)
        return messages.refusal(raw_id, ErrorCode.UNAUTHORISED, reason)

    def _configure(self, raw_id: bytes, params: messages.Configure, now_s: float) -> bytes:
        """Answers exactly the keys that were asked: more sends some firmware into a reconnect loop."""
        result: dict[str, object] = {}
        for extension in params.extensions:
            result[extension] = extension in ("subscribe-extranonce", "info")
        if params.version_mask is not None:
            asked = params.version_mask & VERSION_MASK
            result["version-rolling"] = asked != 0
            if asked != 0:
                self._mask = asked
                self._set_mask()
                result["version-rolling.mask"] = f"{self._told_mask:08x}"
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

    def _submit(self, raw_id: bytes, params: messages.Submit, now_s: float) -> bytes:
        self._services.engine.submit(self.slot, raw_id, params.params)
        return b""

    def _set_mask(self) -> bool:
        """Let the engine take the bits that miner and channel agree on; False if these are no others."""
        channel = self._told_channel or self.channel
        mask = (VERSION_MASK if self._mask is None else self._mask) & channel.version_mask
        self._services.engine.set_version_mask(self.slot, mask)
        changed, self._told_mask = mask != self._told_mask, mask
        return changed

    def mask_changed(self) -> bytes:
        """The channel has another version mask: holds at once (BIP 310)."""
        if self._told_channel is not self.channel or not self._set_mask() or self._mask is None:
            return b""
        return messages.notification("mining.set_version_mask", [f"{self._told_mask:08x}"])

    # Channels

    def move_to(self, channel: Channel, now_s: float) -> Moved:
        """Mine another channel, from its next job on. Raises ExtranonceExhausted.

        RECONNECT: nothing has changed, a miner with these extranonces cannot mine it; see `send_away`.
        """
        assert self.state is State.MINING
        assert self._told_channel is not None
        assert self._extranonce1 is not None
        told = self._told_channel
        inherited: list[tuple[int, int]] = []
        if channel.same_extranonces(told):
            extranonce1, moved = self._told_extranonce1, Moved.JOB
        elif self.wants_extranonce:
            (extranonce1, inherited), moved = channel.lease(None, now_s), Moved.EXTRANONCE
        elif channel.extranonces.full(now_s):
            raise ExtranonceExhausted("nobody is sent to where there is no room")
        else:
            return Moved.RECONNECT
        if not self.channel.same_extranonces(told):  # the miner has never heard of that one
            self.channel.give_back(self._extranonce1, self._inherited, worked=False)
        self.channel.sessions.discard(self)
        self.channel.waiting.discard(self)
        self.channel, self._extranonce1, self._inherited = channel, extranonce1, inherited
        channel.sessions.add(self)
        self._owe_job()
        return moved

    def send_away(self, now_s: float) -> bytes:
        """Ask the miner to connect again; it is dropped if it does not."""
        if self.leaving:
            return b""
        self._liveness.sent_away(now_s, at_once=self.channel.paused)  # with nothing to do until it goes
        return messages.notification("client.reconnect", [])

    @property
    def leaving(self) -> bool:
        """Whether it was sent away."""
        return self._liveness.leaving

    def _arrive(self, seq: int) -> bytes:
        """The job `seq` is the first one of another channel: what the miner is to hear before it."""
        engine, channel, told = self._services.engine, self.channel, self._told_channel
        assert self._extranonce1 is not None
        assert told is not None
        left = engine.pins(self.slot)
        engine.subscribe(self.slot, channel.number, self._extranonce1, channel.extranonce2_size, seq)
        said = b""
        if not channel.same_extranonces(told):
            told.give_back(self._told_extranonce1, left)
            for from_seq, difficulty_log2 in self._inherited:
                engine.pin_difficulty(self.slot, difficulty_log2, from_seq)
            self._inherited = []
            params = [self._extranonce1.hex(), channel.extranonce2_size]
            said = messages.notification("mining.set_extranonce", params)
        self._told_channel, self._told_extranonce1 = channel, self._extranonce1
        return said + self.mask_changed()

    # Difficulty

    @property
    def _policy(self) -> vardiff.VardiffPolicy:
        return self.channel.vardiff or self._services.vardiff

    def _wish(self, difficulty: Fraction) -> bool:
        """What the miner suggests, at first contact and within the range; else as if it had said nothing.

        Firmware suggests what it was shipped with: a site that comes back must not start there.
        """
        policy = self._policy
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
        policy = self._policy
        if minimum is None or minimum > difficulty_from_log2(policy.difficulty_log2_max):
            return False
        # Of several workers on a connection the most demanding one decides.
        asked = ceil_log2(minimum)
        self._floor_log2 = asked if self._floor_log2 is None else max(self._floor_log2, asked)
        if self.state is State.MINING:
            self._retarget()
        return True

    def _retarget(self, difficulty_log2: int | None = None) -> None:
        """Wait with a new difficulty, or the present one where bounds changed, for other work."""
        if difficulty_log2 is None:
            difficulty_log2 = self.difficulty_log2 if self.pending_log2 is None else self.pending_log2
        wanted = self._policy.clamp(difficulty_log2, self._floor_log2)
        if wanted != self.difficulty_log2 or self._owes_job:
            self.pending_log2 = wanted
            self.channel.wait(self)
        else:
            self.pending_log2 = None
            self.channel.waiting.discard(self)

    def bounds_changed(self) -> None:
        """The channel has other bounds for difficulties, from the next job on."""
        self._retarget()

    def _owe_job(self) -> None:
        """A clean job with its difficulty, as soon as there is a job that this miner has not had."""
        self._owes_job = True
        self._retarget()

    def can_use(self, job: Job) -> bool:
        """Whether it needs this job, or what is made anew of it, before the channel has other work."""
        return job.work.anew is not None or (self._owes_job and self._begins_at(job) is not None)

    def send_job(self, line: bytes, job: Job, now_s: float, *, fresh: bool) -> bytes:
        """The bytes that give this session its channel's current job; none where it has to wait for another.

        `fresh`: the work has come this moment, so that a difficulty that waits holds for it.
        """
        if self._owes_job:
            return self._begin(job, now_s, fresh=fresh)
        if fresh and self.pending_log2 is not None:
            self.sent_seq = job.seq
            return self._pin(self.pending_log2, job.seq, now_s) + line
        if job.space < self._pinned_from:  # work that was here before, when it may have had another one
            log2 = self._judged_at(job)
            if log2 is None:
                return b""
            if log2 != self.difficulty_log2:
                line = self._pin(log2, self.channel.next_seq, now_s) + line
        self.sent_seq = job.seq
        return line

    def _begin(self, job: Job, now_s: float, *, fresh: bool) -> bytes:
        """The first job of a channel, or of a new beginning."""
        log2 = self.pending_log2 if fresh else self._begins_at(job)
        if log2 is None:
            return b""
        # What is known by now came while the session was not here: it has a difficulty without it.
        since_seq = job.seq if fresh else self.channel.next_seq
        self.sent_seq = job.seq
        said = self._arrive(job.seq) if self._told_channel is not self.channel else b""
        return said + self._pin(log2, since_seq, now_s) + self.channel.notify_line(clean=True)

    def _begins_at(self, job: Job) -> int | None:
        """The difficulty that known work has for it, which may be another one than it is to have.

        None: it waits for other work, where that is made within a second, or where it asked for more.
        """
        assert self._told_channel is not None
        assert self.pending_log2 is not None
        same = self.channel.same_extranonces(self._told_channel)
        log2 = self._judged_at(job) if same else self.channel.pinned(self._inherited, job)
        if log2 is None or log2 == self.pending_log2:
            return log2
        least_log2 = self._policy.clamp(DIFFICULTY_LOG2_MIN, self._floor_log2)
        return None if job.work.anew is not None or log2 < least_log2 else log2

    def _judged_at(self, job: Job) -> int | None:
        return self._services.engine.judged_at(self.slot, self.channel.number, job.seq)

    def _pin(self, difficulty_log2: int, seq: int, now_s: float) -> bytes:
        """Set the difficulty of work from `seq` on; another one that is wanted waits for other work."""
        engine = self._services.engine
        wanted_log2 = self.difficulty_log2 if self.pending_log2 is None else self.pending_log2
        if self._owes_job:  # it had nothing to do until now
            self._owes_job = False
            self._history = vardiff.History(from_s=now_s, settled=self._history.settled)
        else:
            _, _, shares = engine.counters(self.slot)
            self._history = vardiff.moved(
                self._policy,
                self._history,
                difficulty_log2=self.difficulty_log2,
                shares=shares,
                now_s=now_s,
            )
        engine.pin_difficulty(self.slot, difficulty_log2, seq)
        first = 1 if self._returned_log2 is not None else vardiff.next_look(0)
        engine.set_retarget_after(self.slot, first)
        self.difficulty_log2 = difficulty_log2
        self._pinned_from = seq
        self._retarget(wanted_log2)
        return messages.notification("mining.set_difficulty", [wire_difficulty(difficulty_log2)])

    def look(self, now_s: float) -> None:
        """Let vardiff see the shares accepted at the current difficulty."""
        if self.state is not State.MINING or self.pending_log2 is not None:
            return
        accepted, _, shares = self._services.engine.counters(self.slot)
        if self._returned_log2 is not None:
            if accepted == 0:
                self._not_heard(self._returned_log2, now_s)
                return
            self._heard(self._returned_log2, shares, now_s)
        wanted_log2, self._history = vardiff.look(
            self._policy,
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

    def _not_heard(self, returned_log2: int, now_s: float) -> None:
        """What was remembered may be of another machine: after a while of silence it is tried at less."""
        if now_s - self._history.from_s < vardiff.UNHEARD_AIMS * self._policy.aim_s:
            return
        self._history = vardiff.History(from_s=now_s, settled=True)
        step = vardiff.unheard_step(returned_log2 - self.difficulty_log2)
        wanted_log2 = self._policy.clamp(self.difficulty_log2 - step, self._floor_log2)
        silent = self._services.silent
        assert silent is not None
        if wanted_log2 < self.difficulty_log2 and silent.lower(self.workers[0], returned_log2, wanted_log2):
            self._retarget(wanted_log2)

    def _heard(self, returned_log2: int, shares: int, now_s: float) -> None:
        """Its first share: from now on vardiff counts, and from the start where it had to be brought down."""
        self._returned_log2 = None
        settled = self.difficulty_log2 >= returned_log2
        self._history = vardiff.History(from_s=now_s, shares_before=shares, settled=settled)
        if self._services.silent is not None:
            self._services.silent.heard(self.workers[0])

    # Life

    def _advance(self, event: Event, now_s: float) -> bytes:
        before = self.state
        self.state = TRANSITIONS[before, event]
        if self.state is not State.MINING or before is State.MINING:
            return b""
        self.channel.extranonces.unnamed.pop(self, None)
        said = self._take_place(now_s)
        wished = self._services.start_difficulty_log2 if self._wished_log2 is None else self._wished_log2
        self.difficulty_log2 = self._policy.clamp(wished, self._floor_log2)
        self.pending_log2 = self.difficulty_log2
        if self._history.settled and self._services.silent is not None:
            self._returned_log2 = self.difficulty_log2
        self._liveness.spoke(now_s)
        self.channel.sessions.add(self)
        self._set_mask()
        if self._mask is not None:  # only after the authorize reply: some firmware fails on it before
            said += messages.notification("mining.set_version_mask", [f"{self._told_mask:08x}"])
        if self.leaving:
            return said
        self.channel.wait(self)
        if self.channel.current is None or self.channel.paused:
            return said  # the first job comes when there is one
        return said + self.send_job(b"", self.channel.current, now_s, fresh=False)

    def _take_place(self, now_s: float) -> bytes:
        """Now that it is known what this miner is to mine: go there, before its first job.

        A miner that cannot be given other extranonces is asked to come back, once, and is given the right
        ones then; if it has come back already it mines where it is.
        """
        here, placement_guess = self.channel, self._services.placement_guess
        if self._admitted is None or (to := self._admitted.channel) is None or to is here:
            return b""
        if not to.same_extranonces(here) and to.extranonces.full(now_s):
            to = self._services.channel  # as in `_lease`: what it was guessed to mine may pay somebody else
        if to is here:
            return b""
        if to.same_extranonces(here):
            self.channel = to
            self._occupy(self._services.engine.pins(self.slot))
        elif self.wants_extranonce:
            self.move_to(to, now_s)
        elif placement_guess is not None and placement_guess.come_back(self.owner.address, here, to):
            self.closing = "moved"  # it has no work yet, so nobody waits until it goes
            return self.send_away(now_s)
        return b""

    def tick(self, now_s: float) -> bytes:
        """Every few seconds: deadlines, vardiff, help; check `closing` afterwards."""
        liveness, said = self._liveness, b""
        if self.state is not State.MINING:
            liveness.look_at_handshake(subscribed=self.state is State.SUBSCRIBED, now_s=now_s)
        else:
            accepted, rejected, _ = self._services.engine.counters(self.slot)
            due = liveness.look_at_shares(accepted, rejected, now_s)
            if due is Due.FRESH_JOB:
                self._owe_job()
            elif due is not None:
                said = SAID[due]
            self.look(now_s)
        self.closing = self.closing or liveness.closing
        return said


_Handler = Callable[[MinerSession, bytes, Any, float], bytes]
_HANDLERS: dict[type, _Handler] = {
    messages.Subscribe: cast(_Handler, MinerSession._subscribe),
    messages.Authorize: cast(_Handler, MinerSession._authorize),
    messages.Configure: cast(_Handler, MinerSession._configure),
    messages.ExtranonceSubscribe: cast(_Handler, MinerSession._extranonce_subscribe),
    messages.SuggestDifficulty: cast(_Handler, MinerSession._suggest),
    messages.GetTransactions: lambda _, raw_id, *__: messages.refusal(
        raw_id, ErrorCode.OTHER, "Not given out"
    ),
    messages.Ping: lambda _, raw_id, *__: messages.reply(raw_id, "pong"),
    messages.Pong: lambda *_: b"",
    # Not refused: bmminer counts a refusal of anything as a rejected share.
    messages.MultiVersion: lambda _, raw_id, *__: messages.reply(raw_id, True),
    messages.Submit: cast(_Handler, MinerSession._submit),
}
