"""Who changed what: every command is a question, or leaves a record of its operator beside its change.

Each command of the table is given an example, on a house with a tenant acme, its container c01 with the
machine u1, upstreams north and south, and an order blue.
"""

import json
import os
import pwd
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import pytest
import trio
from sqlalchemy import insert
from sqlalchemy.exc import DatabaseError, IntegrityError

from payouts.batches.plan import plan
from payouts.batches.proposals import ProposalKind, propose
from payouts.batches.rows import Act
from payouts.batches.steps import approve, draft
from payouts.schemas.money import workers
from pool.admin.command import Change, Question
from pool.admin.commands import COMMANDS, execute
from pool.admin.desk import Desk
from pool.admin.operators import ALONE, SOCKET
from pool.admin.server import serve_admin
from pool.books.changes.changes import CHANGES_MAX, ChangeRow, newest_changes, note_change
from pool.books.changes.schema import changes
from pool.books.edges.hub_copies import note_copy
from pool.books.edges.leases import Asked, begin
from pool.books.edges.rows import hold_edge
from pool.books.store import Store
from pool.data_dir import admin_socket, database_url, held
from pool.fleet.rows import RegistryError
from pool.journal.frames import Place
from pool.people.roles import host_account
from pool.power.curtailment.schema import power_event_machines
from pool.treasury.reconciler import SAID
from tests.fakes.treasuries import agreeing
from tests.fixtures.databases import Crash, crash_before, store_in
from tests.histories.curtailment import booked_curtailment
from tests.judges.answers import as_published
from tests.stages.command_line import PASSWORD, angara, ask_books
from tests.stages.payouts import NOW_S, add_tenant, credit, script_of, set_address
from tests.stages.site_journal import new_nkey
from tests.stages.waiting import PATIENCE_S

FAR_S = 3_786_912_000  # 2090
ADDRESS = "bcrt1qk3e2yekshkyuzdcx5sfjena3da7rh87tay47fm"
TXID: Final = "ab" * 32
DIGEST: Final = "80627e0f079cc7cf0509378039ff7972f5eb03f62b4a1788c70d11e5f3feaaae"  # of batch 1
# The machine did not come back from the event that is there.
LOST: Final = {
    "event_id": 1,
    "worker_id": 1,
    "batch": 0,
    "state": "lost",
    "changed_at_s": 0,
    "due_s": 0,
    "asks": 4,
    "before_from_s": 0,
    "before_until_s": 3_600,
    "watts_before": 3_500,
    "watts_idle": 100,
    "basis": "work",
    "error_bps": 500,
}
Rows = dict[str, list[tuple[Any, ...]]]


def endpoint(host: str) -> dict[str, Any]:
    return {"host": host, "port": 3333, "user": "acme", "password": PASSWORD}


HOUSE: Final = (
    ("tenant.add", {"name": "acme"}),
    ("container.set", {"tenant": "acme", "name": "c01", "site": "Bratsk", "units": 400}),
    ("upstream.add", {"name": "north", "endpoints": [endpoint("a.example"), endpoint("b.example")]}),
    ("upstream.add", {"name": "south", "endpoints": [endpoint("c.example")]}),
    ("edge.add", {"name": "hall", "nkey": new_nkey(), "tenants": ["acme"]}),
    ("edge.add", {"name": "barn", "nkey": new_nkey(), "tenants": ["acme"]}),
    ("meter.add", {"name": "box", "kind": "csv", "site": "Bratsk", "error_bps": 50, "max_kw": 9_000}),
    ("limit.set", {"site": "Bratsk", "kw": 6_000, "reason": "the grid's"}),
    ("address.set", {"machine": "acme.c01.u1", "address": "10.0.0.1"}),
    ("credential.set", {"firmware": "vnish", "sealed": "c2VhbGVk"}),
    ("power.curtail", {"target": "everything", "site": "Bratsk", "reference": "grid-1"}),
    ("power.exempt", {"machines": "acme.c01", "reason": "pumps are tested"}),
    ("user.add", {"name": "vera", "role": "payer"}),
    ("token.create", {"user": "vera", "label": "statements"}),
)
ORDER: Final = {
    "name": "blue",
    "buyer": "Blue Ltd",
    "upstream": "north",
    "hashrate_ths": 1000,
    "from_s": FAR_S,
    "until_s": FAR_S + 86_400,
    "sat_per_ph_day": 4_500,
    "tenants": ["acme"],
    "billing": "weekly",
}
THIS_HOUR_S: Final = int(time.time()) // 3_600 * 3_600
WRITER: Final = "ab" * 16  # of the edge's journal
OF_BARN: Final = "cd" * 16
TABLE: Final = "tenant;container;units;kw\r\nacme;c01;380;1200\r\n"
QUESTIONS: Final[dict[str, dict[str, Any]]] = {
    "tenant.list": {},
    "tenant.show": {"name": "acme"},
    "container.list": {},
    "container.export": {},
    "container.compare": {"table": TABLE},
    "site.list": {},
    "worker.list": {},
    "worker.show": {"name": "acme.c01.u1"},
    "reject.show": {"worker": "acme.c01.u1"},
    "statement.show": {"tenant": "acme", "from_day": "2026-09-01", "to_day": "2026-09-02"},
    "statement.file": {"tenant": "acme", "from_day": "2026-09-01", "to_day": "2026-09-02", "format": "csv"},
    "upstream.list": {},
    "upstream.show": {"name": "north"},
    "order.list": {},
    "order.show": {"name": "blue"},
    "order.receipts": {"name": "blue"},
    "order.owed": {},
    "order.invoices": {"name": "blue"},
    "edge.list": {},
    "edge.show": {"name": "hall"},
    "block.list": {},
    "user.list": {},
    "user.show": {"name": "vera"},
    "token.list": {"user": "vera"},
    "message.list": {},
    "message.test": {},
    "change.list": {},
    "payout.preview": {},
    "payout.list": {},
    "payout.show": {"batch": 1},
    "proof.roots": {},
    "proof.closings": {},
    "proof.reserves": {},
    "proof.keys": {},
    "proposal.list": {},
    "reversal.show": {"transaction": 1},
    "lease.show": {},
    "power.now": {},
    "power.machines": {"container": "acme.c01"},
    "power.minutes": {"tenant": "acme"},
    "power.plan": {"target": "everything"},
    "power.list": {},
    "power.show": {"event": 1},
    "power.terms": {},
    "power.exemptions": {},
    "power.suspects": {},
    "model.known": {},
    "model.list": {"container": "acme.c01"},
    "meter.list": {},
    "meter.show": {"name": "box"},
    "limit.list": {},
    "tariff.list": {},
    "exchange.list": {},
    "hosting.list": {},
    "carbon.list": {},
    "grid.list": {},
    "address.list": {},
    "credential.list": {},
}
# Of each change: its parameters, what it is about, and some of what was and of what it became.
CHANGES: Final[dict[str, tuple[dict[str, Any], str, dict[str, Any] | None, dict[str, Any] | None]]] = {
    "tenant.add": ({"name": "new", "fee_bps": 50}, "new", None, {"status": "active", "fee_bps": 50}),
    "tenant.set-address": (
        {"name": "acme", "address": ADDRESS},
        "acme",
        {"address": None},
        {"address": ADDRESS},
    ),
    "tenant.set-terms": ({"name": "acme", "fee_bps": 50}, "acme", {"fee_bps": 200}, {"fee_bps": 50}),
    "tenant.set-status": (
        {"name": "acme", "active": False},
        "acme",
        {"status": "active"},
        {"status": "suspended"},
    ),
    "container.set": (
        {"tenant": "acme", "name": "c01", "site": "Omsk", "kw": 9},
        "acme.c01",
        {"site": "Bratsk", "kw": None},
        {"site": "Omsk", "kw": 9},
    ),
    "container.import": (
        {"table": TABLE},
        "acme.c01",
        {"units": 400, "kw": None},
        {"units": 380, "kw": 1200},
    ),
    "container.remove": ({"tenant": "acme", "name": "c01"}, "acme.c01", {"workers": 1}, {"workers": 0}),
    "worker.remove": ({"name": "ACME.c01.u1"}, "acme.c01.u1", {"removed_at_s": None}, {}),
    "upstream.add": (
        {"name": "east", "endpoints": [endpoint("e.example")]},
        "east",
        None,
        {"fallback": "pool"},
    ),
    "upstream.switch": ({"name": "north", "to": "2"}, "north", {}, {}),
    "upstream.remove": ({"name": "south"}, "south", {"fallback": "pool"}, None),
    "order.add": (ORDER | {"name": "red"}, "red", None, {"buyer": "Blue Ltd", "created_by": "ann"}),
    "user.add": (
        {"name": "otto", "role": "operator", "account": "otto"},
        "otto",
        None,
        {"role": "operator", "account": "otto", "created_by": "ann"},
    ),
    "token.create": ({"user": "vera", "label": "grafana"}, "vera", {}, {}),
    "token.revoke": ({"user": "vera", "number": 1}, "vera", {}, {}),
    "user.set-role": (
        {"name": "vera", "role": "tenant", "tenant": "acme"},
        "vera",
        {"role": "payer", "tenant": None},
        {"role": "tenant", "tenant": "acme"},
    ),
    "user.set-status": (
        {"name": "vera", "active": False},
        "vera",
        {"status": "active"},
        {"status": "suspended"},
    ),
    "message.silence": (
        {"subject": "container/acme.c01", "for_s": 7200, "reason": "fans"},
        "container/acme.c01",
        None,
        {"reason": "fans"},
    ),
    "edge.add": (
        {"name": "west", "nkey": new_nkey(), "tenants": ["acme"]},
        "west",
        None,
        {"part": 3, "tenants": ["acme"], "created_by": "ann"},
    ),
    "edge.set": (
        {"name": "hall", "containers": ["acme.c01"]},
        "hall",
        {"tenants": ["acme"], "containers": []},
        {"tenants": [], "containers": ["acme.c01"]},
    ),
    "edge.give-up": (
        {"name": "barn", "hub": "hub1-0badcafe", "behind": 0},
        "barn",
        {},
        {"given_up": {"writer": OF_BARN, "hub": "hub1-0badcafe", "number": 7, "behind": 0}},
    ),
    "edge.reset": ({"name": "hall"}, "hall", {"part": 1, "writer": WRITER}, {"part": 3, "writer": None}),
    "edge.release": ({"name": "hall"}, "hall", {"held": "it is torn"}, {"held": None}),
    "edge.book-late": (
        {"name": "hall", "height": 840_000, "until": 5},
        "hall",
        {"held": "it is torn"},
        {"held": None, "late": {"writer": WRITER, "height": 840_000, "until": 5}},
    ),
    "edge.retire": ({"name": "hall"}, "hall", {"retired_at_s": None}, {}),
    "order.end": ({"name": "blue"}, "blue", {"ended_by": None}, {"ended_by": "ann"}),
    "order.payment": (
        {"name": "blue", "sat": 9_000, "reference": "wire 7", "why": "received"},
        "order/blue",
        {"proposals": []},
        {"proposals": [3]},
    ),
    "order.address": ({"name": "blue"}, "order/blue", None, {"position": 0}),
    "model.set": (
        {"container": "acme.c01", "unit": "u1", "model": "Antminer S21"},
        "acme.c01.u1",
        None,
        {"model": "Antminer S21 200T", "mj_per_th": 17_500, "set_by": "ann"},
    ),
    "model.import": (
        {"nameplates": [{"container": "acme.c01", "hashrate_ghs": 100_000, "watts": 3_000}]},
        "models",
        {"nameplates": 0},
        {"nameplates": 1},
    ),
    "meter.add": (
        {"name": "c01", "kind": "csv", "containers": ["acme.c01"], "error_bps": 100, "max_kw": 1_500},
        "c01",
        None,
        {"places": ["acme.c01"], "max_watts": 1_500_000, "created_by": "ann"},
    ),
    "meter.remove": ({"name": "box"}, "box", {"removed_by": None}, {"removed_by": "ann"}),
    "meter.import": (
        {"name": "box", "readings": [{"at_s": THIS_HOUR_S, "watts": 5_000_000}]},
        "box",
        {"readings": 0},
        {"readings": 1},
    ),
    "power.curtail": (
        {"target": "share", "target_value": 5_000, "reference": "grid-2"},
        "api/grid-2",
        None,
        {"state": "planned", "target_value": 5_000},
    ),
    "power.restore": ({"event": 1}, "event/1", {"state": "planned"}, {"state": "cancelled"}),
    "power.release": ({"event": 1}, "event/1", {"steps": 1}, {"steps": 3}),
    "held.forget": (
        {"machine": "acme.c01.u1", "reason": "thrown away"},
        "acme.c01.u1",
        {"events": {"1": "lost"}, "steps": 0},
        {"events": {"1": "released"}, "steps": 1},
    ),
    "power.set-terms": ({"tenant": "acme", "priority": 9}, "acme", {"priority": 50}, {"priority": 9}),
    "power.exempt": (
        {"machines": "acme.c01.u1", "reason": "on repair"},
        "acme.c01.u1",
        None,
        {"reason": "on repair"},
    ),
    "power.unexempt": ({"machines": "acme.c01"}, "acme.c01", {"reason": "pumps are tested"}, None),
    "limit.set": ({"site": "Bratsk", "kw": 5_000, "reason": "a call"}, "site/Bratsk", {}, {}),
    "limit.remove": ({"limit": 1}, "limit/1", {}, {}),
    "tariff.add": (
        {"name": "dam", "currency": "USD", "source": "contract 7", "price_micro": 45_000},
        "tariff/dam",
        {"there_are": 0},
        {"there_are": 1},
    ),
    "tariff.import": (
        {"name": "spot", "currency": "EUR", "source": "exchange", "hours": [[497_000, -5]], "site": "Bratsk"},
        "tariff/spot",
        {"there_are": 0},
        {"there_are": 1},
    ),
    "exchange.set": (
        {"currency": "USD", "sat": "5000/3", "source": "desk"},
        "exchange/USD",
        {"newest": []},
        {},
    ),
    "exchange.import": (
        {"source": "desk", "rates": [{"currency": "EUR", "sat": "1000.5", "from_s": 1_700_000_000}]},
        "exchange",
        {},
        {},
    ),
    "hosting.set": ({"tenant": "acme", "charge": "tariff"}, "hosting/acme", {"terms": []}, {}),
    "carbon.import": (
        {"method": "location", "source": "grid 2025", "rows": [[497_000, 497_024, 24_000]]},
        "carbon/location",
        {"rows": 0},
        {"rows": 1},
    ),
    "grid.pay": (
        {"event": 1, "reference": "invoice 9", "amount_micro": 5_000_000_000},
        "event/1",
        {"payments": []},
        {},
    ),
    "address.set": (
        {"machine": "acme.c01.u1", "address": "10.0.0.2", "firmware": "braiins"},
        "acme.c01.u1",
        {"address": "10.0.0.1"},
        {"address": "10.0.0.2", "firmware": "braiins"},
    ),
    "address.import": (
        {"addresses": [{"tenant": "acme", "container": "c01", "unit": "u2", "address": "10.0.0.3"}]},
        "addresses",
        {"addresses": 1},
        {"addresses": 2},
    ),
    "credential.set": (
        {"firmware": "antminer", "scope": "site:Bratsk", "sealed": "c2VhbGVk"},
        "antminer site:Bratsk",
        None,
        {"scope": "site:Bratsk"},
    ),
    "credential.remove": ({"firmware": "vnish"}, "vnish", {"firmware": "vnish"}, None),
    "payout.create": ({}, "payout/new", {"batch": 1}, {"batch": 2}),
    "payout.approve": (
        {"batch": 1, "digest": DIGEST, "fee_cap_sat": 9_000},
        "payout/1",
        {"fee_cap_sat": 5_000, "approved_by": "otto"},
        {"fee_cap_sat": 9_000, "approved_by": "ann"},
    ),
    "payout.cancel": ({"batch": 1}, "payout/1", {"state": "approved"}, {"state": "failed"}),
    "payout.accept": ({"txid": TXID}, TXID, {"accepted_by": None}, {"accepted_by": ["vera", "ann"]}),
    "reversal.propose": (
        {"transaction": 1, "why": "counted twice"},
        "transaction/1",
        {"proposals": [1]},
        {"proposals": [1, 3]},
    ),
    "reversal.confirm": (
        {"transaction": 1, "proposal": 1},
        "transaction/1",
        {"proposals": [1], "reversed_by": None},
        {"proposals": []},
    ),
}


# Those of a running pool alone, see test_traces.
OF_A_POOL: Final = {
    "trace.start",
    "trace.show",
    "drain.begin",
    "drain.end",
    "drain.show",
    "firmware.list",
    "held.list",
    *("power.read", "power.reduce"),  # see tests/pool/admin/power/test_told_machines.py
    "power.signals",
    "settings.reload",
}
# It takes a payment that a chain has, see tests/payouts/batches/test_found.py.
OF_A_CHAIN: Final = {"payout.disown"}
# They take an order that was delivered, and a buyer who paid, see tests/pool/cli/routing/test_sales.py.
OF_A_SALE: Final = {"order.write-off", "order.refund"}
# And those about requests, see test_requests.
OF_REQUESTS: Final = {it for it in COMMANDS if it.startswith("request.")}
# And of an hour's shares, which have to be closed, see test_roles and the command's; and a reserve, of coins.
OF_SHARES: Final = {"proof.shares", "proof.reserve"}
ELSEWHERE: Final = OF_A_POOL | OF_A_CHAIN | OF_A_SALE | OF_REQUESTS | OF_SHARES


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The database of it."""
    home = tmp_path_factory.mktemp("house")
    with closing(store_in(home)) as store:
        for name, params in (*HOUSE, ("order.add", ORDER)):
            give(store, name, params, "olga")
        vera, otto = Act("vera", NOW_S), Act("otto", NOW_S)
        with store.write() as connection:
            paid = add_tenant(connection, "paid")
            set_address(connection, paid, ADDRESS)
            credit(connection, paid, 700_000, "first")
            draft(connection, plan(connection, NOW_S, script_of, 1_000), vera)
            approve(connection, 1, DIGEST, 5_000, otto)
            credit(connection, paid, 700_000, "second")
            propose(connection, ProposalKind.REVERSAL, "1", "it is not acme's", vera)
            propose(connection, ProposalKind.NO_PAYOUT, TXID, SAID, vera)
        machine = {"id": 1, "tenant_id": 1, "container_id": 1, "unit": "u1"}
        with store.write() as connection:
            begin(connection, Asked(edge="hall", host="h", process="p", writer=WRITER), Place(), NOW_S)
            begin(connection, Asked(edge="barn", host="h", process="p", writer=OF_BARN), Place(), NOW_S)
            note_copy(connection, OF_BARN, "hub1-0badcafe", 7)
            hold_edge(connection, WRITER, "it is torn", NOW_S)
            booked_curtailment(connection, 1, NOW_S)
            connection.execute(insert(workers).values(**machine, first_seen_at_s=0, last_seen_at_s=0))
            connection.execute(insert(power_event_machines).values(**LOST))
    return (home / "angara.db").read_bytes()


@pytest.fixture
def store(tmp_path: Path, house: bytes) -> Iterator[Store]:
    (tmp_path / "angara.db").write_bytes(house)
    with closing(store_in(tmp_path)) as opened:
        yield opened


def give(store: Store, name: str, params: dict[str, Any], by: str) -> Any:
    """As its document says, or red."""
    desk = Desk(store, "regtest", None, agreeing())
    told = execute(desk, name, msgspec.json.encode(params), host_account(by, ALONE))
    return as_published(name, told)


def listed(store: Store) -> tuple[ChangeRow, ...]:
    with store.read() as connection:
        return newest_changes(connection, None, None)


def all_rows(store: Store, *but: str) -> Rows:
    """All that is in the database, by table: before and after each command, so past SQLAlchemy."""
    with store.read() as connection:
        asked: Any = connection.connection.driver_connection
        names = {name for (name,) in asked.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        return {
            name: sorted(asked.execute(f"SELECT * FROM {name}"), key=str)  # noqa: S608
            for name in names - set(but)
        }


def has(state: dict[str, Any] | None, wanted: dict[str, Any] | None) -> bool:
    return state is wanted if state is None or wanted is None else state.items() >= wanted.items()


def test_every_command_is_a_question_or_a_change_and_has_an_example_here() -> None:
    assert {name for name, it in COMMANDS.items() if isinstance(it, Question)} - ELSEWHERE == set(QUESTIONS)
    assert {name for name, it in COMMANDS.items() if isinstance(it, Change)} - ELSEWHERE == set(CHANGES)


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_changes_nothing(store: Store, name: str) -> None:
    before = all_rows(store)
    give(store, name, QUESTIONS[name], "ann")
    assert all_rows(store) == before


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_leaves_one_record_of_who_made_it(store: Store, name: str) -> None:
    params, subject, was, became = CHANGES[name]
    before, rows_before = listed(store), all_rows(store, "changes", "book")
    give(store, name, params, "ann")
    *others, record = listed(store)
    assert tuple(others) == before
    assert (record.changed_by, record.source) == ("ann", ALONE)
    assert (record.command, record.subject) == (name, subject)
    assert record.changed_at_s >= others[-1].changed_at_s > 1_700_000_000
    assert has(record.was, was), record
    assert has(record.became, became), record
    assert record.was != record.became
    # A silence is its record, and nothing else.
    assert (all_rows(store, "changes", "book") != rows_before) is (name != "message.silence"), name


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_that_is_refused_leaves_no_record(store: Store, name: str) -> None:
    params, *_ = CHANGES[name]
    before = all_rows(store)
    if name.startswith(("payout.", "reversal.", "order.payment")):  # who does it is looked at before
        with pytest.raises(RegistryError, match="not a person's name"):
            give(store, name, params, "")
        assert all_rows(store) == before
        return
    for nobody in ("", None):
        with pytest.raises((DatabaseError, IntegrityError)):
            give(store, name, params, nobody)  # type: ignore[arg-type]
    assert all_rows(store) == before


@pytest.mark.parametrize(
    "name", ["tenant.set-status", "upstream.remove", "payout.create", "reversal.confirm"]
)
def test_a_change_and_its_record_are_there_together_or_not_at_all(store: Store, name: str) -> None:
    params, *_ = CHANGES[name]
    before, steps = all_rows(store), 0
    while all_rows(store) == before:
        with suppress(Crash), crash_before(steps):
            give(store, name, params, "ann")
        steps += 1
    assert steps > 5
    assert listed(store)[-1].command == name
    assert all_rows(store, "changes", "book") != {
        it: before[it] for it in before.keys() - {"changes", "book"}
    }


def test_no_password_is_in_what_is_kept_of_an_upstream(store: Store) -> None:
    for name in ("upstream.add", "upstream.switch", "upstream.remove"):
        give(store, name, CHANGES[name][0], "ann")
    assert PASSWORD in str(all_rows(store)["upstream_endpoints"])
    assert PASSWORD not in str(all_rows(store)["changes"])
    assert "a.example" in str(all_rows(store)["changes"])


def test_a_change_that_changes_nothing_is_told_of_too(store: Store) -> None:
    give(store, "tenant.set-status", {"name": "acme", "active": True}, "ann")
    assert (listed(store)[-1].was, listed(store)[-1].became) == ({}, {})


def test_changes_are_in_the_order_of_time_and_come_a_page_at_a_time(store: Store) -> None:
    note: dict[str, Any] = {
        "by": "ann",
        "source": ALONE,
        "command": "x",
        "subject": "y",
        "was": None,
        "became": {},
    }
    late_s = 2_000_000_000
    with store.write() as connection:
        for clock_s in (late_s, late_s - 86_400):  # it steps back, the book does not
            note_change(connection, now_s=clock_s, **note)
        kept = {"changed_at_s": late_s, "changed_by": "ann", "source": "", "command": "x", "subject": "y"}
        kept |= {"became": "{}", "hash": ""}
        first = len(HOUSE) + 4
        connection.execute(insert(changes), [kept | {"id": first + i} for i in range(CHANGES_MAX)])
    page = listed(store)
    assert [it.id for it in page] == list(range(first, first + CHANGES_MAX))
    older = give(store, "change.list", {"before": page[0].id}, "ann")
    assert [it["id"] for it in older] == list(range(1, first))
    assert [it["changed_at_s"] for it in older[-2:]] == [late_s, late_s]
    of_one = give(store, "change.list", {"subject": "acme"}, "ann")
    assert [it["command"] for it in of_one] == ["tenant.add"]


# Whose name it is


async def through_the_socket(data_dir: Path, store: Store, name: str, params: Any, by: str) -> Any:
    with held(data_dir):
        async with trio.open_nursery() as nursery:
            desk = Desk(store, "regtest", None, agreeing())
            await nursery.start(serve_admin, desk, admin_socket(data_dir))
            try:
                url = database_url(data_dir)
                return await trio.to_thread.run_sync(ask_books, data_dir, url, None, name, params, by)
            finally:
                nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", [it for it in COMMANDS if it not in ELSEWHERE])
async def test_through_the_socket_the_name_is_the_kernels_whatever_who_asks_says(
    tmp_path: Path, store: Store, name: str
) -> None:
    params = QUESTIONS[name] if name in QUESTIONS else CHANGES[name][0]
    kind = COMMANDS[name].params
    count = len(listed(store))
    await through_the_socket(tmp_path, store, name, msgspec.convert(params, kind), "somebody else")
    new = listed(store)[count:]
    me = pwd.getpwuid(os.geteuid()).pw_name
    wanted = [(me, SOCKET, name)] if name in CHANGES else []
    assert [(it.changed_by, it.source, it.command) for it in new] == wanted


async def test_a_name_in_a_command_or_in_a_header_is_nobodys(tmp_path: Path, store: Store) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_admin, Desk(store, "regtest"), admin_socket(tmp_path))
        transport = httpx.AsyncHTTPTransport(uds=str(admin_socket(tmp_path)))
        headers = {"X-Forwarded-User": "ann", "X-Remote-User": "ann", "From": "ann", "uid": "0"}
        async with httpx.AsyncClient(transport=transport, headers=headers, timeout=PATIENCE_S) as client:
            url = "http://ann:x@angara/v1/tenant.set-status?by=ann&uid=0"
            refused = await client.post(url, content=b'{"name":"acme","active":false,"by":"ann"}')
            assert (refused.status_code, "`by`" in refused.json()["error"]) == (400, True)
            taken = await client.post(url, content=b'{"name":"acme","active":false}')
            assert taken.status_code == 200
        nursery.cancel_scope.cancel()
    assert listed(store)[-1].changed_by == pwd.getpwuid(os.geteuid()).pw_name


async def test_an_account_without_a_name_is_recorded_by_its_number(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_entry(uid: int) -> Any:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    params = msgspec.convert({"name": "acme", "active": False}, COMMANDS["tenant.set-status"].params)
    await through_the_socket(tmp_path, store, "tenant.set-status", params, "ann")
    assert listed(store)[-1].changed_by == f"uid {os.geteuid()}"


def test_the_command_line_shows_who_changed_what(tmp_path: Path, store: Store) -> None:
    give(store, "tenant.set-terms", {"name": "acme", "fee_bps": 50}, "ann")
    store.close()
    angara(tmp_path, "tenant", "suspend", "acme")
    shown = angara(tmp_path, "change", "list", "acme").output.splitlines()
    me = pwd.getpwuid(os.geteuid()).pw_name
    assert shown[0].split() == ["number", "time", "by", "from", "command", "subject", "change"]
    assert [line.split(maxsplit=7)[3:] for line in shown[2:]] == [
        ["ann", "alone", "tenant.set-terms", "acme", "fee_bps 200 -> 50"],
        [me, "alone", "tenant.set-status", "acme", "status active -> suspended"],
    ]
    as_json = json.loads(angara(tmp_path, "change", "list", "--before", "2", "--json").output)
    assert [(it["id"], it["changed_by"], it["was"]) for it in as_json] == [(1, "olga", None)]
