"""Upstreams as rows: what can be added, how endpoints change places, and what keeps one from going."""

from typing import Any

import msgspec
import pytest
from sqlalchemy import insert, select

from payouts.rates import Scheme
from payouts.schemas.orders import upstream_endpoints, upstream_hours
from pool.books.store import Store
from pool.fleet.rows import RegistryError, TenantTerms, add_tenant, set_terms
from pool.orders.rows import add_order, end_order
from pool.upstreams import rows as upstream_store
from pool.upstreams.rows import (
    DayVerdicts,
    UpstreamRecord,
    add_upstream,
    find_upstream,
    load_upstreams,
    remove_upstream,
    switch_upstream,
    verdicts_of_day,
)
from stratum.upstream.endpoint import UpstreamEndpoint
from tests.histories.orders import new_order, new_upstream

NOW_S = 1_800_000_000
TLS = UpstreamEndpoint(
    host="2001:db8::1", port=443, user="acme", password="s3cret", tls=True, ca_file="/etc/ca.pem"
)


def add(store: Store, name: str = "north", **change: Any) -> UpstreamRecord:
    with store.write() as connection:
        return add_upstream(connection, new_upstream(name, **change), by="olga", now_s=NOW_S)


def switch(store: Store, to: str) -> list[str]:
    """Hosts in their new order."""
    with store.write() as connection:
        record = switch_upstream(connection, "north", to)
    return [it.host.partition(".")[0] for it in record.endpoints]


def remove(store: Store, name: str = "north", now_s: int = NOW_S) -> None:
    with store.write() as connection:
        remove_upstream(connection, name, now_s=now_s)


def tenant(store: Store, upstream_id: int | None) -> None:
    terms = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=0, upstream_id=upstream_id)
    with store.write() as connection:
        add_tenant(connection, "acme", terms, by="olga", now_s=NOW_S)


@pytest.mark.sqlite_suffices
def test_what_was_added_is_loaded_as_it_was(store: Store) -> None:
    east = add(store, "east", endpoints=(TLS,), outage_s=90, connections=4, suggest_difficulty=65_536)
    north = add(store, fallback="east")
    assert (north.fallback_id, north.outage_s, north.connections) == (east.id, 30, 1)
    assert (east.outage_s, east.connections, east.suggest_difficulty) == (90, 4, 65_536)
    assert east.endpoints == (TLS,)
    assert north.endpoints == new_upstream().endpoints
    with store.read() as connection:
        assert load_upstreams(connection) == (east, north)


@pytest.mark.parametrize("field", ["user", "password"])
@pytest.mark.parametrize("text", ["a\0", "a\n", "a\x1b[2J", "\u202ea"])
def test_an_account_is_of_printable_characters(field: str, text: str) -> None:
    """It is shown, logged, and stored by a database that takes no NUL."""
    endpoint = msgspec.structs.replace(TLS, **{field: text})
    with pytest.raises(ValueError, match="printable"):
        new_upstream(endpoints=(endpoint,))


@pytest.mark.sqlite_suffices
def test_no_password_is_in_what_it_looks_like(store: Store) -> None:
    record = add(store, endpoints=(TLS,))
    assert "s3cret" not in f"{record!r} {record} {new_upstream(endpoints=(TLS,))!r}"


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("name", ["", "pool", "North", "no rth", "a.b", "-x", "x" * 33, "nörd", "x\n"])
def test_names_that_cannot_be_are_refused(store: Store, name: str) -> None:
    with pytest.raises(RegistryError, match="is no name for an upstream"):
        add(store, name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"endpoints": ()}, "1 to 16 endpoints"),
        ({"endpoints": (TLS, TLS)}, "twice"),
        (
            {"endpoints": tuple(msgspec.structs.replace(TLS, port=port) for port in range(1, 18))},
            "1 to 16 endpoints",
        ),
        ({"outage_s": 0}, "seconds"),
        ({"outage_s": 86_401}, "seconds"),
        ({"connections": 0}, "connections"),
        ({"connections": 17}, "connections"),
        ({"suggest_difficulty": 0}, "difficulty"),
        ({"suggest_difficulty": 1 << 63}, "difficulty"),
    ],
)
def test_what_cannot_be_an_upstream_is_refused_in_words(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        new_upstream(**change)


@pytest.mark.sqlite_suffices
def test_a_name_is_taken_for_ever(store: Store) -> None:
    add(store)
    with pytest.raises(RegistryError, match="already"):
        add(store)
    remove(store)
    with pytest.raises(RegistryError, match="the books still speak of it"):
        add(store)
    with store.read() as connection, pytest.raises(RegistryError, match="was removed"):
        find_upstream(connection, "north")


@pytest.mark.sqlite_suffices
def test_there_are_only_so_many(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_store, "UPSTREAMS_MAX", 2)
    add(store)
    add(store, "east")
    with pytest.raises(RegistryError, match="2 upstreams already"):
        add(store, "west")
    remove(store)
    add(store, "west")


@pytest.mark.sqlite_suffices
def test_a_fallback_must_be_there(store: Store) -> None:
    with pytest.raises(RegistryError, match="there is no upstream 'east'"):
        add(store, fallback="east")
    with store.read() as connection:
        assert load_upstreams(connection) == ()


@pytest.mark.sqlite_suffices
def test_the_endpoint_that_is_named_becomes_the_first_and_the_others_keep_their_order(store: Store) -> None:
    add(store)
    assert switch(store, "3") == ["c", "a", "b"]
    assert switch(store, "B.pool.example:3333") == ["b", "c", "a"]
    assert switch(store, "1") == ["b", "c", "a"]
    with store.read() as connection:
        assert find_upstream(connection, "north").endpoints[0].password == "hunter2"


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize(
    "to", ["0", "4", "-1", "", "a", "a.pool.example", "d.pool.example:3333", "²", "9" * 400]
)
def test_an_endpoint_that_is_not_there_is_refused_in_words(store: Store, to: str) -> None:
    add(store)
    with pytest.raises(RegistryError, match=r"no endpoint .*: there are 1 a\.pool\.example:3333, 2 b"):
        switch(store, to)


@pytest.mark.sqlite_suffices
def test_an_address_with_two_accounts_is_named_by_number(store: Store) -> None:
    add(store, endpoints=(TLS, msgspec.structs.replace(TLS, user="other")))
    with pytest.raises(RegistryError, match="more than once: say which by its number"):
        switch(store, "[2001:db8::1]:443")
    assert switch(store, "2") == ["2001:db8::1"] * 2
    with store.read() as connection:
        assert [it.user for it in find_upstream(connection, "north").endpoints] == ["other", "acme"]


@pytest.mark.sqlite_suffices
def test_one_that_is_used_stays(store: Store) -> None:
    north = add(store)
    tenant(store, north.id)
    add(store, "east", fallback="north")
    with store.write() as connection:
        order = new_order(tenants=("acme",), from_s=NOW_S, until_s=NOW_S + 3600)
        add_order(connection, order, by="olga", now_s=NOW_S)
    with pytest.raises(RegistryError, match="in use: order blue, tenant acme, upstream east, as fallback"):
        remove(store)
    remove(store, "east")
    with store.write() as connection:
        end_order(connection, "blue", by="olga", now_s=NOW_S + 60)
    with pytest.raises(RegistryError, match=r"in use: tenant acme$"):
        remove(store)
    with store.write() as connection:
        own = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=0)
        set_terms(connection, "acme", own, by="olga", now_s=NOW_S)
    remove(store)


@pytest.mark.sqlite_suffices
def test_an_order_whose_time_is_up_holds_nothing(store: Store) -> None:
    add(store)
    tenant(store, None)
    with store.write() as connection:
        order = new_order(tenants=("acme",), from_s=NOW_S, until_s=NOW_S + 3600)
        add_order(connection, order, by="olga", now_s=NOW_S)
    with pytest.raises(RegistryError, match="in use: order blue"):
        remove(store, now_s=NOW_S + 3599)
    remove(store, now_s=NOW_S + 3600)


def test_one_that_is_removed_leaves_no_password_behind(store: Store) -> None:
    add(store)
    kept = add(store, "east", endpoints=(TLS,))
    remove(store)
    with store.read() as connection:
        assert load_upstreams(connection) == (kept,)
        assert connection.scalars(select(upstream_endpoints.c.password)).all() == ["s3cret"]


def test_verdicts_of_a_day_are_those_of_its_hours_and_its_upstream(store: Store) -> None:
    north, east = add(store), add(store, "east")
    tenant(store, None)
    day = NOW_S // 86_400
    rows = [
        (day * 24 - 1, north.id, "accepted", "", 1_000),
        (day * 24, north.id, "accepted", "", 5),
        (day * 24 + 23, north.id, "accepted", "", 7),
        (day * 24 + 1, north.id, "rejected", "stale", 2),
        (day * 24 + 2, north.id, "rejected", "stale", 1),
        (day * 24 + 2, north.id, "rejected", "other", 4),
        (day * 24 + 2, north.id, "unanswered", "", 6),
        (day * 24 + 2, east.id, "accepted", "", 1_000),
        (day * 24 + 24, north.id, "accepted", "", 1_000),
    ]
    names = ("hour", "upstream_id", "verdict", "reason", "shares")
    with store.write() as connection:
        connection.execute(
            insert(upstream_hours),
            [
                {"tenant_id": 1, "order_id": 0, "target": "0" * 64} | dict(zip(names, row, strict=True))
                for row in rows
            ],
        )
    with store.read() as connection:
        found = verdicts_of_day(connection, north.id, day)
        nothing = verdicts_of_day(connection, north.id, day + 9)
    assert found == DayVerdicts(accepted=12, rejected={"other": 4, "stale": 3}, unanswered=6)
    assert nothing == DayVerdicts(accepted=0, rejected={}, unanswered=0)
