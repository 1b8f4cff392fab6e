"""The page in a real browser: who is let in to what, what strangers call their machines, and whom it serves.

One pool and one browser for all of it; each test has a window of its own.
"""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from pool.web.files import page_files
from tests.stages.browser import DESK, PAGES, PATIENCE_MS, PHONE, chromium, chromium_path, go, log_in
from tests.stages.page_house import HOSTILE, TENANTS, House, page_house

pytestmark = pytest.mark.browser

AXE: Final = Path(__file__).parents[3] / "node_modules" / "axe-core" / "axe.min.js"
Window = Callable[..., Page]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with page_house(tmp_path_factory.mktemp("house")) as it:
        yield it


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if chromium_path() is None:
        missing = "there is no Chromium here: on Debian, the package chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    with chromium() as it:
        yield it


@pytest.fixture
def window(browser: Browser, house: House) -> Iterator[Window]:
    """A window in which a user has logged in; what goes wrong in it is an error."""
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    def opened(user: str | None = "ada", **how: Any) -> Page:
        context = browser.new_context(**{"viewport": DESK} | how)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if "Security Policy" in said.text else None)
        page.on("request", lambda asked: None if asked.url.startswith(house.url) else wrong.append(asked.url))
        if user is not None:
            log_in(page, house, user)
        else:
            page.goto(house.url)
            page.wait_for_selector("form.login")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


def test_who_has_a_token_is_let_in_and_it_is_nowhere_afterwards(house: House, window: Window) -> None:
    page = window(None)
    page.fill("#token", house.tokens["vera"][:-1] + "x")
    page.click("text=Log in")
    assert "the token is wrong" in page.wait_for_selector(".problem:not(:empty)").inner_text()
    page.fill("#token", house.tokens["vera"])
    page.click("text=Log in")
    page.wait_for_selector(".tile")
    kept = page.evaluate("[document.cookie, ...Object.values(localStorage), location.href].join()")
    assert house.tokens["vera"] not in kept
    assert "angara_session" not in kept  # no script reads the cookie
    page.reload()
    page.wait_for_selector(".tile")
    page.click("text=Log out")
    page.wait_for_selector("form.login")
    page.reload()
    page.wait_for_selector("form.login")


def test_a_link_with_a_token_logs_in_and_is_taken_out_of_the_address(house: House, window: Window) -> None:
    page = window("vera")
    assert page.url == f"{house.url}/"
    page.go_back()
    assert house.tokens["vera"] not in page.url


def test_whoever_has_not_logged_in_gets_files_and_nothing_else(house: House, window: Window) -> None:
    page = window(None)
    asked = ("map", "openapi.json", "session")
    answers = page.evaluate(
        "names => Promise.all(names.map(it => fetch('/api/v1/' + it).then(it => it.status)))", list(asked)
    )
    assert answers == [401, 200, 200]
    sent = page.evaluate("fetch('/').then(it => it.text())")
    assert not [it for it in (*TENANTS, "north-pool") if it in sent]


def test_the_map_has_a_cell_for_each_machine_and_says_what_it_does_by_keyboard(window: Window) -> None:
    page = window("vera")
    page.wait_for_selector(".tile")
    assert page.locator(".tile").count() == 15
    counts = page.locator(".counts").inner_text()
    assert re.search(r"[\d,]+ mining", counts)
    assert re.search(r"\b6 never seen", counts)
    page.locator(".tile canvas").nth(3).focus()
    for _ in range(5):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    told = page.locator(".told").inner_text()
    assert told.startswith("acme.c04.r06s02: offline, 0 H/s of 110")
    page.keyboard.press("Enter")
    page.wait_for_selector(".page.machine h1")
    assert page.locator("h1").inner_text() == "acme.c04.r06s02"


def test_workers_are_searched_filtered_and_sorted(window: Window) -> None:
    page = window("vera")
    go(page, "workers/o")
    page.fill("#search", "c04.R06")
    page.wait_for_function("document.querySelector('[role=status].quiet').textContent.startsWith('12 of')")
    names = page.locator("tbody th").all_inner_texts()
    assert names == [f"acme.c04.r06s{slot:02}" for slot in range(1, 13)]
    page.select_option("#state", "m")
    page.wait_for_selector("text=No worker is like that.")


def test_what_strangers_call_their_machines_is_text(window: Window) -> None:
    page = window("vera")
    go(page, "workers")
    page.select_option("#container", "acme.c01")
    page.select_option("#sort", "name")
    page.wait_for_selector("tbody th")
    shown = page.locator("tbody th").all_inner_texts()
    for name in HOSTILE:
        assert f"acme.c01.{name}".replace("‮", "\\u202e") in shown
    page.locator("tbody a", has_text="<img").click()
    page.wait_for_selector(".page.machine dl")
    assert page.locator("h1").inner_text() == f"acme.c01.{HOSTILE[0]}"
    assert page.locator("main img, main script").count() == 0
    assert "taken" not in page.title()


def test_a_chart_is_drawn_and_told_in_words(window: Window) -> None:
    page = window("vera")
    go(page, "machine/acme.c04.r01s01")
    page.wait_for_selector(".charts figure")
    page.evaluate(
        """async () => {
          const beside = document.querySelector("script[type=module]").src;
          const { chart } = await import(new URL("chart.js", beside));
          const show = (it) => `${it} H/s`;
          const line = { title: "Hashrate", values: [1, null, 3], colour: "--accent", show };
          const drawn = chart("A day", [0, 300, 600], [line], new AbortController().signal);
          document.querySelector(".charts").replaceChildren(drawn);
        }"""
    )
    page.wait_for_selector(".charts .uplot canvas")
    assert "now 3 H/s, between 1 H/s and 3 H/s" in page.locator(".charts").inner_text()


def test_a_tenants_user_sees_his_own_machines_and_no_other_page(house: House, window: Window) -> None:
    page = window("tina")
    page.wait_for_selector(".tile")
    shown = page.locator(".tile h2 a").all_inner_texts()
    assert shown == [f"c{number:02}" for number in (1, *range(8, 15))]
    page.wait_for_selector("nav a:nth-child(2)")
    assert page.locator("nav a").all_inner_texts() == ["Site map", "Containers", "Workers"]
    page.evaluate("location.hash = '#/users'")
    page.wait_for_selector("text=Nothing here")
    go(page, "tenant/borealis")
    page.wait_for_selector("dl")
    assert "acme" not in page.content()
    page.evaluate("location.hash = '#/tenant/acme'")
    page.wait_for_selector(".problem")
    assert "alone" in page.locator(".problem").inner_text()


def test_a_change_is_made_in_the_commands_own_form_and_recorded(window: Window) -> None:
    page = window("otto")
    go(page, "containers")
    page.locator("tbody tr", has_text="acme.c02").get_by_role("button", name="Change").click()
    page.fill("dialog #field-kw", "many")
    page.click("dialog .primary")
    assert "kw" in page.wait_for_selector("dialog .problem:not(:empty)").inner_text()
    page.fill("dialog #field-kw", "311")
    page.click("dialog .primary")
    page.wait_for_selector("dialog", state="detached")
    page.wait_for_selector("text=311 kW")
    go(page, "changes")
    newest = page.locator("tbody tr").first.inner_text()
    assert "otto" in newest
    assert "token" in newest
    assert "acme.c02" in newest
    viewer = window("vera")
    go(viewer, "containers")
    viewer.wait_for_selector("tbody tr")
    assert viewer.get_by_role("button", name="Change").count() == 0


def test_a_payout_is_approved_by_somebody_else_who_has_logged_in(window: Window) -> None:
    page = window("paul")
    go(page, "payouts")
    page.click("text=Batch 1")
    page.wait_for_selector("tbody tr:nth-child(2)")
    assert "0.00700001 BTC" in page.locator("tbody").inner_text()
    page.get_by_role("button", name="Approve").click()
    page.fill("dialog #field-fee_cap_sat", "5000")
    page.click("dialog .primary")
    page.wait_for_selector("dialog", state="detached")
    page.wait_for_selector("text=by paul, for at most 0.00005000 BTC of fees")
    assert "approved" in page.locator("dl").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_kept_out_by_how_he_reads(window: Window, scheme: str) -> None:
    """What axe finds is serious for somebody; in dark other colours are all that is new."""
    page = window("ada", color_scheme=scheme)
    axe = AXE.read_text()
    only = {"runOnly": ["color-contrast"]} if scheme == "dark" else {}
    found = []
    for name in PAGES:
        go(page, name)
        page.evaluate(f"() => {{ if (!window.axe) {{ {axe} }} }}")
        said = page.evaluate("how => axe.run(document, how)", {"resultTypes": ["violations"], **only})
        found += [
            (name, it["id"], it["nodes"][0]["html"][:120])
            for it in said["violations"]
            if it["impact"] in ("serious", "critical")
        ]
    assert found == []


def test_a_phone_is_wide_enough(window: Window) -> None:
    page = window("ada", viewport=PHONE)
    for name in PAGES:
        go(page, name)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, name


def test_nothing_of_it_comes_from_elsewhere() -> None:
    files = page_files()
    assert {"index.html", "main.js", "page.css", "uPlot.esm.js"} <= files.keys()
    assert b"export { uPlot as default }" in files["uPlot.esm.js"]
    for name, body in files.items():
        if name.endswith(".svg"):
            continue
        assert not re.findall(rb"(?:src|href|url|import)\W{1,3}(?:https?:)?//", body), name
    assert b"<script>" not in files["index.html"]
    assert b"style=" not in files["index.html"]
