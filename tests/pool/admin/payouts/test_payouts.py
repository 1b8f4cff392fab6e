"""Payouts and reversals as commands: who is a second person, and what is done once whoever asks twice."""

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import trio

from payouts.batches.batch import batches_in
from payouts.batches.plan import plan
from payouts.batches.proposals import ProposalKind, propose
from payouts.batches.rows import Act
from payouts.batches.steps import cancel, draft
from pool.admin.client import ask
from pool.admin.commands import execute
from pool.admin.desk import Desk
from pool.admin.operators import ALONE, UnknownAccount, caller_alone, caller_of, operator_of
from pool.admin.people.puppets import MADE_S
from pool.admin.server import serve_admin
from pool.books.audit.verify import verify
from pool.books.changes.changes import newest_changes
from pool.books.store import Store
from pool.data_dir import admin_socket, held
from pool.fleet.rows import RegistryError
from pool.people.authentication import WrongToken
from pool.people.roles import Caller, NotPermitted, Role, host_account
from pool.requests.policy import Approval
from pool.treasury.reconciler import SAID
from tests.fakes.treasuries import TreasuryWhoseNodesAgree, agreeing
from tests.fixtures.databases import store_in
from tests.stages.payouts import NOW_S, PAYEES, register, script_of
from tests.stages.people import add_user, give, user

HOSTS: Final = frozenset(("root", "angara"))
TXID: Final = "ab" * 32
ONE_DECIDES: Final = Approval()
ROOT, ANGARA, ALONE_AS_OTHER = (host_account(name, ALONE) for name in ("root", "angara", "other"))
MADE_LATER: Final = {"ada": Role.ADMIN, "pa": Role.PAYER, "po": Role.PAYER}
ANNETTE, ANN, PETRA, BOB = (user(name, id) for id, name in enumerate(("annette", "ann", "petra", "bob"), 1))
ADA, PA, PO = (user(name, id, role) for id, (name, role) in enumerate(MADE_LATER.items(), 5))
ANN_BY_TOKEN = msgspec.structs.replace(ANN, token=1, source="token 1 from 10.0.0.1")


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Books that owe somebody something, and know four users: petra has the account that the pool runs as,
    ann the one that annette had."""
    home = tmp_path_factory.mktemp("hall")
    with closing(store_in(home)) as store:
        register(store, PAYEES[:1])
        for name, account in (("annette", "other"), ("ann", "other"), ("petra", "angara"), ("bob", "bob")):
            give(store, "user.add", {"name": name, "role": "payer", "account": account})
            if name == "annette":
                give(store, "user.set-status", {"name": name, "active": False})
    return (home / "angara.db").read_bytes()


@pytest.fixture
def store(tmp_path: Path, hall: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    (tmp_path / "angara.db").write_bytes(hall)
    monkeypatch.setattr("pool.admin.payouts.commands.host_names", lambda: HOSTS)
    with closing(store_in(tmp_path)) as opened:
        yield opened


def run(
    store: Store,
    name: str,
    caller: Caller,
    paying: Any = None,
    policy: Approval = ONE_DECIDES,
    **params: Any,
) -> Any:
    desk = Desk(store, "regtest", None, paying or agreeing(), policy)
    return execute(desk, name, msgspec.json.encode(params), caller)


def approve(store: Store, caller: Caller, batch: dict[str, Any], fee_cap_sat: int = 1_000) -> Any:
    looked_at = {"batch": batch["batch"], "digest": batch["digest"]}
    return run(store, "payout.approve", caller, **looked_at, fee_cap_sat=fee_cap_sat)


def drafted(store: Store, by: str) -> dict[str, Any]:
    """A batch of before there were users."""
    with store.write() as connection:
        number = draft(connection, plan(connection, NOW_S, script_of, 1_000), Act(by, NOW_S))
    shown: dict[str, Any] = run(store, "payout.show", BOB, batch=number)
    return shown


def test_a_human_with_several_names_is_no_second_person(store: Store) -> None:
    """All pairs of names are in tests/pool/people/test_persons.py; here are some, through the books."""
    batch = run(store, "payout.create", ROOT)
    for caller in (ROOT, ANGARA, PETRA, ALONE_AS_OTHER):
        with pytest.raises(RegistryError, match="somebody else has to approve it"):
            approve(store, caller, batch)
    run(store, "payout.cancel", ROOT, batch=1)
    batch = run(store, "payout.create", ANNETTE)
    for caller in (ANN, ANN_BY_TOKEN, ALONE_AS_OTHER):
        with pytest.raises(RegistryError, match="somebody else has to approve it"):
            approve(store, caller, batch)
    run(store, "payout.cancel", BOB, batch=2)
    assert approve(store, ROOT, run(store, "payout.create", BOB))["state"] == "approved"


def test_who_begins_to_confirm_before_he_proposes_is_no_second_person_either(store: Store) -> None:
    """The thief has two names that nobody has drafted by, and gives both commands at once: what he confirms
    is not there yet when it is asked who he is. Gain: 0 sat, where a batch was approved by who drafted it."""
    looked_at = run(store, "payout.create", BOB)  # what a batch of this is, is told beforehand
    run(store, "payout.cancel", BOB, batch=1)
    paying = TreasuryWhoseNodesAgree(lambda: run(store, "payout.create", ROOT))
    params = {"batch": 2, "digest": looked_at["digest"], "fee_cap_sat": 1_000}
    with pytest.raises(RegistryError, match="somebody else has to approve it"):
        run(store, "payout.approve", ANGARA, paying, **params)
    assert run(store, "payout.show", BOB, batch=2)["approvals"] == []


@pytest.mark.parametrize(("typed", "users"), [("Ann", (BOB,)), ("somebody", (ANN, BOB)), ("b o b", (ANN,))])
def test_a_name_of_before_there_were_users_is_its_users_or_the_hosts(
    store: Store, typed: str, users: tuple[Caller, ...]
) -> None:
    for caller in (ROOT, ANGARA, ANN, BOB):
        batch = drafted(store, typed)
        may = caller in users or (caller in (ROOT, ANGARA) and typed != "somebody")
        if may:
            approve(store, caller, batch)
        else:
            with pytest.raises(RegistryError, match="somebody else has to approve it"):
                approve(store, caller, batch)
        with store.write() as connection:
            cancel(connection, batch["batch"], Act("x", NOW_S))


def test_where_four_eyes_are_asked_for_two_persons_are_two_users(store: Store) -> None:
    """The thief is bob, and root. Gain: 0 sat, whichever of the two begins."""
    four_eyes = partial(run, store, policy=Approval(people=2))
    made = run(store, "reversal.propose", ROOT, transaction=1, why="counted twice")["proposal"]
    with pytest.raises(RegistryError, match="somebody else has to"):
        four_eyes("reversal.confirm", BOB, transaction=1, proposal=made)
    batch = drafted(store, "root")
    looked_at = {"batch": 1, "digest": batch["digest"], "fee_cap_sat": 1_000}
    with store.write() as connection:
        propose(connection, ProposalKind.NO_PAYOUT, TXID, SAID, Act("root", NOW_S))
    for name, params in (
        ("payout.create", {}),
        ("payout.approve", looked_at),
        ("payout.disown", {"batch": 1}),
        ("payout.accept", {"txid": TXID}),
        ("reversal.propose", {"transaction": 1, "why": "x"}),
        ("reversal.confirm", {"transaction": 1, "proposal": made}),
    ):
        with pytest.raises(RegistryError, match="root is none of them"):
            four_eyes(name, ROOT, **params)
    with pytest.raises(RegistryError, match="somebody else has to approve it"):
        four_eyes("payout.approve", BOB, **looked_at)
    with pytest.raises(RegistryError, match="no second person beside that"):
        four_eyes("payout.accept", BOB, txid=TXID)
    four_eyes("payout.cancel", BOB, batch=1)
    four_eyes("payout.create", BOB)
    assert four_eyes("payout.approve", ANN, **looked_at | {"batch": 2})["state"] == "approved"


def test_an_admins_puppets_are_no_second_persons_of_what_is_paid(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a week they are he, and each other, as they are where requests are agreed to."""
    give(store, "user.add", {"name": "ada", "role": "admin"})
    for name in ("pa", "po"):
        give(store, "user.add", {"name": name, "role": "payer"}, ADA)
    token = give(store, "token.create", {"user": "bob", "label": "his"}, ADA)["id"]
    four_eyes = partial(run, store, policy=Approval(people=2))
    bob_by_token = msgspec.structs.replace(BOB, token=token)

    def look_at(batch: dict[str, Any]) -> dict[str, Any]:
        return {"batch": batch["batch"], "digest": batch["digest"], "fee_cap_sat": 1_000}

    for first, second in ((ADA, PA), (PA, ADA), (PA, PO), (ADA, bob_by_token)):
        why = f"{first.name} and {second.name}"
        made = four_eyes("reversal.propose", first, transaction=1, why=why)["proposal"]
        with pytest.raises(RegistryError, match="somebody else has to"):
            four_eyes("reversal.confirm", second, transaction=1, proposal=made)
        batch = four_eyes("payout.create", first)
        with pytest.raises(RegistryError, match="somebody else has to approve it"):
            four_eyes("payout.approve", second, **look_at(batch))
        four_eyes("payout.cancel", first, batch=batch["batch"])
    batch = four_eyes("payout.create", PA)
    assert four_eyes("payout.approve", ANN, **look_at(batch))["state"] == "approved", "ann is a person"
    four_eyes("payout.cancel", PA, batch=batch["batch"])
    monkeypatch.setattr("time.time", lambda: NOW_S + MADE_S + 60.0)
    batch = four_eyes("payout.create", ADA)
    assert four_eyes("payout.approve", PA, **look_at(batch))["state"] == "approved", (
        "everybody knows him by now"
    )


def test_what_who_is_suspended_or_demoted_said_was_not_said(store: Store) -> None:
    """Who has found what he proposed and nobody confirmed is no second person beside it."""
    made = run(store, "reversal.propose", BOB, transaction=1, why="counted twice")["proposal"]
    with store.write() as connection:
        propose(connection, ProposalKind.NO_PAYOUT, TXID, SAID, Act("bob", NOW_S))
    batch = run(store, "payout.create", BOB)
    for name, params in (
        ("user.set-role", {"name": "bob", "role": "operator"}),
        ("user.set-status", {"name": "bob", "active": False}),
    ):
        give(store, name, params)
        with pytest.raises(RegistryError, match="somebody else has to"):
            run(store, "reversal.confirm", ANN, transaction=1, proposal=made)
        with pytest.raises(RegistryError, match="no second person beside that"):
            run(store, "payout.accept", ANN, txid=TXID)
        with pytest.raises(RegistryError, match="somebody else has to approve it"):
            approve(store, ANN, batch)
    run(store, "payout.cancel", ANN, batch=1)


def test_all_that_takes_two_persons_knows_them_the_same_way(store: Store) -> None:
    with store.write() as connection:
        propose(connection, ProposalKind.NO_PAYOUT, TXID, SAID, Act("root", NOW_S))
    made = run(store, "reversal.propose", ROOT, transaction=1, why="counted twice")["proposal"]
    for caller in (ROOT, ANGARA, PETRA):
        with pytest.raises(RegistryError, match="somebody else has to"):
            run(store, "reversal.confirm", caller, transaction=1, proposal=made)
        with pytest.raises(RegistryError, match="no second person beside that"):
            run(store, "payout.accept", caller, txid=TXID)
    assert [it["id"] for it in run(store, "proposal.list", BOB)] == [1, made]
    assert run(store, "reversal.confirm", BOB, transaction=1, proposal=made)["reverses"] == 1
    run(store, "payout.accept", BOB, txid=TXID)
    assert run(store, "proposal.list", BOB) == []


def test_nobody_is_the_second_person_of_what_nobody_looked_at(store: Store) -> None:
    with pytest.raises(RegistryError, match="nobody has looked at"):
        run(store, "payout.accept", BOB, txid=TXID)
    for odd in ("disown:" + TXID, TXID.upper(), ""):  # what is proposed of a batch is not accepted so
        with pytest.raises(RegistryError, match="is no txid"):
            run(store, "payout.accept", BOB, txid=odd)
    with pytest.raises(RegistryError, match="there is no batch 7"):
        run(store, "payout.disown", BOB, batch=7)


def test_a_token_is_its_users_and_may_no_more_than_he_at_that_moment(store: Store) -> None:
    token = add_user(store, "vera", "viewer")
    batch = run(store, "payout.create", ANN)
    with pytest.raises(NotPermitted, match="takes the role payer, and vera has viewer"):
        approve(store, caller_alone(store, "angara", token), batch)
    give(store, "user.set-role", {"name": "vera", "role": "payer"})
    vera = caller_alone(store, "angara", token)
    assert (vera.name, vera.role.value, vera.source) == ("vera", "viewer", "token 1 from angara, alone")
    with pytest.raises(NotPermitted):  # a token's scope is what it was made for
        approve(store, vera, batch)
    token = give(store, "token.create", {"user": "vera", "label": "more"})["token"]
    assert approve(store, caller_alone(store, "angara", token), batch)["state"] == "approved"
    give(store, "user.set-status", {"name": "vera", "active": False})
    for wrong in (token, token[:-1] + "x", "angara_9_" + "a" * 43, "", "x" * 1_000):
        with pytest.raises(WrongToken, match="wrong, or has ended"):
            caller_alone(store, "angara", wrong)


def test_an_account_that_is_nobodys_shows_no_token_through_the_socket(store: Store) -> None:
    token = add_user(store, "vera")
    desk, uid = Desk(store, "regtest"), os.geteuid()
    assert caller_of(desk, uid, {uid}, token).name == "vera"
    with pytest.raises(UnknownAccount):
        caller_of(desk, 4_000_000, {uid}, token)


# Once


def test_what_is_asked_twice_is_done_once(store: Store) -> None:
    batch = run(store, "payout.create", ANN)
    with pytest.raises(RegistryError, match="is a draft already"):
        run(store, "payout.create", ANN)
    first, again = approve(store, BOB, batch), approve(store, BOB, batch)
    assert first == again
    with pytest.raises(RegistryError, match="there is nobody to pay"):
        run(store, "payout.create", ANN)
    run(store, "payout.cancel", ANN, batch=1)
    with pytest.raises(RegistryError, match="batch 1 is failed"):
        run(store, "payout.cancel", ANN, batch=1)
    for _ in range(2):
        made = run(store, "reversal.propose", ANN, transaction=1, why="counted twice")
    run(store, "reversal.confirm", BOB, transaction=1, proposal=made["proposal"])
    with pytest.raises(RegistryError, match="was confirmed by bob already"):
        run(store, "reversal.confirm", BOB, transaction=1, proposal=made["proposal"])
    with store.read() as connection:
        found = verify(connection)
        assert found.wrong is None
        assert (len(batches_in(connection)), set(found.balances_sat.values())) == (1, {0})


# Through the socket


async def test_a_second_person_at_the_same_account_shows_his_token(store: Store, tmp_path: Path) -> None:
    token, me = add_user(store, "vera"), operator_of(os.geteuid())
    with held(tmp_path):
        async with trio.open_nursery() as nursery:
            desk, guesses = Desk(store, "regtest", None, agreeing()), list[str]()
            path = admin_socket(tmp_path)
            await nursery.start(partial(serve_admin, desk, path, guessed=guesses.append))

            async def given(name: str, shown: str | None = None, **params: Any) -> Any:
                return await trio.to_thread.run_sync(ask, tmp_path, nobody, name, params, shown)

            batch = await given("payout.create")
            looked_at = {"batch": 1, "digest": batch["digest"], "fee_cap_sat": 1_000}
            for shown, words in ((None, "somebody else has to"), (f"{token[:-2]}xx", "the token is wrong")):
                with pytest.raises(RegistryError, match=words):
                    await given("payout.approve", shown, **looked_at)
            assert guesses == [me]
            approved = await given("payout.approve", token, **looked_at)
            nursery.cancel_scope.cancel()
    assert [it["done_by"] for it in approved["events"]] == [me, "vera"]
    with store.read() as connection:
        records = newest_changes(connection, None, None)[-2:]
    assert [(it.changed_by, it.source) for it in records] == [
        (me, "socket"),
        ("vera", f"token 1 from {me}, socket"),
    ]


async def test_who_waits_for_a_node_keeps_nobody_else_waiting(store: Store, tmp_path: Path) -> None:
    reached, released = threading.Event(), threading.Event()

    def node_that_is_silent() -> None:
        reached.set()
        released.wait()

    paying = TreasuryWhoseNodesAgree(node_that_is_silent)
    with held(tmp_path):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_admin, Desk(store, "regtest", None, paying), admin_socket(tmp_path))

            async def given(command: str, **params: Any) -> Any:
                return await trio.to_thread.run_sync(ask, tmp_path, nobody, command, params)

            async with trio.open_nursery() as waiting:
                waiting.start_soon(given, "payout.create")
                try:
                    await trio.to_thread.run_sync(reached.wait)
                    thief = await given("user.set-status", name="ann", active=False)
                finally:
                    released.set()
            assert thief["status"] == "suspended"
            assert len(await given("payout.list")) == 1
            nursery.cancel_scope.cancel()


def nobody(name: str, body: bytes) -> Any:
    raise AssertionError("a pool runs")
