"""`POST /api/v1/power/signal` at a real door: by who has the secret alone, as docs/power.md says."""

import hashlib
import hmac
import os
import re
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import pytest
import trio

from pool.books.store import Store
from pool.people.authentication import Authentication
from pool.people.refusals import Refusals, Refused
from pool.people.wrong_tokens import FREE_TRIES
from pool.power.curtailment import asking
from pool.power.curtailment.durations import USUAL
from pool.power.signals.settings import SignalSettings
from pool.power.signals.signals import Signals
from pool.web.access import web_app
from pool.web.door import Door
from pool.web.power_signal import PATH, signal_route
from stratum.miners.listening.listeners import Endpoint
from tests.histories.power import add_container
from tests.stages.signals import HOUR_S, iso
from tests.stages.waiting import PATIENCE_S

HERE: Final = Endpoint(host="127.0.0.1", port=0)
SECRET: Final = "0123456789abcdef0123456789abcdef"
DOCUMENT: Final = Path(__file__).parents[3] / "docs" / "power.md"


class Grid:
    """Whoever calls, at a pool with a site in the north. `since_s`: how long ago it was started."""

    def __init__(self, store: Store, directory: Path, *, secret: bool = True) -> None:
        self.store, self.secret = store, directory / "grid.secret"
        self.secret.write_text(f"{SECRET}\n")
        self.secret.chmod(0o600)
        with store.write() as connection:
            add_container(connection, "acme.c01", 2, site="north", now_s=int(time.time()) - 100)
        self.refusals = Refusals(0.0)
        self.authentication = Authentication(store, self.refusals, wall_clock=time.time, clock=lambda: 0.0)
        settings = SignalSettings(webhook_secret=self.secret if secret else None)
        self.signals = Signals(store, settings, dry_run=False, durations=USUAL, wall_clock=time.time)
        self.client = httpx.AsyncClient(timeout=PATIENCE_S)

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Grid"]:
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery, self.client:
                app = web_app([signal_route(self.signals.webhook, self.authentication)])
                address = await nursery.start(Door(HERE).run, app)
                self.url = f"http://127.0.0.1:{address[1]}"
                yield self
                nursery.cancel_scope.cancel()

    async def call(self, secret: str = SECRET, at_s: int | None = None, **changed: Any) -> httpx.Response:
        now_s = int(time.time())
        it = {
            "reference": "grid-0412",
            "site": "north",
            "target": "everything",
            "from": iso(now_s),
            "until": iso(now_s + HOUR_S),
            "ramp_s": 300,
        }
        body = msgspec.json.encode({"version": 1, "curtail": it | changed})
        return await self.send(body, now_s if at_s is None else at_s, secret)

    async def send(self, body: bytes, at_s: int, secret: str = SECRET) -> httpx.Response:
        signed = hmac.new(secret.encode(), b"%d.%s" % (at_s, body), hashlib.sha256).hexdigest()
        headers = {"Angara-Signature": f"t={at_s},v1={signed}"}
        return await self.client.post(f"{self.url}{PATH}", content=body, headers=headers)

    def events(self) -> list[tuple[str, str]]:
        return [(it.reference, it.target) for it in asking.standing(self.store, "webhook", 0)]


async def test_a_signed_call_is_an_event_and_its_restoration_ends_it(books: Store, tmp_path: Path) -> None:
    async with Grid(books, tmp_path).open() as grid:
        first = await grid.call()
        assert (first.status_code, first.json()) == (200, {"reference": "grid-0412", "words": "asked"})
        assert grid.events() == [("grid-0412", "everything")]
        restore = msgspec.json.encode({"version": 1, "restore": {"reference": "grid-0412"}})
        ended = await grid.send(restore, int(time.time()))
        assert ended.json() == {"reference": "grid-0412", "words": "restored"}


async def test_who_has_no_secret_is_answered_the_same_whatever_is_wrong_and_counted(
    books: Store, tmp_path: Path
) -> None:
    async with Grid(books, tmp_path).open() as grid:
        answers = [
            await grid.client.post(f"{grid.url}{PATH}", content=b"{}"),
            await grid.call("another secret of thirty-two byte"),
            await grid.call(at_s=int(time.time()) - 400),
            await grid.call(at_s=int(time.time()) + 400),
        ]
        assert {(it.status_code, it.text) for it in answers} == {(401, answers[0].text)}
        assert answers[0].json()["error"] == "Angara-Signature is wrong, or is not of now"
        for _ in range(FREE_TRIES):
            last = await grid.call("another secret of thirty-two byte")
        assert last.status_code == 429
        assert grid.refusals.counted(Refused.GUESSED) == 4 + FREE_TRIES
        assert grid.events() == []
        assert (await grid.call()).status_code == 200  # who has it does not wait for who guesses


async def test_what_is_refused_is_told_in_words_to_who_has_the_secret(books: Store, tmp_path: Path) -> None:
    async with Grid(books, tmp_path).open() as grid:
        for changed, words in (
            ({"site": "east"}, "there is no site 'east'"),
            ({"until": iso(int(time.time()) + 5 * HOUR_S)}, "it is longer than 4 h"),
            ({"target": "limit"}, "limit_kw is for target = limit, which needs it"),
            ({"more": 1}, "unknown field `more`"),
        ):
            answer = await grid.call(**changed)
            assert answer.status_code == 400
            assert words in answer.json()["error"]
            (source,) = grid.signals.sources
            assert words in source.refused
        long = await grid.send(b" " * 5_000, int(time.time()))
        assert (long.status_code, long.json()["error"]) == (413, "a call has at most 4096 bytes")
        assert grid.events() == []


async def test_where_the_settings_have_no_secret_there_is_nothing(books: Store, tmp_path: Path) -> None:
    async with Grid(books, tmp_path, secret=False).open() as grid:
        answer = await grid.call()
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_path")
        assert grid.events() == []


@pytest.mark.parametrize("wrong", ["mode", "short", "gone", "link to a device"])
async def test_a_secret_that_others_may_read_or_that_is_none_lets_nobody_in(
    books: Store, tmp_path: Path, wrong: str
) -> None:
    async with Grid(books, tmp_path).open() as grid:
        if wrong == "mode":
            grid.secret.chmod(0o640)
        elif wrong == "short":
            grid.secret.write_text(SECRET[:31])
        else:
            grid.secret.unlink()
        if wrong == "link to a device":
            grid.secret.symlink_to(os.devnull)
        answer = await grid.call(SECRET[:31] if wrong == "short" else "" if "link" in wrong else SECRET)
        assert (answer.status_code, answer.json()["code"]) == (503, "ours")
        assert SECRET[:8] not in answer.text
        (source,) = grid.signals.sources
        assert str(grid.secret) in source.refused
        assert SECRET[:8] not in source.refused
        assert grid.events() == []


async def test_another_secret_in_the_file_is_the_secret_from_then_on(books: Store, tmp_path: Path) -> None:
    async with Grid(books, tmp_path).open() as grid:
        assert (await grid.call()).status_code == 200
        grid.secret.write_text("x" * 40)
        assert (await grid.call(reference="next")).status_code == 401
        assert (await grid.call("x" * 40, reference="next")).status_code == 200


async def test_curl_and_openssl_call_as_the_document_says(books: Store, tmp_path: Path) -> None:
    script = re.search(r"```sh\n(.*?curl .*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert script is not None
    async with Grid(books, tmp_path).open() as grid:
        text = script[1].replace("https://pool.example.com:8443", grid.url)
        assert grid.url in text

        def run() -> Any:
            done = subprocess.run(["sh", "-euc", text], cwd=tmp_path, capture_output=True, text=True)
            assert not done.returncode, done.stderr
            return msgspec.json.decode(done.stdout)

        assert await trio.to_thread.run_sync(run) == {"reference": "grid-0412", "words": "asked"}
        assert grid.events() == [("grid-0412", "limit")]
