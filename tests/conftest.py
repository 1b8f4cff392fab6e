"""What holds for every test: its files are in memory, and no virtual clock runs on while a thread works.

A clock that jumps when all tasks wait cannot know that one of them waits for a thread, and a thread (a
database, a disk, a node's chain) takes as long as the machine happens to need: time limits would pass in the
middle of its work, on a slow day and on no other.
"""

from collections.abc import Awaitable, Callable, Iterator
from functools import wraps
from math import inf
from typing import Any
from weakref import WeakKeyDictionary

import pytest
import structlog
import trio
import trio.testing

from tests.fixtures.in_memory import move_there

Working = WeakKeyDictionary[trio.testing.MockClock, tuple[int, float]]


def pytest_configure() -> None:
    move_there()


def standing_still(run_sync: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """`trio.to_thread.run_sync`, during which a virtual clock only moves when a test moves it."""
    working: Working = WeakKeyDictionary()  # threads, and the threshold from before the first of them

    @wraps(run_sync)
    async def run(*args: Any, **options: Any) -> Any:
        clock = trio.lowlevel.current_clock()
        if not isinstance(clock, trio.testing.MockClock):
            return await run_sync(*args, **options)
        threads, threshold_s = working.get(clock, (0, clock.autojump_threshold))
        working[clock] = threads + 1, threshold_s
        clock.autojump_threshold = inf
        try:
            return await run_sync(*args, **options)
        finally:
            threads, threshold_s = working.pop(clock)
            if threads > 1:
                working[clock] = threads - 1, threshold_s
            else:
                clock.autojump_threshold = threshold_s

    return run


@pytest.fixture(scope="session", autouse=True)
def _clocks_wait_for_threads() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trio.to_thread, "run_sync", standing_still(trio.to_thread.run_sync))
        yield


@pytest.fixture(autouse=True)
def _no_logs_left_configured() -> Iterator[None]:
    """A command configures them for its standard error, which is closed when its test is over."""
    yield
    structlog.reset_defaults()
