"""Miners of a switchboard without sockets: what they say is there at once, and time is virtual."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from stratum.miners.connection import Connection
from stratum.miners.liveness import SessionLimits
from stratum.miners.turns.connection_limits import Place, Standing
from tests.stages.sockets import (
    NOBODY_IS_TOO_FAST_S,
    NTIME,
    LoopbackServer,
    MemoryJournal,
    encode,
    make_work,
)

PING = encode(7, "mining.ping")
CHECK_S = 5.0


class MemoryConnection(Connection):
    """What it is told is counted in `order`, with what the others are told."""

    __slots__ = ("heard", "name", "order", "sent")

    def __init__(
        self, server: LoopbackServer, address: str, order: list[str], name: str = "acme.c01.u1"
    ) -> None:
        self.sent = b""
        self.heard = b""
        self.name = name
        self.order = order
        place = server.connection_limits.enter(address)
        assert isinstance(place, Place)
        super().__init__(server.board, address, place)

    def say(self, data: bytes) -> None:
        self.sent += data
        if not self.held:
            self.board.readable(self)
            self.board.judge()

    def read(self, bytes_max: int) -> bytes | None:
        data, self.sent = self.sent[:bytes_max], self.sent[bytes_max:]
        return data or None

    def write(self, data: bytes) -> None:
        if not self.open:
            return
        self.heard += data
        self.order += [self.address] * data.count(b"\n")

    def hold(self) -> None:
        self.held = True

    def release(self) -> None:
        self.held = False
        if self.sent:
            self.board.readable(self)

    def shut(self) -> None:
        self.open = False

    def join(self) -> None:
        self.say(encode(1, "mining.subscribe", "test") + encode(2, "mining.authorize", self.name, "x"))

    def share(self, number: int, job: str | None = None) -> bytes:
        """One that is good; on another job, one that is not."""
        job = f"{self.session.assignment.sent_seq:x}" if job is None else job
        params = self.name, job, f"{number:016x}", f"{NTIME:08x}", f"{number:08x}"
        return encode(4, "mining.submit", *params)

    @property
    def pongs(self) -> int:
        return self.heard.count(b'"pong"')


@asynccontextmanager
async def running(
    journal: MemoryJournal | None = None,
    session_limits: SessionLimits | None = None,
    aim_s: float = NOBODY_IS_TOO_FAST_S,
) -> AsyncIterator[LoopbackServer]:
    """A switchboard without listeners."""
    server = LoopbackServer(journal=journal, session_limits=session_limits, aim_s=aim_s)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.board.run)
        server.publish(make_work())
        yield server
        nursery.cancel_scope.cancel()


async def mining(
    server: LoopbackServer, address: str, order: list[str], name: str = "acme.c09.good"
) -> MemoryConnection:
    """A miner that the board trusts by now."""
    miner = MemoryConnection(server, address, order, name)
    await be_trusted(miner)
    return miner


async def be_trusted(miner: MemoryConnection) -> None:
    """Have it mine until the board trusts it."""
    miner.join()
    await trio.sleep(1)
    miner.say(miner.share(1))
    await trio.sleep(CHECK_S + 1)
    assert miner.trusted


def standing_of(miner: MemoryConnection) -> Standing:
    return miner.place.standing
