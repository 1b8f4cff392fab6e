"""Following payouts on the chain: what is sent is sent again, until it is six blocks deep.

For every batch that a signer may have, the question is what became of its anchor:

    unspent            send the stored bytes again (broadcast); wait (psbt, signed)
    spent by us        confirmed, and final with the sixth confirmation
    spent to ourselves failed with the sixth confirmation: no attempt can confirm any more
    spent otherwise    nothing is done: `angara payout reconcile`; likewise where it pays any of the payees
    gone               its own transaction was reorganised out: wait, send again

A block that is in no node's chain any more puts its batch back to broadcast.

Invariants: what cannot be taken back needs the agreement of all nodes that answer; a pass may be cut off
anywhere and done again; what is wrong with one batch keeps no other from its turn.
Must not know: how a transaction is made.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import structlog
import trio
from sqlalchemy.exc import SQLAlchemyError

from payouts.batches.batch import (
    FINAL_CONFIRMATIONS,
    SENT,
    UNDER_WAY,
    WATCH_CONFIRMATIONS,
    Attempt,
    AttemptState,
    Batch,
    BatchError,
    State,
    batch_of,
    is_stranger,
    load,
    numbers_in,
    recently_final,
)
from payouts.batches.found import lose
from payouts.batches.psbt import Quarantined
from payouts.batches.rows import Act
from payouts.batches.steps import confirm, finish, reorganise
from payouts.persons import CHAIN
from pool.chain.rpc import NodeError
from pool.treasury.books import PayoutBooks
from pool.treasury.chain_node import Answer, ChainNode, PayoutNodes, Sending, Spent
from pool.treasury.wallet import PayoutWallet

log = structlog.get_logger()

PASS_EVERY_S: Final = 30.0  # blocks take ten minutes, memory pools lose transactions in hours


# What can be wrong with one batch: its rows (unreadable ones are ValueErrors, a LedgerError is one, and
# LookupErrors), its steps, the database or the node while it has its turn.
TROUBLE: Final = (NodeError, BatchError, Quarantined, SQLAlchemyError, ValueError, LookupError)


class Survey(msgspec.Struct, frozen=True):
    """What a pass found: news of batches, and by batch what was in the way."""

    news: tuple[tuple[int, str], ...]
    trouble: dict[int, Exception]

    @property
    def news_words(self) -> tuple[str, ...]:
        """What is new."""
        return tuple(words for _, words in self.news)

    @property
    def trouble_words(self) -> tuple[str, ...]:
        """What was in the way."""
        return tuple(f"batch {number} cannot be followed: {error}" for number, error in self.trouble.items())


class Follower:
    """Looks at every batch under way; `run` for ever, `survey` once."""

    def __init__(self, books: PayoutBooks, nodes: PayoutNodes, wallet: PayoutWallet) -> None:
        self._books = books
        self._nodes = nodes
        self._wallet = wallet

    async def run(self) -> None:
        """A pass every PASS_EVERY_S until cancelled. What is in the way is logged once, and its end: of all
        batches (None: no node can be asked, or the database), and of each."""
        before: dict[int | None, Exception] = {}
        while True:
            trouble: dict[int | None, Exception] = {}
            try:
                for number, wrong in (await self.survey()).trouble.items():
                    trouble[number] = wrong
            except TROUBLE as error:
                trouble[None] = error
            for whose, wrong in trouble.items():
                if type(before.get(whose)) is not type(wrong):
                    log.error("payouts_not_followed", batch=whose, reason=str(wrong))
            for whose in before.keys() - trouble.keys():
                log.info("payouts_followed_again", batch=whose)
            before = trouble
            await trio.sleep(PASS_EVERY_S)

    async def advance(self) -> tuple[str, ...]:
        """One pass over all batches under way: what is new of them, in words. Raises what was first in the
        way of one, when all others have had their turn."""
        survey = await self.survey()
        for error in survey.trouble.values():
            raise error
        return survey.news_words

    async def survey(self) -> Survey:
        """One pass over all batches under way. Raises NodeError where no node can be asked."""
        node = await self._nodes.first()
        news: list[tuple[int, str]] = []
        trouble: dict[int, Exception] = {}

        async def have(number: int, turn: Callable[[Batch], Awaitable[list[str]]]) -> None:
            try:
                words = await turn(await self._books.read(load, number))
                news.extend((number, it) for it in words)
            except TROUBLE as error:
                trouble[number] = error

        for number in await self._books.read(recently_final, node.height - WATCH_CONFIRMATIONS):
            await have(number, lambda batch: self._check_depth(node, batch))
        for number in await self._books.read(numbers_in, *UNDER_WAY):
            await have(number, lambda batch: self._advance(node, batch))
        return Survey(tuple(news), trouble)

    async def send(self, batch: Batch) -> tuple[Sending, ...]:
        """Send what is signed to every node, the newest first; an older one where that is refused."""
        answers: tuple[Sending, ...] = ()
        signed = [it for it in batch.attempts if it.state in SENT and it.signed_tx is not None]
        for it in sorted(signed, key=lambda it: (it.state is not AttemptState.BROADCAST, -it.attempt)):
            answers = await self._nodes.send(it.signed_tx or b"")
            log.info(
                "payout_sent",
                batch=batch.id,
                txid=it.txid,
                answers={answer.node: f"{answer.answer} {answer.words}".strip() for answer in answers},
            )
            if any(answer.answer is not Answer.REFUSED for answer in answers):
                break
        return answers

    async def _advance(self, node: ChainNode, batch: Batch) -> list[str]:
        if batch.state is State.CONFIRMED:
            return await self._check_depth(node, batch)
        if batch.state not in UNDER_WAY:  # another process was faster
            return []
        anchor = batch.anchor
        if anchor is None:
            raise BatchError(f"batch {batch.id} is {batch.state} and has no transaction")
        if await node.unspent(anchor.txid, anchor.vout):
            await self._send_again(batch)
            return []
        spent = await node.spender(anchor.txid, anchor.vout, search_from(batch))
        if spent is None:
            log.warning("payout_anchor_gone", batch=batch.id, anchor=f"{anchor.txid}:{anchor.vout}")
            await self._send_again(batch)
            return []
        ours = await self._books.read(batch_of, spent.tx.txid)
        if ours is None:
            return await self._check_conflict(batch, spent)
        owner, attempt = ours
        if owner.id != batch.id or batch.state is not State.BROADCAST or attempt.state not in SENT:
            return self._ask(batch, spent)
        return await self._confirm(node, batch, attempt, spent)

    async def _send_again(self, batch: Batch) -> None:
        if batch.state is State.BROADCAST:
            await self.send(batch)

    async def _confirm(self, node: ChainNode, batch: Batch, attempt: Attempt, spent: Spent) -> list[str]:
        now_s, block_hash = self._books.now_s(), spent.block_hash
        await self._books.write(confirm, batch.id, attempt.attempt, block_hash, spent.height, now_s)
        log.info("payout_confirmed", batch=batch.id, txid=attempt.txid, height=spent.height)
        news = [f"batch {batch.id} is in the chain: {attempt.txid} at height {spent.height}"]
        return news + await self._check_depth(node, await self._books.read(load, batch.id))

    async def _check_depth(self, node: ChainNode, batch: Batch) -> list[str]:
        """A confirmed or final batch: how deep its block is. A node that is behind that block knows nothing
        of it, and nothing is taken back by its word."""
        attempt = next((it for it in batch.attempts if it.block_hash is not None), None)
        if attempt is None:  # another process was faster
            return []
        if (attempt.block_height or 0) > node.height:
            return []
        block_hash = attempt.block_hash or ""
        fewest, most = await self._nodes.confirmations(block_hash)
        now_s = self._books.now_s()
        if most == 0:
            await self._books.write(reorganise, batch.id, block_hash, now_s)
            log.warning("payout_reorganised", batch=batch.id, txid=attempt.txid, block=block_hash)
            await self.send(await self._books.read(load, batch.id))
            return [f"batch {batch.id} was reorganised out of the chain, and sent again"]
        if batch.state is State.CONFIRMED and fewest >= FINAL_CONFIRMATIONS:
            await self._books.write(finish, batch.id, block_hash, now_s)
            log.info("payout_final", batch=batch.id, txid=attempt.txid, fee_sat=attempt.fee_sat)
            return [f"batch {batch.id} is final: {attempt.txid}"]
        return []

    async def _check_conflict(self, batch: Batch, spent: Spent) -> list[str]:
        """Something that is not ours, or that we forgot, spent the anchor."""
        txid = spent.tx.txid
        to_ourselves = all(self._wallet.is_own(output.script) for output in spent.tx.outputs)
        scripts = {item.script for item in batch.items}
        pays = any(output.script in scripts for output in spent.tx.outputs)
        if pays or (not to_ourselves and not await self._books.read(is_stranger, txid)):
            return self._ask(batch, spent)
        fewest, _ = await self._nodes.confirmations(spent.block_hash)
        if fewest < FINAL_CONFIRMATIONS:
            return [f"batch {batch.id}: its anchor is spent by {txid}, {fewest} confirmations"]
        await self._books.write(lose, batch.id, spent.tx, Act(CHAIN, self._books.now_s()))
        log.warning("payout_failed", batch=batch.id, conflict=txid)
        return [f"batch {batch.id} has failed: its anchor is spent by {txid}, its balances are payable again"]

    def _ask(self, batch: Batch, spent: Spent) -> list[str]:
        log.error("payout_not_reconciled", batch=batch.id, txid=spent.tx.txid, height=spent.height)
        return [f"batch {batch.id}: {spent.tx.txid} spent its anchor: run `angara payout reconcile`"]


def search_from(batch: Batch) -> int:
    """The lowest block that can hold a spend of a batch's anchor: a reorganisation may have moved it down."""
    return min(it.made_at_height for it in batch.attempts) - WATCH_CONFIRMATIONS
