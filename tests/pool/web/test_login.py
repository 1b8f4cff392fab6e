"""Logging in on the page: by a right token alone, for this host's own pages, no longer than the token."""

import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import pytest
import trio

from pool.admin.commands import execute
from pool.admin.desk import Desk
from pool.admin.operators import ALONE
from pool.people.authentication import LOOKED_UP_S, Authentication
from pool.people.refusals import Refusals
from pool.people.roles import Caller, host_account
from pool.people.sessions import LIFE_S, Sessions
from pool.people.wrong_tokens import FREE_TRIES
from pool.web.access import COOKIE, web_app
from pool.web.callers import THREADS_MAX
from pool.web.commands import command_routes
from pool.web.door import Door
from pool.web.headers import HEADERS
from pool.web.login import login_routes
from stratum.miners.listening.listeners import Endpoint
from tests.fixtures.databases import store_in
from tests.stages.waiting import PATIENCE_S

HERE: Final = Endpoint(host="127.0.0.1", port=0)
NOW_S: Final = 1_790_000_000

NOBODY = dict.fromkeys(("name", "role", "tenant", "expires_at_s"))


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class House:
    """A door with the books behind it, and a browser that asks as our page does."""

    def __init__(self, desk: Desk, authentication: Authentication, clock: Clock, url: str) -> None:
        self.desk, self.authentication, self.clock, self.url = desk, authentication, clock, url
        self.browser = httpx.AsyncClient(
            base_url=url, headers={"Origin": url, "X-Angara": "1"}, timeout=PATIENCE_S
        )

    def give(self, command: str, /, **params: Any) -> Any:
        given = execute(self.desk, command, msgspec.json.encode(params), host_account("olga", ALONE))
        self.authentication.load()
        return given

    def token(self, user: str, **params: Any) -> str:
        made: str = self.give("token.create", user=user, label="test", **params)["token"]
        return made

    async def login(self, token: str, **headers: str) -> httpx.Response:
        return await self.browser.post("/api/v1/login", json={"token": token}, headers=headers)

    async def ask(self, command: str, /, headers: dict[str, str] | None = None, **params: Any) -> int:
        answer = await self.browser.post(f"/api/v1/{command}", json=params, headers=headers)
        return answer.status_code

    async def session(self) -> Any:
        return (await self.browser.get("/api/v1/session")).json()


@asynccontextmanager
async def opened(data_dir: Path) -> AsyncIterator[House]:
    with closing(store_in(data_dir)) as store:
        clock = Clock()
        authentication = Authentication(store, Refusals(0.0), wall_clock=time.time, clock=clock)
        sessions, desk, door = Sessions(clock=lambda: 0.0), Desk(store, "regtest"), Door(HERE)
        routes = (
            *login_routes(authentication, sessions, lambda: NOW_S),
            *command_routes(desk, authentication),
        )
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                address = await nursery.start(door.run, web_app(routes, authentication, sessions))
                house = House(desk, authentication, clock, f"http://127.0.0.1:{address[1]}")
                house.give("tenant.add", name="acme")
                house.give("user.add", name="vera", role="operator")
                house.give("user.add", name="tina", role="tenant", tenant="acme")
                async with house.browser:
                    yield house
                nursery.cancel_scope.cancel()


async def test_however_many_ask_who_they_are_few_threads_wait_for_the_books(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One customer with his token: it had all threads that others wait for."""
    async with opened(tmp_path) as house:
        token, caller = house.token("tina"), house.authentication.caller
        turn, asking, most = threading.Lock(), 0, 0

        def slowly(number: int, address: str) -> Caller:
            nonlocal asking, most
            with turn:
                asking += 1
                most = max(most, asking)
            time.sleep(0.2)
            with turn:
                asking -= 1
            return caller(number, address)

        monkeypatch.setattr(house.authentication, "caller", slowly)
        bearer = {"authorization": f"Bearer {token}"}
        async with trio.open_nursery() as nursery:
            for _ in range(4):  # connections of strangers are few
                nursery.start_soon(partial(house.browser.get, "/api/v1/session", headers=bearer))
                nursery.start_soon(house.login, token)
        assert most <= THREADS_MAX


async def test_who_shows_a_token_is_known_by_a_cookie_until_he_leaves(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        assert await house.session() == NOBODY
        token = house.token("tina")
        assert (await house.login(token)).json() | {"expires_at_s": 0} == {
            "name": "tina",
            "role": "tenant",
            "tenant": "acme",
            "expires_at_s": 0,
        }
        assert await house.session() == {
            "name": "tina",
            "role": "tenant",
            "tenant": "acme",
            "expires_at_s": NOW_S + LIFE_S,
        }
        assert await house.ask("tenant.show", name="acme") == 200
        assert await house.ask("tenant.show", name="zeta") == 403
        stolen = dict(house.browser.cookies)
        assert (await house.browser.post("/api/v1/logout")).json() == NOBODY
        assert not house.browser.cookies
        house.browser.cookies.update(stolen)
        assert await house.ask("tenant.show", name="acme") == 401


async def test_no_script_reads_the_cookie_and_no_other_site_has_it_sent(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        said = (await house.login(house.token("vera"))).headers["set-cookie"]
        cookie = SimpleCookie(said)[COOKIE]
        assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "strict", "/")
        assert (cookie["secure"], int(cookie["max-age"])) == ("", LIFE_S)
        host = house.url.partition("://")[2]
        said = (await house.login(house.token("vera"), Origin=f"https://{host}")).headers["set-cookie"]
        assert SimpleCookie(said)[COOKIE]["secure"] is True


async def test_nothing_but_our_own_cookie_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quotes of 16 KB took Python half a second of the miners' loop, for whoever asked. Now they are not
    looked into; what stands beside ours takes nothing from it."""

    def unquoted(text: str) -> str:
        assert "\\" not in text
        return text

    monkeypatch.setattr("http.cookies._unquote", unquoted)
    quotes = 'a="' + '\\"' * 7_000 + '"'
    async with opened(tmp_path) as house:
        stranger = await house.browser.get("/api/v1/session", headers={"Cookie": quotes})
        assert stranger.json() == NOBODY
        refused = await house.browser.post("/api/v1/user.list", json={}, headers={"Cookie": quotes})
        assert refused.status_code == 401
        assert (await house.browser.post("/api/v1/logout", headers={"Cookie": quotes})).json() == NOBODY
        made = SimpleCookie((await house.login(house.token("tina"))).headers["set-cookie"])
        house.browser.cookies.clear()
        ours = f"{COOKIE}={made[COOKIE].value}"
        for cookies in (
            f"{quotes}; {ours}",
            f"{ours};{quotes}",
            f"x{COOKIE}=1; {ours} ; b=2",
            f"{COOKIE}=; {ours}",
        ):
            told = await house.browser.get("/api/v1/session", headers={"Cookie": cookies})
            assert told.json()["name"] == "tina", cookies


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Angara": ""},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Host": "evil.example"},
    ],
    ids=str,
)
async def test_a_page_of_somebody_else_changes_nothing_and_logs_nobody_in(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    async with opened(tmp_path) as house:
        token = house.token("vera")
        assert (await house.login(token, **headers)).status_code == 403
        await house.login(token)
        assert await house.ask("tenant.set-status", name="acme", active=False, headers=headers) == 403
        assert await house.ask("tenant.list", headers=headers) == 403
        assert (await house.browser.post("/api/v1/logout", headers=headers)).status_code == 403
        assert await house.ask("tenant.set-status", name="acme", active=False) == 200


async def test_wrong_tokens_wait_here_as_they_do_in_a_header(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        right, wrong = house.token("vera"), f"angara_1_{'a' * 43}"
        for _ in range(FREE_TRIES - 1):
            assert (await house.login(wrong)).status_code == 401
        refused = await house.login(wrong)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert (await house.login(right)).status_code == 200  # who has the right one never waits
        for _ in range(2 * FREE_TRIES):  # a session that is over is no guess
            house.browser.cookies.set(COOKIE, "x" * 43, domain="127.0.0.1")
            assert (await house.browser.get("/api/v1/session")).status_code == 401


async def test_a_session_is_over_with_its_token_and_its_user(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        await house.login(house.token("vera"))
        assert await house.ask("tenant.list") == 200
        house.give("user.set-status", name="vera", active=False)
        assert await house.ask("tenant.list") == 401
        house.give("user.set-status", name="vera", active=True)
        house.clock.now_s += LOOKED_UP_S
        assert await house.ask("tenant.list") == 200
        house.give("user.set-role", name="vera", role="viewer")
        assert await house.ask("tenant.set-status", name="acme", active=False) == 403
        house.give("token.revoke", user="vera", number=1)
        assert await house.ask("tenant.list") == 401
        assert (await house.browser.get("/api/v1/session")).status_code == 401


async def test_a_programs_token_and_nonsense_log_nobody_in(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        refused = await house.login(house.token("vera", scope="metrics"))
        assert (refused.status_code, refused.headers.get("set-cookie")) == (403, None)
        deep = b'{"token": "", "x": ' + b"[" * 60_000
        for body in (b"", b"[]", b"\xff", b'{"token": 7}', b'{"token": "", "name": "vera"}', deep):
            answer = await house.browser.post("/api/v1/login", content=body)
            assert (answer.status_code, answer.json()["code"]) == (400, "refused"), body[:80]


async def test_every_answer_tells_browsers_to_run_nothing_of_others(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        for path in ("/", "/api/v1/session", "/api/v1/openapi.json"):
            answer = await house.browser.get(path)
            public = {"Cache-Control": "no-cache"} if "openapi" in path else {}  # nobody's: it may be kept
            expected = HEADERS | public
            assert {name: answer.headers.get(name) for name in HEADERS} == expected, path
        refused = await house.browser.post("/api/v1/tenant.list")
        assert {name: refused.headers.get(name) for name in HEADERS} == HEADERS
