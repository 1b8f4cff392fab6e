"""The engine's rules once more, in plain Python over hashlib: what every share must be answered with.

Slow and obvious on purpose. Knows shares by their values, not by their text: how text is read is tested
elsewhere. Must not know: the engine.
"""

from collections import Counter, defaultdict
from hashlib import sha256

import msgspec

from stratum.difficulty import target_from_difficulty_log2
from stratum.job import Work
from stratum.verdict import Verdict

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
}


def sha256d(data: bytes) -> bytes:
    return sha256(sha256(data).digest()).digest()


def merkle_root(leaf: bytes, branch: tuple[bytes, ...]) -> bytes:
    for node in branch:
        leaf = sha256d(leaf + node)
    return leaf


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


class OracleSession(msgspec.Struct, kw_only=True):
    """What the engine was told about a session; `extranonce1` is None before subscribe."""

    channel: int = 1
    extranonce1: bytes | None = None
    extranonce2_size: int = 4
    workers: dict[str, int] = {}
    version_mask: int = 0
    pins: list[tuple[int, int]] = []

    def difficulty_log2(self, seq: int) -> int | None:
        """In force when the job was sent; None for a job from before this session's first."""
        return max((pin for pin in self.pins if pin[0] <= seq), default=(0, None))[1]


class Found(msgspec.Struct, frozen=True):
    """A solution as the engine hands it out."""

    seq: int
    worker: int
    extranonce1: bytes
    extranonce2: bytes
    ntime: int
    nonce: int
    version: int
    hash_internal: bytes


class Oracle:
    """Jobs, what was credited and what was found, and the verdict on the next share."""

    def __init__(self, *, duplicates_max: int = 1 << 26) -> None:
        self.jobs: dict[tuple[int, int], tuple[Work, int]] = {}  # (channel, seq) -> (work, rate)
        self.tips: dict[int, bytes] = {}
        self.credited: dict[bytes, set[bytes]] = defaultdict(set)  # by previous block
        self.found: list[Found] = []
        self.tallies: Counter[tuple[int, int, int, Verdict]] = Counter()  # worker, rate, difficulty, verdict
        self._duplicates_max = duplicates_max

    def add_job(self, channel: int, seq: int, work: Work, rate: int) -> None:
        self.jobs[channel, seq] = (work, rate)
        self.tips[channel] = work.prevhash_internal

    def judge(self, session: OracleSession, share: Share) -> Verdict:
        """The verdict, tallied; a solution goes to `found`."""
        worker = session.workers.get(share.worker)
        job = self.jobs.get((session.channel, share.seq))
        difficulty_log2 = session.difficulty_log2(share.seq)
        rate = 0
        if share.nonce is None or (
            session.extranonce1 is not None and len(share.extranonce2) != session.extranonce2_size
        ):
            verdict = Verdict.MALFORMED
        elif session.extranonce1 is None:
            verdict = Verdict.NOT_SUBSCRIBED
        elif worker is None:
            verdict = Verdict.UNAUTHORISED
        elif job is None or difficulty_log2 is None:
            verdict = Verdict.JOB_UNKNOWN
        else:
            work, rate = job
            verdict = self._judge_hashed(session, share, worker, work, difficulty_log2)
        if worker is not None:
            self.tallies[worker, rate, difficulty_log2 if rate and difficulty_log2 else 0, verdict] += 1
        return verdict

    def _judge_hashed(
        self, session: OracleSession, share: Share, worker: int, work: Work, difficulty_log2: int
    ) -> Verdict:
        assert session.extranonce1 is not None
        assert share.nonce is not None
        mask, rolled = (0, 0) if share.rolled is None else (session.version_mask, share.rolled)
        version = work.version & ~mask | rolled
        coinbase = work.coinbase1 + session.extranonce1 + share.extranonce2 + work.coinbase2
        header = (
            version.to_bytes(4, "little")
            + work.prevhash_internal
            + merkle_root(sha256d(coinbase), work.branch)
            + share.ntime.to_bytes(4, "little")
            + work.nbits.to_bytes(4, "little")
            + share.nonce.to_bytes(4, "little")
        )
        digest = sha256d(header)
        number = int.from_bytes(digest, "little")
        block = number <= work.network_target
        if block and all(found.hash_internal != digest for found in self.found):
            facts = (share.extranonce2, share.ntime, share.nonce, version, digest)
            self.found.append(Found(share.seq, worker, session.extranonce1, *facts))
        credited = self.credited[work.prevhash_internal]
        if work.prevhash_internal != self.tips[session.channel]:
            return Verdict.STALE
        if not work.ntime_min <= share.ntime <= work.ntime_max:
            return Verdict.NTIME_OUT_OF_RANGE
        if rolled & ~mask:
            return Verdict.VERSION_OUTSIDE_MASK
        if not block and number > target_from_difficulty_log2(difficulty_log2):
            return Verdict.LOW_DIFFICULTY
        if digest in credited:
            return Verdict.DUPLICATE
        if len(credited) >= self._duplicates_max:
            return Verdict.FILTER_FULL
        credited.add(digest)
        return Verdict.ACCEPTED
