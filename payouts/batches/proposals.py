"""What one person alone must not do: one proposes it, another confirms it.

Five things are done so: a transaction of the ledger is reversed, a transaction that moved coins of the payout
wallet is taken for no payout, and what a buyer is said to have paid is booked, what he owes is written off,
or what he paid too much is given back. (A payout batch is a proposal of its own: who drafts it does not
approve it.) What is confirmed is done in the same transaction of the database, by the caller.

Invariants: who confirms is another person than who proposed, as his act says (`rows.Act.is_alone_beside`);
a proposal is confirmed once; the same proposal of the same person is there once. Nothing is withdrawn: what
nobody confirms within OPEN_S has no effect any more, by the time of the book, which does not step back.

Must not know: how what is proposed is done.
"""

from enum import StrEnum
from typing import Final

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, insert, select

from payouts.batches.rows import Act
from payouts.book_time import book_time, latest_s
from payouts.schemas.proposals import confirmations, proposals

WHY_CHARACTERS_MAX = 300  # with two names and a few words it fits into a ledger's memo
# As a request, where the settings say nothing: who proposed it still remembers why.
OPEN_S: Final = 7 * 86_400


class ProposalKind(StrEnum):
    """What is proposed."""

    REVERSAL = "reversal"  # of a transaction of the ledger
    NO_PAYOUT = "no_payout"  # that a transaction with coins of ours is none
    PAYMENT = "payment"  # of a buyer, for an order
    WRITE_OFF = "write_off"  # of what is left of an invoice
    REFUND = "refund"  # of what a buyer paid too much


class ProposalError(Exception):
    """A proposal, or a confirmation, that is not taken; the text says why."""


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody proposed, and nobody has confirmed yet."""

    id: int
    kind: ProposalKind
    subject: str
    why: str
    proposed_by: str
    proposed_at_s: int


def propose(connection: Connection, kind: ProposalKind, subject: str, why: str, act: Act) -> Proposal:
    """Write the proposal down, or find that the same person made the same one before."""
    if not 1 <= len(why) <= WHY_CHARACTERS_MAX or not why.isprintable() or why != why.strip():
        raise ProposalError(f"a reason is 1 to {WHY_CHARACTERS_MAX} printable characters")
    at_s = book_time(connection, act.at_s)
    for known in open_proposals(connection, kind, subject):
        if (known.proposed_by, known.why) == (act.by, why):
            return known
    number: int = connection.execute(
        insert(proposals)
        .values(kind=kind.value, subject=subject, why=why, proposed_by=act.by, proposed_at_s=at_s)
        .returning(proposals.c.id)
    ).scalar_one()
    return _open(connection, number)


def open_proposals(connection: Connection, kind: ProposalKind, subject: str) -> tuple[Proposal, ...]:
    """The proposals of that which nobody has confirmed, and which are not over, oldest first."""
    rows = connection.scalars(
        select(proposals.c.id)
        .outerjoin(confirmations, confirmations.c.proposal_id == proposals.c.id)
        .where(
            proposals.c.kind == kind.value,
            proposals.c.subject == subject,
            is_open(latest_s(connection)),
        )
        .order_by(proposals.c.id)
    )
    return tuple(_open(connection, number) for number in rows.all())


def all_open(connection: Connection) -> tuple[Proposal, ...]:
    """Whatever waits for a second person, oldest first, batches aside."""
    numbers = connection.scalars(
        select(proposals.c.id)
        .outerjoin(confirmations, confirmations.c.proposal_id == proposals.c.id)
        .where(is_open(latest_s(connection)))
        .order_by(proposals.c.id)
    )
    return tuple(_open(connection, number) for number in numbers.all())


def is_open(now_s: int) -> ColumnElement[bool]:
    """Of a row of proposals, with its confirmation if it has one: whether it may still be confirmed at that
    time of the book."""
    return and_(confirmations.c.proposal_id.is_(None), proposals.c.proposed_at_s > now_s - OPEN_S)


def agree(connection: Connection, kind: ProposalKind, subject: str, why: str, act: Act) -> bool:
    """One more person's word: a confirmation where somebody else has proposed the same, else a proposal.

    True where two persons have said it now.
    """
    if agreed(connection, kind, subject) is not None:
        return True
    book_time(connection, act.at_s)
    for proposal in open_proposals(connection, kind, subject):
        if not act.is_alone_beside(proposal.proposed_by):
            confirm(connection, proposal, act)
            return True
    propose(connection, kind, subject, why, act)
    return False


def agreed(connection: Connection, kind: ProposalKind, subject: str) -> tuple[str, str] | None:
    """Who proposed it and who confirmed it, where two persons did."""
    row = connection.execute(
        select(proposals.c.proposed_by, confirmations.c.confirmed_by)
        .join(confirmations, confirmations.c.proposal_id == proposals.c.id)
        .where(proposals.c.kind == kind.value, proposals.c.subject == subject)
        .order_by(proposals.c.id)
        .limit(1)
    ).one_or_none()
    return None if row is None else (row.proposed_by, row.confirmed_by)


def confirmable(connection: Connection, number: int, act: Act) -> Proposal:
    """The open proposal of that number, for somebody else than who made it. Raises ProposalError."""
    now_s, proposal = book_time(connection, act.at_s), _open(connection, number)
    if proposal.proposed_at_s <= now_s - OPEN_S:
        raise ProposalError(
            f"proposal {number} is over: nobody confirmed it within {OPEN_S // 86_400} days; propose it anew"
        )
    if act.is_alone_beside(proposal.proposed_by):
        raise ProposalError(
            f"{act.by} cannot confirm what {proposal.proposed_by} proposed: somebody else has to"
        )
    return proposal


def confirm(connection: Connection, proposal: Proposal, act: Act, transaction_seq: int | None = None) -> None:
    """Keep that the proposal is confirmed, and which transaction it booked. What it says is the caller's."""
    confirmable(connection, proposal.id, act)
    at_s = book_time(connection, max(act.at_s, proposal.proposed_at_s))
    connection.execute(
        insert(confirmations).values(
            proposal_id=proposal.id,
            confirmed_by=act.by,
            confirmed_at_s=at_s,
            transaction_seq=transaction_seq,
        )
    )


def _open(connection: Connection, number: int) -> Proposal:
    row = connection.execute(select(proposals).where(proposals.c.id == number)).one_or_none()
    if row is None:
        raise ProposalError(f"there is no proposal {number}")
    by = connection.scalar(select(confirmations.c.confirmed_by).where(confirmations.c.proposal_id == number))
    if by is not None:
        raise ProposalError(f"proposal {number} was confirmed by {by} already")
    return Proposal(
        id=row.id,
        kind=ProposalKind(row.kind),
        subject=row.subject,
        why=row.why,
        proposed_by=row.proposed_by,
        proposed_at_s=row.proposed_at_s,
    )
