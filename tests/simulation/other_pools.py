"""Pools that machines are sold to, and tenants mine on: each connection has extranonces and a difficulty of
its own, which change in the middle, and is judged by what was said on it.

`tests.simulation.upstreams` is what they are besides, and one that keeps its word.
"""

import struct
from collections import Counter
from contextlib import suppress
from hashlib import sha256
from typing import Any, Final, Protocol

import msgspec
import trio
import trio.testing

from tests.fakes.upstreams import Caller, Message, share_hash
from tests.simulation.dice import Dice
from tests.simulation.miners import DIFF1, MASK, Job, prevhash_of
from tests.simulation.proxies import root_of
from tests.simulation.upstreams import ANOTHER_BLOCK, JOB_S, REJECTS, Upstream

Route = tuple[int, int | None]  # an upstream's number, and the order's that is mined there

COINBASE1: Final = b"\x0a" * 40
NTIME: Final = 1_700_000_000
CONNECT_S: Final = (0.002, 0.3)
CHANGES: Final = 0.1  # chance that a job comes with another difficulty, extranonce or mask
ONE_EXTRANONCE: Final = 0.3  # of pools give all connections the same one
SIZES: Final = ((4,), (8,), (12,), (4, 5, 8, 9), (5, 6))  # of extranonce2, of a pool's connections
DIFFICULTIES: Final = (2.0**-32, 2.0**-30, 2.0**-27)


class World(Protocol):
    def wrong(self, verdict: str, words: object) -> None:
        """Something is."""


class Promise(msgspec.Struct, frozen=True):
    """What was in force when a job was sent."""

    job: list[Any]
    extranonce1: str
    extranonce2_bytes: int
    target: int


class Connected(Caller):
    """A connection for a route."""

    def __init__(self, pool: "OtherPool", stream: trio.abc.Stream, route: Route) -> None:
        super().__init__(pool, stream, "")
        self.route = route
        self.promised: dict[str, Promise] = {}
        self.extranonce2_bytes = 0
        self.difficulty = DIFFICULTIES[0]


class OtherPool(Upstream):
    """`number` is the upstream's; `routes` says for whom an extranonce1 was given out, and how often."""

    def __init__(self, world: World, number: int, chance: Dice) -> None:
        super().__init__(chance)
        self.number = number
        self.height = 1_000 * number
        self.calm = False  # nothing changes but the work
        self.routes: dict[str, list[Route]] = {}
        self.said_no: Counter[str] = Counter()
        self._world = world
        self._one = chance.randbytes(4).hex() if chance.random() < ONE_EXTRANONCE else None
        self._sizes = chance.choice(SIZES)
        self._forgets = chance.random() < 0.5  # its jobs, with another extranonce
        self._here: list[Connected] = []

    async def run(self) -> None:
        """Take connections, and send jobs on them, until cancelled."""
        chance = self._chance
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            while True:
                await trio.sleep(chance.uniform(*JOB_S))
                if self.silent:
                    continue
                other = chance.random() < ANOTHER_BLOCK
                job = self.new_job(other_block=other, clean=other)
                for call in list(self._here):
                    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                        if not self.calm and chance.random() < CHANGES:
                            await self._change(call)
                        await self._send(call, job)

    # Connections

    async def connect_for(self, route: Route, host: str, port: int) -> trio.abc.Stream:
        """As `trio.open_tcp_stream` does."""
        chance = self._chance
        await trio.sleep(chance.uniform(*CONNECT_S))
        if not self.up or self._nursery is None:
            raise OSError(f"all attempts to connect to {host}:{port} failed")
        ours, theirs = trio.testing.memory_stream_pair()
        call = Connected(self, theirs, route)
        call.difficulty = chance.choice(DIFFICULTIES)
        self._give_extranonce(call)
        self._here.append(call)
        self._nursery.start_soon(self.talk, call)
        return ours

    async def talk(self, call: Connected) -> None:
        await self.listen(call)
        self._leaves(call)

    def cut(self) -> None:
        """It closes every connection."""
        for call in list(self._here):
            assert isinstance(call.stream, trio.StapledStream)
            call.stream.send_stream.close()
            call.stream.receive_stream.close()
            self._leaves(call)

    def _leaves(self, call: Connected) -> None:
        if call in self._here:
            self._here.remove(call)

    # What it says

    def _give_extranonce(self, call: Connected) -> None:
        call.extranonce1 = self._chance.randbytes(4).hex() if self._one is None else self._one
        call.extranonce2_bytes = self._chance.choice(self._sizes)
        self.routes.setdefault(call.extranonce1, []).append(call.route)

    async def _change(self, call: Connected) -> None:
        what = self._chance.choice(("difficulty", "mask", "extranonce"))
        if what == "difficulty":
            call.difficulty = self._chance.choice(DIFFICULTIES)
            await call.tell("mining.set_difficulty", call.difficulty)
        elif what == "mask":
            call.mask = self._chance.choice((MASK, 0x00FFE000))
            await call.tell("mining.set_version_mask", f"{call.mask:08x}")
        elif self._one is None:
            self._give_extranonce(call)
            if self._forgets:
                call.promised.clear()
            await call.tell("mining.set_extranonce", call.extranonce1, call.extranonce2_bytes)

    def new_job(self, *, other_block: bool = True, clean: bool = True) -> list[Any]:
        """The same for every connection."""
        self.height += other_block
        job_id = f"{self.number}-{len(self.jobs)}"
        params = [
            sha256(b"pool %d, block %d" % (self.number, self.height)).hexdigest(),
            COINBASE1.hex(),
            (b"\xff" * 4 + struct.pack("<II", self.number, len(self.jobs)) + b"\x00" * 40).hex(),
            [sha256(b"node %d" % level).hexdigest() for level in range(2)],
            "20000000",
            f"{self.nbits:08x}",
            f"{NTIME + len(self.jobs):08x}",
            clean,
        ]
        self.jobs[job_id] = params
        return [job_id, *params]

    async def _send(self, call: Connected, job: list[Any]) -> None:
        target = int(DIFF1 / call.difficulty)
        call.promised[job[0]] = Promise(job[1:], call.extranonce1, call.extranonce2_bytes, target)
        await call.tell("mining.notify", *job)

    async def on_subscribe(self, call: Caller, message: Message) -> None:
        assert isinstance(call, Connected)
        topics = [["mining.set_difficulty", "s0"], ["mining.notify", call.extranonce1]]
        await call.answer(message, [topics, call.extranonce1, call.extranonce2_bytes])

    async def on_authorize(self, call: Caller, message: Message) -> None:
        assert isinstance(call, Connected)
        await call.answer(message, True)
        await call.tell("mining.set_difficulty", call.difficulty)
        await self._send(call, self.new_job())

    def routes_of_root(self, job: Job) -> set[Route]:
        """Those that a machine may have the work from, which knows no more of it than its root."""
        found = set[Route]()
        fillers = {size - len(job.extranonce1) for size in self._sizes}
        for prevhash, one, two, branch, *_ in self.jobs.values():
            if prevhash_of(prevhash) != job.prevhash:
                continue
            nodes = tuple(bytes.fromhex(it) for it in branch)
            for extranonce1, routes in self.routes.items():
                begins = [bytes.fromhex(one + extranonce1) + bytes(it) for it in fillers if it >= 0]
                roots = (root_of(it, bytes.fromhex(two), nodes, job.extranonce1) for it in begins)
                if job.root in roots:
                    found.update(routes)
        return found

    # Shares

    def judge(self, call: Caller, params: list[str]) -> tuple[Any, Any]:
        assert isinstance(call, Connected)
        no = self._refusal(call, params)
        if no is None:
            return True, None
        self.said_no[no] += 1
        return None, [20, no, None]

    def _refusal(self, call: Connected, params: list[str]) -> str | None:
        """What is to be known of a share for the pool's own sake, it sees to by itself: a share that it would
        have refused where the world knows better is wrong."""
        _, job_id, extranonce2, ntime, nonce, *rolled = params
        if self._chance.random() < REJECTS:
            return "it is unfair"
        promise = call.promised.get(job_id)
        if promise is None:
            if not self._forgets and len(self.routes[call.extranonce1]) == 1:
                self._world.wrong("sent on a connection that never had the job", job_id)
            return "Job not found"
        if len(extranonce2) != 2 * promise.extranonce2_bytes:
            self._world.wrong("an extranonce2 of another size", extranonce2)
            return "Malformed share"
        bits = int(rolled[0], 16) if rolled else 0  # without, where it was silent as it was asked for a mask
        extranonces = promise.extranonce1 + extranonce2
        found = share_hash(promise.job, extranonces, ntime, nonce, (bits, call.mask or 0))
        if int.from_bytes(found, "little") > promise.target:
            return "Low difficulty share"
        if found in self.counted:
            if len(self.routes[promise.extranonce1]) == 1:
                self._world.wrong("sent twice to another pool", found[::-1].hex())
            return "Duplicate share"
        self.counted.add(found)
        return None
