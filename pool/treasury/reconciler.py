"""Whether the books know every payout that is on the chain, and what is done when they do not.

A database that was restored from a backup may have forgotten that a batch was sent. It cannot pay it
again: the next transaction would have to spend the same anchor. But before anything goes on, the books
must learn what happened. They are reconciled when

* the anchor of a batch that was not sent is unspent;
* the change of the last payout, which the next one spends, is unspent, and ours;
* every coin of the change descriptor, since there is a pool, is of a transaction that they know;
* since they were restored by `angara db restore`, `Reconciler.run` had no question.

`Reconciler.run` finds the transactions that break this, and takes each for what it is, in this order:

    spends no coin of ours          whatever it pays to whom: from outside, and left alone
    an attempt of ours              adopted
    pays all payees of a batch      adopted, however its outputs are arranged, and whoever got the change
    pays nobody but ourselves       no payout
    pays tenants, and ourselves     a payout that the books never saw: recovered
    anything else                   a question: two persons have to say what they know of it

What it pays to tenants from coins of ours is booked as paid even then: nobody's word makes it payable again.
A coin too small to be a payout's change is dust. Anybody can send it: nothing is asked about it.

Invariants: the oldest comes first; what is on the chain is never booked as less than it is.
Must not know: how a transaction is made, and how the chain is searched (`payout_suspects`).
"""

from collections.abc import Collection, Iterable
from typing import Final

import structlog
from sqlalchemy import Connection

from payouts.batches.batch import (
    FINAL_CONFIRMATIONS,
    UNDER_WAY,
    Attempt,
    Batch,
    BatchError,
    Item,
    State,
    anchor_name,
    batch_of,
    batches_in,
    is_stranger,
    next_anchor,
)
from payouts.batches.evidence import Found, batch_paid_by, beyond, change_among, items_paid_by
from payouts.batches.found import Overpaid, accept_stranger, adopt, alleged, recover
from payouts.batches.plan import ScriptOf
from payouts.batches.proposals import ProposalError, ProposalKind, agree, agreed, open_proposals
from payouts.batches.psbt import fee_sat
from payouts.batches.rows import Act
from payouts.batches.transaction import TxOutput
from payouts.ledger import LedgerError
from payouts.persons import CHAIN
from pool.books.copies.restores import note_reconciled, unreconciled_restore
from pool.treasury.books import PayoutBooks
from pool.treasury.chain_node import Ancestry, ChainNode, Coin, PayoutNodes
from pool.treasury.follower import Follower
from pool.treasury.suspects import NotReconciled, Suspect, Suspects, dust_in_words
from pool.treasury.wallet import PayoutWallet

log = structlog.get_logger()

# A backup that old is a year of daily payouts behind; more rounds than that do not end by themselves.
ROUNDS_MAX: Final = 400
OUTPUTS_TOLD_MAX: Final = 3
SAID: Final = "looked at: where it pays no tenant, it is no payout"


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
        self.suspects = Suspects(books, wallet, script_of)

    async def require(self, node: ChainNode) -> None:
        """That the books know who spent the anchors. Raises NotReconciled."""
        if await self._books.read(unreconciled_restore) is not None:
            raise NotReconciled(
                "these books were restored from a backup, and may have forgotten what was paid since: "
                "run `angara payout reconcile`"
            )
        under_way = await self._books.read(batches_in, *UNDER_WAY)
        for batch in under_way:
            anchor = batch.anchor if batch.state in (State.PSBT, State.SIGNED) else None
            if anchor is not None and not await node.unspent(anchor.txid, anchor.vout):
                raise NotReconciled(_gone(f"the anchor of batch {batch.id}"))
        if not under_way:
            tip = await self._books.read(next_anchor)
            if tip is not None and not await self._change_stands(node, *tip):
                raise NotReconciled(_gone("the change of the last payout"))

    async def _change_stands(self, node: ChainNode, attempt: Attempt, vout: int | None) -> bool:
        """Whether the change of a payout is ours, and unspent."""
        if vout is None or self.suspects.moved(attempt):
            return False
        return await node.unspent(attempt.txid, vout)

    async def require_known_change(self, node: ChainNode, coins: Collection[Coin]) -> None:
        """That every coin of the change descriptor is of a transaction that we know. Raises NotReconciled."""
        unknown = await self.suspects.of_change(node, coins)
        if unknown:
            raise NotReconciled(
                f"{len(unknown)} transactions that spent coins of ours and left change are not known to "
                f"these books, the first is {unknown[0].txid}: run `angara payout reconcile`"
            )

    async def run(self, by: str, accept: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Explain everything that can be: what was found and done, and what persons have to look at.

        `accept` are the transactions that this person looked at: no payouts.
        """
        act = self._books.act(by)
        news: list[str] = []
        for _ in range(ROUNDS_MAX):
            node = await self._nodes.first()
            done: list[str] = []
            open_questions: list[str] = []
            suspects, dust = await self.suspects.all(node)
            for suspect in suspects:
                explained, words = await self._explain(node, suspect, act, accept)
                (done if explained else open_questions).append(words)
            news += done
            survey = await self._follower.survey()
            news += survey.news_words
            if not done:
                news += [dust_in_words(dust)] if dust else []
                news += [_doubt(*it) for it in await self._alleged()]
                questions = (*open_questions, *survey.trouble_words)
                if not questions:
                    await self._books.write(note_reconciled, by, self._books.now_s())
                return tuple(news), questions
        raise NotReconciled(f"after {ROUNDS_MAX} rounds there is more: run it again")

    async def _alleged(self) -> list[tuple[Batch, Attempt]]:
        """Batches that no coin of this wallet paid, as far as these books know."""
        pairs = [(it, alleged(it, self._wallet.is_own)) for it in await self._books.read(batches_in)]
        return [(batch, attempt) for batch, attempt in pairs if attempt is not None]

    async def _explain(
        self, node: ChainNode, suspect: Suspect, act: Act, accept: Collection[str]
    ) -> tuple[bool, str]:
        """Take a transaction for what it is: whether it is explained now, and what it is, in words."""
        txid = suspect.txid
        ancestry = await node.ancestry(txid, suspect.height)
        why = ""
        try:
            try:
                words = await self._book(ancestry, suspect, act)
            except Overpaid as error:
                words, why = None, f"{error}, which may know of less work than there was; "
            if words is None and await self._said(txid, act, accept):
                words = await self._book(ancestry, suspect, act)
            if words is None:
                return False, why + await self._question(ancestry, suspect)
        except (LedgerError, ProposalError, BatchError) as error:
            return False, f"{txid} cannot be booked: {error}"
        log.warning("payout_reconciled", txid=txid, height=suspect.height, outcome=words, by=act.by)
        return True, words

    async def _book(self, ancestry: Ancestry, suspect: Suspect, act: Act) -> str | None:
        """What the chain says by itself, and what two persons said of it; None where it is a question."""
        tx, txid = ancestry.tx, suspect.txid
        known = None if suspect.moved else await self._books.read(batch_of, txid)
        if known is not None:
            found = self._found(ancestry, suspect, known[0].payees)
            known_by = await self._books.read(_vouched_by, txid)
            await self._books.write(adopt, known[0].id, found, act, known_by)
            return f"{txid} is attempt {known[1].attempt} at batch {known[0].id}, and is on the chain"
        spends = frozenset((it.txid, it.vout) for it in tx.inputs)
        batch = await self._books.read(batch_paid_by, tx.outputs, spends, self._script_of)
        if batch is not None and not suspect.moved:
            return await self._adopt(ancestry, suspect, batch, act)
        vouched_by = await self._books.read(_vouched_by, txid)
        lost = await self._books.read(_batch_at, suspect.anchor)
        full = lost is not None and beyond(tx.outputs, lost.payees) is not None
        items = () if suspect.moved else await self._books.read(items_paid_by, tx, lost, self._script_of)
        scripts = {it.script for it in items}
        strangers = [it for it in tx.outputs if not (it.script in scripts or self._wallet.is_own(it.script))]
        if strangers and not vouched_by and not full:
            return None
        if items:
            return await self._recover(ancestry, suspect, lost, items, act)
        by = act if strangers else Act(CHAIN, act.at_s)
        await self._books.write(accept_stranger, txid, suspect.anchor, by)
        return f"{txid} is no payout: " + (
            f"{vouched_by} looked at it" if strangers else "it moves coins to ourselves"
        )

    async def _adopt(self, ancestry: Ancestry, suspect: Suspect, batch: Batch, act: Act) -> str:
        known_by = await self._books.read(_vouched_by, suspect.txid)
        found = self._found(ancestry, suspect, batch.payees)
        await self._books.write(adopt, batch.id, found, act, known_by)
        words = f"{suspect.txid} pays batch {batch.id}, and is on the chain"
        rest = beyond(ancestry.tx.outputs, batch.payees) or ()
        if elsewhere := [it for it in rest if not self._wallet.is_own(it.script)]:
            sat = sum(it.amount_sat for it in elsewhere)
            log.error("payout_change_elsewhere", batch=batch.id, txid=suspect.txid, sat=sat)
            words += f"; {sat} sat of it went to {_scripts(elsewhere)}, where this batch pays nobody"
        return words

    async def _recover(
        self,
        ancestry: Ancestry,
        suspect: Suspect,
        lost: Batch | None,
        items: tuple[Item, ...],
        act: Act,
    ) -> str:
        """Book what it pays to tenants; in place of a batch whose anchor it spent, when that is final. Raises
        Overpaid where it is more than is owed, and nobody has said that this is right."""
        tx, txid = ancestry.tx, suspect.txid
        vouched_by = await self._books.read(_vouched_by, txid)
        if lost is not None or vouched_by:
            await self._require_final(suspect, lost)
        found = self._found(ancestry, suspect, tuple(TxOutput(it.amount_sat, it.script) for it in items))
        lost_id = None if lost is None else lost.id
        try:
            batch_id = await self._books.write(recover, items, found, act, lost_id, vouched_by)
        except Overpaid:
            if lost is not None and beyond(tx.outputs, lost.payees) is not None:
                return await self._adopt(ancestry, suspect, lost, act)  # the whole batch is paid besides
            raise
        return f"{txid} paid {len(items)} tenants: these books did not know, it is batch {batch_id} now"

    async def _require_final(self, suspect: Suspect, lost: Batch | None) -> None:
        """What is booked against what the books say must not be reorganised out of the chain any more."""
        node = await self._nodes.first()
        fewest, _ = await self._nodes.confirmations(await node.block_hash(suspect.height))
        if fewest < FINAL_CONFIRMATIONS:
            why = "pays more than is known of"
            if lost is not None:
                why = f"spent the anchor of batch {lost.id} and pays others, or less"
            raise BatchError(f"it {why}: after {FINAL_CONFIRMATIONS} confirmations, it has {fewest}")

    async def _said(self, txid: str, act: Act, accept: Collection[str]) -> bool:
        """Whether two persons have looked at it, of whom this may be the second."""
        kind = ProposalKind.NO_PAYOUT
        return txid in accept and await self._books.write(agree, kind, txid, SAID, act)

    async def _question(self, ancestry: Ancestry, suspect: Suspect) -> str:
        """What persons have to know of it."""
        txid = suspect.txid
        said = await self._books.read(open_proposals, ProposalKind.NO_PAYOUT, txid)
        told = "spent coins of the payout wallet"
        if suspect.moved:
            told = "is a payout whose change went to somebody else"
        if suspect.moved and suspect.anchor == anchor_name(txid, None):
            fee = fee_sat(ancestry.tx, ancestry.inputs)
            told = f"is a payout that left no change: {fee} sat of it went to the network"
        strangers = [it for it in ancestry.tx.outputs if not self._wallet.is_own(it.script)]
        words = f"{txid} at height {suspect.height} {told}, and pays {_scripts(strangers)}"
        command = f"`angara payout reconcile --accept {txid}`"
        if said:
            return (
                f"{words}: {said[0].proposed_by} looked at it; somebody else has to as well, with {command}"
            )
        return f"{words}: if that is known and right, two persons say so, each with {command}"

    def _found(self, ancestry: Ancestry, suspect: Suspect, payees: Iterable[TxOutput]) -> Found:
        rest = beyond(ancestry.tx.outputs, payees) or ()
        return Found(
            tx=ancestry.tx,
            inputs=ancestry.inputs,
            made_at_height=suspect.height,
            change=change_among(rest, self._wallet.is_own),
        )


def _doubt(batch: Batch, attempt: Attempt) -> str:
    """What a person should know, and need not act upon."""
    return (
        f"batch {batch.id} is booked as paid by {attempt.txid}, which spends no coin of this wallet: where "
        f"it never was another one, two persons take that back, each with `angara payout disown {batch.id}`"
    )


def _gone(what: str) -> str:
    return f"{what} is not where it should be on the chain: run `angara payout reconcile`"


def _scripts(outputs: Iterable[TxOutput]) -> str:
    """Where it went: the largest amounts are enough for a person to know what it is."""
    largest = sorted(outputs, key=lambda it: -it.amount_sat)
    told = ", ".join(f"{it.amount_sat} sat to {it.script.hex()[:80]}" for it in largest[:OUTPUTS_TOLD_MAX])
    more = len(largest) - OUTPUTS_TOLD_MAX
    return f"{told} and {more} more" if more > 0 else told


def _vouched_by(connection: Connection, txid: str) -> str | None:
    """Which two persons looked at the transaction, or that one did when one was enough."""
    persons = agreed(connection, ProposalKind.NO_PAYOUT, txid)
    if persons is not None:
        return " and ".join(persons)
    return "somebody" if is_stranger(connection, txid) else None


def _batch_at(connection: Connection, anchor: str) -> Batch | None:
    """The batch under way that was to spend the coin."""
    for batch in batches_in(connection, *UNDER_WAY):
        if batch.anchor is not None and anchor_name(batch.anchor.txid, batch.anchor.vout) == anchor:
            return batch
    return None
