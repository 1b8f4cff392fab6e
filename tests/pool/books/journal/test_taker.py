"""The books take a journal: each acknowledged share once, whoever dies, whatever was put back."""

import errno
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text, update

from payouts.schemas.book import book
from payouts.schemas.money import containers, rate_hours, tally_minutes, tenants, workers
from pool.books.audit.verify import verify
from pool.books.copies.journals import go_on_behind, missing
from pool.books.journal import folding, taker
from pool.books.journal.hour_rows import note_missing
from pool.books.journal.positions import position_of, positions, taken_until_s
from pool.books.journal.schema import journal_hour_shares, journal_hours, journal_positions
from pool.books.store import Store, StoreError
from pool.fleet.rows import NumberTaken, remove_worker
from pool.journal.log import writers
from pool.journal.records import Batch, Machine, packed
from pool.journal.segments import JournalDamaged, segments
from stratum.tallies import Verdict
from tests.fixtures.databases import Crash, crash_before, disarm
from tests.stages.journal import NOW_S, Home, JournalOnStore, tally

STALE = Verdict.STALE


@pytest.fixture
def booked(store: Store, monkeypatch: pytest.MonkeyPatch) -> JournalOnStore:
    monkeypatch.setattr(folding, "STEP_PAUSE_S", 0.0)
    return JournalOnStore(store)


def named(store: Store) -> dict[str, int]:
    """Accepted shares in the books by the machine's name."""
    with store.read() as connection:
        rows = connection.execute(
            select(tenants.c.name, containers.c.name, workers.c.unit, func.sum(tally_minutes.c.shares))
            .select_from(tally_minutes)
            .join(workers, workers.c.id == tally_minutes.c.worker_id)
            .join(containers)
            .join(tenants, tenants.c.id == workers.c.tenant_id)
            .where(tally_minutes.c.verdict == Verdict.ACCEPTED)
            .group_by(tenants.c.name, containers.c.name, workers.c.unit)
        )
        return {f"{tenant}.{place}.{unit}": int(shares) for tenant, place, unit, shares in rows}


def proven(booked: JournalOnStore) -> None:
    with booked.store.read() as connection:
        assert verify(connection, data_dir=booked.home.path).wrong is None


@pytest.mark.parametrize(("rows_max", "first"), [(1_000, 0), (2, 5)])
async def test_a_kill_before_any_step_of_taking_and_of_the_start_books_each_share_once(
    booked: JournalOnStore, monkeypatch: pytest.MonkeyPatch, rows_max: int, first: int
) -> None:
    """A running pool is killed, then the start after it; the one after that goes through."""
    monkeypatch.setattr(taker, "ROWS_MAX", rows_max)
    expected: dict[tuple[int, int], int] = {}
    for step in range(first, 44, 10):
        for name in ("u1", f"u{step + 2}"):
            worker = booked.worker(f"acme.c01.{name}")
            await booked.journal.commit(tally(worker, booked.epoch) + tally(worker, 0, 0, STALE, 2))
            for verdict, count in ((Verdict.ACCEPTED, 1), (STALE, 2)):
                expected[worker, verdict] = expected.get((worker, verdict), 0) + count
        with suppress(Crash), crash_before(step):
            await booked.folding.fold()
        assert booked.home.path.exists()
        with suppress(Crash), crash_before(step + 2):
            booked.restart()
        booked.restart()
        assert booked.waiting() == []
        assert booked.shares() == expected
        proven(booked)


@pytest.mark.sqlite_suffices
async def test_a_window_of_several_steps_is_gone_on_with_where_it_was(
    booked: JournalOnStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came since is taken behind it, and not with it: it had other rows then."""
    monkeypatch.setattr(taker, "ROWS_MAX", 2)
    worker = booked.worker("acme.c01.u1")
    for verdict in (Verdict.ACCEPTED, STALE, Verdict.DUPLICATE, Verdict.MALFORMED):
        await booked.journal.commit(tally(worker, booked.epoch, verdict=verdict, count=5))
    booked.taker.step(booked.journal._log.at.number)  # and killed
    with booked.store.read() as connection:
        position = position_of(connection, writers(booked.home.path)[0].name)
    assert (position.at.number, position.rows_done) == (0, 2)
    proven(booked)
    await booked.journal.commit(tally(worker, booked.epoch, count=7))
    booked.restart()
    assert booked.shares()[worker, Verdict.ACCEPTED] == 12
    assert booked.shares()[worker, STALE] == 5
    proven(booked)


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("verdict", [Verdict.ACCEPTED, STALE])
async def test_what_was_read_before_a_file_that_cannot_be_opened_for_a_moment_is_read_again(
    booked: JournalOnStore, monkeypatch: pytest.MonkeyPatch, verdict: Verdict
) -> None:
    """No descriptor is left between two files of a window: the end of the first is not passed over."""
    worker = booked.worker("acme.c01.u1")
    await booked.journal.commit(tally(worker, booked.epoch))
    await booked.folding.fold()
    await booked.journal.commit(tally(worker, booked.epoch, verdict=verdict, count=5))
    booked.journal._log._segment_bytes = 1
    await booked.journal.commit(tally(worker, booked.epoch, count=7))
    _, second = (path for _, path in segments(writers(booked.home.path)[0]))
    opens, left = Path.open, [OSError(errno.EMFILE, "Too many open files")]

    def open_or_not(path: Path, *args: Any) -> Any:
        if path == second and left:
            raise left.pop()
        return opens(path, *args)

    monkeypatch.setattr(Path, "open", open_or_not)
    with pytest.raises(OSError, match="Too many open files"):
        await booked.folding.fold()
    await booked.folding.fold()
    assert booked.waiting() == []
    expected = {(worker, Verdict.ACCEPTED): 8, (worker, verdict): 5}
    if verdict is Verdict.ACCEPTED:
        expected = {(worker, verdict): 13}
    assert booked.shares() == expected
    proven(booked)


async def test_a_position_that_was_set_back_books_shares_twice_and_verify_says_so(
    booked: JournalOnStore,
) -> None:
    """The thief has the database, and puts back the row of an hour ago, which was once right: his three
    shares are six, and the hours have three more than the journal ever said."""
    worker, table = booked.worker("acme.c01.u1"), journal_positions
    await booked.journal.commit(tally(worker, booked.epoch, count=5))
    await booked.folding.fold()
    with booked.store.read() as connection:
        before = dict(connection.execute(select(table)).mappings().one())
    await booked.journal.commit(tally(worker, booked.epoch, count=3))
    await booked.folding.fold()
    proven(booked)
    with booked.store.write() as connection:
        disarm(connection)
        connection.execute(update(table).values({it: before[it] for it in before if it != "transactions"}))
    booked.restart()
    assert booked.shares() == {(worker, Verdict.ACCEPTED): 11}
    with booked.store.read() as connection:
        wrong = verify(connection).wrong
    assert wrong is not None
    assert (wrong.table, "are not the 11 of the hours" in wrong.reason) == ("journal_positions", True)


@pytest.mark.sqlite_suffices
async def test_shares_of_another_book_are_refused_in_words(booked: JournalOnStore) -> None:
    await booked.journal.commit(tally(booked.worker("acme.c01.u1"), booked.epoch))
    with booked.store.write() as connection:
        connection.execute(update(book).values(uid="another"))
    with pytest.raises(JournalDamaged, match="shares of another book than this one"):
        booked.restart()
    with booked.store.read() as connection:
        wrong = verify(connection, data_dir=booked.home.path).wrong
    assert wrong is not None
    assert (wrong.table, wrong.reason) == ("journal", "it is of another book")


async def test_a_journal_that_others_went_on_without_is_booked_by_names_and_behind_what_was_stated(
    booked: JournalOnStore,
) -> None:
    """A host died with shares in its journal; another went on with the book. Its machine has the number of
    another one there, and its minute is over: a statement may have been made of it."""
    first = booked.worker("acme.c01.u1")
    await booked.journal.commit(tally(first, booked.epoch, count=5))
    left = booked.home
    booked.home = Home()
    booked.clock.now_s += 7200
    booked.restart()
    second = booked.worker("borealis.c07.u9")
    assert second == first
    await booked.journal.commit(tally(second, booked.epoch, count=2))
    await booked.folding.fold()
    assert named(booked.store) == {"borealis.c07.u9": 2}
    away, booked.home = booked.home, left
    booked.restart()
    assert named(booked.store) == {"borealis.c07.u9": 2, "acme.c01.u1": 5}
    with booked.store.read() as connection:
        minutes = set(connection.scalars(select(tally_minutes.c.minute)))
        by_tenant = connection.execute(
            select(workers.c.tenant_id, func.sum(tally_minutes.c.shares))
            .join(workers, workers.c.id == tally_minutes.c.worker_id)
            .group_by(workers.c.tenant_id)
        )
        assert dict(by_tenant.all()) == {1: 5, 2: 2}
    assert minutes == {(NOW_S + 7200) // 60}
    proven(booked)
    await booked.journal.commit(tally(booked.worker("acme.c01.u1"), booked.epoch))
    booked.restart()
    assert named(booked.store)["acme.c01.u1"] == 6
    assert away.path.exists()


@pytest.mark.sqlite_suffices
async def test_while_a_pool_runs_a_number_that_is_anothers_is_an_error(booked: JournalOnStore) -> None:
    worker = booked.worker("acme.c01.u1")
    await booked.journal.commit(tally(worker, booked.epoch))
    with booked.store.write() as connection:
        connection.execute(containers.insert().values(id=9, tenant_id=2, name="c", created_at_s=0))
        row = {"id": worker, "tenant_id": 2, "container_id": 9, "unit": "u"}
        connection.execute(workers.insert().values(**row, first_seen_at_s=0, last_seen_at_s=0))
    with pytest.raises(NumberTaken):
        await booked.folding.fold()
    assert len(booked.waiting()) == 1


@pytest.mark.sqlite_suffices
async def test_a_machine_that_was_removed_before_its_shares_were_taken_mines(booked: JournalOnStore) -> None:
    """Named again in every file, it is back by a first share alone: what was removed since stays so."""
    worker = booked.worker("acme.c01.u1")
    await booked.journal.commit(tally(worker, booked.epoch))
    await booked.folding.fold()
    booked.restart()
    await booked.journal.commit(tally(worker, booked.epoch))
    (batch,) = booked.waiting()
    assert [(it.number, it.new) for it in batch.machines] == [(worker, False)]
    with booked.store.write() as connection:
        remove_worker(connection, "acme", "c01", "u1", NOW_S)
    booked.restart()
    assert worker not in booked.registry.workers
    assert booked.shares() == {(worker, Verdict.ACCEPTED): 2}


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize(
    ("record", "words"),
    [
        (Batch(moment_s=NOW_S, accepted=1, tallies=tally(7, 1)), "machine 7, and does not name it"),
        (
            Batch(
                moment_s=NOW_S,
                accepted=1,
                tallies=tally(1, 1),
                machines=(
                    Machine(
                        number=1,
                        tenant_id=9,
                        tenant="caucasus",
                        container_id=1,
                        container="c",
                        unit="u",
                        agent=None,
                    ),
                ),
            ),
            "tenant caucasus, whom these books do not know: add the tenant",
        ),
        (Batch(moment_s=NOW_S, accepted=9), "has 9 accepted shares up to record .*, and 0 of it are"),
    ],
)
async def test_what_cannot_be_booked_is_said_and_is_still_there(
    booked: JournalOnStore, record: Batch, words: str
) -> None:
    booked.journal._log.append(packed(record), NOW_S, record.accepted)
    for _ in range(2):
        with pytest.raises((JournalDamaged, StoreError), match=words):
            booked.restart()
    assert len(booked.waiting()) == 1
    assert booked.shares().keys() <= {(7, 0), (1, 0)}


# Books that were put back


def row_of(booked: JournalOnStore) -> dict[str, object]:
    with booked.store.read() as connection:
        return dict(connection.execute(select(journal_positions)).mappings().one())


def put_back(booked: JournalOnStore, row: dict[str, object]) -> None:
    """Books of before: as far as the journal can tell."""
    with booked.store.write() as connection:
        disarm(connection)
        for table in (tally_minutes, rate_hours, journal_hours, journal_hour_shares):
            connection.execute(table.delete())
        connection.execute(text("DELETE FROM journal_writers"))
        connection.execute(update(journal_positions).values(row))
        transactions = {"writer": row["writer"], "batch": row["transactions"]}
        connection.execute(text("INSERT INTO journal_writers VALUES (:writer, :batch)"), transactions)
        position = positions(connection)[0]
        had = position.at.number, position.accepted
        if had[0]:
            note_missing(connection, position.writer, position.at, records=had[0], accepted=had[1])


@pytest.mark.sqlite_suffices
async def test_books_that_were_put_back_take_what_the_journal_still_has(booked: JournalOnStore) -> None:
    worker = booked.worker("acme.c01.u1")
    await booked.folding.fold()
    before = row_of(booked)
    for _ in range(3):
        await booked.journal.commit(tally(worker, booked.epoch, count=4))
        await booked.folding.fold()
        booked.restart()
    put_back(booked, before)
    booked.restart()
    assert booked.shares() == {(worker, Verdict.ACCEPTED): 12}
    proven(booked)


@pytest.mark.sqlite_suffices
async def test_what_is_missing_between_books_that_were_put_back_and_the_journal_is_said(
    booked: JournalOnStore,
) -> None:
    worker = booked.worker("acme.c01.u1")
    await booked.folding.fold()
    before = row_of(booked)
    for _ in range(3):
        await booked.journal.commit(tally(worker, booked.epoch, count=4))
        await booked.folding.fold()
        booked.restart()
    for _, path in segments(writers(booked.home.path)[0])[:2]:
        path.unlink()
    put_back(booked, before)
    with pytest.raises(JournalDamaged, match=r"records \d+ to \d+ are missing"):
        booked.restart()
    with booked.store.write() as connection:
        (gap,) = missing(connection, booked.home.path)
        assert (gap.accepted, gap.first) == (8, 2)
        go_on_behind(connection, booked.home.path)
        assert missing(connection, booked.home.path) == []
    booked.restart()
    assert booked.shares() == {(worker, Verdict.ACCEPTED): 4}
    proven(booked)


@pytest.mark.sqlite_suffices
async def test_what_is_whole_in_a_damaged_file_is_not_missing(booked: JournalOnStore) -> None:
    """Books that were put back would go on behind it, without what the journal has."""
    worker = booked.worker("acme.c01.u1")
    await booked.folding.fold()
    before = row_of(booked)
    for _ in range(2):
        await booked.journal.commit(tally(worker, booked.epoch, count=4))
        await booked.folding.fold()
        booked.restart()
    _, path = segments(writers(booked.home.path)[0])[0]
    whole = path.read_bytes()
    path.write_bytes(b"\0" + whole[1:])
    put_back(booked, before)
    for look in (missing, go_on_behind):
        with booked.store.write() as connection, pytest.raises(JournalDamaged, match="is damaged at byte 0"):
            look(connection, booked.home.path)
    path.write_bytes(whole)
    booked.restart()
    assert booked.shares() == {(worker, Verdict.ACCEPTED): 8}
    proven(booked)


@pytest.mark.sqlite_suffices
async def test_a_period_is_over_when_the_journal_of_it_is_in_the_books(booked: JournalOnStore) -> None:
    worker = booked.worker("acme.c01.u1")
    await booked.journal.commit(tally(worker, booked.epoch))
    booked.clock.now_s += 600
    with booked.store.read() as connection:
        assert (taken_until_s(connection) or 0) < NOW_S
    await booked.folding.fold()
    with booked.store.read() as connection:
        assert taken_until_s(connection) == NOW_S + 600, "there was nothing since"
    booked.clock.now_s -= 3600
    await booked.journal.commit(tally(worker, booked.epoch))
    assert booked.waiting()[0].moment_s == NOW_S + 600


@pytest.mark.sqlite_suffices
async def test_a_journal_in_which_nothing_happens_is_of_no_later_moment_than_the_book(
    booked: JournalOnStore,
) -> None:
    await booked.journal.commit(tally(booked.worker("acme.c01.u1"), booked.epoch))
    await booked.folding.fold()
    for passed_s in (60, 90_000):
        booked.taker.note_moment(NOW_S + passed_s)
        proven(booked)


@pytest.mark.sqlite_suffices
def test_no_journal_is_no_reason_for_anything(tmp_path: Path, store: Store) -> None:
    with store.read() as connection:
        assert missing(connection, tmp_path) == []
        assert taken_until_s(connection) is None
        assert verify(connection, data_dir=tmp_path).waiting == 0
