"""What the chain says of payouts, as steps of batches: found, lost, and taken for one by mistake.

As in `payout_steps` a function is a transaction's, and looks at the state again.

Invariants: what coins of ours paid to tenants is booked as paid, to the satoshi; more than is owed only when
two persons know of it. A hold is released only for a batch whose anchor was spent by a transaction that does
not pay it, or that no coin of ours ever paid.

Must not know: nodes, wallets (which scripts are ours it is told), the clock.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, insert, or_, select

from payouts.batches.batch import (
    SENT,
    Attempt,
    AttemptState,
    Batch,
    BatchError,
    Item,
    State,
    WrongStep,
    anchor_name,
    batch_of,
    hold,
    load,
)
from payouts.batches.evidence import Found, beyond
from payouts.batches.proposals import ProposalKind, agree
from payouts.batches.psbt import Spend
from payouts.batches.rows import Act, fail, insert_attempt, insert_batch, move, move_attempt, note
from payouts.batches.schema import payout_strangers
from payouts.batches.steps import reorganise
from payouts.batches.transaction import Tx
from payouts.book_time import book_time
from payouts.ledger import (
    Kind,
    LedgerError,
    PoolAccount,
    Transaction,
    Transfer,
    balance_sat,
    in_payout,
    open_accounts,
    payable,
    post,
    reverse,
)
from payouts.schemas.money import ledger_transactions

OVERPAID_KEY: Final = "overpaid:"  # then the txid, and which time it is where that was taken back before
DISOWN_SUBJECT: Final = "disown:"  # then the txid
SAID_NO_PAYOUT: Final = "it spends no coin of ours"
# In these somebody else may have the transaction.
GIVEN: Final = frozenset(AttemptState) - {AttemptState.PSBT, AttemptState.FAILED}


class Overpaid(LedgerError):
    """It pays a tenant more than these books owe, and nobody has said that this is right."""


def lose(connection: Connection, batch_id: int, conflict: Tx, act: Act) -> None:
    """Something that is no payout has spent the anchor, finally: no attempt can confirm any more."""
    batch = load(connection, batch_id)
    anchor = batch.anchor
    if anchor is None or batch_of(connection, conflict.txid) is not None or not _spends(conflict, anchor):
        raise WrongStep(f"{conflict.txid} does not conflict with batch {batch_id}")
    scripts = {item.script for item in batch.items}
    if paid := sum(output.script in scripts for output in conflict.outputs):
        raise BatchError(f"{conflict.txid} pays {paid} of the payees of batch {batch_id}: it is not lost")
    accept_stranger(connection, conflict.txid, anchor_name(anchor.txid, anchor.vout), act)
    _fail(connection, batch, act, f"its anchor was spent by {conflict.txid}, which is no payout")


def adopt(connection: Connection, batch_id: int, found: Found, act: Act, known_by: str | None = None) -> bool:
    """A transaction that pays the batch is on the chain, and this database does not know that it was sent.
    False where it does. Raises Overpaid where the batch had failed, its balances were paid otherwise
    meanwhile, and nobody says that this is right: `known_by` does."""
    batch = load(connection, batch_id)
    if batch.state in (State.CONFIRMED, State.FINAL):
        raise WrongStep(f"batch {batch_id} is {batch.state}")
    known = next((it for it in batch.attempts if it.txid == found.tx.txid), None)
    if known is None:
        number = _insert_found(connection, batch, found, act)
    elif known.state not in SENT:
        number, raw = known.attempt, found.tx.raw
        move_attempt(connection, batch, known, AttemptState.BROADCAST, signed_tx=raw, quarantine_reason=None)
    elif batch.state is State.BROADCAST:
        return False
    else:
        number = known.attempt
    if batch.state is not State.BROADCAST:
        move(connection, batch, State.BROADCAST)
    again = hold(batch.items) if batch.state is State.FAILED else ()
    if again:
        _make_owed(connection, batch.items, found.tx.txid, act, known_by)
    detail = f"found on the chain: {found.tx.txid}"
    note(connection, batch_id, State.BROADCAST, number, act, detail, again)
    return True


def recover(
    connection: Connection,
    items: tuple[Item, ...],
    found: Found,
    act: Act,
    lost_id: int | None = None,
    known_by: str | None = None,
) -> int:
    """A payout on the chain that this database has never heard of becomes a batch: its number.

    `lost_id`: the batch whose anchor it spent, finally, without paying all its payees: what that one holds
    is payable again, and paid by this one as far as it is. `known_by`: who says that it is right although it
    pays more than is owed. Raises Overpaid where it does and nobody says so.
    """
    if (known := batch_of(connection, found.tx.txid)) is not None:
        return known[0].id
    if lost_id is not None:
        lost = load(connection, lost_id)
        if lost.anchor is None or not _spends(found.tx, lost.anchor):
            raise WrongStep(f"{found.tx.txid} does not conflict with batch {lost_id}")
        _fail(connection, lost, act, f"its anchor was spent by {found.tx.txid}, which pays others, or less")
    _make_owed(connection, items, found.tx.txid, act, known_by)
    batch_id = insert_batch(connection, State.BROADCAST, items, act)
    note(connection, batch_id, State.BROADCAST, None, act, "found on the chain", hold(items))
    adopt(connection, batch_id, found, act)
    return batch_id


def _make_owed(
    connection: Connection, items: tuple[Item, ...], txid: str, act: Act, known_by: str | None
) -> None:
    """What is paid beyond what is owed was the pool's: so much more is owed, and the pool has lost it."""
    paid_sat: Counter[int] = Counter()
    names = {it.tenant_id: it.tenant for it in items}
    for it in items:
        paid_sat[it.tenant_id] += it.amount_sat
    transfers = []
    for tenant_id, sat in sorted(paid_sat.items()):
        more_sat = sat - balance_sat(connection, payable(tenant_id))
        if more_sat <= 0:
            continue
        if held_sat := balance_sat(connection, in_payout(tenant_id)):
            raise LedgerError(
                f"{txid} pays {names[tenant_id]} {more_sat} sat more than it is owed besides {held_sat} sat "
                "in a batch that is not final: cancel that batch, or wait until it is"
            )
        if known_by is None:
            raise Overpaid(f"{txid} pays {names[tenant_id]} {more_sat} sat more than these books owe it")
        open_accounts(connection, tenant_id)
        transfers.append(Transfer(PoolAccount.OVERPAID.value, payable(tenant_id), more_sat))
    if transfers:
        before = _made_owed(connection, txid)
        key = OVERPAID_KEY + (f"{txid}:{len(before)}" if before else txid)
        memo = f"paid by {txid} beyond what was owed, known to {known_by}"
        post(
            connection,
            Transaction(key=key, kind=Kind.ADJUSTMENT, memo=memo, transfers=tuple(transfers)),
            act.at_s,
        )


def _fail(connection: Connection, batch: Batch, act: Act, detail: str) -> None:
    """Nobody is paid by the batch: what was owed only because it had been paid is not owed any more."""
    fail(connection, batch, act, detail)
    for it in batch.attempts:
        for seq in _made_owed(connection, it.txid)[-1:]:
            if not _is_reversed(connection, seq):
                reverse(connection, seq, f"{it.txid} has paid nobody", act.at_s)


def _made_owed(connection: Connection, txid: str) -> list[int]:
    """The bookings of what the transaction paid beyond what was owed; all but the last were taken back."""
    row, key = ledger_transactions.c, OVERPAID_KEY + txid
    mine = or_(row.idempotency_key == key, row.idempotency_key.startswith(f"{key}:"))
    return list(connection.scalars(select(row.seq).where(mine).order_by(row.seq)))


def _is_reversed(connection: Connection, seq: int) -> bool:
    by = select(ledger_transactions.c.seq).where(ledger_transactions.c.reverses_seq == seq)
    return connection.scalar(by) is not None


def accept_stranger(connection: Connection, txid: str, anchor: str, act: Act) -> bool:
    """A transaction with our coins is no payout: somebody looked, or it goes to ourselves. False where that
    is known. `anchor` is the coin that it spent where a batch was to spend that, else empty."""
    row = payout_strangers.c
    known = select(row.txid).where(row.txid == txid, row.anchor == anchor)
    if connection.scalar(known) is not None:
        return False
    at_s = book_time(connection, act.at_s)
    connection.execute(
        insert(payout_strangers).values(txid=txid, anchor=anchor, accepted_by=act.by, accepted_at_s=at_s)
    )
    return True


def disown(connection: Connection, batch_id: int, is_own: Callable[[bytes], bool], act: Act) -> bool:
    """One person's word that a transaction which was taken for a payout is none, as no coin of ours is spent
    by it. With the second person's the batch has failed, and its balances are payable again: True then.

    Raises WrongStep where it spends a coin of ours, BatchError where a signer has another transaction of
    the batch: no version ever took a stranger's for such a one.
    """
    batch = load(connection, batch_id)
    it = alleged(batch, is_own)
    if it is None:
        raise WrongStep(f"batch {batch_id} has no transaction that spends no coin of this wallet")
    if any(other.psbt is not None and other.state in GIVEN for other in batch.attempts):
        raise BatchError(f"a signer has another transaction of batch {batch_id}")
    # Of another subject than `--accept`, which may have said of the same transaction that it is right.
    if not agree(connection, ProposalKind.NO_PAYOUT, f"{DISOWN_SUBJECT}{it.txid}", SAID_NO_PAYOUT, act):
        return False
    if it.block_hash is not None:
        reorganise(connection, batch_id, it.block_hash, act.at_s)
        batch = load(connection, batch_id)
    _fail(connection, batch, act, f"{it.txid} spends no coin of ours, as two persons say: it is no payout")
    return True


def alleged(batch: Batch, is_own: Callable[[bytes], bool]) -> Attempt | None:
    """The transaction that pays the batch as these books have it, and spends no coin of this wallet."""
    for it in batch.attempts:
        found = it.psbt is None and it.state is not AttemptState.FAILED
        if found and not any(is_own(spend.script) for spend in it.inputs):
            return it
    return None


def _insert_found(connection: Connection, batch: Batch, found: Found, act: Act) -> int:
    """The coins with the anchor first, wherever the transaction has it."""
    given = [it for it in batch.attempts if it.state in GIVEN]
    if not all(it.anchor in found.inputs for it in given):
        anchor = given[0].anchor
        raise BatchError(
            f"{found.tx.txid} pays batch {batch.id}, but a signer was given a transaction that pays it from "
            f"another coin, and must never be sent: move {anchor_name(anchor.txid, anchor.vout)} to an "
            "address of the payout wallet itself, and reconcile when that is six blocks deep"
        )
    if beyond(found.tx.outputs, batch.payees) is None:
        raise BatchError(f"{found.tx.txid} does not pay batch {batch.id}")
    for it in batch.attempts:
        if it.state is AttemptState.PSBT:
            move_attempt(connection, batch, it, AttemptState.FAILED)
    anchor = given[0].anchor if given else found.inputs[0]
    return insert_attempt(
        connection,
        batch,
        AttemptState.BROADCAST,
        found.tx,
        (anchor, *(it for it in found.inputs if it != anchor)),
        found.made_at_height,
        act.at_s,
        change=found.change,
        signed_tx=found.tx.raw,
    )


def _spends(tx: Tx, coin: Spend) -> bool:
    return any((it.txid, it.vout) == (coin.txid, coin.vout) for it in tx.inputs)
