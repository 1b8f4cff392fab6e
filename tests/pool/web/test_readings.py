"""Pushing readings of a meter over HTTP: who may, how much, and that nothing counts twice."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import pytest
import trio
from sqlalchemy import select

from payouts.schemas.power import power_readings
from pool.admin.commands import execute
from pool.admin.desk import Desk
from pool.admin.operators import ALONE
from pool.books.store import Store
from pool.fleet.registry_error import RegistryError
from pool.people.authentication import Authentication
from pool.people.refusals import Refusals
from pool.people.roles import host_account
from pool.web.access import web_app
from pool.web.door import Door
from pool.web.readings import READINGS_MAX, readings_route
from stratum.miners.listening.listeners import Endpoint
from tests.fixtures.databases import store_in
from tests.stages.waiting import PATIENCE_S

HERE: Final = Endpoint(host="127.0.0.1", port=0)
NOW_S: Final = int(time.time()) // 3_600 * 3_600 + 600


class House:
    """A door with the books behind it, and tokens of people."""

    def __init__(self, store: Store, authentication: Authentication) -> None:
        self.store, self.authentication = store, authentication
        self.tokens: dict[str, str] = {}
        self.url = ""

    def give(self, command: str, /, **params: Any) -> Any:
        desk = Desk(self.store, "regtest")
        given = execute(desk, command, msgspec.json.encode(params), host_account("olga", ALONE))
        self.authentication.load()
        return given

    async def push(self, who: str | None, *readings: dict[str, Any], meter: str = "box") -> tuple[int, Any]:
        headers = {} if who is None else {"Authorization": f"Bearer {self.tokens[who]}"}
        body = {"meter": meter, "readings": list(readings)}
        async with httpx.AsyncClient(base_url=self.url, timeout=PATIENCE_S) as client:
            answer = await client.post("/api/v1/readings", json=body, headers=headers)
        return answer.status_code, answer.json()

    def there(self) -> list[tuple[int, int | None, str]]:
        of = power_readings.c
        with self.store.read() as connection:
            query = select(of.at_s, of.watts, of.taken_by).order_by(of.at_s)
            return [tuple(row) for row in connection.execute(query)]


@asynccontextmanager
async def opened(tmp_path: Path) -> AsyncIterator[House]:
    with closing(store_in(tmp_path)) as store:
        authentication = Authentication(store, Refusals(0.0), wall_clock=time.time, clock=lambda: 0.0)
        house = House(store, authentication)
        house.give("tenant.add", name="acme")
        house.give("container.set", tenant="acme", name="c01", site="Bratsk")
        for name, role in (("gate", "viewer"), ("vera", "viewer"), ("omar", "operator")):
            house.give("user.add", name=name, role=role)
        house.give("user.add", name="tina", role="tenant", tenant="acme")
        meter = {"name": "box", "containers": ["acme.c01"], "error_bps": 50, "max_kw": 2_000}
        house.give("meter.add", **meter, kind="push", pusher="gate")
        house.give("meter.add", **meter | {"name": "site", "containers": [], "site": "Bratsk"}, kind="csv")
        for name in ("gate", "vera", "omar", "tina"):
            house.tokens[name] = house.give("token.create", user=name, label="test")["token"]
        authentication.load()
        app = web_app((readings_route(store, authentication, wall_clock=lambda: NOW_S),), authentication)
        async with trio.open_nursery() as nursery:
            address = await nursery.start(Door(HERE).run, app)
            house.url = f"http://127.0.0.1:{address[1]}"
            yield house
            nursery.cancel_scope.cancel()


async def test_the_meters_own_gateway_and_operators_push_and_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = {"at_s": NOW_S, "watts": 1_312_000, "counter_wh": 90_133_500}
    async with opened(tmp_path) as house:
        assert (await house.push(None, reading))[0] == 401
        assert await house.push("vera", reading) == (
            403,
            {"error": "vera may not push for this meter", "code": "not_permitted"},
        )
        code, told = await house.push("tina", reading)  # the tenant that the meter is about
        assert (code, "takes the role viewer, and tina has tenant" in told["error"]) == (403, True)
        with monkeypatch.context() as closed:
            closed.delattr(Store, "write")  # nor does he keep others from the books
            assert (await house.push("vera", reading))[0] == 403
        assert house.there() == []
        assert await house.push("gate", reading) == (200, {"meter": "box", "taken": 1})
        assert await house.push("gate", reading) == (200, {"meter": "box", "taken": 0})  # sent again
        assert await house.push("omar", reading | {"at_s": NOW_S - 60}) == (200, {"meter": "box", "taken": 1})
        assert house.there() == [(NOW_S - 60, 1_312_000, "omar"), (NOW_S, 1_312_000, "gate")]
        code, told = await house.push("omar", reading, meter="site")
        assert (code, told["error"]) == (400, "nobody pushes for this meter: it is read in another way")
        code, told = await house.push("gate", reading | {"watts": 5})
        assert (code, "one never changes" in told["error"]) == (400, True)


async def test_what_is_no_push_is_refused_before_anything_is_looked_at(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        many = [{"at_s": NOW_S - 10 * it, "watts": 1} for it in range(READINGS_MAX + 1)]
        for readings in ([], many, [{"at_s": NOW_S, "watts": "much"}], [{"watts": 1}]):
            code, told = await house.push("gate", *readings)
            assert (code, told["error"].startswith("readings: ")) == (400, True), readings[:1]
        assert (await house.push("gate", {"at_s": NOW_S, "watts": 1, "who": "x" * 70_000}))[0] == 413
        code, told = await house.push("gate", {"at_s": NOW_S + 3_600, "watts": 1})
        assert (code, "yet to come" in told["error"]) == (400, True)
        assert (await house.push("gate", *many[:350]))[0] == 200
        assert len(house.there()) == 350


def test_a_tenants_user_is_no_pusher_of_a_meter(tmp_path: Path) -> None:
    with closing(store_in(tmp_path)) as store:
        house = House(store, Authentication(store, Refusals(0.0), wall_clock=time.time, clock=lambda: 0.0))
        house.give("tenant.add", name="acme")
        house.give("container.set", tenant="acme", name="c01", site="Bratsk")
        house.give("user.add", name="tina", role="tenant", tenant="acme")
        meter = {"name": "box", "kind": "push", "site": "Bratsk", "error_bps": 50, "max_kw": 2_000}
        for pusher, words in (("tina", "nobody pushes what he is charged by"), ("nobody", "no user")):
            with pytest.raises(RegistryError, match=words):
                house.give("meter.add", **meter, pusher=pusher)
