"""The steps of a payout batch, as the tables of `batch` allow them: one function, one transaction.
Those of a payout that was found on the chain are in `payout_found`.

Every function changes the batch, writes the event of it and books what follows from it, all in the
caller's transaction, which must be the only writer. It looks at the state again there, whatever the
caller saw before. The event's number is the booking's key: `payout:<batch>:<event>`.

Invariants: nothing is stored as signed that `psbt` has not checked; a batch that a signer had is not called
off; who approves did not draft.

Must not know: nodes, wallets, the clock.
"""

from sqlalchemy import Connection, insert, update

from payouts.batches.batch import (
    ATTEMPTS_MAX,
    UNDER_WAY,
    UNGIVEN,
    Attempt,
    AttemptState,
    Batch,
    BatchError,
    State,
    WrongStep,
    backwards,
    batches_in,
    hold,
    load,
    payment,
)
from payouts.batches.plan import Plan, digest, outdated
from payouts.batches.psbt import (
    Expected,
    Quarantined,
    Spend,
    check_psbt,
    check_signed,
    decode_psbt,
    fee_sat,
)
from payouts.batches.rows import Act, clip, fail, insert_attempt, insert_batch, move, move_attempt, note
from payouts.batches.schema import payout_approvals, payout_attempts
from payouts.batches.transaction import BadTransaction, TxOutput, decode_transaction
from payouts.book_time import book_time
from payouts.ledger import AMOUNT_SAT_MAX
from payouts.persons import CHAIN


def draft(connection: Connection, plan: Plan, act: Act) -> int:
    """Hold the balances and make a batch of them: its number."""
    for batch in batches_in(connection, State.DRAFT):
        raise WrongStep(f"batch {batch.id} is a draft already: approve it, or cancel it")
    if not plan.items:
        raise BatchError("there is nobody to pay")
    batch_id = insert_batch(connection, State.DRAFT, plan.items, act)
    detail = f"{len(plan.items)} payees, {plan.total_sat} sat, digest {digest(plan.items)}"
    note(connection, batch_id, State.DRAFT, None, act, detail, hold(plan.items))
    return batch_id


def approve(connection: Connection, batch_id: int, digest_hex: str, fee_cap_sat: int, act: Act) -> bool:
    """A second person's word for the outputs, and for a network fee up to the cap; again for another cap.
    False where it is there already."""
    batch = load(connection, batch_id)
    if batch.state in (State.FINAL, State.FAILED, State.CONFIRMED):
        raise WrongStep(f"batch {batch_id} is {batch.state}")
    if digest_hex != batch.digest:
        raise BatchError(f"batch {batch_id} has another digest: look at it again")
    if not 0 < fee_cap_sat <= AMOUNT_SAT_MAX:
        raise BatchError(f"{fee_cap_sat} sat is no fee cap")
    # Who drafted what a signer has may have left since: it can be called off no more, and its fee be too low.
    alone = act.is_alone_beside if _nobody_has(batch) else act.may_be
    if alone(batch.created_by):
        raise BatchError(
            f"{batch.created_by} drafted batch {batch_id}, {act.by} cannot be the second person: "
            "somebody else has to approve it"
        )
    if reason := _outdated(connection, batch, act.at_s):
        raise BatchError(f"{reason}: cancel batch {batch_id} and draft another")
    newest = batch.approvals[-1] if batch.approvals else None
    if newest is not None and (newest.approved_by, newest.fee_cap_sat) == (act.by, fee_cap_sat):
        return False
    connection.execute(
        insert(payout_approvals).values(
            batch_id=batch_id,
            digest=digest_hex,
            fee_cap_sat=fee_cap_sat,
            approved_by=act.by,
            approved_at_s=book_time(connection, act.at_s),
        )
    )
    state = State.APPROVED if batch.state is State.DRAFT else batch.state
    if state is not batch.state:
        move(connection, batch, state)
    note(connection, batch_id, state, None, act, f"approved with a fee cap of {fee_cap_sat} sat")
    return True


def attempt(
    connection: Connection,
    batch_id: int,
    psbt: bytes,
    inputs: tuple[Spend, ...],
    change: TxOutput,
    made_at_height: int,
    act: Act,
) -> Attempt:
    """Store the PSBT of a batch's first transaction, or of the next one that replaces it."""
    batch = load(connection, batch_id)
    if batch.state not in (State.APPROVED, State.PSBT, State.SIGNED, State.BROADCAST):
        raise WrongStep(f"batch {batch_id} is {batch.state}: nothing can be made to sign")
    if len(batch.attempts) == ATTEMPTS_MAX:
        raise WrongStep(f"batch {batch_id} has {ATTEMPTS_MAX} attempts already")
    if batch.anchor is not None and batch.anchor != inputs[0]:
        raise BatchError(f"attempts at batch {batch_id} must spend its anchor")
    if not batch.attempts:
        _check_first(connection, batch, act.at_s)
    _check_digest(batch)
    expected = Expected(
        inputs=inputs, payees=batch.payees, change=change, txid=None, fee_cap_sat=batch.fee_cap_sat
    )
    try:
        decoded = decode_psbt(psbt)
        check_psbt(decoded, expected)
    except (BadTransaction, Quarantined) as wrong:
        raise BatchError(f"the PSBT is not stored: {wrong}") from wrong
    if known := next((it for it in batch.attempts if it.txid == decoded.tx.txid), None):
        raise WrongStep(f"the PSBT is that of attempt {known.attempt} at batch {batch_id}")
    for earlier in batch.attempts:
        if earlier.state is AttemptState.PSBT:  # nobody was given it, and nobody will be
            move_attempt(connection, batch, earlier, AttemptState.FAILED)
    number = insert_attempt(
        connection,
        batch,
        AttemptState.PSBT,
        decoded.tx,
        inputs,
        made_at_height,
        act.at_s,
        change=change,
        psbt=psbt,
    )
    state = State.PSBT if batch.state is State.APPROVED else batch.state
    if state is not batch.state:
        move(connection, batch, state)
    detail = f"txid {decoded.tx.txid}, fee {fee_sat(decoded.tx, inputs)} sat, {len(inputs)} coins"
    note(connection, batch_id, state, number, act, detail)
    return load(connection, batch_id).attempt(number)


def give(connection: Connection, batch_id: int, number: int, act: Act) -> bytes:
    """The PSBT for the signer. From now on the batch can only end by the chain."""
    batch = load(connection, batch_id)
    it = batch.attempt(number)
    if it.psbt is None:
        raise WrongStep(f"attempt {number} was found on the chain: there is nothing to sign")
    if it.state is AttemptState.FAILED:
        raise WrongStep(f"attempt {number} at batch {batch_id} has failed: there is nothing to sign")
    if batch.state not in (State.PSBT, State.SIGNED, State.BROADCAST):
        raise WrongStep(f"batch {batch_id} is {batch.state}: there is nothing to sign")
    if it.state is AttemptState.PSBT:
        if _nobody_has(batch) and (reason := outdated(connection, batch.items, act.at_s)):
            raise BatchError(f"{reason}: cancel batch {batch_id} and draft another")
        move_attempt(connection, batch, it, AttemptState.GIVEN)
        note(connection, batch_id, batch.state, number, act, "given to a signer")
    return it.psbt


def sign(connection: Connection, batch_id: int, number: int, signed_tx: bytes, act: Act) -> bool:
    """Store the signed bytes, checked once more. False where there are some: the first are kept.

    Raises Quarantined for bytes that must not be sent.
    """
    batch = load(connection, batch_id)
    it = batch.attempt(number)
    if batch.state not in (State.PSBT, State.SIGNED, State.BROADCAST):
        raise WrongStep(f"batch {batch_id} is {batch.state}: nothing is to be signed")
    _check_digest(batch)
    check_signed(decode_transaction(signed_tx), batch.expected(it))
    if it.signed_tx is not None:
        return False
    if it.state is AttemptState.PSBT:
        raise WrongStep(f"attempt {number} of batch {batch_id} was not given to a signer: export it first")
    move_attempt(connection, batch, it, AttemptState.SIGNED, signed_tx=signed_tx, quarantine_reason=None)
    state = State.SIGNED if batch.state is State.PSBT else batch.state
    if state is not batch.state:
        move(connection, batch, state)
    note(connection, batch_id, state, number, act, f"signed, {len(signed_tx)} bytes, txid {it.txid}")
    return True


def quarantine(connection: Connection, batch_id: int, number: int, reason: str, act: Act) -> None:
    """Keep that something else came back than was given. What is signed already stays as it is."""
    batch = load(connection, batch_id)
    it = batch.attempt(number)
    if it.state in (AttemptState.GIVEN, AttemptState.QUARANTINED):
        move_attempt(connection, batch, it, AttemptState.QUARANTINED, quarantine_reason=clip(reason))
    note(connection, batch_id, batch.state, number, act, f"quarantined: {reason}")


def send(connection: Connection, batch_id: int, number: int, act: Act) -> bytes:
    """That the signed bytes are about to be sent to the network: they, and these again for ever."""
    batch = load(connection, batch_id)
    it = batch.attempt(number)
    if batch.state not in (State.SIGNED, State.BROADCAST) or it.signed_tx is None:
        raise WrongStep(
            f"batch {batch_id} is {batch.state}, its attempt {number} {it.state}: nothing to send"
        )
    if it.state is AttemptState.SIGNED:
        for earlier in batch.attempts:
            if earlier.state is AttemptState.BROADCAST:
                move_attempt(connection, batch, earlier, AttemptState.REPLACED)
        move_attempt(connection, batch, it, AttemptState.BROADCAST)
        if batch.state is State.SIGNED:
            move(connection, batch, State.BROADCAST)
        note(connection, batch_id, State.BROADCAST, number, act, f"broadcast, txid {it.txid}")
    return it.signed_tx


def confirm(
    connection: Connection, batch_id: int, number: int, block_hash: str, height: int, at_s: int
) -> bool:
    """One of the batch's transactions is in a block. False where that is known."""
    batch = load(connection, batch_id)
    it = batch.attempt(number)
    if it.block_hash == block_hash and batch.state in (State.CONFIRMED, State.FINAL):
        return False
    for other in batch.attempts:
        if other is not it and other.state is AttemptState.BROADCAST:
            move_attempt(connection, batch, other, AttemptState.REPLACED)
    move_attempt(connection, batch, it, AttemptState.CONFIRMED, block_hash=block_hash, block_height=height)
    move(connection, batch, State.CONFIRMED)
    detail = f"txid {it.txid} in block {block_hash} at height {height}"
    note(connection, batch_id, State.CONFIRMED, number, Act(CHAIN, at_s), detail)
    return True


def finish(connection: Connection, batch_id: int, block_hash: str, at_s: int) -> bool:
    """The block of a confirmed batch has its confirmations: everybody is paid. False where that is known."""
    batch = load(connection, batch_id)
    it = _in_block(batch, block_hash)
    if batch.state is State.FINAL:
        return False
    move_attempt(connection, batch, it, AttemptState.FINAL)
    move(connection, batch, State.FINAL)
    transfers = payment(batch.items, it.fee_sat)
    detail = f"paid by {it.txid}, network fee {it.fee_sat} sat"
    note(connection, batch_id, State.FINAL, it.attempt, Act(CHAIN, at_s), detail, transfers)
    return True


def reorganise(connection: Connection, batch_id: int, block_hash: str, at_s: int) -> bool:
    """The block is not in the chain any more: back to broadcast. False where that is known."""
    batch = load(connection, batch_id)
    if batch.state not in (State.CONFIRMED, State.FINAL):
        return False
    it = _in_block(batch, block_hash)
    transfers = backwards(payment(batch.items, it.fee_sat)) if batch.state is State.FINAL else ()
    move_attempt(connection, batch, it, AttemptState.BROADCAST, block_hash=None, block_height=None)
    move(connection, batch, State.BROADCAST)
    detail = f"block {block_hash} was reorganised out of the chain"
    note(connection, batch_id, State.BROADCAST, it.attempt, Act(CHAIN, at_s), detail, transfers)
    return True


def cancel(connection: Connection, batch_id: int, act: Act) -> None:
    """Call off a batch that no signer ever had: its balances are payable again."""
    batch = load(connection, batch_id)
    if not _nobody_has(batch):
        raise WrongStep(f"batch {batch_id} is {batch.state} and cannot be cancelled: a signer may have it")
    if batch.state not in UNGIVEN:
        raise WrongStep(f"batch {batch_id} is {batch.state}")
    fail(connection, batch, act, "cancelled, no signer ever had it")


def replace_signature(
    connection: Connection, batch_id: int, number: int, signed_tx: bytes, refusal: str, act: Act
) -> bool:
    """Store other signatures for what is signed already, because nodes will never take those that there are.
    False where they were replaced before. It is the same transaction: its txid does not cover signatures."""
    batch = load(connection, batch_id)
    it = batch.attempt(number)
    if batch.state not in (State.SIGNED, State.BROADCAST) or it.signed_tx is None:
        raise WrongStep(f"batch {batch_id} is {batch.state}: there is no signature to be replaced")
    _check_digest(batch)
    check_signed(decode_transaction(signed_tx), batch.expected(it))
    if it.signed_tx == signed_tx:
        return False
    connection.execute(
        update(payout_attempts)
        .where(payout_attempts.c.batch_id == batch_id, payout_attempts.c.attempt == number)
        .values(signed_tx=signed_tx)
    )
    note(connection, batch_id, batch.state, number, act, f"signed anew, the node refuses the old: {refusal}")
    return True


def _outdated(connection: Connection, batch: Batch, now_s: int) -> str | None:
    """Outputs can be changed no more once a signer has them: then only the fee cap is approved."""
    return outdated(connection, batch.items, now_s) if _nobody_has(batch) else None


def _nobody_has(batch: Batch) -> bool:
    """Whether no signer was ever given any of its transactions."""
    return all(it.state in (AttemptState.PSBT, AttemptState.FAILED) for it in batch.attempts)


def _check_digest(batch: Batch) -> None:
    """What was approved is a digest: the outputs in the database must still have it."""
    if digest(batch.items) != batch.digest:
        raise BatchError(f"the outputs of batch {batch.id} are not those that were approved")


def _check_first(connection: Connection, batch: Batch, now_s: int) -> None:
    for other in batches_in(connection, *UNDER_WAY):
        raise WrongStep(f"batch {other.id} is {other.state}: batch {batch.id} spends its change, and waits")
    if reason := outdated(connection, batch.items, now_s):
        raise BatchError(f"{reason}: cancel batch {batch.id} and draft another")


def _in_block(batch: Batch, block_hash: str) -> Attempt:
    for it in batch.attempts:
        if it.block_hash == block_hash:
            return it
    raise WrongStep(f"batch {batch.id} has no transaction in block {block_hash}")
