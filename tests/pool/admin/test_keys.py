"""A change that is asked for again under its key is made once, whatever became of the first time."""

import json
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
import trio
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from starlette.requests import Request
from starlette.responses import Response

from pool.admin import client
from pool.admin.client import NoAnswer, ask
from pool.admin.command import Change, Question
from pool.admin.commands import COMMANDS, DoneBefore, KeyReused, answer_to
from pool.admin.desk import Desk, OperatorDesk
from pool.admin.handler import CommandHandler
from pool.admin.server import serve_admin
from pool.books.changes import keys
from pool.books.changes.changes import newest_changes
from pool.books.changes.schema import change_keys
from pool.books.store import Store
from pool.data_dir import DataDirError, admin_socket, held
from pool.fleet.rows import RegistryError
from pool.people.roles import Caller, NotPermitted, Role, host_account
from tests.fixtures.databases import Crash, Databases, crash_before, fresh_store, store_in
from tests.stages.waiting import PATIENCE_S

OLGA = host_account("olga", "test")
ACME = {"name": "acme"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(store_in(tmp_path)) as opened:
        yield opened


def give(store: Store, name: str, params: Any, key: str | None, caller: Caller = OLGA) -> Any:
    body = msgspec.json.encode(params)
    return json.loads(answer_to(Desk(store, "regtest"), name, body, caller, key).body)


def made(store: Store) -> list[str]:
    """The commands of all changes."""
    with store.read() as connection:
        return [it.command for it in newest_changes(connection, None, None)]


def kept(store: Store) -> list[tuple[str, str, str | None]]:
    with store.read() as connection:
        columns = change_keys.c.caller, change_keys.c.key, change_keys.c.answer
        return [tuple(row) for row in connection.execute(select(*columns).order_by(*columns[:2]))]


def test_it_is_made_once_and_answered_the_same(databases: Databases) -> None:
    with fresh_store(databases) as store:
        first = give(store, "tenant.add", ACME, "k1")
        give(store, "tenant.set-status", {"name": "acme", "active": False}, "k2")
        assert give(store, "tenant.add", ACME, "k1") == first, "as it was then"
        assert give(store, "tenant.add", {"name": "acme", "fee_bps": 200}, "k1") == first, "said otherwise"
        assert made(store) == ["tenant.add", "tenant.set-status"]
        with pytest.raises(RegistryError, match="already"):
            give(store, "tenant.add", ACME, "k3")
        with pytest.raises(RegistryError, match="already"):
            give(store, "tenant.add", ACME, None)


def test_a_key_is_for_one_change(store: Store) -> None:
    give(store, "tenant.add", ACME, "k1")
    for name, params in (
        ("tenant.add", {"name": "borealis"}),
        ("tenant.set-status", {"name": "acme", "active": False}),
    ):
        with pytest.raises(KeyReused):
            give(store, name, params, "k1")
    assert made(store) == ["tenant.add"]


def test_a_key_is_its_callers_own(store: Store) -> None:
    """Nobody hears what another was answered, nor does he keep a change of another from being made."""
    give(store, "tenant.add", ACME, "k1")
    give(store, "user.add", {"name": "otto", "role": "operator"}, "k2")
    otto = Caller(name="otto", source="token 1", role=Role.OPERATOR, user_id=1)
    with pytest.raises(NotPermitted):
        give(store, "tenant.add", ACME, "k1", otto)
    give(store, "tenant.set-status", {"name": "acme", "active": False}, "k1", otto)
    weaker = Caller(name="otto", source="token 2", role=Role.VIEWER, user_id=1, token=2)
    with pytest.raises(NotPermitted):
        give(store, "tenant.set-status", {"name": "acme", "active": False}, "k1", weaker)
    assert [(caller, key) for caller, key, _ in kept(store)] == [
        ("olga", "k1"),
        ("olga", "k2"),
        ("otto", "k1"),
    ]


def test_what_was_refused_is_tried_again(store: Store) -> None:
    suspend = {"name": "acme", "active": False}
    with pytest.raises(RegistryError, match="no tenant"):
        give(store, "tenant.set-status", suspend, "k1")
    assert kept(store) == []
    give(store, "tenant.add", ACME, "k2")
    assert give(store, "tenant.set-status", suspend, "k1")["status"] == "suspended"


def test_a_secret_is_kept_nowhere(store: Store) -> None:
    give(store, "user.add", {"name": "vera", "role": "viewer"}, None)
    params = {"user": "vera", "label": "grafana"}
    token = give(store, "token.create", params, "k1")["token"]
    with pytest.raises(DoneBefore, match="change 2 of the history"):
        give(store, "token.create", params, "k1")
    assert made(store) == ["user.add", "token.create"]
    assert kept(store) == [("olga", "k1", None)]
    assert token.split("_", 2)[2] not in str(kept(store))


def test_every_answer_with_a_secret_is_one_that_says_so() -> None:
    """By the names that secrets have; the `result` of a request may be one."""
    for name, it in COMMANDS.items():
        if isinstance(it, Change):
            (of, *_) = get_args(it.result) or (it.result,)
            fields = {field.name for field in msgspec.structs.fields(of)}
            assert it.secret == bool(fields & {"token", "secret", "password", "key", "result"}), name


def test_what_goes_down_in_between_leaves_change_and_key_or_neither(store: Store) -> None:
    """At each statement and commit; whoever asks again has it made once, and hears of it."""
    crashed, told = 0, set()
    for step in range(100):
        name, key = f"t{step}", f"k{step}"
        with suppress(Crash), crash_before(step):
            give(store, "tenant.add", {"name": name}, key)
            break
        crashed += 1
        known = [it for it in kept(store) if it[1] == key]
        with store.read() as connection:
            was_made = bool(newest_changes(connection, name, None))
        assert was_made == bool(known)
        try:
            told.add(give(store, "tenant.add", {"name": name}, key)["status"])
        except DoneBefore:
            told.add("done")
        with store.read() as connection:
            assert len(newest_changes(connection, name, None)) == 1
    assert crashed > 8
    assert told == {"active", "done"}


def test_an_answer_that_cannot_be_kept_is_answered_all_the_same(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OperationalError("UPDATE", None, Exception("the disk is full"))

    monkeypatch.setattr("pool.admin.commands.keep_answer", fails)
    assert give(store, "tenant.add", ACME, "k1")["name"] == "acme"
    with pytest.raises(DoneBefore):
        give(store, "tenant.add", ACME, "k1")


def test_who_asks_at_the_same_moment_makes_it_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """By another door: he had looked before it was made."""
    monkeypatch.setattr("pool.admin.commands.keyed_change", lambda *_: None)
    first = give(store, "tenant.add", ACME, "k1")
    assert give(store, "tenant.add", ACME, "k1") == first
    assert made(store) == ["tenant.add"]


def test_keys_are_few_and_go_by_themselves(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a caller the newest, of nobody longer than a day; an answer that is too long is not kept."""
    monkeypatch.setattr(keys, "KEYS_MAX", 3)
    for number in range(5):
        give(store, "tenant.add", {"name": f"t{number}"}, f"k{number}")
    other = host_account("otto", "test")
    give(store, "tenant.add", {"name": "t9"}, "k9", other)
    assert [key for _, key, _ in kept(store)] == ["k2", "k3", "k4", "k9"]
    with pytest.raises(RegistryError, match="already"):
        give(store, "tenant.add", {"name": "t0"}, "k0")
    monkeypatch.setattr(keys, "ANSWER_BYTES_MAX", 10)
    give(store, "tenant.add", {"name": "t10"}, "k10")
    assert kept(store)[0] == ("olga", "k10", None)
    monkeypatch.setattr(keys, "KEPT_S", 0)
    with pytest.raises(RegistryError, match="already"):
        give(store, "tenant.add", {"name": "t10"}, "k10")
    give(store, "tenant.add", {"name": "t11"}, "k11", other)
    assert [key for _, key, _ in kept(store)] == ["k11"]


def test_a_change_that_is_recorded_twice_has_one_key(store: Store) -> None:
    with store.read() as connection:
        assert connection.dialect.name == "sqlite"
    called = keys.ChangeKey(caller="olga", key="k1", digest="0" * 64)
    desk = OperatorDesk(
        store, "regtest", caller=OLGA, command="x", subject="y", state=lambda *_: None, key=called
    )
    desk.note(None, {"a": 1})
    desk.note(None, {"a": 2})
    assert (desk.noted, [it[1] for it in kept(store)]) == ([1, 2], ["k1"])


async def test_what_took_too_long_was_done_and_who_asks_again_hears_of_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request is over after thirty seconds: what it began goes on, in its thread."""
    handler = CommandHandler(Desk(store, "regtest"))

    def over(*it: Any, **more: Any) -> Any:
        trio.from_thread.run_sync(time.cancel)
        return answer_to(*it, **more)

    async def asked() -> Response:
        async def receive() -> Any:
            return {"type": "http.request", "body": msgspec.json.encode(ACME)}

        headers = [(b"idempotency-key", b"k1")]
        request = Request(
            {"type": "http", "method": "POST", "headers": headers, "query_string": b""}, receive
        )
        return await handler.answer(request, "tenant.add", lambda _: OLGA)

    with trio.CancelScope() as time, monkeypatch.context() as slow:
        slow.setattr("pool.admin.handler.answer_to", over)
        await asked()
        await trio.lowlevel.checkpoint()  # where it would be sent
    assert time.cancelled_caught
    again = await asked()
    assert (again.status_code, json.loads(bytes(again.body))["name"]) == (200, "acme")
    assert made(store) == ["tenant.add"]


# The command line


def test_only_what_changes_something_keeps_others_out_of_the_data_directory(tmp_path: Path) -> None:
    def another_reads(name: str, body: bytes) -> bool:
        try:
            with held(tmp_path, reading=True):
                return True
        except DataDirError:
            return False

    for name, command in COMMANDS.items():
        assert ask(tmp_path, another_reads, name, {}) is isinstance(command, Question), name


def nobody(name: str, body: bytes) -> Any:
    raise AssertionError("a pool runs")


async def test_an_answer_that_got_lost_is_asked_for_again_and_nothing_is_done_twice(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = client._asked
    lost: list[tuple[int, Any]] = []

    def breaks(path: Path, name: str, body: bytes, headers: Any) -> Any:
        told = asked(path, name, body, headers)
        if len(lost) in (0, 2):
            lost.append(told)
            raise NoAnswer("the connection broke")
        lost.append(told)
        return told

    monkeypatch.setattr(client, "_asked", breaks)
    with held(tmp_path), trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_admin, Desk(store, "regtest"), admin_socket(tmp_path))
            added = await trio.to_thread.run_sync(ask, tmp_path, nobody, "tenant.add", ACME)
            with pytest.raises(NoAnswer):
                await trio.to_thread.run_sync(ask, tmp_path, nobody, "tenant.list", {})
            nursery.cancel_scope.cancel()
    assert added["name"] == "acme"
    assert [status for status, _ in lost] == [200, 200, 200]
    assert made(store) == ["tenant.add"]
