"""The operator's commands for payout batches, as far as persons decide: drafting, approving, calling off, and
what two persons say of the chain. Whoever gives one is the person of it.

What goes to a signer, comes back from one, or is sent is given on the pool's host (`pool.cli`).

Invariants: what a command books and the record of who gave it are one transaction; each can be given again
after a lost answer, and does nothing twice. Must not know: sockets, terminals.
"""

import re
from collections.abc import Awaitable, Callable, Container, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import UNSET
from sqlalchemy import Connection, func, select

from payouts.batches.batch import Batch, BatchError, batches_in, load
from payouts.batches.plan import ScriptOf, plan
from payouts.batches.proposals import (
    Proposal,
    ProposalError,
    ProposalKind,
    agree,
    agreed,
    all_open,
    open_proposals,
)
from payouts.batches.rows import Act, act_of_person
from payouts.batches.schema import payout_batches
from payouts.ledger import LedgerError
from pool.admin.command import Change, Commands, Question
from pool.admin.desk import Desk, OperatorDesk, wall_s
from pool.admin.operators import host_names
from pool.admin.pages import Page, Paged, page_of
from pool.admin.payouts.batches import BatchLine, BatchRow, PayoutPlan, batch_line, batch_row, plan_row
from pool.admin.people.puppets import Makers
from pool.books.changes.changes import State
from pool.chain.addresses import script_for
from pool.chain.rpc import NodeError
from pool.fleet.rows import RegistryError
from pool.people.persons import Persons
from pool.people.roles import Caller, Role
from pool.people.users import list_users
from pool.requests.policy import Approval
from pool.requests.rows import time_of_book
from pool.treasury.books import PayoutBooks
from pool.treasury.paymaster import Paymaster
from pool.treasury.reconciler import SAID
from pool.treasury.settings import MINIMUM_SAT_DEFAULT
from pool.treasury.wallet import BadWallet

_Result = TypeVar("_Result")

SUBJECT: Final = "payout/"  # then the batch's number
TXID: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)  # what is proposed of batches is none
Number = Annotated[int, msgspec.Meta(ge=1)]


class PayoutPreview(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class PayoutList(Paged, frozen=True, forbid_unknown_fields=True):
    pass


class PayoutShow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    batch: Number


class PayoutCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class PayoutApprove(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`digest`: of the outputs, as they were looked at; `fee_cap_sat`: the most that the network gets."""

    batch: Number
    digest: str
    fee_cap_sat: int


class PayoutCancel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    batch: Number


class PayoutDisown(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    batch: Number


class PayoutAccept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    txid: str


class ProposalList(Paged, frozen=True, forbid_unknown_fields=True):
    pass


class Accepted(msgspec.Struct, frozen=True):
    """Who said so, of which transaction, as the second person."""

    txid: str
    accepted_by: str


def payout_preview(desk: Desk, it: PayoutPreview) -> PayoutPlan:
    """Who would be paid now, and who is held back and why."""
    paying = desk.paying
    script_of: ScriptOf = partial(script_for, network=desk.network or "")  # a book of none has no payouts
    minimum_sat = MINIMUM_SAT_DEFAULT
    if paying is not None:
        script_of, minimum_sat = paying.script_of, paying.minimum_sat
    return plan_row(desk.read(lambda connection: plan(connection, wall_s(), script_of, minimum_sat)))


def payout_list(desk: Desk, it: PayoutList) -> Page[BatchLine]:
    """All batches, the newest last."""
    with in_words():
        batches = desk.read(batches_in)
    return page_of(it, [batch_line(batch) for batch in batches], lambda row: (row.batch,))


def payout_show(desk: Desk, it: PayoutShow) -> BatchRow:
    """One batch: outputs and digest, approvals, transactions, and who did what."""
    with in_words():
        return desk.read(partial(batch_row, batch_id=it.batch))


def payout_create(desk: OperatorDesk, it: PayoutCreate) -> BatchRow:
    """Draft a batch of what is payable, to be approved by somebody else. The balances are held until it is
    paid or cancelled."""
    desk.policy.check_person(desk.caller)
    return _step(desk, lambda paymaster: paymaster.create(desk.by))


def payout_approve(desk: OperatorDesk, it: PayoutApprove) -> BatchRow:
    """Approve a batch that somebody else drafted, or a higher fee cap for it."""
    desk.policy.check_person(desk.caller)
    return _step(
        desk, lambda paymaster: paymaster.approve(it.batch, it.digest.lower(), it.fee_cap_sat, desk.by)
    )


def payout_cancel(desk: OperatorDesk, it: PayoutCancel) -> BatchRow:
    """Call off a batch that no signer ever had. Its balances are payable again."""
    return _step(desk, lambda paymaster: paymaster.cancel(it.batch, desk.by))


def payout_disown(desk: OperatorDesk, it: PayoutDisown) -> BatchRow:
    """Say that no coin of ours ever paid a batch. With the first person's word it stays as it is, and has
    who `proposed_by`; the second's takes the payment back."""
    desk.policy.check_person(desk.caller)
    with in_words():
        disowned = _with_paymaster(desk, lambda paymaster: paymaster.disown(it.batch, desk.by))
        said = desk.by if disowned is None else UNSET
        return desk.read(partial(batch_row, batch_id=it.batch, proposed_by=said))


def payout_accept(desk: OperatorDesk, it: PayoutAccept) -> Accepted:
    """Say, as the second person, that one knows whom a transaction with coins of ours pays. The first says so
    where the chain is asked: `angara payout reconcile --accept`."""
    if TXID.fullmatch(it.txid) is None:
        raise RegistryError(f"{it.txid!r:.80} is no txid: 64 hex digits, in small letters")

    def accept(connection: Connection) -> None:
        if agreed(connection, ProposalKind.NO_PAYOUT, it.txid) is not None:
            return
        said = open_proposals(connection, ProposalKind.NO_PAYOUT, it.txid)
        if not said:
            raise RegistryError(
                f"nobody has looked at {it.txid} yet: the first does so on the pool's host, with"
                f" `angara payout reconcile --accept {it.txid}`"
            )
        act = act_of(desk, connection)
        if all(act.is_alone_beside(proposal.proposed_by) for proposal in said):
            raise RegistryError(f"{said[0].proposed_by} said so, {desk.by} is no second person beside that")
        agree(connection, ProposalKind.NO_PAYOUT, it.txid, SAID, act)

    with in_words():
        desk.write(accept)
    return Accepted(it.txid, desk.by)


def proposal_list(desk: Desk, it: ProposalList) -> Page[Proposal]:
    """What was proposed and waits for a second person: reversals, and what is said of transactions."""
    return page_of(it, desk.read(all_open), lambda row: (row.id,))


def one_batch(it: PayoutApprove | PayoutCancel | PayoutDisown) -> str:
    return f"{SUBJECT}{it.batch}"


def new_batch(it: PayoutCreate) -> str:
    return f"{SUBJECT}new"


def one_transaction(it: PayoutAccept) -> str:
    return it.txid


def newest_state(connection: Connection, subject: str) -> State:
    """Which the newest batch is, and of what."""
    newest = connection.scalar(select(func.max(payout_batches.c.id)))
    if newest is None:
        return None
    batch = load(connection, newest)
    return {
        "batch": batch.id,
        "digest": batch.digest,
        "payees": len(batch.items),
        "total_sat": batch.total_sat,
    }


def batch_state(connection: Connection, subject: str) -> State:
    """What persons change of a batch."""
    batch = load(connection, int(subject.removeprefix(SUBJECT)))
    newest = batch.approvals[-1] if batch.approvals else None
    return {
        "state": batch.state.value,
        "digest": batch.digest,
        "approved_by": newest and newest.approved_by,
        "fee_cap_sat": newest and newest.fee_cap_sat,
    }


def accepted_state(connection: Connection, subject: str) -> State:
    persons = agreed(connection, ProposalKind.NO_PAYOUT, subject)
    return {"accepted_by": None if persons is None else list(persons)}


def act_of(desk: OperatorDesk, connection: Connection) -> Act:
    """What whoever gives the command does now: he is no second person beside himself, under whatever name.
    Raises RegistryError for who is nobody in particular, where two persons agree."""
    desk.policy.check_person(desk.caller)
    return act_of_person(desk.by, wall_s(), *names_beside(connection, desk.caller, desk.policy))


def names_beside(
    connection: Connection, caller: Caller, policy: Approval
) -> tuple[Container[str], Container[str]]:
    """The names that may be the caller's too, where four eyes are asked for his puppets' as well, and whose
    puppet he may be; and those of who has no say any more."""
    four_eyes = policy.people > 1
    persons = Persons(list_users(connection), host_names(), two_users=four_eyes)
    if caller.user_id is None or not four_eyes:
        return persons.also_known_as(caller), persons.gone
    makers = Makers(connection, time_of_book(connection, wall_s()))
    return persons.also_known_as(caller, makers.one_with(caller.user_id, caller.token)), persons.gone


@contextmanager
def in_words() -> Iterator[None]:
    """What cannot be is the caller's to know, and no mistake of ours."""
    try:
        yield
    except (BadWallet, BatchError, LedgerError, NodeError, ProposalError) as error:
        raise RegistryError(str(error)) from None


class _Recorded:
    """The books of one command: what is written is written with its record."""

    def __init__(self, desk: OperatorDesk) -> None:
        self._desk = desk

    def read(self) -> AbstractContextManager[Connection]:
        return self._desk.store.read()

    def write(self) -> AbstractContextManager[Connection]:
        return self._desk.writing()


def _step(desk: OperatorDesk, job: Callable[[Paymaster], Awaitable[Batch]]) -> BatchRow:
    """What a step makes of a batch."""
    with in_words():
        batch = _with_paymaster(desk, job)
        return desk.read(partial(batch_row, batch_id=batch.id))


def _with_paymaster(desk: OperatorDesk, job: Callable[[Paymaster], Awaitable[_Result]]) -> _Result:
    if desk.paying is None:
        raise RegistryError(
            "there is no [payouts] here: it takes the settings, with a descriptor and a change_descriptor"
            " (where no pool runs, give --config)"
        )
    beside = desk.read(partial(names_beside, caller=desk.caller, policy=desk.policy))
    return desk.paying.lend(PayoutBooks(_Recorded(desk), wall_s, *beside), job)


COMMANDS: Final[Commands] = {
    "payout.preview": Question(PayoutPreview, payout_preview),
    "payout.list": Question(PayoutList, payout_list),
    "payout.show": Question(PayoutShow, payout_show),
    "payout.create": Change(
        PayoutCreate, payout_create, new_batch, newest_state, Role.PAYER, makes_books=False, asks_nodes=True
    ),
    "payout.approve": Change(
        PayoutApprove, payout_approve, one_batch, batch_state, Role.PAYER, makes_books=False
    ),
    "payout.cancel": Change(
        PayoutCancel, payout_cancel, one_batch, batch_state, Role.PAYER, makes_books=False
    ),
    "payout.disown": Change(
        PayoutDisown, payout_disown, one_batch, batch_state, Role.PAYER, makes_books=False
    ),
    "payout.accept": Change(
        PayoutAccept, payout_accept, one_transaction, accepted_state, Role.PAYER, makes_books=False
    ),
    "proposal.list": Question(ProposalList, proposal_list),
}
