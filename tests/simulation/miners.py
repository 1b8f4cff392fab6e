"""Miners: they solve real shares on what they are told, and keep a list of what they sent and were answered.

That list is what the auditor believes. A share is described by what the miner heard (the job's bytes, the
difficulty that came before it), so that nothing of the pool's own idea of it is in it.
"""

import hashlib
import json
import struct
from collections.abc import Callable, Container
from fractions import Fraction
from typing import Any, Final, Protocol

import msgspec
import trio

from tests.simulation.dice import Dice
from tests.simulation.network import Connection

DIFF1: Final = 0xFFFF << 208
JOBS_MAX: Final = 12  # that a miner remembers: late shares are of one of these
RESTLESS_S: Final = (2.0, 12.0)
AGAIN_S: Final = (0.2, 6.0)  # before it connects again
HASHES_MAX: Final = 4_000  # on one job
MASK: Final = 0x1FFFE000
SUBSCRIBE, AUTHORIZE, CONFIGURE, EXTRANONCE, FIRST_SHARE = 1, 2, 3, 4, 100


def sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def prevhash_of(word: str) -> bytes:
    """As it is hashed."""
    told = bytes.fromhex(word)
    return b"".join(told[at : at + 4][::-1] for at in range(0, 32, 4))


class Job(msgspec.Struct, frozen=True):
    """What one mining.notify said, and what was in force for it."""

    job_id: str
    prevhash: bytes  # as it is hashed
    coinbase1: bytes
    coinbase2: bytes
    branch: tuple[bytes, ...]
    version: int
    nbits: int
    ntime: int
    extranonce1: bytes
    extranonce2_bytes: int
    difficulty: Fraction
    root: bytes = b""  # of a standard channel of V2, which is not told what that is made of

    @property
    def space(self) -> tuple[object, ...]:
        """All that makes two searches the same."""
        made_of = (self.coinbase1, self.extranonce1, self.coinbase2, self.branch, self.root)
        return (self.prevhash, *made_of, self.nbits)

    @property
    def target(self) -> int:
        return int(DIFF1 / self.difficulty)


class Share(msgspec.Struct, kw_only=True):
    """Sent under a name; `verdict` is None until there is an answer, and stays so where none ever comes."""

    worker: str
    job: Job
    session: int
    hash_int: int
    prevhash: bytes
    nbits: int
    honest: bool  # a good share, sent once, as far as the miner knows
    sent_s: float
    at: str = ""  # who it was sent to, where there are several
    answered_s: float | None = None
    verdict: str | None = None  # "accepted", or the pool's words
    may_be_lost: bool = False  # with the disk that had it
    words: tuple[str, ...] = ()  # as they were submitted


class Ledger(Protocol):
    """Where miners write down what they saw."""

    shares: list[Share]

    def told(self, session: int, job: Job, *, resumed: bool) -> Container[str]:
        """Jobs, by their names, that whoever told this one has told anybody."""

    def note(self, *words: object) -> None: ...


class Habits(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine is like."""

    hashes_per_s: float
    rolls: bool = False  # the version
    resumes: bool = False  # its session, with the id of the one before
    takes_extranonces: bool = False
    restless: bool = False  # it connects anew every few seconds
    names_each_share: bool = False  # every share is another worker's
    repeats: float = 0.0  # chances to send a share twice,
    late: float = 0.0  # one of a job of before,
    easy: float = 0.0  # one below its difficulty,
    replays: float = 0.0  # and one that somebody else has accepted


class Miner:
    """`connect` opens a connection, or says None; `after` does something later."""

    def __init__(
        self,
        name: str,
        habits: Habits,
        ledger: Ledger,
        chance: Dice,
        *,
        connect: Callable[["Miner"], Connection | None],
        after: Callable[[float, Callable[[], None]], None],
        session_number: Callable[[], int],
    ) -> None:
        self.name, self.habits = name, habits
        self.resting = False
        self.at = ""  # whom it is connected to, where there are several
        self._ledger, self._chance = ledger, chance
        self._connect, self._after, self._session_number = connect, after, session_number
        self._connection: Connection | None = None
        self._session = 0
        self._session_id: str | None = None
        self._resumed = False
        self._named = 0
        self._search = 0  # counts them: an older one is over
        self._good: Share | None = None  # the last one that was accepted
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._buffer = b""
        self._extranonce1, self._extranonce2_bytes = b"", 0
        self._difficulty = Fraction(1)
        self._mask = 0
        self._jobs: list[Job] = []
        self._pending: dict[int, Share] = {}
        self._next_id = FIRST_SHARE
        self._worker = self.name

    # Connections

    def start(self) -> None:
        """Connect, as long as it takes."""
        if self._connection is not None or self.resting:
            return
        self._begin_anew()
        self._connection = self._connect(self)
        if self._connection is None:
            self._after(self._chance.uniform(*AGAIN_S), self.start)
            return
        self._session = self._session_number()
        agent = f"sim/{self.name}"
        params: list[Any] = [agent]
        self._resumed = self.habits.resumes and self._session_id is not None
        if self._resumed:
            params.append(self._session_id)
        if self.habits.rolls:
            asks = {"version-rolling.mask": f"{MASK:08x}", "version-rolling.min-bit-count": 2}
            self._say(CONFIGURE, "mining.configure", [["version-rolling"], asks])
        self._say(SUBSCRIBE, "mining.subscribe", params)
        if self.habits.takes_extranonces:
            self._say(EXTRANONCE, "mining.extranonce.subscribe", [])
        self._say(AUTHORIZE, "mining.authorize", [self.name, "x"])
        if self.habits.restless:
            connection = self._connection
            self._after(self._chance.uniform(*RESTLESS_S), lambda: self._leaves(connection))

    def _leaves(self, connection: Connection) -> None:
        if connection is self._connection and not self.resting:
            connection.close()

    def stop(self) -> None:
        """Find nothing more; what is under way is still answered."""
        self.resting = True
        self._search += 1

    @property
    def unanswered(self) -> int:
        return len(self._pending)

    def closed(self) -> None:
        self._connection = None
        self._search += 1
        self._pending.clear()
        self._after(self._chance.uniform(*AGAIN_S), self.start)

    def hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()

    @property
    def connection(self) -> Connection | None:
        return self._connection

    def _say(self, number: int, method: str, params: list[Any]) -> None:
        if self._connection is not None:
            line = json.dumps({"id": number, "method": method, "params": params}).encode() + b"\n"
            self._connection.say(line)

    # What the pool says

    def heard(self, data: bytes) -> None:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            message = json.loads(line, parse_float=Fraction, parse_int=int)
            if message.get("method") is None:
                self._answered(message)
            else:
                self._told(message["method"], message)

    def _answered(self, message: dict[str, Any]) -> None:
        number: Any = message["id"]
        result: Any = message.get("result")
        error: Any = message.get("error")
        if number == SUBSCRIBE and error is None:
            (_, topic), *_ = result[0]
            extranonce1 = bytes.fromhex(result[1])
            self._resumed = self._resumed and topic == self._session_id
            self._session_id = topic
            self._extranonce1, self._extranonce2_bytes = extranonce1, result[2]
        elif number == CONFIGURE and error is None:
            self._mask = int(result.get("version-rolling.mask", "0"), 16)
        elif number == AUTHORIZE and error is not None:
            self._ledger.note(self.name, "not authorised", error[1])
        share = self._pending.pop(number, None) if number is not None else None
        if share is not None:
            share.verdict = "accepted" if result is True else str(error[1])
            share.answered_s = trio.current_time()
            if share.verdict == "accepted":
                self._good = share
            self._ledger.note(share.worker, share.verdict, f"{share.hash_int:064x}"[:16])

    def _told(self, method: str, message: dict[str, Any]) -> None:
        params = message["params"]
        if method == "mining.set_difficulty":
            self._difficulty = Fraction(params[0])
        elif method == "mining.notify":
            self._take_job(params)
        elif method == "mining.set_extranonce":
            self._extranonce1, self._extranonce2_bytes = bytes.fromhex(params[0]), params[1]
            self._resumed = False
        elif method == "mining.set_version_mask":
            self._mask = int(params[0], 16)
        elif method == "client.reconnect":
            self.hang_up()
        elif method == "client.get_version":
            answer = {"id": message["id"], "result": "sim", "error": None}
            if self._connection is not None:
                self._connection.say(json.dumps(answer).encode() + b"\n")

    def _take_job(self, params: list[Any]) -> None:
        job_id, prevhash, coinbase1, coinbase2, branch, version, nbits, ntime, clean = params
        job = Job(
            job_id=job_id,
            prevhash=prevhash_of(prevhash),
            coinbase1=bytes.fromhex(coinbase1),
            coinbase2=bytes.fromhex(coinbase2),
            branch=tuple(bytes.fromhex(it) for it in branch),
            version=int(version, 16),
            nbits=int(nbits, 16),
            ntime=int(ntime, 16),
            extranonce1=self._extranonce1,
            extranonce2_bytes=self._extranonce2_bytes,
            difficulty=self._difficulty,
        )
        there = self._ledger.told(self._session, job, resumed=self._resumed)
        busy = bool(self._jobs)
        self._jobs = [*self._jobs[-JOBS_MAX:], job]
        good = self._good
        if good is not None and good.at != self.at and self._chance.random() < self.habits.replays:
            self._replay(good, there)
        if clean or not busy:
            self._search += 1
            self._begin_search()

    # Work

    def _begin_search(self) -> None:
        """On the newest job; what is found is sent when so many hashes have taken their time."""
        if self.resting or not self._jobs:
            return
        search, job = self._search, self._jobs[-1]
        if len(self._jobs) > 1 and self._chance.random() < self.habits.late:
            job = self._chance.choice(self._jobs[:-1])
        easy = self._chance.random() < self.habits.easy
        share, hashes = self._solve(job, easy=easy)

        def found() -> None:
            if search == self._search and not self.resting:
                if share is not None:
                    self._submit(*share, honest=not easy)
                    if self._chance.random() < self.habits.repeats:
                        self._submit(*share, honest=False)
                self._begin_search()

        self._after(hashes / self.habits.hashes_per_s, found)

    def _solve(self, job: Job, *, easy: bool) -> tuple[tuple[Job, list[str], int] | None, int]:
        """The words of a share with its hash, and how many hashes that took."""
        chance, target = self._chance, job.target
        extranonce2 = chance.randbytes(job.extranonce2_bytes)
        root = _root(job, extranonce2)
        bits = chance.getrandbits(32) & self._mask
        version, ntime = (job.version & ~self._mask) | bits if self._mask else job.version, job.ntime
        head = hashlib.sha256(struct.pack("<I32s32sII", version, job.prevhash, root, ntime, job.nbits))
        nonce = chance.getrandbits(32)
        for hashes in range(1, HASHES_MAX):
            nonce = (nonce + 1) & 0xFFFFFFFF
            one = head.copy()
            one.update(struct.pack("<I", nonce))
            found = int.from_bytes(hashlib.sha256(one.digest()).digest(), "little")
            if (found > target) == easy:
                words = [job.job_id, extranonce2.hex(), f"{ntime:08x}", f"{nonce:08x}"]
                return (job, words + ([f"{bits:08x}"] if self._mask else []), found), hashes
            if easy and hashes > 64:
                return None, hashes
        return None, HASHES_MAX

    def _replay(self, good: Share, there: Container[str]) -> None:
        """A share that another one has accepted, by its job there. A job of that name makes another share of
        it here, where we know that job."""
        self._good = None
        if good.words[0] in there and all(it.job_id != good.words[0] for it in self._jobs):
            return
        job_id, extranonce2, ntime, nonce, *bits = good.words
        job, found = next((it for it in self._jobs if it.job_id == job_id), good.job), good.hash_int
        if job is not good.job:
            root = _root(job, bytes.fromhex(extranonce2))
            version = (job.version & ~self._mask) | int(bits[0], 16) if bits else job.version
            head = struct.pack("<I32s32sII", version, job.prevhash, root, int(ntime, 16), job.nbits)
            found = int.from_bytes(sha256d(head + struct.pack("<I", int(nonce, 16))), "little")
        self._submit(job, list(good.words), found, honest=False)

    def _submit(self, job: Job, words: list[str], found: int, *, honest: bool) -> None:
        if self._connection is None:
            return
        if self.habits.names_each_share and honest:
            self._named += 1
            self._worker = f"{self.name}n{self._session}x{self._named}"
            self._say(AUTHORIZE, "mining.authorize", [self._worker, "x"])
        share = Share(
            worker=self._worker,
            job=job,
            session=self._session,
            hash_int=found,
            prevhash=job.prevhash,
            nbits=job.nbits,
            honest=honest,
            sent_s=trio.current_time(),
            at=self.at,
            words=tuple(words),
        )
        self._ledger.shares.append(share)
        self._pending[self._next_id] = share
        self._say(self._next_id, "mining.submit", [self._worker, *words])
        self._next_id += 1


def _root(job: Job, extranonce2: bytes) -> bytes:
    root = sha256d(job.coinbase1 + job.extranonce1 + extranonce2 + job.coinbase2)
    for node in job.branch:
        root = sha256d(root + node)
    return root
