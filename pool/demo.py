"""`angara demo`: an embedded node, the pool, and a few simulated machines that really hash, in one process.

What a newcomer sees first, and what load tests aim at (`--no-fleet`). Ends after `blocks` accepted
blocks, or on a signal, within two seconds.
"""

import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TextIO, cast

import msgspec
import structlog
import trio
from rich.console import Console
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.table import Table
from rich.text import Text

from payouts.ledger import balance_sat, payable
from payouts.rates import Scheme
from pool.admin.commands import execute
from pool.admin.desk import Desk
from pool.admin.operators import ALONE
from pool.books.book import bind
from pool.books.bookkeeper import IMPATIENT, BookTimes
from pool.books.store import Store, open_store
from pool.chain.addresses import script_for
from pool.chain.blocks import BlockResult, SubmitState
from pool.chain.nodes import NodeConfig
from pool.config import PoolConfig
from pool.data_dir import database_url, held
from pool.fleet.hashrate import Hashrate
from pool.fleet.rows import TenantTerms, add_tenant, list_tenants, set_address
from pool.main import Pool, RunningPool
from pool.people.roles import Role, host_account
from pool.people.tokens import list_tokens
from pool.people.users import list_users
from pool.regtest.server import RegtestOptions, serve_regtest
from pool.reports.figures import hashrate
from pool.settings_file import BadConfig
from pool.swarm.fleet import SwarmOptions, SwarmStats, run_swarm
from stratum.difficulty import DIFFICULTY_LOG2_MAX, DIFFICULTY_LOG2_MIN
from stratum.miners.listening.listeners import Endpoint
from stratum.miners.vardiff import VardiffPolicy

log = structlog.get_logger()

# Payout addresses on regtest, P2WPKH and P2TR; whose keys are known to everybody or nobody.
TENANTS: Final = {
    "acme": "bcrt1qqqqsyqcyq5rqwzqfpg9scrgwpugpzysnard0ew",
    "borealis": "bcrt1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqc8gma6",
}
TERMS: Final = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=1_000_000)
# A regtest address of nobody: P2WPKH of the hash of nothing at all.
PAYOUT_ADDRESS: Final = "bcrt1qk3e2yekshkyuzdcx5sfjena3da7rh87tay47fm"
WEB: Final = Endpoint(host="127.0.0.1", port=0)  # any that is free
VISITOR: Final = "visitor"  # who looks at the page; the link that lets him in is good for one run
VISIT_DAYS: Final = 30
MACHINES: Final = 8
# Every second hash is a block on regtest: together the fleet finds one every few seconds.
SHARES_PER_MINUTE: Final = 4.0
LINE_S: Final = 5.0  # between two lines where the output is not a terminal
TABLE_S: Final = 0.5
# A regtest node that runs on this machine is asked again quickly; its clock is ours.
NODE_NAME: Final = "embedded"
NODE: Final = "node"  # where its chain is, in the data directory: a demo makes that there, and nobody else


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
    """Until enough blocks, or cancelled. Raises BadConfig, DataDirError and StoreError."""
    refuse_others(options.data_dir)
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

    with held(options.data_dir):
        (options.data_dir / NODE).mkdir(exist_ok=True)  # before there is a book, which it says is a demo's
        store = open_store(database_url(options.data_dir))
        try:
            bind(store, "regtest")
            add_tenants(store)
            token = visit(store)
            async with trio.open_nursery() as nursery:
                pool = await _start(nursery, options, store, on_block)
                console.print(f"the page, to look at: {_web(pool)}/#token={token}", soft_wrap=True)
                nursery.start_soon(_show, console, pool, store, state)
                await done.wait()
                nursery.cancel_scope.cancel()
        finally:
            store.close()
    last = f"height {state.height}, hash {state.last_hash}"
    console.print(f"{state.accepted} blocks accepted; {last}", soft_wrap=True)


def refuse_others(data_dir: Path) -> None:
    """Simulated machines would mine, and be paid, in the book of a pool that somebody runs. Raises
    BadConfig."""
    if any((data_dir / it).exists() for it in ("network", "angara.db")) and not (data_dir / NODE).is_dir():
        raise BadConfig(f"{data_dir} is of a pool that no demo made: give another --data-dir")


async def _start(
    nursery: trio.Nursery, options: DemoOptions, store: Store, on_block: Callable[[BlockResult], None]
) -> RunningPool:
    """Node, pool and fleet, in this order."""
    node = await nursery.start(
        serve_regtest,
        RegtestOptions(
            data_dir=options.data_dir / NODE,
            template_txs=options.template_txs,
            network_bits=options.network_bits,
        ),
    )
    config = _config(options, NodeConfig(name=NODE_NAME, url=node.url, cookie_file=node.cookie_file))
    pool: RunningPool = await nursery.start(Pool(config, store, on_block=on_block).run)
    if options.fleet:
        host, port = pool.addresses[0]
        swarm = SwarmOptions(
            host=host,
            port=port,
            miners=MACHINES,
            tenants=tuple(TENANTS),
            shares_per_minute=SHARES_PER_MINUTE,
        )
        nursery.start_soon(run_swarm, swarm, SwarmStats())
    return pool


def add_tenants(store: Store) -> None:
    """Both tenants, at the first start."""
    now_s = int(time.time())
    with store.write() as connection:
        known = {view.name for view in list_tenants(connection)}
        for name, address in TENANTS.items():
            if name not in known:
                add_tenant(connection, name, TERMS, by="demo", now_s=now_s)
                set_address(connection, name, address, network="regtest", by="demo", now_s=now_s)


def command(store: Store, what: str, **params: object) -> Any:
    """One of the operator's, given on the books alone. Raises RegistryError."""
    return execute(Desk(store, "regtest"), what, msgspec.json.encode(params), host_account("demo", ALONE))


def visit(store: Store) -> str:
    """A token for this run, of a user who may look at everything and change nothing."""
    with store.read() as connection:
        known = VISITOR in {user.name for user in list_users(connection)}
        before = [it.id for it in list_tokens(connection, VISITOR) if not it.revoked_at_s] if known else []
    if not known:
        command(store, "user.add", name=VISITOR, role=Role.VIEWER)
    for number in before:
        command(store, "token.revoke", user=VISITOR, number=number)
    made = command(store, "token.create", user=VISITOR, label="the demo's link", days=VISIT_DAYS)
    token: str = made["token"]
    return token


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
        web=WEB,
        start_difficulty_log2=DIFFICULTY_LOG2_MIN if fixed is None else fixed,
        vardiff=VardiffPolicy(
            difficulty_log2_min=DIFFICULTY_LOG2_MIN if fixed is None else fixed,
            difficulty_log2_max=DIFFICULTY_LOG2_MAX if fixed is None else fixed,
        ),
        extranonce2_bytes=4,
        line_bytes_max=8192,
        database_url=database_url(options.data_dir),
        books=IMPATIENT if options.fleet else BookTimes(),  # a load test gets what a site gets
    )


def above(console: Console) -> TextIO:
    """Where log lines go: above the table, which they would tear anywhere else."""
    return cast(TextIO, FileProxy(console, sys.stderr))


async def _show(console: Console, pool: RunningPool, store: Store, state: DemoState) -> None:
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            while True:
                live.update(_table(pool, await _balances(store), state), refresh=True)
                await trio.sleep(TABLE_S)
    console.print(f"miners connect to {_stratum(pool)} as acme.c01.unit", soft_wrap=True)
    console.print(f"what it is like is answered at {_web(pool)}/readyz and /metrics", soft_wrap=True)
    while True:
        await trio.sleep(LINE_S)
        sys.stdout.write(await _line(pool, await _balances(store), state) + "\n")
        sys.stdout.flush()


async def _balances(store: Store) -> dict[str, int]:
    """What the ledger owes each tenant, in satoshi."""

    def read() -> dict[str, int]:
        with store.read() as connection:
            return {view.name: balance_sat(connection, payable(view.id)) for view in list_tenants(connection)}

    return await trio.to_thread.run_sync(read)


def _rows(pool: RunningPool) -> dict[str, Hashrate | None]:
    rates = pool.hashrates.by_tenant(trio.current_time())
    return {name: rates.get(tenant.id) for name, tenant in sorted(pool.registry.tenants.items())}


async def _line(pool: RunningPool, balances: dict[str, int], state: DemoState) -> str:
    sessions = sum((await pool.edges.figures()).sessions.values())
    counts = " ".join(
        f"{name}={row.accepted if row else 0}/{row.workers if row else 0}/{balances.get(name, 0)}"
        for name, row in _rows(pool).items()
    )
    return (
        f"{time.monotonic() - state.started_s:.0f}s sessions={sessions} "
        f"accepted/workers/balance_sat {counts} blocks={state.accepted} height={state.height}"
    )


def _table(pool: RunningPool, balances: dict[str, int], state: DemoState) -> Table:
    table = Table(title=f"Angara demo: {state.accepted} blocks, height {state.height}", min_width=72)
    for heading in ("tenant", "workers", "hashrate", "accepted", "rejected", "balance BTC"):
        table.add_column(heading, justify="left" if heading == "tenant" else "right")
    for name, row in _rows(pool).items():
        figures = ["0", "-", "0", "0"]
        if row is not None:
            rejected = row.stale + row.duplicate + row.low + row.invalid
            figures = [str(row.workers), hashrate(int(row.rates_hps[1])), str(row.accepted), str(rejected)]
        table.add_row(Text(name), *figures, f"{Decimal(balances.get(name, 0)).scaleb(-8):.8f}")
    table.caption = f"{_stratum(pool)} as acme.c01.unit; {_web(pool)}/readyz; last {state.last_hash[:16]}"
    return table


def _stratum(pool: RunningPool) -> str:
    host, port = pool.addresses[0]
    return f"stratum+tcp://{host}:{port}"


def _web(pool: RunningPool) -> str:
    assert pool.web is not None
    host, port = pool.web
    return f"http://{host}:{port}"
