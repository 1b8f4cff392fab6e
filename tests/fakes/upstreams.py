"""Other pools for tests: an honest one that checks every share, and one for each thing that goes wrong.

They speak over memory streams, so time is virtual. Each builds the header of a share from what it sent, with
hashlib and nothing of ours, and keeps the hashes that it counted: they are to be those that the miner found.
Must not know: how the client under test works.
"""

import hashlib
import json
import ssl
import struct
from typing import Any, Final

import trio
import trio.testing

USER, PASSWORD = "acme.farm7", "hunter2-s3cret"
NTIME: Final = 1_700_000_000
NBITS: Final = 0x1D00FFFF  # mainnet's easiest: no test finds a block by accident
REGTEST_NBITS: Final = 0x207FFFFF  # every second hash is a block
EASY: Final = 2.0**-32  # nearly every hash is a share
COINBASE1: Final = bytes.fromhex("0200000001" + "00" * 32 + "ffffffff1d0340420f")  # height 1,000,000

Message = dict[str, Any]


def sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def header_hash(coinbase: bytes, branch: list[bytes], head: bytes, tail: bytes) -> bytes:
    """Of version and previous hash, the merkle root, and time, bits and nonce."""
    root = sha256d(coinbase)
    for node in branch:
        root = sha256d(root + node)
    return sha256d(head + root + tail)


def share_hash(job: list[Any], extranonces: str, ntime: str, nonce: str, rolled: tuple[int, int]) -> bytes:
    """Of what is submitted on a job, as `new_job` has it without its id; `rolled`: bits of the version, and
    which of them may be."""
    prevhash, (bits, mask) = bytes.fromhex(job[0]), rolled
    version = (int(job[4], 16) & ~mask) | (bits & mask)
    return header_hash(
        bytes.fromhex(job[1] + extranonces + job[2]),
        [bytes.fromhex(node) for node in job[3]],
        struct.pack("<I", version) + b"".join(prevhash[at : at + 4][::-1] for at in range(0, 32, 4)),
        struct.pack("<III", int(ntime, 16), int(job[5], 16), int(nonce, 16)),
    )


class Caller:
    """One connection at the pool's end."""

    def __init__(self, pool: "HonestUpstream", stream: trio.abc.Stream, extranonce1: str) -> None:
        self.pool = pool
        self.stream = stream
        self.extranonce1 = extranonce1
        self.heard: list[Message] = []
        self.mask: int | None = None
        self._lock = trio.Lock()

    async def say(self, *said: Message) -> None:
        data = b"".join(json.dumps(message).encode() + b"\n" for message in said)
        async with self._lock:
            await self.stream.send_all(data)

    async def tell(self, method: str, *params: Any) -> None:
        await self.say({"id": None, "method": method, "params": list(params)})

    async def answer(self, request: Message, result: Any, error: Any = None) -> None:
        await self.say({"id": request["id"], "result": result, "error": error})

    async def notify(self, **changes: Any) -> None:
        await self.tell("mining.notify", *self.pool.new_job(**changes))

    def asked(self, method: str) -> list[Message]:
        return [message for message in self.heard if message["method"] == method]


class HonestUpstream:
    """Answers everything as a good pool does; a job right after mining.authorize."""

    nbits = NBITS

    def __init__(
        self, *, extranonce1: str = "a1b2c3d4", extranonce2_bytes: int = 8, mask: int | None = 0x1FFFE000
    ) -> None:
        self.extranonce1 = extranonce1
        self.extranonce2_bytes = extranonce2_bytes
        self.mask = mask
        self.difficulty: float = EASY
        self.up = True  # takes connections
        self.calls: list[Caller] = []
        self.jobs: dict[str, list[Any]] = {}
        self.counted: set[bytes] = set()  # header hashes that were good
        self.height = 0
        self.open = 0  # connections
        self._called = trio.Event()

    @property
    def call(self) -> Caller:
        """The newest connection."""
        return self.calls[-1]

    async def until_called(self) -> None:
        """Wait for the first connection."""
        await self._called.wait()

    @property
    def shares(self) -> list[Message]:
        return [message for call in self.calls for message in call.asked("mining.submit")]

    def new_job(self, *, other_block: bool = True, clean: bool = True) -> list[Any]:
        self.height += other_block
        job_id = f"job-{len(self.jobs)}"
        params = [
            hashlib.sha256(b"block %d" % self.height).hexdigest(),
            COINBASE1.hex(),
            (b"\xff" * 4 + len(self.jobs).to_bytes(4, "big") + b"\x00" * 40).hex(),
            [hashlib.sha256(b"node %d" % level).hexdigest() for level in range(3)],
            "20000000",
            f"{self.nbits:08x}",
            f"{NTIME:08x}",
            clean,
        ]
        self.jobs[job_id] = params
        return [job_id, *params]

    async def accept(self, stream: trio.abc.Stream) -> None:
        """One connection, until the client goes."""
        await self.listen(Caller(self, stream, self.extranonce1))

    async def listen(self, call: Caller) -> None:
        self.calls.append(call)
        self.open += 1
        self._called.set()
        received = b""
        try:
            async with call.stream:
                async for chunk in call.stream:
                    *lines, received = (received + chunk).split(b"\n")
                    for line in lines:
                        message = json.loads(line)
                        call.heard.append(message)
                        await self.on_message(call, message)
        except (trio.BrokenResourceError, trio.ClosedResourceError, UnicodeDecodeError):
            pass  # it left, or speaks TLS
        finally:
            self.open -= 1

    async def on_message(self, call: Caller, message: Message) -> None:
        if "method" not in message:
            return
        name = message["method"].rpartition("mining.")[2].replace(".", "_")
        await getattr(self, f"on_{name}")(call, message)

    async def on_configure(self, call: Caller, message: Message) -> None:
        call.mask = self.mask
        granted = {} if self.mask is None else {"version-rolling.mask": f"{self.mask:08x}"}
        await call.answer(message, {"version-rolling": self.mask is not None, **granted})

    async def on_subscribe(self, call: Caller, message: Message) -> None:
        topics = [["mining.set_difficulty", "s0"], ["mining.notify", f"session-{len(self.calls)}"]]
        await call.answer(message, [topics, call.extranonce1, self.extranonce2_bytes])

    async def on_authorize(self, call: Caller, message: Message) -> None:
        await call.answer(message, True)
        await call.tell("mining.set_difficulty", self.difficulty)
        await call.notify()

    async def on_extranonce_subscribe(self, call: Caller, message: Message) -> None:
        await call.answer(message, True)

    async def on_suggest_difficulty(self, call: Caller, message: Message) -> None:
        await call.answer(message, True)

    async def on_ping(self, call: Caller, message: Message) -> None:
        await call.answer(message, "pong")

    async def on_submit(self, call: Caller, message: Message) -> None:
        await call.answer(message, *self.judge(call, message["params"]))

    def judge(self, call: Caller, params: list[str]) -> tuple[Any, Any]:
        """Result and error; the header is built from our own words."""
        user, job_id, extranonce2, ntime, nonce, *rolled = params
        job = self.jobs.get(job_id)
        if user != USER:
            return None, [24, "Unauthorized", None]
        if job is None:
            return None, [21, "Job not found", None]
        if len(extranonce2) != 2 * self.extranonce2_bytes or len(rolled) != (call.mask is not None):
            return None, [20, "Malformed share", None]
        rolls = (int(rolled[0], 16) if rolled else 0, call.mask or 0)
        found = share_hash(job, call.extranonce1 + extranonce2, ntime, nonce, rolls)
        if found in self.counted:
            return None, [22, "Duplicate share", None]
        self.counted.add(found)
        return True, None


class UpstreamThatIsSlow(HonestUpstream):
    """Takes three seconds to answer the subscribe."""

    async def on_subscribe(self, call: Caller, message: Message) -> None:
        await trio.sleep(3)
        await super().on_subscribe(call, message)


class UpstreamThatGoesSilent(HonestUpstream):
    """Says nothing from `silent` on, not even to a ping; the connection stays."""

    silent = False

    async def on_message(self, call: Caller, message: Message) -> None:
        if not self.silent:
            await super().on_message(call, message)


class HalfOpenUpstream(UpstreamThatGoesSilent):
    """From `silent` on the path swallows packets both ways, and nobody is told."""


class UpstreamThatIgnoresPings(HonestUpstream):
    """Knows neither mining.ping nor mining.extranonce.subscribe, and says so only of the first."""

    async def on_extranonce_subscribe(self, call: Caller, message: Message) -> None:
        pass

    async def on_ping(self, call: Caller, message: Message) -> None:
        await call.answer(message, None, [20, "Method not supported", None])


class UpstreamThatNeverAnswersShares(HonestUpstream):
    """Goes on with jobs as if no share had come."""

    async def on_submit(self, call: Caller, message: Message) -> None:
        for _ in range(60):
            await trio.sleep(2)
            await call.notify()


class UpstreamThatForgetsOneShare(HonestUpstream):
    """Answers all shares but the first."""

    async def on_submit(self, call: Caller, message: Message) -> None:
        if len(self.shares) > 1:
            await super().on_submit(call, message)


class UpstreamThatRejectsEverything(HonestUpstream):
    """Takes every share, counts none."""

    def judge(self, call: Caller, params: list[str]) -> tuple[Any, Any]:
        return None, [23, "Low difficulty share", None]


class UpstreamThatRejectsMost(HonestUpstream):
    """Counts every fortieth share."""

    def judge(self, call: Caller, params: list[str]) -> tuple[Any, Any]:
        if len(self.shares) % 40:
            return None, [21, "Stale", None]
        return super().judge(call, params)


class UpstreamThatCannotResume(HonestUpstream):
    """Takes a session id for an error."""

    async def on_subscribe(self, call: Caller, message: Message) -> None:
        if len(message["params"]) > 1:
            await call.answer(message, None, [20, "Unknown session", None])
        else:
            await super().on_subscribe(call, message)


class UpstreamThatRefusesTheAccount(HonestUpstream):
    """And repeats it, as some pools do."""

    async def on_authorize(self, call: Caller, message: Message) -> None:
        user, password = message["params"]
        await call.answer(message, False, [24, f"no worker {user} with password {password}", None])


class UpstreamThatReconnects(HonestUpstream):
    """Asks its first callers to come back: `asks` has the parameters for each."""

    def __init__(self, *asks: list[Any], **options: Any) -> None:
        super().__init__(**options)
        self.asks = list(asks)

    async def on_extranonce_subscribe(self, call: Caller, message: Message) -> None:
        await super().on_extranonce_subscribe(call, message)
        if self.asks:
            await call.tell("client.reconnect", *self.asks.pop(0))


class UpstreamThatDiesMidJob(HonestUpstream):
    """Closes the connection at the first share. `counts` it before; `changes` what a later caller gets."""

    def __init__(self, *, counts: bool, changes_extranonce: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._counts = counts
        self._changes_extranonce = changes_extranonce
        self._died = False

    async def on_submit(self, call: Caller, message: Message) -> None:
        if self._died:
            await super().on_submit(call, message)
            return
        self._died = True
        if self._counts:
            self.judge(call, message["params"])
        if self._changes_extranonce:
            self.extranonce1 = "ffffffff"
        await call.stream.aclose()


class UpstreamThatFailsAtOnce(HonestUpstream):
    """Hangs up after the first job, every time."""

    async def on_authorize(self, call: Caller, message: Message) -> None:
        await super().on_authorize(call, message)
        await call.stream.aclose()


class UpstreamThatTalksNonsense(HonestUpstream):
    """Answers the subscribe with `line`."""

    def __init__(self, line: bytes) -> None:
        super().__init__()
        self._line = line

    async def on_subscribe(self, call: Caller, message: Message) -> None:
        await call.stream.send_all(self._line)


class BlackHole(HonestUpstream):
    """Packets to it vanish: not even a refused connection."""


class Network:
    """Hosts and the pools behind them; `tls` wraps what comes in."""

    def __init__(self, nursery: trio.Nursery, pools: dict[str, HonestUpstream]) -> None:
        self.pools = pools
        self.tls: ssl.SSLContext | None = None
        self.dialled: list[tuple[float, str, int]] = []
        self._nursery = nursery

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        self.dialled.append((trio.current_time(), host, port))
        pool = self.pools.get(host)
        await trio.lowlevel.checkpoint()
        if pool is None or not pool.up:
            raise OSError(f"all attempts to connect to {host}:{port} failed")
        if isinstance(pool, BlackHole):
            await trio.sleep_forever()
        ours, theirs = trio.testing.memory_stream_pair()
        end: trio.abc.Stream = theirs
        if self.tls is not None:
            end = trio.SSLStream(theirs, self.tls, server_side=True, https_compatible=True)
        self._nursery.start_soon(pool.accept, end)
        return ours

    def dialled_at(self, host: str) -> list[float]:
        return [at_s for at_s, to, _ in self.dialled if to == host]
