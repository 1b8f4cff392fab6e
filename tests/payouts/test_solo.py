"""Solo tenants in the books: fees, addresses and when they hold, terms, statements, what an audit finds."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

import pool.fleet.rows
from payouts.audit.verify import audit
from payouts.batches.transaction import dust_sat
from payouts.income import Block, Status, mark, record_block
from payouts.ledger import PoolAccount
from payouts.rates import Scheme
from payouts.reports.pool import pool_report
from payouts.schemas.money import workers
from payouts.solo import Payee, SoloPayout, address_at, fee_of, is_fee, record_solo, schedule
from payouts.statements.period import Period
from pool.books.store import Store
from pool.fleet.rows import (
    ADDRESS_HOLD_S,
    RegistryError,
    TenantTerms,
    add_tenant,
    find_tenant,
    set_address,
    set_terms,
)
from pool.reports.pool_documents import pool_document
from pool.reports.render_text import render_text
from pool.reports.statement_document import statement_document
from tests.fixtures.databases import disarm
from tests.histories.statements import ACME, DAY, DAY_S, SHARE, History, price

NEXT = DAY + timedelta(1)
P2WPKH = bytes.fromhex("0014751e76e8199196d454941c45d1b3a323f1433bd6")
P2PKH = bytes.fromhex("76a914751e76e8199196d454941c45d1b3a323f1433bd688ac")
ALICE = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
MALLORY = "bcrt1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqc8gma6"
TERMS = TenantTerms(scheme=Scheme.SOLO, fee_bps=150, payout_minimum_sat=0)
PPS = msgspec.structs.replace(TERMS, scheme=Scheme.PPS)
HOUR_S = 3600
BLOCK_SAT = 316_500_009


@given(value_sat=st.integers(0, 21 * 10**14), fee_bps=st.integers(0, 10_000))
def test_a_fee_is_rounded_down_and_is_an_output_or_the_tenants(value_sat: int, fee_bps: int) -> None:
    for script in (P2WPKH, P2PKH):
        fee_sat = fee_of(value_sat, fee_bps, script)
        exact_sat = value_sat * fee_bps // 10_000
        assert fee_sat == (exact_sat if exact_sat >= dust_sat(script) else 0)
        assert is_fee(fee_sat, value_sat, fee_bps)
        assert not is_fee(exact_sat + 1, value_sat, fee_bps)
        assert not exact_sat >= 546 or not is_fee(0, value_sat, fee_bps)
    payout = SoloPayout(
        tenant_id=1, address="a", script=P2PKH, amount_sat=value_sat - fee_sat, fee_sat=fee_sat
    )
    outputs = payout.outputs(P2WPKH)
    assert sum(sat for _, sat in outputs) == value_sat
    assert [script for script, _ in outputs] == ([P2PKH, P2WPKH] if fee_sat else [P2PKH])


def test_the_first_address_holds_at_once_and_another_one_when_its_time_has_come() -> None:
    held = schedule([(10, 10, "first"), (100, 100 + ADDRESS_HOLD_S, "second")])
    assert [address_at(held, now_s) for now_s in (0, 10, 99 + ADDRESS_HOLD_S)] == ["first"] * 3
    assert address_at(held, 100 + ADDRESS_HOLD_S) == "second"
    assert address_at((), 10) is None


def test_a_first_address_that_is_held_back_from_payouts_is_no_way_for_another_to_hold_at_once() -> None:
    changes = [(number * 10, number * 10 + ADDRESS_HOLD_S, name) for number, name in enumerate("abc")]
    for known, due in ((1, "a"), (2, "b"), (3, "c")):
        held = schedule(changes[:known])
        assert address_at(held, ADDRESS_HOLD_S) == "a"
        assert address_at(held, known * 10 + ADDRESS_HOLD_S) == due


@given(st.lists(st.integers(1, 2 * ADDRESS_HOLD_S), max_size=8), st.integers(0, 20 * ADDRESS_HOLD_S))
def test_an_address_never_holds_before_it_stood_for_72_hours(gaps_s: list[int], now_s: int) -> None:
    """Whatever a thief changes and changes back: it is paid only what stood for so long when it was due."""
    changes, at_s = [(0, 0, "0")], 0
    for number, gap_s in enumerate(gaps_s, start=1):
        at_s += gap_s
        changes.append((at_s, at_s + ADDRESS_HOLD_S, str(number)))
    paid = int(address_at(schedule(changes), now_s) or 0)
    changed_at_s = [at_s for at_s, _, _ in changes if at_s <= now_s]
    known = schedule([it for it in changes if it[0] <= now_s])
    paid = int(address_at(known, now_s) or 0)
    replaced_at_s = changed_at_s[paid + 1] if paid + 1 < len(changed_at_s) else now_s
    assert paid == 0 or replaced_at_s - changed_at_s[paid] >= ADDRESS_HOLD_S
    assert len(known) <= 2
    stood = [
        number
        for number, since_s in enumerate(changed_at_s)
        if number == 0 or ([*changed_at_s, now_s][number + 1] - since_s >= ADDRESS_HOLD_S)
    ]
    assert paid in stood


@pytest.mark.sqlite_suffices
def test_an_address_that_was_changed_back_in_time_never_holds(store: Store) -> None:
    """Mallory's stood for an hour: it gets no block then, and none when its 72 hours would be over."""
    with store.write() as connection:
        add_tenant(connection, "sol", TERMS, by="ann", now_s=0, address=ALICE, network="regtest")
        set_address(connection, "sol", MALLORY, network="regtest", by="mallory", now_s=1_000)
        view = set_address(connection, "sol", ALICE, network="regtest", by="ann", now_s=1_000 + HOUR_S)
    assert view.payees == (Payee(0, ALICE), Payee(1_000 + HOUR_S + ADDRESS_HOLD_S, ALICE))
    for now_s in (1_500, 1_000 + ADDRESS_HOLD_S, 1_000 + ADDRESS_HOLD_S + HOUR_S, 10**9):
        assert address_at(view.payees, now_s) == ALICE


@pytest.mark.sqlite_suffices
def test_terms_under_which_blocks_pay_nobody_are_refused_in_words(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool.fleet.rows, "SOLO_TENANTS_MAX", 1)
    paid: dict[str, Any] = {"by": "ann", "now_s": 0, "address": ALICE, "network": "regtest"}
    with store.write() as connection:
        with pytest.raises(RegistryError, match="it has none: set one first"):
            add_tenant(connection, "sol", TERMS, by="ann", now_s=0)
        add_tenant(connection, "acme", PPS, by="ann", now_s=0)
        with pytest.raises(RegistryError, match="it has none: set one first"):
            set_terms(connection, "acme", TERMS, by="ann", now_s=0)
        with pytest.raises(RegistryError, match="100 % leaves nothing"):
            add_tenant(connection, "sol", msgspec.structs.replace(TERMS, fee_bps=10_000), **paid)
        assert add_tenant(connection, "sol", TERMS, **paid).scheme == "solo"
        set_terms(connection, "sol", msgspec.structs.replace(TERMS, fee_bps=1), by="ann", now_s=0)
        with pytest.raises(RegistryError, match="1 solo tenants, each with a coinbase in every job"):
            add_tenant(connection, "luna", TERMS, **paid)
        with pytest.raises(RegistryError, match="mistyped"):
            add_tenant(connection, "luna", PPS, **paid | {"address": ALICE[:-1]})
        set_terms(connection, "sol", PPS, by="ann", now_s=0)
        assert add_tenant(connection, "third", TERMS, **paid).address == ALICE
        assert find_tenant(connection, "acme").scheme == "pps"


# Statements and reports


@pytest.fixture
def history(store: Store) -> History:
    return History(store)


def solo_block(history: History, number: int, found_at_s: int, fee_sat: int, worker: int | None) -> str:
    """A block of acme's in the books; its hash."""
    block_hash = f"{number:02x}" * 32
    block = Block(
        hash=block_hash,
        height=1_000_000 + number,
        income_sat=fee_sat,
        worker_id=worker,
        found_at_s=found_at_s,
    )
    payout = SoloPayout(
        tenant_id=ACME, address=ALICE, script=P2WPKH, amount_sat=BLOCK_SAT - fee_sat, fee_sat=fee_sat
    )
    with history.store.write() as connection:
        record_block(connection, block, found_at_s)
        record_solo(connection, block_hash, payout)
        mark(connection, block_hash, Status.PENDING, found_at_s)
    return block_hash


def becomes(history: History, block_hash: str, status: Status, at_s: int) -> None:
    with history.store.write() as connection:
        mark(connection, block_hash, status, at_s)


FEE_SAT = BLOCK_SAT * 150 // 10_000


@pytest.mark.sqlite_suffices
def test_a_statement_has_the_blocks_that_paid_the_tenant_as_they_stood_at_its_end(history: History) -> None:
    history.set_terms(DAY_S, fee_bps=150)
    history.set_address(ALICE, DAY_S)
    first = solo_block(history, 1, DAY_S + 50, FEE_SAT, None)
    second = solo_block(history, 2, DAY_S + 90, FEE_SAT, None)
    becomes(history, second, Status.ORPHANED, DAY_S + 7 * HOUR_S)
    before = history.state(DAY, NEXT)
    becomes(history, first, Status.MATURED, DAY_S + 30 * HOUR_S)
    assert history.state(DAY, NEXT) == before  # a closed period never changes
    assert [(it.height, it.status, it.amount_sat, it.fee_sat) for it in before.blocks] == [
        (1_000_001, "pending", BLOCK_SAT - FEE_SAT, FEE_SAT),
        (1_000_002, "orphaned", BLOCK_SAT - FEE_SAT, FEE_SAT),
    ]
    assert [(it.hash, it.status) for it in history.state(NEXT, NEXT + timedelta(1)).blocks] == [
        (first, "matured")
    ]
    assert history.state(DAY + timedelta(5), DAY + timedelta(6)).blocks == ()
    assert (before.money.credits_sat, before.money.closing_sat) == (0, 0)
    shown = render_text(statement_document(before), 200).decode()
    for words in (first, ALICE, "orphaned", "BLOCKS THAT PAID YOU", "3.11752509"):
        assert words in shown
    assert (
        "Blocks that paid you"
        not in render_text(statement_document(history.state(DAY, NEXT, "borealis")), 200).decode()
    )


@pytest.mark.sqlite_suffices
def test_a_solo_block_is_the_pools_income_by_its_fee_and_no_luck_of_the_pools(history: History) -> None:
    history.set_terms(DAY_S, fee_bps=150)
    history.set_address(ALICE, DAY_S)
    rate, solo = history.rate(), history.rate(scheme=Scheme.SOLO, block_fees_sat=0)
    history.mine(rate, 5, 1000)
    history.mine(solo, 5, 900_000)
    history.settle(DAY_S + 2 * HOUR_S)
    period = Period(DAY, NEXT)
    with history.store.read() as connection:
        before = pool_report(connection, period)
    theirs = solo_block(history, 1, DAY_S + 50, FEE_SAT, None)
    with history.store.read() as connection:
        after = pool_report(connection, period)
    assert after.wrong is None
    assert (after.luck, after.reserve.blocks_found) == (before.luck, before.reserve.blocks_found)
    assert after.luck is not None
    assert float(after.luck.expected) == pytest.approx(float(price().expected_blocks(SHARE, 1000)), rel=1e-5)
    assert after.reserve.needed_sat == before.reserve.needed_sat
    assert after.accounts_sat[PoolAccount.BLOCK_INCOME_PENDING] == FEE_SAT
    (found,) = after.blocks
    assert (found.tenant, found.tenant_sat, found.income_sat) == ("acme", BLOCK_SAT - FEE_SAT, FEE_SAT)
    assert theirs in render_text(pool_document(after), 250).decode()


@pytest.mark.parametrize(
    ("forged", "reason"),
    [
        ("UPDATE solo_blocks SET amount_sat = amount_sat + 10000", "not the fee of any terms"),
        ("UPDATE solo_blocks SET address = 'bcrt1mallory'", "its address was never the tenant's"),
        ("UPDATE solo_blocks SET tenant_id = 2", "another tenant's machine found it"),
    ],
)
def test_an_audit_finds_a_solo_block_that_is_forged(history: History, forged: str, reason: str) -> None:
    history.set_terms(DAY_S, fee_bps=150)
    history.set_address(ALICE, DAY_S)
    history.mine(history.rate(scheme=Scheme.SOLO, block_fees_sat=0), 5, 10)
    with history.store.read() as connection:
        worker = connection.scalar(select(func.min(workers.c.id)).where(workers.c.tenant_id == ACME))
        assert audit(connection).wrong is None
    solo_block(history, 1, DAY_S + 50, FEE_SAT, worker)
    with history.store.read() as connection:
        assert audit(connection).wrong is None
    with history.store.write() as connection:
        disarm(connection)
        connection.exec_driver_sql(forged)
    with history.store.read() as connection:
        wrong = audit(connection).wrong
    assert wrong is not None
    assert (wrong.table, reason in wrong.reason) == ("solo_blocks", True)
