"""kill -9 of the process that keeps the books, while two others serve miners under load: those end by
themselves, and every share that they had acknowledged is booked once after the next start.

As in test_27_process_killed, every share has a name of its own.
"""

import os
import signal
import socket
from pathlib import Path

import pytest
import trio

from pool.books.store import Store
from pool.regtest.server import RegtestNode, RegtestOptions, serve_regtest
from tests.faults.test_01_kill import SETTINGS, STARTS_IN_S, acknowledged, counted, start, store
from tests.faults.test_27_process_killed import Miner, log_of, processes
from tests.stages.journal import waiting
from tests.stages.waiting import until

__all__ = ["store"]  # the fixture

MINERS = 8
SHARES = 120


def lives(pid: int) -> bool:
    """A process whose parent is dead is nobody's zombie for long."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.long
async def test_what_was_acknowledged_before_the_hub_was_killed_is_booked_once(
    tmp_path: Path, store: Store
) -> None:
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind(("127.0.0.1", 0))
    port = reserved.getsockname()[1]
    async with trio.open_nursery() as nursery:
        options = RegtestOptions(data_dir=tmp_path / "node", network_bits=0x1D00FFFF)
        node: RegtestNode = await nursery.start(serve_regtest, options)
        settings = SETTINGS.format(url=node.url, cookie=node.cookie_file)
        (tmp_path / "angara.toml").write_text(settings.replace(":0", f":{port}") + "processes = 2\n")
        miners = [Miner(number) for number in range(MINERS)]
        async with trio.open_nursery() as fleet:
            pool = start(tmp_path)
            try:
                with trio.fail_after(STARTS_IN_S):
                    await until(lambda: len(processes(tmp_path)) == 2 or pool.poll() is not None)
                assert pool.poll() is None, log_of(tmp_path)
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
                with trio.fail_after(STARTS_IN_S):
                    await until(lambda: len(processes(tmp_path)) == 2 or pool.poll() is not None)
                assert pool.poll() is None, log_of(tmp_path)
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
        on_disk = counted(tmp_path, store)
        for miner in miners:
            for name in miner.submitted:
                least = 1 if name in miner.acknowledged else 0
                assert least <= on_disk[name] <= 1, f"{name} is {on_disk[name]} times in the books"
        with store.read() as connection:
            assert not list(waiting(tmp_path / "data", connection))
        nursery.cancel_scope.cancel()
    reserved.close()
    store.close()
