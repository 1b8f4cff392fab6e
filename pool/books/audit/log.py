"""The audit of the journals beside the books: each is whole behind what the books have taken, and goes on
from the very record that they took last.

Must not know: how to mend anything.
"""

from pathlib import Path

import numpy as np
from sqlalchemy import Connection

from payouts.audit.finding import Found
from pool.books.journal.positions import position_of, uid_of
from pool.books.journal.rate_rows import unfit
from pool.books.journal.window import accepted_in
from pool.journal.log import writers
from pool.journal.records import BY_ROWS, Batch, Opening, unpacked
from pool.journal.segments import JournalDamaged, Walk
from stratum.tallies import RECORD


def check_logs(connection: Connection, data_dir: Path) -> int:
    """How many batches wait for the books. Raises Found for the first record that is wrong."""
    return sum(_check_log(connection, directory) for directory in writers(data_dir))


def _check_log(connection: Connection, directory: Path) -> int:
    writer = directory.name
    position, book = position_of(connection, writer), uid_of(connection)
    named: set[int] = set()
    defined: set[int] | None = None  # None: rate numbers of the file are rows
    waiting = 0
    accepted: int | None = None
    try:
        for frame in Walk(directory, writer, position.at).frames():
            said = unpacked(frame.body)
            wrong = ""
            if isinstance(said, Opening):
                named.clear()
                defined = None if said.version <= BY_ROWS else {0}
                wrong = "" if said.book == book else "it is of another book"
                counted = 0
            else:
                named |= {it.number for it in said.machines}
                waiting += frame.at.number > position.at.number
                wrong, counted = _wrong(said, named)
                if defined is not None:
                    defined |= {it.number for it in said.rates}
                    wrong = wrong or _wrong_rates(said, defined)
                if frame.at.number > position.at.number:
                    wrong = wrong or _unfit(connection, said)
            if accepted is not None and said.accepted != accepted + counted:
                wrong = f"it counts {said.accepted} accepted shares, where {accepted + counted} are in it"
            if wrong:
                raise Found("journal", f"{writer} {frame.at.number}", wrong)
            accepted = said.accepted
    except JournalDamaged as error:
        raise Found("journal", writer, str(error)) from error
    except ValueError as error:
        raise Found("journal", writer, f"a record cannot be read: {error}") from error
    return waiting


def _wrong_rates(batch: Batch, defined: set[int]) -> str:
    rates = np.unique(np.frombuffer(batch.tallies, dtype=RECORD)["rate"])
    return "" if set(rates.tolist()) <= defined else "it has shares of a rate that it does not define"


def _unfit(connection: Connection, batch: Batch) -> str:
    """Why these books will not take a price of it."""
    return next((f"rate {it.number}: {words}" for it in batch.rates if (words := unfit(connection, it))), "")


def _wrong(batch: Batch, named: set[int]) -> tuple[str, int]:
    """What is wrong with a batch, in words; and its accepted shares."""
    if len(batch.tallies) % RECORD.itemsize:
        return "it is no row of tallies", 0
    records = np.frombuffer(batch.tallies, dtype=RECORD)
    if not set(np.unique(records["worker"]).tolist()) <= named:
        return "it has shares of a machine that it does not name", 0
    return "", accepted_in(records)
