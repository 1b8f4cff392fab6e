"""`make screens`: a picture of every page in light, in dark and on a phone, in build/screens.

`make screens DOCUMENTS=1` renews those of the documents besides.
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from playwright.sync_api import Browser

from tests.stages.browser import DESK, PAGES, PHONE, chromium, go, log_in
from tests.stages.page_house import House, page_house

ROOT: Final = Path(__file__).parent.parent
FOLDER: Final = ROOT / "build" / "screens"
PICTURES: Final = ROOT / "docs" / "pictures"
WAYS: Final = {
    "light": {"viewport": DESK, "color_scheme": "light"},
    "dark": {"viewport": DESK, "color_scheme": "dark"},
    "phone": {"viewport": PHONE, "color_scheme": "dark", "device_scale_factor": 2},
}
# What documents show: a page in one way, and what it is called there.
SHOWN: Final = {
    ("map", "light"): "map.png",
    ("machine/acme.c04.r01s01", "dark"): "machine.png",
    ("map", "phone"): "phone.png",
}


def _take(browser: Browser, house: House, way: str) -> None:
    context = browser.new_context(**WAYS[way])  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(house.url)
    page.wait_for_selector("form.login")
    page.screenshot(path=FOLDER / f"login-{way}.png")
    log_in(page, house, "ada")
    for name in PAGES:
        go(page, name)
        page.wait_for_timeout(500)  # charts are drawn
        page.screenshot(path=FOLDER / f"{name.replace('/', '-')}-{way}.png", full_page=way != "phone")
        shown = SHOWN.get((name, way))
        if shown is not None and os.environ.get("DOCUMENTS"):
            page.screenshot(path=PICTURES / shown)
    context.close()


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    PICTURES.mkdir(exist_ok=True)
    with TemporaryDirectory() as directory, page_house(Path(directory)) as house, chromium() as browser:
        for way in WAYS:
            _take(browser, house, way)
    print(f"{len(list(FOLDER.glob('*.png')))} pictures in {FOLDER}")


if __name__ == "__main__":
    main()
