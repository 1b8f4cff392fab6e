"""Four eyes and a time lock: what moves money or power is asked for, agreed to, and made once, or not at all.

The house has a tenant acme with an address, an upstream north, and users who are persons: ann and bob may
pay, ada and ali are admins, otto is an operator. What a thief among them gains is in the name of each test.
"""

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import pytest
import trio
from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError

from payouts.schemas.book import book
from pool.admin.command import Guarded
from pool.admin.commands import COMMANDS, REQUESTS, execute, execute_alone
from pool.admin.desk import Desk
from pool.admin.due_requests import DueRequests
from pool.admin.operators import ALONE, operator_of
from pool.admin.people.puppets import MADE_S
from pool.admin.requests.policy_record import note_policy
from pool.admin.server import serve_admin
from pool.books.audit.verify import verify
from pool.books.changes.changes import ChangeRow, newest_changes
from pool.books.edges.hub_copies import note_copy
from pool.books.edges.leases import Asked, begin
from pool.books.edges.rows import hold_edge
from pool.books.store import Store
from pool.cli.books import Books
from pool.cli.pieces import ask_in_pieces
from pool.data_dir import admin_socket
from pool.fleet.rows import RegistryError, TenantView
from pool.journal.frames import Place
from pool.people.roles import Caller, NotPermitted, Role, host_account
from pool.people.schema import users
from pool.requests.made import RequestMade
from pool.requests.policy import GLASS_BROKEN, POLICY_SET, Approval
from pool.requests.rows import OPEN_OF_PERSON_MAX, Stage
from pool.requests.schema import request_events, request_secrets, requests
from pool.settings_file import BadConfig
from tests.fixtures.databases import Crash, crash_before, store_in
from tests.histories.curtailment import booked_curtailment
from tests.judges.answers import as_published
from tests.stages.command_line import PASSWORD, angara
from tests.stages.site_journal import new_nkey
from tests.stages.waiting import PATIENCE_S

FIRST = "bcrt1qqqqsyqcyq5rqwzqfpg9scrgwpugpzysnard0ew"
SECOND = "bcrt1qk3e2yekshkyuzdcx5sfjena3da7rh87tay47fm"
DAY_S = 86_400
FOUR_EYES = Approval(people=2)
LOCKED = Approval(people=2, time_lock_s=DAY_S, expires_s=3 * DAY_S)
ALONE_AND_LATER = Approval(people=1, time_lock_s=DAY_S)
HOST: Final = host_account("root", ALONE)
ROLES: Final = {"ann": "payer", "bob": "payer", "ada": "admin", "ali": "admin", "otto": "operator"}
ENDPOINT: Final = {"host": "a.example", "port": 3333, "user": "acme", "password": PASSWORD}
FEE: Final = ("tenant.set-terms", {"name": "acme", "fee_bps": 50})
ADDRESS: Final = ("tenant.set-address", {"name": "acme", "address": SECOND})
SUSPENDED: Final = ("user.set-status", {"name": "otto", "active": False})
WRITER: Final = "ab" * 16  # of the edge's journal
# Of every change under the policy, one that is possible in the house.
CHANGES: Final[dict[str, dict[str, Any]]] = {
    "tenant.add": {"name": "zeta"},
    "tenant.set-address": ADDRESS[1],
    "tenant.set-terms": FEE[1],
    "upstream.add": {"name": "east", "endpoints": [ENDPOINT]},
    "upstream.remove": {"name": "north"},
    "order.add": {
        "name": "blue",
        "buyer": "Blue Ltd",
        "upstream": "north",
        "hashrate_ths": 9,
        "until_s": 1_900_000_000,
        "sat_per_ph_day": 4_500,
        "tenants": ["acme"],
    },
    "order.end": {"name": "red"},
    "edge.add": {"name": "west", "nkey": new_nkey(), "tenants": ["acme"]},
    "edge.set": {"name": "hall", "ths": 9},
    "edge.give-up": {"name": "hall", "hub": "hub1-0badcafe", "behind": 0},
    "edge.book-late": {"name": "hall", "height": 840_000, "until": 5},
    "user.add": {"name": "vera", "role": "viewer"},
    "user.set-role": {"name": "otto", "role": "payer"},
    "user.set-status": {"name": "otto", "active": True},
    "token.create": {"user": "otto", "label": "grafana"},
    "model.set": {"container": "acme.c01", "model": "Antminer S21"},
    "model.import": {"nameplates": [{"container": "acme.c01", "model": "Antminer S21"}]},
    "meter.add": {"name": "c01", "kind": "csv", "containers": ["acme.c01"], "error_bps": 50, "max_kw": 1_500},
    "meter.remove": {"name": "box"},
    "limit.remove": {"limit": 1},
    "tariff.add": {"name": "dam", "currency": "USD", "source": "contract 7", "price_micro": 45_000},
    "tariff.import": {"name": "spot", "currency": "EUR", "source": "exchange", "hours": [[497_000, -5]]},
    "exchange.set": {"currency": "USD", "sat": "5000/3", "source": "desk", "from_s": 1_700_000_000},
    "exchange.import": {
        "source": "desk",
        "rates": [{"currency": "EUR", "sat": "1000.5", "from_s": 1_700_000_000}],
    },
    "hosting.set": {"tenant": "acme", "charge": "tariff"},
    "carbon.import": {"method": "location", "source": "grid", "rows": [[497_000, 497_024, 24_000]]},
    "grid.pay": {"event": 1, "reference": "invoice 9", "amount_micro": 5_000_000_000},
    "address.set": {"machine": "acme.c01.u1", "address": "10.0.0.1"},
    "address.import": {
        "addresses": [{"tenant": "acme", "container": "c01", "unit": "u2", "address": "10.0.0.2"}]
    },
    "credential.set": {"firmware": "vnish", "sealed": "c2VhbGVk"},
    "credential.remove": {"firmware": "vnish"},
    "power.curtail": {"target": "everything", "reference": "grid-9"},
    "power.restore": {"event": 1},
    "power.set-terms": {"tenant": "acme", "priority": 9},
}


class House:
    """The books, a clock, and who comes to them."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store, self.policy = store, FOUR_EYES
        self.now_s = 1_800_000_000.0
        monkeypatch.setattr("time.time", lambda: self.now_s)

    def who(self, name: str, token: int | None = None) -> Caller:
        """As the pool knows him at this moment."""
        with self.store.read() as connection:
            row = connection.execute(select(users).where(users.c.name == name)).one()
        source = "socket" if token is None else f"token {token} from 192.0.2.7"
        return Caller(name=name, source=source, role=Role(row.role), user_id=row.id, token=token)

    def give(
        self, who: str | Caller, name: str, params: dict[str, Any] | None = None, glass: str | None = None
    ) -> Any:
        caller = self.who(who) if isinstance(who, str) else who
        desk = Desk(self.store, "regtest", policy=self.policy)
        answer = execute(desk, name, msgspec.json.encode(params or {}), caller, glass)
        return as_published(name, answer) if name.startswith("request.") else answer

    def token(self, who: str) -> str:
        """Of him, made before there was a policy."""
        desk, params = Desk(self.store, "regtest"), {"user": who, "label": "test"}
        return str(execute(desk, "token.create", msgspec.json.encode(params), HOST)["token"])

    def ask(self, who: str | Caller, name: str, params: dict[str, Any]) -> int:
        """The number of the request that it became."""
        with pytest.raises(RequestMade) as made:
            self.give(who, name, params)
        return int(made.value.answer["request"]["id"])

    def approve(self, who: str | Caller, number: int) -> str:
        """Where it is then."""
        return str(self.give(who, "request.approve", {"number": number})["state"])

    def show(self, number: int) -> dict[str, Any]:
        shown: dict[str, Any] = self.give(HOST, "request.show", {"number": number})
        return shown

    def due(self) -> None:
        """What a running pool does every half minute."""
        REQUESTS.carry_out_due(Desk(self.store, "regtest", policy=self.policy), host_account("root", "pool"))

    def acme(self) -> dict[str, Any]:
        found: dict[str, Any] = self.give(HOST, "tenant.show", {"name": "acme"})
        return found

    def changes(self) -> tuple[ChangeRow, ...]:
        with self.store.read() as connection:
            return newest_changes(connection, None, None)

    def times_made(self, name: str) -> int:
        return sum(it.command == name for it in self.changes())

    def count(self, table: Any) -> int:
        with self.store.read() as connection:
            return len(connection.execute(select(table)).all())

    def in_order(self) -> bool:
        with self.store.read() as connection:
            return verify(connection).wrong is None


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The database of it, of before there was a policy."""
    home = tmp_path_factory.mktemp("house")
    with pytest.MonkeyPatch.context() as patch, closing(store_in(home)) as store:
        house = House(store, patch)
        house.policy = Approval()
        house.give(HOST, "tenant.add", {"name": "acme", "address": FIRST})
        for name in ("north", "south"):
            house.give(HOST, "upstream.add", {"name": name, "endpoints": [ENDPOINT]})
        house.give(HOST, "order.add", CHANGES["order.add"] | {"name": "red", "upstream": "south"})
        house.give(HOST, "edge.add", {"name": "hall", "nkey": new_nkey(), "tenants": ["acme"]})
        house.give(HOST, "container.set", {"tenant": "acme", "name": "c01", "site": "Bratsk"})
        meter = {"name": "box", "kind": "csv", "site": "Bratsk", "error_bps": 50, "max_kw": 9_000}
        house.give(HOST, "meter.add", meter)
        house.give(HOST, "credential.set", {"firmware": "vnish", "sealed": "b2xk"})
        house.give(HOST, "limit.set", {"site": "Bratsk", "kw": 6_000, "reason": "the grid's"})
        house.give(HOST, "power.curtail", {"target": "everything", "reference": "grid-1"})
        with store.write() as connection:
            booked_curtailment(connection, 1, int(time.time()))
            begin(connection, Asked(edge="hall", host="h", process="p", writer=WRITER), Place(), 0)
            note_copy(connection, WRITER, "hub1-0badcafe", 7)
            hold_edge(connection, WRITER, "a price was over", 0)
        for name, role in ROLES.items():
            house.give(HOST, "user.add", {"name": name, "role": role, "account": name})
    return (home / "angara.db").read_bytes()


@pytest.fixture
def house(tmp_path: Path, books: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    (tmp_path / "angara.db").write_bytes(books)
    with closing(store_in(tmp_path)) as store:
        found = House(store, monkeypatch)
        yield found
        assert found.in_order()


# What waits


def test_every_change_of_money_or_power_has_an_example_here() -> None:
    of_a_pool = {"power.reduce"}  # see tests/pool/admin/power/test_told_machines.py
    assert set(CHANGES) == {name for name, it in COMMANDS.items() if isinstance(it, Guarded)} - of_a_pool


@pytest.mark.parametrize("name", CHANGES)
def test_nothing_is_changed_before_a_second_person_agrees_and_then_once(house: House, name: str) -> None:
    before = len(house.changes())
    number = house.ask("ada", name, CHANGES[name])
    asked = house.changes()[before:]
    assert [(it.command, it.subject, it.changed_by) for it in asked] == [
        ("request.add", f"request/{number}", "ada")
    ]
    shown = house.show(number)
    assert (shown["state"], shown["command"], shown["asked_by"]) == ("waiting", name, "ada")
    assert shown["was"] != shown["became"] or name == "user.set-status", "what it would change is seen before"
    if name == "token.create":
        assert house.approve("ali", number) == "approved"
        assert house.give("ada", "request.carry-out", {"number": number})["result"]["token"]
    else:
        assert house.approve("ali", number) == "carried_out"
    made = [it for it in house.changes() if it.command == name][-1]
    assert (made.changed_by, made.source) == ("ada and ali", f"request {number}")
    assert house.show(number)["ended_at_s"] is not None
    house.due()
    assert [it.source for it in house.changes()].count(f"request {number}") == 1


@pytest.mark.parametrize("name", CHANGES)
def test_without_the_policy_nothing_waits(house: House, name: str) -> None:
    house.policy = Approval()
    house.give("ada", name, CHANGES[name])
    assert (house.count(requests), house.times_made(name) > 0) == (0, True)


def test_what_cannot_be_is_refused_when_it_is_asked_for(house: House) -> None:
    for name, params, words in (
        ("tenant.set-terms", {"name": "nobody", "fee_bps": 5}, "there is no tenant"),
        ("tenant.set-address", {"name": "acme", "address": "bc1q"}, "bc1q"),
        ("upstream.remove", {"name": "nowhere"}, "there is no upstream"),
        ("order.add", CHANGES["order.add"] | {"upstream": "nowhere"}, "there is no upstream"),
    ):
        with pytest.raises(RegistryError, match=words):
            house.give("ann", name, params)
    assert house.count(requests) == 0


def test_what_stops_somebody_does_not_wait(house: House) -> None:
    assert house.give("ada", "user.set-status", {"name": "ann", "active": False})["status"] == "suspended"
    assert house.give("otto", "tenant.set-status", {"name": "acme", "active": False})["status"] == "suspended"
    assert house.give("bob", "token.create", {"label": "his own"})["user"] == "bob"
    house.ask("ada", "user.set-status", {"name": "ann", "active": True})


def test_the_same_that_is_asked_for_again_is_the_same_request(house: House) -> None:
    number = house.ask("ann", *FEE)
    before = len(house.changes())
    assert house.ask("ann", *FEE) == number
    assert len(house.changes()) == before
    assert house.ask("bob", *FEE) == number + 1
    assert house.ask("ann", FEE[0], FEE[1] | {"fee_bps": 51}) == number + 2


def test_a_password_is_in_no_request_and_gone_with_it(house: House) -> None:
    number = house.ask("ann", "upstream.add", CHANGES["upstream.add"])
    assert PASSWORD not in json.dumps(house.show(number))
    with house.store.read() as connection:
        kept = str(connection.execute(select(requests)).all()) + str(house.changes())
    assert PASSWORD not in kept
    assert house.count(request_secrets) == 1
    assert house.approve("bob", number) == "carried_out"
    assert house.count(request_secrets) == 0
    number = house.ask("ann", "upstream.add", CHANGES["upstream.add"] | {"name": "west"})
    house.now_s += FOUR_EYES.expires_s
    house.ask("ann", *FEE)
    assert (house.show(number)["state"], house.count(request_secrets)) == ("expired", 0)


# Who is a second person


def test_a_payer_alone_gains_nothing(house: House) -> None:
    number = house.ask("ann", *ADDRESS)
    tokens = [house.give("ann", "token.create", {"label": str(it)})["id"] for it in range(2)]
    for same in ("ann", house.who("ann", tokens[0]), house.who("ann", tokens[1])):
        with pytest.raises(RegistryError, match="ann cannot agree to what ann asked for"):
            house.approve(same, number)
    assert house.acme()["address"] == FIRST
    assert house.show(number)["state"] == "waiting"


def test_a_table_that_is_several_requests_is_none_and_leaves_none(house: House) -> None:
    """The first 250 lines became a request, and the rest was not even asked for; of two requests the second
    is refused once the first is carried out."""

    class AsAnn(Books):
        def __init__(self) -> None:
            pass

        def ask(self, command: str, **params: Any) -> Any:
            return house.give("ann", command, params)

    units = [{"container": "acme.c01", "unit": f"u{it}", "model": "Antminer S21"} for it in range(3)]
    with pytest.raises(BadConfig, match=r"3 lines are 2 commands of 2 lines.*request 1 is withdrawn"):
        ask_in_pieces(AsAnn(), "model.import", "nameplates", units, 2)
    assert house.show(1)["state"] == "withdrawn"
    with pytest.raises(RequestMade):
        ask_in_pieces(AsAnn(), "model.import", "nameplates", units, 3)
    house.approve("bob", 2)
    assert house.show(2)["state"] == Stage.CARRIED_OUT.value
    assert len(house.give("ann", "model.list")) == 3
    house.policy = Approval()
    assert len(ask_in_pieces(AsAnn(), "model.import", "nameplates", units, 2)) == 2


def test_who_is_root_and_a_user_as_well_agrees_with_himself_in_neither_order(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thief is ann, and root. What he gains is told to everybody: it takes breaking the glass."""
    with pytest.raises(RegistryError, match=r"root is none of them.*--token-file.*--break-glass"):
        house.give(HOST, *FEE)
    number = house.ask("ann", *FEE)
    for account in ("root", "angara"):
        with pytest.raises(RegistryError, match=f"{account} cannot agree to what ann asked for"):
            house.approve(host_account(account, "socket"), number)
    with monkeypatch.context() as before:  # as books of before have some
        before.setattr(Approval, "check_person", lambda *_: None)
        number = house.ask(HOST, *FEE)
    for who in ("ann", "bob"):
        with pytest.raises(RegistryError, match=f"{who} cannot agree to what root asked for.*ask anew"):
            house.approve(who, number)
    assert house.acme()["fee_bps"] == 200
    house.give(HOST, *FEE, glass="the buyer waits")
    assert (house.acme()["fee_bps"], house.times_made(GLASS_BROKEN)) == (50, 1)


def test_what_one_person_decides_the_hosts_account_does_too(house: House) -> None:
    house.policy = ALONE_AND_LATER
    number = house.ask(HOST, *FEE)
    house.give("ann", "request.withdraw", {"number": number})
    house.policy = FOUR_EYES
    house.give(HOST, "request.withdraw", {"number": house.ask("ann", *FEE)})


def test_an_operator_neither_asks_nor_agrees(house: House) -> None:
    number = house.ask("ann", *FEE)
    for name, params in (
        FEE,
        ("request.approve", {"number": number}),
        ("request.withdraw", {"number": number}),
    ):
        with pytest.raises(NotPermitted):
            house.give("otto", name, params)
    with pytest.raises(NotPermitted, match=r"user\.add takes the role admin"):
        house.approve("bob", house.ask("ada", "user.add", CHANGES["user.add"]))


def test_an_admin_who_makes_himself_a_second_user_or_two_is_still_one(house: House) -> None:
    """With the glass broken, which everybody is told; for a week his puppets are him, and each other."""
    for name in ("pa", "po"):
        house.give("ada", "user.add", {"name": name, "role": "payer"}, glass="they are new")
    for asks, agrees in (("ada", "pa"), ("pa", "ada"), ("pa", "po")):
        number = house.ask(asks, *FEE)
        with pytest.raises(RegistryError, match="made what they are by one user alone"):
            house.approve(agrees, number)
    token = house.give("ada", "token.create", {"label": "x", "user": "bob"}, glass="he lost his")["id"]
    with pytest.raises(RegistryError, match="made what they are by one user alone"):
        house.approve(house.who("bob", token), house.ask("ada", *FEE))
    assert house.acme()["fee_bps"] == 200
    assert house.approve("bob", house.ask("pa", *FEE)) == "carried_out", "bob himself is a person"
    house.now_s += MADE_S + 1
    assert house.approve("pa", house.ask("ada", FEE[0], FEE[1] | {"fee_bps": 60})) == "carried_out"


def test_nobody_raises_himself_by_asking_or_agreeing(house: House) -> None:
    raised = {"name": "ada", "role": "payer"}
    with pytest.raises(RegistryError, match="another admin has to"):
        house.give("ada", "user.set-role", raised)
    with pytest.raises(RegistryError, match="another admin has to"):
        house.approve("ada", house.ask("ali", "user.set-role", raised))


def test_a_token_neither_asks_for_tokens_nor_agrees_to_them(house: House) -> None:
    number = house.ask("ada", "token.create", CHANGES["token.create"])
    for name, params in (("request.approve", {"number": number}), ("token.create", CHANGES["token.create"])):
        with pytest.raises(NotPermitted, match="a token makes no tokens"):
            house.give(house.who("ali", 7), name, params)


def test_a_new_token_is_told_who_asked_for_it_and_nobody_else(house: House) -> None:
    number = house.ask("ada", "token.create", CHANGES["token.create"])
    assert "token" not in json.dumps(house.give("ali", "request.approve", {"number": number})["became"]["1"])
    house.due()
    assert house.show(number)["state"] == "approved"
    with pytest.raises(RegistryError, match="for ada alone"):
        house.give("ali", "request.carry-out", {"number": number})
    with pytest.raises(NotPermitted, match="a token makes no tokens"):
        house.give(house.who("ada", 7), "request.carry-out", {"number": number})
    secret = house.give("ada", "request.carry-out", {"number": number})["result"]["token"]
    assert secret not in json.dumps(house.show(number))


# What is agreed to is what is made


@pytest.mark.parametrize(
    ("asked", "between"),
    [
        (FEE, ("tenant.set-terms", {"name": "acme", "payout_minimum_sat": 1})),
        (ADDRESS, ("tenant.set-address", {"name": "acme", "address": SECOND})),
        (ADDRESS, ("tenant.set-terms", {"name": "acme", "scheme": "solo"})),
        (
            ("user.set-role", {"name": "otto", "role": "payer"}),
            ("user.set-status", {"name": "otto", "active": False}),
        ),
    ],
)
@pytest.mark.parametrize("policy", [FOUR_EYES, LOCKED])
def test_a_subject_that_is_another_than_was_shown_is_not_changed(
    house: House, policy: Approval, asked: Any, between: Any
) -> None:
    """The bait is shown, and the switch carried out: gain 0, before the second person agrees and after."""
    house.policy = policy
    number = house.ask("ada", *asked)
    if policy is LOCKED:
        assert house.approve("ali", number) in ("approved", "carried_out")
        if house.show(number)["state"] == "carried_out":
            return  # the address is held by the books
    with suppress(RequestMade):
        house.give("ada", between[0], between[1], None if between[0] == SUSPENDED[0] else "quick")
    if policy is FOUR_EYES:
        with pytest.raises(RegistryError, match="is not what it was when this was asked for"):
            house.approve("ali", number)
        assert house.show(number)["state"] == "waiting"
    else:
        house.now_s += DAY_S
        house.due()
        assert house.show(number)["state"] == "refused"
        assert "is not what it was" in house.show(number)["why"]
    assert not [it for it in house.changes() if it.source == f"request {number}"]


def test_what_was_shown_cannot_be_changed_in_the_rows(house: House) -> None:
    house.ask("ann", *ADDRESS)
    house.give("ann", "request.withdraw", {"number": 1})
    for change in (update(requests).values(params="{}"), delete(request_events)):
        with pytest.raises(IntegrityError, match="append-only"), house.store.write() as connection:
            connection.execute(change)


def test_a_request_is_carried_out_once_however_often_it_is_approved(house: House) -> None:
    number = house.ask("ann", *FEE)
    assert house.approve("bob", number) == "carried_out"
    house.give(HOST, "tenant.set-terms", {"name": "acme", "fee_bps": 200}, glass="back")
    for who in ("bob", "ada"):
        with pytest.raises(RegistryError, match=f"request {number} waits for nobody: carried out by bob"):
            house.approve(who, number)
        with pytest.raises(RegistryError, match="is not to be carried out: carried out by bob"):
            house.give(who, "request.carry-out", {"number": number})
    house.due()
    assert house.acme()["fee_bps"] == 200


def test_of_two_who_approve_at_once_one_does_and_it_is_carried_out_once(house: House) -> None:
    number = house.ask("ann", *FEE)
    outcomes: list[str] = []

    def approve(who: Caller) -> None:
        try:
            outcomes.append(house.approve(who, number))
        except RegistryError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=approve, args=(house.who(it),)) for it in ("bob", "ada", "ali")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("carried_out") == 1, outcomes
    assert house.times_made("tenant.set-terms") == 1
    assert house.times_made("request.approve") == 1


def test_killed_before_any_statement_it_is_made_once(house: House) -> None:
    """Between the approval and the change, or in either: a pool that starts again does what is left."""
    number, steps = house.ask("ann", *FEE), 0
    while house.show(number)["state"] == "waiting":
        with suppress(Crash), crash_before(steps):
            house.approve("bob", number)
        steps += 1
        assert house.times_made("tenant.set-terms") <= 1
    seen, steps = {house.show(number)["state"]}, 0
    while house.show(number)["state"] == "approved":
        with suppress(Crash), crash_before(steps):
            house.due()
        steps += 1
        seen.add(house.show(number)["state"])
    assert seen == {"approved", "carried_out"}, "it was killed between the two"
    assert (house.times_made("tenant.set-terms"), house.acme()["fee_bps"]) == (1, 50)


@pytest.mark.parametrize("who", ["ann", "bob"])
def test_who_is_suspended_or_has_less_to_say_meanwhile_has_said_nothing(house: House, who: str) -> None:
    house.policy = LOCKED
    for name, params in (
        ("user.set-status", {"name": who, "active": False}),
        ("user.set-role", {"name": who, "role": "viewer"}),
    ):
        number = house.ask("ann", FEE[0], FEE[1] | {"fee_bps": len(name)})
        assert house.approve("bob", number) == "approved"
        house.give(HOST, name, params, None if name.endswith("status") else "he left")
        house.now_s += DAY_S
        house.due()
        assert house.show(number)["state"] == "refused"
        assert who in house.show(number)["why"]
        house.give(HOST, "user.set-status", {"name": who, "active": True}, glass="back")
    assert house.acme()["fee_bps"] == 200


def test_what_was_said_with_a_token_that_is_revoked_meanwhile_was_not_said(house: House) -> None:
    house.policy = LOCKED
    token = house.give("ann", "token.create", {"label": "stolen"})["id"]
    number = house.ask(house.who("ann", token), *FEE)
    house.approve("bob", number)
    house.give("ann", "token.revoke", {"number": token})
    house.now_s += DAY_S
    house.due()
    assert house.show(number)["why"] == f"token {token} of ann, by which it was said, is revoked"
    assert house.acme()["fee_bps"] == 200


# Its time


def test_it_waits_for_its_time_and_ends_at_its_end_whatever_the_clock_does(house: House) -> None:
    house.policy = LOCKED
    number = house.ask("ann", *FEE)
    assert house.approve("bob", number) == "approved"
    house.due()
    with pytest.raises(RegistryError, match=f"waits for its time: another {DAY_S} s"):
        house.give("bob", "request.carry-out", {"number": number})
    house.now_s += DAY_S - 1
    house.due()
    assert house.acme()["fee_bps"] == 200
    house.now_s += 1
    house.due()
    assert (house.acme()["fee_bps"], house.show(number)["state"]) == (50, "carried_out")

    late = house.ask("ann", FEE[0], FEE[1] | {"fee_bps": 60})
    house.now_s += LOCKED.expires_s
    house.ask("bob", *ADDRESS)  # the books are of this moment now
    house.now_s -= LOCKED.expires_s  # and a clock that steps back makes nothing younger
    for name in ("request.approve", "request.carry-out", "request.withdraw"):
        with pytest.raises(RegistryError, match="its time is over"):
            house.give("bob", name, {"number": late})
    house.due()
    assert (house.acme()["fee_bps"], house.show(late)["state"]) == (50, "expired")


def test_an_address_that_the_books_hold_waits_no_second_time_and_a_first_one_does(house: House) -> None:
    house.policy = LOCKED
    number = house.ask("ann", *ADDRESS)
    assert house.approve("bob", number) == "carried_out"
    assert house.acme()["address_effective_at_s"] == int(house.now_s) + 72 * 3600
    house.policy = Approval()
    house.give(HOST, "tenant.add", {"name": "zeta"})
    house.policy = LOCKED
    number = house.ask("ann", "tenant.set-address", {"name": "zeta", "address": SECOND})
    assert house.approve("bob", number) == "approved"


def test_a_time_lock_without_a_second_person_lets_others_stop_it(house: House) -> None:
    house.policy = ALONE_AND_LATER
    stopped, made = house.ask("ann", *FEE), house.ask("ann", "upstream.remove", {"name": "north"})
    assert (
        house.give("bob", "request.withdraw", {"number": stopped, "why": "not agreed"})["why"] == "not agreed"
    )
    assert house.give("ann", *ADDRESS)["address"] == SECOND, "the books hold it themselves"
    house.now_s += DAY_S
    house.due()
    assert (house.show(stopped)["state"], house.show(made)["state"]) == ("withdrawn", "carried_out")
    assert [it.changed_by for it in house.changes() if it.command == "upstream.remove"] == ["ann"]


# Bounds


def test_nobodys_requests_take_anothers_places_and_what_is_over_frees_them(house: House) -> None:
    def fee(bps: int) -> tuple[str, dict[str, Any]]:
        return FEE[0], FEE[1] | {"fee_bps": bps}

    numbers = [house.ask("ann", *fee(it)) for it in range(OPEN_OF_PERSON_MAX)]
    token = house.give("ann", "token.create", {"label": "more"})["id"]
    for ann in ("ann", house.who("ann", token)):
        with pytest.raises(RegistryError, match=f"ann has {OPEN_OF_PERSON_MAX} open requests"):
            house.give(ann, *fee(99))
    assert house.approve("ann", house.ask("bob", *fee(99))) == "carried_out"
    house.give("ann", "request.withdraw", {"number": numbers[0]})
    numbers.append(house.ask("ann", *fee(98)))
    house.now_s += FOUR_EYES.expires_s
    assert house.give(HOST, "request.list") == []
    assert len(house.give(HOST, "request.list", {"all": True})) == OPEN_OF_PERSON_MAX + 2
    house.ask("ann", *fee(97))


# Breaking the glass


def test_an_admin_breaks_the_glass_and_it_is_on_record_why(house: House) -> None:
    house.give("ada", FEE[0], FEE[1], "the buyer waits")
    change, broken = house.changes()[-2:]
    assert (change.command, change.changed_by, change.subject) == ("tenant.set-terms", "ada", "acme")
    assert (broken.command, broken.changed_by, broken.subject) == (GLASS_BROKEN, "ada", "acme")
    assert broken.became == {"command": "tenant.set-terms", "reason": "the buyer waits"}
    assert house.acme()["fee_bps"] == 50


def test_nobody_else_breaks_it_nor_an_admin_without_a_reason_or_for_nothing(house: House) -> None:
    for who, (name, params), reason, words in (
        ("ann", FEE, "quick", "to break the glass takes the role admin"),
        ("ada", FEE, "", "why the glass is broken"),
        ("ada", FEE, " ", "why the glass is broken"),
        ("ada", FEE, "x" * 301, "why the glass is broken"),
        ("ada", ("tenant.set-status", {"name": "acme", "active": False}), "why", "waits for nobody here"),
        ("ada", ("tenant.list", {}), "why", "waits for nobody here"),
    ):
        with pytest.raises(RegistryError, match=words):
            house.give(who, name, params, glass=reason)
    house.policy = Approval()
    with pytest.raises(RegistryError, match="waits for nobody here"):
        house.give("ada", FEE[0], FEE[1], "why")
    assert house.times_made(GLASS_BROKEN) == 0


def test_a_change_that_fails_breaks_no_glass(house: House) -> None:
    with pytest.raises(RegistryError, match="there is no tenant"):
        house.give("ada", FEE[0], {"name": "nobody", "fee_bps": 5}, glass="why")
    assert house.times_made(GLASS_BROKEN) == 0


def test_the_latest_moment_of_the_books_is_what_counts_for_who_reads_too(house: House) -> None:
    number = house.ask("ann", *FEE)
    with house.store.write() as connection:
        connection.execute(update(book).values(latest_s=int(house.now_s) + FOUR_EYES.expires_s))
    assert (house.show(number)["state"], house.give(HOST, "request.list")) == ("expired", [])


# Through the socket, by the pool itself, and from the command line


async def test_over_http_it_is_202_and_a_reason_breaks_the_glass(house: House, tmp_path: Path) -> None:
    desk = Desk(house.store, "regtest", policy=FOUR_EYES)
    body, token = msgspec.json.encode(FEE[1]), house.token("ada")
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_admin, desk, admin_socket(tmp_path))
        transport = httpx.AsyncHTTPTransport(uds=str(admin_socket(tmp_path)))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://angara", timeout=PATIENCE_S
        ) as client:
            keyed = {"Idempotency-Key": "k1", "Authorization": f"Bearer {token}"}
            for _ in range(2):
                made = await client.post(f"/v1/{FEE[0]}", content=body, headers=keyed)
                assert (made.status_code, made.json()["request"]["id"]) == (202, 1)
                assert made.json()["words"].endswith("is request 1, and waits for a second person")
            assert house.acme()["fee_bps"] == 200
            reason = {"break-glass": "срочно: покупатель ждёт"}
            done = await client.post(f"/v1/{FEE[0]}", content=body, params=reason, headers=keyed)
            assert (done.status_code, done.json()["fee_bps"]) == (200, 50)
        nursery.cancel_scope.cancel()
    broken = [it.became for it in house.changes() if it.command == GLASS_BROKEN]
    assert broken == [{"command": FEE[0], "reason": reason["break-glass"]}]


async def test_a_pool_that_starts_carries_out_what_is_due(house: House) -> None:
    house.policy = LOCKED
    number = house.ask("ann", *FEE)
    house.approve("bob", number)
    house.now_s += DAY_S
    told = trio.Event()

    class Live:
        def tenant_changed(self, view: TenantView) -> None:
            assert view.fee_bps == 50
            trio.from_thread.run_sync(told.set)

    live: Any = Live()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(DueRequests(Desk(house.store, "regtest", live, policy=LOCKED)).run)
        await told.wait()
        nursery.cancel_scope.cancel()
    assert house.show(number)["ended_from"] == "pool"


def test_the_policy_is_on_record_when_it_is_another_and_holds_without_the_settings(house: House) -> None:
    for policy in (Approval(), FOUR_EYES, FOUR_EYES, LOCKED, Approval()):
        note_policy(house.store, policy, by="angara", source="start")
    noted = [it.became for it in house.changes() if it.command == POLICY_SET]
    assert [(it and it["people"], it and it["time_lock_s"]) for it in noted] == [(2, 0), (2, DAY_S), (1, 0)]
    note_policy(house.store, FOUR_EYES, by="angara", source="start")
    body = msgspec.json.encode(FEE[1])
    url = str(house.store.engine.url)
    with pytest.raises(RequestMade):
        execute_alone(url, None, FEE[0], body, "root", token=house.token("ann"))
    assert execute_alone(url, "regtest", FEE[0], body, "root", policy=Approval())["fee_bps"] == 50
    assert (house.changes()[-2].command, house.changes()[-2].changed_by) == (POLICY_SET, "root")


def test_the_command_line_says_that_nothing_is_changed_yet(house: House, tmp_path: Path) -> None:
    note_policy(house.store, FOUR_EYES, by="angara", source="start")
    shown = tmp_path / "ann.token"
    shown.touch(0o600)
    shown.write_text(house.token("ann"))
    fee, ann = ("tenant", "set-terms", "acme", "--fee-bps", 50), ("--token-file", shown)
    asked = angara(tmp_path, *fee, *ann)
    words = "nothing is changed yet: tenant.set-terms of acme is request 1, and waits for a second person"
    assert asked == (0, f"{words}: see `angara request show 1`\n")
    assert json.loads(angara(tmp_path, *fee, *ann, "--json").output)["request"]["id"] == 1
    me = operator_of(os.geteuid())
    for by, words in ((ann, "ann cannot agree to what ann"), ((), f"{me} cannot agree to what ann")):
        refused = angara(tmp_path, "request", "approve", 1, *by)
        assert (refused.exit_code, words in refused.output) == (2, True)
    lines = angara(tmp_path, "request", "list").output.splitlines()
    assert lines[1].split()[:5] == ["1", "waiting", "tenant.set-terms", "acme", "ann"]
    assert house.approve("bob", 1) == "carried_out"
    lines = angara(tmp_path, "request", "show", 1).output.splitlines()
    assert lines[1].split() == ["state", "carried", "out"]
    assert ["fee_bps", "200", "50"] in [line.split() for line in lines]
    assert angara(tmp_path, "request", "list", "--csv").output.count("\n") == 1
    assert len(json.loads(angara(tmp_path, "request", "list", "--all", "--json").output)) == 1
    glass = angara(tmp_path, *fee[:-1], 60, "--break-glass", "quick")
    assert "event=glass_broken level=warning" in glass.output
    assert house.acme()["fee_bps"] == 60
