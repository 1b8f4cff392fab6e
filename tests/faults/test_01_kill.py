"""kill -9 of a loaded pool: every share that was acknowledged is in the books once, whatever the moment.

Every machine has one share under way, and every share a name of its own. So each is told from all others
in the books: what was acknowledged is there once, what had no answer yet is there once or not at all, and a
share that is lost cannot hide behind one that is counted twice.
"""

import itertools
import json
import os
import random
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from sqlalchemy import select

from payouts.rates import Scheme
from payouts.schemas.money import tally_minutes
from pool.books.audit.verify import verify
from pool.books.store import Store
from pool.fleet.registry import Registry
from pool.fleet.rows import TenantTerms, add_tenant, load
from pool.regtest.server import RegtestNode, RegtestOptions, serve_regtest
from stratum.tallies import Verdict, merge
from tests.fixtures.databases import store_in
from tests.fixtures.programs import AngaraProcess
from tests.stages.journal import waiting
from tests.stages.waiting import until

MACHINES = 8
LOW_DIFFICULTY = 23
SHARES_MAX = 200  # that are acknowledged before a kill
SEED = 20
STARTS_IN_S = 120.0  # a safety net for loaded machines; it takes about one
SETTINGS = """
[pool]
network = "regtest"
data_dir = "data"
payout_address = "bcrt1qk3e2yekshkyuzdcx5sfjena3da7rh87tay47fm"
[[node]]
name = "embedded"
url = "{url}"
cookie_file = "{cookie}"
[stratum]
listen = ["127.0.0.1:0"]
difficulty_start = 2.3283064365386963e-10
difficulty_min = 2.3283064365386963e-10
difficulty_max = 2.3283064365386963e-10
"""


class Machine:
    """Submits shares under names of their own, one as soon as the one before is answered."""

    def __init__(self, kill: int, number: int) -> None:
        self._names = (f"acme.k{kill}.m{number}n{n}" for n in itertools.count())
        self.submitted: list[str] = []
        self.acknowledged: set[str] = set()
        self.refused: set[str] = set()

    async def mine(self, port: int) -> None:
        """Until the pool is gone; then every answer that had left it is counted."""
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            await stream.send_all(
                b'{"id":1,"method":"mining.subscribe","params":[]}\n' + authorized("acme.c01.first")
            )
            job, ntime, buffer = "", "", b""
            while True:
                try:
                    data = await stream.receive_some(65536)
                except trio.BrokenResourceError:
                    return
                if not data:
                    return
                *lines, buffer = (buffer + data).split(b"\n")
                free = False
                for line in lines:
                    message = json.loads(line)
                    if message.get("method") == "mining.notify":
                        free = free or not job
                        job, ntime = message["params"][0], message["params"][7]
                    elif isinstance(message["id"], str):  # of a share: its name
                        free = True
                        self._answered(message)
                if free:
                    try:
                        await stream.send_all(self._share(job, ntime))
                    except trio.BrokenResourceError:
                        continue  # what it had sent is still to be read

    def _answered(self, message: dict[str, Any]) -> None:
        """One hash of 65,536 is no share: the lowest difficulty's target begins 0xffff."""
        if message["result"] is True:
            self.acknowledged.add(message["id"])
        else:
            assert message["error"][0] == LOW_DIFFICULTY, message
            self.refused.add(message["id"])

    def _share(self, job: str, ntime: str) -> bytes:
        name = next(self._names)
        self.submitted.append(name)
        nonce = f"{len(self.submitted):08x}"
        share = {"id": name, "method": "mining.submit", "params": [name, job, nonce, ntime, nonce]}
        return authorized(name) + json.dumps(share).encode() + b"\n"


def authorized(name: str) -> bytes:
    return b'{"id":2,"method":"mining.authorize","params":["%b","x"]}\n' % name.encode()


async def acknowledged(machines: Sequence[Machine], shares: int) -> None:
    """Return when that many are."""
    with trio.fail_after(STARTS_IN_S):
        await until(lambda: sum(len(it.acknowledged) for it in machines) >= shares)


def counted(directory: Path, store: Store) -> Counter[str]:
    """Accepted shares on disk by name: in the journal and in minutes."""
    found: Counter[str] = Counter()
    with store.read() as connection:
        known = Registry(load(connection))
        names = {number: known.name_of(number) for number in known.workers}
        for batch in waiting(directory / "data", connection):
            names |= {it.number: f"{it.tenant}.{it.container}.{it.unit}" for it in batch.machines}
            for worker, _, _, verdict, _, shares in merge([batch.tallies]).tolist():
                if verdict == Verdict.ACCEPTED:
                    found[names[worker]] += shares
        minutes = select(tally_minutes.c.worker_id, tally_minutes.c.shares)
        for worker, shares in connection.execute(minutes.where(tally_minutes.c.verdict == Verdict.ACCEPTED)):
            found[names[worker]] += shares
        assert verify(connection).wrong is None
    return found


def start(directory: Path) -> AngaraProcess:
    """A pool, with a log of its own."""
    (directory / "log").write_text("")
    return AngaraProcess(["run", "-c", str(directory / "angara.toml")], directory, directory / "log")


async def started(directory: Path) -> tuple[AngaraProcess, int]:
    """A pool in a process of its own, and the port that it listens on."""
    process = start(directory)
    with trio.fail_after(STARTS_IN_S):
        while True:
            assert process.poll() is None, (directory / "log").read_text()
            for line in (directory / "log").read_text().splitlines():
                if "event=listening" in line:
                    return process, int(line.split("port=")[1].split()[0])
            await trio.sleep(0.05)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "data").mkdir()
    opened = store_in(tmp_path / "data")
    terms = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=0)
    with opened.write() as connection:
        add_tenant(connection, "acme", terms, by="test", now_s=0)
    return opened


@pytest.mark.long
@pytest.mark.parametrize("kills", [1, pytest.param(100, marks=pytest.mark.soak)])
async def test_no_acknowledged_share_is_lost_or_doubled_by_kill_9(
    tmp_path: Path, store: Store, kills: int
) -> None:
    rng = random.Random(SEED)
    everybody: list[Machine] = []
    async with trio.open_nursery() as nursery:
        options = RegtestOptions(data_dir=tmp_path / "node", network_bits=0x1D00FFFF)
        node: RegtestNode = await nursery.start(serve_regtest, options)
        (tmp_path / "angara.toml").write_text(SETTINGS.format(url=node.url, cookie=node.cookie_file))
        for kill in range(kills + 1):
            process, port = await started(tmp_path)
            machines = [Machine(kill, number) for number in range(MACHINES)]
            everybody += machines
            try:
                async with trio.open_nursery() as fleet:
                    for machine in machines:
                        fleet.start_soon(machine.mine, port)
                    await acknowledged(machines, rng.randrange(SHARES_MAX))
                    # The last one is asked to stop, and folds what the killed ones left.
                    os.kill(process.pid, signal.SIGKILL if kill < kills else signal.SIGTERM)
                    with trio.fail_after(STARTS_IN_S):
                        await trio.to_thread.run_sync(process.wait)
            finally:
                process.kill()
                process.wait()
            on_disk = counted(tmp_path, store)
            for machine in everybody:
                for name in machine.submitted:
                    least = 1 if name in machine.acknowledged else 0
                    assert least <= on_disk[name] <= 1, (
                        f"seed {SEED}, kill {kill}: {name} is {on_disk[name]} times in the books"
                    )
                assert len(machine.submitted) - len(machine.acknowledged | machine.refused) in (0, 1)
            assert on_disk.keys() <= {name for machine in everybody for name in machine.submitted}
        with store.read() as connection:
            assert not list(waiting(tmp_path / "data", connection))
        nursery.cancel_scope.cancel()
    store.close()
