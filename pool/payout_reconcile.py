"""Whether the books know every payout that is on the chain, and what is done when they do not.

A database that was restored from a backup may have forgotten that a batch was sent. It cannot pay it
again: the next transaction would have to spend the same anchor. But before anything goes on, the books
must learn what happened. They are reconciled when

* the anchor of a batch that was not sent is unspent;
* the change of the last payout, which the next one spends, is unspent;
* every coin of the change descriptor, since there is a pool, is of a transaction that they know.

`Reconciler.run` finds the transactions that break this, and takes each for what it is: a payout of a batch,
a payout to tenants that the books never saw, a move of coins to ourselves; or something else, which a
person has to look at and accept as no payout.

Invariants: the oldest comes first; what is on the chain is never booked as less than it is.
Must not know: how a transaction is made.
"""

from collections.abc import Collection
from typing import Final

import msgspec
import structlog
from sqlalchemy import Connection, func, select

from payouts.ledger import LedgerError
from payouts.payout_plan import ScriptOf, payees_by_script
from payouts.payout_rows import Act
from payouts.payout_steps import Found, accept_stranger, adopt, recover
from payouts.psbt import Quarantined
from payouts.schema import tenants
from payouts.settlement import (
    SENT,
    UNDER_WAY,
    WATCH_CONFIRMATIONS,
    Batch,
    Item,
    SettlementError,
    State,
    anchor_name,
    batch_of,
    batches_in,
    is_stranger,
    known_transactions,
    next_anchor,
)
from pool.payout_books import PayoutBooks
from pool.payout_follow import Follower, search_from
from pool.payout_node import Ancestry, ChainNode, Coin, PayoutNodes
from pool.payout_wallet import PayoutWallet

log = structlog.get_logger()

# A backup that old is a year of daily payouts behind; more rounds than that do not end by themselves.
ROUNDS_MAX: Final = 400
ANCESTORS_MAX: Final = 1_000  # transactions of the wallet that are walked back through
# Between the clock of this host and those of miners: the pool's first day is no sharp line.
BIRTH_MARGIN_S: Final = 2 * 86_400


class NotReconciled(SettlementError):
    """The chain knows of payouts that the books do not: nothing is paid until they agree."""


class Suspect(msgspec.Struct, frozen=True):
    """A transaction to be explained, and the anchor that it spent, if it did."""

    txid: str
    height: int
    anchor: str = ""


class Reconciler:
    """Compares the books with the chain."""

    def __init__(
        self,
        books: PayoutBooks,
        nodes: PayoutNodes,
        wallet: PayoutWallet,
        follower: Follower,
        script_of: ScriptOf,
    ) -> None:
        self._books = books
        self._nodes = nodes
        self._wallet = wallet
        self._follower = follower
        self._script_of = script_of

    async def require(self, node: ChainNode) -> None:
        """That the books know who spent the anchors. Raises NotReconciled."""
        under_way = await self._books.read(batches_in, *UNDER_WAY)
        for batch in under_way:
            if batch.state in (State.PSBT, State.SIGNED):
                anchor = batch.attempts[0].anchor
                if not await node.unspent(anchor.txid, anchor.vout):
                    raise NotReconciled(_gone(f"the anchor of batch {batch.id}"))
        if not under_way:
            tip = await self._books.read(next_anchor)
            if tip is not None and not await node.unspent(tip[0].txid, tip[1]):
                raise NotReconciled(_gone("the change of the last payout"))

    async def require_known_change(self, node: ChainNode, coins: Collection[Coin]) -> None:
        """That every coin of the change descriptor is of a transaction that we know. Raises NotReconciled."""
        unknown = await self._unknown_change(node, coins)
        if unknown:
            raise NotReconciled(
                f"{len(unknown)} coins of the change descriptor are of transactions that these books do not "
                f"know, the first is {unknown[0].txid}: run `angara payout reconcile`"
            )

    async def run(self, by: str, accept: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Explain everything that can be: what was found and done, and what a person has to look at.

        `accept` are the transactions that somebody looked at: no payouts.
        """
        news: list[str] = []
        for _ in range(ROUNDS_MAX):
            node = await self._nodes.first()
            done: list[str] = []
            open_questions: list[str] = []
            for suspect in await self._suspects(node):
                explained, words = await self._explain(node, suspect, self._books.act(by), accept)
                (done if explained else open_questions).append(words)
            news += done
            news += await self._follower.look()
            if not done:
                return tuple(news), tuple(open_questions)
        raise NotReconciled(f"after {ROUNDS_MAX} rounds there is more: run it again")

    async def _suspects(self, node: ChainNode) -> list[Suspect]:
        """What has to be explained, each once, the oldest first."""
        found = {it.txid: it for it in await self._anchor_suspects(node)}
        if not found:  # the node walks over all coins there are: only when nothing is left to do without
            coins = await node.coins(self._wallet.scan_objects)
            for coin in await self._unknown_change(node, coins):
                for suspect in await self._ancestors(node, Suspect(coin.txid, coin.height)):
                    found[suspect.txid] = suspect
        return sorted(found.values(), key=lambda it: it.height)

    async def _anchor_suspects(self, node: ChainNode) -> list[Suspect]:
        found = []
        under_way = await self._books.read(batches_in, *UNDER_WAY)
        watched = [
            (it.attempts[0].anchor.txid, it.attempts[0].anchor.vout, search_from(it))
            for it in under_way
            if it.state is not State.CONFIRMED
        ]
        if not under_way and (tip := await self._books.read(next_anchor)) is not None:
            watched.append((tip[0].txid, tip[1], (tip[0].block_height or 0) - WATCH_CONFIRMATIONS))
        for txid, vout, from_height in watched:
            if await node.unspent(txid, vout):
                continue
            spent = await node.spender(txid, vout, from_height)
            anchor = anchor_name(txid, vout)
            if spent is not None and not await self._books.read(_explained, spent.tx.txid, anchor):
                found.append(Suspect(spent.tx.txid, spent.height, anchor))
        return found

    async def _unknown_change(self, node: ChainNode, coins: Collection[Coin]) -> list[Coin]:
        """Coins of the change descriptor that came since there is a pool, from we do not know where."""
        known = await self._books.read(known_transactions)
        unknown = [it for it in coins if it.txid not in known and self._wallet.is_change(it.script)]
        return [it for it in unknown if await self._since_birth(node, it.height)]

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

    async def _explain(
        self, node: ChainNode, suspect: Suspect, act: Act, accept: Collection[str]
    ) -> tuple[bool, str]:
        """Take a transaction for what it is: whether it is explained now, and what it is, in words."""
        txid = suspect.txid
        ancestry = await node.ancestry(txid, suspect.height)
        try:
            words = await self._take(ancestry, suspect, act, accept)
        except (LedgerError, SettlementError, Quarantined) as error:
            return False, f"{txid} cannot be booked: {error}"
        if words is None:
            return False, (
                f"{txid} at height {suspect.height} spent coins of the payout wallet and pays somebody that "
                f"is not known here: if it is no payout, run `angara payout reconcile --accept {txid}`"
            )
        log.warning("payout_reconciled", txid=txid, height=suspect.height, outcome=words, by=act.by)
        return True, words

    async def _take(
        self, ancestry: Ancestry, suspect: Suspect, act: Act, accept: Collection[str]
    ) -> str | None:
        tx, txid = ancestry.tx, suspect.txid
        found = Found(tx=tx, inputs=ancestry.inputs, made_at_height=suspect.height)
        known = await self._books.read(batch_of, txid)
        if known is not None:
            await self._books.write(adopt, known[0].id, found, act)
            return f"{txid} is attempt {known[1].attempt} at batch {known[0].id}, and is on the chain"
        change_is_own = self._wallet.is_own(tx.outputs[-1].script)
        if change_is_own and (batch := await self._books.read(_batch_paid_by, found)) is not None:
            await self._books.write(adopt, batch.id, found, act)
            return f"{txid} pays batch {batch.id}, and is on the chain"
        if all(self._wallet.is_own(output.script) for output in tx.outputs):
            await self._books.write(accept_stranger, txid, suspect.anchor, act)
            return f"{txid} is no payout: it moves coins to ourselves"
        if txid in accept or await self._books.read(is_stranger, txid):
            await self._books.write(accept_stranger, txid, suspect.anchor, act)
            return f"{txid} is no payout, somebody said"
        items = await self._books.read(_items_paid_by, found, self._script_of) if change_is_own else None
        if items is None:
            return None
        batch_id = await self._books.write(recover, items, found, act)
        return f"{txid} paid {len(items)} tenants: these books did not know, it is batch {batch_id} now"


def _gone(what: str) -> str:
    return f"{what} is not where it should be on the chain: run `angara payout reconcile`"


def _first_tenant_s(connection: Connection) -> int | None:
    first_s: int | None = connection.scalar(select(func.min(tenants.c.created_at_s)))
    return first_s


def _explained(connection: Connection, txid: str, anchor: str) -> bool:
    """Whether we know what spent the anchor."""
    found = batch_of(connection, txid)
    return is_stranger(connection, txid, anchor) if found is None else found[1].state in SENT


def _batch_paid_by(connection: Connection, found: Found) -> Batch | None:
    """The batch whose payees are exactly those of the transaction; one that is alive before a failed one."""
    candidates = [
        batch
        for batch in batches_in(connection)
        if batch.state not in (State.CONFIRMED, State.FINAL) and batch.payees == found.tx.outputs[:-1]
    ]
    return max(candidates, key=lambda it: (it.state is not State.FAILED, it.id), default=None)


def _items_paid_by(connection: Connection, found: Found, script_of: ScriptOf) -> tuple[Item, ...] | None:
    """The tenants that a transaction pays, where every output but the change is one's."""
    payees = payees_by_script(connection, script_of)
    items = []
    for position, output in enumerate(found.tx.outputs[:-1]):
        payee = payees.get(output.script)
        if payee is None:
            return None
        items.append(msgspec.structs.replace(payee, position=position, amount_sat=output.amount_sat))
    return tuple(items) if len({item.tenant_id for item in items}) == len(items) else None
