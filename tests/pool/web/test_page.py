"""The page in a real browser: who is let in to what, what strangers call their machines, and whom it serves.

One pool and one browser for all of it; each test has a window of its own.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route

from pool.reports.figures import difficulty
from pool.web.files import page_files
from tests.stages.browser import DESK, PAGES, PATIENCE_MS, PHONE, chromium, chromium_path, go, log_in
from tests.stages.page_house import HOSTILE, TENANTS, House, page_house

pytestmark = pytest.mark.browser

AXE: Final = Path(__file__).parents[3] / "node_modules" / "axe-core" / "axe.min.js"
ASK: Final = """([name, told]) => fetch(`/api/v1/${name}`, {
  method: "POST",
  headers: { "Content-Type": "application/json", "X-Angara": "1" },
  body: JSON.stringify(told),
}).then(async (it) => [it.status, await it.json()])"""
# A stream of events of which the test says what becomes of it.
STREAM: Final = """window.EventSource = class StreamThatBreaks extends EventTarget {
  static CLOSED = 2;
  readyState = 1;
  constructor() {
    super();
    window.stream = this;
  }
  tells(kind, told) { this.dispatchEvent(new MessageEvent(kind, { data: JSON.stringify(told) })); }
  becomes(what) { this.dispatchEvent(new Event(what)); }
}"""
AGREE: Final = f"(number) => ({ASK})(['request.approve', {{ number }}])"
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


def test_a_map_that_is_built_anew_throws_nobody_off_the_machine_that_he_is_at(window: Window) -> None:
    """As at the first news after it was asked for, and whenever machines come."""
    page = window("vera")
    news: list[Route] = []
    page.context.route("**/api/v1/events", lambda it: news.append(it))
    page.reload()
    page.wait_for_selector(".tile")
    page.locator(".tile canvas").nth(3).focus()
    page.keyboard.press("ArrowDown")
    page.evaluate("document.activeElement.dataset.before = true")
    news.pop().continue_()
    page.wait_for_selector(".tile canvas:focus:not([data-before])")
    page.keyboard.press("ArrowDown")
    assert page.locator(".told").inner_text().startswith("acme.c04.r03s01: ")


def test_a_page_that_is_opened_while_the_pool_is_away_shows_no_other_ones_figures(window: Window) -> None:
    """Nor for ever that it is away."""
    page = window()
    go(page, "tenants")
    page.route("**/*", lambda asked: asked.abort())
    page.evaluate("location.hash = '#/payouts'")
    page.wait_for_selector(".page.payouts [role=alert]")
    assert page.inner_text("main") == "Payouts\n\nthe pool does not answer"
    page.unroute("**/*")
    page.wait_for_selector(".page.payouts table")


def test_the_page_says_that_the_pool_is_gone_as_soon_as_the_browser_knows(window: Window) -> None:
    """And says nothing of one loss, which is made good within a second."""
    page = window()
    page.add_init_script(STREAM)
    now_s = time.time()
    page.clock.set_fixed_time(now_s)
    page.reload()
    page.wait_for_selector(".tile")
    sign = page.locator("header .live")

    def later(seconds: float, what: str) -> str:
        nonlocal now_s
        now_s += seconds
        page.clock.set_fixed_time(now_s)
        page.evaluate(what)
        return str(sign.inner_text())

    heard = "stream.tells('figures', { hashrate_hps: 1, height: 7 })"
    assert later(0, heard) == "live"
    assert later(1, "stream.becomes('error')") == "live"
    assert later(1, "stream.becomes('open')") == "live", "it is open again"
    assert later(2, "stream.becomes('error')") == "live"
    assert later(2, "stream.becomes('error')").startswith("not live since ")
    assert later(1, heard) == "live"
    page.route("**/api/v1/**", lambda asked: asked.abort())
    with page.expect_event("requestfailed", lambda it: it.url.endswith("/session")):
        go(page, "tenants")
    later(2, "0")
    page.wait_for_selector("header .live[data-live=false]")
    page.unroute("**/api/v1/**")
    assert later(1, heard) == "live"


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
    labels = page.evaluate(
        """async () => {
          const { chart } = await import(new URL("chart.js", document.querySelector("script[src]").src));
          const written = [];
          const { fillText } = CanvasRenderingContext2D.prototype;
          CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
            written.push(text);
            return fillText.call(this, text, ...rest);
          };
          const line = { title: "Hashrate", values: [1], colour: "--accent", show: (it) => `${it} H/s` };
          const drawn = chart("Five minutes", [1_800_000_000], [line], new AbortController().signal);
          document.querySelector(".charts").replaceChildren(drawn);
          while (!written.some((it) => it.includes("H/s"))) await new Promise(requestAnimationFrame);
          return written;
        }"""
    )
    assert any(":" in it for it in labels), f"an hour around the only moment, and not years: {labels}"


def test_a_difficulty_is_what_the_command_line_and_a_machines_settings_call_it(window: Window) -> None:
    page = window("vera")
    values = (2.0**-32, 2.0**-1, 1.0, 1000.0, 1024.0, 65536.0, 3 * 2.0**30, 2.0**50, 2.0**63)
    shown = page.evaluate(
        """async (values) => {
          const beside = document.querySelector("script[type=module]").src;
          const { difficulty } = await import(new URL("figures.js", beside));
          return values.map(difficulty);
        }""",
        values,
    )
    assert shown == [difficulty(it) for it in values]
    assert shown[0] == "1/4,294,967,296"
    assert shown[5] == "64k"


def test_a_tenants_user_sees_his_own_machines_and_no_other_page(house: House, window: Window) -> None:
    page = window("tina")
    page.wait_for_selector(".tile")
    shown = page.locator(".tile h2 a").all_inner_texts()
    assert shown == [f"c{number:02}" for number in (1, *range(8, 15))]
    page.wait_for_selector("nav a:nth-child(2)")
    assert page.locator("nav a").all_inner_texts() == [
        "Site map",
        "Containers",
        "Workers",
        "Hashrate",
        "Power",
        "Statements",
    ]
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
    assert "Somebody else than who drafted it approves it" in page.locator("dl").inner_text()
    page.get_by_role("button", name="Approve").click()
    page.fill("dialog #field-fee_cap_sat", "5000")
    page.click("dialog .primary")
    page.wait_for_selector("dialog", state="detached")
    page.wait_for_selector("text=by paul, for at most 0.00005000 BTC of fees")
    told = page.locator("dl").inner_text()
    assert "approved" in told
    assert "On the pool's host: angara payout export 1 --out batch.psbt" in told
    page.get_by_role("button", name="Call off").click()
    page.click("dialog .primary")
    page.wait_for_selector("dd:text('failed')")
    assert page.locator(".page.payouts .tools button").count() == 0, "nothing can be done with it any more"


def test_what_one_asks_for_another_agrees_to_and_not_he_himself(window: Window) -> None:
    asks = window("paul")
    go(asks, "tenant/borealis")
    asks.get_by_role("button", name="Change terms").click()
    asks.fill("dialog #field-fee_bps", "175")
    asks.click("dialog .primary")
    number = asks.wait_for_selector("dialog h2:text('Request ')").inner_text().split()[1]
    assert "nothing is changed yet" in asks.locator("dialog").inner_text()
    asks.click("dialog a")
    asks.wait_for_selector(f".page.requests h1:text('Request {number}')")
    assert "fee_bps: 0 → 175" in asks.locator(".difference").inner_text()
    asks.wait_for_selector("button:text('Withdraw')")
    assert asks.get_by_role("button", name="Agree").count() == 0
    refused = asks.evaluate(AGREE, int(number))  # as a page would that is not ours
    assert refused[0] == 400
    assert "cannot agree to what paul asked for" in refused[1]["error"]
    agrees = window("ada")
    go(agrees, "requests")
    agrees.click(f"tbody a:text('{number}: tenant.set-terms')")
    agrees.get_by_role("button", name="Agree").click()
    agrees.click("dialog .primary")
    agrees.wait_for_selector("dd:text('carried out')")
    assert "by ada" in agrees.locator("dl").inner_text()
    go(agrees, "tenant/borealis")
    assert "1.75 %" in agrees.locator("dl").inner_text()


def test_a_request_is_refused_with_a_reason_and_whoever_looks_on_may_do_neither(window: Window) -> None:
    asks = window("paul")
    go(asks, "tenant/acme")
    asks.get_by_role("button", name="Change terms").click()
    asks.fill("dialog #field-payout_minimum_sat", "777000")
    asks.click("dialog .primary")
    asks.click("dialog a")
    number = asks.wait_for_selector(".page.requests h1:text('Request ')").inner_text().split()[1]
    looks = window("vera")
    go(looks, f"requests/{number}")
    looks.wait_for_selector(".difference")
    assert looks.get_by_role("button", name=re.compile("Agree|Refuse|Withdraw")).count() == 0
    refuses = window("ada")
    go(refuses, f"requests/{number}")
    refuses.get_by_role("button", name="Refuse").click()
    refuses.fill("dialog #field-why", "<b>too much</b>")
    refuses.click("dialog .primary")
    refuses.wait_for_selector("dd:text('withdrawn')")
    assert "by ada: <b>too much</b>" in refuses.locator("dl").inner_text()


def test_an_admin_breaks_the_glass_with_a_reason_that_everybody_can_read(window: Window) -> None:
    page = window("paul")
    go(page, "tenant/acme")
    page.get_by_role("button", name="Change terms").click()
    assert page.locator("dialog #break-glass").count() == 0  # he is none
    page = window("ada")
    go(page, "tenant/acme")
    page.get_by_role("button", name="Change terms").click()
    page.fill("dialog #field-fee_bps", "222")
    page.click("dialog summary")
    page.fill("dialog #break-glass", "the contract is of today")
    page.click("dialog .primary")
    page.wait_for_selector("dialog", state="detached")
    page.wait_for_selector("dd:text('2.22 %')")
    go(page, "changes")
    assert "the contract is of today" in page.locator("tbody").inner_text()


def test_an_event_has_the_buttons_that_do_something_and_its_own_history(window: Window) -> None:
    page = window("ada")
    asked = {"target": "everything", "reference": "grid-<b>9", "from_s": 2_000_000_000, "site": "north"}
    assert page.evaluate(ASK, ["power.curtail?break-glass=the%20grid%20waits", asked])[0] == 200
    go(page, "power")
    page.click("tbody a:text('everything off')")
    page.wait_for_selector("dd:text('planned')")
    assert page.get_by_role("button", name="Let machines go").count() == 0, "it has none yet"
    page.get_by_role("button", name="Call off").click()
    page.click("dialog summary")
    page.fill("dialog #break-glass", "it waits no more")
    page.click("dialog .primary")
    page.wait_for_selector("dd:text('cancelled')")
    assert "Called off" in page.locator("dl").inner_text()
    assert "Restored by" not in page.locator("dl").inner_text()
    assert "grid-<b>9" in page.locator("dl").inner_text()
    assert page.locator(".page.power .command button").count() == 0
    told = page.locator("table").first.inner_text()
    assert "asked for by ada" in told
    assert "by ada: restored" in told


def test_nobody_curtails_in_the_page_what_its_plan_has_not_shown_him(window: Window) -> None:
    """And what it shows is what is done: after a field, or somebody else's exemption, it is shown anew."""
    page = window("ada")
    go(page, "power")
    page.get_by_role("button", name="Curtail").click()
    page.select_option("dialog #field-target", "share")
    page.fill("dialog #field-target_value", "5000")
    page.fill("dialog #field-reference", "seen-1")
    page.click("dialog .primary:text-is('Show the plan')")
    page.wait_for_selector("dialog .plan dl")
    told = page.locator("dialog .plan").inner_text()
    assert re.search(r"Machines\s+6, in 1 batches", told)
    assert re.search(r"Drawn now\s+36\.\d kW", told)
    assert re.search(r"Less is expected\s+1[78]\.\d kW", told)
    assert re.search(r"acme\s+6\s+1[78]\.\d kW\s+67\d\.\d TH/s\s+[\d,]+ sat", told)
    assert "15 min" in told  # when it ends
    assert re.search(r"Orders that miss something meanwhile:.*blue\s+5\.000 PH/s", told, re.DOTALL)
    page.fill("dialog #field-target_value", "2500")
    assert page.locator("dialog .plan").inner_text() == ""
    page.click("dialog .primary:text-is('Show the plan')")
    page.wait_for_selector("dialog .primary:text-is('Curtail, as shown')")
    exempt = {"machines": "acme.c04.r01s01", "reason": "its <b>pump</b>"}
    assert page.evaluate(ASK, ["power.exempt", exempt])[0] == 200
    page.click("dialog .primary")
    page.wait_for_selector("dialog .plan :text('something else by now')")
    assert "acme.c04.r01s01 (its <b>pump</b>)" in page.locator("dialog .plan").inner_text()
    assert "seen-1" not in str(page.evaluate(ASK, ["request.list", {}]))
    page.click("dialog .primary:text-is('Curtail, as shown')")
    page.wait_for_selector("dialog h2:text('Request ')")
    page.get_by_role("button", name="Good").click()
    assert "seen-1" in str(page.evaluate(ASK, ["request.list", {}]))
    row = page.locator("tbody tr", has_text="its <b>pump</b>")
    row.get_by_role("button", name="Ask it again").click()
    page.click("dialog .primary")
    page.wait_for_selector("text=Every machine may be asked.")
    looks = window("vera")
    go(looks, "power")
    assert "the transformer" in looks.locator("main").inner_text()
    assert looks.locator(".page.power .command button").count() == 0


def test_a_tenants_user_reads_and_saves_its_own_statement_and_nobody_elses(window: Window) -> None:
    page = window("tina")
    go(page, "statements")
    page.wait_for_selector(".statement .charts, .statement figure canvas")
    assert "Statement of account: borealis" in page.locator(".statement").inner_text()
    assert page.locator("#whose option").all_inner_texts() == ["borealis"]
    with page.expect_download() as saved:
        page.get_by_role("button", name="CSV").click()
    assert saved.value.suggested_filename.startswith("statement-borealis-")
    written = Path(saved.value.path()).read_text()
    assert "report,Statement of account,borealis" in written
    assert "r01s12" in written  # its machines
    asked = {"from_day": "2026-01-01", "to_day": "2026-02-01", "tenant": "acme"}
    for name, more in (("statement.show", {}), ("statement.file", {"format": "csv"})):
        status, refused = page.evaluate(ASK, [name, asked | more])
        assert (status, "alone" in refused["error"]) == (403, True)
    page.evaluate("location.hash = '#/statements/acme'")
    page.wait_for_selector("text=Statement of account: borealis")
    everything = window("vera")
    go(everything, "statements/acme")
    assert "Statement of account: acme" in everything.locator(".statement").inner_text()


def test_a_day_of_hashrate_is_drawn_and_there_as_a_table(window: Window) -> None:
    page = window("vera")
    go(page, "history")
    page.wait_for_selector("figure:nth-child(3) canvas")
    assert re.search(r"Hashrate: now [\d.]+ PH/s, between", page.locator("figure").first.inner_text())
    page.locator("figure summary").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("figure tbody tr:nth-child(96)")
    own = window("tina")
    go(own, "history")
    own.wait_for_selector("figure canvas")
    assert own.locator("#whose option").all_inner_texts() == ["borealis"]


def test_what_became_of_shares_has_one_denominator(window: Window) -> None:
    page = window("vera")
    go(page, "machine/acme.c04.r01s01")
    before = page.wait_for_selector(".legs table")
    page.fill("#rejects-since", "2026-01-01")
    page.dispatch_event("#rejects-since", "change")
    before.wait_for_element_state("hidden")  # until then the figures are those of another day on
    page.wait_for_selector(".legs tbody tr:nth-child(3)")
    figures = re.findall(r"([\d,]+)\s+([\d.]+) %", page.locator(".legs table").first.inner_text())
    sent = sum(int(shares.replace(",", "")) for shares, _ in figures)
    page.wait_for_selector(f"text={sent:,} shares were sent since")
    assert [part for _, part in figures] == [
        f"{100 * int(it.replace(',', '')) / sent:.1f}" for it, _ in figures
    ]


def test_what_strangers_call_their_firmware_is_text(window: Window) -> None:
    page = window("vera")
    go(page, "firmware")
    page.wait_for_selector("tbody tr:nth-child(2)")
    assert "<img src=x" in page.locator("tbody").inner_text()
    assert page.locator("main img").count() == 0


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


def test_edges_at_other_sites_say_in_words_how_they_stand(window: Window) -> None:
    page = window("vera")
    go(page, "edges")
    page.wait_for_selector("tbody tr:nth-child(6)")
    rows = {it.inner_text().split()[0]: it.inner_text() for it in page.locator("tbody tr").all()}
    words = {
        "amur": "has not begun",
        "bratsk": "serves",
        "omsk": "silent for 7 min",
        "sayan": f"held: edge sayan may not count for acme.c01.{HOSTILE[0]}",
        "tomsk": "waits: the clock of edge tomsk is 240 s ahead of ours",
        "yenisei": "more work than its machines can do, 31 min 40 s ago",
    }
    assert {name for name, said in words.items() if said in rows[name]} == words.keys()
    assert "4,980 of 5,000 mine" in rows["bratsk"]
    assert "41 on edge-1.bratsk" in rows["bratsk"]
    assert "187,055 records, 150 MiB" in rows["yenisei"]
    assert page.locator("main img").count() == 0
    told = page.locator("main [role=status]").inner_text()
    assert told.startswith(
        "Connected to tls://nats-1.example:4222 for 3 h 12 min; 2 messages came faster than"
    )
    page.get_by_role("button", name="State", exact=True).click()
    assert page.locator("tbody th").first.inner_text().startswith("sayan"), "the worst first"
    assert page.locator("tbody button").count() == 0, "whoever looks on changes nothing"


def test_a_payer_has_what_was_held_taken_again_in_the_commands_own_form(window: Window) -> None:
    page = window("paul")
    go(page, "edges")
    row = page.locator("tbody tr", has_text="sayan")
    row.get_by_role("button", name="Take it again").wait_for()
    assert page.get_by_role("button", name="Take it again").count() == 1
    row.get_by_role("button", name="Retire").wait_for()


def test_a_pool_without_edges_has_no_page_of_them(house: House, window: Window) -> None:
    page = window("vera")
    page.wait_for_selector("nav a:text('Edges')")
    page.context.route("**/api/v1/edge.list", lambda asked: asked.fulfill(json=[]))
    page.reload()
    page.wait_for_selector("nav a:text('Changes')")
    page.evaluate("location.hash = '#/edges'")
    page.wait_for_selector("text=Nothing here")
    assert page.locator("nav a:text('Edges')").count() == 0
    own = window("tina")
    own.wait_for_selector("nav a:text('Statements')")
    assert own.locator("nav a:text('Edges')").count() == 0
