"""One simulated container miner, without I/O: stratum lines in, stratum lines out, real hashes.

It speaks the order that most firmware speaks, one `MinerMachine` a connection:

    CONFIGURING --reply--> SUBSCRIBING --reply--> AUTHORISING --reply--> MINING

An error in reply to mining.configure only means no version rolling; to subscribe or authorize it ends
the connection. Difficulty and extranonce1 belong to the next job that arrives, a version mask holds at
once (BIP310). A share is submitted only if its header, built from mining.notify alone, reaches the
target: this file is an independent check of the pool's byte orders.

Must not know: sockets, clocks, Trio; and of the pool, nothing but what it says on the wire.
"""

import enum
import hashlib
import random
import struct
from fractions import Fraction
from typing import Any

import msgspec

from stratum.difficulty import DIFF1
from stratum.job import swap_words

AGENT = "angara-swarm/1"
VERSION_ROLLING_MASK = 0x1FFFE000  # the 16 general purpose bits of BIP320
EXTRANONCE2_BYTES_MAX = 8  # what firmware takes at most
BRANCH_NODES_MAX = 32  # 2^32 transactions: no block has more
RECONNECT_WAIT_S_MAX = 60.0  # a pool that wants longer waits than this gets its miner back anyway
# A pool is expected to answer each share within seconds, and a machine finds a share every few
# seconds: so many without an answer mean that the pool has stopped answering.
UNANSWERED_MAX = 64

CONFIGURE_ID, SUBSCRIBE_ID, AUTHORIZE_ID, EXTRANONCE_SUBSCRIBE_ID = 1, 2, 3, 4
FIRST_SUBMIT_ID = 5

# How the pool's error codes are counted; a code that is not here counts as "other".
REASONS = {
    20: "other",
    21: "stale",
    22: "duplicate",
    23: "low_difficulty",
    24: "unauthorised",
    25: "not_subscribed",
}


class BrokenPool(Exception):
    """The pool said something that no miner understands, or stopped answering."""


class RefusedByPool(Exception):
    """The pool understood, and does not want this machine: its words."""


class State(enum.Enum):
    """What the machine waits for."""

    CONFIGURING = "configuring"
    SUBSCRIBING = "subscribing"
    AUTHORISING = "authorising"
    MINING = "mining"


class SwarmStats(msgspec.Struct):
    """What the whole fleet has done so far: counters that grow while it runs."""

    connected: int = 0  # machines that are authorised at this moment
    submitted: int = 0
    accepted: int = 0
    rejected: dict[str, int] = msgspec.field(default_factory=dict)  # by a value of REASONS


class Reconnect(msgspec.Struct, frozen=True, kw_only=True):
    """What client.reconnect asked for; no host and no port mean: where you came from."""

    host: str | None = None
    port: int | None = None
    wait_s: float = 0.0


class MinerJob(msgspec.Struct, frozen=True, kw_only=True):
    """One mining.notify together with what was in force when it came. Integers are as in the header."""

    job_id: str
    prevhash_internal: bytes
    coinbase1: bytes
    coinbase2: bytes
    branch: tuple[bytes, ...]
    version: int
    nbits: int
    ntime: int
    extranonce1: bytes
    extranonce2_size: int
    target: int  # a header hash not above this is a share


class _Line(msgspec.Struct):
    """Any line from the pool: a reply has no method, a request or notification has one."""

    id: int | str | float | None = None
    method: str | None = None
    params: Any = None
    result: Any = None
    error: Any = None


class _Notify(msgspec.Struct, array_like=True):
    """The parameters of mining.notify: hex; integers big-endian, prevhash word-swapped."""

    job_id: str
    prevhash_stratum: str
    coinbase1: str
    coinbase2: str
    branch: list[str]
    version: str
    nbits: str
    ntime: str
    clean: bool = False


class _Search(msgspec.Struct, kw_only=True):
    """Where the machine is in the nonces of one header."""

    extranonce2: bytes
    rolled_bits: int
    midstate: Any  # hashlib's object after the first 76 bytes of the header
    nonce: int


def sha256d(data: bytes) -> bytes:
    """SHA-256 twice: Bitcoin's hash of transactions, merkle nodes and headers, internal order."""
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def merkle_root(leaf: bytes, branch: tuple[bytes, ...]) -> bytes:
    """The root above the coinbase, which is always the left-most leaf. Internal order."""
    for sibling in branch:
        leaf = sha256d(leaf + sibling)
    return leaf


def header_without_nonce(job: MinerJob, extranonce2: bytes, version: int) -> bytes:
    """The first 76 bytes of the block header; the nonce's four little-endian bytes complete it."""
    coinbase = job.coinbase1 + job.extranonce1 + extranonce2 + job.coinbase2
    root = merkle_root(sha256d(coinbase), job.branch)
    return b"".join(
        (
            struct.pack("<I", version),
            job.prevhash_internal,
            root,
            struct.pack("<II", job.ntime, job.nbits),
        )
    )


class MinerMachine:
    """One connection of one machine. Feed it lines, send what it returns, ask it for shares.

    `rng` decides extranonce2, rolled bits and first nonces: a seed reproduces a run.
    """

    def __init__(self, worker: str, rng: random.Random, stats: SwarmStats) -> None:
        self.state = State.CONFIGURING
        self.reconnect: Reconnect | None = None  # set once the pool has asked us to go
        self._worker = worker
        self.rng = rng
        self._stats = stats
        self.mask: int | None = None  # None: no version rolling, five submit parameters
        self.extranonce1 = b""
        self._extranonce2_size = 0
        self._difficulty: int | float = 1  # stratum's default until set_difficulty
        self.job: MinerJob | None = None
        self._search: _Search | None = None
        self._submit_id = FIRST_SUBMIT_ID
        self._unanswered: set[int] = set()

    @property
    def unanswered(self) -> int:
        """Shares that the pool has not answered yet."""
        return len(self._unanswered)

    def open(self) -> list[bytes]:
        """The lines that open the conversation."""
        options = {
            "version-rolling.mask": f"{VERSION_ROLLING_MASK:08x}",
            "version-rolling.min-bit-count": 2,
        }
        return [_request(CONFIGURE_ID, "mining.configure", [["version-rolling"], options])]

    def receive_line(self, line: bytes) -> list[bytes]:
        """Take one line of the pool (without its newline); returns the lines to send.

        Raises BrokenPool for what cannot be understood, RefusedByPool for a refused subscribe or authorize.
        """
        try:
            message = msgspec.json.decode(line, type=_Line)
            if message.method is not None:
                return self._on_request(message.method, message.params, message.id)
            return self._on_reply(message)
        except (msgspec.MsgspecError, ValueError) as error:
            raise BrokenPool(f"{error}: {line[:200]!r}") from error

    def next_share(self, hashes_max: int) -> bytes | None:
        """Hash at most `hashes_max` headers; the line that submits a share, or None if none was found.

        The search goes on where the last call left it. Raises BrokenPool when too many shares are
        without an answer.
        """
        job = self.job
        if self.state is not State.MINING or job is None:
            return None
        if len(self._unanswered) >= UNANSWERED_MAX:
            raise BrokenPool(f"{UNANSWERED_MAX} shares without an answer")
        for _ in range(hashes_max):
            search = self._search
            if search is None or search.nonce > 0xFFFFFFFF:
                search = self._search = self._begin_search(job)
            nonce, search.nonce = search.nonce, search.nonce + 1
            first = search.midstate.copy()
            first.update(struct.pack("<I", nonce))
            digest = hashlib.sha256(first.digest()).digest()
            if int.from_bytes(digest, "little") <= job.target:
                self._search = None  # the next share comes from another extranonce2
                return self._submit(job, search, nonce)
        return None

    def _begin_search(self, job: MinerJob) -> _Search:
        extranonce2 = self.rng.randbytes(job.extranonce2_size)
        mask = self.mask or 0
        rolled_bits = self.rng.getrandbits(32) & mask
        version = (job.version & ~mask) | rolled_bits
        return _Search(
            extranonce2=extranonce2,
            rolled_bits=rolled_bits,
            midstate=hashlib.sha256(header_without_nonce(job, extranonce2, version)),
            nonce=self.rng.getrandbits(32),
        )

    def _submit(self, job: MinerJob, search: _Search, nonce: int) -> bytes:
        params = [self._worker, job.job_id, search.extranonce2.hex(), f"{job.ntime:08x}", f"{nonce:08x}"]
        if self.mask is not None:
            params.append(f"{search.rolled_bits:08x}")
        submit_id, self._submit_id = self._submit_id, self._submit_id + 1
        self._unanswered.add(submit_id)
        self._stats.submitted += 1
        return _request(submit_id, "mining.submit", params)

    # Replies of the pool

    def _on_reply(self, message: _Line) -> list[bytes]:
        waits_for = {
            State.CONFIGURING: CONFIGURE_ID,
            State.SUBSCRIBING: SUBSCRIBE_ID,
            State.AUTHORISING: AUTHORIZE_ID,
        }
        if self.state is not State.MINING and message.id == waits_for[self.state]:
            if self.state is State.CONFIGURING:
                return self._configured(message)
            if self.state is State.SUBSCRIBING:
                return self._subscribed(message)
            return self._authorised(message)
        if isinstance(message.id, int) and message.id in self._unanswered:
            self._unanswered.remove(message.id)
            self._count_verdict(message)
        return []  # mining.extranonce.subscribe: either answer is fine

    def _configured(self, message: _Line) -> list[bytes]:
        granted = message.result if isinstance(message.result, dict) else {}
        if granted.get("version-rolling") is True:
            self.mask = _uint32(str(granted["version-rolling.mask"])) & VERSION_ROLLING_MASK
        self.state = State.SUBSCRIBING
        return [_request(SUBSCRIBE_ID, "mining.subscribe", [AGENT])]

    def _subscribed(self, message: _Line) -> list[bytes]:
        if message.error is not None:
            raise RefusedByPool(f"mining.subscribe: {message.error}")
        _, extranonce1, size = msgspec.convert(message.result, tuple[Any, str, int])
        self._set_extranonce(extranonce1, size)
        self.state = State.AUTHORISING
        return [_request(AUTHORIZE_ID, "mining.authorize", [self._worker, "x"])]

    def _authorised(self, message: _Line) -> list[bytes]:
        if message.result is not True:
            raise RefusedByPool(f"mining.authorize {self._worker}: {message.error}")
        self.state = State.MINING
        return [_request(EXTRANONCE_SUBSCRIBE_ID, "mining.extranonce.subscribe", [])]

    def _count_verdict(self, message: _Line) -> None:
        if message.result is True:
            self._stats.accepted += 1
            return
        code = message.error[0] if isinstance(message.error, list) and message.error else None
        reason = REASONS.get(code, "other") if isinstance(code, int) else "other"
        self._stats.rejected[reason] = self._stats.rejected.get(reason, 0) + 1

    # Notifications and requests of the pool

    def _on_request(self, method: str, params: Any, request_id: Any) -> list[bytes]:
        match method:
            case "mining.notify":
                self.job = self._job_from(msgspec.convert(params, _Notify))
                self._search = None
            case "mining.set_difficulty":
                (self._difficulty,) = msgspec.convert(params, tuple[int | float])
                if not self._difficulty > 0:
                    raise ValueError("difficulty is not positive")
            case "mining.set_extranonce":
                self._set_extranonce(*msgspec.convert(params, tuple[str, int]))
            case "mining.set_version_mask":
                self.mask = _uint32(msgspec.convert(params, tuple[str])[0]) & VERSION_ROLLING_MASK
                self._search = None
            case "client.reconnect":
                self.reconnect = _reconnect_from(params)
            case "client.get_version":
                return [_reply(request_id, AGENT)]
            case "mining.ping":
                return [_reply(request_id, "pong")]
            case _:
                pass  # client.show_message, mining.pong, and whatever a miner need not know
        return []

    def _set_extranonce(self, extranonce1: str, size: int) -> None:
        if not 1 <= size <= EXTRANONCE2_BYTES_MAX:
            raise ValueError(f"extranonce2 of {size} bytes")
        self.extranonce1, self._extranonce2_size = bytes.fromhex(extranonce1), size

    def _job_from(self, notify: _Notify) -> MinerJob:
        branch = tuple(_hash(node) for node in notify.branch)
        if len(branch) > BRANCH_NODES_MAX:
            raise ValueError(f"merkle branch of {len(branch)} nodes")
        difficulty = Fraction(self._difficulty)
        return MinerJob(
            job_id=notify.job_id,
            prevhash_internal=swap_words(_hash(notify.prevhash_stratum)),
            coinbase1=bytes.fromhex(notify.coinbase1),
            coinbase2=bytes.fromhex(notify.coinbase2),
            branch=branch,
            version=_uint32(notify.version),
            nbits=_uint32(notify.nbits),
            ntime=_uint32(notify.ntime),
            extranonce1=self.extranonce1,
            extranonce2_size=self._extranonce2_size,
            target=DIFF1 * difficulty.denominator // difficulty.numerator,
        )


def _request(request_id: int, method: str, params: list[Any]) -> bytes:
    return msgspec.json.encode({"id": request_id, "method": method, "params": params}) + b"\n"


def _reply(request_id: Any, result: str) -> bytes:
    return msgspec.json.encode({"id": request_id, "result": result, "error": None}) + b"\n"


def _reconnect_from(params: Any) -> Reconnect:
    """[] or [host, port] or [host, port, wait in seconds]; pools say the port as number or as string."""
    if not params:
        return Reconnect()
    fields = msgspec.convert(params, list[str | int | float | None])
    host, port, wait_s = (*fields, None, None, None)[:3]
    return Reconnect(
        host=str(host) if host else None,
        port=int(port) if port else None,
        wait_s=min(max(float(wait_s or 0.0), 0.0), RECONNECT_WAIT_S_MAX),
    )


def _uint32(text: str) -> int:
    value = int(text, 16)
    if not 0 <= value <= 0xFFFFFFFF:
        raise ValueError(f"{text} is not 32 bits")
    return value


def _hash(text: str) -> bytes:
    value = bytes.fromhex(text)
    if len(value) != 32:
        raise ValueError(f"a hash of {len(value)} bytes")
    return value
