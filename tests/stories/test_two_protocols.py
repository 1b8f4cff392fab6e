"""A whole pool that speaks Stratum V1 and V2: machines of one tenant mine by both, and there is one set of
books. The node runs Bitcoin Core's consensus code, and takes the blocks of both."""

import time
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from pool.chain.blocks import SubmitState
from pool.config import SV2, Sv2Settings
from stratum.miners.listening.listeners import Endpoint
from stratum.sv2.authority import public_text
from stratum.sv2.secp256k1 import key_pair
from stratum.tallies import Verdict
from tests.stages.sockets import accepted, connect
from tests.stages.sv2_machine import MachineChannel, Sv2Machine, connect_sv2
from tests.stages.two_pools import MANY_BLOCKS, NO_BLOCKS, Side, a_node, a_side, running
from tests.stages.waiting import until

AUTHORITY = key_pair()
SPEAKS: dict[str, Any] = {
    "endpoints": (
        Endpoint(host="127.0.0.1", port=0),
        Endpoint(host="127.0.0.1", port=0, dialect=SV2),
    ),
    "sv2": Sv2Settings(authority=AUTHORITY, validity_s=86_400),
}


async def a_machine(port: int, seed: int = 1) -> Sv2Machine:
    return await connect_sv2(port, public_text(AUTHORITY.x_only), int(time.time()), random=Random(seed))


def has_more(side: Side, blocks: int) -> bool:
    return len(side.blocks) > blocks


async def a_share(machine: Sv2Machine, channel: MachineChannel) -> None:
    """One that is accepted: all but one hash in 65,536 are shares."""
    assert (await machine.mine(channel)).get("count") == 1


async def test_machines_of_both_protocols_mine_for_one_tenant_in_one_set_of_books(tmp_path: Path) -> None:
    async with a_node(tmp_path, NO_BLOCKS) as node:
        side = a_side(tmp_path / "pool", "acme")
        async with running(side, node, **SPEAKS):
            line = await (await connect(side.running.addresses[0][1], "acme.c01.u1")).start()
            machine = await a_machine(side.running.addresses[1][1])
            standard = await machine.open("acme.c01.u2")
            extended = await machine.open("acme.c01.u1", least=4)
            for _ in range(5):
                assert accepted(await line.mine())
                await a_share(machine, standard)
                await a_share(machine, extended)
            await machine.close()
            again = await a_machine(side.running.addresses[1][1], seed=2)
            await a_share(again, await again.open("acme.c01.u2"))
            await again.close()
            line.socket.close()
    assert side.shares(Verdict.ACCEPTED, "acme") == 16
    side.settle()
    assert sum(row.shares for row in side.settled("acme")) == 16


async def test_a_block_that_either_finds_is_the_nodes_next_one(tmp_path: Path) -> None:
    async with a_node(tmp_path, MANY_BLOCKS) as node:
        side = a_side(tmp_path / "pool", "acme")
        async with running(side, node, **SPEAKS):
            machine = await a_machine(side.running.addresses[1][1])
            for least in (None, 4):
                channel = await machine.open(f"acme.c01.u{least}", least=least)
                before, found = channel.prevhash, len(side.blocks)
                while channel.prevhash == before:
                    assert channel.job is not None
                    share, share_hash = channel.share()
                    await machine.submit(channel, share)
                    await machine.until("SubmitShares.Success", "SubmitShares.Error")
                    # What the node has next may come before the answer, and to either channel first.
                    while share_hash <= 0x7FFFFF << 232 and channel.prevhash == before:
                        await machine.hear()
                await until(partial(has_more, side, found))
            assert {it.state for it in side.blocks} == {SubmitState.ACCEPTED}
            await machine.close()
