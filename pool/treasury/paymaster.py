"""The paymaster: what a person does with a payout batch, from the draft to the signed transaction's sending.

Every command reads the books, asks the nodes, and then writes one step; the step looks at the state again.
A command that was killed, or whose answer was lost, is given again: it finds what it had done.

Invariants: nothing is drafted, given to a signer, taken from one or sent before the books are reconciled
with the chain; what is sent is what is stored. What is approved, given to a signer and taken from one pays
the addresses that persons see, and ourselves, whoever has written to the database. Keys are never here.

Must not know: how a person typed it.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
import structlog
import trio

from payouts.batches.batch import (
    UNDER_WAY,
    Attempt,
    AttemptState,
    Batch,
    BatchError,
    State,
    WrongStep,
    batches_in,
    from_outside,
    load,
    next_anchor,
)
from payouts.batches.found import disown
from payouts.batches.plan import Plan, ScriptOf, plan
from payouts.batches.psbt import (
    Flaw,
    Psbt,
    Quarantined,
    Spend,
    check_psbt,
    check_signed,
    decode_psbt,
    read_signed,
)
from payouts.batches.rows import Act
from payouts.batches.steps import (
    approve,
    attempt,
    cancel,
    draft,
    give,
    quarantine,
    replace_signature,
    send,
    sign,
)
from payouts.batches.transaction import WITNESS_SCALE, BadTransaction, Tx, TxOutput, decode_transaction
from pool.treasury.books import PayoutBooks
from pool.treasury.chain_node import ChainNode, Coin, PayoutNodes, Sending, is_for_good
from pool.treasury.coins import Choice, TooFewCoins, choose, oldest, spendable
from pool.treasury.follower import Follower
from pool.treasury.reconciler import Reconciler
from pool.treasury.reserves import Reserves
from pool.treasury.settings import FEE_RATE_SAT_VB_MAX, PayoutSettings
from pool.treasury.suspects import NotReconciled
from pool.treasury.wallet import PayoutWallet, finalise

log = structlog.get_logger()

SAT_KVB: Final = 1_000  # sat per kvB in one sat/vB


class Export(msgspec.Struct, frozen=True):
    """A PSBT for the signer."""

    attempt: int
    txid: str
    fee_sat: int
    psbt: bytes


class Import(msgspec.Struct, frozen=True):
    """What came back and is stored. `warning`: why the node would not take it now, where it would not."""

    attempt: int
    txid: str
    fresh: bool
    warning: str | None
    replaced: bool = False  # another signature was there, which no node will ever take


class Paymaster:
    """The commands on payout batches."""

    def __init__(
        self,
        books: PayoutBooks,
        nodes: PayoutNodes,
        wallet: PayoutWallet,
        settings: PayoutSettings,
        script_of: ScriptOf,
    ) -> None:
        self._books = books
        self._nodes = nodes
        self._wallet = wallet
        self._settings = settings
        self._script_of = wallet.script_of_others(script_of)
        self.follower = Follower(books, nodes, wallet)
        self.reconciler = Reconciler(books, nodes, wallet, self.follower, self._script_of)
        self.reserves = Reserves(books, nodes, wallet)

    async def preview(self) -> Plan:
        """The batch that could be drafted now."""
        return await self._books.read(plan, self._books.now_s(), self._script_of, self._settings.minimum_sat)

    async def create(self, by: str) -> Batch:
        """Draft a batch of what is payable: the balances are held."""
        await self.reconciler.require(await self._nodes.first())
        planned = await self.preview()
        batch_id = await self._books.write(draft, planned, self._books.act(by))
        log.info("payout_drafted", batch=batch_id, payees=len(planned.items), total_sat=planned.total_sat)
        return await self._books.read(load, batch_id)

    async def approve(self, batch_id: int, digest: str, fee_cap_sat: int, by: str) -> Batch:
        """A second person's word."""
        await self._check(await self._books.read(load, batch_id))
        act = self._books.act(by)
        if await self._books.write(approve, batch_id, digest, fee_cap_sat, act):
            log.info("payout_approved", batch=batch_id, by=by, fee_cap_sat=fee_cap_sat)
        return await self._books.read(load, batch_id)

    async def cancel(self, batch_id: int, by: str) -> Batch:
        """Call off a batch that no signer ever had."""
        await self._books.write(cancel, batch_id, self._books.act(by))
        log.info("payout_cancelled", batch=batch_id, by=by)
        return await self._books.read(load, batch_id)

    async def disown(self, batch_id: int, by: str) -> Batch | None:
        """One person's word that what these books took for the batch's payment spends no coin of ours: what
        becomes of the batch with the second person's, None with the first's."""
        done = await self._books.write(disown, batch_id, self._wallet.is_own, self._books.act(by))
        log.warning("payout_disowned", batch=batch_id, by=by, done=done)
        return await self._books.read(load, batch_id) if done else None

    async def export(self, batch_id: int, by: str, fee_rate_sat_vb: int | None = None) -> Export:
        """The newest PSBT of the batch, made first where there is none; a signer has it from now on."""
        node = await self._nodes.first()
        await self.reconciler.require(node)
        batch = await self._books.read(load, batch_id)
        if batch.state is State.APPROVED:
            newest = _newest(await self._make_first(node, batch, by, fee_rate_sat_vb))
        else:
            newest = _newest(batch)
            if fee_rate_sat_vb is not None:
                newest = await self._at_rate(node, batch, newest, by, fee_rate_sat_vb)
        await self._check(batch, newest)
        try:
            check_psbt(decode_psbt(newest.psbt or b""), batch.expected(newest))
        except (BadTransaction, Quarantined) as wrong:
            raise BatchError(
                f"attempt {newest.attempt} at batch {batch_id} is not to be signed: {wrong}"
            ) from None
        psbt = await self._books.write(give, batch_id, newest.attempt, self._books.act(by))
        log.info("payout_given", batch=batch_id, attempt=newest.attempt, txid=newest.txid, by=by)
        return Export(newest.attempt, newest.txid, newest.fee_sat, psbt)

    async def bump(self, batch_id: int, by: str, fee_rate_sat_vb: int | None = None) -> Attempt:
        """Make a transaction that replaces the last one and pays more: to be exported, signed and sent. One
        that was made before and given to nobody yet is it, where it has the rate that is asked for."""
        node = await self._nodes.first()
        await self.reconciler.require(node)
        batch = await self._books.read(load, batch_id)
        newest = _newest(batch)
        if batch.state not in UNDER_WAY or batch.state is State.CONFIRMED:
            raise WrongStep(f"batch {batch_id} is {batch.state}: there is no fee to bump")
        if newest.state is AttemptState.PSBT and fee_rate_sat_vb is None:
            return newest
        return await self._make_again(node, batch, newest, by, fee_rate_sat_vb)

    async def _at_rate(
        self, node: ChainNode, batch: Batch, newest: Attempt, by: str, fee_rate_sat_vb: int
    ) -> Attempt:
        """The newest attempt, where it has that rate, or one in place of it, where no signer has it."""
        if newest.state is AttemptState.PSBT:
            return await self._make_again(node, batch, newest, by, fee_rate_sat_vb)
        outputs = batch.expected(newest).outputs
        rate = await self._rate_sat_kvb(node, fee_rate_sat_vb)
        if newest.fee_sat != self._wallet.shape.fee_sat(len(newest.inputs), outputs, rate):
            raise WrongStep(
                f"a signer has attempt {newest.attempt}, which pays {newest.fee_sat} sat: "
                f"`angara payout bump {batch.id} --fee-rate {fee_rate_sat_vb}` makes another"
            )
        return newest

    async def _make_again(
        self, node: ChainNode, batch: Batch, newest: Attempt, by: str, fee_rate_sat_vb: int | None
    ) -> Attempt:
        """The payout at another rate: of the coins of the newest attempt, and more where it takes more."""
        rate = await self._rate_sat_kvb(node, fee_rate_sat_vb)
        sources = await trio.to_thread.run_sync(self._wallet.sources, newest.psbt or b"")
        asked = fee_rate_sat_vb is not None
        try:
            choice = self._choose(batch, newest.inputs, (), rate, asked=asked)
        except TooFewCoins:  # the change does not cover it: more coins must
            coins = spendable(await node.coins(self._wallet.scan_objects))
            choice = self._choose(batch, newest.inputs, coins, rate, asked=asked)
            heights = {(it.txid, it.vout): it.height for it in coins}
            for spend in choice.inputs[len(newest.inputs) :]:
                sources[spend.txid] = await node.transaction(spend.txid, heights[spend.txid, spend.vout])
        if newest.state is AttemptState.PSBT and newest.fee_sat == choice.fee_sat:
            return newest  # the same was made before
        return await self._store(node, batch, choice, sources, by)

    async def receive(self, batch_id: int, data: bytes, by: str) -> Import:
        """What the signer returned: checked, and stored or quarantined. Raises Quarantined."""
        node = await self._nodes.first()
        await self.reconciler.require(node)
        batch = await self._books.read(load, batch_id)
        newest = _newest(batch)
        act = self._books.act(by)
        try:
            signed = read_signed(data)
            it = _attempt_of(batch, signed, newest)
        except Quarantined as wrong:
            await self._quarantine(batch, newest, wrong, act)
            raise
        await self._check(batch, it)
        try:
            raw = await trio.to_thread.run_sync(_checked, batch, it, signed)
            warning = await node.refusal(raw)
            if warning is not None and is_for_good(warning):
                raise Quarantined(Flaw.WITNESS, warning)
        except Quarantined as wrong:
            await self._quarantine(batch, it, wrong, act)
            raise
        fresh = await self._books.write(sign, batch_id, it.attempt, raw, act)
        replaced = not fresh and await self._replace(node, batch, it, raw, act)
        log.info(
            "payout_signed",
            batch=batch_id,
            attempt=it.attempt,
            txid=it.txid,
            warning=warning,
            replaced=replaced,
        )
        return Import(it.attempt, it.txid, fresh, warning, replaced)

    async def _replace(self, node: ChainNode, batch: Batch, it: Attempt, raw: bytes, act: Act) -> bool:
        """Take other signatures than are stored, where those can never be sent: the same payment, so that
        whichever a miner may have, it is made once."""
        if it.signed_tx is None or it.signed_tx == raw:
            return False
        refusal = await node.refusal(it.signed_tx)
        if refusal is None or not is_for_good(refusal):
            return False
        return await self._books.write(replace_signature, batch.id, it.attempt, raw, refusal, act)

    async def broadcast(self, batch_id: int, by: str) -> tuple[Sending, ...]:
        """Send the newest signed transaction to every node; again, where that was done before."""
        await self.reconciler.require(await self._nodes.first())
        batch = await self._books.read(load, batch_id)
        signed = [it for it in batch.attempts if it.signed_tx is not None]
        if not signed:
            raise WrongStep(f"batch {batch_id} is {batch.state}: nothing is signed yet")
        await self._books.write(send, batch_id, signed[-1].attempt, self._books.act(by))
        return await self.follower.send(await self._books.read(load, batch_id))

    async def under_way(self) -> bool:
        """Whether any batch is on its way to the chain."""
        return bool(await self._books.read(batches_in, *UNDER_WAY))

    async def _check(self, batch: Batch, it: Attempt | None = None) -> None:
        """That each output is to the address that persons see beside it, and what is left over to ourselves:
        a digest is of both, and who may write to the database writes a digest. Raises BatchError."""

        def wrong() -> str | None:
            for item in batch.items:
                try:
                    right = self._script_of(item.address) == item.script
                except ValueError:
                    right = False
                if not right:
                    return f"output {item.position} of batch {batch.id} does not pay {item.address}"
            if it is not None and it.change is not None and not self._wallet.is_own(it.change.script):
                return (
                    f"the change of attempt {it.attempt} at batch {batch.id} is not to this wallet (are its"
                    " descriptors other ones now?)"
                )
            return None

        if reason := await trio.to_thread.run_sync(wrong):
            raise BatchError(f"{reason}: somebody has written to the database. Sign and send nothing of it")

    async def _make_first(self, node: ChainNode, batch: Batch, by: str, fee_rate_sat_vb: int | None) -> Batch:
        """Choose coins and store the first PSBT of an approved batch."""
        for other in await self._books.read(batches_in, *UNDER_WAY):
            raise WrongStep(
                f"batch {other.id} is {other.state}: batch {batch.id} spends its change, and waits"
            )
        rate = await self._rate_sat_kvb(node, fee_rate_sat_vb)
        found = await node.coins(self._wallet.scan_objects)
        await self.reconciler.require_known_change(node, found)
        coins = spendable(found)
        anchor = await self._anchor(coins)
        first = Spend(anchor.txid, anchor.vout, anchor.amount_sat, anchor.script)
        choice = self._choose(batch, (first,), coins, rate, asked=False)
        heights = {(it.txid, it.vout): it.height for it in coins}
        sources = {}
        for spend in choice.inputs:
            sources[spend.txid] = await node.transaction(spend.txid, heights[spend.txid, spend.vout])
        await self._store(node, batch, choice, sources, by)
        return await self._books.read(load, batch.id)

    async def _anchor(self, coins: Sequence[Coin]) -> Coin:
        """The change of the last payout, or where there is none the oldest coin, which nobody else chose."""
        tip = await self._books.read(next_anchor)
        if tip is None:
            outside = await self._books.read(from_outside)
            return oldest(
                [it for it in coins if it.txid not in outside or not self._wallet.is_change(it.script)]
            )
        paid, vout = tip
        for coin in coins:
            if (coin.txid, coin.vout) == (paid.txid, vout):
                return coin
        raise NotReconciled(
            f"the next payout spends the change of the last one, {paid.txid}:{vout}, which is not among the "
            "coins that the node finds. Was it moved? Run `angara payout reconcile`. Are the descriptors "
            "other ones now? Move the old wallet's coins to the new one first"
        )

    def _choose(
        self, batch: Batch, must: Sequence[Spend], may: Sequence[Coin], rate_sat_kvb: int, *, asked: bool
    ) -> Choice:
        """At that rate; at more where it replaces what somebody has, unless a person asked for the rate."""
        given = [it for it in batch.attempts if it.state not in (AttemptState.PSBT, AttemptState.FAILED)]
        replaced = max((it.fee_sat for it in given), default=None)
        change, shape = self._wallet.change_script(batch.id), self._wallet.shape
        choice = choose(must, may, batch.payees, change, shape, rate_sat_kvb, replaced)
        outputs = [*batch.payees, choice.change]
        own_sat = shape.fee_sat(len(choice.inputs), outputs, rate_sat_kvb)
        if asked and choice.fee_sat > own_sat:
            weight = shape.weight(len(choice.inputs), outputs)
            least = (choice.fee_sat - 1) * WITNESS_SCALE // weight + 1
            raise BatchError(
                f"at that rate the fee would be {own_sat} sat; to replace one of {replaced} sat it takes "
                f"{choice.fee_sat} sat: at least {least} sat/vB"
            )
        return choice

    async def _store(
        self, node: ChainNode, batch: Batch, choice: Choice, sources: dict[str, Tx], by: str
    ) -> Attempt:
        if choice.fee_sat > batch.fee_cap_sat:
            raise BatchError(
                f"the fee would be {choice.fee_sat} sat, {batch.fee_cap_sat} sat are approved: "
                "approve a higher cap, or use a lower rate"
            )
        for spend in choice.inputs:
            _check_source(spend, sources)
        psbt = await trio.to_thread.run_sync(
            self._wallet.build, choice.inputs, sources, (*batch.payees, choice.change)
        )
        act = self._books.act(by)
        made = await self._books.write(
            attempt, batch.id, psbt, choice.inputs, choice.change, node.height, act
        )
        log.info(
            "payout_psbt_made", batch=batch.id, attempt=made.attempt, txid=made.txid, fee_sat=made.fee_sat
        )
        return made

    async def _rate_sat_kvb(self, node: ChainNode, asked_sat_vb: int | None) -> int:
        """What was asked for, else the settings, else the node's estimate."""
        if asked_sat_vb is not None and not 1 <= asked_sat_vb <= FEE_RATE_SAT_VB_MAX:
            raise BatchError(f"a fee rate is 1 to {FEE_RATE_SAT_VB_MAX} sat/vB")
        wanted = asked_sat_vb or self._settings.fee_rate_sat_vb
        if wanted is not None:
            return wanted * SAT_KVB
        estimate = await node.fee_rate_sat_kvb()
        if estimate is None:
            raise BatchError(
                "the node cannot estimate a fee rate: give one, --fee-rate or payouts.fee_rate_sat_vb"
            )
        return min(max(estimate, SAT_KVB), FEE_RATE_SAT_VB_MAX * SAT_KVB)

    async def _quarantine(self, batch: Batch, it: Attempt, wrong: Quarantined, act: Act) -> None:
        log.error("payout_quarantined", batch=batch.id, attempt=it.attempt, reason=str(wrong))
        await self._books.write(quarantine, batch.id, it.attempt, str(wrong), act)


def _newest(batch: Batch) -> Attempt:
    """The newest attempt that a signer can be given."""
    made = [it for it in batch.attempts if it.psbt is not None]
    if not made:
        raise WrongStep(f"batch {batch.id} is {batch.state}: there is no PSBT")
    return made[-1]


def _attempt_of(batch: Batch, signed: Psbt | Tx, newest: Attempt) -> Attempt:
    """The attempt that came back: its txid says which; something else is held against the newest."""
    txid = signed.tx.txid if isinstance(signed, Psbt) else signed.txid
    return next((it for it in batch.attempts if it.psbt is not None and it.txid == txid), newest)


def _checked(batch: Batch, it: Attempt, signed: Psbt | Tx) -> bytes:
    """The bytes to send of what came back. Raises Quarantined."""
    expected = batch.expected(it)
    if isinstance(signed, Tx):
        check_signed(signed, expected)
        return signed.raw
    check_psbt(signed, expected)
    raw = finalise(it.psbt or b"", signed.raw)
    try:
        check_signed(decode_transaction(raw), expected)
    except BadTransaction as error:
        raise Quarantined(Flaw.FORMAT, str(error)) from None
    return raw


def _check_source(spend: Spend, sources: dict[str, Tx]) -> None:
    """A coin is what the transaction says that made it, whatever the scan said."""
    outputs = sources[spend.txid].outputs
    if spend.vout >= len(outputs) or outputs[spend.vout] != TxOutput(spend.amount_sat, spend.script):
        raise BatchError(f"the node says different things about the coin {spend.txid}:{spend.vout}")
