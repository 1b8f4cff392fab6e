"""Transactions on the chain that these books have to explain before anything is paid.

They spend a coin that the books watch (the anchor of a batch under way, the change of the last payout), or
made a coin of the change descriptor out of coins of ours. Anybody can send coins to an address of ours, and
a payout's change is an address that everybody sees: what spends no coin of ours is from outside, is noted
as that once, and never asked about again.

Invariants: a coin below CHANGE_SAT_MIN costs no question, so dust costs whoever sends it more than us; above
it a question for each transaction, once. Nothing else is written here.

Must not know: what a suspect turns out to be.
"""

from collections.abc import Collection, Sequence
from typing import Final

import msgspec
import structlog
from sqlalchemy import Connection, func, select

from payouts.batches.batch import (
    SENT,
    UNDER_WAY,
    WATCH_CONFIRMATIONS,
    Attempt,
    BatchError,
    State,
    anchor_name,
    batch_of,
    batches_in,
    is_stranger,
    known_transactions,
    next_anchor,
)
from payouts.batches.found import accept_stranger
from payouts.batches.plan import ScriptOf, payees_by_script
from payouts.batches.psbt import Spend
from payouts.batches.rows import Act
from payouts.persons import CHAIN
from payouts.schemas.money import tenants
from pool.books.copies.restores import unreconciled_restore
from pool.treasury.books import PayoutBooks
from pool.treasury.chain_node import ChainNode, Coin
from pool.treasury.coins import CHANGE_SAT_MIN
from pool.treasury.follower import search_from
from pool.treasury.wallet import PayoutWallet

log = structlog.get_logger()

ANCESTORS_MAX: Final = 1_000  # transactions of the wallet that are walked back through
NOTED_AT_ONCE: Final = (
    500  # transactions from outside, in one write: a command that is killed goes on from there
)
# Between the clock of this host and those of miners: the pool's first day is no sharp line.
BIRTH_MARGIN_S: Final = 2 * 86_400


class NotReconciled(BatchError):
    """The chain knows of payouts that the books do not: nothing is paid until they agree."""


class Suspect(msgspec.Struct, frozen=True):
    """A transaction to be explained, and the watched coin that it spent, if it did.

    `moved`: it is a payout that the books know, and that coin is its change, which went to somebody else, or
    was left to the network.
    """

    txid: str
    height: int
    anchor: str = ""
    moved: bool = False


class Suspects:
    """Looks for them."""

    def __init__(self, books: PayoutBooks, wallet: PayoutWallet, script_of: ScriptOf) -> None:
        self._books = books
        self._wallet = wallet
        self._script_of = script_of

    async def all(self, node: ChainNode) -> tuple[list[Suspect], tuple[Coin, ...]]:
        """What has to be explained, each once, the oldest first; and the dust that was seen on the way."""
        found = {it.txid: it for it in await self._of_anchors(node)}
        dust: tuple[Coin, ...] = ()
        if not found:  # the node walks over all coins there are: only when nothing is left to do without
            coins = await node.coins(self._wallet.scan_objects)
            dust = tuple(it for it in coins if it.amount_sat < CHANGE_SAT_MIN)
            for suspect in await self.of_change(node, coins):
                for it in await self._ancestors(node, suspect):
                    found[it.txid] = it
            for it in await self._of_restore(node):
                found.setdefault(it.txid, it)
        return sorted(found.values(), key=lambda it: it.height), dust

    async def of_change(self, node: ChainNode, coins: Collection[Coin]) -> list[Suspect]:
        """Transactions that made coins of the change descriptor of coins of ours, since there is a pool, and
        that the books do not know. What came from outside is noted as that."""
        known = await self._books.read(known_transactions)
        heights = {
            it.txid: it.height
            for it in coins
            if it.amount_sat >= CHANGE_SAT_MIN and it.txid not in known and self._wallet.is_change(it.script)
        }
        suspects: list[Suspect] = []
        outside: list[str] = []
        for txid, height in sorted(heights.items(), key=lambda it: (it[1], it[0])):
            if not await self._since_birth(node, height):
                continue
            ancestry = await node.ancestry(txid, height)
            if self.spends_ours(ancestry.inputs):
                suspects.append(Suspect(txid, height))
                continue
            outside.append(txid)
            if len(outside) == NOTED_AT_ONCE:
                await self._note_outside(outside)
                outside = []
        await self._note_outside(outside)
        return suspects

    def spends_ours(self, inputs: Sequence[Spend]) -> bool:
        """Whether one of the coins was ours."""
        return any(self._wallet.is_own(it.script) for it in inputs)

    def moved(self, attempt: Attempt) -> bool:
        """Whether the change of a payout that was found on the chain is not ours."""
        change = attempt.change
        return attempt.psbt is None and (change is None or not self._wallet.is_own(change.script))

    async def _of_anchors(self, node: ChainNode) -> list[Suspect]:
        found = []
        under_way = await self._books.read(batches_in, *UNDER_WAY)
        watched = [
            (it.anchor.txid, it.anchor.vout, search_from(it))
            for it in under_way
            if it.state is not State.CONFIRMED and it.anchor is not None
        ]
        if not under_way and (tip := await self._books.read(next_anchor)) is not None:
            attempt, vout = tip
            height = attempt.block_height or 0
            if vout is None or self.moved(attempt):
                return [Suspect(attempt.txid, height, anchor_name(attempt.txid, vout), moved=True)]
            watched.append((attempt.txid, vout, height - WATCH_CONFIRMATIONS))
        for txid, vout, from_height in watched:
            if await node.unspent(txid, vout):
                continue
            spent = await node.spender(txid, vout, from_height)
            anchor = anchor_name(txid, vout)
            if spent is not None and not await self._books.read(_explained, spent.tx.txid, anchor):
                found.append(Suspect(spent.tx.txid, spent.height, anchor))
        return found

    async def _of_restore(self, node: ChainNode) -> list[Suspect]:
        """What paid tenants from coins of ours since the backup that these books were restored from, wherever
        its change is by now: no coin leads to it where somebody emptied the wallet."""
        restore = await self._books.read(unreconciled_restore)
        if restore is None:
            return []
        scripts = frozenset(await self._books.read(payees_by_script, self._script_of))
        known = await self._books.read(known_transactions)
        birth_s = await self._books.read(_first_tenant_s)
        since_s = max(restore.newest_at_s, birth_s or 0) - BIRTH_MARGIN_S
        found = []
        for tx, height in await node.payers(scripts, since_s):
            if tx.txid not in known and self.spends_ours((await node.ancestry(tx.txid, height)).inputs):
                found.append(Suspect(tx.txid, height))
        return found

    async def _since_birth(self, node: ChainNode, height: int) -> bool:
        """Whether a block may hold a payout: before the first tenant there were none."""
        birth_s = await self._books.read(_first_tenant_s)
        return birth_s is not None and await node.block_time_s(height) >= birth_s - BIRTH_MARGIN_S

    async def _ancestors(self, node: ChainNode, last: Suspect) -> list[Suspect]:
        """A suspect, and what came before it: payouts that are forgotten one after the other."""
        known = await self._books.read(known_transactions)
        found = {last.txid: last}
        queue = [last]
        while queue:
            it = queue.pop()
            ancestry = await node.ancestry(it.txid, it.height)
            if it is not last and not self.spends_ours(ancestry.inputs):
                del found[it.txid]  # a coin from outside, that was spent since
                continue
            for spend, height in zip(ancestry.inputs, ancestry.heights, strict=True):
                new = spend.txid not in known and spend.txid not in found
                if new and self._wallet.is_change(spend.script) and await self._since_birth(node, height):
                    found[spend.txid] = Suspect(spend.txid, height)
                    queue.append(found[spend.txid])
            if len(found) > ANCESTORS_MAX:
                raise NotReconciled(
                    f"more than {ANCESTORS_MAX} transactions of the change descriptor are not known: "
                    "payouts need a wallet of their own"
                )
        return list(found.values())

    async def _note_outside(self, txids: Sequence[str]) -> None:
        if txids:
            await self._books.write(_note_outside, tuple(txids), Act(CHAIN, self._books.now_s()))
            log.info("payout_coins_from_outside", transactions=len(txids), first=txids[0])


def dust_in_words(dust: Collection[Coin]) -> str:
    """What becomes of it: nothing."""
    sat = sum(it.amount_sat for it in dust)
    return f"{len(dust)} coins below {CHANGE_SAT_MIN} sat, {sat} sat in all, are dust: they are left alone"


def _note_outside(connection: Connection, txids: Sequence[str], act: Act) -> None:
    for txid in txids:
        accept_stranger(connection, txid, "", act)


def _first_tenant_s(connection: Connection) -> int | None:
    first_s: int | None = connection.scalar(select(func.min(tenants.c.created_at_s)))
    return first_s


def _explained(connection: Connection, txid: str, anchor: str) -> bool:
    """Whether we know what spent the anchor."""
    found = batch_of(connection, txid)
    return is_stranger(connection, txid, anchor) if found is None else found[1].state in SENT
