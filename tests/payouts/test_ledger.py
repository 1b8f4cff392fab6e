"""The ledger: what it books, what it refuses, that it books once, and that nothing in it can be changed."""

import hashlib
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import DatabaseError

from payouts.audit.verify import Head, audit
from payouts.ledger import (
    AMOUNT_SAT_MAX,
    GENESIS_HASH,
    KEY_CHARACTERS_MAX,
    MEMO_CHARACTERS_MAX,
    TRANSFERS_MAX,
    KeyConflict,
    Kind,
    LedgerError,
    Overdrawn,
    PoolAccount,
    Posted,
    Transaction,
    Transfer,
    balance_sat,
    balances_sat,
    chain_hash,
    in_payout,
    open_accounts,
    payable,
    post,
    reverse,
    transfers_of,
)
from payouts.schemas.money import ledger_transactions, ledger_transfers, tenants
from pool.books.store import Store, open_store
from tests.fixtures.databases import disarm

NOW_S = 1_700_000_000
WAIT_S = 10
EXPENSE, COINS = PoolAccount.PPS_EXPENSE.value, PoolAccount.COINS.value
ACME, BOREALIS = 1, 2


@pytest.fixture
def books(store: Store) -> Store:
    """A ledger with the accounts of two tenants."""
    with store.write() as connection:
        open_tenant(connection, ACME, "acme")
        open_tenant(connection, BOREALIS, "borealis")
    return store


def open_tenant(connection: Connection, tenant_id: int, name: str) -> None:
    connection.execute(insert(tenants).values(id=tenant_id, name=name, status="active", created_at_s=0))
    open_accounts(connection, tenant_id)
    open_accounts(connection, tenant_id)  # a second time does nothing


def credit(key: str, sat: int, tenant_id: int = ACME, memo: str = "work") -> Transaction:
    """The pool owes the tenant so much more."""
    return Transaction(
        key=key,
        kind=Kind.ADJUSTMENT,
        memo=memo,
        transfers=(Transfer(EXPENSE, payable(tenant_id), sat),),
    )


def hold(key: str, sat: int, tenant_id: int = ACME) -> Transaction:
    """So much of it is going to be paid out."""
    return Transaction(
        key=key,
        kind=Kind.PAYOUT,
        memo="hold",
        transfers=(Transfer(payable(tenant_id), in_payout(tenant_id), sat),),
    )


def book(store: Store, *transactions: Transaction) -> list[Posted]:
    with store.write() as connection:
        return [post(connection, transaction, NOW_S) for transaction in transactions]


def balances(store: Store) -> dict[str, int]:
    """The balances that are not zero."""
    with store.read() as connection:
        found = balances_sat(connection)
        assert found == {account: balance_sat(connection, account) for account in found}
        assert sum(found.values()) == 0
        checked = audit(connection)
    assert checked.wrong is None
    assert checked.balances_sat == found
    return {account: sat for account, sat in found.items() if sat}


# Booking


@pytest.mark.sqlite_suffices
def test_a_transfer_moves_satoshi_from_one_account_to_another(books: Store) -> None:
    assert book(books, credit("a", 700), credit("b", 50, BOREALIS), hold("c", 300)) == [
        Posted(1, False),
        Posted(2, False),
        Posted(3, False),
    ]
    assert balances(books) == {EXPENSE: -750, payable(ACME): 400, in_payout(ACME): 300, payable(BOREALIS): 50}


@pytest.mark.sqlite_suffices
def test_a_new_ledger_is_empty_and_in_order(books: Store) -> None:
    assert balances(books) == {}
    with books.read() as connection:
        assert audit(connection).head == Head(0, GENESIS_HASH)


@pytest.mark.sqlite_suffices
def test_a_retry_books_nothing_and_says_that_it_exists(books: Store) -> None:
    book(books, credit("a", 700))
    assert book(books, credit("b", 1), credit("a", 700)) == [Posted(2, False), Posted(1, True)]
    with books.write() as connection:  # later, too
        assert post(connection, credit("a", 700), NOW_S + 86_400) == Posted(1, True)
    assert balances(books) == {EXPENSE: -701, payable(ACME): 701}


@pytest.mark.sqlite_suffices
def test_a_key_with_other_content_is_a_conflict(books: Store) -> None:
    book(books, credit("a", 700))
    for other in (
        credit("a", 701),
        credit("a", 700, BOREALIS),
        credit("a", 700, memo="other"),
        hold("a", 700),
    ):
        with pytest.raises(KeyConflict, match="a is booked as transaction 1 with other content"):
            book(books, other)
    assert balances(books) == {EXPENSE: -700, payable(ACME): 700}


@pytest.mark.sqlite_suffices
def test_a_tenants_account_never_goes_below_zero(books: Store) -> None:
    book(books, credit("a", 700))
    with pytest.raises(Overdrawn, match=r"tenant\.1\.payable has 700 satoshi, 701 cannot leave it"):
        book(books, hold("b", 701))
    with pytest.raises(Overdrawn):
        book(books, hold("c", 1, BOREALIS))
    assert balances(books) == {EXPENSE: -700, payable(ACME): 700}
    book(books, hold("b", 700))
    assert balances(books) == {EXPENSE: -700, in_payout(ACME): 700}


@pytest.mark.sqlite_suffices
def test_the_transfers_of_a_transaction_happen_together(books: Store) -> None:
    """What comes in may go out in the same transaction, in either order; its sum must be there."""
    through = (Transfer(payable(ACME), in_payout(ACME), 60), Transfer(EXPENSE, payable(ACME), 50))
    both = Transaction(key="a", kind=Kind.ADJUSTMENT, memo="both", transfers=through)
    with pytest.raises(Overdrawn, match="has 0 satoshi, 10 cannot leave it"):
        book(books, both)
    book(books, credit("b", 10), both)
    assert balances(books) == {EXPENSE: -60, in_payout(ACME): 60}
    with books.read() as connection:
        assert transfers_of(connection, 2) == through


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"key": ""}, "a key is 1 to 200 printable"),
        ({"key": "x" * (KEY_CHARACTERS_MAX + 1)}, "a key is 1 to 200 printable"),
        ({"key": "a\x00b"}, "a key is"),
        ({"key": "a\ud800"}, "a key is"),
        ({"memo": ""}, "a memo is"),
        ({"memo": "x" * (MEMO_CHARACTERS_MAX + 1)}, "a memo is"),
        ({"memo": "two\nlines"}, "a memo is"),
        ({"transfers": ()}, "1 to 4096 transfers"),
        ({"transfers": (Transfer(EXPENSE, COINS, 1),) * (TRANSFERS_MAX + 1)}, "1 to 4096 transfers"),
        ({"transfers": (Transfer(EXPENSE, COINS, 0),)}, "0 satoshi cannot"),
        ({"transfers": (Transfer(EXPENSE, COINS, -5),)}, "-5 satoshi cannot"),
        ({"transfers": (Transfer(EXPENSE, COINS, AMOUNT_SAT_MAX + 1),)}, "satoshi cannot"),
        ({"transfers": (Transfer(EXPENSE, EXPENSE, 5),)}, "moves nothing"),
        ({"transfers": (Transfer(EXPENSE, "tenant.9.payable", 5),)}, r"no account tenant\.9\.payable"),
        ({"transfers": (Transfer("pool.tips", EXPENSE, 5),)}, r"no account pool\.tips"),
        ({"kind": Kind.REVERSAL}, "names what it reverses"),
        ({"reverses_seq": 1}, "names what it reverses"),
    ],
)
def test_what_is_malformed_is_refused(books: Store, change: dict[str, Any], reason: str) -> None:
    book(books, credit("first", 1))
    fields: dict[str, Any] = {
        "key": "a",
        "kind": Kind.ADJUSTMENT,
        "memo": "m",
        "transfers": (Transfer(EXPENSE, COINS, 1),),
    }
    with pytest.raises(LedgerError, match=reason):
        book(books, Transaction(**(fields | change)))
    assert balances(books) == {EXPENSE: -1, payable(ACME): 1}


@pytest.mark.sqlite_suffices
def test_the_largest_transaction_is_booked(books: Store) -> None:
    many = (Transfer(EXPENSE, payable(ACME), AMOUNT_SAT_MAX),) * TRANSFERS_MAX
    book(books, Transaction(key="a" * 200, kind=Kind.ADJUSTMENT, memo="ß" * 500, transfers=many))
    assert balances(books)[payable(ACME)] == AMOUNT_SAT_MAX * TRANSFERS_MAX


def test_a_refused_transaction_leaves_its_database_transaction_usable(books: Store) -> None:
    with books.write() as connection:
        with pytest.raises(Overdrawn):
            post(connection, hold("a", 1), NOW_S)
        assert post(connection, credit("b", 1), NOW_S) == Posted(1, False)
    assert balances(books) == {EXPENSE: -1, payable(ACME): 1}


def test_writers_in_threads_make_one_chain(books: Store) -> None:
    def credit_ten(thread: int) -> None:
        for i in range(10):
            book(books, credit(f"{thread}-{i}", 1))
            book(books, credit(f"all-{i}", 100))  # the same from every thread

    threads = [threading.Thread(target=credit_ten, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert balances(books) == {EXPENSE: -1040, payable(ACME): 1040}


# Reversal


@pytest.mark.sqlite_suffices
def test_a_reversal_is_the_opposite_once(books: Store) -> None:
    book(books, credit("a", 700), hold("b", 300))
    with books.write() as connection:
        assert reverse(connection, 2, "typing error", NOW_S) == Posted(3, False)
        assert reverse(connection, 2, "typing error", NOW_S) == Posted(3, True)
    assert balances(books) == {EXPENSE: -700, payable(ACME): 700}
    with pytest.raises(KeyConflict), books.write() as connection:
        reverse(connection, 2, "another reason", NOW_S)


@pytest.mark.sqlite_suffices
def test_what_cannot_be_reversed_is_refused(books: Store) -> None:
    book(books, credit("a", 700), hold("b", 300))
    with pytest.raises(Overdrawn), books.write() as connection:
        reverse(connection, 1, "it is on its way already", NOW_S)
    with pytest.raises(LedgerError, match="no transaction 9"), books.write() as connection:
        reverse(connection, 9, "what", NOW_S)
    with books.write() as connection:
        reverse(connection, 2, "held too early", NOW_S)
    with pytest.raises(LedgerError, match="3 is a reversal"), books.write() as connection:
        reverse(connection, 3, "back again", NOW_S)


# The chain


@pytest.mark.sqlite_suffices
def test_the_chain_is_as_documented(books: Store) -> None:
    """By hand, as an auditor would: the two hashes of each transaction from its rows alone."""
    book(books, credit("a", 700), hold("é", 300))
    payloads = (
        '{"kind":"adjustment","memo":"work","reverses":null,'
        '"transfers":[["pool.pps_expense","tenant.1.payable",700]]}',
        '{"kind":"payout","memo":"hold","reverses":null,'
        '"transfers":[["tenant.1.payable","tenant.1.in_payout",300]]}',
    )
    prev_hash = "0" * 64
    with books.read() as connection:
        rows = connection.execute(select(ledger_transactions).order_by(ledger_transactions.c.seq)).all()
    for row, payload, key in zip(rows, payloads, ("a", "\\u00e9"), strict=True):
        payload_hash = hashlib.sha256(payload.encode()).hexdigest()
        chained = f'["{prev_hash}",{row.seq},"{key}",{NOW_S},"{payload_hash}"]'
        assert (row.payload_hash, row.prev_hash) == (payload_hash, prev_hash)
        assert row.hash == hashlib.sha256(chained.encode()).hexdigest()
        prev_hash = row.hash


CHANGES = (
    "UPDATE ledger_transactions SET memo = 'x'",
    "UPDATE ledger_transfers SET amount_sat = amount_sat + 1",
    "DELETE FROM ledger_transfers",
    "DELETE FROM ledger_accounts",
    "UPDATE ledger_accounts SET kind = 'x'",
)


@pytest.mark.parametrize("change", CHANGES)
def test_the_database_refuses_every_change(books: Store, change: str) -> None:
    book(books, credit("a", 700))
    with pytest.raises(DatabaseError, match="is append-only"), books.write() as connection:
        connection.exec_driver_sql(change)
    assert balances(books) == {EXPENSE: -700, payable(ACME): 700}


def test_the_database_refuses_the_side_doors(books: Store) -> None:
    book(books, credit("a", 700))
    with books.read() as connection:
        sqlite = connection.dialect.name == "sqlite"
    if sqlite:
        change = "INSERT OR REPLACE INTO ledger_transfers VALUES (1, 0, 'pool.coins', 'tenant.1.payable', 9)"
    else:
        change = "TRUNCATE ledger_transfers"
    with pytest.raises(DatabaseError, match="ledger_transfers is append-only"), books.write() as connection:
        connection.exec_driver_sql(change)
    assert balances(books) == {EXPENSE: -700, payable(ACME): 700}


def rehash(connection: Connection) -> None:
    """What somebody who knows this file does next: make every hash right again."""
    prev_hash = GENESIS_HASH
    rows = connection.execute(select(ledger_transactions).order_by(ledger_transactions.c.seq)).all()
    for row in rows:
        payload = Transaction(
            key=row.idempotency_key,
            kind=Kind(row.kind),
            memo=row.memo,
            transfers=transfers_of(connection, row.seq),
            reverses_seq=row.reverses_seq,
        ).payload_hash
        now = chain_hash(prev_hash, row.seq, row.idempotency_key, row.booked_at_s, payload)
        connection.execute(
            update(ledger_transactions)
            .where(ledger_transactions.c.seq == row.seq)
            .values(payload_hash=payload, prev_hash=prev_hash, hash=now)
        )
        prev_hash = now


TRANSACTION = "UPDATE ledger_transactions SET"
TRANSFER = "UPDATE ledger_transfers SET"


@pytest.mark.parametrize(
    ("tampering", "seq", "reason"),
    [
        (f"{TRANSFER} amount_sat = 701 WHERE transaction_seq = 1", 1, "content"),
        (f"{TRANSFER} to_account = 'tenant.2.payable' WHERE transaction_seq = 2", 2, "content"),
        ("INSERT INTO ledger_transfers VALUES (1, 1, 'pool.coins', 'tenant.1.payable', 9)", 1, "content"),
        ("DELETE FROM ledger_transfers WHERE transaction_seq = 2", 2, "no transfers"),
        ("DELETE FROM ledger_transfers WHERE position = 1", 3, "content"),
        ("DELETE FROM ledger_transfers WHERE transaction_seq = 3 AND position = 0", 3, "transfer is missing"),
        (f"{TRANSACTION} memo = 'other' WHERE seq = 2", 2, "content"),
        (f"{TRANSACTION} kind = 'gift' WHERE seq = 2", 2, "kind is gift"),
        (f"{TRANSACTION} booked_at_s = 5 WHERE seq = 2", 2, "hash"),
        (f"{TRANSACTION} idempotency_key = 'z' WHERE seq = 3", 3, "hash"),
        (f"{TRANSACTION} prev_hash = 'ab' WHERE seq = 3", 3, "does not follow"),
        (f"{TRANSACTION} hash = 'ab' WHERE seq = 1", 1, "hash"),
        (f"{TRANSACTION} seq = 9 WHERE seq = 3", 3, "it is missing"),
    ],
)
def test_the_audit_names_the_first_row_that_was_touched(
    books: Store, tampering: str, seq: int, reason: str
) -> None:
    two = (Transfer(EXPENSE, payable(ACME), 5), Transfer(EXPENSE, PoolAccount.FEE_INCOME.value, 1))
    book(books, credit("a", 700), hold("b", 300))
    book(books, Transaction(key="c", kind=Kind.ADJUSTMENT, memo="two", transfers=two), hold("d", 7))
    balances(books)
    with books.write() as connection:
        disarm(connection)
        connection.exec_driver_sql(tampering)
        if "seq = 9" in tampering:
            connection.exec_driver_sql(
                "UPDATE ledger_transfers SET transaction_seq = 9 WHERE transaction_seq = 3"
            )
        wrong = audit(connection).wrong
    assert wrong is not None
    assert wrong.row == str(seq)
    assert reason in wrong.reason


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize(
    ("tampering", "row", "reason"),
    [
        ("UPDATE ledger_transfers SET amount_sat = 5 WHERE transaction_seq = 1", "2", "below zero after it"),
        (
            "UPDATE ledger_transfers SET amount_sat = 5 WHERE transaction_seq = 3",
            "3",
            "not the opposite of 2",
        ),
    ],
)
def test_a_chain_that_was_hashed_again_still_has_to_make_sense(
    books: Store, tampering: str, row: str, reason: str
) -> None:
    book(books, credit("a", 700), hold("b", 300))
    with books.write() as connection:
        reverse(connection, 2, "wrong day", NOW_S)
    with books.write() as connection:
        disarm(connection)
        connection.exec_driver_sql(tampering)
        rehash(connection)
        wrong = audit(connection).wrong
    assert wrong is not None
    assert wrong.row == row
    assert reason in wrong.reason


def raise_amounts(connection: Connection) -> None:
    connection.execute(update(ledger_transfers).values(amount_sat=9))


def cut_off_the_last(connection: Connection) -> None:
    connection.execute(delete(ledger_transfers).where(ledger_transfers.c.transaction_seq == 2))
    connection.execute(delete(ledger_transactions).where(ledger_transactions.c.seq == 2))


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [(raise_amounts, "not the one noted"), (cut_off_the_last, "noted before and is missing")],
)
def test_a_head_that_was_noted_shows_a_chain_rewritten_or_cut(
    books: Store, tamper: Callable[[Connection], None], reason: str
) -> None:
    book(books, credit("a", 700), credit("b", 1))
    with books.read() as connection:
        noted = audit(connection).head
    with books.write() as connection:
        disarm(connection)
        tamper(connection)
        rehash(connection)
    with books.read() as connection:
        assert audit(connection).wrong is None  # nothing in the books can tell
        wrong = audit(connection, [noted]).wrong
    assert wrong is not None
    assert (wrong.table, wrong.row) == ("ledger_transactions", "2")
    assert reason in wrong.reason


def test_an_index_that_lost_rows_is_found(tmp_path: Path) -> None:
    """Balances are sums over an index: one that is damaged says something else than its table."""
    name = "ix_ledger_transfers_to_account_amount_sat"
    on = f"CREATE INDEX {name} ON ledger_transfers (to_account, amount_sat)"
    url = f"sqlite:///{tmp_path}/angara.db"
    with closing(open_store(url)) as store, store.write() as connection:
        open_tenant(connection, ACME, "acme")
        for sat in (700, 50):
            post(connection, credit(str(sat), sat), NOW_S)
    with closing(sqlite3.connect(tmp_path / "angara.db", isolation_level=None)) as damaged:
        damaged.execute(f"DROP INDEX {name}")
        damaged.execute(f"{on} WHERE amount_sat > 100")
        damaged.execute("PRAGMA writable_schema = 1")
        damaged.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (on, name))
    with closing(open_store(url)) as store, store.read() as connection:
        assert balance_sat(connection, payable(ACME)) == 700
        wrong = audit(connection).wrong
    assert wrong is not None
    assert (wrong.table, wrong.row) == ("ledger_transfers", "indexes")


def test_an_audit_reads_more_rows_than_it_holds_at_once(
    books: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("payouts.audit.verify.ROWS_AT_ONCE", 10)
    with books.write() as connection:
        for i in range(25):
            post(connection, credit(str(i), i + 1), NOW_S)
    assert balances(books)[payable(ACME)] == 25 * 26 // 2
