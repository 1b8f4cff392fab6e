"""Somebody guesses tokens, shows one that has ended, or knocks at the socket: it is on record, in few rows.

A thief with as many addresses and tries as he likes costs the book a named number of rows a day, and nobody a
moment. Clocks are the test's own; what goes over HTTP goes through the pool's own door.
"""

import os
import stat
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import trio
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from pool.admin.commands import execute
from pool.admin.desk import Desk
from pool.admin.operators import ALONE
from pool.admin.people.refusal_record import RefusalRecord
from pool.admin.server import serve_admin
from pool.books.audit.verify import verify
from pool.books.changes.changes import ChangeRow, newest_changes
from pool.books.store import Store
from pool.data_dir import admin_socket
from pool.people.authentication import LOOKED_UP_S, Authentication, WrongToken
from pool.people.refusals import (
    HOUR_S,
    ROWS_A_DAY_MAX,
    SOURCES_KEPT_MAX,
    SOURCES_TOLD_MAX,
    TOLD_AT,
    RefusalRow,
    Refusals,
    Refused,
)
from pool.people.roles import host_account
from pool.web.access import web_app
from pool.web.commands import command_routes
from pool.web.door import Door
from stratum.miners.listening.listeners import Endpoint
from tests.fixtures.databases import store_in
from tests.stages.command_line import angara
from tests.stages.plant import plant
from tests.stages.waiting import PATIENCE_S

HERE, THERE = "192.0.2.1", "198.51.100.7"
NONE_OF_OURS = "angara_99_" + "a" * 43
AT_ONCE = TOLD_AT[Refused.GUESSED]


class StoreThatIsAway(Store):
    """No transaction of a writer begins, while it is."""

    def __init__(self, whole: Store) -> None:
        super().__init__(whole.engine)
        self.away = False

    @contextmanager
    def write(self) -> Iterator[Connection]:
        if self.away:
            raise OperationalError("BEGIN", None, ConnectionError("nobody is there"))
        with super().write() as connection:
            yield connection


class House:
    """Books, who looks at tokens, and the record of what he saw."""

    def __init__(self, store: Store) -> None:
        self.store = StoreThatIsAway(store)
        self.now_s, self.wall_s = 1_000.0, time.time()
        refusals = Refusals(self.now_s)
        clocks: dict[str, Any] = {"wall_clock": lambda: self.wall_s, "clock": lambda: self.now_s}
        self.refusals = refusals
        self.authentication = Authentication(self.store, refusals, **clocks)
        self.record = RefusalRecord(self.store, refusals, **clocks)

    def give(self, command: str, /, **params: Any) -> Any:
        desk = Desk(self.store, "regtest")
        given = execute(desk, command, msgspec.json.encode(params), host_account("olga", ALONE))
        self.authentication.load()
        return given

    def token(self, user: str) -> str:
        made: str = self.give("token.create", user=user, label="test")["token"]
        return made

    def guess(self, token: str = NONE_OF_OURS, address: str = HERE, times: int = 1) -> None:
        for _ in range(times):
            with pytest.raises(WrongToken):
                self._show(token, address)

    def _show(self, token: str, address: str) -> None:
        self.authentication.caller(self.authentication.recognised(address, token), address)

    async def later(self, seconds: float) -> None:
        """As much time, with the looks that are in it."""
        self.now_s += seconds
        self.wall_s += seconds
        await self.record.look()

    def rows(self) -> list[ChangeRow]:
        """What was noted that is no command's."""
        with self.store.read() as connection:
            return [row for row in newest_changes(connection, None, None) if row.changed_by == "nobody"]

    def told(self) -> list[tuple[str, str, dict[str, Any] | None]]:
        return [(row.command, row.subject, row.became) for row in self.rows()]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with closing(store_in(tmp_path)) as store:
        it = House(store)
        it.give("user.add", name="vera", role="viewer")
        yield it


def tries(rows: list[RefusalRow]) -> int:
    return sum(row.tries for row in rows)


async def test_who_guesses_is_on_record_at_once_and_then_once_an_hour(house: House) -> None:
    house.token("vera")
    house.guess(times=AT_ONCE - 1)
    await house.later(5)
    assert not house.told(), "people paste wrong"
    house.guess("angara_1_" + "b" * 43)
    with capture_logs() as logs:
        await house.later(5)
    first = {"tries": AT_ONCE, "over_s": 10, "unknown": AT_ONCE - 1, "token 1": 1}
    assert house.told() == [("token.guessed", HERE, first)]
    assert [(it["event"], it["log_level"], it["counts"]) for it in logs] == [("not_let_in", "warning", first)]
    assert house.rows()[0].source == HERE
    for _ in range(70):
        house.guess()
        await house.later(60)
    assert [became["tries"] for _, _, became in house.told() if became] == [AT_ONCE, 60]


async def test_a_few_wrong_ones_are_in_the_sum_of_the_hour(house: House) -> None:
    house.guess()
    house.guess(address=THERE, times=2)
    await house.later(HOUR_S - 1)
    assert not house.told()
    await house.later(1)
    assert house.told() == [
        ("token.guessed", "others", {"tries": 3, "over_s": 3600, "sources": 2, "unknown": 3})
    ]
    await house.later(HOUR_S)
    assert len(house.told()) == 1, "nothing happened since"


async def test_a_token_that_has_ended_is_told_of_at_the_first_try_whoever_guesses_beside_it(
    house: House,
) -> None:
    """Who has it had a right one: that is no guess, and guesses take no place of it."""
    revoked, suspended = house.token("vera"), house.token("vera")
    house.give("token.revoke", user="vera", number=1)
    for n in range(2 * SOURCES_TOLD_MAX):
        house.guess(address=f"10.0.0.{n}", times=AT_ONCE)
    house.guess(revoked, THERE)
    house.give("user.set-status", name="vera", active=False)
    house.guess(suspended, HERE)
    await house.later(5)
    told = [(subject, became) for command, subject, became in house.told() if command == "token.ended"]
    assert told == [
        (THERE, {"tries": 1, "over_s": 5, "token 1": 1}),
        (HERE, {"tries": 1, "over_s": 5, "token 2": 1}),
    ]


async def test_a_token_that_has_ended_is_looked_up_once_in_a_while(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has one that was revoked, or whose user is suspended, costs a thread now and then."""
    token = house.token("vera")
    house.give("user.set-status", name="vera", active=False)
    house.guess(token)
    asked = []
    monkeypatch.setattr(house.authentication, "caller", lambda *it: asked.append(it))
    house.guess(token, times=20)
    assert not asked
    house.now_s += LOOKED_UP_S
    assert house.authentication.recognised(HERE, token) == 1


async def test_a_thief_with_a_thousand_addresses_leaves_a_few_rows_a_day_and_slows_nobody(
    house: House,
) -> None:
    """100,000 guesses in an hour: what he leaves is bounded, and every one is in it."""
    token = house.token("vera")
    addresses = [f"10.1.{n // 250}.{n % 250}" for n in range(1_000)]
    guesses = [NONE_OF_OURS, "angara_1_" + "b" * 43, "", "angara_7_" + "c" * 43]
    count = 0
    for turn in range(100):
        for address in addresses:
            try:
                house.authentication.recognised(address, guesses[turn % len(guesses)])
            except WrongToken:
                count += 1
        assert house.authentication.recognised(THERE, token) == 1, "nobody waits for him"
        await house.later(36)
    await house.later(HOUR_S)
    assert count == 100_000
    told = house.told()
    assert len(told) <= 3 * (SOURCES_TOLD_MAX + 1)
    assert sum(became["tries"] for _, _, became in told if became) == count
    assert sum(became.get("token 1", 0) for _, _, became in told if became) == count // 4


def test_what_he_leaves_in_a_day_has_a_bound_however_he_goes_about_it() -> None:
    """Other addresses all the time, of all kinds, over a day: rows, memory, and no try that is in none."""
    now_s, number, written, counted = 0.0, 0, Counter[str](), 0
    refusals = Refusals(now_s)
    for _ in range(24 * 12):
        now_s += 300.0
        for refused in Refused:
            for _ in range(3):
                number += 1
                for token in range(20):
                    refusals.count(now_s, refused, str(number), token)
                    counted += 1
        rows = refusals.take(now_s)
        written["rows"] += len(rows)
        written["tries"] += tries(rows)
        assert all(len(it.tokens) <= 8 for it in rows)
    assert written["rows"] <= ROWS_A_DAY_MAX
    assert written["rows"] > ROWS_A_DAY_MAX // 2, "or this thief was none"
    assert written["tries"] + tries(refusals.take(now_s, last=True)) == counted
    for n in range(3 * SOURCES_KEPT_MAX):
        refusals.count(now_s, Refused.GUESSED, str(n))
    assert len(refusals._of[Refused.GUESSED]._tried) == SOURCES_KEPT_MAX
    assert tries(refusals.take(now_s, last=True)) == 3 * SOURCES_KEPT_MAX


async def test_what_was_shown_is_nowhere_and_the_record_is_proved_as_all_changes_are(
    house: House, capfd: pytest.CaptureFixture[str]
) -> None:
    token = house.token("vera")
    secret = token.split("_", 2)[2]
    almost = token[:-1] + ("A" if token[-1] != "A" else "B")
    house.guess(almost, times=AT_ONCE)
    house.guess(f"{secret}", THERE, times=AT_ONCE)
    house.give("token.revoke", user="vera", number=1)
    house.guess(token)
    with capture_logs() as logs:
        await house.later(5)
    assert len(house.rows()) == 3
    said = capfd.readouterr()
    written = str(house.rows()) + str(logs) + said.out + said.err
    assert secret[:6] not in written
    with house.store.read() as connection:
        assert verify(connection).wrong is None


async def test_while_the_database_is_away_the_rows_wait_and_the_rest_is_counted(house: House) -> None:
    house.store.away = True
    with capture_logs() as logs:
        for _ in range(150):
            house.guess(times=AT_ONCE)
            await house.later(60)
    assert Counter(it["event"] for it in logs) == {"not_let_in": 1, "refusals_not_written": 1}
    house.store.away = False
    await house.later(5)
    await house.later(5)
    assert [became["tries"] for _, _, became in house.told() if became] == [AT_ONCE, 149 * AT_ONCE]
    house.store.away = True
    house.guess()
    await house.later(HOUR_S)
    house.guess(times=2)
    house.store.away = False
    await house.record.look(last=True)
    assert [became["tries"] for _, _, became in house.told() if became][2:] == [1, 2]


async def test_a_pool_that_ends_writes_what_it_has(house: House) -> None:
    house.guess(times=AT_ONCE)
    await house.later(5)
    house.guess(times=3)
    house.guess(address=THERE)
    await house.record.look(last=True)
    assert [(subject, became["tries"]) for _, subject, became in house.told() if became] == [
        (HERE, AT_ONCE),
        (HERE, 3),
        ("others", 1),
    ]


# Through the doors of a pool


@asynccontextmanager
async def open_door(house: House) -> AsyncIterator[str]:
    door = Door(Endpoint(host="127.0.0.1", port=0))
    app = web_app(command_routes(Desk(house.store, "regtest"), house.authentication), house.authentication)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            host, port = await nursery.start(door.run, app)
            yield f"http://{host}:{port}/api/v1/"
            nursery.cancel_scope.cancel()


async def test_over_http_a_right_token_is_let_in_between_guesses_and_a_lesser_role_cannot_pay(
    house: House, tmp_path: Path
) -> None:
    house.give("tenant.add", name="acme")
    token = house.token("vera")
    address = {"name": "acme", "address": "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"}
    async with open_door(house) as url, httpx.AsyncClient(timeout=PATIENCE_S) as client:

        async def ask(shown: str, command: str, params: dict[str, Any]) -> int:
            headers = {"Authorization": f"Bearer {shown}"}
            return (await client.post(url + command, headers=headers, json=params)).status_code

        guesses = []
        for n in range(AT_ONCE + 1):
            guesses.append(await ask(f"angara_1_{n:043}", "tenant.set-address", address))
            assert await ask(token, "tenant.list", {}) == 200
        assert await ask(token, "tenant.set-address", address) == 403
    assert guesses == [401] * (AT_ONCE - 1) + [429] * 2
    await house.later(5)
    (row,) = msgspec.json.decode(angara(tmp_path, "change", "list", "127.0.0.1", "--json").output)
    assert (row["command"], row["changed_by"], row["became"]["token 1"]) == ("token.guessed", "nobody", 6)
    assert "token.guessed" in angara(tmp_path, "change", "list").output


async def test_a_pool_that_runs_has_the_record_and_ends_with_it(tmp_path: Path) -> None:
    async with plant(tmp_path) as site, httpx.AsyncClient(timeout=PATIENCE_S) as client:
        assert site.running.web is not None
        host, port = site.running.web
        url = f"http://{host}:{port}/api/v1/tenant.list"
        assert (await client.post(url, json={})).status_code == 401
    with closing(store_in(tmp_path)) as store, store.read() as connection:
        newest = newest_changes(connection, None, None)[-1]
    assert (newest.command, newest.subject) == ("token.guessed", "others")
    assert newest.became is not None
    assert newest.became["tries"] == newest.became["sources"] == 1


async def test_an_account_that_is_nobodys_is_on_record_and_the_socket_is_the_pools_alone(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pool.admin.operators.operator_of", lambda uid: "mallory")
    monkeypatch.setattr("pool.admin.people.refusal_record.operator_of", lambda uid: "mallory")
    path = admin_socket(tmp_path)

    def refused(uid: int) -> None:
        house.refusals.count(house.now_s, Refused.ACCOUNT, str(uid))

    async def serve(*, task_status: trio.TaskStatus[None]) -> None:
        desk = Desk(house.store, "regtest")
        await serve_admin(desk, path, without_user=(), refused=refused, task_status=task_status)

    async with trio.open_nursery() as nursery:
        await nursery.start(serve)
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, timeout=PATIENCE_S) as client:
            assert (await client.post("http://angara/v1/tenant.list", json={})).status_code == 403
        for _ in range(2):  # turned away without a look
            async with await trio.open_unix_socket(path) as stream:
                assert await stream.receive_some() == b""
        nursery.cancel_scope.cancel()
    await house.later(5)
    assert house.told() == [("account.refused", "account mallory", {"tries": 3, "over_s": 5})]
    assert house.rows()[0].source == "socket"
