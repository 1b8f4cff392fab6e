"""Bugs that a pool could have, each put into production code for the length of a `with`.

They are what this simulation is for: one that lets any of these pass proves nothing. `VERDICTS` says as what
each is found. Those of several sites are in `tests.simulation.planted_site_bugs`, and those of who speaks
Stratum V2 in `tests.simulation.planted_route_bugs`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import pytest
from sqlalchemy import Connection

from payouts.tallies import record
from payouts.tally_rows import Rows
from pool.books.journal import bookings
from pool.books.journal.folding import ROUND_S, Folding
from pool.books.journal.journal import Journal
from pool.books.journal.kept_rows import KeptRows
from pool.books.journal.positions import position_of
from pool.books.journal.taker import Taken, Taker
from stratum.miners.extranonce import ExtranonceSpace
from stratum.miners.session_difficulty import SessionDifficulty
from tests.simulation.planted_route_bugs import ROUTES_PLANTED
from tests.simulation.planted_site_bugs import SITES_PLANTED


def acknowledge_before_commit(patch: pytest.MonkeyPatch) -> None:
    """What is acknowledged is on disk only with the commit after it."""
    commit, kept = Journal.commit, WeakKeyDictionary[Journal, bytes]()

    async def early(it: Journal, tallies: bytes) -> None:
        before = kept.pop(it, b"")
        kept[it] = tallies
        await commit(it, before)

    patch.setattr(Journal, "commit", early)


def reuse_an_extranonce(patch: pytest.MonkeyPatch) -> None:
    """A prefix is given to somebody else while jobs live that it was mined with."""
    patch.setattr(ExtranonceSpace, "_rested", lambda it: next(iter(it.resting), None))


def credit_at_the_wrong_difficulty(patch: pytest.MonkeyPatch) -> None:
    """A new difficulty holds for the work that a miner had before it, too."""
    pin = SessionDifficulty.pin

    def of_all(it: SessionDifficulty, policy: Any, log2: int, seq: int, now_s: float, **rest: Any) -> None:
        pin(it, policy, log2, 0, now_s, **rest)

    patch.setattr(SessionDifficulty, "pin", of_all)


def fold_twice(patch: pytest.MonkeyPatch) -> None:
    """A transaction whose answer was lost is taken for one that did not happen, and its shares come again."""
    step = Taker.step
    last: list[Rows] = []
    again: list[Rows] = []

    def stepping(it: Taker, until: int | None = None, *, whole: bool = False) -> Taken | None:
        if it._intended is not None:
            with it._store.read() as connection:
                if position_of(connection, it._writer) == it._intended:
                    again.extend(last)
        return step(it, until, whole=whole)

    def recording(connection: Connection, writer: str, batch: int, tallies: Rows) -> bool:
        last[:] = [tallies]
        done = record(connection, writer, batch, np.concatenate([tallies, *again]))
        again.clear()
        return done

    patch.setattr(Taker, "step", stepping)
    patch.setattr(bookings, "record", recording)


def trim_too_early(patch: pytest.MonkeyPatch) -> None:
    """What is about to be taken by the books is removed from the journal before they have it."""
    fold = Folding.fold

    async def trimming(it: Folding, within_s: float = ROUND_S) -> bool:
        for source in it._sources:
            assert isinstance(source.writer, Journal)
            source.writer._log.trim(source.writer._log.at)
        return await fold(it, within_s)

    patch.setattr(Folding, "fold", trimming)


def forget_what_is_kept(patch: pytest.MonkeyPatch) -> None:
    """Shares of every second transaction are paid, and are in no closing."""
    book = KeptRows.book

    def forgetting(it: KeptRows, connection: Connection, transaction: int, kept: Any) -> None:
        if transaction % 2:
            book(it, connection, transaction, kept)

    patch.setattr(KeptRows, "book", forgetting)


PLANTED: Final[dict[str, Callable[[pytest.MonkeyPatch], None]]] = {
    it.__name__: it
    for it in (
        acknowledge_before_commit,
        reuse_an_extranonce,
        credit_at_the_wrong_difficulty,
        fold_twice,
        trim_too_early,
        forget_what_is_kept,
    )
}
VERDICTS: Final = {
    "acknowledge_before_commit": "acknowledged and lost",
    "reuse_an_extranonce": "the same work twice",
    "credit_at_the_wrong_difficulty": "booked at another difficulty",
    "fold_twice": "booked more than once",
    "trim_too_early": "acknowledged and lost",
    "forget_what_is_kept": "a share that proves work is not kept",
}


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """The bug of this name is there until the end of the block; without a name there is none."""
    with pytest.MonkeyPatch.context() as patch:
        if name is not None:
            (PLANTED | SITES_PLANTED | ROUTES_PLANTED)[name](patch)
        yield
