"""docs/operations.md, followed literally on regtest: from an empty machine to a paid tenant.

What is typed, what is written into files and what is clicked stands in the document. Only this is otherwise
here: folders and ports, since no root is needed; the account, which is the one that tests run as; and what
changes the host itself (`HOST_ONLY`) is not done.
"""

import base64
import json
import os
import random
import re
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Final
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Browser, Page

from payouts.rates import PSAT_PER_SAT
from tests.stages.browser import DESK, PATIENCE_MS, chromium, chromium_path
from tests.stages.chapter import Block, Click, Visit, steps_of
from tests.stages.host import Host

pytestmark = pytest.mark.browser

ROOT: Final = Path(__file__).parents[2]
OPERATIONS: Final = ROOT / "docs" / "operations.md"
CHAPTER: Final = "From an empty machine to a paid tenant"
# What a host gets once, and a test must not do to the machine that it runs on.
HOST_ONLY: Final = re.compile(
    r"apt-get (update|install [a-z0-9+ -]+)|ln -s /opt/angara/bin/angara /usr/local/bin/angara"
    r"|install -m 644 systemd/.*|install -d -o angara .*|usermod --append --groups bitcoin angara"
)
START: Final = "systemctl enable --now angara"
SETTINGS: Final = "etc/angara/angara.toml"
NODE_STARTED: Final = "event=regtest_started"
# A share of difficulty 1 would take 2^32 hashes, a block of 50 BTC takes 2^24 of them; less 2 %. Difficulties
# here are powers of two far below, for which it is exact.
DIFFICULTY_1_SAT: Final = 2**8 * 50 * 100_000_000 * 98 // 100
STATEMENT: Final = (
    'angara report statement --tenant acme --from "$(date -u -d yesterday +%F)"'
    ' --to "$(date -u -d tomorrow +%F)" --json 2>/dev/null\n'
)
PICTURES: Final = os.environ.get("PICTURES")  # a folder, for who wants to look


class Reader:
    """Who follows the chapter, and keeps what was printed."""

    def __init__(self, host: Host, browser: Browser, home: Path, url: str) -> None:
        self._host, self._browser, self._home, self._url = host, browser, home, url
        self._pages: dict[str, Page] = {}
        self._pictures = 0
        self.printed: list[str] = []
        self.wrong: list[str] = []  # on the page: files that are not there, scripts that broke

    def follow(self, step: Block | Visit) -> None:
        match step:
            case Visit(user, clicks):
                page = self._page(user)
                for click in clicks:
                    self._click(page, click)
            case Block(_, ("mainnet",), _) | Block("ini", _, _):
                pass
            case Block("toml", ("regtest",), text):
                (self._home / SETTINGS).write_text(self._host.here(text))
            case Block("sh", ("host",), text):
                for line in text.splitlines():
                    if line == START:
                        self._host.start_unit()
                    else:
                        assert HOST_ONLY.fullmatch(line), f"what is to be done about {line!r} on this host?"
            case Block("sh", ("sources",), text):
                self._host.cwd = ROOT
                self.printed.append(self._host.type(text))
                self._host.cwd = self._home
            case Block("sh", ("regtest", "terminal"), text):
                self._host.run_on(text, NODE_STARTED if "angara regtest" in text else None)
            case Block("sh", () | ("regtest",), text):
                self.printed.append(self._host.type(text))
                if (self._home / SETTINGS).parent.exists():
                    self._host.cwd = (self._home / SETTINGS).parent
            case _:
                raise AssertionError(f"nobody knows what to do with {step}")

    def _page(self, user: str) -> Page:
        """A window in which he has logged in with the token from his file."""
        if user not in self._pages:
            context = self._browser.new_context(viewport=DESK)
            context.set_default_timeout(PATIENCE_MS)
            page = self._pages[user] = context.new_page()
            page.on("response", lambda it: self.wrong.append(it.url) if it.status in (404, 500) else None)
            page.on("pageerror", lambda it: self.wrong.append(str(it)))
            page.goto(self._url)
            page.fill("#token", (self._home / f"etc/angara/{user}.token").read_text().strip())
            page.get_by_role("button", name="Log in").click()
            page.wait_for_selector("nav a:nth-child(2)")
        return self._pages[user]

    def _click(self, page: Page, click: Click) -> None:
        """A button opens a form, or sends the one that is open."""
        form = page.locator("dialog")
        if click.value is not None:
            form.get_by_label(click.name, exact=True).fill(click.value)
        elif form.count():
            form.get_by_role("button", name=click.name, exact=True).click()
            form.wait_for(state="detached")
        else:
            link = page.get_by_role("link", name=click.name, exact=True)
            button = page.get_by_role("button", name=click.name, exact=True)
            link.or_(button).first.wait_for()
            if link.count():
                link.first.click()
                page.wait_for_selector(".page h1")
            else:
                button.click()
                form.wait_for()
        if PICTURES:
            self._pictures += 1
            page.wait_for_timeout(500)
            page.screenshot(path=Path(PICTURES) / f"{self._pictures:02}.png", full_page=True)


@pytest.fixture
def browser() -> Iterator[Browser]:
    if chromium_path() is None:
        missing = "there is no Chromium here: on Debian, the package chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    with chromium() as it:
        yield it


def free_port() -> int:
    """None of those from which the system gives them to whoever asks for any."""
    while True:
        port = random.randint(20_000, 30_000)
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def paid_on_chain(host: Host, node: str, txid: str) -> dict[str, int]:
    """What a transaction's first output pays, in satoshi, by address."""
    cookie = host.type("cat /var/lib/angara/regtest/.cookie\n").strip()
    body = json.dumps({"method": "gettxout", "params": [txid, 0]}).encode()
    basic = base64.b64encode(cookie.encode()).decode()
    with urlopen(Request(node, body, {"Authorization": f"Basic {basic}"})) as answer:  # noqa: S310
        output = json.load(answer)["result"]
    return {output["scriptPubKey"]["address"]: round(output["value"] * 100_000_000)}


@contextmanager
def a_host() -> Iterator[tuple[Host, Path, dict[str, int]]]:
    ports = {name: free_port() for name in ("3333", "3380", "18443")}
    with tempfile.TemporaryDirectory(prefix="host-") as directory:
        home = Path(directory)
        folders = {f"/{it}": str(home / it) for it in ("opt/angara", "etc/angara", "var/lib/angara")}
        there = {f":{known}": f":{port}" for known, port in ports.items()}
        substituted = {**folders, **there, "runuser -u angara -- ": ""}
        with Host(home, substituted, home / "opt/angara/bin") as host:
            yield host, home, ports


def test_a_stranger_who_follows_the_chapter_has_paid_a_tenant(browser: Browser) -> None:
    with a_host() as (host, home, ports):
        reader = Reader(host, browser, home, f"http://127.0.0.1:{ports['3380']}/")
        for step in steps_of(OPERATIONS, CHAPTER):
            reader.follow(step)
        *_, statement = reader.printed
        assert re.search(r"^ok: \d+ transactions", statement, re.MULTILINE)
        assert not reader.wrong
        rates = json.loads(host.type(STATEMENT))["statement"]["rates"]
        credit = sum(Fraction(it["credit_psat"], PSAT_PER_SAT) + it["credit_sat"] for it in rates)
        assert credit == sum(Fraction(it["work"]) for it in rates) * DIFFICULTY_1_SAT > 0
        batch = json.loads(host.type("angara payout show 1 --json\n"))
        assert (batch["state"], batch["created_by"]) == ("final", "ann")
        assert [it["approved_by"] for it in batch["approvals"]] == ["bob"]
        (output,), (attempt,) = batch["outputs"], batch["attempts"]
        assert f"\n{attempt['txid']}:0" in statement
        paid = paid_on_chain(host, f"http://127.0.0.1:{ports['18443']}", attempt["txid"])
        assert paid == {output["address"]: output["amount_sat"]}
        etc = home / "etc/angara"
        assert (etc / "acme.pdf").read_bytes().startswith(b"%PDF")
        assert {stat.S_IMODE((etc / f"{it}.token").stat().st_mode) for it in ("ann", "bob")} == {0o600}
