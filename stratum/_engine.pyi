"""The native engine: bytes of miners in, verdicts and reply bytes out. Never touches a socket.

Use from one thread at a time: a call during another one gets a RuntimeError. Unknown sessions, channels and
jobs raise IndexError, values that make no sense ValueError, integers that do not fit TypeError. A call that
raises has changed nothing, but for feed(). C++ source: stratum/native/.
"""

from collections.abc import Sequence
from typing import Any

backend: str  # the SHA-256d code in use; ANGARA_SHA256 forces one
backends: tuple[str, ...]  # what this CPU can run
WORKERS_PER_SESSION_MAX: int
WORKER_NAME_BYTES_MAX: int
JOBS_PER_CHANNEL_MAX: int
PINS_MAX: int
REJECTS_PER_ACCEPTED: int
NOT_HELD: int  # in place of a difficulty: nobody mined
FORGOTTEN: int  # in place of those that were pinned before the last PINS_MAX - 1

class LineTooLong(ValueError):
    """What the session sent after its last whole line is gone: close it."""

def send_all(descriptors: list[int], data: list[bytes]) -> list[tuple[int, int]]:
    """Send to each socket its bytes, without waiting; thousands of them on several threads.

    Returns those that did not take everything: the place in the list and the bytes taken, or -errno. No
    socket may be there twice.
    """

def sha256d(backend: str, messages: bytes, size: int) -> bytes:
    """SHA-256d of each `size`-byte message by the named code path, 32 bytes each."""

class Found:
    """A header that meets the network target, or its job's forward target, and what it was made of."""

    @property
    def channel(self) -> int: ...
    @property
    def seq(self) -> int:
        """The id that it was sent under."""
    @property
    def worker(self) -> int: ...
    @property
    def extranonce1(self) -> bytes: ...
    @property
    def extranonce2(self) -> bytes: ...
    @property
    def ntime(self) -> int: ...
    @property
    def nonce(self) -> int: ...
    @property
    def version(self) -> int:
        """As hashed, with the rolled bits."""
    @property
    def hash_internal(self) -> bytes: ...
    @property
    def difficulty_log2(self) -> int:
        """That it was judged at."""
    @property
    def tallied(self) -> bool:
        """False: an accepted share that is in no tally; whoever gets it counts it."""

class Engine:
    def __init__(
        self,
        *,
        line_bytes_max: int = 8192,
        backend: str | None = None,
        duplicates_max: int = 67_108_864,
        keep_credits: bool = False,
        keep_log2: int | None = None,
    ) -> None:
        """`keep_credits`: of jobs with a forward target, for collect_credits(), which must be called.
        `keep_log2`: good shares with a hash of difficulty 2**keep_log2 or more, for collect_kept()."""
    def add_channel(self, channel: int) -> None: ...
    def remove_channel(self, channel: int) -> None: ...
    def add_job(
        self,
        *,
        channel: int,
        seq: int,
        rate: int,
        coinbase1: bytes,
        coinbase2: bytes,
        extranonce_size: int,
        branch: bytes,
        prevhash_internal: bytes,
        version: int,
        nbits: int,
        ntime_min: int,
        ntime_max: int,
        network_target_le: bytes,
        forward_target_le: bytes | None = None,
        clean: bool = False,
        start_log2: int | None = None,
    ) -> tuple[int, int | None]:
        """A job; seq grows, from 1. The channel's jobs on other previous hashes are stale from here on, and
        with `clean` all earlier ones.

        A good share with a hash of at most the forward target, or that is a block, is handed out as found
        and not tallied. Without a forward target only blocks are handed out, and all are tallied.

        `start_log2`: the difficulty for sessions that get this work without having been there when it came;
        None: they do not get it. Returns the seq that the same work came with first, on whatever channel, and
        the start difficulty that it had then.

        When a previous hash comes back soon, its jobs are not stale any more; what was credited on it, by
        whatever channel, is still a duplicate.
        """
    def add_alias(self, channel: int, seq: int, of_seq: int) -> None:
        """The same job under another id."""
    def drop_jobs_before(self, channel: int, seq: int) -> None: ...
    def undelivered_before(self, channel: int, seq: int) -> None:
        """Good shares of jobs older than `seq` (aliases: of what they repeat) count as undelivered."""
    def pins(self, session: int) -> list[tuple[int, int]]:
        """With its extranonce1: (from job seq, difficulty_log2, NOT_HELD or FORGOTTEN), oldest first."""
    def open(self, owner: object) -> int:
        """A session number; `owner` is what validate() hands back."""
    def close(self, session: int) -> None:
        """Shares already fed are still judged and counted."""
    def subscribe(
        self,
        session: int,
        channel: int,
        extranonce1: bytes,
        extranonce2_size: int,
        from_seq: int = 0,
    ) -> None:
        """Where the session mines, from the job from_seq on; 0: from its first.

        Jobs before from_seq stay those of the channel that it mined then, with extranonces and mask of then.
        Nothing is pinned with another extranonce1: what was pinned stays with the one that it was pinned for.
        """
    def authorise(self, session: int, name: bytes, worker: int) -> None: ...
    def set_version_mask(self, session: int, mask: int) -> bool:
        """False: it has that one already."""
    def pin_difficulty(self, session: int, difficulty_log2: int, from_seq: int) -> None:
        """Work that comes with from_seq or later counts 2**difficulty_log2 a share; restarts vardiff's count.

        NOT_HELD: from there on nobody mined with the session's extranonces.
        """
    def judged_at(self, session: int, channel: int, seq: int) -> int | None:
        """The difficulty of a job of that channel, mined with the session's extranonces.

        It was decided when the work came: the difficulty then in force, or the start difficulty where nobody
        had these extranonces. None: not known any more, or no such job.
        """
    def set_retarget_after(self, session: int, accepted_shares: int) -> None: ...
    def feed(self, session: int, data: bytes | bytearray | memoryview) -> bytes | None:
        """The next line that is not a plain mining.submit, or None when all is used up.

        After a line, go on with feed(session, b""). Raises LineTooLong, and ValueError when 262,144 shares
        wait for validate(): what was not read yet is gone then.
        """
    def submit(self, session: int, id: bytes, params: Sequence[bytes]) -> None:
        """A mining.submit that had to be decoded in Python; `id` is raw JSON."""
    def set_wire(self, session: int, descriptor: int, *, reads: bool, writes: bool) -> None:
        """The session's socket, until it is closed: whether `read` reads it, and whether replies are kept and
        sent by `send_batch` instead of being returned by `validate`."""
    def read(
        self, epoll: int, events_max: int
    ) -> tuple[list[tuple[int, int]], list[tuple[Any, bytes]], list[tuple[Any, str, str]]]:
        """Feed what has arrived on sockets that are read here, without waiting. What is left to others:
        (descriptor, events) of other sockets; (owner, line) as of `feed`; (owner, why, what of ours went
        wrong or "") of connections that are to be closed."""
    def kept(self) -> tuple[int, int]:
        """Replies that `validate` has kept since the last call, and their bytes."""
    def close_batch(self) -> None:
        """What is kept by now belongs to the commit that begins; the batch before it must be sent."""
    def send_batch(self, replies_max: int) -> tuple[bool, list[tuple[Any, bytes]]]:
        """Send so many of the closed batch, without waiting: whether there are more, and (owner, bytes) that
        are still to be written. Who has left is not answered."""
    def validate(self) -> tuple[list[tuple[Any, bytes]], list[Found], list[Any]]:
        """Judge all that is queued: (owner, replies), what was found, owners due for a retarget."""
    def collect_credits(self) -> list[tuple[bytes, bytes]]:
        """Since the last time: previous hashes, each with every share credited on it, packed: 16 bytes of its
        header hash, then as collect_tallies() has it, up to the verdict, and u16 1 for one that is in no
        tally yet, since it is forwarded."""
    def collect_kept(self) -> bytes:
        """Since the last time: good shares that are kept, packed: their headers, then as collect_tallies()
        has it, up to the difficulty, and three zeros."""
    def remember(self, prevhash_internal: bytes, keys: bytes) -> None:
        """The first 16 bytes of header hashes that were credited before: they are duplicates."""
    def collect_tallies(self) -> bytes:
        """Packed records since the last call: u32 worker, u32 rate, i8 difficulty_log2, u8 verdict,
        u16 zero, u32 count; little-endian on every supported machine."""
    def collect_uncharged(self) -> bytes:
        """Rejected shares since the last call that are in no tally, packed likewise: by verdict, and by the
        worker that they named, 0 where there is none of that name. Rate and difficulty are 0."""
    def counters(self, session: int) -> tuple[int, int, int]:
        """Shares accepted, rejected, and accepted at the difficulty pinned last."""
    def unearned(self, session: int) -> int:
        """Of its rejected shares, those in no tally.

        A worker is charged with at most REJECTS_PER_ACCEPTED for each accepted share that the session had
        under its name before: anybody can say any name.
        """
    def rolled(self, session: int) -> int:
        """Version bits that any of its accepted shares had rolled."""
    def rest(self, session: int, until_s: float) -> None:
        """Until then it need not be checked, unless a share of it is rejected or a difficulty pinned."""
    def awake(self, remainder: int, divisor: int, now_s: float) -> list[Any]:
        """Owners of the sessions whose number leaves this remainder, but for those that rest."""
    def heard_at(self, session: int, now_s: float) -> float:
        """When this or awake() saw first that so many of its shares were accepted as are; 0.0 if none was."""
    def totals(self) -> list[int]:
        """Shares judged, by Verdict."""
    def queued(self) -> int: ...
    def remembers(self, prevhash_internal: bytes) -> bool:
        """Whether it knows what was credited on this previous block."""
    def duplicates(self, channel: int) -> int:
        """Shares credited on the channel's previous block, by all channels."""
