"""What `angara ledger reverse` does: a transaction and what is proposed of it, a proposal, and another
person's word.

Must not know: when a transaction may be reversed.
"""

import time

import msgspec

from payouts.batches.rows import act_of_person
from payouts.reversals import confirm_reversal, propose_reversal, reversible
from pool.cli.books import Books
from pool.cli.opened_books import opened_to_read, opened_to_write
from pool.cli.output import Form, iso_time, moment, print_json, say, tell
from pool.reports.figures import amount


def propose(books: Books, seq: int, why: str, proposer: str, form: Form) -> None:
    """Raises LedgerError, ProposalError."""
    with opened_to_write(books) as (store, _), store.write() as connection:
        proposal = propose_reversal(connection, seq, why, act_of_person(proposer, int(time.time())))
    tell(
        f"proposal {proposal.id}: {proposer} wants transaction {seq} reversed. "
        f"Next: somebody else runs `angara ledger reverse {seq} --confirm {proposal.id}`",
        {"proposal": proposal.id, "transaction": seq, "proposed_by": proposer, "why": why},
        form,
    )


def confirm(books: Books, seq: int, number: int, confirmer: str, form: Form) -> None:
    """Raises LedgerError, ProposalError."""
    with opened_to_write(books) as (store, _), store.write() as connection:
        posted = confirm_reversal(connection, seq, number, act_of_person(confirmer, int(time.time())))
    tell(
        f"transaction {posted.seq} reverses transaction {seq}",
        {"transaction": posted.seq, "reverses": seq, "confirmed_by": confirmer},
        form,
    )


def show_reversible(books: Books, seq: int, form: Form) -> None:
    """Raises LedgerError where there is no such transaction."""
    with opened_to_read(books) as store, store.read() as connection:
        it = reversible(connection, seq)
    if form is Form.JSON:
        print_json(msgspec.to_builtins(it))
        return
    say(f"transaction {it.seq}, {it.kind}, {moment(iso_time(it.booked_at_s))}: {it.memo}")
    for transfer in it.transfers:
        say(f"  {amount(transfer.amount_sat):>24} from {transfer.from_account} to {transfer.to_account}")
    if it.refused is not None:
        say(f"it cannot be reversed: {it.refused}")
    for proposal in it.proposals:
        proposed = moment(iso_time(proposal.proposed_at_s))
        say(f"proposal {proposal.id}, {proposed}, by {proposal.proposed_by}: {proposal.why}")
