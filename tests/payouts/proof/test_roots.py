"""Closing days: once each, in order, as it was, and found by the audit when anything in it is another."""

import json
from datetime import timedelta

import pytest
from sqlalchemy import Connection, text, update
from sqlalchemy.exc import DBAPIError

from payouts.audit.finding import Found
from payouts.audit.roots import check_roots
from payouts.proof.key import ProofKey
from payouts.proof.roots import closed, due_day, note
from payouts.schemas.proof import liability_roots
from payouts.statements.money import StatementWrong
from pool.books.day_closing import DayClosing
from pool.books.store import Store
from tests.histories.proof import KEY, ClosedBook, root_signed_again
from tests.histories.statements import DAY, DAY_S

OTHER = ProofKey(bytes(31) + b"\5")


@pytest.fixture
def book(store: Store) -> ClosedBook:
    return ClosedBook(store)


def audited(book: ClosedBook, key: ProofKey | None = KEY) -> str | None:
    with book.store.read() as connection:
        try:
            check_roots(connection, key)
        except Found as found:
            return found.wrong.reason
        return None


def forge(book: ClosedBook, **values: object) -> None:
    """As who may drop triggers writes the newest row, with the right hash, and signed."""
    with book.store.write() as connection:
        drop_triggers(connection)
        last = book.published()[-1]
        names = {"previous": "prev_hash"}
        new = root_signed_again(last | values)
        row = {names.get(it, it): new[it] for it in (*values, "hash", "signature")}
        connection.execute(
            update(liability_roots).where(liability_roots.c.number == last["number"]).values(row)
        )


def drop_triggers(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        for name in ("update", "delete"):
            connection.execute(text(f"DROP TRIGGER IF EXISTS liability_roots_no_{name}"))
    else:
        connection.execute(text("DROP TRIGGER IF EXISTS liability_roots_append_only ON liability_roots"))


def test_the_last_day_that_is_over_is_closed_first_and_then_each(book: ClosedBook) -> None:
    (first,) = book.close(2)
    assert (first.number, first.day) == (1, str(DAY + timedelta(1)))
    assert book.close(2) == ()
    later = book.close(5)
    assert [it.day for it in later] == [str(DAY + timedelta(it)) for it in (2, 3, 4)]
    assert [it.previous for it in later] == [first.hash, later[0].hash, later[1].hash]
    assert audited(book) is None
    assert audited(book, None) is None


def test_what_is_booked_later_changes_no_day_that_was_not_closed(book: ClosedBook) -> None:
    """A pool that was away closes each day with what was owed then."""
    book.close(2)
    book.adjust(99_000, DAY_S + 3 * 86_400 + 5)
    third, fourth = book.close(4)
    assert fourth.total_sat - third.total_sat == 99_000
    assert audited(book) is None


async def test_a_pool_closes_what_is_due_and_only_once(book: ClosedBook) -> None:
    book.close(2)
    with book.store.write() as connection:
        connection.execute(text("UPDATE book SET latest_s = latest_s + 2 * 86400"))
    for _ in range(2):
        await DayClosing(book.store, KEY).keep()
        assert len(book.published()) == 3
    assert audited(book) is None


def test_who_was_slower_writes_nothing(book: ClosedBook) -> None:
    with book.store.write() as connection:
        connection.execute(text("UPDATE book SET latest_s = latest_s + 86400"))
        day = due_day(connection)
        assert day is not None
        root = closed(connection, KEY, day)
        assert note(connection, root)
        assert not note(connection, root)
    assert len(book.published()) == 1


def test_a_root_is_never_changed_and_never_gone(book: ClosedBook) -> None:
    book.close(2)
    for change in ("UPDATE liability_roots SET total_sat = 0", "DELETE FROM liability_roots"):
        with pytest.raises(DBAPIError, match="append-only"), book.store.write() as connection:
            connection.execute(text(change))


@pytest.mark.sqlite_suffices
def test_the_audit_finds_what_does_not_follow_from_the_ledger(book: ClosedBook) -> None:
    book.close(3)
    last = book.published()[-1]
    for values, words in (
        ({"total_sat": last["total_sat"] - 1}, "sat were owed at the end of"),
        ({"ledger_seq": last["ledger_seq"] - 1}, "the ledger had another head"),
        ({"previous": "1" * 64}, "does not follow"),
        ({"root": "2" * 64}, "its tree is not of what was owed"),
    ):
        forge(book, **values)
        assert words in (audited(book) or ""), values
        forge(book, **{name: last[name] for name in values})
        assert audited(book) is None


@pytest.mark.sqlite_suffices
def test_the_audit_finds_a_hash_and_a_signature_that_are_wrong(book: ClosedBook) -> None:
    book.close(3)
    with book.store.write() as connection:
        drop_triggers(connection)
        connection.execute(update(liability_roots).values(signature="0" * 128))
    assert audited(book) == "it is not signed by its key"
    with book.store.write() as connection:
        connection.execute(update(liability_roots).values(total_sat=1))
    assert audited(book) == "its hash is not that of its content"


@pytest.mark.sqlite_suffices
def test_without_the_key_the_tree_is_taken_as_it_is(book: ClosedBook) -> None:
    book.close(3)
    forge(book, root="2" * 64)
    assert audited(book, OTHER) is None
    with pytest.raises(StatementWrong, match="is not that of the balances"):
        book.file(days=3)


@pytest.mark.sqlite_suffices
def test_a_statement_has_the_same_bytes_whenever_it_is_asked_for(book: ClosedBook) -> None:
    book.close(2)
    before = book.file()
    book.close(40)
    book.adjust(5, DAY_S + 40 * 86_400 + 1)
    assert book.file() == before


@pytest.mark.sqlite_suffices
def test_a_statement_that_ends_on_no_closed_day_or_with_another_key_is_as_it_was(book: ClosedBook) -> None:
    book.close(2)
    assert book.file(days=1) == book.file(days=1, key=None)
    assert book.file(key=OTHER) == book.file(key=None)
    assert "proof" not in json.loads(book.file(key=None))
    assert "proof" in json.loads(book.file())
