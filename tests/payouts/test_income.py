"""Income from blocks: found, matured, orphaned and back again, each booked once; tenants never notice."""

import pytest

from payouts.audit.verify import audit
from payouts.income import Block, Status, mark, record_block
from payouts.ledger import KeyConflict, LedgerError, PoolAccount
from pool.books.store import Store
from tests.fixtures.databases import Crash, crash_at, disarm

NOW_S = 1_700_000_000
HASH = "00" * 10 + "ab" * 22
PENDING, MATURED = PoolAccount.BLOCK_INCOME_PENDING.value, PoolAccount.BLOCK_INCOME_MATURED.value
COINS = PoolAccount.COINS.value


def block(income_sat: int = 312_500_000, height: int = 840_000, found_at_s: int = NOW_S) -> Block:
    return Block(hash=HASH, height=height, income_sat=income_sat, worker_id=None, found_at_s=found_at_s)


def found(store: Store, it: Block) -> bool:
    with store.write() as connection:
        return record_block(connection, it, NOW_S)


def becomes(store: Store, *statuses: Status) -> list[bool]:
    done = []
    for status in statuses:
        with store.write() as connection:
            done.append(mark(connection, HASH, status, NOW_S))
    return done


def balances(store: Store) -> dict[str, int]:
    with store.read() as connection:
        checked = audit(connection)
    assert checked.wrong is None
    return {account: sat for account, sat in checked.balances_sat.items() if sat}


@pytest.mark.sqlite_suffices
def test_a_block_that_was_found_is_income_when_the_chain_has_it_and_not_before(store: Store) -> None:
    assert found(store, block())
    assert balances(store) == {}
    assert becomes(store, Status.PENDING) == [True]
    assert balances(store) == {COINS: -312_500_000, PENDING: 312_500_000}
    assert becomes(store, Status.MATURED) == [True]
    assert balances(store) == {COINS: -312_500_000, MATURED: 312_500_000}


@pytest.mark.sqlite_suffices
def test_what_is_reported_again_is_booked_once(store: Store) -> None:
    assert [found(store, block()), found(store, block(found_at_s=NOW_S + 9))] == [True, False]
    assert becomes(store, Status.PENDING, Status.PENDING) == [True, False]
    assert becomes(store, Status.MATURED, Status.MATURED) == [True, False]
    assert not found(store, block())
    assert balances(store) == {COINS: -312_500_000, MATURED: 312_500_000}


@pytest.mark.sqlite_suffices
def test_an_orphan_is_reversed_once(store: Store) -> None:
    found(store, block())
    becomes(store, Status.PENDING)
    assert becomes(store, Status.ORPHANED, Status.ORPHANED) == [True, False]
    assert balances(store) == {}


@pytest.mark.sqlite_suffices
def test_a_block_that_the_chain_never_had_is_never_income(store: Store) -> None:
    found(store, block())
    assert becomes(store, Status.ORPHANED) == [True]
    with store.read() as connection:
        assert audit(connection).head.seq == 0


@pytest.mark.sqlite_suffices
def test_an_orphan_may_come_back_and_be_orphaned_again(store: Store) -> None:
    found(store, block())
    becomes(store, Status.ORPHANED, Status.PENDING)
    assert balances(store) == {COINS: -312_500_000, PENDING: 312_500_000}
    becomes(store, Status.ORPHANED)
    assert balances(store) == {}
    becomes(store, Status.PENDING, Status.MATURED)
    assert balances(store) == {COINS: -312_500_000, MATURED: 312_500_000}


@pytest.mark.sqlite_suffices
def test_even_a_matured_block_can_be_lost(store: Store) -> None:
    found(store, block())
    becomes(store, Status.PENDING, Status.MATURED, Status.ORPHANED)
    assert balances(store) == {}


@pytest.mark.sqlite_suffices
def test_a_block_that_pays_a_solo_tenant_is_no_income(store: Store) -> None:
    found(store, block(income_sat=0))
    assert becomes(store, Status.ORPHANED, Status.PENDING, Status.MATURED) == [True, True, True]
    assert balances(store) == {}


@pytest.mark.sqlite_suffices
def test_what_cannot_follow_is_refused(store: Store) -> None:
    with pytest.raises(LedgerError, match="there is no block"):
        becomes(store, Status.MATURED)
    found(store, block())
    becomes(store, Status.ORPHANED)
    with pytest.raises(LedgerError, match="is orphaned and cannot become matured"):
        becomes(store, Status.MATURED)
    becomes(store, Status.PENDING, Status.MATURED)
    with pytest.raises(LedgerError, match="is matured and cannot become pending"):
        becomes(store, Status.PENDING)


@pytest.mark.sqlite_suffices
def test_a_hash_with_another_height_or_income_is_a_conflict(store: Store) -> None:
    found(store, block())
    for other in (block(income_sat=1), block(height=1)):
        with pytest.raises(KeyConflict, match="known with other content"):
            found(store, other)


@pytest.mark.sqlite_suffices
def test_a_crash_anywhere_leaves_the_block_known_and_booked_or_neither(store: Store) -> None:
    for statement in range(4):
        with pytest.raises(Crash), crash_at(statement):
            found(store, block())
        assert balances(store) == {}
    assert found(store, block())
    becomes(store, Status.PENDING)
    for statement in range(14):
        with pytest.raises(Crash), crash_at(statement):
            becomes(store, Status.MATURED)
        assert balances(store) == {COINS: -312_500_000, PENDING: 312_500_000}
    assert becomes(store, Status.MATURED) == [True]


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE block_events SET status = 'orphaned' WHERE position = 2",
        "UPDATE block_events SET status = 'found' WHERE position = 1",
        "UPDATE block_events SET position = 7 WHERE position = 2",
        "DELETE FROM block_events WHERE position = 2",
        "UPDATE blocks SET income_sat = 5",
    ],
)
def test_the_audit_follows_every_block(store: Store, tampering: str) -> None:
    found(store, block())
    becomes(store, Status.PENDING, Status.MATURED)
    with store.write() as connection:
        disarm(connection)
        connection.exec_driver_sql(tampering)
        wrong = audit(connection).wrong
    assert wrong is not None
    assert wrong.table == ("ledger_transactions" if tampering.startswith("DELETE") else "block_events")
