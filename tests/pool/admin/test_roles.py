"""Who may give which command: every command, every role, and what a tenant's user is told of others.

A command that is new has no line in the table here, and the first test is red.
"""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from sqlalchemy import Connection, insert

from payouts.accrual import settle
from payouts.proof import closings
from payouts.proof.share_tree import Share, packed
from payouts.ratebook import record_rate
from payouts.rates import Scheme
from payouts.schemas.money import workers
from payouts.schemas.proof import share_parts
from payouts.tallies import Tally, record
from pool.admin.command import Change
from pool.admin.commands import COMMANDS, execute
from pool.admin.desk import Desk
from pool.admin.operators import ALONE
from pool.books.book import bind
from pool.books.store import Store
from pool.fleet.rows import RegistryError
from pool.people.roles import Caller, NotPermitted, Role, host_account
from tests.fixtures.databases import store_in
from tests.histories.proof import KEY
from tests.histories.statements import price
from tests.stages.command_line import PASSWORD

# The least role of each command; a role may what those before it may.
LEAST: Final[dict[Role, tuple[str, ...]]] = {
    Role.TENANT: (
        "tenant.show",
        "container.list",
        "worker.list",
        "worker.show",
        "reject.show",
        "statement.show",
        "statement.file",
        "power.now",
        "power.machines",
        "power.minutes",
        "hosting.list",
        "token.create",
        "token.list",
        "token.revoke",
        "proof.shares",
    ),
    Role.VIEWER: (
        "tenant.list",
        "site.list",
        "container.export",
        "container.compare",
        "upstream.list",
        "upstream.show",
        "order.list",
        "order.show",
        "order.receipts",
        "edge.list",
        "edge.show",
        "block.list",
        "user.list",
        "user.show",
        "power.signals",
        "power.plan",
        "power.list",
        "power.show",
        "power.terms",
        "power.exemptions",
        "message.list",
        "change.list",
        "firmware.list",
        "drain.show",
        "power.suspects",
        "model.known",
        "model.list",
        "meter.list",
        "meter.show",
        "limit.list",
        "tariff.list",
        "exchange.list",
        "carbon.list",
        "grid.list",
        "address.list",
        "credential.list",
        "held.list",
        "payout.preview",
        "payout.list",
        "payout.show",
        "proposal.list",
        "order.owed",
        "order.invoices",
        "reversal.show",
        "proof.roots",
        "proof.closings",
        "proof.reserves",
        "proof.reserve",
        "proof.keys",
        "request.list",
        "request.show",
    ),
    Role.OPERATOR: (
        "tenant.set-status",
        "container.set",
        "container.import",
        "container.remove",
        "worker.remove",
        "upstream.switch",
        "edge.reset",
        "edge.release",
        "edge.retire",
        "trace.start",
        "trace.show",
        "drain.begin",
        "drain.end",
        "settings.reload",
        "message.silence",
        "message.test",
        "meter.import",
        "limit.set",
        "power.curtail",
        "power.restore",
        *("power.read", "power.reduce"),
        "power.exempt",
        "power.unexempt",
    ),
    Role.PAYER: (
        "power.set-terms",
        "tenant.add",
        "tenant.set-address",
        "tenant.set-terms",
        "upstream.add",
        "upstream.remove",
        "order.add",
        "order.end",
        "order.payment",
        "order.address",
        "order.write-off",
        "order.refund",
        "edge.add",
        "edge.set",
        "edge.book-late",
        "edge.give-up",
        "model.set",
        "model.import",
        "meter.add",
        "meter.remove",
        "limit.remove",
        "tariff.add",
        "tariff.import",
        "exchange.set",
        "exchange.import",
        "hosting.set",
        "carbon.import",
        "grid.pay",
        "payout.create",
        "payout.approve",
        "payout.cancel",
        "payout.disown",
        "payout.accept",
        "reversal.propose",
        "reversal.confirm",
        "lease.show",
        "request.approve",
        "request.withdraw",
        "request.carry-out",
    ),
    Role.ADMIN: (
        *("user.add", "user.set-role", "user.set-status", "power.release", "held.forget"),
        *("address.set", "address.import", "credential.set", "credential.remove"),
    ),
}
OLGA: Final = host_account("olga", ALONE)


def who(role: Role) -> Caller:
    return Caller(
        name="otto", source="test", role=role, tenant="acme" if role is Role.TENANT else None, user_id=1
    )


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Two tenants in one hall, whose names and figures have nothing in common, and who else there is."""
    with closing(store_in(tmp_path_factory.mktemp("hall"))) as store:
        endpoint = {"host": "zeta.example", "port": 3333, "user": "zeta", "password": PASSWORD}
        for name, params in (
            ("tenant.add", {"name": "acme"}),
            ("tenant.add", {"name": "zeta", "fee_bps": 777, "payout_minimum_sat": 7_777}),
            ("container.set", {"tenant": "acme", "name": "c01", "site": "Bratsk", "units": 400}),
            ("container.set", {"tenant": "zeta", "name": "z01", "site": "Zima", "units": 777}),
            ("upstream.add", {"name": "zetapool", "endpoints": [endpoint]}),
            ("user.add", {"name": "zelda", "role": "tenant", "tenant": "zeta"}),
            ("user.add", {"name": "otto", "role": "tenant", "tenant": "acme"}),
            ("token.create", {"user": "zelda", "label": "zlabel"}),
            ("token.create", {"user": "otto", "label": "figures"}),
        ):
            give(store, name, params, OLGA)
        bind(store, "regtest")
        with store.write() as connection:
            for tenant, unit in ((1, "u1"), (2, "zu7")):
                connection.execute(
                    insert(workers).values(
                        id=tenant,
                        tenant_id=tenant,
                        container_id=tenant,
                        unit=unit,
                        agent="zetaminer" if tenant == 2 else "bosminer",
                        first_seen_at_s=0,
                        last_seen_at_s=0,
                    )
                )
            close_an_hour(connection)
        yield store


def close_an_hour(connection: Connection) -> None:
    """Of both: settled, with a share of each machine."""
    for tenant in (1, 2):
        rate = record_rate(connection, tenant, price(scheme=Scheme.PPS, block_fees_sat=0), 1, None, 0)
        mined = Tally(worker_id=tenant, rate_id=rate, minute=600, difficulty_log2=-32, verdict=0, shares=3)
        record(connection, f"{tenant}", 1, [mined])
        row = {"writer": f"{tenant}", "booking": 1, "rate_id": rate, "hour": 10, "from_log2": -32}
        share = packed([Share(bytes(80), tenant, 600, -32)])
        connection.execute(insert(share_parts).values(**row, packed=share))
    assert settle(connection, 12 * 3600)
    due = closings.due(connection)
    assert due is not None
    assert closings.note(connection, closings.closed(connection, KEY, *due, -32))


def give(store: Store, name: str, params: Any, caller: Caller) -> Any:
    return execute(Desk(store, "regtest"), name, msgspec.json.encode(params), caller)


def may(role: Role, name: str) -> bool:
    allowed: set[str] = set()
    for least, names in LEAST.items():
        allowed |= set(names)
        if least is role:
            return name in allowed
    return False  # metrics


def test_every_command_has_its_least_role_here() -> None:
    names = [name for names in LEAST.values() for name in names]
    assert sorted(names) == sorted(COMMANDS)


def test_the_document_has_the_same_roles() -> None:
    text = (Path(__file__).parents[3] / "docs" / "api.md").read_text()
    said = dict(re.findall(r"`([a-z]+\.[a-z-]+)` \| ([a-z]+) \|", text))
    assert said == {name: command.least.value for name, command in COMMANDS.items()}


@pytest.mark.parametrize("role", Role)
def test_a_command_takes_its_role_before_anything_is_looked_at(role: Role) -> None:
    """The books are none, and the parameters no JSON: who may not give it never comes as far as that."""
    nothing = Desk(None, None)  # type: ignore[arg-type]
    for name, command in COMMANDS.items():
        with pytest.raises(RegistryError) as refused:
            execute(nothing, name, b"{", who(role))
        assert isinstance(refused.value, NotPermitted) != may(role, name), name
        words = f"{name} takes the role {command.least}, and otto has {role}"
        assert (str(refused.value) == words) != may(role, name), name


@pytest.mark.parametrize("name", COMMANDS)
def test_what_moves_money_or_makes_users_is_no_operators(name: str) -> None:
    command = COMMANDS[name]
    if isinstance(command, Change) and not name.startswith(
        ("container.", "worker.", "trace.", "drain.", "settings.")
    ):
        safe = {"tenant.set-status", "message.silence", "upstream.switch", "token.create", "token.revoke"}
        safe |= {"edge.reset", "edge.release", "edge.retire"}
        safe |= {"power.curtail", "power.restore", "power.reduce", "power.exempt", "power.unexempt"}
        safe |= {"limit.set", "meter.import"}  # which only lowers, and takes what fits a meter of a payer's
        assert (command.least.rank >= Role.PAYER.rank) != (name in safe)
    assert command.least.rank >= Role.TENANT.rank


# What a tenant's user is told

DAYS: Final = {"from_day": "2026-01-01", "to_day": "2026-02-01"}
HOUR: Final = {"hour": "1970-01-01T10"}
# Which have any figures, and the second any letters: a hash, and what is secret of a token.
CHANCE: Final = re.compile(r"[0-9a-f]{64,}|(?<=angara_\d_)[\w-]{43}")
OWN: Final[dict[str, tuple[dict[str, Any], ...]]] = {
    "tenant.show": ({"name": "acme"},),
    "container.list": ({}, {"tenant": "acme"}),
    "worker.list": ({}, {"tenant": "acme"}, {"container": "z01"}, {"after": 1}, {"offline_only": True}),
    "worker.show": ({"name": "acme.c01.u1"}, {"name": "ACME.c01.u1"}),
    "reject.show": ({}, {"tenant": "acme"}, {"worker": "acme.c01.u1"}, {"since": "2026-01-01"}),
    "statement.show": (DAYS, DAYS | {"tenant": "acme"}),
    "statement.file": (DAYS | {"format": "csv"}, DAYS | {"format": "json", "tenant": "acme"}),
    "token.create": ({"label": "more"}, {"label": "more", "user": "otto"}),
    "power.now": ({}, {"tenant": "acme"}),
    "power.machines": ({}, {"tenant": "acme"}, {"container": "zeta.z01"}, {"site": "Zima"}),
    "power.minutes": (
        {},
        {"tenant": "acme"},
        {"container": "acme.c01"},
        {"machine": "acme.c01.u1"},
        {"site": "Zima"},
    ),
    "hosting.list": ({}, {"tenant": "acme"}),
    "token.list": ({}, {"user": "otto"}),
    "token.revoke": ({"number": 2, "user": "otto"},),
    "proof.shares": (HOUR, HOUR | {"tenant": "acme"}),
}
OTHERS: Final[dict[str, tuple[dict[str, Any], ...]]] = {
    "tenant.show": ({"name": "zeta"}, {"name": "nobody"}, {"name": ""}),
    "container.list": ({"tenant": "zeta"}, {"tenant": "nobody"}, {"tenant": ""}),
    "worker.list": ({"tenant": "zeta"}, {"tenant": "nobody"}),
    "worker.show": (
        {"name": "zeta.z01.zu7"},
        {"name": "nobody.x.y"},
        {"name": "zeta%2Ez01%2Ezu7"},
        {"name": " zeta.z01.zu7"},
        {"name": ""},
    ),
    "reject.show": (
        {"tenant": "zeta"},
        {"worker": "zeta.z01.zu7"},
        {"worker": "nobody.x.y"},
        {"tenant": "acme", "upstream": "north"},
        {"upstream": "nobody"},
    ),
    "statement.show": (DAYS | {"tenant": "zeta"}, DAYS | {"tenant": "nobody"}, DAYS | {"tenant": ""}),
    "statement.file": (DAYS | {"format": "csv", "tenant": "zeta"}, DAYS | {"format": "json", "tenant": "x"}),
    "token.create": ({"label": "x", "user": "zelda"}, {"label": "x", "user": "nobody"}),
    "power.now": ({"tenant": "zeta"}, {"tenant": "nobody"}, {"tenant": ""}),
    "power.machines": ({"tenant": "zeta"}, {"tenant": "nobody"}, {"tenant": ""}),
    "power.minutes": (
        {"tenant": "zeta"},
        {"tenant": "nobody", "site": "Zima"},
        {"container": "zeta.z01"},
        {"container": "nobody.z01"},
        {"machine": "zeta.z01.zu7"},
        {"container": "acme.c01", "machine": "zeta.z01.zu7"},
        {"tenant": "zeta", "container": "acme.c01"},
    ),
    "hosting.list": ({"tenant": "zeta"}, {"tenant": "nobody"}, {"tenant": ""}),
    "token.list": ({"user": "zelda"}, {"user": "nobody"}),
    "token.revoke": ({"number": 1, "user": "zelda"}, {"number": 7, "user": "nobody"}),
    "proof.shares": (HOUR | {"tenant": "zeta"}, HOUR | {"tenant": "nobody"}, HOUR | {"tenant": ""}),
}


def test_there_is_an_example_of_everything_that_a_tenants_user_may_ask() -> None:
    asked = {name for name, it in COMMANDS.items() if it.least is Role.TENANT}
    assert set(OWN) == set(OTHERS) == asked
    assert all((it.narrowed is not None) == (it.least is Role.TENANT) for it in COMMANDS.values())


@pytest.mark.parametrize("name", OWN)
def test_a_tenants_user_is_told_its_own_and_nothing_of_others(books: Store, name: str) -> None:
    for params in OWN[name]:
        told = CHANCE.sub("chance", json.dumps(give(books, name, params, who(Role.TENANT))))
        assert told == "[]" or any(word in told for word in ("acme", "c01", "otto"))
        words = ("z01", "zu7", "zeta", "Zima", "zelda")
        assert not [word for word in words if word in told]
        assert not re.search(r"(?<!\d)7{3,4}(?!\d)", told)  # and not in a moment, which may have it
    seen_by_an_admin = json.dumps(give(books, name, OTHERS[name][0], who(Role.ADMIN)))
    assert "z" in seen_by_an_admin, "there is something that could have been told"


@pytest.mark.parametrize("name", OTHERS)
def test_whether_there_is_another_tenant_is_not_told_either(books: Store, name: str) -> None:
    words = set()
    for params in OTHERS[name]:
        with pytest.raises(NotPermitted) as refused:
            give(books, name, params, who(Role.TENANT))
        words.add(str(refused.value))
    whose = "his own tokens" if name.startswith("token.") else "the tenant acme"
    assert words == {f"otto may ask about {whose} alone"}


def test_a_role_of_a_tenant_without_one_may_ask_nothing(books: Store) -> None:
    """Such a row cannot be in the table; a caller that was made wrongly must not see all."""
    nobodys = Caller(name="otto", source="test", role=Role.TENANT)
    for name, examples in OWN.items():
        if name.startswith("token."):
            continue  # those are his
        for params in examples:
            with pytest.raises(NotPermitted):
                give(books, name, params, nobodys)


# Users change users


def test_nobody_takes_away_his_own_role_so_there_is_an_admin_after_every_change(tmp_path: Path) -> None:
    with closing(store_in(tmp_path)) as store:
        for name in ("otto", "ada"):
            give(store, "user.add", {"name": name, "role": "admin"}, OLGA)
        otto = Caller(name="otto", source="test", role=Role.ADMIN, user_id=1)
        for name, params in (
            ("user.set-role", {"name": "otto", "role": "viewer"}),
            ("user.set-status", {"name": "otto", "active": False}),
        ):
            with pytest.raises(RegistryError, match="another admin has to"):
                give(store, name, params, otto)
        assert give(store, "user.set-role", {"name": "ada", "role": "viewer"}, otto)["role"] == "viewer"
        assert give(store, "user.show", {"name": "otto"}, OLGA)["role"] == "admin"
        assert (
            give(store, "user.set-status", {"name": "otto", "active": False}, OLGA)["status"] == "suspended"
        )


# Tokens


def test_everybody_has_his_own_tokens_and_an_admin_everybodys(books: Store) -> None:
    otto = Caller(name="otto", source="test", role=Role.PAYER, user_id=2)
    for name, params in (
        ("token.list", {"user": "zelda"}),
        ("token.create", {"label": "mine", "user": "zelda"}),
        ("token.revoke", {"number": 1, "user": "zelda"}),
    ):
        with pytest.raises(NotPermitted, match="his own tokens alone"):
            give(books, name, params, otto)
    assert {it["user"] for it in give(books, "token.list", {}, otto)} == {"otto"}
    assert {it["user"] for it in give(books, "token.list", {}, OLGA)} == {"otto", "zelda"}
    with pytest.raises(RegistryError, match="otto has no token 1"):
        give(books, "token.revoke", {"number": 1}, otto)
    with pytest.raises(RegistryError, match="is no user: say whose"):
        give(books, "token.create", {"label": "mine"}, OLGA)


def test_a_token_that_was_stolen_makes_no_other_and_ends_none_but_itself(books: Store) -> None:
    admins = Caller(name="ada", source="token 5", role=Role.ADMIN, user_id=9, token=5)
    with pytest.raises(NotPermitted, match="makes no tokens"):
        give(books, "token.create", {"label": "mine", "user": "otto"}, admins)
    with pytest.raises(NotPermitted, match="none but itself"):
        give(books, "token.revoke", {"number": 2, "user": "otto"}, admins)
    made = give(books, "token.create", {"label": "once", "user": "otto"}, OLGA)["id"]
    his = Caller(name="otto", source="token", role=Role.TENANT, tenant="acme", user_id=2, token=made)
    assert give(books, "token.revoke", {"number": made}, his)["revoked_at_s"] is not None


def test_a_token_is_in_the_answer_to_who_made_it_and_nowhere_else(books: Store) -> None:
    made = give(books, "token.create", {"label": "secret", "user": "otto"}, OLGA)["token"]
    secret = made.split("_", 2)[2]
    for name, params in (("token.list", {}), ("change.list", {}), ("user.show", {"name": "otto"})):
        assert secret not in json.dumps(give(books, name, params, OLGA))
