"""Where one miner mines, and what it was told of it: channel, extranonces, version bits, jobs.

A miner hears of another channel with its first job there, and before that job of other extranonces where that
channel has them. Until then it is *told* the channel before: it holds the extranonces of both. What it was
given before it moved stays the former channel's, with the extranonces, mask and difficulty of then.

A session that owes a job gives a clean one, with its difficulty, whatever came before: at the start, after a
move, and where the miner starts anew.

Invariants: job ids that a miner is sent only grow; each job was sent at one difficulty, the one that the
engine judges its work at; a prefix is given back once, where it came from.
Must not know: what miners say and how it is said to them, names, how a difficulty is chosen.
"""

from stratum._engine import FORGOTTEN, NOT_HELD
from stratum.difficulty import DIFFICULTY_LOG2_MIN
from stratum.job import Job
from stratum.miners.channel import VERSION_MASK, Channel, Moved
from stratum.miners.contracts import Services
from stratum.miners.decisions import What
from stratum.miners.extranonce import ExtranonceExhausted, Pins
from stratum.miners.language import Language
from stratum.miners.liveness import Liveness
from stratum.miners.owner import GONE, Owner
from stratum.miners.session_difficulty import SessionDifficulty
from stratum.miners.vardiff import VardiffPolicy


class Assignment:
    """stratum.miners.channel.Member. `sent_seq` is the newest job id that this miner was given.

    `channel` is what it mines from its next job on, `extranonce1` its prefix there; `workers` are those that
    it is authorised for, all of one `party`, and so is who comes back for its prefix.
    """

    __slots__ = (
        "_came_back",
        "_inherited",
        "_language",
        "_liveness",
        "_mask",
        "_owes_job",
        "_services",
        "_told_channel",
        "_told_extranonce1",
        "channel",
        "difficulty",
        "extranonce1",
        "least_extranonce2_size",
        "only_new_work",
        "owner",
        "party",
        "resumes",
        "sent_seq",
        "shares_line",
        "slot",
        "wants_extranonce",
        "workers",
    )

    def __init__(
        self,
        services: Services,
        owner: Owner,
        slot: int,
        difficulty: SessionDifficulty,
        liveness: Liveness,
        language: Language,
    ) -> None:
        self.channel = services.channel
        self.extranonce1: bytes | None = None
        self.owner = owner
        self.slot = slot
        self.shares_line = language.shares_line
        self.difficulty = difficulty
        self.wants_extranonce = False
        self.least_extranonce2_size = 0  # it has been promised so much room for its search, wherever it goes
        self.sent_seq = 0
        self.workers: tuple[int, ...] = ()  # the engine bounds them
        self.party: int | None = None
        self.resumes = True  # its prefix is kept for it
        self.only_new_work = False  # as it was admitted
        self._came_back = False  # for the prefix of somebody of its party
        self._services = services
        self._liveness = liveness
        self._language = language
        self._owes_job = True
        self._inherited: Pins = ()  # with it, on the way to where nobody was told yet
        self._told_channel: Channel | None = None
        self._told_extranonce1 = b""
        self._mask: int | None = None  # that the miner asked for
        services.engine.set_version_mask(slot, VERSION_MASK)

    @property
    def policy(self) -> VardiffPolicy:
        """The bounds for difficulties, of now."""
        return self.channel.vardiff or self._services.vardiff

    # Extranonces

    @property
    def told(self) -> tuple[str, int]:
        """The extranonce1 that the miner knows of, in hex, and bytes of extranonce2.

        On its way to another channel, which comes with its next job, these are still the ones of before.
        """
        assert self._told_channel is not None
        return self._told_extranonce1.hex(), self._told_channel.extranonce2_size

    def subscribe(self, session_id: str | None, now_s: float, *, named: bool) -> int | None:
        """Get extranonces on `channel`; where that is full, on the one for miners that nobody knows.

        Returns the difficulty that an earlier session with this id had last, if the miner has its extranonces
        back. Raises ExtranonceExhausted.
        """
        try:
            self.extranonce1, pins, was = self.channel.lease(session_id, now_s, self.party)
        except ExtranonceExhausted:  # the space of an upstream may be small
            self.channel = self._services.channel
            self.extranonce1, pins, was = self.channel.lease(None, now_s)
        self._came_back = was is not None
        self.party = was if self.party is None else self.party
        if not named:
            self.channel.extranonces.unnamed[self.owner] = now_s
        self._occupy(pins)
        had = [log2 for _, log2 in pins if log2 >= DIFFICULTY_LOG2_MIN]
        return had[-1] if had and session_id == self.extranonce1.hex() else None

    def _occupy(self, pins: Pins) -> None:
        """Mine `channel` from the first job on; `pins` are of an earlier connection with this extranonce1."""
        assert self.extranonce1 is not None
        engine, channel = self._services.engine, self.channel
        engine.subscribe(self.slot, channel.number, self.extranonce1, channel.extranonce2_size)
        for from_seq, difficulty_log2 in pins:
            engine.pin_difficulty(self.slot, difficulty_log2, from_seq)
        self._told_channel, self._told_extranonce1 = channel, self.extranonce1

    def named(self) -> None:
        """The miner has said a name: others do not get its extranonces any more."""
        self.channel.extranonces.unnamed.pop(self.owner, None)

    def close(self, *, authorised: bool) -> None:
        """Give everything back. Shares already fed are still counted."""
        self.channel.sessions.discard(self)
        self.channel.waiting.discard(self)
        self.channel.extranonces.unnamed.pop(self.owner, None)
        self.owner = GONE
        if self.extranonce1 is None:
            return
        engine = self._services.engine
        pins = engine.pins(self.slot)
        accepted, _, _ = engine.counters(self.slot)
        # What is queued may be its own, if it has a name.
        worked = accepted > 0 or (authorised and engine.queued() > 0)
        party, resumes = self.party, self.resumes
        if self._told_channel is None or self._told_channel.same_extranonces(self.channel):
            self.channel.give_back(self.extranonce1, pins, worked=worked, party=party, resumes=resumes)
        else:  # it is on its way, and has both
            self.channel.give_back(self.extranonce1, self._inherited, worked=worked, party=party)
            self._told_channel.give_back(self._told_extranonce1, pins, party=party, resumes=resumes)
        self.extranonce1 = None

    # Version bits

    def ask_mask(self, mask: int) -> int:
        """The bits that the miner would like to roll; those that it may."""
        self._mask = mask
        self._agree_mask()
        return self._agreed_mask

    @property
    def asked_mask(self) -> int | None:
        """The bits that it would like to roll, if it ever asked."""
        return self._mask

    @property
    def _agreed_mask(self) -> int:
        """The bits that miner and channel agree on."""
        channel = self._told_channel or self.channel
        return (VERSION_MASK if self._mask is None else self._mask) & channel.version_mask

    def _agree_mask(self) -> bool:
        """Let the engine take them, of which the miner is told if it asked; False if these are no others."""
        return self._services.engine.set_version_mask(self.slot, self._agreed_mask)

    def mask_changed(self) -> bytes:
        """The channel has another version mask: holds at once (BIP 310)."""
        if self._told_channel is not self.channel or not self._agree_mask():
            return b""
        return self._mask_line()

    def _mask_line(self) -> bytes:
        """Which bits the miner may roll, if it ever asked."""
        return b"" if self._mask is None else self._language.mask(self._agreed_mask)

    # Where it mines

    def start_on(self, channel: Channel, now_s: float) -> bool:
        """Mine this channel before the first job; False where the miner cannot be told its extranonces."""
        if channel.same_extranonces(self.channel):
            self.channel = channel
            self._occupy(self._services.engine.pins(self.slot))
        elif self._can_be_told(channel):
            self.move_to(channel, now_s)
        else:
            return False
        return True

    def start(self, now_s: float) -> bytes:
        """It mines from now on: the mask, and a job if there is one for it."""
        self.channel.sessions.add(self)
        self._agree_mask()
        said = self._mask_line()  # only after the authorize reply: some firmware fails on it before
        if self.leaving:
            return said
        if not self._came_back and self._begins_anew_on(self.channel):
            self._services.engine.pin_difficulty(self.slot, FORGOTTEN, 0)
        self.channel.wait(self)
        if self.channel.current is None or self.channel.paused:
            return said  # the first job comes when there is one
        return said + self.send_job(b"", self.channel.current, now_s, fresh=False)

    def _begins_anew_on(self, channel: Channel) -> bool:
        """Whether no job of before is for it there: work of others cannot be made anew, and nobody here has
        anything by whose it is."""
        job = channel.current
        return self.only_new_work and job is not None and job.work.anew is not None

    def move_to(self, channel: Channel, now_s: float) -> Moved:
        """Mine another channel, from its next job on. Raises ExtranonceExhausted.

        RECONNECT: nothing has changed, a miner with these extranonces cannot mine it; see `send_away`.
        """
        assert self._told_channel is not None
        assert self.extranonce1 is not None
        told = self._told_channel
        inherited: Pins = ()
        if channel.same_extranonces(told):
            extranonce1, moved = self._told_extranonce1, Moved.JOB
        elif self._can_be_told(channel):
            (extranonce1, inherited, _), moved = channel.lease(None, now_s), Moved.EXTRANONCE
            if self._begins_anew_on(channel):
                inherited = ((0, FORGOTTEN),)
        elif channel.extranonces.full(now_s):
            raise ExtranonceExhausted("nobody is sent to where there is no room")
        else:
            return Moved.RECONNECT
        if not self.channel.same_extranonces(told):  # the miner has never heard of that one
            self.channel.give_back(self.extranonce1, self._inherited, worked=False, party=self.party)
        self.channel.sessions.discard(self)
        self.channel.waiting.discard(self)
        self.channel, self.extranonce1, self._inherited = channel, extranonce1, inherited
        channel.sessions.add(self)
        self.owe_job()
        return moved

    def _can_be_told(self, channel: Channel) -> bool:
        """Whether it can be given the channel's extranonces where it is."""
        return self.wants_extranonce and channel.extranonce2_size >= self.least_extranonce2_size

    def send_away(self, now_s: float) -> bytes:
        """Ask the miner to connect again; it is dropped if it does not."""
        if self.leaving:
            return b""
        self._liveness.sent_away(now_s, at_once=self.channel.paused)  # with nothing to do until it goes
        self._services.engine.rest(self.slot, 0.0)
        return self._language.come_back()

    @property
    def leaving(self) -> bool:
        """Whether it was sent away."""
        return self._liveness.leaving

    # Other work, for another difficulty

    def want_difficulty(self, log2: int | None = None) -> None:
        """Wait for other work with a difficulty, or with the present one where bounds have changed."""
        self.difficulty.want(self.policy, log2, anyway=self._owes_job)
        self._wait_if_needed()

    def bounds_changed(self) -> None:
        """The channel has other bounds for difficulties, from the next job on."""
        self.want_difficulty()

    def owe_job(self) -> None:
        """A clean job with its difficulty, as soon as there is a job that this miner has not had."""
        self._owes_job = True
        self.want_difficulty()

    def _wait_if_needed(self) -> None:
        if self.difficulty.pending_log2 is None:
            self.channel.waiting.discard(self)
        else:
            self.channel.wait(self)

    def can_use(self, job: Job) -> bool:
        """Whether it needs this job, or what is made anew of it, before the channel has other work."""
        return job.work.anew is not None or (self._owes_job and self._begins_at(job) is not None)

    # Jobs

    def send_job(self, line: bytes, job: Job, now_s: float, *, fresh: bool) -> bytes:
        """The bytes that give this session its channel's current job; none where it has to wait for another.

        `fresh`: the work has come this moment, so that a difficulty that waits holds for it.
        """
        if self._owes_job:
            return self._begin(job, now_s, fresh=fresh)
        difficulty = self.difficulty
        if fresh and difficulty.pending_log2 is not None:
            self.sent_seq = job.seq
            said = self._pin(difficulty.pending_log2, job.seq, now_s)
            return said + self._language.job(self.channel, job, line)
        said = b""
        if job.space < difficulty.pinned_from:  # work that was here before, when it may have had another one
            log2 = self._judged_at(job)
            if log2 is None:
                return b""
            if log2 != difficulty.log2:
                said = self._pin(log2, self.channel.next_seq, now_s)
        self.sent_seq = job.seq
        return said + self._language.job(self.channel, job, line)

    def _begin(self, job: Job, now_s: float, *, fresh: bool) -> bytes:
        """The first job of a channel, or of a new beginning."""
        log2 = self.difficulty.pending_log2 if fresh else self._begins_at(job)
        if log2 is None:
            return b""
        # What is known by now came while the session was not here: it has a difficulty without it.
        since_seq = job.seq if fresh else self.channel.next_seq
        self.sent_seq = job.seq
        said = self._arrive(job.seq, now_s) if self._told_channel is not self.channel else b""
        return said + self._pin(log2, since_seq, now_s) + self._language.job(self.channel, job, None)

    def _arrive(self, seq: int, now_s: float) -> bytes:
        """The job `seq` is the first one of another channel: what the miner is to hear before it."""
        engine, channel, told = self._services.engine, self.channel, self._told_channel
        assert self.extranonce1 is not None
        assert told is not None
        left = engine.pins(self.slot)
        engine.subscribe(self.slot, channel.number, self.extranonce1, channel.extranonce2_size, seq)
        said = b""
        if not channel.same_extranonces(told):
            told.give_back(self._told_extranonce1, left, party=self.party)
            # The same bytes are another prefix here, and the engine knows bytes.
            for from_seq, difficulty_log2 in ((0, NOT_HELD), *self._inherited):
                engine.pin_difficulty(self.slot, difficulty_log2, from_seq)
            self._inherited = ()
            said = self._language.extranonce(self.extranonce1, channel.extranonce2_size)
            if said:
                self._liveness.told_extranonces(now_s)
        self._told_channel, self._told_extranonce1 = channel, self.extranonce1
        return said + self.mask_changed()

    def _begins_at(self, job: Job) -> int | None:
        """The difficulty that known work has for it, which may be another one than it is to have.

        None: it waits for other work, where that is made within a second, or where it asked for more.
        """
        assert self._told_channel is not None
        same = self.channel.same_extranonces(self._told_channel)
        log2 = self._judged_at(job) if same else self.channel.pinned(self._inherited, job)
        if log2 is None or log2 == self.difficulty.pending_log2:
            return log2
        least_log2 = self.difficulty.least_log2(self.policy)
        return None if job.work.anew is not None or log2 < least_log2 else log2

    def _judged_at(self, job: Job) -> int | None:
        return self._services.engine.judged_at(self.slot, self.channel.number, job.seq)

    def _pin(self, log2: int, seq: int, now_s: float) -> bytes:
        was_idle, self._owes_job = self._owes_job, False
        if was_idle or log2 != self.difficulty.log2:
            self._services.note(self.workers, What.DIFFICULTY, self.difficulty.reason, log2)
        self.difficulty.pin(self.policy, log2, seq, now_s, was_idle=was_idle)
        self._wait_if_needed()
        return self._language.difficulty(log2)
