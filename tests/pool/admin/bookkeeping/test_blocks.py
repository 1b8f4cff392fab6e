"""Blocks as they are listed: what became of each, who found it, whom it pays; a page at a time."""

from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import insert

from payouts.divisions import Header, divide, next_division, record_fund
from payouts.income import Block, Status, mark, record_block
from payouts.ratebook import record_rate
from payouts.rates import Price, Scheme
from payouts.schemas.money import solo_blocks, workers
from payouts.tallies import Tally, record
from pool.admin.commands import answer_to, execute
from pool.admin.desk import Desk
from pool.admin.operators import ALONE
from pool.books.store import Store
from pool.people.roles import host_account
from tests.fixtures.databases import store_in

NOW_S = 1_790_000_000


def give(store: Store, command: str, **params: Any) -> Any:
    return execute(Desk(store, "regtest"), command, msgspec.json.encode(params), host_account("olga", ALONE))


def found(store: Store, number: int, at_s: int, worker: int | None = 1) -> str:
    block = Block(
        hash=f"{number:064x}", height=100 + number, income_sat=50 * number, worker_id=worker, found_at_s=at_s
    )
    with store.write() as connection:
        record_block(connection, block, NOW_S)
    return block.hash


def test_each_block_has_what_became_of_it_who_found_it_and_whom_it_pays(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    give(store, "tenant.add", name="acme")
    give(store, "container.set", tenant="acme", name="c01")
    with store.write() as connection:
        row = {"id": 1, "tenant_id": 1, "container_id": 1, "unit": "u1"}
        connection.execute(insert(workers), [row | {"first_seen_at_s": 0, "last_seen_at_s": 0}])
    first, second = found(store, 1, NOW_S), found(store, 2, NOW_S + 9, worker=None)
    with store.write() as connection:
        mark(connection, first, Status.PENDING, NOW_S + 9)
        connection.execute(
            insert(solo_blocks).values(block_hash=second, tenant_id=1, address="bcrt1q", amount_sat=7)
        )
    listed = give(store, "block.list")
    assert [(it["height"], it["status"], it["worker"], it["income_sat"]) for it in listed] == [
        (101, "pending", "acme.c01.u1", 50),
        (102, "found", None, 100),
    ]
    assert [(it["solo_tenant"], it["solo_sat"]) for it in listed] == [(None, None), ("acme", 7)]
    assert [(it["divided_by"], it["divided_sat"]) for it in listed] == [(None, None), (None, None)]
    store.close()


def test_a_block_that_is_divided_says_by_what_and_how_much_went_to_those_who_worked(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    give(store, "tenant.add", name="acme", scheme="tides")
    give(store, "container.set", tenant="acme", name="c01")
    with store.write() as connection:
        row = {"id": 1, "tenant_id": 1, "container_id": 1, "unit": "u1"}
        connection.execute(insert(workers), [row | {"first_seen_at_s": 0, "last_seen_at_s": 0}])
        of = Price(nbits=0x207FFFFF, subsidy_sat=9, block_fees_sat=0, fee_bps=200, scheme=Scheme.TIDES)
        rate = record_rate(connection, 1, of, 1, None, NOW_S)
        hour = NOW_S // 3600
        for batch, minute in enumerate((hour * 60 - 180, hour * 60), 1):
            tally = Tally(worker_id=1, rate_id=rate, minute=minute, difficulty_log2=0, verdict=0, shares=8)
            record(connection, "pool", batch, [tally])
    for number in (2, 4):
        hash_ = found(store, number, NOW_S)
        with store.write() as connection:
            assert record_fund(connection, hash_, 1, Header(0x207FFFFF, NOW_S)) is Scheme.TIDES
    with store.write() as connection:
        for status in (Status.PENDING, Status.MATURED):
            mark(connection, hash_, status, NOW_S + 9)
        due = next_division(connection, NOW_S + 9)
        assert due is not None
        divide(connection, due, NOW_S + 9)
    listed = give(store, "block.list")
    divided = [(it["income_sat"], it["divided_by"], it["divided_sat"]) for it in listed]
    assert divided == [(100, "tides", None), (200, "tides", 196)]  # less the fee
    store.close()


def test_pages_go_back_in_time_and_have_each_block_once(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    hashes = [found(store, number, NOW_S + number // 2, worker=None) for number in range(1, 8)]
    desk, olga, cursor = Desk(store, "regtest"), host_account("olga", ALONE), None
    seen: list[str] = []
    for _ in range(4):
        asked = msgspec.json.encode({"limit": 2, "cursor": cursor})
        answer = answer_to(desk, "block.list", asked, olga)
        seen = [it["hash"] for it in msgspec.json.decode(answer.body)] + seen
        cursor = answer.cursor
    assert cursor is None
    assert seen == hashes
    store.close()
