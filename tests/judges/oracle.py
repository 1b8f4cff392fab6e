"""The engine's rules once more, in plain Python over hashlib: what every share must be answered with.

Slow and obvious on purpose; of the engine it takes the two numbers that stand for no difficulty. What a
session and its jobs were is read when a share comes; what its channel mines by then, when it is judged. Knows
shares by their values, not by their text: how text is read is tested elsewhere.
"""

from collections import Counter, defaultdict
from hashlib import sha256

import msgspec

from stratum._engine import FORGOTTEN, NOT_HELD
from stratum.difficulty import difficulty_of_target, floor_log2, target_from_difficulty_log2
from stratum.job import Work
from stratum.tallies import Verdict

PINS_MAX = 9
REJECTS_PER_ACCEPTED = 8
REJECTS_EARNED_MAX = 4096
PLACES_MAX = 5  # where a session is, and where it was before: four moves back

ANSWERS = {
    Verdict.ACCEPTED: b'"result":true,"error":null}',
    Verdict.MALFORMED: b'"result":null,"error":[20,"Malformed share",null]}',
    Verdict.NOT_SUBSCRIBED: b'"result":null,"error":[25,"Not subscribed",null]}',
    Verdict.UNAUTHORISED: b'"result":null,"error":[24,"Unauthorized worker",null]}',
    Verdict.JOB_UNKNOWN: b'"result":null,"error":[21,"Job not found",null]}',
    Verdict.STALE: b'"result":null,"error":[21,"Stale share",null]}',
    Verdict.NTIME_OUT_OF_RANGE: b'"result":null,"error":[20,"ntime out of range",null]}',
    Verdict.VERSION_OUTSIDE_MASK: b'"result":null,"error":[20,"Version bits outside the mask",null]}',
    Verdict.LOW_DIFFICULTY: b'"result":null,"error":[23,"Low difficulty share",null]}',
    Verdict.DUPLICATE: b'"result":null,"error":[22,"Duplicate share",null]}',
    Verdict.FILTER_FULL: b'"result":null,"error":[20,"Share not counted, try again",null]}',
    Verdict.UNDELIVERED: b'"result":true,"error":null}',
}


def sha256d(data: bytes) -> bytes:
    return sha256(sha256(data).digest()).digest()


def merkle_root(leaf: bytes, branch: tuple[bytes, ...]) -> bytes:
    for node in branch:
        leaf = sha256d(leaf + node)
    return leaf


def header_hash(work: Work, *, extranonces: bytes, ntime: int, nonce: int, version: int) -> bytes:
    coinbase = work.coinbase1 + extranonces + work.coinbase2
    return sha256d(
        version.to_bytes(4, "little")
        + work.prevhash_internal
        + merkle_root(sha256d(coinbase), work.branch)
        + ntime.to_bytes(4, "little")
        + work.nbits.to_bytes(4, "little")
        + nonce.to_bytes(4, "little")
    )


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """One submit; `rolled` is None where it has five parameters, `nonce` where it is not a number."""

    worker: str
    seq: int
    extranonce2: bytes
    ntime: int
    nonce: int | None
    rolled: int | None = None

    def params(self) -> list[str]:
        """As miners write it."""
        nonce = "nonsense" if self.nonce is None else f"{self.nonce:08x}"
        params = [self.worker, f"{self.seq:x}", self.extranonce2.hex(), f"{self.ntime:08x}", nonce]
        return params if self.rolled is None else [*params, f"{self.rolled:08x}"]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a session mines from the job `from_seq` on, and what its shares there are made of."""

    from_seq: int
    channel: int
    extranonce1: bytes
    extranonce2_size: int
    version_mask: int
    pins: tuple[tuple[int, int], ...] = ()  # of a former place: with what it was left


class OracleSession(msgspec.Struct, kw_only=True, eq=False):
    """What the engine was told about a session, and what it has counted; no places before subscribe."""

    workers: dict[str, int] = {}
    version_mask: int = 0
    places: list[Place] = []
    pins: list[tuple[int, int]] = []  # with the extranonces that it has
    retarget_after: int = 0
    retarget_due: bool = False
    closed: bool = False
    accepted: int = 0
    rejected: int = 0
    rejects_earned: Counter[int] = msgspec.field(default_factory=Counter)  # by worker
    at_difficulty: int = 0

    def subscribe(
        self,
        channel: int,
        extranonce1: bytes,
        extranonce2_size: int,
        *,
        from_seq: int = 0,
    ) -> None:
        if from_seq == 0:
            if self.places and self.places[-1].channel != channel:
                self.pins = []
            self.places = []
        if self.places:
            there = self.places[-1] = msgspec.structs.replace(self.places[-1], pins=tuple(self.pins))
            if there.extranonce1 != extranonce1:
                self.pins = []
        place = Place(
            from_seq=from_seq if self.places else 0,
            channel=channel,
            extranonce1=extranonce1,
            extranonce2_size=extranonce2_size,
            version_mask=self.version_mask,
        )
        self.places = [*self.places, place][-PLACES_MAX:]

    def set_version_mask(self, mask: int) -> None:
        self.version_mask = mask
        if self.places:
            self.places[-1] = msgspec.structs.replace(self.places[-1], version_mask=mask)

    def pin(self, difficulty_log2: int, from_seq: int) -> None:
        earlier = [pin for pin in self.pins if pin[0] < from_seq]
        self.pins = [*earlier, (from_seq, difficulty_log2)]
        if len(self.pins) > PINS_MAX:
            self.pins = [(0, FORGOTTEN), *self.pins[2:]]
        self.at_difficulty = 0
        self.retarget_due = False

    def set_retarget_after(self, accepted_shares: int) -> None:
        self.retarget_after = accepted_shares
        self.retarget_due = False

    def place(self, seq: int) -> Place:
        """Where it was when this job was sent; the oldest place known for a job from before that."""
        return [place for place in self.places if place.from_seq <= seq or place is self.places[0]][-1]

    def difficulty_log2(self, place: Place, job: "OracleJob") -> int | None:
        """In force for these extranonces when this work came; where nobody had them, what it came with."""
        since, start_log2 = job.first
        held = self.pins if place is self.places[-1] else place.pins
        pins = [pin for pin in held if pin[0] <= since]
        if not pins or pins[-1][1] == NOT_HELD:
            return start_log2
        return None if pins[-1][1] == FORGOTTEN else pins[-1][1]


class OracleJob(msgspec.Struct, frozen=True, kw_only=True):
    """`seq` is the job's own, whatever the aliases it was sent under."""

    channel: int
    seq: int
    work: Work
    rate: int
    size: int  # of both extranonces together
    forward_target: int | None = None
    first: tuple[int, int | None]  # the seq that this work came with first, and its start difficulty then


class OracleChannel(msgspec.Struct, kw_only=True):
    """`jobs` by the ids that they were sent under."""

    jobs: dict[int, OracleJob] = {}
    tip: bytes = b""
    stale_before: int = 0
    undelivered_before: int = 0


class Found(msgspec.Struct, frozen=True):
    """A solution as the engine hands it out."""

    channel: int
    seq: int
    worker: int
    extranonce1: bytes
    extranonce2: bytes
    ntime: int
    nonce: int
    version: int
    hash_internal: bytes
    difficulty_log2: int
    tallied: bool


class Heard(msgspec.Struct, frozen=True):
    """A share with the facts of the moment it came; `refused` without looking at its hash, or on a job."""

    session: OracleSession
    share: Share
    worker: int | None
    refused: Verdict | None = None
    place: Place | None = None
    job: OracleJob | None = None
    difficulty_log2: int = 0


class Oracle:
    """Jobs, what was credited and what was found, and the verdicts on the shares that were heard."""

    def __init__(self, *, duplicates_max: int = 1 << 26) -> None:
        self.channels: dict[int, OracleChannel] = {}
        self.credited: dict[bytes, set[bytes]] = defaultdict(set)  # by previous block
        self.heard: list[Heard] = []
        self.found: list[Found] = []
        self.due: list[OracleSession] = []  # for a retarget, since the last judge()
        self.tallies: Counter[tuple[int, int, int, Verdict]] = Counter()  # worker, rate, difficulty, verdict
        self._blocks: set[bytes] = set()
        self._first: dict[object, tuple[int, int | None]] = {}
        self._duplicates_max = duplicates_max

    def first(self, work: Work, size: int, seq: int, start_log2: int | None) -> tuple[int, int | None]:
        """Of this job, or of the one that has had this work."""
        made_of = (work.prevhash_internal, work.coinbase1, work.coinbase2, work.branch, size)
        return self._first.setdefault(made_of, (seq, start_log2))

    def add_job(self, job: OracleJob, *, clean: bool = False) -> None:
        channel = self.channels[job.channel]
        channel.jobs[job.seq] = job
        channel.tip = job.work.prevhash_internal
        if clean:
            channel.stale_before = job.seq

    def hear(self, session: OracleSession, share: Share) -> Heard:
        heard = self._resolve(session, share)
        self.heard.append(heard)
        return heard

    def judge(self) -> list[Verdict]:
        """The verdicts on what was heard; tallied, unless the share goes to `found` to be forwarded."""
        self.due = []
        verdicts = []
        for heard in self.heard:
            verdict, tallied = self._judge(heard)
            verdicts.append(verdict)
            if heard.worker is not None and self._charged(heard, heard.worker, verdict, tallied=tallied):
                rate = heard.job.rate if heard.job else 0
                self.tallies[heard.worker, rate, credited_log2(heard), verdict] += 1
            self._count(heard, verdict)
        self.heard = []
        return verdicts

    def _resolve(self, session: OracleSession, share: Share) -> Heard:
        worker = session.workers.get(share.worker)
        place = session.place(share.seq) if session.places else None
        if share.nonce is None or (place and len(share.extranonce2) != place.extranonce2_size):
            return Heard(session, share, worker, Verdict.MALFORMED)
        if place is None:
            return Heard(session, share, worker, Verdict.NOT_SUBSCRIBED)
        if worker is None:
            return Heard(session, share, worker, Verdict.UNAUTHORISED)
        channel = self.channels.get(place.channel)
        job = channel.jobs.get(share.seq) if channel and place.from_seq <= share.seq else None
        log2 = session.difficulty_log2(place, job) if job else None
        if job is None or log2 is None or job.size != len(place.extranonce1) + place.extranonce2_size:
            return Heard(session, share, worker, Verdict.JOB_UNKNOWN)
        return Heard(session, share, worker, None, place, job, log2)

    def _judge(self, heard: Heard) -> tuple[Verdict, bool]:
        """The verdict, and whether the share is tallied here."""
        if heard.refused is not None:
            return heard.refused, True
        share, worker, place, job = heard.share, heard.worker, heard.place, heard.job
        assert worker is not None
        assert place is not None
        assert job is not None
        assert share.nonce is not None
        mask, rolled = (0, 0) if share.rolled is None else (place.version_mask, share.rolled)
        extranonces = place.extranonce1 + share.extranonce2
        versions = [job.work.version & ~mask | rolled]
        if share.rolled is not None and not rolled & ~mask:
            versions.append(job.work.version ^ rolled)  # what some firmware sends is the difference
        digests = [
            header_hash(
                job.work, extranonces=extranonces, ntime=share.ntime, nonce=share.nonce, version=version
            )
            for version in versions
        ]
        digest = max(
            digests, key=lambda it: self._reach(job, heard.difficulty_log2, it)
        )  # the first of several
        version = versions[digests.index(digest)]
        number = int.from_bytes(digest, "little")
        block = number <= job.work.network_target

        verdict = self._verdict(heard, digest, block=block, bad_bits=bool(rolled & ~mask))
        good = verdict in (Verdict.ACCEPTED, Verdict.UNDELIVERED)
        target = job.forward_target
        forwarded = good and target is not None and (block or number <= target)
        if forwarded or (block and digest not in self._blocks):
            facts = (place.extranonce1, share.extranonce2, share.ntime, share.nonce, version, digest)
            self.found.append(
                Found(job.channel, share.seq, worker, *facts, heard.difficulty_log2, tallied=not forwarded)
            )
        if block:
            self._blocks.add(digest)
        return (Verdict.ACCEPTED, False) if forwarded else (verdict, True)

    @staticmethod
    def _reach(job: OracleJob, difficulty_log2: int, digest: bytes) -> tuple[bool, bool, bool]:
        number = int.from_bytes(digest, "little")
        forward = job.forward_target is not None and number <= job.forward_target
        share = number <= target_from_difficulty_log2(difficulty_log2)
        return number <= job.work.network_target, share, forward

    def _verdict(self, heard: Heard, digest: bytes, *, block: bool, bad_bits: bool) -> Verdict:
        assert heard.job is not None
        job, work = heard.job, heard.job.work
        channel = self.channels.get(job.channel)
        if channel is None or channel.tip != work.prevhash_internal or job.seq < channel.stale_before:
            return Verdict.STALE
        if not work.ntime_min <= heard.share.ntime <= work.ntime_max:
            return Verdict.NTIME_OUT_OF_RANGE
        if bad_bits:
            return Verdict.VERSION_OUTSIDE_MASK
        low = int.from_bytes(digest, "little") > target_from_difficulty_log2(heard.difficulty_log2)
        if low and (not block or job.forward_target is not None):
            return Verdict.LOW_DIFFICULTY
        credited = self.credited[work.prevhash_internal]
        if digest in credited:
            return Verdict.DUPLICATE
        if len(credited) >= self._duplicates_max:
            return Verdict.FILTER_FULL
        credited.add(digest)
        return Verdict.UNDELIVERED if job.seq < channel.undelivered_before else Verdict.ACCEPTED

    def _charged(self, heard: Heard, worker: int, verdict: Verdict, *, tallied: bool) -> bool:
        """Whether a worker's tallies say it: a reject only of one who has earned it in this session."""
        if verdict in (Verdict.ACCEPTED, Verdict.UNDELIVERED):
            return tallied
        earned = heard.session.rejects_earned
        if heard.session.closed or earned[worker] == 0:
            return False
        earned[worker] -= 1
        return True

    def _count(self, heard: Heard, verdict: Verdict) -> None:
        """In the counters of a session that is still there; good ones bring its retarget nearer."""
        session = heard.session
        if session.closed:
            return
        if verdict not in (Verdict.ACCEPTED, Verdict.UNDELIVERED):
            session.rejected += 1
            return
        session.accepted += 1
        if heard.worker is not None:
            earned = session.rejects_earned[heard.worker] + REJECTS_PER_ACCEPTED
            session.rejects_earned[heard.worker] = min(earned, REJECTS_EARNED_MAX)
        if not session.pins or session.pins[-1][1] != heard.difficulty_log2:
            return
        session.at_difficulty += 1
        if 0 < session.retarget_after <= session.at_difficulty and not session.retarget_due:
            session.retarget_due = True
            self.due.append(session)


def credited_log2(heard: Heard) -> int:
    """Not above the network's difficulty: there every block is a share, whatever the share target."""
    job = heard.job
    if job is None or job.forward_target is not None or job.work.network_target == 0:
        return heard.difficulty_log2
    return min(heard.difficulty_log2, floor_log2(difficulty_of_target(job.work.network_target)))
