"""How a step of a payout batch is written: rows, moves within the tables of `batch`, events, bookings.

Invariants: a move that the tables do not allow is WrongStep; every booking belongs to one event, whose
number is in its key: `payout:<batch>:<event>`. Everything is in the caller's transaction.

Must not know: why a step is taken.
"""

from collections.abc import Container

import msgspec
from sqlalchemy import Connection, func, insert, select, update

from payouts.batches.batch import (
    ATTEMPT_MOVES,
    MOVES,
    Attempt,
    AttemptState,
    Batch,
    BatchError,
    Item,
    State,
    WrongStep,
    release,
)
from payouts.batches.plan import digest
from payouts.batches.psbt import Spend, fee_sat
from payouts.batches.schema import (
    payout_attempts,
    payout_batches,
    payout_events,
    payout_inputs,
    payout_items,
)
from payouts.batches.transaction import Tx, TxOutput
from payouts.book_time import book_time
from payouts.ledger import Kind, Transaction, Transfer, open_accounts, post
from payouts.persons import CHAIN, is_name, same_person

DETAIL_CHARACTERS_MAX = 400


class Act(msgspec.Struct, frozen=True):
    """Who does something, and when. `also`: other names that may be the same person's, as far as is known
    of users and accounts; `gone`: names of who has no say any more. They are asked for what is in the books
    when it is written, not before."""

    by: str
    at_s: int
    also: Container[str] = frozenset()
    gone: Container[str] = frozenset()

    def __post_init__(self) -> None:
        if not is_name(self.by):
            raise BatchError(f"{self.by!r:.80} is not a person's name")

    def may_be(self, name: str) -> bool:
        """Whether who does it may be that one."""
        return same_person(self.by, name) or name in self.also

    def is_alone_beside(self, name: str) -> bool:
        """Whether who does it is no second person beside what that one said."""
        return self.may_be(name) or name in self.gone


def act_of_person(
    by: str, at_s: int, also: Container[str] = frozenset(), gone: Container[str] = frozenset()
) -> Act:
    """That a person does something: nobody is called as what the books do by themselves."""
    if same_person(by, CHAIN):
        raise BatchError(f"{by!r:.80} is not a person's name: the books themselves do what the chain says")
    return Act(by, at_s, also, gone)


def move(connection: Connection, batch: Batch, state: State) -> None:
    if state not in MOVES[batch.state]:
        raise WrongStep(f"batch {batch.id} is {batch.state} and cannot become {state}")
    connection.execute(
        update(payout_batches).where(payout_batches.c.id == batch.id).values(state=state.value)
    )


def move_attempt(
    connection: Connection, batch: Batch, it: Attempt, state: AttemptState, **changes: object
) -> None:
    if state not in ATTEMPT_MOVES[it.state]:
        raise WrongStep(f"attempt {it.attempt} of batch {batch.id} is {it.state} and cannot become {state}")
    connection.execute(
        update(payout_attempts)
        .where(payout_attempts.c.batch_id == batch.id, payout_attempts.c.attempt == it.attempt)
        .values(state=state.value, **changes)
    )


def insert_batch(connection: Connection, state: State, items: tuple[Item, ...], act: Act) -> int:
    if state not in MOVES[None]:
        raise WrongStep(f"no batch starts as {state}")
    created_at_s = book_time(connection, act.at_s)
    batch_id: int | None = connection.scalar(
        insert(payout_batches)
        .values(state=state.value, digest=digest(items), created_by=act.by, created_at_s=created_at_s)
        .returning(payout_batches.c.id)
    )
    assert batch_id is not None
    for item in items:
        open_accounts(connection, item.tenant_id)
    connection.execute(
        insert(payout_items),
        [
            {
                "batch_id": batch_id,
                "position": item.position,
                "tenant_id": item.tenant_id,
                "address": item.address,
                "script": item.script.hex(),
                "amount_sat": item.amount_sat,
            }
            for item in items
        ],
    )
    return batch_id


def insert_attempt(
    connection: Connection,
    batch: Batch,
    state: AttemptState,
    tx: Tx,
    inputs: tuple[Spend, ...],
    made_at_height: int,
    at_s: int,
    *,
    change: TxOutput | None,
    psbt: bytes | None = None,
    signed_tx: bytes | None = None,
) -> int:
    number = len(batch.attempts) + 1
    connection.execute(
        insert(payout_attempts).values(
            batch_id=batch.id,
            attempt=number,
            state=state.value,
            txid=tx.txid,
            fee_sat=fee_sat(tx, inputs),
            change_script=None if change is None else change.script.hex(),
            change_sat=None if change is None else change.amount_sat,
            made_at_height=made_at_height,
            psbt=psbt,
            signed_tx=signed_tx,
            created_at_s=book_time(connection, at_s),
        )
    )
    connection.execute(
        insert(payout_inputs),
        [
            {
                "batch_id": batch.id,
                "attempt": number,
                "position": position,
                "txid": it.txid,
                "vout": it.vout,
                "amount_sat": it.amount_sat,
                "script": it.script.hex(),
            }
            for position, it in enumerate(inputs)
        ],
    )
    return number


def note(
    connection: Connection,
    batch_id: int,
    state: State,
    number: int | None,
    act: Act,
    detail: str,
    transfers: tuple[Transfer, ...] = (),
) -> None:
    """The event of a step, with its booking."""
    newest = connection.scalar(
        select(func.max(payout_events.c.position)).where(payout_events.c.batch_id == batch_id)
    )
    position = 0 if newest is None else newest + 1
    seq = None
    if transfers:
        transaction = Transaction(
            key=f"payout:{batch_id}:{position}",
            kind=Kind.PAYOUT,
            memo=f"payout batch {batch_id} {state}",
            transfers=transfers,
        )
        seq = post(connection, transaction, act.at_s).seq
    connection.execute(
        insert(payout_events).values(
            batch_id=batch_id,
            position=position,
            state=state.value,
            attempt=number,
            done_by=act.by,
            detail=clip(detail),
            at_s=book_time(connection, act.at_s),
            transaction_seq=seq,
        )
    )


def fail(connection: Connection, batch: Batch, act: Act, detail: str) -> None:
    """Nobody is paid by the batch, as the caller knows: its balances are payable again."""
    for it in batch.attempts:
        if it.state is not AttemptState.FAILED:
            move_attempt(connection, batch, it, AttemptState.FAILED, quarantine_reason=None)
    move(connection, batch, State.FAILED)
    note(connection, batch.id, State.FAILED, None, act, detail, release(batch.items))


def clip(text: str) -> str:
    return "".join(it if it.isprintable() else "?" for it in text)[:DETAIL_CHARACTERS_MAX]
