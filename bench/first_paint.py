"""How long a browser takes to the site map of a whole site: a real Chromium, a pool with 22,464 machines.

    python -m bench.first_paint [ROUNDS]

In turn with nothing kept, as at a first visit, and again as on every other day. Times are the browser's own,
from the navigation on: the first contentful paint, the tiles of the screen painted, all tiles there.
"""

import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from playwright.sync_api import Browser, Page

from tests.stages.browser import DESK, PATIENCE_MS, chromium
from tests.stages.page_house import ROWS, SLOTS, House, page_house

CONTAINERS: Final = 234
SETTLE_S: Final = 12.0  # until the map of all of them is laid out
# Two frames after the first tile is in the page it has been painted. All tiles come at once.
WATCH: Final = """
new MutationObserver((_, watch) => {
  const tiles = document.querySelectorAll(".tile").length;
  if (tiles === 0) return;
  watch.disconnect();
  const there = performance.now();
  const painted = () => (window.painted = [there, performance.now(), tiles]);
  requestAnimationFrame(() => requestAnimationFrame(painted));
}).observe(document, { childList: true, subtree: true });
"""
TIMES: Final = """() => [
  performance.getEntriesByName("first-contentful-paint")[0].startTime,
  window.painted[1], window.painted[0], window.painted[2],
]"""
SHOWN: Final = ("first contentful paint", "map painted", "all tiles there")


def visits(browser: Browser, house: House, rounds: int) -> Iterator[tuple[str, list[float]]]:
    for _ in range(rounds):
        context = browser.new_context(viewport=DESK)
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(WATCH)
        page = context.new_page()
        page.goto(f"{house.url}/#token={house.tokens['vera']}")
        yield "first visit", _times(page)
        page.goto("about:blank")
        page.goto(house.url)
        yield "another day", _times(page)
        context.close()


def _times(page: Page) -> list[float]:
    page.wait_for_function("() => window.painted")
    found: list[float] = page.evaluate(TIMES)
    assert found.pop() >= CONTAINERS
    return found


def main(rounds: int) -> None:
    found: dict[str, list[list[float]]] = {}
    with TemporaryDirectory() as directory, page_house(Path(directory), CONTAINERS) as house:
        time.sleep(SETTLE_S)
        with chromium() as browser:
            for visit, times in visits(browser, house, rounds):
                found.setdefault(visit, []).append(times)
    print(f"{CONTAINERS * ROWS * SLOTS:,} machines, load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    for visit, rows in found.items():
        for at, name in enumerate(SHOWN):
            times = [it[at] for it in rows]
            median, most = statistics.median(times), max(times)
            print(f"{visit:>12}: {name:<22} {median:6.0f} ms (median of {rounds}), {most:6.0f} ms (max)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
