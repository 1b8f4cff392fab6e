"""The embedded regtest node: what speaks like a bitcoind, for the demo, for tests and for load.

Bitcoin Core's consensus engine runs in this process (py-bitcoinkernel); around it stand a small JSON-RPC
server, a memory pool, and coins of its own to fill templates with real transactions. The pool speaks to
it exactly as to a bitcoind, through the same node client.

* pool/regtest/chain.py     the kernel, and the coins that its chain leaves unspent
* pool/regtest/mempool.py   transactions for the next block
* pool/regtest/wallet.py    the transactions that fill templates
* pool/regtest/template.py  templates, and blocks made of them
* pool/regtest/node.py      all of these behind one lock, in worker threads
* pool/regtest/methods.py   the RPC methods, over jsonrpc.py and http.py
* pool/regtest/coin_methods.py     those of them about coins and transactions

Invariants: the chain survives a restart on the same data directory; the cookie file exists, readable by
its owner alone, for exactly as long as the server can be reached; credentials are never logged.
Must not know: the pool.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import structlog
import trio

from pool.regtest.chain import Chain, RegtestUnavailable
from pool.regtest.coin_methods import CoinMethods
from pool.regtest.http import HttpServer
from pool.regtest.jsonrpc import JsonRpc
from pool.regtest.methods import Methods
from pool.regtest.node import Node
from pool.regtest.wallet import TEMPLATE_TXS_MAX
from stratum.difficulty import BadTarget, target_from_nbits

__all__ = ["RegtestNode", "RegtestOptions", "RegtestUnavailable", "serve_regtest"]

log = structlog.get_logger()

COOKIE_USER = "__cookie__"
COOKIE_SECRET_BYTES = 32  # as bitcoind's


class RegtestOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What an embedded node is started with."""

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 0  # 0: any free port
    template_txs: int = 0  # real transactions that every template is filled with
    network_bits: int | None = None  # nBits that templates offer in place of the consensus one
    rpc_user: str | None = None  # None: cookie file
    rpc_password: str | None = None


class RegtestNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node that is ready to be asked."""

    url: str
    cookie_file: Path  # exists unless a user and a password were given


async def serve_regtest(
    options: RegtestOptions,
    *,
    task_status: trio.TaskStatus[RegtestNode] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a node until it is cancelled or told to stop, then write its chain to disk.

    Raises RegtestUnavailable where the kernel is missing, the chain cannot be opened or the port cannot be
    had, ValueError for options that make no sense.
    """
    _check(options)
    options.data_dir.mkdir(parents=True, exist_ok=True)
    chain = await trio.to_thread.run_sync(Chain, options.data_dir)
    try:
        node = Node(chain, template_txs=options.template_txs, nbits=options.network_bits)
        await trio.to_thread.run_sync(node.prepare)
        await _serve(options, node, task_status)
    finally:
        with trio.CancelScope(shield=True):  # what is not flushed is lost
            await trio.to_thread.run_sync(chain.close)
        log.info("regtest_stopped", height=chain.tip.height)


async def _serve(options: RegtestOptions, node: Node, task_status: trio.TaskStatus[RegtestNode]) -> None:
    methods = Methods(node)
    served = {**methods.by_name(), **CoinMethods(node).by_name()}
    rpc = JsonRpc(served, last=methods.stop.__name__)
    cookie_file = options.data_dir / ".cookie"
    with _credentials(options, cookie_file) as credentials:
        try:
            listeners = await trio.open_tcp_listeners(options.port, host=options.host)
        except OSError as error:
            where = f"{options.host}:{options.port}"
            raise RegtestUnavailable(f"cannot listen on {where}: {error.strerror or error}") from None
        async with trio.open_nursery() as nursery:
            server = HttpServer(rpc.answer, credentials, nursery.cancel_scope.cancel)
            await nursery.start(trio.serve_listeners, server.serve, listeners)
            address, port = listeners[0].socket.getsockname()[:2]
            host = f"[{address}]" if ":" in address else address
            ready = RegtestNode(url=f"http://{host}:{port}", cookie_file=cookie_file)
            log.info("regtest_started", url=ready.url, height=node.chain.tip.height)
            task_status.started(ready)


def _check(options: RegtestOptions) -> None:
    if not 0 <= options.template_txs <= TEMPLATE_TXS_MAX:
        raise ValueError(f"template_txs must be 0 to {TEMPLATE_TXS_MAX}, a block holds no more")
    if (options.rpc_user is None) != (options.rpc_password is None):
        raise ValueError("rpc_user and rpc_password must be given together, or neither for a cookie file")
    if options.rpc_user is not None and ":" in options.rpc_user:
        raise ValueError("rpc_user must not contain a colon")
    if options.network_bits is not None:
        try:
            target_from_nbits(options.network_bits)
        except BadTarget as bad:
            raise ValueError(f"network_bits cannot be offered: {bad}") from bad


@contextmanager
def _credentials(options: RegtestOptions, cookie_file: Path) -> Iterator[bytes]:
    """The "user:password" to ask for; without one in the options, a new cookie for as long as this runs."""
    cookie_file.unlink(missing_ok=True)  # a crash leaves one behind
    if options.rpc_user is not None:
        yield f"{options.rpc_user}:{options.rpc_password}".encode()
        return
    cookie = f"{COOKIE_USER}:{secrets.token_hex(COOKIE_SECRET_BYTES)}"
    draft = cookie_file.with_name(".cookie.tmp")
    draft.unlink(missing_ok=True)  # left behind by a crash, whatever its mode
    draft.touch(mode=0o600)
    draft.write_text(cookie)
    draft.replace(cookie_file)  # nobody ever reads half of it
    try:
        yield cookie.encode()
    finally:
        cookie_file.unlink(missing_ok=True)
