"""Orders as rows: what can be sold, by whom, when it is over, and what is noted while it is delivered."""

from typing import Any

import pytest
from sqlalchemy import insert, select

from payouts.receipts.making_good import MakeGood, Tolerance
from payouts.schemas.money import tenant_terms
from payouts.schemas.orders import channel_events, order_hours
from pool.books.store import Store
from pool.fleet.rows import RegistryError
from pool.orders import rows as order_store
from pool.orders.rows import (
    WORDS_CHARS_MAX,
    OrderView,
    add_order,
    end_order,
    find_order,
    list_orders,
    load_orders,
    note_event,
    note_minute,
)
from pool.upstreams.rows import UpstreamRecord, add_upstream, remove_upstream
from tests.fixtures.databases import add_tenant
from tests.histories.orders import BUYER, PRICE, new_order, new_upstream

NOW_S = 1_800_000_000
ACME, BOREALIS = 1, 2


@pytest.fixture
def north(store: Store) -> UpstreamRecord:
    """And two tenants, each with a container c01 of its own number."""
    with store.write() as connection:
        for tenant_id, name in ((ACME, "acme"), (BOREALIS, "borealis")):
            add_tenant(connection, tenant_id, name)
            terms = {"scheme": "pps", "fee_bps": 200, "payout_minimum_sat": 0}
            row = insert(tenant_terms).values(tenant_id=tenant_id, changed_at_s=0, changed_by="olga", **terms)
            connection.execute(row)
        return add_upstream(connection, new_upstream(), by="olga", now_s=NOW_S)


def add(store: Store, name: str = "blue", *, now_s: int = NOW_S, **change: Any) -> OrderView:
    times = {"from_s": NOW_S, "until_s": NOW_S + 86_400}
    with store.write() as connection:
        return add_order(connection, new_order(name, **(times | change)), by="olga", now_s=now_s)


@pytest.mark.sqlite_suffices
def test_what_was_sold_is_loaded_as_it_was(store: Store, north: UpstreamRecord) -> None:
    view = add(store, hashrate_ths=50_250, priority=3, tenants=("acme",), containers=("borealis.c01",))
    assert (view.name, view.buyer, view.upstream, view.created_by) == ("blue", BUYER, "north", "olga")
    assert view.suppliers == ("acme", "borealis.c01")
    assert (view.ended_at_s, view.ended_by) == (None, None)
    with store.read() as connection:
        (record,) = load_orders(connection, NOW_S)
        assert list_orders(connection) == (view,) == (find_order(connection, "blue"),)
    assert (record.id, record.name, record.upstream_id) == (view.id, "blue", north.id)
    assert record.hashrate_hps == 50_250 * 10**12
    assert (record.tolerance_bps, record.priority, record.sat_per_ph_day) == (200, 3, PRICE)
    assert record.suppliers == ((ACME, 0), (BOREALIS, BOREALIS))
    assert not record.by_the_hour


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("how", [MakeGood.CREDIT, MakeGood.REFUND, MakeGood.EXTENSION])
def test_hours_of_an_order_that_makes_good_are_settled_one_by_one(
    store: Store, north: UpstreamRecord, how: MakeGood
) -> None:
    hours = 24 if how is MakeGood.EXTENSION else 0
    add(store, make_good=how, tolerances=(Tolerance(bps=100, hours=24),), extension_h=hours)
    with store.read() as connection:
        (record,) = load_orders(connection, NOW_S)
    assert record.by_the_hour


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"buyer": ""}, "a buyer has a name"),
        ({"buyer": "x\x07"}, "printable"),
        ({"hashrate_ths": 0}, "0.001 to"),
        ({"hashrate_ths": 10**9 + 1}, "PH/s"),
        ({"tolerance_bps": 0}, "tolerance"),
        ({"tolerance_bps": 10_001}, "tolerance"),
        ({"until_s": NOW_S}, "ends after it begins"),
        ({"until_s": NOW_S - 1}, "ends after it begins"),
        ({"until_s": NOW_S + 11 * 366 * 86_400}, "ten years at most"),
        ({"from_s": -1}, "ends after it begins"),
        ({"priority": 0}, "priority"),
        ({"priority": 101}, "priority"),
        ({"sat_per_ph_day": -1}, "price"),
        ({"sat_per_ph_day": 10**12 + 1}, "price"),
        ({"tenants": (), "containers": ()}, "1 to 1000 suppliers"),
        ({"tenants": ("acme",) * 1_001}, "1 to 1000 suppliers"),
    ],
)
def test_what_cannot_be_sold_is_refused_in_words(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        new_order(**({"from_s": NOW_S, "until_s": NOW_S + 1} | change))


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "Blue"}, "is no name for an order"),
        ({"upstream": "south"}, "there is no upstream 'south'"),
        ({"tenants": ("nobody",)}, "there is no tenant 'nobody'"),
        ({"containers": ("nobody.c01",)}, "there is no tenant 'nobody'"),
        ({"containers": ("acme.c02",)}, "there is no container 'acme.c02'"),
        ({"containers": ("acme",)}, "there is no container 'acme'"),
        ({"now_s": NOW_S + 86_400}, "over already"),
    ],
)
def test_unknown_names_are_refused_and_nothing_is_left(
    store: Store, north: UpstreamRecord, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(RegistryError, match=words):
        add(store, **change)
    with store.read() as connection:
        assert list_orders(connection) == ()


@pytest.mark.sqlite_suffices
def test_an_upstream_that_was_removed_takes_no_order(store: Store, north: UpstreamRecord) -> None:
    with store.write() as connection:
        remove_upstream(connection, "north", now_s=NOW_S)
    with pytest.raises(RegistryError, match="'north' was removed"):
        add(store)


@pytest.mark.sqlite_suffices
def test_a_supplier_that_is_named_twice_is_one(store: Store, north: UpstreamRecord) -> None:
    view = add(store, tenants=("acme", "acme"), containers=("acme.c01", "acme.c01"))
    assert view.suppliers == ("acme", "acme.c01")


def test_a_name_is_sold_once(store: Store, north: UpstreamRecord) -> None:
    add(store)
    with store.write() as connection:
        end_order(connection, "blue", by="dmitri", now_s=NOW_S + 1)
    with pytest.raises(RegistryError, match="there is an order 'blue' already"):
        add(store)


@pytest.mark.sqlite_suffices
def test_there_are_only_so_many_that_are_not_over(
    store: Store, north: UpstreamRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_store, "ORDERS_MAX", 1)
    add(store)
    with pytest.raises(RegistryError, match="1 orders that are not over"):
        add(store, "green")
    with store.write() as connection:
        end_order(connection, "blue", by="dmitri", now_s=NOW_S + 1)
    add(store, "green")


@pytest.mark.sqlite_suffices
def test_only_what_is_not_over_is_delivered(store: Store, north: UpstreamRecord) -> None:
    add(store)
    add(store, "planned", from_s=NOW_S + 7_200)
    with store.read() as connection:
        at = {now_s: [it.name for it in load_orders(connection, now_s)] for now_s in (NOW_S, NOW_S + 86_400)}
    assert at == {NOW_S: ["blue", "planned"], NOW_S + 86_400: []}
    with store.write() as connection:
        ended = end_order(connection, "blue", by="dmitri", now_s=NOW_S + 60)
    assert (ended.ended_at_s, ended.ended_by) == (NOW_S + 60, "dmitri")
    with store.read() as connection:
        assert [it.name for it in load_orders(connection, NOW_S + 60)] == ["planned"]


@pytest.mark.sqlite_suffices
def test_an_order_ends_once(store: Store, north: UpstreamRecord) -> None:
    add(store)
    with store.write() as connection:
        with pytest.raises(RegistryError, match="there is no order 'green'"):
            end_order(connection, "green", by="dmitri", now_s=NOW_S)
        end_order(connection, "blue", by="dmitri", now_s=NOW_S)
        with pytest.raises(RegistryError, match="over already"):
            end_order(connection, "blue", by="olga", now_s=NOW_S + 1)
        assert find_order(connection, "blue").ended_by == "dmitri"
    add(store, "green")
    with store.write() as connection, pytest.raises(RegistryError, match="over already"):
        end_order(connection, "green", by="olga", now_s=NOW_S + 86_400)


def test_minutes_are_added_up_by_hour(store: Store, north: UpstreamRecord) -> None:
    order = add(store)
    with store.write() as connection:
        note_minute(connection, order.id, 500_000, True, 7)
        note_minute(connection, order.id, 500_000, False, 0)
        note_minute(connection, order.id, 500_000, True, 2, away=True)
        note_minute(connection, order.id, 500_001, False, 1)
    with store.read() as connection:
        rows = connection.execute(select(order_hours).order_by(order_hours.c.hour)).all()
    assert [tuple(row) for row in rows] == [(order.id, 500_000, 3, 2, 9, 1), (order.id, 500_001, 1, 0, 1, 0)]


@pytest.mark.sqlite_suffices
def test_words_of_an_event_are_bounded(store: Store, north: UpstreamRecord) -> None:
    with store.write() as connection:
        note_event(connection, NOW_S, north.id, None, "lost", "x" * 5_000, 400)
    with store.read() as connection:
        row = connection.execute(select(channel_events)).one()
    assert (row.event, row.order_id, row.sessions, len(row.words)) == ("lost", None, 400, WORDS_CHARS_MAX)
