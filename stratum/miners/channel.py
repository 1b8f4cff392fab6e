"""A channel: the jobs of one work source, and the sessions that mine them.

Publishing work gives it a job id and tells the engine; what the engine finds on it goes back to its source.
A difficulty belongs to work, from the moment that it comes: a new one waits for other work, or who chooses it
could choose by the hashes that he has found. Own work is made anew for that, with another coinbase; an
upstream's cannot be. An alias is the same work under a new id, for who is to start anew. Both are later than
the work by as much as time has passed: a miner that starts its search anew with every job would otherwise
find the same shares again.

Invariants: job ids only grow, across all channels that share them; an id that the engine knows is known here.
Must not know: sockets, where work comes from, what a share is worth.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from enum import Enum
from typing import Protocol

import msgspec

from stratum import messages
from stratum._engine import FORGOTTEN, JOBS_PER_CHANNEL_MAX, NOT_HELD, Engine, Found
from stratum.job import Job, Solution, Work, swap_words
from stratum.miners.extranonce import ExtranonceSpace, Pins
from stratum.miners.owner import Owner
from stratum.miners.vardiff import VardiffPolicy

# Work kept per channel, with all that was made anew of it: eight minutes of 30 s refreshes. Miners are on the
# newest within seconds; each holds its template, megabytes on a busy network.
WORKS_MAX = 16
VERSION_MASK = 0x1FFFE000  # BIP 310 with the bits that BIP 320 sets aside
ROLLED_BITS = 0x1FFFFFE0  # those of BIP 323, which Stratum V2 leaves to machines


class Moved(Enum):
    """How a session gets to another channel."""

    JOB = "job"  # the extranonces are the same: with its next job
    EXTRANONCE = "set_extranonce"  # before its next job
    RECONNECT = "reconnect"  # on a new connection


class Member(Protocol):
    """A session that mines a channel: what it is told, and what whoever places it must know.

    `workers` are those that it is authorised for, one at least; `sent_seq` is the newest job that it was
    given; `shares_line`: a job is the same bytes for all of them. What it hears is bytes for its `owner`,
    empty where there is nothing to say.
    """

    slot: int  # the engine's number for it
    channel: "Channel"
    owner: Owner
    workers: tuple[int, ...]
    sent_seq: int
    wants_extranonce: bool
    shares_line: bool

    @property
    def leaving(self) -> bool: ...
    def can_use(self, job: Job) -> bool: ...
    def send_job(self, line: bytes, job: Job, now_s: float, *, fresh: bool) -> bytes: ...
    def mask_changed(self) -> bytes: ...
    def bounds_changed(self) -> None: ...
    def move_to(self, channel: "Channel", now_s: float) -> Moved: ...
    def send_away(self, now_s: float) -> bytes: ...


class WorkSource(Protocol):
    """Where a channel's work comes from, and what is found on it goes."""

    def on_solution(self, solution: Solution) -> None:
        """Called at once, before anything else is done. Must not block or raise."""


class JobIds:
    """Job sequence numbers: unique per boot, and above those of every earlier boot.

    2^20 ids a second are never reached, so counting on from the second of the start cannot meet ids of
    a boot that started a second earlier.
    """

    def __init__(self, started_at_unix_s: float | None = None) -> None:
        self.last = int(time.time() if started_at_unix_s is None else started_at_unix_s) << 20
        self.following = self.last + 1  # one number for all sessions that note it

    def next(self) -> int:
        self.last, self.following = self.following, self.following + 1
        return self.last


class Channel:
    """`number` is the engine's name for it; `monotonic_s` says how long ago work was published.

    `vardiff` replaces the server's policy where the work source sets bounds of its own. While it is `paused`
    its sessions are told nothing new.
    """

    def __init__(
        self,
        number: int,
        source: WorkSource,
        *,
        engine: Engine,
        job_ids: JobIds,
        extranonces: ExtranonceSpace,
        extranonce2_size: int,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 3 <= extranonce2_size <= 8:
            raise ValueError("extranonce2 has 3 to 8 bytes: with less or more there is firmware that fails")
        self.number = number
        self.source = source
        self.extranonces = extranonces
        self.extranonce2_size = extranonce2_size
        self.sessions: set[Member] = set()
        self.waiting: set[Member] = set()  # sessions with a new difficulty, or without a job
        self.on_waiting: Callable[[], None] = lambda: None
        self.current: Job | None = None
        self.version_mask = VERSION_MASK
        self.vardiff: VardiffPolicy | None = None
        self.paused = False
        self._engine = engine
        self._job_ids = job_ids
        self._monotonic_s = monotonic_s
        self._published_s = 0.0  # the current work
        self.told_s = 0.0  # when everybody was sent something last, by the clock of who sends
        self._works: deque[int] = deque()  # the first id of each work that is kept
        self.jobs: OrderedDict[int, Job] = OrderedDict()  # every live id, aliases too, oldest first
        self._ntime = 0  # of the current job
        self._notify_params: list[object] = []  # of the current work, without its ntime
        self._clean_line = (0, 0, b"")  # for who begins: of which job, with which ntime
        engine.add_channel(number)
        extranonces.sharers.append(self)

    def close(self) -> None:
        """Nobody mines it any more; shares of its jobs are shares of unknown jobs from here on."""
        self.extranonces.sharers.remove(self)
        self._engine.remove_channel(self.number)
        self.jobs.clear()

    @property
    def extranonce_size(self) -> int:
        """Bytes of extranonce1 and extranonce2 together: the room that a coinbase must leave."""
        return self.extranonces.size + self.extranonce2_size

    @property
    def next_seq(self) -> int:
        """Of the job that is published next, on whatever channel."""
        return self._job_ids.following

    @property
    def oldest_live_seq(self) -> int:
        return next(iter(self.jobs), self.next_seq)

    @property
    def ntime(self) -> int:
        """Where the search of the current job begins."""
        return self._ntime

    def forget_work(self) -> None:
        """Nobody mines it, and nobody will go on from here: shares of its jobs are not known any more."""
        if self.current is not None:
            self._engine.drop_jobs_before(self.number, self.next_seq)
            self._works.clear()
            self.jobs.clear()
            self.current = None

    def wait(self, session: Member) -> None:
        """The session needs other work, or a job."""
        self.waiting.add(session)
        self.on_waiting()

    def servable(self) -> list[Member]:
        """Those of the waiting whom a job between two works can help."""
        job = self.current
        return [] if job is None else [session for session in self.waiting if session.can_use(job)]

    def same_extranonces(self, other: "Channel") -> bool:
        """Whether a session may move between the two with the extranonces that it has."""
        return self.extranonces is other.extranonces and self.extranonce2_size == other.extranonce2_size

    def publish(
        self,
        work: Work,
        *,
        rate: int,
        forward_target: int | None = None,
        clean: bool = False,
        outdates: bool = False,
        start_log2: int | None = None,
    ) -> Job:
        """Make work the channel's current job; clean_jobs where the previous block changed, or `clean`.

        Shares that meet the forward target are handed out. `outdates`: what was published before is stale.
        """
        if self.current is None or self.current.work.prevhash_internal != work.prevhash_internal:
            clean = True
        job = Job(
            seq=self._job_ids.next(),
            channel=self.number,
            rate=rate,
            clean=clean,
            work=work,
            start_log2=start_log2,
        )
        job = self._add(job, forward_target, outdates=outdates)
        self._published_s, self._ntime = self._monotonic_s(), work.ntime
        self._works.append(job.seq)
        if len(self._works) > WORKS_MAX:
            self._works.popleft()
            self._engine.drop_jobs_before(self.number, self._works[0])
            while self.oldest_live_seq < self._works[0]:
                self.jobs.popitem(last=False)
        return job

    def anew(self) -> Job | None:
        """The current work with another coinbase, which nobody has searched; None where there is none."""
        if self.current is None or self.current.work.anew is None:
            return None
        work = self.current.work.anew()
        job = msgspec.structs.replace(self.current, seq=self._job_ids.next(), clean=False, work=work)
        job = self._add(job, None, outdates=False)
        passed_s = int(self._monotonic_s() - self._published_s)
        self._ntime = max(self._ntime, min(work.ntime + passed_s, work.ntime_max))
        return job

    def _add(self, job: Job, forward_target: int | None, *, outdates: bool) -> Job:
        work = job.work
        space, start_log2 = self._engine.add_job(
            channel=self.number,
            seq=job.seq,
            rate=job.rate,
            coinbase1=work.coinbase1,
            coinbase2=work.coinbase2,
            extranonce_size=self.extranonce_size,
            branch=b"".join(work.branch),
            prevhash_internal=work.prevhash_internal,
            version=work.version,
            nbits=work.nbits,
            ntime_min=work.ntime_min,
            ntime_max=work.ntime_max,
            network_target_le=work.network_target.to_bytes(32, "little"),
            forward_target_le=None if forward_target is None else forward_target.to_bytes(32, "little"),
            clean=outdates,
            start_log2=job.start_log2,
        )
        self._notify_params = [
            swap_words(work.prevhash_internal).hex(),
            work.coinbase1.hex(),
            work.coinbase2.hex(),
            [node.hex() for node in work.branch],
            f"{work.version & 0xFFFFFFFF:08x}",
            f"{work.nbits:08x}",
        ]
        job = msgspec.structs.replace(job, space=space, start_log2=start_log2)
        self._remember(job)
        return job

    def alias(self) -> Job | None:
        """The current work under a new id, and later; None while there is no work."""
        if self.current is None:
            return None
        job = msgspec.structs.replace(self.current, seq=self._job_ids.next(), clean=False)
        self._engine.add_alias(self.number, job.seq, self.current.seq)
        # A second more than has passed: some miners move ntime on by themselves, and are there already.
        passed_s = int(self._monotonic_s() - self._published_s) + 1
        later = max(self._ntime + 1, job.work.ntime + passed_s)
        self._ntime = max(self._ntime, min(later, job.work.ntime_max))
        self._remember(job)
        return job

    def undeliverable(self) -> None:
        """Good shares of everything published by now count as undelivered."""
        self._engine.undelivered_before(self.number, self.next_seq)

    def _remember(self, job: Job) -> None:
        self.current = job
        self.jobs[job.seq] = job
        if len(self.jobs) > JOBS_PER_CHANNEL_MAX:  # as the engine does
            self.jobs.popitem(last=False)

    def notify_line(self, *, clean: bool) -> bytes:
        """mining.notify of the current job: the same bytes for every session."""
        job, ntime = self.current, self._ntime
        assert job is not None
        if clean and self._clean_line[:2] == (job.seq, ntime):
            return self._clean_line[2]
        line = messages.notify(job.job_id, [*self._notify_params, f"{ntime:08x}"], clean=clean)
        if clean:  # everybody who comes is told it, until there is another job
            self._clean_line = job.seq, ntime, line
        return line

    def hand_over(self, found: Found) -> None:
        """Give the work source what the engine has found; nothing if the job was dropped meanwhile."""
        job = self.jobs.get(found.seq)
        if job is None:
            return
        solution = Solution(
            job=job,
            worker=found.worker,
            extranonce1=found.extranonce1,
            extranonce2=found.extranonce2,
            ntime=found.ntime,
            nonce=found.nonce,
            version=found.version,
            hash_internal=found.hash_internal,
            difficulty_log2=found.difficulty_log2,
            tallied=found.tallied,
        )
        self.source.on_solution(solution)

    def lease(
        self, session_id: str | None, now_s: float, party: int | None = None
    ) -> tuple[bytes, Pins, int | None]:
        """An extranonce1, the one of an earlier session where its id is known; and that one's pins and party,
        which is this one's if that is known.

        Raises ExtranonceExhausted.
        """
        if session_id is not None and len(session_id) == 2 * self.extranonces.size:
            try:
                wanted = bytes.fromhex(session_id)
            except ValueError:
                wanted = b""
            was = self.extranonces.party_of(wanted)
            if None in (was, party) or was == party:
                pins = self.extranonces.resume(wanted)
                if pins is not None:
                    return wanted, pins, was
        self.extranonces.make_room(now_s)
        extranonce1 = self.extranonces.allocate()
        return extranonce1, self.extranonces.inherited(extranonce1), None

    @staticmethod
    def pinned(pins: Pins, job: Job) -> int | None:
        """What a job is judged at for who gets an extranonce1 with these pins; None: not known any more."""
        held = (log2 for from_seq, log2 in reversed(pins) if from_seq <= job.space)
        log2 = next(held, NOT_HELD)
        if log2 == NOT_HELD:
            return job.start_log2
        return None if log2 == FORGOTTEN else log2

    def give_back(
        self,
        extranonce1: bytes,
        pins: Pins,
        *,
        worked: bool = True,
        party: int | None = None,
        resumes: bool = True,
    ) -> None:
        """The session left: if it worked, its prefix rests until no job that it may have mined is live.

        `pins` hold for the work that came while it was here, and not for what comes while nobody is.
        """
        if not pins or pins[-1][1] != NOT_HELD:
            pins = [*pins, (self.next_seq, NOT_HELD)]
        self.extranonces.release(
            extranonce1, self._job_ids.last, pins, worked=worked, party=party, resumes=resumes
        )
