"""A real Chromium, without a network of its own, and the pages of the operator's page."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from playwright.sync_api import Browser, Page, sync_playwright

from tests.stages.page_house import House

PATIENCE_MS: Final = 60_000  # a safety net; nothing is measured with it
FLAGS: Final = (
    "--no-sandbox",  # tests may run as root; it sees nothing but our own page
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PAGES: Final = (
    "map",
    "tenants",
    "tenant/acme",
    "containers",
    "workers/o",
    "machine/acme.c04.r01s01",
    "blocks",
    "history",
    "upstreams",
    "orders",
    "power",
    "edges",
    "rejects/tenant/acme",
    "firmware",
    "payouts",
    "payouts/1",
    "statements/borealis",
    "requests",
    "requests/1",
    "messages",
    "users",
    "changes",
)
PHONE: Final = {"width": 360, "height": 740}
DESK: Final = {"width": 1280, "height": 800}


def chromium_path() -> str | None:
    return shutil.which("chromium") or shutil.which("google-chrome")


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        yield browser
        browser.close()


def log_in(page: Page, house: House, user: str) -> None:
    """By a link, as somebody is sent one."""
    page.goto(f"{house.url}/#token={house.tokens[user]}")
    page.wait_for_selector(".tile")


def go(page: Page, name: str) -> None:
    """To a page, when all of it is there."""
    page.evaluate("name => { location.hash = '#/' + name }", name)
    page.wait_for_selector(f".page.{name.partition('/')[0]}:not([aria-busy]) h1")
