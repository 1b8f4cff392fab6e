"""Lists a page at a time: no row twice and none left out, whatever comes and goes between two pages."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import insert

from payouts.batches.plan import plan
from payouts.batches.proposals import ProposalKind, propose
from payouts.batches.rows import Act
from payouts.batches.steps import cancel, draft
from payouts.income import Block, record_block
from payouts.sales.charges import ChargeKind, charge_line
from payouts.sales.invoices import issue
from payouts.schemas.money import workers
from pool.admin.command import Question
from pool.admin.commands import COMMANDS, Answer, answer_to
from pool.admin.desk import Desk
from pool.admin.fleet.tenants import TenantList
from pool.admin.pages import CURSOR_CHARS_MAX, LIMIT_MAX, Page, Paged, cursor_behind
from pool.books.store import Store
from pool.fleet.rows import RegistryError
from pool.orders.rows import find_order
from pool.people.roles import Caller, Role, host_account
from pool.requests.made import RequestMade
from pool.requests.policy import Approval
from tests.fixtures.databases import store_in
from tests.histories.curtailment import booked_curtailment
from tests.stages.command_line import PASSWORD
from tests.stages.payouts import NOW_S, PAYEES, add_tenant, credit, script_of, set_address
from tests.stages.site_journal import new_nkey

OLGA = host_account("olga", "test")
ENDPOINT = {"host": "a.example", "port": 3333, "user": "acme", "password": PASSWORD}
NAMES = ("c", "a", "e", "b", "d")
FAR_S = 3_786_912_000  # 2090
# Five of everything that is listed, and what has grown by one between two pages.
MAKES: dict[str, tuple[str, Any]] = {
    "tenant.list": ("tenant.add", lambda it: {"name": it}),
    "container.list": ("container.set", lambda it: {"tenant": it, "name": "c01"}),
    "site.list": ("container.set", lambda it: {"tenant": it, "name": "c01", "site": f"site {it}"}),
    "upstream.list": ("upstream.add", lambda it: {"name": it, "endpoints": [ENDPOINT]}),
    "order.list": (
        "order.add",
        lambda it: {
            "name": it,
            "buyer": "b",
            "upstream": "a",
            "hashrate_ths": 1000,
            "from_s": FAR_S,
            "until_s": FAR_S + 86_400,
            "sat_per_ph_day": 4_500,
            "tenants": ["a"],
        },
    ),
    "order.owed": (
        "order.add",
        lambda it: {
            "name": f"sold-{it}",
            "buyer": "b",
            "upstream": "a",
            "hashrate_ths": 1000,
            "from_s": FAR_S,
            "until_s": FAR_S + 86_400,
            "sat_per_ph_day": 4_500,
            "tenants": ["a"],
            "billing": "daily",
        },
    ),
    "edge.list": ("edge.add", lambda it: {"name": it, "nkey": new_nkey(), "tenants": ["a"]}),
    "user.list": ("user.add", lambda it: {"name": f"user {it}", "role": "viewer"}),
    "token.list": ("token.create", lambda it: {"user": f"user {it}", "label": "t"}),
    "model.list": ("model.set", lambda it: {"container": f"{it}.c01", "model": "Antminer S21"}),
    "meter.list": (
        "meter.add",
        lambda it: {"name": it, "kind": "csv", "containers": [f"{it}.c01"], "error_bps": 50, "max_kw": 9},
    ),
    "limit.list": ("limit.set", lambda it: {"container": f"{it}.c01", "kw": 9, "reason": "a breaker"}),
    "tariff.list": (
        "tariff.add",
        lambda it: {"name": it, "currency": "USD", "source": "contract", "price_micro": 1, **hour_of(it)},
    ),
    "exchange.list": (
        "exchange.set",
        lambda it: {"currency": f"U{it[0].upper()}{it[-1].upper()}", "sat": "1", "source": "desk"},
    ),
    "carbon.list": (
        "carbon.import",
        lambda it: {"method": "location", "source": it, "rows": [[ord(it[0]), ord(it[0]) + 1, 24_000]]},
    ),
    "hosting.list": ("hosting.set", lambda it: {"tenant": it, "charge": "tariff"}),
    "power.list": (
        "power.curtail",
        lambda it: {"target": "everything", "reference": it, "from_s": FAR_S, "until_s": FAR_S + 3600},
    ),
    "power.terms": ("power.set-terms", lambda it: {"tenant": it, "priority": 9}),
    "power.exemptions": ("power.exempt", lambda it: {"machines": f"{it}.c01", "reason": "pumps"}),
    "address.list": ("address.set", lambda it: {"machine": f"{it}.c01.u1", "address": place_of(it)}),
    "credential.list": (
        "credential.set",
        lambda it: {"firmware": "vnish", "scope": f"container:{it}.c01", "sealed": "c2VhbGVk"},
    ),
}


def hour_of(name: str) -> dict[str, int]:
    """One of its own."""
    hour = FAR_S // 3600 + ord(name[0])
    return {"from_s": hour * 3600, "until_s": (hour + 1) * 3600}


def place_of(name: str) -> str:
    return f"10.0.0.{ord(name[0])}"


BY_TENANT = ("container.list", "hosting.list", "power.terms", "power.exemptions", "address.list")
BY_ID = [
    "order",
    "token",
    "worker",
    "proposal",
    "request",
    "change",
    "model",
    "meter",
    "limit",
    "tariff",
    "exchange",
    "carbon",
    "power",
]
KNOWN_BY = (
    {"block.list": "height", "payout.list": "batch", "model.known": "model", "credential.list": "scope"}
    | {"grid.list": "event", "order.owed": "id", "order.invoices": "number"}
    | dict.fromkeys(BY_TENANT, "tenant")
    | {f"{name}.list": "id" for name in BY_ID}
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    home = tmp_path_factory.mktemp("house")
    with closing(store_in(home)) as store:
        for command, params in MAKES.values():
            for name in NAMES:
                give(store, command, **params(name))
        rows = [
            {"id": n, "tenant_id": 1, "container_id": 1, "unit": f"u{n}", "first_seen_at_s": 0}
            for n in range(1, 6)
        ]
        with store.write() as connection:
            connection.execute(insert(workers), [row | {"last_seen_at_s": 0} for row in rows])
            for n in range(1, 6):
                block = Block(hash=f"{n:064x}", height=n, income_sat=0, worker_id=n, found_at_s=FAR_S + n)
                record_block(connection, block, FAR_S + n)
            paid, ann = add_tenant(connection, "paid"), Act("ann", NOW_S)
            set_address(connection, paid, PAYEES[0][1])
            credit(connection, paid, 20_000, "work")
            for name in NAMES:
                cancel(connection, draft(connection, plan(connection, NOW_S, script_of, 1_000), ann), ann)
                propose(connection, ProposalKind.REVERSAL, "1", name, ann)
            for n in range(1, 6):
                booked_curtailment(connection, n, NOW_S)
                sold = find_order(connection, "sold-a").id
                charge_line(connection, sold, FAR_S // 3600 - n, ChargeKind.WORK, 10**12, FAR_S)
                assert issue(connection, sold, FAR_S, FAR_S) == n
        later = Desk(store, "regtest", policy=Approval(time_lock_s=3_600))
        for name in NAMES:
            params = msgspec.json.encode({"name": name, "fee_bps": 5})
            with pytest.raises(RequestMade):
                answer_to(later, "tenant.set-terms", params, OLGA)
    return (home / "angara.db").read_bytes()


@pytest.fixture
def store(tmp_path: Path, house: bytes) -> Iterator[Store]:
    (tmp_path / "angara.db").write_bytes(house)
    with closing(store_in(tmp_path)) as opened:
        yield opened


def told(store: Store, name: str, caller: Caller = OLGA, /, **params: Any) -> Answer:
    return answer_to(Desk(store, "regtest"), name, msgspec.json.encode(params), caller)


def give(store: Store, name: str, /, **params: Any) -> Any:
    return json.loads(told(store, name, **params).body)


def pages(store: Store, name: str, /, **params: Any) -> Iterator[list[Any]]:
    cursor = None
    while True:
        answer = told(store, name, **params, cursor=cursor)
        yield json.loads(answer.body)
        if (cursor := answer.cursor) is None:
            return


PAGED = [name for name, it in COMMANDS.items() if isinstance(it, Question) and it.paged]
OF_BOOKS = [name for name in PAGED if name != "held.list"]  # which only who holds machines off can say
OF_CONTAINERS = ("model.list", "meter.list", "limit.list", "power.exemptions")
NO_LISTS = {
    "model.known",
    "power.terms",
    "power.exemptions",
    "power.machines",
    "order.owed",
    "order.invoices",
}  # by their names


def test_every_list_can_be_asked_for_a_page_at_a_time_but_for_what_is_a_screen() -> None:
    """What is wrong, and kinds of firmware: both are bounded where they are kept."""
    lists = {name for name, it in COMMANDS.items() if name.endswith(".list")}
    assert set(PAGED) == lists - {"message.list", "firmware.list"} | NO_LISTS
    assert all(issubclass(COMMANDS[name].params, Paged) for name in PAGED)


@pytest.mark.parametrize("name", OF_BOOKS)
@pytest.mark.parametrize("limit", [1, 2, 5, 6])
def test_pages_together_are_all_of_it(store: Store, name: str, limit: int) -> None:
    whole, parts = give(store, name), list(pages(store, name, limit=limit))
    assert len(whole) >= 5
    assert all(len(part) <= limit for part in parts)
    if name in ("change.list", "block.list"):  # the newest first, in each page the newest last
        parts = parts[::-1]
    assert sorted(str(row) for part in parts for row in part) == sorted(map(str, whole))
    key = KNOWN_BY.get(name, "name")
    found = [row[key] for part in parts for row in part]
    assert found == sorted(found)


@pytest.mark.parametrize("name", MAKES)
def test_what_comes_and_goes_in_between_moves_no_page(store: Store, name: str) -> None:
    """Before and behind where the next page begins; whoever was there all the time is there once."""
    whole = give(store, name)
    parts = pages(store, name, limit=2)
    seen = next(parts)
    key = KNOWN_BY.get(name, "name")
    command, params = MAKES[name]
    if name != "tenant.list":
        for new in ("aa", "zz"):
            give(store, "tenant.add", name=new)
    if name == "token.list":
        for new in ("aa", "zz"):
            give(store, "user.add", name=f"user {new}", role="viewer")
    if name in OF_CONTAINERS:
        for new in ("aa", "zz"):
            give(store, "container.set", tenant=new, name="c01")
    for new in ("aa", "zz"):
        give(store, command, **params(new))
    if name == "container.list":
        give(store, "container.remove", tenant="b", name="c01")  # the last of the first page
        give(store, "container.remove", tenant="d", name="c01")
    seen += [row for part in parts for row in part]
    ids = [row[key] for row in seen]
    assert ids == sorted(set(ids)), "none twice, and in order"
    gone = {"d"} if name == "container.list" else set()
    assert {row[key] for row in whole} - gone <= set(ids)


def test_a_cursor_is_of_one_list_and_of_one_way_to_ask_for_it(store: Store) -> None:
    cursor = told(store, "container.list", limit=1).cursor
    assert cursor is not None
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("container.list", {"tenant": "a", "cursor": cursor}),
        ("tenant.list", {"cursor": cursor}),
        ("worker.list", {"cursor": cursor}),
        ("change.list", {"subject": "a", "cursor": told(store, "change.list", limit=1).cursor}),
    ]
    forged = [cursor_behind(TenantList(), place) for place in ((), ("a", "b"), (5,), (1 << 63,), (-1,))]
    nonsense = ["", "x", "a b", "é", "AAAA", "W10", "bnVsbA", cursor[:-3], "W1tbW1tbW1tbW10"]
    wrong += [("tenant.list", {"cursor": it}) for it in (*forged, *nonsense)]
    for name, params in wrong:
        with pytest.raises(RegistryError, match="cursor"):
            told(store, name, **params)
    assert give(store, "container.list", limit=3, cursor=cursor), "how much, may change"


@pytest.mark.parametrize(
    "params",
    [{"limit": 0}, {"limit": LIMIT_MAX + 1}, {"limit": "1"}, {"cursor": "x" * (CURSOR_CHARS_MAX + 1)}],
)
def test_bounds(store: Store, params: dict[str, Any]) -> None:
    with pytest.raises(RegistryError):
        told(store, "tenant.list", **params)


def test_a_tenants_pages_are_its_own(store: Store) -> None:
    """A cursor of who sees all is of no use to it."""
    own = Caller(name="t", source="test", role=Role.TENANT, tenant="a", user_id=9)
    cursor = told(store, "container.list", limit=1).cursor
    with pytest.raises(RegistryError):
        told(store, "container.list", own, cursor=cursor)
    assert [row["tenant"] for row in json.loads(told(store, "container.list", own, limit=9).body)] == ["a"]


def test_an_empty_list_has_one_empty_page(tmp_path: Path) -> None:
    with closing(store_in(tmp_path)) as store:
        for name in sorted({*OF_BOOKS} - {"model.known"}):
            assert told(store, name, limit=1) == Answer(b"[]"), name


def test_a_page_says_what_is_behind_it() -> None:
    assert Page([1]).cursor is None
