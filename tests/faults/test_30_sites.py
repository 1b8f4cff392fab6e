"""Sites: whatever is killed or lost between miners and books, every acknowledged share is booked once.

Edges, hubs and NATS servers are processes; every share has a name of its own, as in test_27_process_killed.
"""

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import trio

from pool.data_dir import database_url
from tests.faults.test_01_kill import acknowledged
from tests.faults.test_27_process_killed import Miner
from tests.stages.sites import Sites, on_this_host, once
from tests.stages.waiting import until

OF_EACH = 3  # miners of an edge
SHARES = 120


def new_miners(sites: Sites, fleet: Any) -> list[Miner]:
    """`fleet` is a nursery, or who starts tasks as one does."""
    miners: list[Miner] = []
    for port in sites.ports:
        for _ in range(OF_EACH):
            miners.append(miner := Miner(len(miners)))
            fleet.start_soon(miner.mine_on, port)
    return miners


async def more(miners: list[Miner], shares: int = SHARES) -> None:
    """So many more are acknowledged."""
    await acknowledged(miners, sum(len(it.acknowledged) for it in miners) + shares)


@pytest.mark.long
async def test_whatever_is_killed_every_acknowledged_share_is_booked_once(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    database = database_url(tmp_path / "books")
    async with on_this_host(tmp_path, database, edges=("north", "south")) as sites:
        await sites.begin()
        (hub,), (north, south), (nats,) = sites.hubs, sites.edges, sites.servers
        async with trio.open_nursery() as fleet:
            miners = new_miners(sites, fleet)
            await more(miners)
            await sites.all_is_booked()

            hub.kill()
            await more(miners)
            nats.kill()
            nats.lose_store()
            await more(miners)
            north.kill()
            north.start()  # nobody answers: it begins by what the hub said last
            await north.says("edge_begins_alone")
            await north.says("edge_serves")
            await more(miners)
            nats.start()
            hub.start()
            await hub.says("hub_serves")
            await north.says("edge_granted")
            await more(miners)
            south.kill()
            south.start()
            await south.says("edge_serves")
            await more(miners)

            south.send(signal.SIGTERM)
            assert await south.ended() == 0
            south.start()
            await more(miners)
            fleet.cancel_scope.cancel()
        await sites.all_is_booked()
        once(miners, sites.shares())

        sites.reconciled()


@pytest.mark.long
async def test_a_block_whose_own_node_is_gone_is_in_the_chain_by_the_others(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    database = database_url(tmp_path / "books")
    async with on_this_host(tmp_path, database, edges=("north",), network_bits=None) as sites:
        await sites.begin()
        (hub,), (north,) = sites.hubs, sites.edges
        async with trio.open_nursery() as fleet:
            miner = Miner(0)
            miner.goes_on = trio.Event()
            fleet.start_soon(miner.mine_on, sites.ports[0])
            await north.says("new_tip")
            await until(lambda: bool(miner.prefixes))
            sites.to_node["north"].cut()
            assert await sites.height() == 0
            miner.goes_on.set()  # every second share is a block
            await hub.says("heard_block_given")
            assert await sites.height() > 0
            sites.to_node["north"].heal()
            await until(lambda: sites.blocks() == 1)  # with what it pays, by its own bytes
            fleet.cancel_scope.cancel()
        assert "block_told" in north.log


@pytest.mark.long
async def test_an_edge_whose_disk_is_lost_loses_what_the_hub_had_not_yet_heard_and_nothing_else(
    tmp_path: Path,
) -> None:
    (tmp_path / "books").mkdir()
    database = database_url(tmp_path / "books")
    async with on_this_host(tmp_path, database, edges=("north", "south")) as sites:
        await sites.begin()
        (hub,), (north, _) = sites.hubs, sites.edges
        async with trio.open_nursery() as fleet:
            miners = new_miners(sites, fleet)
            await more(miners)
            await sites.all_is_booked()
            north.kill()
            norths = miners[:OF_EACH]
            await until(lambda: all(it.lost for it in norths))  # they have read every answer
            heard = {name for it in norths for name in it.acknowledged}
            shutil.rmtree(north.data)
            north.start()
            assert await north.ended() == 2
            assert "`angara edge reset north`" in north.log
            await sites.reset(hub, "north")
            north.start()
            await north.says("edge_serves")
            await more(miners)
            fleet.cancel_scope.cancel()
        await sites.all_is_booked()
        booked = sites.shares()
        assert max(booked.values()) == 1
        lost = {name for it in miners for name in it.acknowledged} - booked.keys()
        # North's alone, of the seconds in which a message is made: what the others had is all there.
        assert lost <= heard
        assert len(lost) < len(heard) / 2
