"""kill -9 of a loaded pool: every share that was acknowledged is in the books once, whatever the moment."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from sqlalchemy import select

from payouts.audit import audit
from payouts.rates import Scheme
from payouts.schema import tally_minutes
from pool.data_dir import database_url
from pool.journal import merge
from pool.journal_schema import journal_batches
from pool.registry_store import TenantTerms, add_tenant
from pool.regtest import RegtestNode, RegtestOptions, serve_regtest
from pool.store import Store, open_store
from stratum.verdict import Verdict

KILLS = 20
MACHINES = 8
SEED = 20
STARTS_IN_S = 60.0  # a safety net for loaded machines; it takes about one
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
    """Submits distinct shares as fast as it is answered, and counts the answers."""

    def __init__(self, number: int) -> None:
        self.name = f"acme.c01.u{number}"
        self.submitted = 0
        self.acknowledged = 0

    async def mine(self, port: int) -> None:
        """Until the pool is gone; then every answer that had left it is counted."""
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            await stream.send_all(
                b'{"id":1,"method":"mining.subscribe","params":[]}\n'
                b'{"id":2,"method":"mining.authorize","params":["%b","x"]}\n' % self.name.encode()
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
                answered = 0
                for line in lines:
                    message = json.loads(line)
                    if message.get("method") == "mining.notify":
                        answered += not job
                        job, ntime = message["params"][0], message["params"][7]
                    elif isinstance(message["id"], str):  # of a share
                        answered += 1
                        self.acknowledged += message["result"] is True
                if answered and job:
                    try:
                        await stream.send_all(b"".join(self._share(job, ntime) for _ in range(answered)))
                    except trio.BrokenResourceError:
                        continue  # what it had sent is still to be read

    def _share(self, job: str, ntime: str) -> bytes:
        self.submitted += 1
        params = [self.name, job, f"{self.submitted:08x}", ntime, f"{self.submitted:08x}"]
        return (
            json.dumps({"id": f"s{self.submitted}", "method": "mining.submit", "params": params}).encode()
            + b"\n"
        )


def counted(store: Store) -> int:
    """Accepted shares on disk: in batches and in minutes."""
    with store.read() as connection:
        batches = connection.scalars(select(journal_batches.c.tallies)).all()
        in_batches = sum(
            n for _, _, _, verdict, _, n in merge(batches).tolist() if verdict == Verdict.ACCEPTED
        )
        accepted = tally_minutes.c.verdict == Verdict.ACCEPTED
        in_minutes = connection.scalars(select(tally_minutes.c.shares).where(accepted)).all()
        assert audit(connection).wrong is None
    return int(in_batches + sum(in_minutes))


def start(directory: Path) -> subprocess.Popen[bytes]:
    command = [str(Path(sys.executable).parent / "angara"), "run", "-c", str(directory / "angara.toml")]
    with (directory / "log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=directory)


async def started(directory: Path) -> tuple[subprocess.Popen[bytes], int]:
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
    opened = open_store(database_url(tmp_path / "data"))
    terms = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=0)
    with opened.write() as connection:
        add_tenant(connection, "acme", terms, by="test", now_s=0)
    return opened


async def test_no_acknowledged_share_is_lost_or_doubled_by_kill_9(tmp_path: Path, store: Store) -> None:
    rng = random.Random(SEED)
    machines = [Machine(number) for number in range(MACHINES)]
    async with trio.open_nursery() as nursery:
        options = RegtestOptions(data_dir=tmp_path / "node", network_bits=0x1D00FFFF)
        node: RegtestNode = await nursery.start(serve_regtest, options)
        (tmp_path / "angara.toml").write_text(SETTINGS.format(url=node.url, cookie=node.cookie_file))
        for kill in range(KILLS + 1):
            process, port = await started(tmp_path)
            try:
                async with trio.open_nursery() as fleet:
                    for machine in machines:
                        fleet.start_soon(machine.mine, port)
                    await trio.sleep(rng.uniform(0.05, 0.8))
                    # The last one is asked to stop, and folds what the killed ones left.
                    os.kill(process.pid, signal.SIGKILL if kill < KILLS else signal.SIGTERM)
                    with trio.fail_after(STARTS_IN_S):
                        await trio.to_thread.run_sync(process.wait)
            finally:
                process.kill()
                process.wait()
            acknowledged = sum(machine.acknowledged for machine in machines)
            submitted = sum(machine.submitted for machine in machines)
            assert acknowledged <= counted(store) <= submitted, f"seed {SEED}, kill {kill}"
        assert acknowledged > KILLS * MACHINES
        with store.read() as connection:
            assert connection.scalars(select(journal_batches.c.seq)).all() == []
        nursery.cancel_scope.cancel()
    store.close()
