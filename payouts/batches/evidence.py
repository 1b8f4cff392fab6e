"""What a transaction on the chain says of payouts, whoever made it and however it is arranged.

A signer may sort outputs and inputs, or put the change elsewhere: outputs are compared with what is to be
paid as multisets, never by their places. What went from coins of ours to a tenant is paid, whatever else
the transaction does.

Invariants: reads only; that the transaction spends coins of ours is the caller's to know.
Must not know: nodes, wallets (which outputs are ours it is told).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import msgspec
from sqlalchemy import Connection

from payouts.batches.batch import Batch, Item, State, batches_in
from payouts.batches.plan import ScriptOf, payees_by_script
from payouts.batches.psbt import Spend
from payouts.batches.transaction import Tx, TxOutput
from payouts.ledger import balance_sat, in_payout, payable

IsOwn = Callable[[bytes], bool]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction on the chain with the coins it spends, and what it leaves to us: the change.

    Where several outputs are ours it is the largest; where none is, the largest that no payee gets; None
    where there is nothing but payees: the network has it.
    """

    tx: Tx
    inputs: tuple[Spend, ...]
    made_at_height: int
    change: TxOutput | None


def beyond(outputs: Iterable[TxOutput], payees: Iterable[TxOutput]) -> tuple[TxOutput, ...] | None:
    """What there is besides the payees' outputs, in any order; None where one of them is missing."""
    missing = Counter(payees)
    rest = []
    for output in outputs:
        if missing[output] > 0:
            missing[output] -= 1
        else:
            rest.append(output)
    return None if missing.total() else tuple(rest)


def places(outputs: Sequence[TxOutput], payees: Sequence[TxOutput]) -> tuple[int, ...]:
    """Which output each payee's is: the first for the first of those alike. Raises ValueError where one is
    missing."""
    left = list(enumerate(outputs))
    found = []
    for payee in payees:
        at = next((number for number, (_, output) in enumerate(left) if output == payee), None)
        if at is None:
            raise ValueError(f"{payee.amount_sat} sat to {payee.script.hex()[:80]} are not paid")
        found.append(left.pop(at)[0])
    return tuple(found)


def change_among(rest: Iterable[TxOutput], is_own: IsOwn) -> TxOutput | None:
    """What the next payout would spend, of the outputs that are no payee's."""
    coins = (it for it in rest if it.amount_sat)
    return max(coins, key=lambda it: (is_own(it.script), it.amount_sat, it.script), default=None)


def batch_paid_by(
    connection: Connection,
    outputs: Sequence[TxOutput],
    spends: frozenset[tuple[str, int]],
    script_of: ScriptOf,
) -> Batch | None:
    """The batch whose payees are all among the outputs, while nothing else of them is a tenant's.

    First the batch that was to spend one of the coins, then one that is alive, then the newest.
    """
    payees = payees_by_script(connection, script_of)
    candidates = []
    for batch in batches_in(connection):
        if batch.state in (State.CONFIRMED, State.FINAL):
            continue
        rest = beyond(outputs, batch.payees)
        if rest is not None and not any(it.script in payees for it in rest):
            candidates.append(batch)

    def rank(batch: Batch) -> tuple[bool, bool, int]:
        anchors = {(it.anchor.txid, it.anchor.vout) for it in batch.attempts}
        return bool(anchors & spends), batch.state is not State.FAILED, batch.id

    return max(candidates, key=rank, default=None)


def items_paid_by(
    connection: Connection, tx: Tx, lost: Batch | None, script_of: ScriptOf
) -> tuple[Item, ...]:
    """The tenants' outputs: those of the batch that this transaction was made in place of, by its addresses,
    others by every address that a tenant ever had.

    Whom an address of two tenants was paid for cannot be seen: for who is owed exactly that, or else most.
    """
    payees = payees_by_script(connection, script_of)
    ordered = [] if lost is None else list(lost.items)
    items: list[Item] = []

    def owed_sat(tenant_id: int) -> int:
        """What is left of it, besides what is in the list already."""
        sat = balance_sat(connection, payable(tenant_id)) + balance_sat(connection, in_payout(tenant_id))
        return sat - sum(it.amount_sat for it in items if it.tenant_id == tenant_id)

    for output in tx.outputs:
        sat = output.amount_sat
        as_ordered = [it for it in ordered if it.script == output.script]
        exact = [it for it in as_ordered if it.amount_sat == sat]
        able = exact or as_ordered or payees.get(output.script, ())
        if not able:
            continue
        payee = able[0]
        if len({it.tenant_id for it in able}) > 1:
            owed = {it.tenant_id: owed_sat(it.tenant_id) for it in able}
            payee = max(able, key=lambda it: (owed[it.tenant_id] == sat, owed[it.tenant_id]))
        if exact:
            ordered.remove(payee)
        items.append(msgspec.structs.replace(payee, position=len(items), amount_sat=sat))
    return tuple(items)
