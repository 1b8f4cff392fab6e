"""Another pool, which a tenant mines on through ours: an honest one, nearly, whose lines are late and cut.

It judges each share by what it sent itself (`tests.fakes.upstreams`), and what it counted is what the auditor
believes. Every connection has extranonces of its own, as real pools give them.
"""

from contextlib import suppress
from typing import Any, Final

import trio
import trio.testing

from tests.fakes.upstreams import Caller, HonestUpstream, Message
from tests.simulation.dice import Dice
from tests.simulation.process import PROCESS

HOST: Final = "north.example"
PORT: Final = 3333
ANSWER_S: Final = (0.002, 0.08)
PROMPT_S: Final = (0.001, 0.005)  # when all is well: at a hundred shares a second nothing is left behind
JOB_S: Final = (2.0, 9.0)  # between two jobs
ANOTHER_BLOCK: Final = 0.4  # chance that a job is on one
REJECTS: Final = 0.03  # chance that a good share is said to be stale


class Upstream(HonestUpstream):
    """`up`: connections are taken. `rejected` counts good shares that it was unfair about."""

    def __init__(self, chance: Dice) -> None:
        super().__init__()
        self.up = True
        self.silent = False
        self.answer_s = ANSWER_S
        self.rejected = 0
        self._chance = chance
        self._nursery: trio.Nursery | None = None
        self._streams: list[trio.StapledStream[Any, Any]] = []

    async def run(self) -> None:
        """Take connections, and send jobs on them, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            while True:
                await trio.sleep(self._chance.uniform(*JOB_S))
                other = self._chance.random() < ANOTHER_BLOCK
                for call in self.calls[-self.open :] if self.open and not self.silent else ():
                    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                        await call.notify(other_block=other, clean=other)

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """As `trio.open_tcp_stream` does."""
        await trio.sleep(self._chance.uniform(*ANSWER_S))
        if not self.up or (host, port) != (HOST, PORT) or self._nursery is None:
            raise OSError(f"all attempts to connect to {host}:{port} failed")
        ours, theirs = trio.testing.memory_stream_pair()
        self._streams.append(theirs)
        outside = PROCESS.set(None)  # what it does, no process of ours does
        self._nursery.start_soon(self.accept, theirs)
        PROCESS.reset(outside)
        return ours

    async def accept(self, stream: trio.abc.Stream) -> None:
        self.extranonce1 = self._chance.randbytes(4).hex()
        await super().accept(stream)

    def cut(self) -> None:
        """It closes every connection."""
        streams, self._streams = self._streams, []
        for stream in streams:
            stream.send_stream.close()
            stream.receive_stream.close()

    async def on_message(self, call: Caller, message: Message) -> None:
        await trio.sleep(self._chance.uniform(*self.answer_s))
        if not self.silent:
            await super().on_message(call, message)

    def judge(self, call: Caller, params: list[str]) -> tuple[Any, Any]:
        if self._chance.random() < REJECTS:
            self.rejected += 1
            return None, [21, "Stale", None]
        return super().judge(call, params)
