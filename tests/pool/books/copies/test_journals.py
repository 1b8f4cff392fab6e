"""A backup has every share that was acknowledged until it was made; what came since is in the journal."""

from functools import partial
from pathlib import Path

import pytest
import trio
from sqlalchemy import func, select

from payouts.schemas.money import tally_minutes
from pool.books.copies.backup import copy_opened
from pool.books.journal.taker import Taken, Taker
from pool.books.store import open_store
from pool.cli.bookkeeping.database_copies import back_up, restore
from pool.journal.log import writers
from pool.journal.segments import segments
from stratum.tallies import Verdict
from tests.fixtures.databases import SqliteDatabases
from tests.stages.journal import JournalOnStore, tally


def nobody(done: int, total: int) -> None:
    """Who asks how far it is."""


async def test_no_acknowledged_share_is_lost_by_a_backup_and_its_restore(
    sqlite_databases: SqliteDatabases, tmp_path: Path
) -> None:
    with sqlite_databases.fresh_url() as url:
        book, copy = Path(url.removeprefix("sqlite:///")), tmp_path / "copy"
        booked = JournalOnStore(open_store(url))
        worker = booked.worker("acme.c01.u1")
        await booked.journal.commit(tally(worker, booked.epoch, count=3))
        done = back_up(book, booked.home.path, copy, replace=False, told=nobody)
        assert (done.verified, done.journal_wrong) == (True, None)
        assert done.standing.journals == ((writers(booked.home.path)[0].name, 2),)
        with copy_opened(copy) as connection:
            assert connection.scalar(select(func.sum(tally_minutes.c.shares))) == 3
        assert booked.shares() == {(worker, Verdict.ACCEPTED): 3}, "the book itself has not taken it"
        for count in (4, 5):
            await booked.journal.commit(tally(worker, booked.epoch, count=count))
            await booked.folding.fold()
        booked.store.close()
        restored = restore(copy, book, booked.home.path, "ann", told=nobody)
        assert restored.missing == ()
        booked.store = open_store(url)
        booked.restart()
        assert booked.shares() == {(worker, Verdict.ACCEPTED): 12}
        booked.store.close()


async def test_a_backup_ends_however_fast_shares_come(
    sqlite_databases: SqliteDatabases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite_databases.fresh_url() as url:
        book, copy = Path(url.removeprefix("sqlite:///")), tmp_path / "copy"
        booked = JournalOnStore(open_store(url))
        worker = booked.worker("acme.c01.u1")
        await booked.journal.commit(tally(worker, booked.epoch, count=3))
        take, steps = Taker.step, 0

        def take_while_a_share_comes(
            taker: Taker, until: int | None = None, *, whole: bool = False
        ) -> Taken | None:
            nonlocal steps
            steps += 1
            assert steps < 10, "it follows the journal"
            trio.from_thread.run(booked.journal.commit, tally(worker, booked.epoch))
            return take(taker, until, whole=whole)

        monkeypatch.setattr(Taker, "step", take_while_a_share_comes)
        done = await trio.to_thread.run_sync(
            partial(back_up, book, booked.home.path, copy, replace=False, told=nobody)
        )
        assert done.standing.journals == ((writers(booked.home.path)[0].name, 2),)
        with copy_opened(copy) as connection:
            assert connection.scalar(select(func.sum(tally_minutes.c.shares))) == 3
        booked.store.close()


async def test_a_journal_that_is_damaged_keeps_nobody_from_a_backup(
    sqlite_databases: SqliteDatabases, tmp_path: Path
) -> None:
    """It says that nothing of the journal is in it: what was booked is worth the more then."""
    with sqlite_databases.fresh_url() as url:
        booked = JournalOnStore(open_store(url))
        for _ in range(2):
            await booked.journal.commit(tally(booked.worker("acme.c01.u1"), booked.epoch))
        _, file = segments(writers(booked.home.path)[0])[0]
        damaged = bytearray(file.read_bytes())
        damaged[200] ^= 1
        file.write_bytes(damaged)
        book = Path(url.removeprefix("sqlite:///"))
        done = back_up(book, booked.home.path, tmp_path / "copy", replace=False, told=nobody)
        assert done.verified
        assert "is damaged at byte" in (done.journal_wrong or "")
        booked.store.close()
