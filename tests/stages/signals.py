"""Signals up to the books: an intake, a wall clock that is moved by hand, and what was asked for."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from pool.power.signals.bounds import Bounds, Standing
from pool.power.signals.call import Called
from pool.power.signals.intake import Intake, NotAsked

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


class EventsInMemory:
    """pool.power.signals.intake.Asks, of whom it is known what he was asked."""

    def __init__(self) -> None:
        self.now_s = NOW_S
        self.events: dict[tuple[str, str], Standing] = {}
        self.asked: list[str] = []
        self.why_not = ""

    def standing(self, source: str, since_s: int) -> Sequence[Standing]:
        found = []
        for (name, _), it in self.events.items():
            over = it.over or it.until_s <= self.now_s
            if name == source and (not over or max(it.asked_at_s, it.until_s) >= since_s):
                found.append(msgspec.structs.replace(it, over=over))
        return found

    def ask(self, source: str, called: Called) -> None:
        self._may()
        assert (source, called.reference) not in self.events
        self._put("ask", source, called)

    def change(self, source: str, called: Called) -> None:
        self._may()
        assert (source, called.reference) in self.events
        self._put("change", source, called)

    def restore(self, source: str, reference: str, words: str) -> None:
        self._may()
        it = self.events[source, reference]
        self.events[source, reference] = msgspec.structs.replace(it, over=True, until_s=self.now_s)
        self.asked.append(f"restore {reference}")

    def _may(self) -> None:
        if self.why_not:
            raise NotAsked(self.why_not)

    def _put(self, what: str, source: str, called: Called) -> None:
        self.events[source, called.reference] = Standing(
            called=called, over=False, asked_at_s=self.now_s, until_s=called.until_s
        )
        self.asked.append(f"{what} {called.reference}")

    def live(self, source: str) -> list[str]:
        """The references of those that are not over."""
        return [it.called.reference for it in self.standing(source, 0) if not it.over]


class SignalHouse:
    """One intake with all kinds of sources."""

    def __init__(self, bounds: Bounds | None = None, **watts: int) -> None:
        self.events = EventsInMemory()
        self.watts = watts
        self.bounds = bounds or Bounds()
        self.start()

    def start(self) -> None:
        """A pool that begins, again perhaps: all that it knows is in the books."""
        self.intake = Intake(
            self.events, self.bounds, wall_clock=lambda: self.events.now_s, watts=self.watts.get
        )
        self.intake.open("file", "calls.toml", silent_after_s=600)
        self.intake.open("webhook", "/api/v1/signals/power")

    def source(self, name: str = "file") -> Any:
        return next(it for it in self.intake.sources if it.name == name)


def iso(at_s: int) -> str:
    """As calls have it."""
    return datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")
