"""All signals of one pool, each looked at in its time, in worker threads.

A signal that fails is refused in words and looked at again: it ends neither the pool nor another signal, and
what it has asked for ends at its own time. Must not know: who is told of them.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

import structlog
import trio

from pool.books.store import DATABASE_ERRORS, Store, words_of
from pool.power.curtailment.durations import Durations
from pool.power.energy.live import PowerNow
from pool.power.signals.event_books import EventBooks
from pool.power.signals.intake import Intake, Source
from pool.power.signals.openadr import SILENT_S as OPENADR_SILENT_S
from pool.power.signals.openadr import SOURCE as OPENADR
from pool.power.signals.openadr import Openadr
from pool.power.signals.price_watch import LOOK_S, SILENT_S, SOURCE, PriceWatch
from pool.power.signals.settings import SignalSettings
from pool.power.signals.signed_calls import SignedCalls
from pool.power.signals.watched_file import WatchedFile
from pool.power.signals.webhook import SOURCE as WEBHOOK
from pool.power.signals.webhook import Webhook

log = structlog.get_logger()

FILE: Final = "file"
FILE_LOOK_S: Final = 5.0
FILE_SILENT_S: Final = 600  # a file that is wrong, or not there
BOOKS: Final = "the database does not do its work: {}"


def watts_at(now: PowerNow, site: str) -> int | None:
    """What is drawn at a site, or at all of them; None for one of which nothing is known."""
    if not site:
        return sum(it.watts for it in now.sites.values())
    drawn = now.sites.get(site)
    return None if drawn is None else drawn.watts


class Signals:
    """`webhook` is None where the settings have no secret for it; `watts`: what a site draws, as far as that
    is known."""

    def __init__(
        self,
        store: Store,
        settings: SignalSettings,
        *,
        dry_run: bool,
        durations: Durations,
        wall_clock: Callable[[], float],
        watts: Callable[[str], int | None] = lambda site: None,
    ) -> None:
        events = EventBooks(store, dry_run=dry_run, durations=durations, wall_clock=wall_clock)
        self._intake = intake = Intake(events, settings.bounds, wall_clock=wall_clock, watts=watts)
        self._looks: list[tuple[str, float, Callable[[], None]]] = []
        self.webhook: Webhook | None = None
        self._openadr: Openadr | None = None
        if settings.file is not None:
            intake.open(FILE, str(settings.file), FILE_SILENT_S)
            self._looks.append((FILE, FILE_LOOK_S, WatchedFile(settings.file, intake, FILE).look))
        if settings.prices:
            intake.open(SOURCE, "tariffs", SILENT_S, settings.bounds.of_prices)
            watch = PriceWatch(store, intake, settings.bounds.sites, wall_clock, durations.longest_s)
            self._looks.append((SOURCE, LOOK_S, watch.look))
        if settings.webhook_secret is not None:
            intake.open(WEBHOOK, "POST /api/v1/power/signal")
            signed = SignedCalls(intake, WEBHOOK, since_s=int(wall_clock()), wall_clock=wall_clock)
            self.webhook = Webhook(signed, intake, settings.webhook_secret)
        if (grid := settings.openadr) is not None:
            intake.open(OPENADR, grid.url, OPENADR_SILENT_S)
            shed_watts = partial(events.shed_watts, OPENADR)
            self._openadr = Openadr(
                grid, intake, min(settings.bounds.longest_s, durations.longest_s), shed_watts
            )

    @property
    def sources(self) -> tuple[Source, ...]:
        """Each as it stands."""
        return self._intake.sources

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            for name, pause_s, look in self._looks:
                nursery.start_soon(self._look, name, pause_s, look)
            if self._openadr is not None:
                nursery.start_soon(self._openadr.run)

    async def _look(self, name: str, pause_s: float, look: Callable[[], None]) -> None:
        threads = trio.CapacityLimiter(1)  # a disk that does not answer holds one thread
        while True:
            try:
                await trio.to_thread.run_sync(look, limiter=threads)
            except DATABASE_ERRORS as error:
                self._intake.refuse(name, BOOKS.format(words_of(error)))
            except Exception as error:  # a mistake of ours in one signal must not cost miners their work
                log.exception("signal_failed", source=name)
                self._intake.refuse(name, f"a mistake of ours, it is in the log: {type(error).__name__}")
            await trio.sleep(pause_s)
