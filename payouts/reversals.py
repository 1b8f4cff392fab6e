"""Reversals: a transaction of the ledger is taken back by its opposite, when two persons say so.

What may be reversed is an adjustment, the settlement of an hour, or what a buyer is said to have paid. What
follows from the chain is booked back by the chain alone: a block when it is orphaned, a payout when its batch
is cancelled, lost, or reorganised out. A payout that was reversed by hand would be owed, and paid, once more.

Invariants: a transaction is reversed once, a reversal never; no tenant's account falls below zero by it; who
and why are in the memo, and so in the chain of hashes.

Must not know: how a person typed it.
"""

from typing import Final

import msgspec
from sqlalchemy import Connection, select

from payouts.batches.proposals import Proposal, ProposalKind, confirm, confirmable, open_proposals, propose
from payouts.batches.rows import Act
from payouts.ledger import (
    Kind,
    LedgerError,
    Posted,
    Transfer,
    balance_sat,
    reverse,
    transfers_of,
)
from payouts.schemas.money import ledger_transactions

REFUSED: Final = {
    Kind.REVERSAL: "it is a reversal: book what is right instead",
    Kind.BLOCK: "it is the income of a block, which is booked back when the block is orphaned",
    Kind.ENERGY: (
        "it is a charge for energy, or what was collected of it: put the meter or the nameplate right, and "
        "what the hour has cost too much is given back"
    ),
    Kind.SALE: (
        "it is what an hour of an order cost its buyer, which follows from the work: what is not to be paid"
        " of it is written off with its invoice (`angara order write-off`)"
    ),
    Kind.DEPOSIT: "it is what a buyer paid on the chain, which is booked back when its block is orphaned",
    Kind.PAYOUT: (
        "it is a step of a payout batch, which only `angara payout` and the chain book back: "
        "reversed by hand, what was paid would be owed once more"
    ),
}


class Reversible(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction, and what is proposed about it."""

    seq: int
    kind: Kind
    memo: str
    booked_at_s: int
    transfers: tuple[Transfer, ...]
    refused: str | None  # why it cannot be reversed, as far as that is known before
    proposals: tuple[Proposal, ...]


def reversible(connection: Connection, seq: int) -> Reversible:
    """What there is to reverse. Raises LedgerError where there is no such transaction."""
    row = connection.execute(
        select(ledger_transactions).where(ledger_transactions.c.seq == seq)
    ).one_or_none()
    if row is None:
        raise LedgerError(f"there is no transaction {seq}")
    transfers = transfers_of(connection, seq)
    return Reversible(
        seq=seq,
        kind=Kind(row.kind),
        memo=row.memo,
        booked_at_s=row.booked_at_s,
        transfers=transfers,
        refused=_refused(connection, seq, Kind(row.kind), transfers),
        proposals=open_proposals(connection, ProposalKind.REVERSAL, str(seq)),
    )


def propose_reversal(connection: Connection, seq: int, why: str, act: Act) -> Proposal:
    """One person's word. Raises LedgerError for what cannot be reversed, ProposalError for no reason."""
    _check(connection, seq)
    return propose(connection, ProposalKind.REVERSAL, str(seq), why, act)


def confirm_reversal(connection: Connection, seq: int, number: int, act: Act) -> Posted:
    """Another person's word for the proposal of that number: the reversal is booked.

    Raises ProposalError, and LedgerError where it cannot be reversed (any more).
    """
    proposal = confirmable(connection, number, act)
    if (proposal.kind, proposal.subject) != (ProposalKind.REVERSAL, str(seq)):
        raise LedgerError(f"proposal {number} is not about transaction {seq}")
    _check(connection, seq)
    memo = f"proposed by {proposal.proposed_by}, confirmed by {act.by}: {proposal.why}"
    posted = reverse(connection, seq, memo, act.at_s)
    confirm(connection, proposal, act, posted.seq)
    return posted


def _check(connection: Connection, seq: int) -> None:
    if (refused := reversible(connection, seq).refused) is not None:
        raise LedgerError(f"transaction {seq} cannot be reversed: {refused}")


def _refused(connection: Connection, seq: int, kind: Kind, transfers: tuple[Transfer, ...]) -> str | None:
    if kind in REFUSED:
        return REFUSED[kind]
    by = connection.scalar(select(ledger_transactions.c.seq).where(ledger_transactions.c.reverses_seq == seq))
    if by is not None:
        return f"transaction {by} reversed it already"
    back_sat: dict[str, int] = {}
    for it in transfers:
        back_sat[it.to_account] = back_sat.get(it.to_account, 0) - it.amount_sat
        back_sat[it.from_account] = back_sat.get(it.from_account, 0) + it.amount_sat
    for account, sat in back_sat.items():
        if sat < 0 and account.startswith("tenant."):
            found_sat = balance_sat(connection, account)
            if found_sat + sat < 0:
                return (
                    f"{account} has {found_sat} satoshi, {-sat} cannot leave it: "
                    "the rest is paid, or on its way"
                )
    return None
