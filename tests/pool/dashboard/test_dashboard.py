"""What a page reads, over HTTP, of a whole pool."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import trio

from pool.admin.commands import execute
from pool.admin.desk import Desk
from pool.admin.operators import ALONE
from pool.people.roles import host_account
from tests.stages.plant import Plant, plant

MAP = "/api/v1/map"


class Looked:
    """A pool, and browsers of its viewers and tenants."""

    def __init__(self, site: Plant) -> None:
        self.site = site

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
        )


@asynccontextmanager
async def looked_at(directory: Path) -> AsyncIterator[Looked]:
    async with plant(directory) as site:
        yield Looked(site)


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
