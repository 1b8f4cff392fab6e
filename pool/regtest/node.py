"""The embedded node behind its methods: one chain, one memory pool, one template, many askers.

The kernel, the coins and the memory pool are worked on in a worker thread, one call at a time, under
one lock. What the event loop reads without the lock are values that are replaced as a whole: the tip,
the current template, the memory pool's counter of updates. So a template that is still right is handed
out at once, and a new one is built once however many long polls wait for it.

Must not know: JSON, HTTP.
"""

from collections.abc import Callable
from typing import TypeVar

import structlog
import trio

from pool.regtest.chain import Chain, RegtestUnavailable, Submission
from pool.regtest.mempool import COINBASE_MATURITY, Mempool, PendingTx
from pool.regtest.template import Template, build_template, mine_block, with_reserved_value
from pool.regtest.wallet import FILLER_SCRIPT, fillers, is_filler

log = structlog.get_logger()

# bitcoind looks for new transactions after a minute, then every ten seconds.
LONGPOLL_TXS_FIRST_S = 60
LONGPOLL_TXS_AGAIN_S = 10
LONGPOLLS_MAX = 64  # bitcoind's work queue; a pool holds one
# A fresh chain needs the maturity and a block or two for fan-outs. Twice as many are a chain so old
# that its subsidy does not pay for them any more.
PREPARE_BLOCKS_MAX = 2 * COINBASE_MATURITY

Result = TypeVar("Result")


class TooManyLongPolls(Exception):
    """LONGPOLLS_MAX clients wait already."""


class Node:
    """Everything the methods act on. `template_txs` fillers go into each template; `nbits`: see Template."""

    def __init__(self, chain: Chain, *, template_txs: int, nbits: int | None) -> None:
        self.chain = chain
        self.mempool = Mempool(chain)
        self._template_txs = template_txs
        self._nbits = nbits
        self._template: Template | None = None
        self._lock = trio.Lock()
        self._tip_changed = trio.Event()
        self._longpolls = 0

    async def call(self, work: Callable[[], Result]) -> Result:
        """Run `work`, which may touch chain and memory pool, in a thread when its turn comes."""
        async with self._lock:
            before = self.chain.tip.hash_internal
            try:
                return await trio.to_thread.run_sync(work)
            finally:
                if self.chain.tip.hash_internal != before:
                    self._tip_changed.set()
                    self._tip_changed = trio.Event()

    async def submit(self, block_hex: str) -> Submission:
        """Give a block to the kernel. Raises ValueError where it is none."""
        submission = await self.call(lambda: self._submit(with_reserved_value(bytes.fromhex(block_hex))))
        log.info(
            "regtest_block_submitted",
            verdict=submission.verdict or submission.fault or "accepted",
            height=self.chain.tip.height,
            tip=self.chain.tip.hash_internal[::-1].hex(),
        )
        return submission

    def _submit(self, raw: bytes) -> Submission:
        before = self.chain.tip.hash_internal
        submission = self.chain.submit(raw)
        if self.chain.tip.hash_internal != before:
            self.mempool.after_block([raw for raw in submission.returned if not is_filler(raw)])
        return submission

    async def accept(self, raw: bytes, *, sat_per_kvb_max: int) -> PendingTx:
        """Take a transaction into the memory pool. Raises TxRefused."""
        return await self.call(lambda: self.mempool.accept(raw, sat_per_kvb_max=sat_per_kvb_max))

    async def template(self) -> Template:
        """What to mine now."""
        current = self._current()
        return await self.call(self._build) if current is None else current

    def _current(self) -> Template | None:
        template = self._template
        if template is None or template.updates != self.mempool.updates:
            return None
        return template if template.tip.hash_internal == self.chain.tip.hash_internal else None

    def _build(self) -> Template:
        current = self._current()  # somebody who waited for the same lock may have built it
        if current is not None:
            return current
        candidates = self.mempool.pending() + self._fillers()
        built = build_template(self.chain, candidates, updates=self.mempool.updates, nbits=self._nbits)
        self._template = built
        return built

    def _fillers(self) -> list[PendingTx]:
        height = self.chain.tip.height + 1
        return fillers(self.chain.coins, self.mempool.spent, height, self._template_txs)

    async def wait_for_news(self, tip_hash: bytes, updates: int) -> None:
        """Return when the tip is another one, or a while after the memory pool has changed."""
        if self._longpolls >= LONGPOLLS_MAX:
            raise TooManyLongPolls
        self._longpolls += 1
        patience_s = LONGPOLL_TXS_FIRST_S
        try:
            while self.chain.tip.hash_internal == tip_hash:
                with trio.move_on_after(patience_s) as waiting:
                    await self._tip_changed.wait()
                if waiting.cancelled_caught and self.mempool.updates != updates:
                    return
                patience_s = LONGPOLL_TXS_AGAIN_S
        finally:
            self._longpolls -= 1

    async def generate(self, script: bytes) -> bytes:
        """Mine a block of the memory pool's transactions that pays to `script`; returns its hash."""
        return await self.call(lambda: self._generate(self.mempool.pending(), script))

    def _generate(self, txs: list[PendingTx], script: bytes) -> bytes:
        # At the consensus target, whatever the templates offer: this block must be accepted.
        template = build_template(self.chain, txs, updates=self.mempool.updates)
        submission = self._submit(mine_block(template, script, self.chain.next_time()))
        if submission != Submission():
            raise RuntimeError(f"our own block was refused: {submission.verdict or submission.fault}")
        return self.chain.tip.hash_internal

    def prepare(self) -> None:
        """Mine until every template can be filled. Blocks; to be called before anything else."""
        blocks = 0
        while len(ready := self._fillers()) < self._template_txs:
            if blocks == PREPARE_BLOCKS_MAX:
                raise RegtestUnavailable(
                    "this chain is too old to fill templates, its subsidy has run out: "
                    "start with an empty data directory"
                )
            self._generate(ready, FILLER_SCRIPT)
            blocks += 1
        if blocks:
            log.info("regtest_fillers_ready", blocks_mined=blocks, template_txs=self._template_txs)
