"""Commands over TCP: every one takes a token whose user may give it, and a wrong one costs nothing."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final, cast

import httpx
import msgspec
import pytest
import trio
from starlette.requests import Request
from starlette.responses import Response
from structlog.testing import capture_logs

from pool.admin.commands import COMMANDS, execute
from pool.admin.desk import Desk, LivePool
from pool.admin.operators import ALONE
from pool.books.changes.changes import newest_changes
from pool.http_server import json_response
from pool.people.authentication import Authentication
from pool.people.refusals import Refusals
from pool.people.roles import Role, host_account
from pool.people.wrong_tokens import FREE_TRIES
from pool.web.access import Access, WebRoute, web_app
from pool.web.commands import command_routes
from pool.web.door import Door
from stratum.miners.listening.listeners import Endpoint
from stratum.miners.turns.connection_limits import Standing
from tests.fixtures.databases import store_in
from tests.stages.waiting import PATIENCE_S

HERE: Final = Endpoint(host="127.0.0.1", port=0)
GUESS: Final = "angara_1_" + "a" * 43


async def figures(_: Request) -> Response:
    return json_response("figures")


SCRAPED: Final = WebRoute("/figures", Access.SCRAPER, figures)


class House:
    """A door with the books behind it, and a token of everybody's."""

    def __init__(self, desk: Desk, authentication: Authentication, door: Door) -> None:
        self.desk, self.authentication, self.door = desk, authentication, door

    def give(self, command: str, /, **params: Any) -> Any:
        """As the pool's account, on its host."""
        given = execute(self.desk, command, msgspec.json.encode(params), host_account("olga", ALONE))
        self.authentication.load()
        return given

    def token(self, user: str, **params: Any) -> str:
        made: str = self.give("token.create", user=user, label="test", **params)["token"]
        return made

    async def ask(
        self, token: str | None, command: str, /, key: str | None = None, **params: Any
    ) -> httpx.Response:
        assert self.door.address is not None
        url = f"http://127.0.0.1:{self.door.address[1]}/api/v1/{command}"
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        headers |= {} if key is None else {"Idempotency-Key": key}
        async with httpx.AsyncClient(headers=headers, timeout=PATIENCE_S) as client:
            return await client.post(url, json=params)


@asynccontextmanager
async def opened(data_dir: Path) -> AsyncIterator[House]:
    with closing(store_in(data_dir)) as store:
        authentication = Authentication(store, Refusals(0.0), wall_clock=time.time, clock=lambda: 0.0)
        desk = Desk(store, "regtest")
        it = Door(HERE)
        house = House(desk, authentication, it)
        house.give("tenant.add", name="acme")
        for role in (Role.VIEWER, Role.OPERATOR, Role.ADMIN):
            house.give("user.add", name=f"the {role}", role=role)
        house.give("user.add", name="the tenant", role="tenant", tenant="acme")
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                await nursery.start(
                    it.run, web_app((SCRAPED, *command_routes(desk, authentication)), authentication)
                )
                yield house
                nursery.cancel_scope.cancel()


async def test_every_command_takes_a_token_and_the_role_that_it_says(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        token = house.token("the viewer")
        for name, command in COMMANDS.items():
            refused = await house.ask(token, name, nonsense=1)
            least = command.least.rank
            wanted = (403, "not_permitted") if least > Role.VIEWER.rank else (400, "refused")
            assert (refused.status_code, refused.json()["code"]) == wanted, name
            house.authentication._wrong._tries.clear()  # of each the first
            stranger = await house.ask(None, name)
            assert (stranger.status_code, stranger.json()["code"]) == (401, "unauthorised"), name


async def test_it_is_the_tokens_user_who_gives_the_command_and_from_where_is_written_down(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as house:
        token = house.token("the operator")
        taken = await house.ask(token, "tenant.set-status", name="acme", active=False)
        assert (taken.status_code, taken.json()["status"]) == (200, "suspended")
        with house.desk.store.read() as connection:
            newest = newest_changes(connection, None, None)[-1]
        assert (newest.changed_by, newest.source) == ("the operator", "token 1 from 127.0.0.1")
        own = house.token("the tenant")
        told = await house.ask(own, "tenant.show", name="acme")
        assert (told.status_code, told.json()["name"]) == (200, "acme")
        assert (await house.ask(own, "tenant.show", name="zeta")).status_code == 403
        for body, status, code in (
            ({"name": "zeta"}, 400, "refused"),
            ({"name": "acme", "by": "ann"}, 400, "refused"),
        ):
            answer = await house.ask(token, "tenant.show", **body)
            assert (answer.status_code, answer.json()["code"]) == (status, code)
        nowhere = await house.ask(token, "tenant.burn")
        assert (nowhere.status_code, nowhere.json()["code"]) == (404, "unknown_command")


async def test_a_page_that_asks_all_the_time_leaves_the_log_to_what_changes(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        token = house.token("the operator")
        with capture_logs() as lines:
            await house.ask(token, "tenant.list")
            await house.ask(token, "tenant.set-status", name="acme", active=False)
        told = {it["name"]: it["log_level"] for it in lines if it["event"] == "command"}
        assert told == {"tenant.list": "debug", "tenant.set-status": "info"}


async def test_who_asks_again_with_his_key_is_answered_the_same(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        token, other = house.token("the operator"), house.token("the admin")
        suspend = {"name": "acme", "active": False}
        first = await house.ask(token, "tenant.set-status", key='"8e03978e"', **suspend)
        house.give("tenant.set-status", name="acme", active=True)
        again = await house.ask(token, "tenant.set-status", key="8e03978e", **suspend)
        assert (again.status_code, again.content) == (200, first.content)
        assert house.give("tenant.show", name="acme")["status"] == "active"
        for asked, key, params, status, code in (
            (token, "8e03978e", {"name": "acme", "active": True}, 422, "key_reused"),
            (token, "", suspend, 400, "refused"),
            (token, "a b", suspend, 400, "refused"),
            (token, "k" * 129, suspend, 400, "refused"),
            (other, "8e03978e", {"name": "zeta", "active": False}, 400, "refused"),
        ):
            told = await house.ask(asked, "tenant.set-status", key=key, **params)
            assert (told.status_code, told.json()["code"]) == (status, code), key
        assert (await house.ask(token, "tenant.list", key="8e03978e")).status_code == 200


async def test_a_question_may_be_a_url_and_who_has_the_answer_is_told_so(tmp_path: Path) -> None:
    async with opened(tmp_path) as house, httpx.AsyncClient(timeout=PATIENCE_S) as client:
        assert house.door.address is not None
        base = f"http://127.0.0.1:{house.door.address[1]}/api/v1/"
        viewer = {"Authorization": f"Bearer {house.token('the viewer')}"}
        for name in ("zeta", "beta"):
            house.give("tenant.add", name=name)

        async def get(
            path: str, headers: dict[str, str] = viewer, known: str | None = None
        ) -> httpx.Response:
            condition = {} if known is None else {"If-None-Match": known}
            return await client.get(base + path, headers=headers | condition)

        told = await get("tenant.show?name=acme")
        assert (told.status_code, told.json()["name"]) == (200, "acme")
        assert told.headers["cache-control"] == "private, no-cache"
        listed = await get("worker.list?offline_only=true&limit=5&after=0")
        assert (listed.status_code, listed.json()) == (200, [])

        first = await get("tenant.list?limit=2")
        assert [it["name"] for it in first.json()] == ["acme", "beta"]
        assert first.headers["next-cursor"] in first.headers["link"]
        link = first.headers["link"].removeprefix("</api/v1/").partition(">")[0]
        last = await get(link)
        assert [it["name"] for it in last.json()] == ["zeta"]
        assert "next-cursor" not in last.headers
        assert "link" not in last.headers

        tag = first.headers["etag"]
        for known in (tag, f'"other", {tag}', f"W/{tag}"):
            same = await get("tenant.list?limit=2", known=known)
            assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
            assert same.headers["next-cursor"] == first.headers["next-cursor"]
        house.give("tenant.set-terms", name="acme", fee_bps=7)
        other = await get("tenant.list?limit=2", known=tag)
        assert (other.status_code, other.json()[0]["fee_bps"]) == (200, 7)

        for path, status, code in (
            ("tenant.show?name=acme&name=zeta", 400, "refused"),
            ("tenant.show?who=acme", 400, "refused"),
            ("tenant.list?limit=0", 400, "refused"),
            ("tenant.list?limit=many", 400, "refused"),
            ("tenant.list?cursor=x", 400, "refused"),
            ("tenant.burn", 404, "unknown_command"),
            ("tenant.set-status?name=acme&active=false", 405, "method"),
            ("message.test", 405, "method"),
            ("trace.show?trace=1", 403, "not_permitted"),
        ):
            refused = await get(path)
            assert (refused.status_code, refused.json()["code"]) == (status, code), path
        assert (await get("tenant.list", headers={})).status_code == 401
        assert house.give("tenant.show", name="acme")["status"] == "active"


async def test_whatever_goes_wrong_has_a_code(tmp_path: Path) -> None:
    async with opened(tmp_path) as house, httpx.AsyncClient(timeout=PATIENCE_S) as client:
        assert house.door.address is not None
        base = f"http://127.0.0.1:{house.door.address[1]}"
        for method, path, status, code in (
            ("GET", "/nowhere", 404, "unknown_path"),
            ("PUT", "/api/v1/tenant.list", 405, "method"),
            ("POST", "/api/v1/tenant.list", 401, "unauthorised"),
        ):
            told = await client.request(method, base + path)
            assert (told.status_code, told.json()["code"]) == (status, code)


async def test_what_ends_ends_with_the_next_request(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        token, other = house.token("the viewer"), house.token("the viewer")
        figures = house.token("the viewer", scope="metrics")
        assert (await house.ask(token, "tenant.list")).status_code == 200
        assert (await house.ask(figures, "tenant.list")).status_code == 403
        house.give("token.revoke", user="the viewer", number=1)
        assert (await house.ask(token, "tenant.list")).status_code == 401
        assert (await house.ask(other, "token.create", label="more")).status_code == 403
        assert (await house.ask(other, "token.revoke", number=2)).status_code == 200
        house.authentication.load()
        assert (await house.ask(other, "tenant.list")).status_code == 401


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", GUESS, f"Basic {GUESS}", f"Bearer {GUESS}", "Bearer " + "x" * 9_000],
)
async def test_what_is_no_right_token_is_refused_before_anything_is_read(
    tmp_path: Path, header: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of the body never comes, and the books answer nobody."""
    async with opened(tmp_path) as house:
        house.token("the viewer")
        monkeypatch.setattr(house.authentication, "_books", None)
        assert house.door.address is not None
        async with await trio.open_tcp_stream(*house.door.address) as stream:
            head = f"POST /api/v1/tenant.list HTTP/1.1\r\nHost: x\r\nAuthorization: {header}\r\n"
            await stream.send_all(f"{head}Content-Length: 5000\r\n\r\n{{".encode())
            said = b""
            async for part in stream:
                said += part
        assert b"HTTP/1.1 401" in said
        assert b"the token is wrong, or has ended" in said


async def test_two_tokens_at_once_are_none(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        token = house.token("the viewer")
        assert house.door.address is not None
        url = f"http://127.0.0.1:{house.door.address[1]}/api/v1/tenant.list"
        async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
            twice = [("Authorization", f"Bearer {token}")] * 2
            assert (await client.post(url, headers=twice, json={})).status_code == 401
            assert (await client.post(url, headers=twice[:1], json={})).status_code == 200
            assert (await client.put(url, headers=twice[:1])).status_code == 405


async def test_who_guesses_is_to_wait_loses_his_connection_and_keeps_nobody_out(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        token = house.token("the viewer")
        answers = [await house.ask(GUESS, "tenant.list") for _ in range(FREE_TRIES + 1)]
        assert [it.status_code for it in answers] == [401] * (FREE_TRIES - 1) + [429] * 2
        assert [it.headers.get("retry-after") for it in answers[-2:]] == ["1", "1"]
        assert {it.headers["connection"] for it in answers} == {"close"}
        assert (await house.ask(token, "tenant.list")).status_code == 200


async def test_only_a_right_token_leaves_the_strangers_lane(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        token = house.token("the viewer")
        standings = []
        stands = house.door.limits.stands

        def noted(place: Any, standing: Standing) -> None:
            standings.append(standing)
            stands(place, standing)

        house.door.limits.stands = noted  # type: ignore[method-assign]
        await house.ask(GUESS, "tenant.list")
        assert Standing.FRESH not in standings
        await house.ask(token, "tenant.list")
        assert standings[-1] is Standing.FRESH


async def test_a_token_is_told_to_who_made_it_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with opened(tmp_path) as house:
        token = house.token("the admin")
        told = [(await house.ask(token, name)).text for name in ("token.list", "change.list", "user.list")]
    secret = token.split("_", 2)[2]
    said = capfd.readouterr()
    assert secret not in json.dumps(told) + said.out + said.err


async def test_metrics_are_for_this_host_and_for_whose_token_says_so(tmp_path: Path) -> None:
    """A proxy's header stands for whoever is not on this host."""
    async with opened(tmp_path) as house, httpx.AsyncClient(timeout=PATIENCE_S) as client:
        assert house.door.address is not None
        url = f"http://127.0.0.1:{house.door.address[1]}/figures"

        async def status(token: str | None, **headers: str) -> int:
            shown = {} if token is None else {"Authorization": f"Bearer {token}"}
            return (await client.get(url, headers=shown | headers)).status_code

        elsewhere = {"X-Forwarded-For": "192.0.2.1"}
        assert [await status(None), await status(None, **elsewhere)] == [200, 403]
        for user, scope, wanted in (
            ("the viewer", "metrics", 200),
            ("the viewer", "viewer", 200),
            ("the tenant", "tenant", 403),
        ):
            assert await status(house.token(user, scope=scope), **elsewhere) == wanted, (user, scope)
        assert await status(GUESS, **elsewhere) == 401
        house.give("user.set-status", name="the viewer", active=False)
        assert await status(house.token("the viewer", scope="metrics"), **elsewhere) == 401


async def test_a_running_pool_knows_of_a_token_from_the_command_that_made_it_on(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:

        class Running:
            def tokens_changed(self) -> None:
                house.authentication.load()

        desk = Desk(house.desk.store, "regtest", cast(LivePool, Running()))
        params = msgspec.json.encode({"user": "the viewer", "label": "test"})
        token = execute(desk, "token.create", params, host_account("olga", ALONE))["token"]
        assert (await house.ask(token, "tenant.list")).status_code == 200


async def test_what_the_commands_are_is_told_to_anybody(tmp_path: Path) -> None:
    async with opened(tmp_path) as house, httpx.AsyncClient(timeout=PATIENCE_S) as client:
        assert house.door.address is not None
        url = f"http://127.0.0.1:{house.door.address[1]}/api/v1/openapi.json"
        told = await client.get(url)
        assert (told.status_code, set(told.json()) >= {"openapi", "paths"}) == (200, True)
        assert int(told.headers["content-length"]) < len(told.content) / 5  # packed: each page asks for it
        again = await client.get(url, headers={"If-None-Match": told.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert (await house.ask(None, "openapi.json")).status_code == 401
