"""The operator's commands for taking a transaction of the ledger back: one person proposes it, another
confirms it, and each is whoever gives the command.

Must not know: sockets, terminals, and when a transaction may be reversed.
"""

from typing import Annotated, Final

import msgspec
from sqlalchemy import Connection, select

from payouts.batches.proposals import Proposal, ProposalKind, open_proposals
from payouts.ledger import Posted
from payouts.reversals import Reversible, confirm_reversal, propose_reversal, reversible
from payouts.schemas.money import ledger_transactions
from pool.admin.command import Change, Commands, Question
from pool.admin.desk import Desk, OperatorDesk
from pool.admin.payouts.commands import act_of, in_words
from pool.books.changes.changes import State
from pool.people.roles import Role

SUBJECT: Final = "transaction/"  # then its number
Number = Annotated[int, msgspec.Meta(ge=1)]


class ReversalShow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    transaction: Number


class ReversalPropose(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`why` is for the books."""

    transaction: Number
    why: str


class ReversalConfirm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`proposal`: somebody else's, by its number."""

    transaction: Number
    proposal: Number


class Proposed(msgspec.Struct, frozen=True):
    """Which proposal it is, and of what."""

    proposal: int
    transaction: int
    proposed_by: str
    why: str


class Reversed(msgspec.Struct, frozen=True):
    """Which transaction takes which other back."""

    transaction: int
    reverses: int
    confirmed_by: str


def reversal_show(desk: Desk, it: ReversalShow) -> Reversible:
    """A transaction, whether it can be reversed, and who proposed that."""
    with in_words():
        return desk.read(lambda connection: reversible(connection, it.transaction))


def reversal_propose(desk: OperatorDesk, it: ReversalPropose) -> Proposed:
    """Propose that a transaction is reversed."""

    def propose(connection: Connection) -> Proposal:
        return propose_reversal(connection, it.transaction, it.why, act_of(desk, connection))

    with in_words():
        made = desk.write(propose)
    return Proposed(made.id, it.transaction, made.proposed_by, made.why)


def reversal_confirm(desk: OperatorDesk, it: ReversalConfirm) -> Reversed:
    """Confirm what somebody else proposed: the opposite of the transaction is booked."""

    def confirm(connection: Connection) -> Posted:
        return confirm_reversal(connection, it.transaction, it.proposal, act_of(desk, connection))

    with in_words():
        posted = desk.write(confirm)
    return Reversed(posted.seq, it.transaction, desk.by)


def reversed_transaction(it: ReversalPropose | ReversalConfirm) -> str:
    return f"{SUBJECT}{it.transaction}"


def reversal_state(connection: Connection, subject: str) -> State:
    """What is proposed about a transaction, and which other reversed it."""
    seq = int(subject.removeprefix(SUBJECT))
    by = select(ledger_transactions.c.seq).where(ledger_transactions.c.reverses_seq == seq)
    proposed = open_proposals(connection, ProposalKind.REVERSAL, str(seq))
    return {"proposals": [it.id for it in proposed], "reversed_by": connection.scalar(by)}


COMMANDS: Final[Commands] = {
    "reversal.show": Question(ReversalShow, reversal_show),
    "reversal.propose": Change(
        ReversalPropose, reversal_propose, reversed_transaction, reversal_state, Role.PAYER, makes_books=False
    ),
    "reversal.confirm": Change(
        ReversalConfirm, reversal_confirm, reversed_transaction, reversal_state, Role.PAYER, makes_books=False
    ),
}
