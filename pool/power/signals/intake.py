"""Where every signal comes in, and the only one that asks for events in its name: bounded, once, and told of.

What is not asked for changes nothing, and says why to whoever looks (`sources`): a signal that is refused is
found by nobody in a log. An event that was asked for ends at its own time whatever becomes of its source.

Invariants: (source, reference) is one event, so whatever is heard twice is asked for once, also by a pool
that was started anew; what a person has ended is not asked for again. Blocks: call it from a worker thread;
several may. Must not know: how a call came here, how machines are told.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec
import structlog

from pool.power.signals.bounds import DAY_S, Bounds, Standing, refused
from pool.power.signals.call import Called, in_words

log = structlog.get_logger()

LOG_PAUSE_S: Final = 60  # between two lines of what a source was refused


class NotAsked(Exception):
    """The events' own reason why there is none, in words."""


class Asks(Protocol):
    """Events, as signals ask for them. All of it blocks, and may raise NotAsked."""

    def standing(self, source: str, since_s: int) -> Sequence[Standing]:
        """All of a source that are not over, and those that were asked for, or ended, since then."""

    def ask(self, source: str, called: Called) -> None:
        """A new one."""

    def change(self, source: str, called: Called) -> None:
        """The one of that reference is another one from now on."""

    def restore(self, source: str, reference: str, words: str) -> None:
        """It is over, or never begins."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a call. `taken`: there is an event of it, from now or from before; `cut_short`: that was
    ended before its own time, and nothing is done by it any more."""

    reference: str
    taken: bool
    words: str
    cut_short: bool = False


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One of them, as it stands; times are Unix seconds, None: never since the start. `silent_after_s`: it is
    to be heard of at least so often, None: it speaks when it has something to say."""

    name: str
    where: str
    silent_after_s: int | None
    since_s: int
    heard_at_s: int | None = None
    asked_at_s: int | None = None
    refused_at_s: int | None = None
    refused: str = ""
    asked_count: int = 0
    refused_count: int = 0

    def silent_s(self, now_s: int) -> int:
        """For how long too long; 0: it is not silent."""
        if self.silent_after_s is None:
            return 0
        quiet_s = now_s - (self.since_s if self.heard_at_s is None else self.heard_at_s)
        return quiet_s if quiet_s > self.silent_after_s else 0


class Intake:
    """Of one pool. `watts`: what a site draws, as far as that is known."""

    def __init__(
        self,
        asks: Asks,
        bounds: Bounds,
        *,
        wall_clock: Callable[[], float],
        watts: Callable[[str], int | None] = lambda site: None,
    ) -> None:
        self._asks, self._bounds = asks, bounds
        self._wall_clock, self._watts = wall_clock, watts
        self._sources: dict[str, Source] = {}
        self._bounds_of: dict[str, Bounds] = {}
        self._changes: dict[str, deque[int]] = {}
        self._logged_at_s: dict[str, int] = {}
        self._one_at_a_time = threading.Lock()
        self._notes = threading.RLock()

    def open(
        self, name: str, where: str, silent_after_s: int | None = None, bounds: Bounds | None = None
    ) -> None:
        """There is a source of that name, with bounds of its own perhaps."""
        self._bounds_of[name] = bounds or self._bounds
        self._sources[name] = Source(
            name=name, where=where, silent_after_s=silent_after_s, since_s=self._now_s
        )
        self._changes[name] = deque(maxlen=self._bounds_of[name].calls_a_day)

    @property
    def sources(self) -> tuple[Source, ...]:
        return tuple(self._sources.values())

    @property
    def _now_s(self) -> int:
        return int(self._wall_clock())

    def heard(self, name: str) -> None:
        """It said something that is right, if only that it is there."""
        self._note(name, heard_at_s=self._now_s)

    def refuse(self, name: str, words: object) -> None:
        """It said something that nothing is done by."""
        said = in_words(words)
        with self._notes:
            it = self._sources[name]
            self._note(name, refused_at_s=self._now_s, refused=said, refused_count=it.refused_count + 1)
        now_s = self._now_s
        if now_s - self._logged_at_s.get(name, 0) >= LOG_PAUSE_S:  # who is refused chooses how often
            self._logged_at_s[name] = now_s
            log.warning("signal_refused", source=name, reason=said)

    def take(self, name: str, calls: Sequence[Called]) -> list[Answer]:
        """Ask for each of them, as many as may stand."""
        calls_max = self._bounds_of[name].standing_max
        with self._one_at_a_time:
            self.heard(name)
            answers = [self._take(name, it) for it in calls[:calls_max]]
        if len(calls) > calls_max:
            self.refuse(name, f"{len(calls)} calls at once: the first {calls_max} are looked at")
        return answers

    def standing(self, name: str) -> Sequence[Standing]:
        """What it asked for that is not over, or was within a day."""
        return self._asks.standing(name, self._now_s - DAY_S)

    def only(self, name: str, calls: Sequence[Called]) -> list[Answer]:
        """The same, of a source that always says all: whatever it does not say any more is restored."""
        answers = self.take(name, calls)
        said = {it.reference for it in calls}
        with self._one_at_a_time:
            for it in self._asks.standing(name, self._now_s):
                if not it.over and it.called.reference not in said:
                    answers.append(self._restore(name, it.called.reference))
        return answers

    def restore(self, name: str, reference: str) -> Answer:
        """One that it asked for itself: what others asked for has another source."""
        with self._one_at_a_time:
            self.heard(name)
            for it in self._asks.standing(name, self._now_s - DAY_S):
                if it.called.reference == reference:
                    if it.over:
                        return Answer(reference=reference, taken=True, words="over")
                    return self._restore(name, reference)
            return self._refused(name, reference, "there is no such event of this source")

    def _take(self, name: str, call: Called) -> Answer:
        standing = self._asks.standing(name, self._now_s - DAY_S)
        known = next((it for it in standing if it.called.reference == call.reference), None)
        if known is not None and known.over:
            cut_short = known.until_s < known.called.until_s
            return Answer(reference=call.reference, taken=True, words="over", cut_short=cut_short)
        if known is not None and known.called == call:
            return Answer(reference=call.reference, taken=True, words="the same")
        now_s, changes = self._now_s, self._changes[name]
        words = refused(
            self._bounds_of[name],
            call,
            standing,
            now_s,
            changes=sum(it > now_s - DAY_S for it in changes),
            watts=self._watts(call.site),
        )
        if words is not None:
            return self._refused(name, call.reference, words)
        try:
            if known is None:
                self._asks.ask(name, call)
            else:
                self._asks.change(name, call)
                changes.append(now_s)
        except NotAsked as error:
            return self._refused(name, call.reference, error)
        with self._notes:
            self._note(name, asked_at_s=now_s, asked_count=self._sources[name].asked_count + 1)
        words = "asked" if known is None else "changed"
        log.info("signal_taken", source=name, reference=call.reference, what=words)
        return Answer(reference=call.reference, taken=True, words=words)

    def _restore(self, name: str, reference: str) -> Answer:
        try:
            self._asks.restore(name, reference, f"{name} does not ask for it any more")
        except NotAsked as error:
            return self._refused(name, reference, error)
        log.info("signal_taken", source=name, reference=reference, what="restored")
        return Answer(reference=reference, taken=True, words="restored")

    def _refused(self, name: str, reference: str, words: object) -> Answer:
        self.refuse(name, f"{reference}: {words}")
        return Answer(reference=reference, taken=False, words=in_words(words))

    def _note(self, name: str, **changed: object) -> None:
        with self._notes:
            self._sources[name] = msgspec.structs.replace(self._sources[name], **changed)
