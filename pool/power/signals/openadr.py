"""A grid that speaks OpenADR 2.0b: its events are asked for here, and it is told what becomes of them.

A message of the VTN has all events that it has for this pool: one that is not in it any more, or is
cancelled, is restored. It is said once: where a conversation broke, or not all was done of what was said in
it, the next one begins with the question for all of them. One that is asked for is opted in to when it is in
the books, and one that goes beyond the bounds, or that somebody has ended before its time, is opted out of.
A VTN that is gone, or says what is nothing, changes nothing: what it asked for ends at its own time.

openleadr is read when a pool has such a grid, and not before. Must not know: what is said on the wire.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec
import structlog
import trio

from pool.books.store import DATABASE_ERRORS, words_of
from pool.power.signals.intake import Intake
from pool.power.signals.openadr_events import OPT_OUT, Distributed, Heard, NotTalked, TooManyEvents, heard
from pool.power.signals.settings import OpenadrSettings
from pool.short_start import wanted

if TYPE_CHECKING:
    from pool.power.signals.openadr_ven import Ven

log = structlog.get_logger()

SOURCE: Final = "openadr"
SILENT_S: Final = 600
AWAY_S: Final = 60.0  # after a conversation that was none
POLL_S_MAX: Final = 300.0  # a VTN that wants to be asked less often than that is asked so often all the same
REPORT_S: Final = 60.0
MISSING: Final = "openleadr is not installed: pip install 'angara[openadr]'"


class Openadr:
    """`shed_watts`: what its events have taken off."""

    def __init__(
        self, settings: OpenadrSettings, intake: Intake, longest_s: int, shed_watts: Callable[[], int]
    ) -> None:
        self._settings, self._intake = settings, intake
        self._longest_s, self._shed_watts = longest_s, shed_watts
        self._ven: Ven | None = None
        self._anew = True  # not all is done of what it said
        self._reported_s = -REPORT_S

    async def run(self) -> None:
        """Until cancelled; a conversation that goes on then ends at once."""
        while True:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._stop_when_cancelled)
                pause_s = await trio.to_thread.run_sync(self._converse, trio.current_time())
                nursery.cancel_scope.cancel()
            await trio.sleep(pause_s)

    async def _stop_when_cancelled(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            if self._ven is not None:
                self._ven.stop()

    def _converse(self, now_s: float) -> float:
        """One conversation, in a worker thread, and how long to leave it then."""
        try:
            return self._talk(now_s)
        except ImportError:
            self._intake.refuse(SOURCE, MISSING)
        except DATABASE_ERRORS as error:
            self._intake.refuse(SOURCE, f"the database does not do its work: {words_of(error)}")
        except NotTalked as error:
            self._intake.refuse(SOURCE, error)
        except Exception as error:  # a mistake of ours in one signal must not cost miners their work
            log.exception("signal_failed", source=SOURCE)
            self._intake.refuse(SOURCE, f"a mistake of ours, it is in the log: {type(error).__name__}")
        return AWAY_S

    def _talk(self, now_s: float) -> float:
        if self._ven is None:
            wanted("aiohttp")
            from pool.power.signals.openadr_ven import Ven  # a second, and a library for XML

            self._ven = Ven(self._settings, self._shed_watts)
        anew, self._anew = self._anew, True
        for message in self._ven.ask(anew=anew):
            self._answer(self._ven, message)
        self._anew = False
        self._intake.heard(SOURCE)
        if now_s - self._reported_s >= REPORT_S:
            self._reported_s = now_s
            self._ven.report()
        return max(self._settings.poll_s, min(self._ven.poll_s, POLL_S_MAX))

    def _answer(self, ven: "Ven", message: Distributed) -> None:
        try:
            events = heard(
                message.events,
                site=self._settings.site,
                percents=self._settings.percents,
                longest_s=self._longest_s,
            )
        except TooManyEvents as error:
            self._intake.refuse(SOURCE, error)
            return
        calls = {it.called.reference: it.called for it in events if it.called is not None}
        taken = {it.reference: it for it in self._intake.only(SOURCE, list(calls.values()))}
        told: list[Heard] = []
        for it in events:
            if it.opt == OPT_OUT:
                self._intake.refuse(SOURCE, f"{it.event_id}: {it.words}")
            answer = None if it.called is None else taken.get(it.called.reference)
            opt = it.opt if answer is None or (answer.taken and not answer.cut_short) else OPT_OUT
            words = it.words if answer is None else answer.words
            told.append(msgspec.structs.replace(it, opt=opt, words=words))
        if answers := [it for it in told if it.answer]:
            ven.tell(message, answers)
