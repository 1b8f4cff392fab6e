"""kill -9 of the process that keeps the books, while two others serve miners under load: those end by
themselves, and every share that they had acknowledged is booked once after the next start.

As in test_27_process_killed, every share has a name of its own.
"""

import os
import signal
from pathlib import Path

import pytest
import trio

from pool.books.store import Store
from tests.faults.test_01_kill import STARTS_IN_S, acknowledged, start, store
from tests.faults.test_27_process_killed import Miner, booked_once, both_serve, for_two_processes, processes
from tests.stages.waiting import until

__all__ = ["store"]  # the fixture

MINERS = 8
SHARES = 120


def lives(pid: int) -> bool:
    """A process whose parent is dead is nobody's zombie for long."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # it went before it was looked at, or meanwhile
        return False
    return state != "Z"


@pytest.mark.long
async def test_what_was_acknowledged_before_the_hub_was_killed_is_booked_once(
    tmp_path: Path, store: Store
) -> None:
    async with for_two_processes(tmp_path) as port:
        miners = [Miner(number) for number in range(MINERS)]
        async with trio.open_nursery() as fleet:
            pool = start(tmp_path)
            try:
                await both_serve(pool, tmp_path)
                for miner in miners:
                    fleet.start_soon(miner.mine_on, port)
                await acknowledged(miners, SHARES)
                orphans = list(processes(tmp_path).values())
                os.kill(pool.pid, signal.SIGKILL)
                for miner in miners:
                    miner.goes_on = trio.Event()
                pool.wait()
                with trio.fail_after(STARTS_IN_S):
                    await until(lambda: not any(lives(pid) for pid in orphans))
            finally:
                pool.kill()
                pool.wait()
            pool = start(tmp_path)
            try:
                await both_serve(pool, tmp_path)
                for miner in miners:
                    miner.goes_on.set()
                await acknowledged(miners, sum(len(it.acknowledged) for it in miners) + SHARES)
                pool.send_signal(signal.SIGTERM)
                with trio.fail_after(STARTS_IN_S):
                    await trio.to_thread.run_sync(pool.wait)
                fleet.cancel_scope.cancel()
            finally:
                pool.kill()
                pool.wait()
        booked_once(miners, tmp_path, store)
    store.close()
