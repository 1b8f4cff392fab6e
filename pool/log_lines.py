"""Log lines, bounded: of each event the first ones in a minute, then a count.

Miners, upstreams and nodes can cause an event ten thousand times a second; a log that tells each fills the
disk and hides what matters. An event is known by its name, and by whose it is where that is one of ours (a
node, an upstream, an edge): a noisy one does not silence the others.

Invariants: what was left out is told, by the event's next line or with any line after its minute; what is
remembered is bounded. Threads may share it.
"""

import threading
import time
from collections.abc import Callable, MutableMapping
from typing import Any, Final

import msgspec
import structlog

from pool.reports.figures import visible

log = structlog.get_logger()

LINES_MAX: Final = 20  # of an event in its minute: enough to see what is the matter
LINES_S: Final = 60.0
# Events with a count of their own: names in this program times nodes and upstreams. More share one.
EVENTS_MAX: Final = 1_000
OWNERS: Final = ("node", "upstream", "edge")
LEFT_OUT: Final = "log_lines_left_out"

Key = tuple[str, ...]  # the event's name, then whose it is
OTHERS: Final = ("others",)


class _Minute(msgspec.Struct):
    began_s: float
    lines: int = 0
    left_out: int = 0


class LogLines:
    """A structlog processor, the first of them: what is left out costs next to nothing."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._minutes: dict[Key, _Minute] = {}
        self._swept_s = clock()
        self._lock = threading.Lock()

    def __call__(
        self, logger: Any, method: str, event_dict: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """The line, if it may pass. Raises DropEvent."""
        name = str(event_dict.get("event"))
        if name == LEFT_OUT:
            return event_dict
        key = (name, *(f"{owner}={event_dict[owner]}" for owner in OWNERS if owner in event_dict))
        with self._lock:
            over = self._sweep()
            if key not in self._minutes and len(self._minutes) >= EVENTS_MAX:
                key = OTHERS
            minute = self._minutes.setdefault(key, _Minute(self._clock()))
            passes = minute.lines < LINES_MAX
            minute.lines += passes
            minute.left_out += not passes
        for whose, count in over.items():
            log.warning(LEFT_OUT, of=" ".join(whose), lines=count)
        if not passes:
            raise structlog.DropEvent
        return event_dict

    def _sweep(self) -> dict[Key, int]:
        """Forget minutes that are over; what was left out in them."""
        now_s = self._clock()
        if now_s - self._swept_s < LINES_S / 10 and len(self._minutes) < EVENTS_MAX:
            return {}
        self._swept_s = now_s
        over = {key: it for key, it in self._minutes.items() if now_s - it.began_s >= LINES_S}
        for key in over:
            del self._minutes[key]
        return {key: it.left_out for key, it in over.items() if it.left_out}


def in_shape(logger: Any, method: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: what miners, upstreams and nodes say moves no cursor of who reads the log."""
    for key, value in event_dict.items():
        if isinstance(value, str):
            event_dict[key] = visible(value)
    return event_dict
