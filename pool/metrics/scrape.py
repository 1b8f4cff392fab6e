"""`/metrics`, as Prometheus asks for it: to whoever is on this host or has a token for it, since it has
tenants' business in it.

Whoever asks more often than once a second gets what the last one got, and nobody has two made at once. Text
is made in a thread of its own. Must not know: where a figure is from.
"""

from typing import Final

import trio
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from pool.metrics.collector import Sources, collect
from pool.metrics.contract import Page
from pool.web.access import Access, Told, WebRoute

SCRAPED: Final = Told(words="Metrics, as docs/metrics.md has them.", media="text/plain")
SAME_S: Final = 1.0  # a scrape costs tens of milliseconds


class Scrapes:
    """Of one pool."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._one_at_a_time = trio.Lock()
        self._alone = trio.CapacityLimiter(1)
        self._made_s = -SAME_S
        self._text = b""

    def route(self) -> WebRoute:
        return WebRoute("/metrics", Access.SCRAPER, self._answer, told=SCRAPED)

    async def _answer(self, _: Request) -> Response:
        async with self._one_at_a_time:
            if trio.current_time() - self._made_s >= SAME_S:
                page = await collect(self._sources)
                self._text = await trio.to_thread.run_sync(text_of, page, limiter=self._alone)
                self._made_s = trio.current_time()
            text = self._text
        return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})


def text_of(page: Page) -> bytes:
    """The page, and what the system says of this process, in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(page)
    ProcessCollector(registry=registry)
    return generate_latest(registry)
