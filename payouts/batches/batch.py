"""A payout batch: one on-chain payment to many tenants, from the draft to its sixth confirmation.

    draft       balances are held ("in payout"), the outputs have a digest
    approved    a second person approved the digest and a fee cap
    psbt        a PSBT is stored with its txid; from `given` on a signer may have it
    signed      what came back was checked and is stored
    broadcast   it is, or is about to be, sent: the same bytes again and again
    confirmed   one of the batch's transactions is in the chain
    final       it has six confirmations: the hold is released, the network fee booked
    failed      the hold is released: no signer ever had it, or it cannot confirm any more

A batch is paid by attempts: the first transaction and its fee bumps, which replace each other. All spend
the anchor, input 0, and have the same payees, so at most one confirms and it does not matter which. The
anchor of a batch is the change of the batch before it: batches are one chain of coins, and a database
that forgot a payout (a backup) can only offer the network a transaction that conflicts with it.

Invariants: a step commits its intent before its side effect; a step that was done already, or cannot be
done from here, raises WrongStep and changes nothing. "Not in the memory pool" is never a failure. All is
done in the caller's transaction (`payout_steps`), which must be the only writer.

Must not know: nodes and wallets. Blocks and txids are hex as nodes write them.
"""

from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select

from payouts.batches.psbt import Expected, Spend
from payouts.batches.schema import (
    payout_approvals,
    payout_attempts,
    payout_batches,
    payout_inputs,
    payout_items,
    payout_strangers,
)
from payouts.batches.transaction import TxOutput, decode_transaction
from payouts.ledger import PoolAccount, Transfer, in_payout, payable
from payouts.persons import CHAIN, same_person
from payouts.schemas.money import tenants


class State(StrEnum):
    """Where a batch is."""

    DRAFT = "draft"
    APPROVED = "approved"
    PSBT = "psbt"
    SIGNED = "signed"
    BROADCAST = "broadcast"
    CONFIRMED = "confirmed"
    FINAL = "final"
    FAILED = "failed"


class AttemptState(StrEnum):
    """Where one transaction of a batch is."""

    PSBT = "psbt"
    GIVEN = "given"  # a signer may have it: it may appear on the chain whatever we do
    QUARANTINED = "quarantined"  # what came back is not what was given
    SIGNED = "signed"
    BROADCAST = "broadcast"
    REPLACED = "replaced"  # a later attempt was sent, or another is in the chain
    CONFIRMED = "confirmed"
    FINAL = "final"
    FAILED = "failed"


# What may follow what; None: not there yet. Every state may go to BROADCAST when its transaction is found
# on the chain although this database does not know that it was sent: it was restored from a backup.
MOVES: dict[State | None, frozenset[State]] = {
    None: frozenset({State.DRAFT, State.BROADCAST}),
    State.DRAFT: frozenset({State.APPROVED, State.FAILED, State.BROADCAST}),
    State.APPROVED: frozenset({State.PSBT, State.FAILED, State.BROADCAST}),
    State.PSBT: frozenset({State.SIGNED, State.FAILED, State.BROADCAST}),
    State.SIGNED: frozenset({State.BROADCAST, State.FAILED}),
    State.BROADCAST: frozenset({State.CONFIRMED, State.FAILED}),
    State.CONFIRMED: frozenset({State.FINAL, State.BROADCAST}),  # back: reorganised out
    State.FINAL: frozenset({State.BROADCAST}),
    State.FAILED: frozenset({State.BROADCAST}),
}
_A = AttemptState
ATTEMPT_MOVES: dict[AttemptState | None, frozenset[AttemptState]] = {
    None: frozenset({_A.PSBT, _A.BROADCAST}),
    _A.PSBT: frozenset({_A.GIVEN, _A.BROADCAST, _A.FAILED}),
    _A.GIVEN: frozenset({_A.QUARANTINED, _A.SIGNED, _A.BROADCAST, _A.FAILED}),
    _A.QUARANTINED: frozenset({_A.QUARANTINED, _A.SIGNED, _A.BROADCAST, _A.FAILED}),
    _A.SIGNED: frozenset({_A.BROADCAST, _A.FAILED}),
    _A.BROADCAST: frozenset({_A.REPLACED, _A.CONFIRMED, _A.FAILED}),
    _A.REPLACED: frozenset({_A.BROADCAST, _A.CONFIRMED, _A.FAILED}),
    _A.CONFIRMED: frozenset({_A.FINAL, _A.BROADCAST}),
    _A.FINAL: frozenset({_A.BROADCAST}),
    _A.FAILED: frozenset({_A.BROADCAST}),
}
FINAL_CONFIRMATIONS = 6
# As deep as consensus takes a block for final (coinbase maturity); a final batch is looked at until then.
WATCH_CONFIRMATIONS = 100
ATTEMPTS_MAX = 20  # each bump costs more than the last: twenty doublings are all money
# A transaction that nodes relay holds so many P2TR outputs and leaves 56,000 weight units for inputs.
PAYEES_MAX = 2000

# In these a transaction of the batch is being made or is on its way: only one batch at a time, because
# the next one spends its change.
UNDER_WAY = (State.PSBT, State.SIGNED, State.BROADCAST, State.CONFIRMED)
# In these an attempt was sent, as far as this database knows.
SENT = (AttemptState.BROADCAST, AttemptState.REPLACED, AttemptState.CONFIRMED, AttemptState.FINAL)
# In these a batch may still be called off: no signer ever had it.
UNGIVEN = (State.DRAFT, State.APPROVED, State.PSBT)


class BatchError(Exception):
    """A step that is not taken; the text says why, for the operator."""


class WrongStep(BatchError):
    """A step that cannot be taken in this state."""


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant's output; its position is the output's."""

    position: int
    tenant_id: int
    tenant: str
    address: str
    script: bytes
    amount_sat: int


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody's word for a digest and a fee cap."""

    digest: str
    fee_cap_sat: int
    approved_by: str
    approved_at_s: int


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction of a batch."""

    attempt: int
    state: AttemptState
    txid: str
    fee_sat: int
    change: TxOutput | None  # None: found on the chain, and nothing in it was left to us
    made_at_height: int
    psbt: bytes | None
    signed_tx: bytes | None
    quarantine_reason: str | None
    block_hash: str | None
    block_height: int | None
    inputs: tuple[Spend, ...]

    @property
    def anchor(self) -> Spend:
        """The coin that all attempts of the batch spend."""
        return self.inputs[0]

    @property
    def change_vout(self) -> int | None:
        """Which output of the signed transaction the change is: the last, or wherever a signer put it; None
        where there is none."""
        outputs = decode_transaction(self.signed_tx or b"").outputs
        return max((number for number, output in enumerate(outputs) if output == self.change), default=None)


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """All of a batch, attempts from the first to the newest."""

    id: int
    state: State
    digest: str
    created_by: str
    created_at_s: int
    items: tuple[Item, ...]
    approvals: tuple[Approval, ...]
    attempts: tuple[Attempt, ...]

    @property
    def anchor(self) -> Spend | None:
        """The coin that decides what becomes of the batch: that of the first attempt that somebody may have;
        where nobody has one, of the newest."""
        alive = [it for it in self.attempts if it.state is not AttemptState.FAILED]
        given = [it for it in alive if it.state is not AttemptState.PSBT]
        first = next(iter(given or alive or self.attempts), None)
        return None if first is None else first.anchor

    @property
    def total_sat(self) -> int:
        """What the payees get."""
        return sum(item.amount_sat for item in self.items)

    @property
    def fee_cap_sat(self) -> int:
        """What the newest approval of these outputs by somebody else allows; 0 where there is none."""
        caps = [
            it.fee_cap_sat
            for it in self.approvals
            if it.digest == self.digest and not same_person(it.approved_by, self.created_by)
        ]
        return caps[-1] if caps else 0

    @property
    def payees(self) -> tuple[TxOutput, ...]:
        """The outputs that every attempt has, in their order."""
        return tuple(TxOutput(item.amount_sat, item.script) for item in self.items)

    def attempt(self, number: int) -> Attempt:
        """Raises WrongStep where there is none."""
        for it in self.attempts:
            if it.attempt == number:
                return it
        raise WrongStep(f"batch {self.id} has no attempt {number}")

    def expected(self, attempt: Attempt) -> Expected:
        """What that attempt's transaction has to be."""
        if attempt.change is None:
            raise WrongStep(f"attempt {attempt.attempt} was found on the chain: there is nothing to sign")
        return Expected(
            inputs=attempt.inputs,
            payees=self.payees,
            change=attempt.change,
            txid=attempt.txid,
            fee_cap_sat=self.fee_cap_sat,
        )


def hold(items: tuple[Item, ...]) -> tuple[Transfer, ...]:
    """What is payable is on its way."""
    return tuple(Transfer(payable(it.tenant_id), in_payout(it.tenant_id), it.amount_sat) for it in items)


def release(items: tuple[Item, ...]) -> tuple[Transfer, ...]:
    """It is payable again."""
    return backwards(hold(items))


def payment(items: tuple[Item, ...], fee_sat: int) -> tuple[Transfer, ...]:
    """It has arrived, and the network was paid for that."""
    coins, fees = PoolAccount.COINS.value, PoolAccount.NODE_FEES.value
    arrived = tuple(Transfer(in_payout(it.tenant_id), coins, it.amount_sat) for it in items)
    return (*arrived, Transfer(fees, coins, fee_sat)) if fee_sat else arrived


def backwards(transfers: tuple[Transfer, ...]) -> tuple[Transfer, ...]:
    """The same amounts the other way."""
    return tuple(Transfer(it.to_account, it.from_account, it.amount_sat) for it in transfers)


def load(connection: Connection, batch_id: int) -> Batch:
    """Raises BatchError where there is no such batch."""
    row = connection.execute(select(payout_batches).where(payout_batches.c.id == batch_id)).one_or_none()
    if row is None:
        raise BatchError(f"there is no batch {batch_id}")
    items = connection.execute(
        select(payout_items, tenants.c.name.label("tenant"))
        .join(tenants, tenants.c.id == payout_items.c.tenant_id)
        .where(payout_items.c.batch_id == batch_id)
        .order_by(payout_items.c.position)
    )
    approvals = connection.execute(
        select(payout_approvals)
        .where(payout_approvals.c.batch_id == batch_id)
        .order_by(payout_approvals.c.id)
    )
    return Batch(
        id=row.id,
        state=State(row.state),
        digest=row.digest,
        created_by=row.created_by,
        created_at_s=row.created_at_s,
        items=tuple(_item(it) for it in items),
        approvals=tuple(_approval(it) for it in approvals),
        attempts=_attempts(connection, batch_id),
    )


def numbers_in(connection: Connection, *states: State) -> tuple[int, ...]:
    """The numbers of the batches in any of the states, of all where none is named; oldest first."""
    query = select(payout_batches.c.id).order_by(payout_batches.c.id)
    if states:
        query = query.where(payout_batches.c.state.in_([state.value for state in states]))
    return tuple(connection.scalars(query))


def batches_in(connection: Connection, *states: State) -> tuple[Batch, ...]:
    """Those batches."""
    return tuple(load(connection, number) for number in numbers_in(connection, *states))


def recently_final(connection: Connection, above_height: int) -> tuple[int, ...]:
    """The final batches in blocks above a height: a reorganisation could still reach them."""
    query = (
        select(payout_attempts.c.batch_id)
        .where(
            payout_attempts.c.state == AttemptState.FINAL.value,
            payout_attempts.c.block_height > above_height,
        )
        .order_by(payout_attempts.c.batch_id)
    )
    return tuple(connection.scalars(query))


def batch_of(connection: Connection, txid: str) -> tuple[Batch, Attempt] | None:
    """The batch that the transaction is an attempt of, if we know it."""
    row = connection.execute(
        select(payout_attempts.c.batch_id, payout_attempts.c.attempt).where(payout_attempts.c.txid == txid)
    ).one_or_none()
    if row is None:
        return None
    batch = load(connection, row.batch_id)
    return batch, batch.attempt(row.attempt)


def known_transactions(connection: Connection) -> frozenset[str]:
    """The txids that need no explanation: what was sent, and what is no payout."""
    sent = select(payout_attempts.c.txid).where(payout_attempts.c.state.in_([it.value for it in SENT]))
    return frozenset(connection.scalars(sent)) | frozenset(
        connection.scalars(select(payout_strangers.c.txid))
    )


def from_outside(connection: Connection) -> frozenset[str]:
    """The transactions that paid us and spent no coin of ours."""
    query = select(payout_strangers.c.txid).where(
        payout_strangers.c.accepted_by == CHAIN, payout_strangers.c.anchor == ""
    )
    return frozenset(connection.scalars(query))


def is_stranger(connection: Connection, txid: str, anchor: str | None = None) -> bool:
    """Whether the transaction is known to be no payout, and, where one is named, to have spent the anchor."""
    query = select(payout_strangers.c.txid).where(payout_strangers.c.txid == txid)
    if anchor is not None:
        query = query.where(payout_strangers.c.anchor == anchor)
    return connection.scalar(query.limit(1)) is not None


def next_anchor(connection: Connection) -> tuple[Attempt, int | None] | None:
    """The newest final payout and its output that the next batch has to spend: its change, where it has any.

    None before the first, and where something that is no payout has spent it, or two persons know that there
    is none: the next batch starts anew.
    """
    txid = connection.scalar(
        select(payout_attempts.c.txid)
        .where(payout_attempts.c.state == AttemptState.FINAL.value)
        .order_by(payout_attempts.c.block_height.desc())
        .limit(1)
    )
    found = None if txid is None else batch_of(connection, txid)
    if found is None:
        return None
    _, attempt = found
    vout = attempt.change_vout
    gone = select(payout_strangers.c.txid).where(payout_strangers.c.anchor == anchor_name(attempt.txid, vout))
    return None if connection.scalar(gone.limit(1)) is not None else (attempt, vout)


def anchor_name(txid: str, vout: int | None) -> str:
    """A coin as it is written down; None is the one that a payout did not leave."""
    return f"{txid}:{'none' if vout is None else vout}"


def _attempts(connection: Connection, batch_id: int) -> tuple[Attempt, ...]:
    spends: dict[int, list[Spend]] = {}
    for row in connection.execute(
        select(payout_inputs).where(payout_inputs.c.batch_id == batch_id).order_by(payout_inputs.c.position)
    ):
        spend = Spend(row.txid, row.vout, row.amount_sat, bytes.fromhex(row.script))
        spends.setdefault(row.attempt, []).append(spend)
    rows = connection.execute(
        select(payout_attempts)
        .where(payout_attempts.c.batch_id == batch_id)
        .order_by(payout_attempts.c.attempt)
    )
    return tuple(
        Attempt(
            attempt=row.attempt,
            state=AttemptState(row.state),
            txid=row.txid,
            fee_sat=row.fee_sat,
            change=None
            if row.change_sat is None
            else TxOutput(row.change_sat, bytes.fromhex(row.change_script)),
            made_at_height=row.made_at_height,
            psbt=row.psbt,
            signed_tx=row.signed_tx,
            quarantine_reason=row.quarantine_reason,
            block_hash=row.block_hash,
            block_height=row.block_height,
            inputs=tuple(spends[row.attempt]),
        )
        for row in rows
    )


def _item(row: Row[Any]) -> Item:
    return Item(
        position=row.position,
        tenant_id=row.tenant_id,
        tenant=row.tenant,
        address=row.address,
        script=bytes.fromhex(row.script),
        amount_sat=row.amount_sat,
    )


def _approval(row: Row[Any]) -> Approval:
    return Approval(
        digest=row.digest,
        fee_cap_sat=row.fee_cap_sat,
        approved_by=row.approved_by,
        approved_at_s=row.approved_at_s,
    )
