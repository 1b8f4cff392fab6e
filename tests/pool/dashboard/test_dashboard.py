"""What a page reads, over HTTP, of a whole pool."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import trio

from pool.admin.commands import execute
from pool.admin.desk import Desk
from pool.admin.operators import ALONE
from pool.dashboard import dashboard, site_map
from pool.people.roles import host_account
from stratum.miners.mining_session import ANEW
from tests.judges.answers import Published
from tests.stages.plant import Plant, plant
from tests.stages.waiting import PATIENCE_S

MAP = "/api/v1/map"
EVENTS = "/api/v1/events"
MACHINES = "/api/v1/machines"


class Looked:
    """A pool, and browsers of its viewers and tenants."""

    def __init__(self, site: Plant) -> None:
        self.site = site
        self.published: Published

    async def read_document(self) -> None:
        """What is said of every answer; those to browsers are held against it."""
        assert self.site.running.web is not None
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.site.running.web[1]}", timeout=PATIENCE_S
        ) as anybody:
            self.published = Published((await anybody.get("/api/v1/openapi.json")).json())

    async def _judge(self, it: httpx.Response) -> None:
        body = await it.aread()
        media = it.headers.get("content-type", "")
        self.published.judge(it.request.method, it.request.url.path, it.status_code, media, body)

    async def give(self, command: str, /, **params: Any) -> Any:
        desk = Desk(self.site.store, "regtest", self.site.running.live)
        body, olga = msgspec.json.encode(params), host_account("olga", ALONE)
        return await trio.to_thread.run_sync(execute, desk, command, body, olga)

    async def browser(self, user: str, **role: Any) -> httpx.AsyncClient:
        await self.give("user.add", name=user, **role)
        token = (await self.give("token.create", user=user, label="test"))["token"]
        assert self.site.running.web is not None
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.site.running.web[1]}",
            headers={"Authorization": f"Bearer {token}"},
            event_hooks={"response": [self._judge]},
            timeout=PATIENCE_S,
        )


@asynccontextmanager
async def looked_at(directory: Path, *, blocks: bool = False) -> AsyncIterator[Looked]:
    async with plant(directory, blocks=blocks) as site:
        looked = Looked(site)
        await looked.read_document()
        yield looked


async def test_the_map_is_sent_once_packed_and_to_each_what_he_may_see(tmp_path: Path) -> None:
    async with looked_at(tmp_path) as it:
        await it.give("tenant.add", name="zeta")
        for name in ("acme.c01.r1s1", "acme.c01.r1s2", "zeta.c07.u"):
            await it.site.mine(await it.site.mining(name))
        async with (
            await it.browser("vera", role="viewer") as vera,
            await it.browser("zoe", role="tenant", tenant="zeta") as zoe,
        ):
            whole = await vera.get(MAP)
            assert whole.headers["Content-Encoding"] == "gzip"
            assert whole.headers["Cache-Control"] == "private, no-cache"
            plain = await vera.get(MAP, headers={"Accept-Encoding": "gzip;q=0, br"})
            assert "Content-Encoding" not in plain.headers
            assert plain.json() == whole.json()
            named = [(of["tenant"], of["name"], of["units"]) for of in whole.json()["containers"]]
            assert named == [("acme", "c01", ["r1s1", "r1s2"]), ("zeta", "c07", ["u"])]
            own = await zoe.get(MAP)
            assert [of["name"] for of in own.json()["containers"]] == ["c07"]
            assert own.json()["version"] == whole.json()["version"]
            for browser, had, status in (
                (vera, whole, 304),
                (zoe, own, 304),
                (zoe, whole, 200),
                (vera, own, 200),
            ):
                again = await browser.get(MAP, headers={"If-None-Match": f'"x", {had.headers["ETag"]}'})
                assert again.status_code == status
                assert (again.content == b"") == (status == 304)


class LookingOn:
    """A page's stream, over a socket of its own."""

    def __init__(self, stream: trio.SocketStream, published: Published) -> None:
        self._stream, self._heard, self._published = stream, b"", published

    async def next(self) -> tuple[str, Any]:
        """Kind, and what is told."""
        while b"\n\n" not in self._heard:
            heard = await self._stream.receive_some()
            assert heard, "it is over"
            self._heard += heard
        event, _, self._heard = self._heard.partition(b"\n\n")
        said = dict(line.split(b": ", 1) for line in event.splitlines() if b": " in line)
        kind, told = said.get(b"event", b"").decode(), msgspec.json.decode(said.get(b"data", b"null"))
        if kind:
            self._published.judge_event(EVENTS, kind, told)
        return kind, told

    async def until(self, *kinds: str) -> dict[str, Any]:
        """The newest of each."""
        found: dict[str, Any] = {}
        while not set(kinds) <= found.keys():
            kind, told = await self.next()
            found[kind] = told
        return found


@asynccontextmanager
async def looking_on(browser: httpx.AsyncClient, published: Published) -> AsyncIterator[LookingOn]:
    assert browser.base_url.port is not None
    async with await trio.open_tcp_stream("127.0.0.1", browser.base_url.port) as stream:
        authorization = browser.headers["Authorization"]
        await stream.send_all(
            f"GET {EVENTS} HTTP/1.1\r\nHost: pool\r\nAuthorization: {authorization}\r\n\r\n".encode()
        )
        yield LookingOn(stream, published)


async def test_who_looks_on_is_told_what_happens_and_a_tenant_nothing_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, names in ((dashboard, ("LOOK_S",)), (site_map, ("LOOK_S", "LAYOUT_S"))):
        for name in names:
            monkeypatch.setattr(module, name, 0.02)
    async with looked_at(tmp_path, blocks=True) as it:
        await it.give("tenant.add", name="zeta")
        await it.site.mining("acme.c01.r1s1")
        async with (
            await it.browser("vera", role="viewer") as vera,
            await it.browser("zoe", role="tenant", tenant="zeta") as zoe,
            looking_on(vera, it.published) as whole,
            looking_on(zoe, it.published) as own,
        ):
            with trio.fail_after(PATIENCE_S):
                await own.until("figures")
                await whole.until("figures")
                found: dict[str, Any] = {}
                while "block" not in found:  # one share in two
                    await it.site.mine(it.site.miners[0])
                    found |= await whole.until("figures")
                told = await own.until("cells", "figures")
            assert found["figures"]["tenants"][0]["name"] == "acme"
            assert found["figures"]["machines"].keys() == {"mining", "slow", "rejecting", "offline"}
            assert found["block"]["height"] == 101
            assert told.keys() == {"figures", "cells"}
            own_figures = {"at_s", "height", "template_age_s", "hashrate_hps", "machines", "shares"}
            assert told["figures"].keys() == own_figures
            now = await zoe.get("/api/v1/figures")
            assert now.json().keys() == own_figures
            assert set(now.json()["machines"].values()) == {0}


async def test_a_machine_tells_where_it_is_and_why_and_lists_are_narrowed(tmp_path: Path) -> None:
    async with looked_at(tmp_path) as it:
        await it.give("tenant.add", name="zeta")
        for name in ("acme.c01.r1s1", "zeta.c07.u/7"):
            await it.site.mine(await it.site.mining(name))
        await it.site.miners[0].close()
        await it.site.mine(await it.site.mining("acme.c01.r1s1"))
        async with (
            await it.browser("vera", role="viewer") as vera,
            await it.browser("zoe", role="tenant", tenant="zeta") as zoe,
        ):
            one = (await vera.get("/api/v1/machine/acme.c01.r1s1")).json()
            assert (one["name"], one["tenant"], one["container"]) == ("acme.c01.r1s1", "acme", "c01")
            [connection] = one["connections"]
            assert (connection["address"], connection["state"]) == ("127.0.0.1", "mining")
            why = [(of["what"], of["reason"]) for of in one["why"]]
            came = [("difficulty", "it had that before"), ("connected", ANEW)]
            assert why[:2] == came or why[:2] == [("difficulty", "where who is new starts"), came[1]]
            assert ("ended", "left") in why
            listed = (await vera.get(MACHINES, params={"sort": "-hashrate", "limit": 1})).json()
            assert (listed["found"], len(listed["machines"])) == (2, 1)
            own = (await zoe.get(MACHINES)).json()
            assert [of["name"] for of in own["machines"]] == ["zeta.c07.u/7"]
            own_one = await zoe.get("/api/v1/machine/zeta.c07.u%2F7")
            assert own_one.json()["name"] == "zeta.c07.u/7"
            for path, status in (
                ("machine/acme.c01.r1s1", 403),
                ("machine/acme.c01.nobody", 403),
                ("machine/zeta.c07.nobody", 404),
                ("machines?tenant=acme", 403),
                ("machines?limit=0", 400),
                ("machines?cursor=x", 400),
            ):
                assert (await zoe.get(f"/api/v1/{path}")).status_code == status, path
            assert (await zoe.get("/api/v1/figures/history")).json().keys() == {"from_s", "step_s", "tenants"}
