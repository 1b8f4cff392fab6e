"""The server end of a pool without the pool: engine, switchboard, listeners on loopback, and a raw miner.

The work is made by hand, every nonce is a share at difficulty 2^-32 (all but one in 65,536), and nothing in
it is random, so a test that passes once passes always. Journals are named after what is wrong with them.
"""

import errno
import hashlib
import itertools
import select
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
import trio
import trio.testing

from stratum._engine import Engine
from stratum.difficulty import DIFFICULTY_LOG2_MAX, DIFFICULTY_LOG2_MIN
from stratum.job import Solution, Work
from stratum.miners.channel import Channel, JobIds, WorkSource
from stratum.miners.contracts import Admitted, Refusal, Services
from stratum.miners.extranonce import ExtranonceSpace
from stratum.miners.group_commit import Journal
from stratum.miners.listening.listeners import Dialect, Endpoint, Server
from stratum.miners.liveness import SessionLimits
from stratum.miners.owner import Owner
from stratum.miners.switchboard import BoardLimits, Switchboard
from stratum.miners.turns.connection_limits import ConnectionBounds, ConnectionLimits
from stratum.miners.vardiff import VardiffPolicy
from stratum.tallies import Tally, Verdict, unpack_tallies
from tests.fakes.work_sources import SourceThatKeeps
from tests.stages.waiting import PATIENCE_S

NTIME: Final = 1_700_000_000
NEVER_A_BLOCK: Final = 0
ALWAYS_A_BLOCK: Final = (1 << 256) - 1
NOBODY_IS_TOO_FAST_S: Final = 1e-6  # vardiff aims at so many shares that it never moves anybody up
LOOPBACK: Final = Endpoint(host="127.0.0.1", port=0)

Message = dict[str, Any]


_salts = itertools.count(1)


def make_work(
    height: int = 1, *, refresh: int = 0, network_target: int = NEVER_A_BLOCK, salt: int = 0
) -> Work:
    """Work on a block of its own for each height; `refresh` and `salt` give other work on the same one."""
    return Work(
        prevhash_internal=hashlib.sha256(b"block %d" % height).digest(),
        coinbase1=b"\x01" * 40 + struct.pack("<III", height, refresh, salt),
        coinbase2=b"\x02" * 60,
        branch=tuple(hashlib.sha256(b"node %d" % level).digest() for level in range(3)),
        version=0x20000000,
        nbits=0x1D00FFFF,
        ntime=NTIME,
        ntime_min=NTIME - 600,
        ntime_max=NTIME + 7_000,
        height=height,
        network_target=network_target,
        anew=lambda: make_work(height, refresh=refresh, network_target=network_target, salt=next(_salts)),
    )


class MemoryJournal:
    """Keeps every commit as the list of its tallies."""

    durable = False

    def __init__(self) -> None:
        self.commits: list[list[Tally]] = []

    async def commit(self, tallies: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.commits.append(list(unpack_tallies(tallies)))

    def counted(self, verdict: Verdict = Verdict.ACCEPTED) -> int:
        """Shares with this verdict in all commits."""
        tallies = itertools.chain.from_iterable(self.commits)
        return sum(tally.count for tally in tallies if tally.verdict is verdict)


class JournalThatIsSlow(MemoryJournal):
    """Every commit takes until the test lets one pass."""

    def __init__(self) -> None:
        super().__init__()
        self.started = 0
        self.may_pass = trio.Semaphore(0)

    async def commit(self, tallies: bytes) -> None:
        self.started += 1
        with trio.fail_after(PATIENCE_S):  # a test that failed must end
            await self.may_pass.acquire()
        await super().commit(tallies)


class JournalThatFails(MemoryJournal):
    """The disk is full."""

    async def commit(self, tallies: bytes) -> None:
        await trio.lowlevel.checkpoint()
        raise OSError(errno.ENOSPC, "No space left on device")


class AdmissionForAcme:
    """Numbers workers of the tenant acme from 1, refuses all others. `channels` is where they are to mine;
    `refusal` is for everybody."""

    def __init__(self) -> None:
        self.channels: dict[str, Channel] = {}
        self.numbers: dict[str, int] = {}
        self.refusal: Refusal | None = None

    def admit(self, name: str, agent: str, owner: Owner) -> Admitted | Refusal:
        if self.refusal is not None:
            return self.refusal
        if not name.startswith("acme."):
            return Refusal("Unknown tenant")
        number = self.numbers.setdefault(name, len(self.numbers) + 1)
        return Admitted(number, channel=self.channels.get(name))

    def leave(self, owner: Owner) -> None:
        pass


class LoopbackServer:
    """Everything that serves miners, and what was found."""

    def __init__(
        self,
        *,
        journal: Journal | None = None,
        endpoints: tuple[Endpoint, ...] = (LOOPBACK,),
        session_limits: SessionLimits | None = None,
        board_limits: BoardLimits | None = None,
        connection_bounds: ConnectionBounds | None = None,
        line_bytes_max: int = 8192,
        extranonce1_bytes: int = 4,
        source: WorkSource | None = None,
        aim_s: float = NOBODY_IS_TOO_FAST_S,
        dialects: Mapping[str, Dialect] | None = None,
    ) -> None:
        self.kept = SourceThatKeeps()
        self.miners: list[Miner] = []
        self.connection_limits = ConnectionLimits(connection_bounds or ConnectionBounds())
        self.engine = Engine(line_bytes_max=line_bytes_max)
        self.admission = AdmissionForAcme()
        self.job_ids = JobIds()
        self.channel = self._new_channel(1, source or self.kept, ExtranonceSpace(extranonce1_bytes), 8)
        self.services = Services(
            engine=self.engine,
            channel=self.channel,
            admission=self.admission,
            vardiff=VardiffPolicy(
                aim_s=aim_s,
                difficulty_log2_min=DIFFICULTY_LOG2_MIN,
                difficulty_log2_max=DIFFICULTY_LOG2_MAX,
            ),
            start_difficulty_log2=DIFFICULTY_LOG2_MIN,
            limits=session_limits or SessionLimits(),
        )
        self.board = Switchboard(
            services=self.services,
            connection_limits=self.connection_limits,
            journal=journal or MemoryJournal(),
            limits=board_limits or BoardLimits(),
        )
        self.listeners = Server(
            board=self.board,
            connection_limits=self.connection_limits,
            endpoints=endpoints,
            dialects=dialects,
        )

    def _new_channel(
        self, number: int, source: WorkSource, space: ExtranonceSpace, extranonce2_bytes: int
    ) -> Channel:
        return Channel(
            number,
            source,
            engine=self.engine,
            job_ids=self.job_ids,
            extranonces=space,
            extranonce2_size=extranonce2_bytes,
        )

    def add_channel(
        self,
        number: int,
        extranonce1_bytes: int = 4,
        extranonce2_bytes: int = 8,
        *,
        like: Channel | None = None,
        space: ExtranonceSpace | None = None,
        source: WorkSource | None = None,
    ) -> Channel:
        """Another channel that is served; with the extranonces of `like` or of `space`, or with its own."""
        if space is None:
            space = like.extranonces if like else ExtranonceSpace(extranonce1_bytes, first=number << 4)
        size = like.extranonce2_size if like else extranonce2_bytes
        channel = self._new_channel(number, source or self.kept, space, size)
        self.board.distribution.add_channel(channel)
        return channel

    def publish(self, work: Work, channel: Channel | None = None) -> None:
        channel = channel or self.channel
        self.board.distribution.publish(channel, work, rate=channel.number)

    @property
    def solutions(self) -> list[Solution]:
        """What was found on channels without a source of their own."""
        return self.kept.solutions

    @property
    def port(self) -> int:
        return self.listeners.addresses[0][1]

    async def connect(self, worker: str = "acme.c01.u1", **options: Any) -> "Miner":
        """A miner that has not said anything yet; closed at the end."""
        miner = await connect(self.port, worker, **options)
        self.miners.append(miner)
        return miner

    async def mining(self, worker: str = "acme.c01.u1", **options: Any) -> "Miner":
        """A miner that has a job."""
        return await (await self.connect(worker, **options)).start()


@asynccontextmanager
async def serving(work: Work | None = None, **options: Any) -> AsyncIterator[LoopbackServer]:
    """One that miners can connect to, stopped when the block is left; with options of `LoopbackServer`."""
    server = LoopbackServer(**options)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(server.board.run)
            await nursery.start(server.listeners.run)
            server.publish(work or make_work())
            yield server
            nursery.cancel_scope.cancel()
    finally:
        for miner in server.miners:
            miner.socket.close()


class Miner:
    """A miner as a raw connection: what it says and hears is up to the test."""

    def __init__(self, stream: trio.abc.Stream, worker: str) -> None:
        self.stream = stream
        self.worker = worker
        self.notices: list[Message] = []  # everything heard that was no answer to a question
        self._received = b""
        self._ids = itertools.count(1)
        self._nonces = itertools.count(1_000_000)
        self.extranonce1, self.extranonce2_size = b"", 8  # until subscribe says it

    @property
    def job(self) -> list[Any]:
        """The parameters of the last mining.notify."""
        params: list[Any] = self.heard("mining.notify")[-1]
        return params

    @property
    def socket(self) -> trio.socket.SocketType:
        stream = self.stream.transport_stream if isinstance(self.stream, trio.SSLStream) else self.stream
        assert isinstance(stream, trio.SocketStream)
        return stream.socket

    def heard(self, method: str) -> list[Any]:
        """The parameters of every notification of this method so far."""
        return [notice["params"] for notice in self.notices if notice.get("method") == method]

    async def say(self, data: bytes) -> None:
        with trio.fail_after(PATIENCE_S):
            await self.stream.send_all(data)

    async def line(self) -> bytes:
        """The next line; b"" when the pool has closed the connection."""
        with trio.fail_after(PATIENCE_S):
            while b"\n" not in self._received:
                try:
                    data = await self.stream.receive_some(65_536)
                except trio.BrokenResourceError:
                    data = b""
                if not data:
                    return b""
                self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line

    async def message(self) -> Message:
        line = await self.line()
        if not line:
            raise EOFError("the pool closed the connection")
        message: Message = msgspec.json.decode(line)
        return message

    async def ask(self, method: str, *params: object) -> int:
        """Send a request; returns its id."""
        number = next(self._ids)
        await self.say(encode(number, method, *params))
        return number

    async def answer(self, number: int) -> Message:
        """The answer to a request; what comes before it is kept in `notices`."""
        give_up_s = time.monotonic() + PATIENCE_S  # others come for ever: a pool has a job twice a minute
        while time.monotonic() < give_up_s:
            message = await self.message()
            if message.get("id") == number and "method" not in message:
                return message
            self.notices.append(message)
        raise AssertionError(f"there was no answer to request {number}")

    async def call(self, method: str, *params: object) -> Message:
        return await self.answer(await self.ask(method, *params))

    async def notified(self, method: str) -> list[Any]:
        """The parameters of the next notification of this method."""
        give_up_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_s:
            message = await self.message()
            self.notices.append(message)
            if message.get("method") == method:
                params: list[Any] = message["params"]
                return params
        raise AssertionError(f"no {method} came, and other messages did")

    async def hear(self) -> None:
        """Keep what has arrived by now in `notices`."""
        while not await self.hears_nothing():
            try:
                self.notices.append(await self.message())
            except EOFError:
                return

    async def start(self) -> "Miner":
        """Subscribe, authorise, and wait for a job."""
        subscribed = await self.call("mining.subscribe", "test/1")
        assert subscribed["error"] is None
        self.extranonce1 = bytes.fromhex(subscribed["result"][1])
        self.extranonce2_size = subscribed["result"][2]
        assert (await self.call("mining.authorize", self.worker, "x"))["error"] is None
        if not self.heard("mining.notify"):
            await self.notified("mining.notify")
        return self

    def share(self, nonce: int | None = None) -> tuple[str, str, str, str, str]:
        """The parameters of a new share on the last job, or of the one with this nonce."""
        number = next(self._nonces) if nonce is None else nonce
        extranonce2 = number.to_bytes(self.extranonce2_size, "big").hex()
        return (self.worker, self.job[0], extranonce2, f"{NTIME:08x}", f"{number:08x}")

    async def submit(self) -> int:
        """Send a share; returns its id."""
        return await self.ask("mining.submit", *self.share())

    async def mine(self) -> Message:
        """Send a share and wait for its answer."""
        return await self.answer(await self.submit())

    async def close(self) -> None:
        await trio.aclose_forcefully(self.stream)

    def reset(self) -> None:
        """Cut the connection with a RST, as a machine that lost its power does at its return."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    async def hears_nothing(self) -> bool:
        """Whether nothing has arrived, and nothing is about to."""
        await trio.testing.wait_all_tasks_blocked()
        return not is_readable(self.socket) and not self._received


def is_readable(sock: socket.socket | trio.socket.SocketType) -> bool:
    """Something has arrived, or its end; whatever number it has: `select.select` takes none above 1,023."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def accepted(answer: Message) -> bool:
    """Whether the answer to a share is the good one."""
    return answer["result"] is True and answer["error"] is None


def virtual_clock() -> trio.testing.MockClock:
    """Jumps when nothing has happened for 10 ms, which is long for loopback."""
    return trio.testing.MockClock(autojump_threshold=0.01)


async def pass_in_silence(clock: trio.testing.MockClock, seconds: float) -> None:
    """Nobody has said anything, nor will meanwhile: then nothing is on its way that time could overtake."""
    threshold_s, clock.autojump_threshold = clock.autojump_threshold, 0.0
    await trio.sleep(seconds)
    clock.autojump_threshold = threshold_s


def encode(number: object, method: str, *params: object) -> bytes:
    return msgspec.json.encode({"id": number, "method": method, "params": params}) + b"\n"


async def connect(
    port: int, worker: str = "acme.c01.u1", *, receive_buffer: int | None = None, head: bytes = b""
) -> Miner:
    """A miner that has not said anything yet, but for the bytes of `head`."""
    sock = trio.socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        with trio.fail_after(PATIENCE_S):
            await sock.connect(("127.0.0.1", port))
    except BaseException:
        sock.close()
        raise
    stream = trio.SocketStream(sock)
    if head:
        await stream.send_all(head)
    return Miner(stream, worker)


async def connect_tls(
    port: int, context: ssl.SSLContext, worker: str = "acme.c01.u1", *, head: bytes = b""
) -> Miner:
    """The same over TLS, after the handshake; `head` is sent before it, in the clear."""
    plain = await connect(port, worker, head=head)
    stream = trio.SSLStream(plain.stream, context, server_hostname="pool.test", https_compatible=True)
    try:
        with trio.fail_after(PATIENCE_S):
            await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return Miner(stream, worker)


async def all_of(jobs: list[Callable[[], Awaitable[object]]]) -> None:
    """Run them at once, and return when all are done."""
    async with trio.open_nursery() as nursery:
        for job in jobs:
            nursery.start_soon(job)
