"""Tenants: names as hostile miners write them, and terms that say where machines mine and what that pays.

What names mean is in tests/pool/fleet/test_registry.py.
"""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from typer.testing import CliRunner

from payouts.rates import OrderCredit, Scheme, UpstreamRisk
from payouts.schemas.money import tenant_terms
from pool.books.store import Store
from pool.cli.main import app
from pool.fleet.registry import Registry, parse_worker_name
from pool.fleet.rows import (
    RegistryError,
    TenantTerms,
    add_tenant,
    find_tenant,
    load,
    record_of,
    set_terms,
    terms_of,
)
from pool.upstreams.rows import NewUpstream, add_upstream
from stratum.upstream.endpoint import UpstreamEndpoint
from tests.fixtures.databases import store_in
from tests.histories.sold_work import upstream_row

TERMS = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=0)


# Names


@pytest.mark.parametrize("name", ["acme.c07.a%0Ab", "acme.c07.%00", "acme.c07.%1B[31m", "acme.c07.%E2%80%AE"])
def test_escapes_do_not_smuggle_what_cannot_be_printed(name: str) -> None:
    assert parse_worker_name(name) == tuple(name.split("."))


@settings(derandomize=True, deadline=None)
@given(st.text(st.characters(exclude_categories=("C", "Z")), max_size=127))
def test_every_printable_name_has_printable_parts(name: str) -> None:
    assert "".join(parse_worker_name(name)).isprintable()


# Terms


@pytest.mark.sqlite_suffices
def test_terms_are_the_pools_own_work_paid_by_its_rate_unless_they_say_otherwise(store: Store) -> None:
    with store.write() as connection:
        view = add_tenant(connection, "acme", TERMS, by="ann", now_s=0)
    assert (view.upstream_id, view.upstream, view.order_credit, view.upstream_risk) == (
        None,
        None,
        "pps",
        "tenant",
    )
    assert terms_of(view) == TERMS


@pytest.mark.sqlite_suffices
def test_a_change_of_where_machines_mine_has_a_history_and_reaches_the_registry(store: Store) -> None:
    with store.write() as connection:
        north = upstream_row(connection, "north")
        add_tenant(connection, "acme", TERMS, by="ann", now_s=0)
    with store.read() as connection:
        registry = Registry(load(connection))
    assert registry.tenants["acme"].upstream_id is None
    proxy = TenantTerms(
        scheme=Scheme.PROXY,
        fee_bps=100,
        payout_minimum_sat=0,
        upstream_id=north,
        order_credit=OrderCredit.ORDER,
        upstream_risk=UpstreamRisk.POOL,
    )
    with store.write() as connection:
        view = set_terms(connection, "acme", proxy, by="bob", now_s=1)
        set_terms(connection, "acme", proxy, by="bob", now_s=2)  # no change is no row
    assert (view.upstream, view.upstream_id) == ("north", north)
    assert terms_of(view) == proxy
    registry.put_tenant(record_of(view))
    assert registry.tenants["acme"].upstream_id == registry.tenants_by_id[view.id].upstream_id == north
    with store.read() as connection:
        rows = connection.execute(select(tenant_terms).order_by(tenant_terms.c.id)).all()
        assert Registry(load(connection)).tenants["acme"].upstream_id == north
    assert [(row.upstream_id, row.order_credit, row.upstream_risk) for row in rows] == [
        (None, "pps", "tenant"),
        (north, "order", "pool"),
    ]


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("scheme", [Scheme.PPS, Scheme.FPPS, Scheme.PROXY])
def test_whoever_is_not_paid_by_blocks_may_mine_on_an_upstream(store: Store, scheme: Scheme) -> None:
    with store.write() as connection:
        terms = msgspec.structs.replace(TERMS, scheme=scheme, upstream_id=upstream_row(connection))
        assert add_tenant(connection, "acme", terms, by="ann", now_s=0).upstream == "north"


@pytest.mark.sqlite_suffices
def test_machines_that_would_mine_for_nobody_are_refused_in_words(store: Store) -> None:
    with store.write() as connection:
        north = upstream_row(connection)
        add_tenant(connection, "acme", TERMS, by="ann", now_s=0)
        proxy = msgspec.structs.replace(TERMS, scheme=Scheme.PROXY)
        solo = msgspec.structs.replace(TERMS, scheme=Scheme.SOLO, upstream_id=north)
        for terms, words in ((proxy, "say which with --upstream"), (solo, "--upstream pool")):
            with pytest.raises(RegistryError, match=words):
                set_terms(connection, "acme", terms, by="ann", now_s=0)
            with pytest.raises(RegistryError, match=words):
                add_tenant(connection, "new", terms, by="ann", now_s=0)
        assert terms_of(find_tenant(connection, "acme")) == TERMS


# Commands


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """With an upstream called north."""
    store = store_in(tmp_path)
    endpoint = UpstreamEndpoint(host="pool.example", port=3333, user="acme", password="x")
    with store.write() as connection:
        add_upstream(connection, NewUpstream(name="north", endpoints=(endpoint,)), by="ann", now_s=0)
    store.close()
    return tmp_path


def angara_tenant(data_dir: Path, *words: str) -> tuple[int, str]:
    """Exit code, and what was printed, or the words of the mistake."""
    result = CliRunner().invoke(app, ["tenant", *words, "--data-dir", str(data_dir)])
    return result.exit_code, result.output or str(result.exception)


def shown(data_dir: Path, name: str) -> dict[str, Any]:
    code, output = angara_tenant(data_dir, "show", name, "--json")
    assert code == 0
    found: dict[str, Any] = json.loads(output)
    return {key: found[key] for key in ("scheme", "upstream", "order_credit", "upstream_risk", "fee_bps")}


def test_the_command_line_says_where_machines_mine_and_what_that_pays(data_dir: Path) -> None:
    added = "add acme --scheme proxy --upstream north --order-credit order --upstream-risk pool"
    code, output = angara_tenant(data_dir, *added.split())
    assert code == 0, output
    of_acme = {
        "scheme": "proxy",
        "upstream": "north",
        "order_credit": "order",
        "upstream_risk": "pool",
        "fee_bps": 200,
    }
    assert shown(data_dir, "acme") == of_acme
    assert angara_tenant(data_dir, "set-terms", "acme", "--fee-bps", "50")[0] == 0
    assert shown(data_dir, "acme") == of_acme | {"fee_bps": 50}  # what is not named stays
    back = "set-terms acme --scheme pps --upstream pool --order-credit pps --upstream-risk tenant"
    assert angara_tenant(data_dir, *back.split())[0] == 0
    assert shown(data_dir, "acme") == {
        "scheme": "pps",
        "upstream": None,
        "order_credit": "pps",
        "upstream_risk": "tenant",
        "fee_bps": 50,
    }
    code, listed = angara_tenant(data_dir, "list")
    assert code == 0
    assert "acme" in listed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--scheme proxy", "say which with --upstream"),
        ("--scheme solo --upstream north", "--upstream pool"),
        ("--upstream south", "no upstream 'south'"),
        ("--order-credit ponzi", "none of pps, order"),
        ("--upstream-risk buyer", "none of tenant, pool"),
        ("--scheme ponzi", "none of pps, fpps, solo, proxy"),
        ("--fee-bps 10001", "basis points"),
    ],
)
def test_terms_that_cannot_be_are_answered_in_words(data_dir: Path, options: str, words: str) -> None:
    code, _ = angara_tenant(data_dir, "add", "acme")
    assert code == 0
    before = shown(data_dir, "acme")
    for command in (("set-terms", "acme"), ("add", "new")):
        code, output = angara_tenant(data_dir, *command, *options.split())
        assert code != 0
        assert words in " ".join(output.split())
    assert shown(data_dir, "acme") == before
