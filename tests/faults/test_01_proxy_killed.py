"""kill -9 of a loaded proxy: what its miners were told is in its books, whatever its upstream had answered.

A share that was acknowledged and that the upstream has not answered is a row on disk; the next start settles
what it finds, as undelivered, once.
"""

import os
import random
import signal
from collections import Counter
from pathlib import Path

import pytest
import trio
from sqlalchemy import select

from payouts.audit.verify import audit
from payouts.schemas.money import tally_minutes
from pool.books.journal.schema import upstream_submits
from stratum.tallies import Verdict, merge
from tests.fakes.upstreams import USER
from tests.faults.test_01_kill import MACHINES, SETTINGS, STARTS_IN_S, Machine, started
from tests.fixtures.programs import AngaraProcess
from tests.stages.journal import waiting
from tests.stages.two_pools import GOOD, Side, a_node, a_side, add_route, mine_on, running
from tests.stages.waiting import until

KILLS = 2  # in the second the upstream answers nothing
SEED = 7
UNDELIVERED = Verdict.UNDELIVERED


class SlowDisk:
    """The upstream's: while it `hangs` no share is answered."""

    def __init__(self, upstream: Side, monkeypatch: pytest.MonkeyPatch) -> None:
        self._turns = trio.Event()
        self._turns.set()
        self._commit = upstream.pool.edge.shares.journal.commit
        monkeypatch.setattr(upstream.pool.edge.shares.journal, "commit", self._wait)

    def hangs(self) -> None:
        self._turns = trio.Event()

    def works(self) -> None:
        self._turns.set()

    async def _wait(self, tallies: bytes) -> None:
        await self._turns.wait()
        await self._commit(tallies)


def counted(proxy: Side) -> tuple[Counter[Verdict], int]:
    """On disk: good shares by verdict, in the journal and in minutes; and how many are not settled."""
    good: Counter[Verdict] = Counter()
    with proxy.books() as connection:
        left = list(waiting(proxy.directory, connection))
        minutes = connection.execute(select(tally_minutes.c.verdict, tally_minutes.c.shares)).all()
        in_batches = [
            (verdict, count) for _, _, _, verdict, _, count in merge([it.tallies for it in left]).tolist()
        ]
        for verdict, count in [*in_batches, *minutes]:
            good[Verdict(verdict)] += count
        rows = set(connection.scalars(select(upstream_submits.c.key).where(upstream_submits.c.counted == 0)))
        for batch in left:
            rows -= {key.hex() for key in batch.resolved}
            rows |= {it.key.hex() for it in batch.noted if not it.counted}
        assert audit(connection).wrong is None
    return Counter({verdict: good[verdict] for verdict in GOOD}), len(rows)


async def stopped(process: AngaraProcess, how: int) -> None:
    os.kill(process.pid, how)
    with trio.fail_after(STARTS_IN_S):
        await trio.to_thread.run_sync(process.wait)


@pytest.mark.long
async def test_no_share_that_was_forwarded_is_lost_or_doubled_by_kill_9(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(SEED)
    machines = [Machine(0, number) for number in range(MACHINES)]
    upstream = a_side(tmp_path / "upstream", USER.partition(".")[0])
    proxy = a_side(tmp_path / "data", "acme")

    def acknowledged() -> int:
        return sum(len(machine.acknowledged) for machine in machines)

    async def more_acknowledged(shares: int) -> None:
        wanted = acknowledged() + shares
        await until(lambda: acknowledged() >= wanted)

    left = 0  # rows, by all kills
    async with a_node(tmp_path) as node, running(upstream, node, extranonce2_bytes=8):
        disk = SlowDisk(upstream, monkeypatch)
        add_route(proxy, "north", upstream.port)
        mine_on(proxy, "acme", "north")
        (tmp_path / "angara.toml").write_text(SETTINGS.format(url=node.url, cookie=node.cookie_file))
        good, rows = counted(proxy)
        for kill in range(KILLS + 1):
            process, port = await started(tmp_path)
            try:
                settled, none = counted(proxy)  # nobody mines yet
                assert (settled, none) == (good + Counter({UNDELIVERED: rows}), 0)
                async with trio.open_nursery() as fleet:
                    for machine in machines:
                        fleet.start_soon(machine.mine, port)
                    await more_acknowledged(rng.randrange(20, 120))
                    if kill < KILLS:
                        if kill % 2:
                            disk.hangs()
                            await more_acknowledged(rng.randrange(20, 60))
                        await stopped(process, signal.SIGKILL)  # the machines read on to the end
                    else:
                        fleet.cancel_scope.cancel()
                if kill == KILLS:  # the last one is asked to stop, when its miners have left
                    await stopped(process, signal.SIGTERM)
            finally:
                disk.works()
                process.kill()
                process.wait()
            good, rows = counted(proxy)
            left += rows
            submitted = sum(len(machine.submitted) for machine in machines)
            assert acknowledged() <= good.total() + rows <= submitted, f"seed {SEED}, kill {kill}"
            assert rows >= 10 or not kill % 2 or kill == KILLS
    assert rows == 0
    assert good[UNDELIVERED] >= proxy.upstream_says()["unanswered"] >= left
    assert proxy.upstream_says()["accepted"] == good[Verdict.ACCEPTED] <= upstream.good()[Verdict.ACCEPTED]
