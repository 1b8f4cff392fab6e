"""A whole pool that is started twice on one directory, by an upstream and a miner that are one party.

The upstream leaves six bytes of extranonce2, so that a prefix has two: it comes back. It gives after the
restart the extranonce1 and the job that it gave before, and has forgotten every share. The miner does the
same work once more. What it gains is what it is credited for hashes that it was credited for.
"""

import random
from pathlib import Path
from typing import Any

import pytest

from payouts.rates import Scheme
from pool.chain.nodes import NodeConfig
from stratum.tallies import Verdict
from tests.fakes.proxy_upstreams import hosting
from tests.fakes.upstreams import HonestUpstream
from tests.stages.two_pools import Side, a_node, a_side, add_route, at_rest, hurry, mine_on, running
from tests.stages.two_pools_machines import Fleet, a_fleet
from tests.stages.waiting import until

PREFIX = 0x0707
SHARES = 8


class UpstreamThatGivesOneJob(HonestUpstream):
    """Whenever it is asked, and takes every share of it as a new one."""

    def new_job(self, *, other_block: bool = True, clean: bool = True) -> list[Any]:
        self.height, self.jobs = 0, {}
        self.counted.clear()
        return super().new_job(clean=clean)


async def a_start(side: Side, node: NodeConfig) -> Fleet:
    """The pool serves one machine, which does the same work whenever it is started, and stops."""
    async with running(side, node), a_fleet(side.port, {"acme": 1}, interval_s=0.02) as fleet:
        await until(lambda: fleet.prefix_sizes == {2})
        assert set(fleet.extranonces.values()) == {PREFIX.to_bytes(2, "big")}
        for machine in fleet.machines.values():
            machine.rng = random.Random(5)
        await until(lambda: fleet.acknowledged.total() + fleet.refused.total() >= SHARES)
        await at_rest(side, fleet)
    return fleet


@pytest.mark.soak
async def test_work_of_an_upstream_with_short_prefixes_is_credited_once_by_a_pool_that_was_started_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch)
    monkeypatch.setattr("pool.routing.proxy.random.getrandbits", lambda bits: PREFIX)
    async with a_node(tmp_path) as node, hosting(UpstreamThatGivesOneJob(extranonce2_bytes=6)) as hosts:
        side = a_side(tmp_path / "proxy", "acme")
        add_route(side, "north", hosts[0].port)
        mine_on(side, "acme", "north", scheme=Scheme.PPS)
        first = await a_start(side, node)
        side = Side(side.directory)
        second = await a_start(side, node)
    done = first.acknowledged.keys() | second.acknowledged.keys()
    again = second.found & first.acknowledged.keys()
    credited = side.shares(Verdict.ACCEPTED, "acme")
    gain = credited - len(done)
    print(f"{len(again)} hashes a second time: credited {credited} for {len(done)}, gain {gain}")
    assert len(again) >= SHARES // 2
    assert not first.acknowledged.keys() & second.acknowledged.keys()
    assert second.refused["Duplicate share"] >= len(again)
    assert credited == len(done)
