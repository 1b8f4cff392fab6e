"""Who speaks Stratum V2: proxies with a channel for each machine behind them, and machines that are alone.

They solve real shares on what they are told, and write down what they sent and were answered where miners of
V1 do. When a connection ends, all that was on it comes again. Some do what the specification asks; the others
are as SRI's translator, which does nothing about CloseChannel and SetExtranoncePrefix, and ends, until it is
started by hand, when it is refused a channel.

Must not know: anything that the pool has of the protocol (`tests.stages.sv2_machine`).
"""

from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from random import Random
from typing import Final, Protocol

import msgspec
import trio

from tests.simulation.course import Clock
from tests.simulation.dice import Dice
from tests.simulation.miners import DIFF1, MASK, Job, Ledger, Share
from tests.simulation.network import Connection
from tests.stages.sv2_machine import Initiator, MachineChannel, Said, Sv2Machine, authority_of, sha256d

CERTIFICATE_S: Final = 10_000_000  # of a pool
SECOND_BYTES: Final = 234  # of the handshake
WORKER_TRACKING: Final = 0x0002
MACHINES_MAX: Final = 4  # behind one proxy
LEAST: Final = (2, 3)  # bytes of extranonce that an extended channel asks for; an upstream may have no more
BEGINS_S: Final = (0.0, 3.0)
AGAIN_S: Final = (0.5, 3.0)  # before who follows connects, or asks for a channel, again
TRANSLATOR_AGAIN_S: Final = (5.0, 5.0)  # what SRI's waits
STARTED_AGAIN_S: Final = 20.0
SWITCHED_S: Final = (5.0, 60.0)  # between two of what people do to machines behind it
OFF_S: Final = (0.5, 12.0)
HASHES: Final = 16  # before it looks whether there is other work
LATE: Final = 0.05  # chance that it searches on the job of before
STANDARD_JOBS: Final = 1  # of the flags in SetupConnection


def root_of(coinbase1: bytes, coinbase2: bytes, branch: tuple[bytes, ...], extranonce: bytes) -> bytes:
    root = sha256d(coinbase1 + extranonce + coinbase2)
    for node in branch:
        root = sha256d(root + node)
    return root


class Line(trio.abc.Stream):
    """A machine's end of a connection of a world's network."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self._arrives, self._arrived = trio.open_memory_channel[bytes](1_000)
        self._left = b""

    def heard(self, data: bytes) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            self._arrives.send_nowait(data)

    def closed(self) -> None:
        self._arrives.close()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        if self.connection is None or not self.connection.open:
            raise trio.BrokenResourceError
        self.connection.say(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if not self._left:
            try:
                self._left = await self._arrived.receive()
            except trio.EndOfChannel:
                return b""
        some, self._left = self._left[:max_bytes], self._left[max_bytes:] if max_bytes else b""
        return some

    async def aclose(self) -> None:
        if self.connection is not None:
            self.connection.close()


class Manners(msgspec.Struct, frozen=True, kw_only=True):
    """What a proxy is like. `least` is None of a machine that asks for a standard channel."""

    least: int | None
    follows: bool  # CloseChannel and SetExtranoncePrefix
    names_each_share: bool = False  # all of its machines share one channel
    flags: int = 0
    again_s: tuple[float, float] = AGAIN_S


def translator(chance: Dice) -> Manners:
    return Manners(least=chance.choice(LEAST), follows=False, again_s=TRANSLATOR_AGAIN_S)


def proxy(chance: Dice) -> Manners:
    return Manners(least=chance.choice(LEAST), follows=True, names_each_share=chance.random() < 0.6)


def machine(chance: Dice) -> Manners:
    return Manners(least=None, follows=True, flags=chance.choice((0, STANDARD_JOBS)))


class Place(Ledger, Protocol):
    """The world that it is in."""

    clock: Clock

    def session_of(self, name: str) -> int:
        """A new one of the machine of this name."""

    def wrong(self, verdict: str, words: object) -> None: ...


class Opened:
    """A channel of a machine, while it is there."""

    def __init__(self, name: str, session: int, channel: MachineChannel) -> None:
        self.name, self.session, self.channel = name, session, channel
        self.first_prefix = channel.prefix
        self.jobs: list[tuple[Job, Said]] = []  # the last two, newest last
        self.pending: dict[int, Share] = {}  # by their sequence numbers
        self.is_off = False  # by hand


class Proxy:
    """`names` are of the machines behind it. `reach` opens a connection to the pool, or says None, and
    `authority` is what the pool is known by."""

    def __init__(
        self,
        names: list[str],
        manners: Manners,
        world: Place,
        chance: Dice,
        *,
        reach: Callable[[Line], Connection | None],
        authority: str,
    ) -> None:
        self.names, self.manners = names, manners
        self.resting = False
        self.calm = False  # nobody switches any of them off
        self.refused = 0
        self.accepted_s: dict[str, float] = {}  # when a share of a channel was last
        self._world, self._chance = world, chance
        self._reach, self._authority = reach, authority
        self._hashes_per_s = 2.0 ** chance.uniform(2, 4)
        self._opened: dict[int, Opened] = {}  # on this connection, by their numbers
        self._asked: dict[int, str] = {}  # who each request is for
        self._line = Line()

    # Its life

    async def run(self) -> None:
        """Until cancelled."""
        await trio.sleep(self._chance.uniform(*BEGINS_S))
        while True:
            self._line, self._opened, self._asked = Line(), {}, {}
            self._line.connection = None if self.resting else self._reach(self._line)
            refused = self.refused
            if self._line.connection is not None:
                with suppress(EOFError, trio.BrokenResourceError):
                    await self._connected()
                self._line.connection.close()
            ended = self.refused > refused and not self.manners.follows
            await trio.sleep(STARTED_AGAIN_S if ended else self._chance.uniform(*self.manners.again_s))

    def stop(self) -> None:
        """Find nothing more; what is under way is still answered."""
        self.resting = True

    def hang_up(self) -> None:
        if self._line.connection is not None:
            self._line.connection.close()

    async def _connected(self) -> None:
        pool = await self._greet()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._ask_for_all, pool)
                nursery.start_soon(self._is_switched, pool)
                while True:
                    name, said = await pool.hear()
                    self._followed(pool, nursery, name, said)
        except* (EOFError, trio.BrokenResourceError):
            pass

    async def _greet(self) -> Sv2Machine:
        initiator = Initiator(Random(self._chance.getrandbits(32)))
        await self._line.send_all(initiator.first)
        second = b""
        while len(second) < SECOND_BYTES:
            data = await self._line.receive_some(SECOND_BYTES - len(second))
            if not data:
                raise EOFError
            second += data
        now_s = int(self._world.clock.wall_s())
        pool = Sv2Machine(self._line, *initiator.finish(second, authority_of(self._authority), now_s))
        await pool.setup(self.manners.flags)
        if self.manners.names_each_share:
            await pool.extend(WORKER_TRACKING)
        return pool

    @property
    def of_channels(self) -> list[str]:
        """The names that channels are opened with."""
        return self.names[:1] if self.manners.names_each_share else self.names

    async def _ask_for_all(self, pool: Sv2Machine) -> None:
        names = self.of_channels
        for name in self._chance.sample(names, len(names)):
            await self._ask(pool, name)
            await trio.sleep(self._chance.uniform(0.0, 0.3))

    async def _ask(self, pool: Sv2Machine, name: str, after_s: float = 0.0) -> None:
        await trio.sleep(after_s)
        hashrate = self._chance.choice((0.0, self._hashes_per_s, 2 * self._hashes_per_s))
        self._asked[await pool.ask_to_open(name, least=self.manners.least, hashrate=hashrate)] = name

    async def _is_switched(self, pool: Sv2Machine) -> None:
        """By people: one is switched off and on, or does more or less."""
        while True:
            await trio.sleep(self._chance.uniform(*SWITCHED_S))
            there = [it for it in self._opened.values() if it.channel.closed is None and not it.is_off]
            if not there or self.resting or self.calm:
                continue
            it = self._chance.choice(there)
            if self._chance.random() < 0.5:
                await pool.update(it.channel, hashrate=self._hashes_per_s * self._chance.choice((0.5, 1, 2)))
                continue
            it.is_off = True
            await pool.close_channel(it.channel)
            await self._ask(pool, it.name, self._chance.uniform(*OFF_S))

    # What the pool says

    def _followed(self, pool: Sv2Machine, nursery: trio.Nursery, name: str, said: Said) -> None:
        if name.startswith("Open") and name.endswith("Success"):
            machine = self._asked.pop(said["request"])
            it = Opened(machine, self._world.session_of(machine), pool.channels[said["channel"]])
            self._opened[it.channel.number] = it
            nursery.start_soon(self._mine, pool, it)
        elif name == "OpenMiningChannel.Error":
            self.refused += 1
            machine = self._asked.pop(said["request"])
            self._world.note(machine, "refused", said["code"])
            if not self.manners.follows:
                self.hang_up()
            nursery.start_soon(self._ask, pool, machine, self._chance.uniform(*AGAIN_S))
        elif "channel" in said and said["channel"] in self._opened:
            self._hears(pool, nursery, self._opened[said["channel"]], name, said)

    def _hears(self, pool: Sv2Machine, nursery: trio.Nursery, it: Opened, name: str, said: Said) -> None:
        if name == "SubmitShares.Success":
            good = [sequence for sequence in it.pending if sequence <= said["last"]]
            if len(good) != said["count"]:
                words = f"{it.name}: {said['count']} up to {said['last']}, of {len(good)}"
                self._world.wrong("other shares are answered than were sent", words)
            for sequence in good:
                self._answered(it, sequence, "accepted")
        elif name == "SubmitShares.Error":
            self._answered(it, said["sequence"], said["code"])
        elif name == "SetNewPrevHash" or (name.startswith("New") and said["ntime"] is not None):
            self._is_told(it)
        elif name == "CloseChannel":
            self._world.note(it.name, "channel closed", said["code"])
            if self.manners.follows:
                nursery.start_soon(self._ask, pool, it.name, self._chance.uniform(*AGAIN_S))

    def _answered(self, it: Opened, sequence: int, verdict: str) -> None:
        share = it.pending.pop(sequence, None)
        if share is None:
            self._world.wrong("an answer to no share", f"{it.name}: {verdict}")
            return
        share.verdict, share.answered_s = verdict, trio.current_time()
        if verdict == "accepted":
            self.accepted_s[it.name] = trio.current_time()
        self._world.note(share.worker, verdict, f"{share.hash_int:064x}"[:16])

    def _is_told(self, it: Opened) -> None:
        channel, said = it.channel, it.channel.job
        assert said is not None
        one, two = said.get("coinbase", (b"", b""))
        job = Job(
            job_id=f"{channel.number}-{said['job']}",
            prevhash=channel.prevhash,
            coinbase1=one,
            coinbase2=two,
            branch=tuple(said.get("branch", ())),
            version=said["version"],
            nbits=channel.nbits,
            ntime=said["ntime"],
            extranonce1=said["prefix"],
            extranonce2_bytes=channel.size,
            difficulty=Fraction(DIFF1, said["target"]),
            root=said.get("root", b""),
        )
        it.jobs = [*it.jobs[-1:], (job, said)]
        self._world.told(it.session, job, resumed=False)

    # Work

    async def _mine(self, pool: Sv2Machine, it: Opened) -> None:
        chance = self._chance
        while not it.is_off and (it.channel.closed is None or not self.manners.follows):
            if self.resting or not it.jobs:
                await trio.sleep(chance.uniform(0.1, 0.5))
                continue
            job, said = it.jobs[0 if chance.random() < LATE else -1]
            if job.prevhash != it.channel.prevhash:  # all of those are forgotten
                job, said = it.jobs[-1]
            share, found, hashes = self._search(it, said)
            await trio.sleep(hashes / self._hashes_per_s)
            if share is not None and not self.resting and not it.is_off:
                await self._submit(pool, it, job, share, found)

    def _search(self, it: Opened, said: Said) -> tuple[Said | None, int, int]:
        """A share, its hash, and how many hashes that took. Who passes other extranonces over searches by
        what it was told first."""
        searched = said if self.manners.follows else said | {"prefix": it.first_prefix}
        roll = self._chance.getrandbits(32) & MASK if said.get("rolls") else 0
        for hashes in range(1, HASHES + 1):
            share, found = it.channel.share(job=searched, roll=roll)
            if found <= said["target"]:
                return share, it.channel.hash_of(share, said), hashes
        return None, 0, HASHES

    async def _submit(self, pool: Sv2Machine, it: Opened, job: Job, said: Said, found: int) -> None:
        worker, named = it.name, None
        if self.manners.names_each_share:
            worker = self._chance.choice(self.names)
            named = worker if self._chance.random() < 0.5 else worker.rpartition(".")[2]
        share = Share(
            worker=worker,
            job=job,
            session=it.session,
            hash_int=found,
            prevhash=job.prevhash,
            nbits=job.nbits,
            honest=True,
            sent_s=trio.current_time(),
        )
        self._world.shares.append(share)
        it.pending[said["sequence"]] = share
        await pool.submit(it.channel, said, named)
