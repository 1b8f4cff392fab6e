"""Commands: the same through a running pool's socket and on the data directory without one."""

import os
import re
import sqlite3
import stat
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import trio
from msgspec import inspect
from sqlalchemy import Connection, insert
from sqlalchemy.exc import OperationalError

from payouts.schemas.money import containers, rate_hours, workers
from pool.admin.commands import COMMANDS, execute
from pool.admin.desk import ROWS_MAX, Desk
from pool.admin.fleet.machines import (
    ContainerList,
    ContainerRemove,
    ContainerSet,
    SiteList,
    WorkerList,
    WorkerRemove,
    WorkerShow,
)
from pool.admin.fleet.tenants import TenantAdd, TenantList, TenantSetStatus, TenantSetTerms, TenantShow
from pool.admin.live import Live
from pool.admin.operators import ALONE
from pool.admin.server import serve_admin
from pool.books.journal.rate_epochs import WorkPrice, rate_of
from pool.books.store import Store
from pool.data_dir import DataDirError, admin_socket, database_url, held
from pool.fleet.hashrate import HashrateBook
from pool.fleet.registry import Registry, UnlistedWorker
from pool.fleet.rows import RegistryError, insert_new, load
from pool.http_server import BODY_BYTES_MAX
from pool.people.roles import host_account
from pool.settings_tables import bare
from stratum.miners.contracts import Admitted, Refusal
from tests.fakes.edges import EdgeWithoutMiners, edges_of
from tests.fakes.owners import ConnectionFrom
from tests.fixtures.databases import store_in
from tests.stages.command_line import angara, ask_books
from tests.stages.prices import open_epoch
from tests.stages.waiting import PATIENCE_S

USUAL: dict[Any, Any] = {
    inspect.StrType: "a",
    inspect.IntType: 1,
    inspect.FloatType: 1.0,
    inspect.BoolType: True,
    inspect.ListType: [],
    inspect.VarTupleType: [],
    inspect.DateType: "2026-01-01",
}


def a_value(kind: inspect.Type) -> Any:
    return kind.values[0] if isinstance(kind, inspect.LiteralType) else USUAL[type(kind)]


ADDRESS = "bcrt1qk3e2yekshkyuzdcx5sfjena3da7rh87tay47fm"


class RunningPool:
    """The parts of a pool that commands touch, with its lock held and its socket listening."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.changed: list[str] = []
        self.store: Store | None = None
        self.fault: Exception | None = None
        self.reads: list[int] = []  # rows of each

    def commit(self) -> None:
        """Rows for what is new, as journal and fold write them."""
        assert self.store is not None
        with self.store.write() as connection:
            insert_new(connection, self.registry.collect_new(), 0)
        self.registry.rowless.clear()


class DeskOfThisPool(Desk, frozen=True):
    """Fails when it is told to, and counts the rows of what it reads."""

    pool: RunningPool | None = None

    def read(self, work: Callable[[Connection], Any]) -> Any:
        assert self.pool is not None
        if self.pool.fault is not None:
            raise self.pool.fault
        found = super().read(work)
        rows = found[1] if isinstance(found, tuple) and len(found) == 2 else found
        self.pool.reads.append(len(rows) if isinstance(rows, list) else 1)
        return found


class EdgeThatNumbersBeyondAllRows(EdgeWithoutMiners):
    """As a captured one does."""

    async def unlisted(
        self, after: int, tenant_id: int | None, container: str | None, rows_max: int
    ) -> list[UnlistedWorker]:
        return [self._made_up]

    async def find_unlisted(self, tenant: str, container: str, unit: str) -> UnlistedWorker | None:
        return self._made_up

    _made_up = UnlistedWorker(
        id=1 << 40,
        tenant_id=1,
        tenant="acme",
        container="c01",
        unit="u1",
        agent=None,
        first_seen_at_s=None,
        new=False,
    )


@asynccontextmanager
async def running(
    data_dir: Path, edge: type[EdgeWithoutMiners] = EdgeWithoutMiners
) -> AsyncIterator[RunningPool]:
    with held(data_dir):
        store = store_in(data_dir)
        with store.read() as connection:
            pool = RunningPool(Registry(load(connection)))
        hashrates = HashrateBook(pool.registry, trio.current_time())
        edges = edges_of(edge(pool.registry))
        live = Live(pool.registry, hashrates, edges, lambda view: pool.changed.append(view.name))
        async with trio.open_nursery() as nursery:
            pool.store = store
            desk = DeskOfThisPool(store, "regtest", live, pool=pool)
            await nursery.start(serve_admin, desk, admin_socket(data_dir))
            yield pool
            nursery.cancel_scope.cancel()
        store.close()


async def command(data_dir: Path, name: str, params: Any) -> Any:
    store_in(data_dir).close()
    url = database_url(data_dir)
    return await trio.to_thread.run_sync(ask_books, data_dir, url, "regtest", name, params, "ann")


async def test_a_running_pool_is_changed_at_once_and_the_books_where_none_runs(tmp_path: Path) -> None:
    added = await command(tmp_path, "tenant.add", TenantAdd("acme", address=ADDRESS))
    assert (added["name"], added["status"], added["address"]) == ("acme", "active", ADDRESS)
    async with running(tmp_path) as pool:
        await command(tmp_path, "tenant.add", TenantAdd("borealis", scheme="fpps"))
        assert isinstance(pool.registry.admit("borealis.c01.u1", "", ConnectionFrom()), Admitted)
        await command(tmp_path, "tenant.set-status", TenantSetStatus("acme", False))
        assert isinstance(pool.registry.admit("acme.c01.u1", "", ConnectionFrom()), Refusal)
        await command(tmp_path, "tenant.set-terms", TenantSetTerms("acme", fee_bps=50))
        assert pool.changed == ["borealis", "acme", "acme"]
        made = await command(tmp_path, "container.set", ContainerSet("acme", "c01", "Bratsk", 400))
        assert (made["site"], made["units"]) == ("Bratsk", 400)
        sites = await command(tmp_path, "site.list", SiteList())
        assert [(site["name"], site["units"]) for site in sites] == [("Bratsk", 400)]
        listed = await command(tmp_path, "tenant.list", TenantList())
        assert [row["name"] for row in listed] == ["acme", "borealis"]
        assert await command(tmp_path, "worker.list", WorkerList("acme")) == []
    await command(tmp_path, "tenant.set-status", TenantSetStatus("acme", True))
    shown = await command(tmp_path, "tenant.show", TenantShow("acme"))
    assert (shown["status"], shown["fee_bps"], shown["workers"]) == ("active", 50, 0)


async def test_a_machine_that_an_edge_numbers_as_it_likes_costs_no_room(tmp_path: Path) -> None:
    """A row is made for each number up to the largest: by one of some billions the hub had no memory left."""
    await command(tmp_path, "tenant.add", TenantAdd("acme", address=ADDRESS))
    async with running(tmp_path, EdgeThatNumbersBeyondAllRows):
        (row,) = await command(tmp_path, "worker.list", WorkerList())
        shown = await command(tmp_path, "worker.show", WorkerShow("acme.c01.u1"))
    assert (row["name"], shown["name"]) == ("acme.c01.u1", "acme.c01.u1")


async def test_only_the_owner_may_use_the_socket(tmp_path: Path) -> None:
    async with running(tmp_path):
        mode = os.stat(admin_socket(tmp_path)).st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
    assert not admin_socket(tmp_path).exists()


async def test_a_socket_left_behind_by_a_kill_is_in_nobodys_way(tmp_path: Path) -> None:
    admin_socket(tmp_path).touch()
    await command(tmp_path, "tenant.add", TenantAdd("acme"))
    async with running(tmp_path):
        assert len(await command(tmp_path, "tenant.list", TenantList())) == 1


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("tenant.add", TenantAdd("acme"), "already"),
        ("tenant.add", TenantAdd("Bad Name"), "tenant name"),
        ("tenant.add", TenantAdd("new", scheme="ponzi"), "pps, fpps, solo, proxy"),
        ("tenant.add", TenantAdd("new", fee_bps=10_001), "basis points"),
        ("tenant.add", TenantAdd("new", address="bc1nonsense"), "bc1nonsense"),
        ("tenant.show", TenantShow("nobody"), "no tenant"),
        ("tenant.set-terms", TenantSetTerms("acme", payout_minimum_sat=-1), "minimum"),
        ("container.set", ContainerSet("acme", ""), "name"),
        ("worker.show", WorkerShow("acme.c01.u1"), "no worker"),
        ("tenant.delete", TenantList(), "no command"),
    ],
)
async def test_mistakes_are_answered_in_words_on_both_ways(
    tmp_path: Path, name: str, params: Any, words: str
) -> None:
    await command(tmp_path, "tenant.add", TenantAdd("acme"))
    with pytest.raises(RegistryError, match=words):
        await command(tmp_path, name, params)
    async with running(tmp_path):
        with pytest.raises(RegistryError, match=words):
            await command(tmp_path, name, params)
        assert len(await command(tmp_path, "tenant.list", TenantList())) == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"name":5}', b'{"name":"x","id":1}', b"[" * 50_000, b"\xff"],
)
async def test_a_body_that_is_no_command_is_refused(tmp_path: Path, body: bytes) -> None:
    async with running(tmp_path):
        transport = httpx.AsyncHTTPTransport(uds=str(admin_socket(tmp_path)))
        async with httpx.AsyncClient(transport=transport, timeout=PATIENCE_S) as client:
            response = await client.post("http://angara/v1/tenant.add", content=body)
            assert response.status_code == 400
            assert "error" in response.json()
            large = await client.post("http://angara/v1/tenant.add", content=b"x" * (BODY_BYTES_MAX + 1))
            assert large.status_code == 413


async def test_no_body_is_no_parameters(tmp_path: Path) -> None:
    async with running(tmp_path):
        transport = httpx.AsyncHTTPTransport(uds=str(admin_socket(tmp_path)))
        async with httpx.AsyncClient(transport=transport, timeout=PATIENCE_S) as client:
            response = await client.post("http://angara/v1/tenant.list")
            assert (response.status_code, response.json()) == (200, [])


def test_two_processes_cannot_hold_one_directory(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(DataDirError, match="another process"), held(tmp_path):
        pass
    with held(tmp_path):
        pass


def test_a_path_that_no_socket_can_have_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(DataDirError, match="too long"):
        admin_socket(tmp_path / ("x" * 120))


def test_a_text_that_a_database_does_not_take_is_the_callers_mistake(tmp_path: Path) -> None:
    """Whoever may ask the least would have the pool say that its database fails: PostgreSQL knows no NUL."""
    texts = 0
    with closing(store_in(tmp_path)) as store:
        desk = Desk(store, "regtest")
        for name, command in COMMANDS.items():
            params = inspect.type_info(command.params)
            assert isinstance(params, inspect.StructType)
            fields = {it.name: bare(it.type) for it in params.fields}
            usual = {it.name: a_value(fields[it.name]) for it in params.fields if it.required}
            for field in (field for field, kind in fields.items() if isinstance(kind, inspect.StrType)):
                body = msgspec.json.encode(usual | {field: "a\0b"})
                with pytest.raises(RegistryError, match=r"has a character that is none|matching regex"):
                    execute(desk, name, body, host_account("ann", ALONE))
                texts += 1
    assert texts > 30


def test_a_new_tenant_that_fails_half_way_is_not_there(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    desk = Desk(store, "regtest")
    with pytest.raises(RegistryError):
        execute(desk, "tenant.add", b'{"name":"acme","address":"nonsense"}', host_account("ann", ALONE))
    assert execute(desk, "tenant.list", b"{}", host_account("ann", ALONE)) == []
    store.close()


# Machines


async def test_a_machine_that_is_authorised_is_in_the_list_at_once(tmp_path: Path) -> None:
    await command(tmp_path, "tenant.add", TenantAdd("acme"))
    async with running(tmp_path) as pool:
        for unit in ("u1", "u2"):
            admission = pool.registry.admit(f"acme.c01.{unit}", "cgminer", ConnectionFrom())
            assert isinstance(admission, Admitted)
            if unit == "u2":
                pool.registry.prove(admission.worker)  # it has a share, and a row with the next fold
        rows = await command(tmp_path, "worker.list", WorkerList("acme", "c01"))
        assert [(row["name"], row["agent"], row["new"]) for row in rows] == [
            ("acme.c01.u1", "cgminer", True),
            ("acme.c01.u2", "cgminer", None),
        ]
        assert (await command(tmp_path, "worker.show", WorkerShow("acme.c01.u1")))["new"]
        assert await command(tmp_path, "worker.list", WorkerList("acme", "c02")) == []


async def test_thousands_of_machines_are_listed_a_page_at_a_time(tmp_path: Path) -> None:
    """Those with a row and those without, each once and by number; a page costs what a page costs."""
    await command(tmp_path, "tenant.add", TenantAdd("acme"))
    store = store_in(tmp_path)
    with store.write() as connection:
        connection.execute(insert(containers).values(id=1, tenant_id=1, name="c01", created_at_s=0))
        row = {"tenant_id": 1, "container_id": 1, "first_seen_at_s": 0, "last_seen_at_s": 0}
        connection.execute(
            insert(workers), [row | {"id": number, "unit": f"u{number}"} for number in range(1, 20_001)]
        )
    store.close()
    async with running(tmp_path) as pool:
        new = [pool.registry.admit(f"acme.c02.{i}", "", ConnectionFrom(f"10.0.0.{i}")) for i in range(200)]
        assert not any(isinstance(it, Refusal) for it in new)
        before = len(pool.reads)
        first = await command(tmp_path, "worker.list", WorkerList())
        assert [row["id"] for row in first] == list(range(1, ROWS_MAX + 1))
        last = await command(tmp_path, "worker.list", WorkerList(after=19_990))
        assert [row["name"] for row in last[:10]] == [f"acme.c01.u{n}" for n in range(19_991, 20_001)]
        assert [row["name"] for row in last[10:]] == [f"acme.c02.{i}" for i in range(200)]
        rows_read = pool.reads[before:]
        assert max(rows_read) <= ROWS_MAX + 1


def test_a_unit_with_the_markup_of_a_table_is_listed_as_text(tmp_path: Path) -> None:
    ask_books(tmp_path, database_url(tmp_path), "regtest", "tenant.add", TenantAdd("acme"), "ann")
    store = store_in(tmp_path)
    hostile = ("[/x]", "[red]u[/red]", "\u202egnp.exe", "a\nb")
    with store.write() as connection:
        connection.execute(insert(containers).values(id=1, tenant_id=1, name="[/]", created_at_s=0))
        row = {"tenant_id": 1, "container_id": 1, "first_seen_at_s": 0, "last_seen_at_s": 0, "agent": "[/y]"}
        connection.execute(insert(workers), [row | {"unit": unit} for unit in hostile])
    store.close()
    shown = angara(tmp_path, "worker", "list").output
    for text in ("acme.[/].[/x]", "acme.[/].[red]u[/red]", r"\u202egnp.exe", r"a\x0ab", "[/y]"):
        assert text in shown
    assert len([line for line in shown.splitlines() if "acme." in line]) == len(hostile)
    assert "[/x]" in angara(tmp_path, "worker", "show", "acme.[/].[/x]").output


def test_machines_of_a_container_are_listed_by_the_name_that_messages_have(tmp_path: Path) -> None:
    for name in ("acme", "zeta"):
        ask_books(tmp_path, database_url(tmp_path), "regtest", "tenant.add", TenantAdd(name), "ann")
    with closing(store_in(tmp_path)) as store, store.write() as connection:
        for number in (1, 2):
            of = {"tenant_id": number, "created_at_s": 0}
            connection.execute(insert(containers).values(id=number, name="c0.1", **of))
            row = {"tenant_id": number, "container_id": number, "first_seen_at_s": 0, "last_seen_at_s": 0}
            connection.execute(insert(workers).values(unit="u1", **row))

    def listed(*options: str) -> list[str]:
        return re.findall(r"^\S+u1\b", angara(tmp_path, "worker", "list", *options).output, re.MULTILINE)

    assert listed("--container", "zeta.c0.1") == ["zeta.c0.1.u1"]
    assert listed("--tenant", "acme", "--container", "c0.1") == ["acme.c0.1.u1"]
    assert (
        "there is no tenant 'acmee'" in angara(tmp_path, "worker", "list", "--container", "acmee.c01").output
    )


async def test_figures_say_since_when_and_the_books_total_stands_beside_them(tmp_path: Path) -> None:
    await command(tmp_path, "tenant.add", TenantAdd("acme"))
    store = store_in(tmp_path)
    with store.write() as connection:
        epoch = open_epoch(connection, WorkPrice(nbits=0x17034219, subsidy_sat=5_000_000_000), 1, 0)
        rate = rate_of(connection, epoch, 1).rate_id
        for hour, shares in ((10, 7), (12, 5)):
            connection.execute(
                insert(rate_hours).values(
                    rate_id=rate, hour=hour, difficulty_log2=0, shares=shares, settled=0, undelivered=0
                )
            )
    store.close()
    shown = await command(tmp_path, "tenant.show", TenantShow("acme"))
    assert (shown["booked_accepted"], shown["booked_since_at_s"]) == (12, 36_000)
    async with running(tmp_path) as pool:
        admission = pool.registry.admit("acme.c01.u1", "", ConnectionFrom())
        assert isinstance(admission, Admitted)
        pool.registry.prove(admission.worker)
        shown = await command(tmp_path, "tenant.show", TenantShow("acme"))
        assert abs(shown["counted_since_at_s"] - time.time()) < 3600
        assert (shown["accepted"], shown["booked_accepted"]) == (0, 12)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("tenant.add", b'{"name":"acme","payout_minimum_sat":9223372036854775808}'),
        ("worker.list", b'{"after":99999999999999999999999999}'),
        ("worker.list", b'{"after":-9223372036854775809}'),
    ],
)
async def test_a_number_of_more_than_64_bits_is_refused_in_words(
    tmp_path: Path, name: str, body: bytes
) -> None:
    async with running(tmp_path):
        transport = httpx.AsyncHTTPTransport(uds=str(admin_socket(tmp_path)))
        async with httpx.AsyncClient(transport=transport, timeout=PATIENCE_S) as client:
            response = await client.post(f"http://angara/v1/{name}", content=body)
    assert response.status_code == 400
    assert response.json()["error"]


async def test_a_database_error_or_a_mistake_of_ours_in_a_command_is_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as pool:
        for error, words in (
            (OperationalError("x", None, sqlite3.OperationalError("disk I/O error")), "disk I/O error"),
            (ZeroDivisionError(), "mistake of ours"),
        ):
            pool.fault = error
            with pytest.raises(RegistryError, match=words):
                await command(tmp_path, "tenant.list", TenantList())
        pool.fault = None
        assert await command(tmp_path, "tenant.list", TenantList()) == []


async def test_commands_that_read_do_so_side_by_side_and_a_pool_waits_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await command(tmp_path, "tenant.add", TenantAdd("acme"))
    monkeypatch.setattr("pool.data_dir.READERS_WAIT_S", 0.0)
    with held(tmp_path, reading=True):
        assert len(await command(tmp_path, "tenant.list", TenantList())) == 1
        with pytest.raises(DataDirError, match="another process"), held(tmp_path):
            pass
    with held(tmp_path), pytest.raises(DataDirError), held(tmp_path, reading=True):
        pass
    with held(tmp_path):
        pass


async def test_what_is_removed_leaves_lists_and_quotas_and_is_itself_again_when_it_mines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pool.fleet.registry.WORKERS_PER_TENANT_MAX", 2)
    await command(tmp_path, "tenant.add", TenantAdd("acme"))
    async with running(tmp_path) as pool:
        numbers = []
        for unit in ("u1", "u2"):
            admission = pool.registry.admit(f"acme.c01.{unit}", "", ConnectionFrom())
            assert isinstance(admission, Admitted)
            numbers.append(admission.worker)
            pool.registry.prove(admission.worker)
        pool.commit()
        assert isinstance(pool.registry.admit("acme.c01.u3", "", ConnectionFrom()), Refusal)
        with pytest.raises(RegistryError, match="no worker"):
            await command(tmp_path, "worker.remove", WorkerRemove("acme.c01.u9"))
        await command(tmp_path, "worker.remove", WorkerRemove("acme.c01.u1"))
        pool.registry.newcomers.forget(pool.registry.newcomers.gone)  # as the next commit does
        listed = await command(tmp_path, "worker.list", WorkerList())
        assert [row["name"] for row in listed] == ["acme.c01.u2"]
        assert pool.registry.tenant_of(numbers[0]) == 1  # what an upstream still says of its shares
        fresh = pool.registry.admit("acme.c01.u3", "", ConnectionFrom())
        assert isinstance(fresh, Admitted)
        assert fresh.worker not in numbers
        again = pool.registry.admit("acme.c01.u1", "", ConnectionFrom())
        assert isinstance(again, Admitted)
        assert again.worker == numbers[0]
    with closing(store_in(tmp_path)) as store, store.read() as connection:
        later = Registry(load(connection))
    assert set(later.workers) == {numbers[1]}
    assert later.admit("acme.c01.u1", "", ConnectionFrom()) == again
    later.prove(again.worker)
    store = store_in(tmp_path)
    with store.write() as connection:
        insert_new(connection, later.collect_new(), 0)
    with store.read() as connection:
        assert set(Registry(load(connection)).workers) == set(numbers)
    store.close()
    gone = await command(tmp_path, "container.remove", ContainerRemove("acme", "c01"))
    assert gone["workers"] == 2
    assert await command(tmp_path, "container.list", ContainerList()) == []
    assert await command(tmp_path, "worker.list", WorkerList()) == []
