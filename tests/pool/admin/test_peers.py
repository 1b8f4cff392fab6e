"""Who comes through the socket: its group, users by their account, strangers, and what each may cost.

The pool's account and root need no user; tests run as such a one, so `without_user` says here who does not.
"""

import os
import pwd
import socket
import stat
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import trio

from pool.admin.commands import execute
from pool.admin.desk import Desk
from pool.admin.operators import ALONE
from pool.admin.peers import PAUSE_S, PEER_CONNECTIONS_MAX, STRANGER_S, STRANGERS_MAX, Peers
from pool.admin.server import serve_admin
from pool.books.changes.changes import newest_changes
from pool.books.store import Store
from pool.data_dir import admin_socket
from pool.people.roles import host_account
from tests.fixtures.databases import store_in
from tests.stages.waiting import PATIENCE_S

ME = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests has the account of a user."""
    names = {os.geteuid(): "vera"}
    monkeypatch.setattr("pool.admin.operators.operator_of", lambda uid: names.get(uid, f"uid {uid}"))
    monkeypatch.setattr("pool.admin.people.users.host_names", lambda: {"angara"})


@asynccontextmanager
async def listening(
    data_dir: Path, group: int | None = None, without_user: Collection[int] | None = None
) -> AsyncIterator[Store]:
    with closing(store_in(data_dir)) as store:
        async with trio.open_nursery() as nursery:
            serve = serve_admin
            path = admin_socket(data_dir)
            await nursery.start(
                lambda task_status: serve(
                    Desk(store, "regtest"),
                    path,
                    group,
                    without_user=without_user,
                    task_status=task_status,
                )
            )
            yield store
            nursery.cancel_scope.cancel()


def give(store: Store, command: str, /, **params: Any) -> None:
    execute(Desk(store, "regtest"), command, msgspec.json.encode(params), host_account("olga", ALONE))


async def ask(data_dir: Path, command: str, /, **params: Any) -> tuple[int, Any]:
    transport = httpx.AsyncHTTPTransport(uds=str(admin_socket(data_dir)))
    async with httpx.AsyncClient(transport=transport, timeout=PATIENCE_S) as client:
        answer = await client.post(f"http://angara/v1/{command}", json=params)
    return answer.status_code, answer.json()


async def test_an_account_is_its_user_in_the_role_that_it_has_now(tmp_path: Path, account: None) -> None:
    async with listening(tmp_path, without_user=()) as store:
        give(store, "tenant.add", name="acme")
        give(store, "user.add", name="Vera V", role="operator", account="vera")
        changed, told = await ask(tmp_path, "tenant.set-status", name="acme", active=False)
        assert (changed, told["status"]) == (200, "suspended")
        with store.read() as connection:
            newest = newest_changes(connection, None, None)[-1]
        assert (newest.changed_by, newest.source) == ("Vera V", "socket")
        refused, told = await ask(tmp_path, "tenant.set-terms", name="acme", fee_bps=0)
        assert refused == 403
        assert told["code"] == "not_permitted"
        assert told["error"] == "tenant.set-terms takes the role payer, and Vera V has operator"
        give(store, "user.set-role", name="Vera V", role="tenant", tenant="acme")
        assert (await ask(tmp_path, "tenant.list"))[0] == 403
        assert (await ask(tmp_path, "tenant.show", name="acme"))[0] == 200
        give(store, "user.set-status", name="Vera V", active=False)
        status, told = await ask(tmp_path, "tenant.show", name="acme")
        assert (status, "is no user's" in told["error"]) == (403, True)


async def test_the_pools_account_and_root_need_no_user(tmp_path: Path) -> None:
    async with listening(tmp_path) as store:
        assert (await ask(tmp_path, "user.add", name="ada", role="admin"))[0] == 200
        with store.read() as connection:
            assert newest_changes(connection, None, None)[-1].changed_by == ME
        status, told = await ask(tmp_path, "user.add", name="eve", role="admin", account=ME)
        assert (status, "can open the database itself" in told["error"]) == (400, True)
        status, told = await ask(tmp_path, "user.add", name=ME.upper(), role="viewer")
        assert (status, "could be taken for" in told["error"]) == (400, True)


async def test_the_socket_is_its_groups_where_there_is_one(tmp_path: Path) -> None:
    async with listening(tmp_path, group=os.getegid()):
        found = admin_socket(tmp_path).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, os.getegid())


async def test_nobody_is_told_so_once_and_not_answered_for_a_while(
    tmp_path: Path, account: None, autojump_clock: trio.testing.MockClock
) -> None:
    uid = os.geteuid()
    peers = Peers(await a_listener(tmp_path), without_bounds=())
    assert peers._may(uid)
    peers.nobody(uid)
    assert not peers._may(uid)
    assert peers._may(uid + 1)
    await trio.sleep(STRANGER_S)
    assert peers._may(uid), "who was added meanwhile gets in"
    for other in range(2 * STRANGERS_MAX):
        peers.nobody(other)
    assert len(peers._strangers) == STRANGERS_MAX
    await peers.aclose()


async def test_who_is_nobody_costs_an_accept_and_a_pause(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Each that is turned away is closed unread; the next one is looked at a pause later."""
    peers = Peers(await a_listener(tmp_path), without_bounds=())
    peers.nobody(os.geteuid())
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peers.accept)
        for _ in range(10):
            with closing(socket.socket(socket.AF_UNIX)) as stranger:
                stranger.connect(str(tmp_path / "s"))
                stranger.setblocking(False)
                stream = trio.SocketStream(trio.socket.from_stdlib_socket(stranger.dup()))
                assert await stream.receive_some(1) == b""
                await stream.aclose()
        assert trio.current_time() - began >= 9 * PAUSE_S
        nursery.cancel_scope.cancel()
    await peers.aclose()


@pytest.mark.parametrize("bounded", [True, False])
async def test_an_account_has_few_connections_and_the_pools_own_has_as_many_as_it_likes(
    tmp_path: Path, bounded: bool
) -> None:
    uid, asked = os.geteuid(), 3 * PEER_CONNECTIONS_MAX
    peers = Peers(await a_listener(tmp_path), () if bounded else (uid,))
    let_in = PEER_CONNECTIONS_MAX if bounded else asked
    clients, streams = [], []

    async def accept_all() -> None:
        while True:
            streams.append(await peers.accept())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_all)
        for _ in range(asked):
            clients.append(await trio.open_unix_socket(str(tmp_path / "s")))
        for client in clients[let_in:]:
            assert await client.receive_some(1) == b""
        while len(streams) < let_in:
            await trio.lowlevel.checkpoint()
        peers.left(uid)
        assert peers._may(uid)
        nursery.cancel_scope.cancel()
    assert len(streams) == let_in
    for stream in (*clients, *streams):
        await stream.aclose()
    await peers.aclose()


async def a_listener(home: Path) -> trio.SocketListener:
    (home / "s").unlink(missing_ok=True)
    listening = trio.socket.socket(trio.socket.AF_UNIX)
    await listening.bind(str(home / "s"))
    listening.listen(64)
    return trio.SocketListener(listening)
