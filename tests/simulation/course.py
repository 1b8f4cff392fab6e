"""What the operating system and chance decide elsewhere; the seed does: clocks, threads, secrets, order.

Time is virtual, and jumps to the next deadline when every task waits. No thread works meanwhile: what is done
in a thread elsewhere is done here in the task that asked for it, and takes virtual time before and after it.
Trio goes through tasks that are ready in an order that is drawn, and sets of connections are gone through in
the order in which they came.
"""

import random
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing
from sqlalchemy import create_engine

from pool.books import store
from pool.routing import proxy
from stratum.miners import switchboard
from stratum.miners.assignment import Assignment
from stratum.miners.channel import Channel
from stratum.miners.connection import SocketConnection
from stratum.sv2 import connection as sv2_connection
from stratum.sv2 import dialect
from stratum.sv2.connection import Sv2Connection
from stratum.sv2.mining_channel import MiningChannel
from tests.fixtures.engines import compiling_once
from tests.simulation.dice import Dice, dice
from tests.simulation.process import PROCESS, Killed

NOON_S = 1_790_000_000 // 3600 * 3600 + 1_800  # half past an hour: what is played is within one
THREAD_S = (0.0002, 0.004)  # that a thread's work takes: a transaction, a commit of the journal
TOLD_LATE = 0.2  # chance that time passes before it is told that it is done

_CREATE_ENGINE = compiling_once(create_engine)


class Clock:
    """The virtual time of a course; `ahead_s` is by how much the pool's wall clock has been put forward."""

    def __init__(self) -> None:
        self.trio = trio.testing.MockClock(autojump_threshold=0)
        self.ahead_s = 0.0

    def monotonic_s(self) -> float:
        return self.trio.current_time()

    def true_s(self) -> float:
        return NOON_S + self.trio.current_time()

    def wall_s(self) -> float:
        return self.true_s() + self.ahead_s


class Threads:
    """`trio.to_thread.run_sync` without threads. `slow_s` is what each takes besides."""

    def __init__(self, chance: Dice) -> None:
        self.slow_s = 0.0
        self._chance = chance

    async def run_sync(
        self, work: Callable[..., Any], *args: Any, abandon_on_cancel: bool = False, **_: Any
    ) -> Any:
        process = PROCESS.get()
        await trio.lowlevel.checkpoint_if_cancelled()
        with trio.CancelScope(shield=not abandon_on_cancel):
            await trio.sleep(self._chance.uniform(*THREAD_S) + self.slow_s)
            if process is not None and not process.alive:
                raise Killed(process.name)
            done = work(*args)
            if self._chance.random() < TOLD_LATE:
                await trio.sleep(self._chance.uniform(*THREAD_S))
        return done


def _at_once(work: Callable[..., Any], *args: Any, **_: Any) -> Any:
    """What a thread has Trio's do: they are one."""
    return work(*args)


def _numbered(kind: type[Any], numbers: Iterator[int]) -> type[Any]:
    """A set of those is gone through as they came."""

    def begin(it: Any, *args: Any) -> None:
        it._arrived = next(numbers)
        kind.__init__(it, *args)

    of_it = {"__slots__": ("_arrived",), "__init__": begin, "__hash__": lambda it: it._arrived}
    return type(f"Numbered{kind.__name__}", (kind,), of_it)


@contextmanager
def course(seed: int) -> Iterator[tuple[Clock, Threads]]:
    """Until the end of the block one thing follows from another and from the seed."""
    clock, threads, chance = Clock(), Threads(dice(seed, "threads")), dice(seed, "secrets")
    arrived = count()
    state = random.getstate()
    random.seed(seed)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "time", clock.wall_s)
            patch.setattr(time, "monotonic", clock.monotonic_s)
            patch.setitem(
                cast(dict[str, Any], Channel.__init__.__kwdefaults__), "monotonic_s", clock.monotonic_s
            )
            patch.setattr(trio.to_thread, "run_sync", threads.run_sync)
            patch.setattr(trio.from_thread, "run_sync", _at_once)
            patch.setattr(store, "create_engine", _CREATE_ENGINE)
            patch.setattr(secrets, "token_bytes", chance.randbytes)
            patch.setattr(secrets, "token_hex", lambda size: chance.randbytes(size).hex())
            patch.setattr(secrets, "randbelow", chance.randrange)
            patch.setattr(proxy, "random", SimpleNamespace(Random=lambda: dice(seed, "pauses")))
            patch.setattr(switchboard, "SocketConnection", _numbered(SocketConnection, arrived))
            patch.setattr(dialect, "Sv2Connection", _numbered(Sv2Connection, arrived))
            patch.setattr(sv2_connection, "MiningChannel", _numbered(MiningChannel, arrived))
            patch.setattr(Assignment, "__hash__", lambda it: it.slot)
            patch.setattr("trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING", True)
            patch.setattr("trio._core._run._r", dice(seed, "tasks"))
            yield clock, threads
    finally:
        random.setstate(state)
