"""Upstreams of tests of the proxy, over loopback sockets: what a real pool cannot be made to do.

The fakes of tests/fakes/upstreams.py, put on a port; one that changes its mind; and the path to a pool,
which can be cut, or swallow what it is given. Must not know: the proxy.
"""

import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any

import msgspec
import trio

from tests.fakes.upstreams import Caller, HonestUpstream, Message, header_hash
from tests.stages.waiting import until

DIFF1 = 0xFFFF << 208
MASK = 0x1FFFE000


class Host:
    """A port on which a fake can be reached while it is up."""

    def __init__(self, nursery: trio.Nursery, upstream: HonestUpstream) -> None:
        self.port = 0
        self._nursery = nursery
        self._upstream = upstream
        self._scope = trio.CancelScope()
        self._gone = trio.Event()

    async def up(self) -> None:
        """On the port that it had, if it had one."""
        (listener,) = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        self._scope, self._gone = trio.CancelScope(), trio.Event()
        self._nursery.start_soon(self._serve, listener)

    async def down(self) -> None:
        """Every connection is closed, and no other one is taken."""
        self._scope.cancel()
        await self._gone.wait()

    async def _serve(self, listener: trio.SocketListener) -> None:
        try:
            with self._scope:
                await trio.serve_listeners(self._accept, [listener])
        finally:
            self._gone.set()

    async def _accept(self, stream: trio.SocketStream) -> None:
        if self._upstream.up:
            await self._upstream.accept(stream)
        else:
            await trio.aclose_forcefully(stream)


@asynccontextmanager
async def hosting(*upstreams: HonestUpstream) -> AsyncIterator[list[Host]]:
    """These, each on a port of its own."""
    async with trio.open_nursery() as nursery:
        hosts = [Host(nursery, it) for it in upstreams]
        for host in hosts:
            await host.up()
        yield hosts
        nursery.cancel_scope.cancel()


class Promise(msgspec.Struct, frozen=True):
    """What was in force when a job was sent."""

    extranonce1: str
    extranonce2_bytes: int
    target: int


class UpstreamThatChanges(HonestUpstream):
    """Counts a share by what was in force when its job was sent, and version bits by what is in force now.

    With another extranonce it forgets the jobs that it had.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.promised: dict[str, Promise] = {}
        self.said_no: list[str] = []

    def new_job(self, **changes: Any) -> list[Any]:
        job = super().new_job(**changes)
        target = DIFF1 * Fraction(1) / Fraction(self.difficulty)
        self.promised[job[0]] = Promise(self.extranonce1, self.extranonce2_bytes, int(target))
        return job

    async def change_extranonce(self, extranonce1: str, extranonce2_bytes: int) -> None:
        """And go on with another job."""
        self.extranonce1, self.extranonce2_bytes = extranonce1, extranonce2_bytes
        self.promised.clear()
        await self.call.tell("mining.set_extranonce", extranonce1, extranonce2_bytes)
        await self.call.notify()

    async def change_difficulty(self, difficulty: float) -> None:
        """From the next job on, which is on the same block."""
        self.difficulty = difficulty
        await self.call.tell("mining.set_difficulty", difficulty)
        await self.call.notify(other_block=False, clean=False)

    async def change_mask(self, mask: int) -> None:
        """At once."""
        self.mask = self.call.mask = mask
        await self.call.tell("mining.set_version_mask", f"{mask:08x}")

    def judge(self, call: Caller, params: list[str]) -> tuple[Any, Any]:
        result, error = self._judge(call, params)
        if error is not None:
            self.said_no.append(error[1])
        return result, error

    def _judge(self, call: Caller, params: list[str]) -> tuple[Any, Any]:
        _, job_id, extranonce2, ntime, nonce, rolled = params
        promise, mask, bits = self.promised.get(job_id), call.mask or 0, int(rolled, 16)
        if promise is None:
            return None, [21, "Job not found", None]
        if len(extranonce2) != 2 * promise.extranonce2_bytes:
            return None, [20, "Malformed share", None]
        if bits & ~mask:
            return None, [20, "Version bits outside the mask", None]
        job = self.jobs[job_id]
        prevhash = bytes.fromhex(job[0])
        found = header_hash(
            bytes.fromhex(job[1] + promise.extranonce1 + extranonce2 + job[2]),
            [bytes.fromhex(node) for node in job[3]],
            struct.pack("<I", (int(job[4], 16) & ~mask) | bits)
            + b"".join(prevhash[at : at + 4][::-1] for at in range(0, 32, 4)),
            struct.pack("<III", int(ntime, 16), int(job[5], 16), int(nonce, 16)),
        )
        if int.from_bytes(found, "little") > promise.target:
            return None, [23, "Low difficulty share", None]
        if found in self.counted:
            return None, [22, "Duplicate share", None]
        self.counted.add(found)
        return True, None


class UpstreamThatDies(HonestUpstream):
    """Closes the connection at the share after so many, and takes no other; may have counted that share."""

    def __init__(self, after: int, *, counts: bool) -> None:
        super().__init__()
        self._after = after
        self._counts = counts

    async def on_submit(self, call: Caller, message: Message) -> None:
        if len(self.shares) <= self._after:
            await super().on_submit(call, message)
            return
        if self._counts and self.up:
            self.judge(call, message["params"])
        self.up = False
        await call.stream.aclose()


class UpstreamThatIsDeaf(HonestUpstream):
    """Takes shares and sends jobs, and answers no share."""

    async def on_submit(self, call: Caller, message: Message) -> None:
        self.judge(call, message["params"])
        await call.notify(other_block=False, clean=False)


class Wire:
    """The way to a port of a real pool. `swallows`: packets are lost both ways, and nobody is told."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.swallows = False
        self.carried = 0  # connections
        self._to = port
        self._streams: set[trio.SocketStream] = set()
        self._whole = trio.Event()
        self._whole.set()

    async def run(self, *, task_status: trio.TaskStatus["Wire"] = trio.TASK_STATUS_IGNORED) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        task_status.started(self)
        await trio.serve_listeners(self._carry, [listener])

    async def cut(self, seen: Callable[[], bool]) -> None:
        """Every connection breaks, both ends see it: the next is carried when the far one has `seen` it."""
        self._whole = trio.Event()
        for stream in list(self._streams):
            await trio.aclose_forcefully(stream)
        await until(seen)
        self._whole.set()

    async def _carry(self, near: trio.SocketStream) -> None:
        await self._whole.wait()
        try:
            far = await trio.open_tcp_stream("127.0.0.1", self._to)
        except OSError:
            await trio.aclose_forcefully(near)
            return
        self.carried += 1
        self._streams |= {near, far}
        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(self._pump, near, far, nursery.cancel_scope)
            nursery.start_soon(self._pump, far, near, nursery.cancel_scope)
        self._streams -= {near, far}

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream, end: trio.CancelScope) -> None:
        try:
            async for data in source:
                if not self.swallows:
                    await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        if not self.swallows:
            end.cancel()


@asynccontextmanager
async def a_wire(port: int) -> AsyncIterator[Wire]:
    """To that port."""
    async with trio.open_nursery() as nursery:
        yield await nursery.start(Wire(port).run)
        nursery.cancel_scope.cancel()
