"""A fleet of simulated container miners over TCP: the Trio side of swarm_miner.

One task a machine, and only that task touches its connection: it reads until its next share is due,
hashes a bounded step, sends, reads on. Lost connections come back with exponential back-off and
jitter, so a restarted pool is not stormed. Shares come at exponentially distributed intervals, as
from real machines. Everything random comes from `SwarmOptions.seed`.

Must not know: the protocol (swarm_miner does), and anything of the pool's insides.
"""

import math
import random
from collections.abc import Awaitable, Callable

import msgspec
import structlog
import trio

from pool.swarm.machine import BrokenPool, MinerMachine, Reconnect, RefusedByPool, State, SwarmStats

__all__ = ["MachineConnection", "SwarmOptions", "SwarmStats", "run_swarm", "worker_name"]

log = structlog.get_logger()

RECEIVE_BYTES = 16 * 1024
LINE_BYTES_MAX = 256 * 1024  # a notify with 32 branch nodes and a 100 kB coinbase in hex, in full
CONNECT_TIMEOUT_S = 10.0
SEND_TIMEOUT_S = 30.0  # a share that is older than a job's usual life is of no use to anybody
SILENCE_S_MAX = 180.0  # pools send a job at least every minute; three without one mean a dead peer
ANSWERED_S_MAX = 10.0  # a machine that leaves waits so long for what it has sent
START_SPREAD_S = 1.0  # machines of a container do not power up in the same millisecond
BACKOFF_S_MIN = 0.5
BACKOFF_S_MAX = 30.0
# 250 hashes of hashlib take about half a millisecond: nobody else in this Trio loop waits longer for us.
HASHES_PER_STEP = 250
# Between two steps of a search a machine pauses this long for each machine of the fleet: whatever the
# difficulty and the size of the fleet, all of it together takes at most about a quarter of one core.
STEP_PAUSE_S = 0.002
SLOTS_PER_ROW = 20  # 400 machines a container stand in 20 rows of 20

Connect = Callable[[str, int], Awaitable[trio.abc.Stream]]


class SwarmOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How many machines, whose they are, and how fast they find shares."""

    host: str
    port: int
    miners: int  # how many machines
    tenants: tuple[str, ...]  # machines are dealt out to tenants in turn
    shares_per_minute: float  # each machine, on average
    containers: int = 2
    seed: int = 1


def worker_name(options: SwarmOptions, index: int) -> str:
    """`tenant.cNN.rRRsSS`: containers are filled one after the other, each place is taken once."""
    per_container = math.ceil(options.miners / options.containers)
    container, place = divmod(index, per_container)
    row, slot = divmod(place, SLOTS_PER_ROW)
    tenant = options.tenants[index % len(options.tenants)]
    return f"{tenant}.c{container + 1:02d}.r{row + 1:02d}s{slot + 1:02d}"


async def run_swarm(
    options: SwarmOptions, stats: SwarmStats, connect: Connect = trio.open_tcp_stream
) -> None:
    """Run the fleet until cancelled; `stats` is updated as it goes."""
    async with trio.open_nursery() as nursery:
        for index in range(options.miners):
            worker = worker_name(options, index)
            nursery.start_soon(run_machine, worker, options, stats, connect, name=worker)


async def run_machine(worker: str, options: SwarmOptions, stats: SwarmStats, connect: Connect) -> None:
    """Keep one machine connected for ever."""
    # Not for secrets: a demo that can be repeated.
    rng = random.Random(f"{options.seed}/{worker}")  # noqa: S311
    await trio.sleep(rng.uniform(0.0, START_SPREAD_S))
    backoff_s = BACKOFF_S_MIN
    port = options.port
    while True:
        machine = MinerMachine(worker, rng, stats)
        reason = "closed by the pool"
        try:
            with trio.fail_after(CONNECT_TIMEOUT_S):
                stream = await connect(options.host, port)
            async with stream:
                await MachineConnection(stream, machine, rng, options, stats).mine()
        except (OSError, trio.BrokenResourceError, trio.TooSlowError, BrokenPool) as error:
            reason = str(error) or type(error).__name__
        except RefusedByPool as error:
            log.warning("swarm_machine_refused", worker=worker, reason=str(error))
            reason = str(error)
        if machine.state is State.MINING:
            backoff_s = BACKOFF_S_MIN
        port, wait_s = _where_next(machine.reconnect, options)
        pause_s = wait_s + rng.uniform(0.5, 1.0) * backoff_s
        log.debug("swarm_machine_reconnects", worker=worker, reason=reason, pause_s=round(pause_s, 3))
        await trio.sleep(pause_s)
        backoff_s = min(backoff_s * 2, BACKOFF_S_MAX)


def _where_next(reconnect: Reconnect | None, options: SwarmOptions) -> tuple[int, float]:
    """Port and waiting time. Like cautious firmware: to another port perhaps, never to another host."""
    if reconnect is None or reconnect.host not in (None, options.host):
        return options.port, 0.0
    return reconnect.port or options.port, reconnect.wait_s


class MachineConnection:
    """The one task that owns a connected machine: reads until a share is due, hashes, sends."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        machine: MinerMachine,
        rng: random.Random,
        options: SwarmOptions,
        stats: SwarmStats,
    ) -> None:
        self._stream = stream
        self._machine = machine
        self._rng = rng
        self._options = options
        self._stats = stats
        self._received = bytearray()
        self._share_at = math.inf
        self._leaves_at = math.inf
        self._receiving: trio.CancelScope | None = None

    def leave(self) -> None:
        """Send nothing more, and go when what was sent is answered."""
        self._leaves_at = min(self._leaves_at, trio.current_time() + ANSWERED_S_MAX)
        if self._receiving is not None:
            self._receiving.cancel()

    async def mine(self) -> None:
        """Mine until the pool closes the connection or asks us to reconnect, or we leave."""
        counted = False
        try:
            await self._send(self._machine.open())
            heard_at = trio.current_time()
            while self._machine.reconnect is None and not self._has_left:
                chunk = await self._receive(min(self._due_at, heard_at + SILENCE_S_MAX, self._leaves_at))
                if chunk == b"":
                    return
                if chunk is not None:
                    heard_at = trio.current_time()
                    await self._hear(chunk)
                if self._machine.state is State.MINING and not counted:
                    counted = True
                    self._stats.connected += 1
                    self._share_at = trio.current_time() + self._interval_s()
                if trio.current_time() >= heard_at + SILENCE_S_MAX:
                    raise BrokenPool(f"nothing heard for {SILENCE_S_MAX:.0f} s")
                if trio.current_time() >= self._due_at:
                    await self._work()
        finally:
            self._stats.connected -= counted

    @property
    def _due_at(self) -> float:
        """When it hashes on."""
        return self._share_at if self._leaves_at == math.inf else math.inf

    @property
    def _has_left(self) -> bool:
        if self._leaves_at == math.inf:
            return False
        return self._machine.unanswered == 0 or trio.current_time() >= self._leaves_at

    async def _receive(self, until: float) -> bytes | None:
        """What the pool sent; b"" when it closed; None when `until` came first. Loses nothing."""
        with trio.move_on_at(until) as self._receiving:
            return bytes(await self._stream.receive_some(RECEIVE_BYTES))
        return None

    async def _hear(self, chunk: bytes) -> None:
        self._received += chunk
        *lines, rest = self._received.split(b"\n")
        if len(rest) > LINE_BYTES_MAX:
            raise BrokenPool(f"a line of more than {LINE_BYTES_MAX} bytes")
        self._received = rest
        for line in lines:
            await self._send(self._machine.receive_line(bytes(line)))

    async def _work(self) -> None:
        """One bounded step of hashing, and the share if it found one."""
        share = self._machine.next_share(HASHES_PER_STEP)
        if share is None:
            self._share_at = trio.current_time() + STEP_PAUSE_S * self._options.miners
            return
        self._share_at = trio.current_time() + self._interval_s()
        await self._send([share])

    async def _send(self, lines: list[bytes]) -> None:
        if lines:
            with trio.fail_after(SEND_TIMEOUT_S):
                await self._stream.send_all(b"".join(lines))

    def _interval_s(self) -> float:
        rate = self._options.shares_per_minute
        return self._rng.expovariate(rate / 60) if rate > 0 else math.inf
