"""`angara ledger verify`: all that the books can prove, from the chain of bookings to the tables around it.

In this order: the money (`payouts.audit.verify`), the book itself, references between rows, payouts,
decisions, the journal and its log, users, edges, receipts of orders, changes of the key that is signed with,
the roots of closed days, closings, and reserves.
What no row can prove, because one who may write to the database may write that too, is told in docs/books.md.

Invariants: reads only, in the caller's transaction, which must see one moment.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from sqlalchemy import Connection, text
from sqlalchemy.exc import NoResultFound

from payouts.audit.checkpoint import Checkpoint
from payouts.audit.closings import check_closings
from payouts.audit.decisions import check_references, check_registry
from payouts.audit.finding import Found
from payouts.audit.key_changes import check_key_changes
from payouts.audit.payouts import check_payouts
from payouts.audit.receipts import check_receipts
from payouts.audit.reserves import check_reserves
from payouts.audit.roots import check_roots
from payouts.audit.verify import Audit, Head, audit
from payouts.proof.key import ProofKey
from pool.books.audit.edges import check_edges
from pool.books.audit.journal import check_book, check_journal
from pool.books.audit.log import check_logs
from pool.books.audit.outputs import check_outputs
from pool.books.audit.people import check_people
from pool.books.changes.changes import NO_CHANGE, LastChange, last_change


class BookAudit(Audit, frozen=True, kw_only=True):
    """What an audit of the whole book found. `last_change` is to be noted elsewhere, as the ledger's head is:
    who may write to the database can make another record of changes that contradicts nothing in it."""

    last_change: LastChange
    waiting: int | None = None  # batches of the journals that the books have not taken; None: not looked at


def verify(
    connection: Connection,
    noted: Iterable[Head] = (),
    told: Callable[[int], None] | None = None,
    data_dir: Path | None = None,
    since: Checkpoint | None = None,
    proof: ProofKey | None = None,
) -> BookAudit:
    """The audit of the whole book, and of the journals in its data directory, with the first row that is
    wrong. `told` is as in `audit`; so is `since`, from which on bookings and tallies are looked at, and
    everything else from its beginning. `proof`: the key that roots were made with, where it is there."""
    if connection.dialect.name == "postgresql":
        # Signatures of receipts, and journals, are looked at for minutes, in which nothing is asked.
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
    found = BookAudit(
        **msgspec.structs.asdict(audit(connection, noted, told, since)), last_change=_last_change(connection)
    )
    if found.wrong is not None:
        return found
    try:
        check_book(connection)
        check_references(connection, tallies=since is None)
        check_payouts(connection)
        check_outputs(connection)
        check_registry(connection)
        check_journal(connection)
        check_people(connection)
        check_edges(connection)
        check_receipts(connection)
        check_key_changes(connection)
        check_roots(connection, proof)
        check_closings(connection)
        check_reserves(connection)
        waiting = None if data_dir is None else check_logs(connection, data_dir)
    except Found as wrong:
        return msgspec.structs.replace(found, wrong=wrong.wrong)
    return msgspec.structs.replace(found, waiting=waiting)


def _last_change(connection: Connection) -> LastChange:
    """Of a book that may have lost the row about itself."""
    try:
        return last_change(connection)
    except NoResultFound:
        return NO_CHANGE
