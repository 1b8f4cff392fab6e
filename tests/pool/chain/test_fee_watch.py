"""The basis of FPPS is asked of the node: a list of recent blocks, with what each paid in fees."""

from pathlib import Path

import trio

from payouts.rates import fee_basis_sat
from pool.chain.fee_watch import recent_fees
from pool.chain.nodes import Node, NodeConfig
from pool.regtest.server import RegtestOptions, serve_regtest

ADDRESS = "bcrt1qk3e2yekshkyuzdcx5sfjena3da7rh87tay47fm"


async def test_recent_fees_are_those_of_the_last_blocks(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        options = RegtestOptions(data_dir=tmp_path / "node", template_txs=3)
        server = await nursery.start(serve_regtest, options)
        node = Node(NodeConfig(name="embedded", url=server.url, cookie_file=server.cookie_file))
        hashes = await node.rpc.call("generatetoaddress", 5, ADDRESS)
        fees = await recent_fees(node, 5)
        assert [block.hash for block in fees] == hashes[::-1]
        assert [block.height for block in fees] == list(range(fees[0].height, fees[0].height - 5, -1))
        assert all(block.fees_sat == 0 for block in fees)  # these were mined without transactions
        assert fee_basis_sat(fees) == 0
        await node.aclose()
        nursery.cancel_scope.cancel()
