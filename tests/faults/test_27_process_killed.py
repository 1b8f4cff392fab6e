"""Two processes serve miners and one is killed under load: every share that was acknowledged is booked once.

Every share has a name of its own, as in test_01_kill. The other process's miners notice nothing, those of the
killed one come again, and it is back.
"""

import json
import os
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from pool.books.store import Store
from pool.regtest.server import RegtestNode, RegtestOptions, serve_regtest
from tests.faults.test_01_kill import (
    SETTINGS,
    STARTS_IN_S,
    Machine,
    acknowledged,
    authorized,
    counted,
    start,
    store,
)
from tests.fixtures.programs import AngaraProcess
from tests.stages.journal import waiting
from tests.stages.waiting import until

__all__ = ["store"]  # the fixture

OF_EACH = 3  # machines that each process has at least
SHARES = 150
NAMES_MAX = 48  # of a connection: a pool takes 64
PAUSE_S = 0.02  # between two shares: each is a machine of its own to all who book it


class Miner(Machine):
    """One that connects again when its pool is gone, or when it has said enough names. `prefixes`: its
    extranonce1 of each connection; `lost`: of those that the pool ended."""

    def __init__(self, number: int) -> None:
        super().__init__(0, number)
        self.prefixes: list[bytes] = []
        self.lost: list[bytes] = []
        self.goes_on = trio.Event()
        self.goes_on.set()

    @property
    def process(self) -> int:
        """Which of the two serves it."""
        return process_of(self.prefixes[-1])

    async def mine_on(self, port: int) -> None:
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
                async with stream:
                    await stream.send_all(
                        b'{"id":1,"method":"mining.subscribe","params":[]}\n' + authorized("acme.c01.first")
                    )
                    await self._served(stream)
            except (OSError, trio.BrokenResourceError):  # also before it had said its name
                await trio.sleep(0.05)

    async def _served(self, stream: trio.SocketStream) -> None:
        """Until the connection is gone; then every answer that had left it is counted."""
        job, ntime, buffer, names = "", "", b"", 0
        before = len(self.prefixes)
        while data := await received(stream):
            *lines, buffer = (buffer + data).split(b"\n")
            free = False
            for line in lines:
                message = json.loads(line)
                if message.get("method") == "mining.notify":
                    free = free or not job
                    job, ntime = message["params"][0], message["params"][7]
                elif message["id"] == 1:
                    self.prefixes.append(bytes.fromhex(message["result"][1]))
                elif message["id"] == 2:
                    assert message["result"] is True, message
                elif isinstance(message["id"], str):
                    free = True
                    self._answered(message)
            if free and names == NAMES_MAX:
                return
            if free:
                names += 1
                await trio.sleep(PAUSE_S)
                await self.goes_on.wait()
                try:
                    await stream.send_all(self._share(job, ntime))
                except trio.BrokenResourceError:
                    continue  # what it had sent is still to be read
        self.lost += self.prefixes[before:]  # none where it ended before it was told one


def process_of(prefix: bytes) -> int:
    """Each has half of all prefixes."""
    return prefix[0] >> 7


async def received(stream: trio.SocketStream) -> bytes:
    try:
        return bytes(await stream.receive_some(65536))
    except trio.BrokenResourceError:
        return b""


def log_of(directory: Path) -> str:
    return (directory / "log").read_text()


def processes(directory: Path) -> dict[int, int]:
    """Process to pid, of those that serve, as the log told it last."""
    found = {}
    for line in log_of(directory).splitlines():
        if "event=process_serves" in line:
            said = dict(word.split("=", 1) for word in line.split() if "=" in word)
            found[int(said["process"])] = int(said["pid"])
    return found


@asynccontextmanager
async def for_two_processes(directory: Path) -> AsyncIterator[int]:
    """A node, and the settings of a pool in two processes: the port where both listen."""
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind(("127.0.0.1", 0))
    port: int = reserved.getsockname()[1]
    async with trio.open_nursery() as nursery:
        options = RegtestOptions(data_dir=directory / "node", network_bits=0x1D00FFFF)
        node: RegtestNode = await nursery.start(serve_regtest, options)
        settings = SETTINGS.format(url=node.url, cookie=node.cookie_file)
        (directory / "angara.toml").write_text(settings.replace(":0", f":{port}") + "processes = 2\n")
        yield port
        nursery.cancel_scope.cancel()
    reserved.close()


async def both_serve(pool: AngaraProcess, directory: Path) -> None:
    """Wait until its processes do."""
    with trio.fail_after(STARTS_IN_S):
        await until(lambda: len(processes(directory)) == 2 or pool.poll() is not None)
    assert pool.poll() is None, log_of(directory)


def booked_once(miners: Sequence[Miner], directory: Path, store: Store) -> Counter[str]:
    """Every acknowledged share is, and none twice, and the books have all of the journals: how often each."""
    on_disk = counted(directory, store)
    for miner in miners:
        for name in miner.submitted:
            least = 1 if name in miner.acknowledged else 0
            assert least <= on_disk[name] <= 1, f"{name} is {on_disk[name]} times in the books"
    with store.read() as connection:
        assert not list(waiting(directory / "data", connection))
    return on_disk


@pytest.mark.long
async def test_a_process_that_is_killed_loses_no_share_and_disturbs_nobody(
    tmp_path: Path, store: Store
) -> None:
    async with for_two_processes(tmp_path) as port:
        pool = start(tmp_path)
        miners: list[Miner] = []
        try:
            async with trio.open_nursery() as fleet:
                await both_serve(pool, tmp_path)
                while min(sum(it.process == of for it in miners) for of in (0, 1)) < OF_EACH:
                    miners.append(miner := Miner(len(miners)))
                    fleet.start_soon(miner.mine_on, port)
                    await until(lambda: all(it.prefixes for it in miners))
                await acknowledged(miners, SHARES)
                before = processes(tmp_path)
                os.kill(before[1], signal.SIGKILL)
                for miner in miners:  # a name a share: not all that a minute has
                    miner.goes_on = trio.Event()
                await until(lambda: processes(tmp_path)[1] != before[1])
                for miner in miners:
                    miner.goes_on.set()
                await acknowledged(miners, sum(len(it.acknowledged) for it in miners) + SHARES)
                await until(lambda: any(it.lost for it in miners))
                assert {process_of(prefix) for it in miners for prefix in it.lost} == {0}, "others noticed it"
                assert processes(tmp_path)[2] == before[2]
                pool.send_signal(signal.SIGTERM)
                with trio.fail_after(STARTS_IN_S):
                    await trio.to_thread.run_sync(pool.wait)
                fleet.cancel_scope.cancel()
        finally:
            pool.kill()
            pool.wait()
        on_disk = booked_once(miners, tmp_path, store)
        assert on_disk.keys() <= {name for it in miners for name in it.submitted}
    store.close()
