"""Commands: the same through a running pool's socket and on the data directory without one."""

import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from pool.admin import commands
from pool.admin.client import ask
from pool.admin.commands import Desk, execute
from pool.admin.server import BODY_BYTES_MAX, serve_admin
from pool.data_dir import DataDirError, admin_socket, database_url, held
from pool.hashrate import HashrateBook
from pool.live import Live
from pool.registry import Registry
from pool.registry_store import RegistryError, load
from pool.store import open_store
from stratum.services import Admission, Refusal
from tests.owners import ConnectionFrom

ADDRESS = "bcrt1qk3e2yekshkyuzdcx5sfjena3da7rh87tay47fm"


class RunningPool:
    """The parts of a pool that commands touch, with its lock held and its socket listening."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.changed: list[str] = []


@asynccontextmanager
async def running(data_dir: Path) -> AsyncIterator[RunningPool]:
    with held(data_dir):
        store = open_store(database_url(data_dir))
        with store.read() as connection:
            pool = RunningPool(Registry(load(connection)))
        hashrates = HashrateBook(pool.registry, trio.current_time())
        live = Live(pool.registry, hashrates, lambda view: pool.changed.append(view.name))
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_admin, Desk(store, "regtest", live), admin_socket(data_dir))
            yield pool
            nursery.cancel_scope.cancel()
        store.close()


async def command(data_dir: Path, name: str, params: Any) -> Any:
    url = database_url(data_dir)
    return await trio.to_thread.run_sync(ask, data_dir, url, "regtest", name, params)


async def test_every_command_works_without_a_pool_and_with_one(tmp_path: Path) -> None:
    added = await command(tmp_path, "tenant.add", commands.TenantAdd("acme", "ann", address=ADDRESS))
    assert (added["name"], added["status"], added["address"]) == ("acme", "active", ADDRESS)
    async with running(tmp_path) as pool:
        await command(tmp_path, "tenant.add", commands.TenantAdd("borealis", "ann", scheme="fpps"))
        assert isinstance(pool.registry.admit("borealis.c01.u1", "", ConnectionFrom()), Admission)
        await command(tmp_path, "tenant.set-status", commands.TenantSetStatus("acme", False))
        assert isinstance(pool.registry.admit("acme.c01.u1", "", ConnectionFrom()), Refusal)
        await command(tmp_path, "tenant.set-terms", commands.TenantSetTerms("acme", "bob", fee_bps=50))
        assert pool.changed == ["borealis", "acme", "acme"]
        made = await command(tmp_path, "container.set", commands.ContainerSet("acme", "c01", "Bratsk", 400))
        assert (made["site"], made["units"]) == ("Bratsk", 400)
        sites = await command(tmp_path, "site.list", commands.SiteList())
        assert [(site["name"], site["units"]) for site in sites] == [("Bratsk", 400)]
        listed = await command(tmp_path, "tenant.list", commands.TenantList())
        assert [row["name"] for row in listed] == ["acme", "borealis"]
        assert await command(tmp_path, "worker.list", commands.WorkerList()) == []
    await command(tmp_path, "tenant.set-status", commands.TenantSetStatus("acme", True))
    shown = await command(tmp_path, "tenant.show", commands.TenantShow("acme"))
    assert (shown["status"], shown["fee_bps"], shown["workers"]) == ("active", 50, 0)


async def test_only_the_owner_may_use_the_socket(tmp_path: Path) -> None:
    async with running(tmp_path):
        mode = os.stat(admin_socket(tmp_path)).st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
    assert not admin_socket(tmp_path).exists()


async def test_a_socket_left_behind_by_a_kill_is_in_nobodys_way(tmp_path: Path) -> None:
    admin_socket(tmp_path).touch()
    await command(tmp_path, "tenant.add", commands.TenantAdd("acme", "ann"))
    async with running(tmp_path):
        assert len(await command(tmp_path, "tenant.list", commands.TenantList())) == 1


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("tenant.add", commands.TenantAdd("acme", "ann"), "already"),
        ("tenant.add", commands.TenantAdd("Bad Name", "ann"), "tenant name"),
        ("tenant.add", commands.TenantAdd("new", "ann", scheme="ponzi"), "pps, fpps, solo, proxy"),
        ("tenant.add", commands.TenantAdd("new", "ann", fee_bps=10_001), "basis points"),
        ("tenant.add", commands.TenantAdd("new", "ann", address="bc1nonsense"), "bc1nonsense"),
        ("tenant.show", commands.TenantShow("nobody"), "no tenant"),
        ("tenant.set-terms", commands.TenantSetTerms("acme", "ann", payout_minimum_sat=-1), "minimum"),
        ("container.set", commands.ContainerSet("acme", ""), "name"),
        ("worker.show", commands.WorkerShow("acme.c01.u1"), "no worker"),
        ("tenant.delete", commands.TenantList(), "no command"),
    ],
)
async def test_mistakes_are_answered_in_words_on_both_ways(
    tmp_path: Path, name: str, params: Any, words: str
) -> None:
    await command(tmp_path, "tenant.add", commands.TenantAdd("acme", "ann"))
    with pytest.raises(RegistryError, match=words):
        await command(tmp_path, name, params)
    async with running(tmp_path):
        with pytest.raises(RegistryError, match=words):
            await command(tmp_path, name, params)
        assert len(await command(tmp_path, "tenant.list", commands.TenantList())) == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"name":5,"by":"x"}', b'{"name":"x","by":"x","id":1}', b"[" * 50_000, b"\xff"],
)
async def test_a_body_that_is_no_command_is_refused(tmp_path: Path, body: bytes) -> None:
    async with running(tmp_path):
        transport = httpx.AsyncHTTPTransport(uds=str(admin_socket(tmp_path)))
        async with httpx.AsyncClient(transport=transport) as client:
            response = await client.post("http://angara/v1/tenant.add", content=body)
            assert response.status_code == 400
            assert "error" in response.json()
            large = await client.post("http://angara/v1/tenant.add", content=b"x" * (BODY_BYTES_MAX + 1))
            assert large.status_code == 413


def test_two_processes_cannot_hold_one_directory(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(DataDirError, match="another process"), held(tmp_path):
        pass
    with held(tmp_path):
        pass


def test_a_path_that_no_socket_can_have_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(DataDirError, match="too long"):
        admin_socket(tmp_path / ("x" * 120))


def test_a_new_tenant_that_fails_half_way_is_not_there(tmp_path: Path) -> None:
    store = open_store(database_url(tmp_path))
    desk = Desk(store, "regtest")
    with pytest.raises(RegistryError):
        execute(desk, "tenant.add", b'{"name":"acme","by":"ann","address":"nonsense"}')
    assert execute(desk, "tenant.list", b"{}") == []
    store.close()
