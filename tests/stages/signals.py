"""Signals up to the books: an intake, a wall clock that is moved by hand, and what was asked for."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from pool.books.store import Store
from pool.power.curtailment import asking
from pool.power.curtailment.durations import USUAL
from pool.power.signals.bounds import Bounds
from pool.power.signals.call import Called
from pool.power.signals.event_books import EventBooks
from pool.power.signals.intake import Intake, Source
from tests.histories.power import add_container

NOW_S = 1_795_795_200  # 2026-11-27T16:00:00Z
HOUR_S = 3_600


def call(reference: str = "grid-1", **changed: Any) -> Called:
    """Everything off at the site in the north, for an hour from now on."""
    it = Called(
        reference=reference,
        site="north",
        target="everything",
        target_value=None,
        from_s=NOW_S,
        until_s=NOW_S + HOUR_S,
        ramp_s=300,
    )
    return msgspec.structs.replace(it, **changed)


class Events(EventBooks):
    """Those of the books, of whom it is known what they were asked."""

    def __init__(self, store: Store) -> None:
        self.now_s = NOW_S
        self.store = store
        self.asked: list[str] = []
        super().__init__(store, dry_run=False, durations=USUAL, wall_clock=lambda: self.now_s)

    def ask(self, source: str, called: Called) -> None:
        super().ask(source, called)
        self.asked.append(f"ask {called.reference}")

    def change(self, source: str, called: Called) -> None:
        super().change(source, called)
        self.asked.append(f"change {called.reference}")

    def restore(self, source: str, reference: str, words: str) -> None:
        super().restore(source, reference, words)
        self.asked.append(f"restore {reference}")

    def live(self, source: str) -> list[str]:
        """The references of those that are not over."""
        return [it.called.reference for it in self.standing(source, 0) if not it.over]

    def rows(self, source: str) -> list[tuple[str, str]]:
        """All of them, with their states."""
        return [(it.reference, it.state.value) for it in asking.standing(self.store, source, 0)]


class SignalHouse:
    """One intake with all kinds of sources, and two sites, of which watts may be known."""

    def __init__(self, store: Store, bounds: Bounds | None = None, **watts: int) -> None:
        with store.write() as connection:
            add_container(connection, "acme.c01", 2, site="north", now_s=NOW_S - 2 * 3600)
            add_container(connection, "acme.c02", 1, site="south", now_s=NOW_S - 2 * 3600)
        self.events = Events(store)
        self.watts = watts
        self.bounds = bounds or Bounds()
        self.start()

    def start(self) -> None:
        """A pool that begins, again perhaps: all that it knows is in the books."""
        self.intake = Intake(
            self.events, self.bounds, wall_clock=lambda: self.events.now_s, watts=self.watts.get
        )
        self.intake.open("file", "calls.toml", silent_after_s=600)
        self.intake.open("webhook", "/api/v1/power/signal")

    def source(self, name: str = "file") -> Source:
        return next(it for it in self.intake.sources if it.name == name)


def iso(at_s: int) -> str:
    """As calls have it."""
    return datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")
