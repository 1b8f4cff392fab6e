"""One machine's session, whatever protocol it speaks: what becomes of it from its first word to its last.

    CONNECTED --subscribe--> SUBSCRIBED --authorise--> MINING
    CONNECTED --authorise--> AUTHORISED --subscribe--> MINING

It is given extranonces (`_take_extranonces`) and a name (`_admit`), in whichever order its protocol has them.
Where it mines and what it was told is its `assignment`'s, which channels and placement know; what its work
counts is its `difficulty`'s. `tick` is called every few seconds and does what needs a clock: handshake
deadlines, vardiff, idle and invalid miners.

Invariants: no job before it has extranonces and a name; the workers of a session belong to one tenant.
Must not know: sockets, tasks, protocols, how tenants are kept, who mines which channel.
"""

from enum import Enum
from fractions import Fraction

from stratum._engine import WORKER_NAME_BYTES_MAX, WORKERS_PER_SESSION_MAX
from stratum.miners.agents import least_difficulty_log2, reads_on_when_more_comes
from stratum.miners.assignment import Assignment
from stratum.miners.channel import Channel
from stratum.miners.contracts import Admitted, Refusal, Services
from stratum.miners.decisions import What
from stratum.miners.firmware import Firmware
from stratum.miners.language import Language
from stratum.miners.liveness import Due, Liveness
from stratum.miners.owner import GONE, Owner
from stratum.miners.session_difficulty import SessionDifficulty
from stratum.miners.uncharged import NOBODY, REFUSED

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


class MiningSession:
    """One of a connection; `slot` is the engine's number for it, `closing` why it is to be closed."""

    __slots__ = (
        "_agent",
        "_asked",
        "_firmware",
        "_home",
        "_language",
        "_liveness",
        "_resumed",
        "_services",
        "assignment",
        "closing",
        "difficulty",
        "owner",
        "slot",
        "state",
    )

    def __init__(self, services: Services, owner: Owner, now_s: float, language: Language) -> None:
        self.owner = owner
        self.slot = services.engine.open(owner)
        self.state = State.CONNECTED
        self.closing: str | None = None
        self._services = services
        self._language = language
        self._liveness = Liveness(services.limits, now_s)
        self._agent = ""
        self._firmware: Firmware | None = None  # known when it has its extranonces
        self._asked = ""  # its first request of each sort, in order; none once it is noted
        self._resumed = False  # with the extranonces that it had before
        self._home: Channel | None = None  # where its first worker belongs, if it does anywhere
        self.difficulty = SessionDifficulty(services, self.slot, now_s)
        self.assignment = Assignment(services, owner, self.slot, self.difficulty, self._liveness, language)

    @property
    def agent(self) -> str:
        """What the miner says that it is."""
        return self._agent

    @property
    def authorised(self) -> bool:
        return self.state in (State.AUTHORISED, State.MINING)

    def is_let_in_for(self, channel: Channel) -> bool:
        """Whether it has said a name, and is to get its extranonces there."""
        return self.state is State.AUTHORISED and self._home is channel

    def close(self, *, left: bool = False) -> None:
        """Give everything back. Shares already fed are still counted. `left`: the miner closed it."""
        if self.state is State.MINING:
            self.difficulty.leave(self.assignment.workers[0])
        self._note_end(left=left)
        self._services.admission.leave(self.owner)
        self.assignment.close(authorised=self.authorised)
        self._services.engine.close(self.slot)
        self.owner = GONE

    # Before it mines

    def _take_extranonces(self, agent: str, session_id: str | None, now_s: float) -> None:
        """Its own ones, or those of an earlier session. Raises ExtranonceExhausted."""
        assignment = self.assignment
        assignment.channel = self._first_channel()
        earlier_log2 = assignment.subscribe(session_id, now_s, named=self.authorised)
        self._firmware = self._services.firmware.begin(agent)
        self._agent = self._firmware.agent
        least_log2 = least_difficulty_log2(agent)
        if least_log2 is not None:
            self.difficulty.keep_above(least_log2)
        if earlier_log2 is not None:
            self._resumed = True
            self.difficulty.remember(earlier_log2, now_s)

    def _first_channel(self) -> Channel:
        """What it is to mine, as far as anybody knows."""
        channel = self._home
        if not self.assignment.workers and self._services.placement_guess is not None:
            channel = self._services.placement_guess.guess(self.owner.address)
        return channel or self.assignment.channel

    def _admit(self, name: str, agent: str) -> Admitted | Refusal:
        """A worker that mines on this session from now on, or why it does not."""
        raw_name = name.encode()
        if not raw_name or len(raw_name) > WORKER_NAME_BYTES_MAX:
            return Refusal(f"A worker name has 1 to {WORKER_NAME_BYTES_MAX} bytes")
        answer = self._services.admission.admit(name, agent, self.owner)
        if isinstance(answer, Refusal):
            return answer
        assignment = self.assignment
        if assignment.party not in (None, answer.party):
            # Where it came back for what another tenant's had, it comes back to extranonces of its own.
            assignment.resumes = bool(assignment.workers)
            return Refusal("Workers of one connection belong to one tenant")
        try:
            self._services.engine.authorise(self.slot, raw_name, answer.worker)
        except ValueError:
            return Refusal(f"At most {WORKERS_PER_SESSION_MAX} workers on one connection")
        if not assignment.workers:
            assignment.party, self._home = answer.party, answer.channel
            assignment.only_new_work = answer.only_new_work
        if answer.worker not in assignment.workers:
            assignment.workers += (answer.worker,)
        return answer

    def _start_from(self, admitted: Admitted, wished: Fraction | None, now_s: float) -> None:
        """The difficulty that this worker had last, or that its machine wishes for at first contact."""
        if admitted.difficulty_log2 is not None:
            log2, silent = admitted.difficulty_log2, self._services.silent
            log2 = log2 if silent is None else silent.start_log2(admitted.worker, log2)
            self.difficulty.remember(log2, now_s)
        elif wished is not None:
            self.difficulty.suggest(self.assignment.policy, wished)

    def _ask_for(self, minimum: Fraction | None) -> bool:
        """The miner's lowest difficulty; False for one that we do not have."""
        granted = self.difficulty.ask_for(self.assignment.policy, minimum)
        if granted and self.state is State.MINING:
            self.assignment.want_difficulty()
        return granted

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
            first = bool(self._asked)
            self._note_shares(accepted, rejected)
            due = liveness.check_shares(accepted, rejected, now_s, now_s if heard_s is None else heard_s)
            if first and due is None and reads_on_when_more_comes(self._agent):
                due = Due.PING
            said = self._help(due, now_s)
            self._retarget(accepted, shares, now_s)
        self.closing = self.closing or liveness.closing
        return said

    def _help(self, due: Due | None, now_s: float) -> bytes:
        if due is Due.FRESH_JOB:
            self.assignment.owe_job()
        elif due is Due.RECONNECT:
            return self._language.come_back()
        elif due is Due.PING:
            ping = self._language.ping()
            if ping is None:  # whether it is there is the kernel's to find out
                self._liveness.spoke(now_s)
                return b""
            if self._firmware is not None:
                self._firmware.pings += 1
            return ping
        return b""

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

    def _note_word(self, word: str) -> None:
        """It has asked for something of a sort."""
        if (self.state is State.MINING and not self._asked) or word in self._asked:
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
