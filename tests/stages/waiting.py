"""How a test waits for what has no event: until it holds, however fast the machine is."""

import time
from collections.abc import Callable
from typing import Final

import trio

PATIENCE_S: Final = 120.0  # for anything that is to happen at all; nothing is measured with it
LOOK_S: Final = 0.01


async def until(condition: Callable[[], bool], look_s: float = LOOK_S) -> None:
    """Return when it holds, which it soon must. Time passes meanwhile, whatever clock the test has."""
    with trio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - counters of production code have no events
            await trio.sleep(look_s)


async def until_a_thread_has(condition: Callable[[], bool]) -> None:
    """The same where no virtual time may pass."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_s, "it never came"
        await trio.lowlevel.checkpoint()
