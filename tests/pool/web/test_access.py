"""Every path that a pool answers: who is let in to it, and who is not."""

import re
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import pytest
from jsonschema import Draft202012Validator

import pool.main
from pool.admin.commands import COMMANDS, execute
from pool.admin.desk import Desk
from pool.admin.operators import ALONE
from pool.books.changes.changes import newest_changes
from pool.books.store import Store
from pool.people.roles import Role, host_account
from pool.web.access import Access, WebRoute, web_app
from tests.judges.answers import Published
from tests.stages.plant import plant
from tests.stages.waiting import PATIENCE_S

# Each path with whom it is for. Behind /api/v1/NAME every command asks for its own role (test_commands).
OF_COMMANDS: Final = ("/api/v1/{name}", "/api/v1/{noun}.{verb}")
PATHS: Final = {
    ("GET", "/"): (Access.ANYBODY, None),
    ("GET", "/page/{digest}/{name}"): (Access.ANYBODY, None),
    ("GET", "/healthz"): (Access.ANYBODY, None),
    ("GET", "/readyz"): (Access.ANYBODY, None),
    ("GET", "/metrics"): (Access.SCRAPER, None),
    ("GET", "/api/v1/openapi.json"): (Access.ANYBODY, None),
    ("POST", "/api/v1/login"): (Access.ANYBODY, None),
    ("POST", "/api/v1/logout"): (Access.ANYBODY, None),
    ("GET", "/api/v1/session"): (Access.ANYBODY, None),
    ("POST", "/api/v1/readings"): (Access.BEARER, None),
    ("POST", "/api/v1/{name}"): (Access.BEARER, None),
    ("GET", "/api/v1/{noun}.{verb}"): (Access.BEARER, None),
    ("GET", "/api/v1/map"): (Access.BEARER, Role.TENANT),
    ("GET", "/api/v1/figures"): (Access.BEARER, Role.TENANT),
    ("GET", "/api/v1/figures/history"): (Access.BEARER, Role.TENANT),
    ("GET", "/api/v1/events"): (Access.BEARER, Role.TENANT),
    ("GET", "/api/v1/machines"): (Access.BEARER, Role.TENANT),
    ("GET", "/api/v1/machine/{name:path}"): (Access.BEARER, Role.TENANT),
    ("POST", "/api/v1/power/signal"): (Access.ANYBODY, None),
}


async def test_every_path_takes_the_token_and_the_role_that_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    routes: list[WebRoute] = []

    def noted(given: tuple[WebRoute, ...], *rest: Any) -> Any:
        routes.extend(given)
        return web_app(given, *rest)

    monkeypatch.setattr(pool.main, "web_app", noted)
    async with plant(tmp_path) as site:
        assert {(it.method, it.path): (it.access, it.least) for it in routes} == PATHS
        desk = Desk(site.store, "regtest", site.running.live)
        tokens = [token_of(desk, role) for role in ("metrics", Role.TENANT)]
        assert site.running.web is not None
        base = f"http://127.0.0.1:{site.running.web[1]}"
        async with httpx.AsyncClient(base_url=base, timeout=PATIENCE_S) as client:
            for it in routes:
                if it.access is not Access.BEARER or it.least is None:
                    continue
                path = re.sub(r"{[^}]*}", "acme.c01.u0", it.path)
                statuses = [(await asked(client, path, token)).status_code for token in (None, *tokens)]
                least = it.least.rank > Role.TENANT.rank
                assert statuses[0] in (401, 429), path  # which is for who was told so too often
                assert statuses[1] == 403, path
                assert statuses[2] in ((403,) if least else (200, 404)), path


async def test_every_path_is_told_of_and_answers_what_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is live is asked for in tests/pool/dashboard/test_dashboard.py, which judges each answer so."""
    routes: list[WebRoute] = []

    def noted(given: tuple[WebRoute, ...], *rest: Any) -> Any:
        routes.extend(given)
        return web_app(given, *rest)

    monkeypatch.setattr(pool.main, "web_app", noted)
    async with plant(tmp_path) as site:
        assert site.running.web is not None
        desk = Desk(site.store, "regtest", site.running.live)
        token = token_of(desk, Role.TENANT)
        base = f"http://127.0.0.1:{site.running.web[1]}"
        async with httpx.AsyncClient(base_url=base, timeout=PATIENCE_S) as client:
            published = Published((await client.get("/api/v1/openapi.json")).json())
            for schema in published.document["components"]["schemas"].values():
                Draft202012Validator.check_schema(schema)
            told = {
                (method.upper(), path)
                for path, operations in published.document["paths"].items()
                for method in operations
                if path.removeprefix("/api/v1/") not in COMMANDS
            }
            assert told == {
                (it.method, it.path.replace(":path}", "}")) for it in routes if it.path not in OF_COMMANDS
            }
            for it in routes:
                if it.path in OF_COMMANDS:
                    assert it.told is None
                    continue
                operation = published.document["paths"][it.path.replace(":path}", "}")][it.method.lower()]
                assert operation.get("x-least-role") == it.least
                assert (operation.get("security") == []) == (it.access is Access.ANYBODY)
            # Nothing but a command changes what is in the books, readings of meters, which say who pushed
            # each, and what is signed with a secret that nobody has here: logging in and out are a browser's.
            assert {it.path for it in routes if it.method != "GET"} == {
                "/api/v1/{name}",
                "/api/v1/readings",
                "/api/v1/login",
                "/api/v1/logout",
                "/api/v1/power/signal",
            }
            before = changes_in(site.store)
            page = {"Origin": base, "X-Angara": "1"}
            for method, path, headers, body in (
                ("GET", "/", {}, None),
                ("GET", "/healthz", {}, None),
                ("GET", "/readyz", {}, None),
                ("GET", "/metrics", {}, None),
                ("GET", "/api/v1/session", {}, None),
                ("GET", "/api/v1/machine/nobody.c01.u0", {"Authorization": f"Bearer {token}"}, None),
                ("GET", "/api/v1/session", {"Authorization": "Bearer x"}, None),
                ("POST", "/api/v1/login", page, {"token": token}),
                ("POST", "/api/v1/login", page, {"token": "x"}),
                ("GET", "/api/v1/map", {}, None),
                ("POST", "/api/v1/login", page, {}),
                ("POST", "/api/v1/logout", page, {}),
                ("POST", "/api/v1/power/signal", {}, {}),
            ):
                answer = await client.request(method, path, headers=headers, json=body)
                media = answer.headers["content-type"]
                published.judge(method, path, answer.status_code, media, answer.content)
            assert changes_in(site.store) == before


def changes_in(store: Store) -> int:
    with store.read() as connection:
        return len(newest_changes(connection, None, None))


def token_of(desk: Desk, role: str) -> str:
    """Of a new user of that role, or whose token has that scope."""
    scope = {"scope": role} if role == "metrics" else {}
    user = {"role": Role.VIEWER} if role == "metrics" else {"role": role, "tenant": "acme"}
    for command, params in (
        ("user.add", {"name": f"the {role}", **user}),
        ("token.create", {"user": f"the {role}", "label": "test", **scope}),
    ):
        made = execute(desk, command, msgspec.json.encode(params), host_account("olga", ALONE))
    token: str = made["token"]
    return token


async def asked(client: httpx.AsyncClient, path: str, token: str | None) -> httpx.Response:
    """With its head alone: a stream has no end."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with client.stream("GET", path, headers=headers) as response:
        return response
