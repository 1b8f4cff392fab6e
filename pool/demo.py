"""`angara demo`: an embedded node, the pool, and a few simulated machines that really hash, in one process.

What a newcomer sees first, and what load tests aim at (`--no-fleet`). Ends after `blocks` accepted
blocks, or on a signal, within two seconds.
"""

import sys
import time
from pathlib import Path
from typing import Final

import msgspec
import structlog
import trio
from rich.console import Console
from rich.live import Live
from rich.table import Table

from pool.addresses import script_for
from pool.blocks import BlockResult, SubmitState
from pool.config import PoolConfig
from pool.main import Pool, RunningPool
from pool.node import NodeConfig
from pool.regtest import RegtestOptions, serve_regtest
from pool.swarm import SwarmOptions, SwarmStats, run_swarm
from stratum.difficulty import DIFFICULTY_LOG2_MAX, DIFFICULTY_LOG2_MIN
from stratum.server import Endpoint
from stratum.vardiff import VardiffPolicy

log = structlog.get_logger()

TENANTS: Final = ("acme", "borealis")
# A regtest address of nobody: P2WPKH of the hash of nothing at all.
PAYOUT_ADDRESS: Final = "bcrt1qk3e2yekshkyuzdcx5sfjena3da7rh87tay47fm"
MACHINES: Final = 8
# Every second hash is a block on regtest: together the fleet finds one every few seconds.
SHARES_PER_MINUTE: Final = 4.0
LINE_S: Final = 5.0  # between two lines where the output is not a terminal
TABLE_S: Final = 0.5
# A regtest node that runs on this machine is asked again quickly; its clock is ours.
NODE_NAME: Final = "embedded"


class DemoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`difficulty_log2` fixes the share difficulty; None leaves it to vardiff. `blocks` 0: for ever."""

    host: str
    port: int
    data_dir: Path
    blocks: int = 0
    fleet: bool = True
    difficulty_log2: int | None = None
    template_txs: int = 0
    network_bits: int | None = None


class DemoState(msgspec.Struct):
    """What the table shows."""

    started_s: float
    accepted: int = 0
    refused: int = 0
    height: int = 0
    last_hash: str = ""


async def run_demo(options: DemoOptions, console: Console) -> None:
    """Until enough blocks, or cancelled."""
    state = DemoState(started_s=time.monotonic())
    done = trio.Event()

    def on_block(result: BlockResult) -> None:
        if result.state is SubmitState.ACCEPTED:
            state.accepted += 1
            state.height, state.last_hash = result.height, result.hash_hex
            if options.blocks and state.accepted >= options.blocks:
                done.set()
        elif result.state is SubmitState.REFUSED:
            state.refused += 1

    async with trio.open_nursery() as nursery:
        node = await nursery.start(
            serve_regtest,
            RegtestOptions(
                data_dir=options.data_dir / "node",
                template_txs=options.template_txs,
                network_bits=options.network_bits,
            ),
        )
        config = _config(options, NodeConfig(name=NODE_NAME, url=node.url, cookie_file=node.cookie_file))
        pool: RunningPool = await nursery.start(Pool(config, on_block=on_block).run)
        stats = SwarmStats()
        host, port = pool.addresses[0]
        if options.fleet:
            swarm = SwarmOptions(
                host=host,
                port=port,
                miners=MACHINES,
                tenants=TENANTS,
                shares_per_minute=SHARES_PER_MINUTE,
            )
            nursery.start_soon(run_swarm, swarm, stats)
        nursery.start_soon(_show, console, pool, state)
        await done.wait()
        nursery.cancel_scope.cancel()
    console.print(f"{state.accepted} blocks accepted; height {state.height}, hash {state.last_hash}")


def _config(options: DemoOptions, node: NodeConfig) -> PoolConfig:
    fixed = options.difficulty_log2
    return PoolConfig(
        network="regtest",
        data_dir=options.data_dir,
        payout_script=script_for(PAYOUT_ADDRESS, "regtest"),
        tag="/Angara demo/",
        outage_s=600.0,
        nodes=(node,),
        endpoints=(Endpoint(host=options.host, port=options.port),),
        start_difficulty_log2=DIFFICULTY_LOG2_MIN if fixed is None else fixed,
        vardiff=VardiffPolicy(
            difficulty_log2_min=DIFFICULTY_LOG2_MIN if fixed is None else fixed,
            difficulty_log2_max=DIFFICULTY_LOG2_MAX if fixed is None else fixed,
        ),
        extranonce2_bytes=8,
        line_bytes_max=8192,
        tenants=TENANTS,
    )


async def _show(console: Console, pool: RunningPool, state: DemoState) -> None:
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            while True:
                live.update(_table(pool, state), refresh=True)
                await trio.sleep(TABLE_S)
    while True:
        await trio.sleep(LINE_S)
        counts = " ".join(
            f"{tenant}={count.accepted}/{count.rejected}" for tenant, count in pool.tallies.tenants.items()
        )
        line = (
            f"{time.monotonic() - state.started_s:.0f}s sessions={len(pool.board.connections)} "
            f"accepted/rejected {counts} blocks={state.accepted} height={state.height}"
        )
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def _table(pool: RunningPool, state: DemoState) -> Table:
    table = Table(title=f"Angara demo: {state.accepted} blocks, height {state.height}", min_width=60)
    for heading in ("tenant", "workers", "hashes/s", "accepted", "rejected"):
        table.add_column(heading, justify="left" if heading == "tenant" else "right")
    rates = pool.tallies.hashrates_hps(time.monotonic())
    workers = dict.fromkeys(TENANTS, 0)
    for worker in pool.registry.workers:
        workers[worker.tenant] += 1
    for tenant, count in pool.tallies.tenants.items():
        table.add_row(
            tenant, str(workers[tenant]), f"{rates[tenant]:,.2f}", str(count.accepted), str(count.rejected)
        )
    host, port = pool.addresses[0]
    table.caption = f"stratum+tcp://{host}:{port} as {TENANTS[0]}.c01.unit; last {state.last_hash[:24]}"
    return table
