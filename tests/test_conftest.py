"""That no virtual clock runs on while a thread works."""

import threading
from math import inf

import trio
import trio.testing

Clock = trio.testing.MockClock
A_LONG_TIME_S = 3600.0
PATIENCE_S = 20.0  # for a test that failed; nothing is measured with it


async def test_no_time_passes_while_a_thread_works(autojump_clock: Clock) -> None:
    began_s = trio.current_time()
    with trio.move_on_after(A_LONG_TIME_S):
        await trio.to_thread.run_sync(threading.Event().wait, 0.05)
        assert trio.current_time() == began_s
    await trio.sleep(A_LONG_TIME_S)
    assert trio.current_time() == began_s + A_LONG_TIME_S


async def test_it_goes_on_after_the_last_of_several_threads(autojump_clock: Clock) -> None:
    """Whichever that is, and whether it was waited for or given up."""
    first, second = threading.Event(), threading.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, first.wait, PATIENCE_S)
        nursery.start_soon(trio.to_thread.run_sync, second.wait, PATIENCE_S)
        await trio.testing.wait_all_tasks_blocked()
        first.set()
        with trio.move_on_after(A_LONG_TIME_S) as scope:
            await trio.to_thread.run_sync(first.wait, PATIENCE_S)
            assert autojump_clock.autojump_threshold == inf
            scope.cancel()
            await trio.to_thread.run_sync(second.wait, PATIENCE_S, abandon_on_cancel=True)
        assert autojump_clock.autojump_threshold == inf
        second.set()
    assert autojump_clock.autojump_threshold == 0


async def test_a_thread_under_an_ordinary_clock_is_left_alone() -> None:
    assert await trio.to_thread.run_sync(threading.get_ident) != threading.get_ident()
