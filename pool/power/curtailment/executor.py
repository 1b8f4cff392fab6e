"""Events at work: every few seconds a look at each, what follows from it written down, and then sent.

Everything that decides is in rows: a process that is killed at any moment is followed by one that goes on
from them. What was written and not sent is seen by its machine's shares, and sent again. A pause is held for
some minutes only, so that whoever is off comes back by itself where nobody is left to hold it.

Only the writer of the books acts: what is sent was written before, under its lease. Books that are away stop
all but the holding of who is off. Must not know: how machines are reached, and what is judged (`course`),
chosen (`plan`) and seen (`seen`).
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final, Protocol

import structlog
import trio

from pool.books.store import DATABASE_ERRORS, words_of
from pool.power.control.contract import ASKED_MAX, Action, Asked, MachineControl
from pool.power.curtailment.course import Ask, Looks
from pool.power.curtailment.rounds import Found, Rounds
from pool.power.curtailment.states import EventState
from pool.power.curtailment.status import NO_EVENTS, PowerStatus

log = structlog.get_logger()

LOOK_S: Final = 5.0
# A machine that nobody holds any more is off for twenty minutes at most; three times in a row may be missed.
HOLD_FOR_S: Final = 1_200
HOLD_AGAIN_S: Final = 300.0
SENDS_MAX: Final = 32  # under way at once: machines that do not answer take a minute
# From where shares come is asked of whoever serves miners, which costs it 50 ms a site.
AROUND_S: Final = 10.0  # while machines are told anything
AROUND_LOST_S: Final = 30.0  # of those alone that did not come back
GOES_ON: Final = (EventState.CURTAILING, EventState.HOLDING, EventState.RESTORING)


class Shares(Protocol):
    """Who sees machines' shares."""

    def looks(self) -> Looks:
        """As of now."""

    async def look_around(self, waited_for: Collection[int]) -> None:
        """From where the shares of these come."""


class Curtailment:
    """All events of one pool."""

    def __init__(
        self,
        rounds: Rounds,
        shares: Shares,
        control: MachineControl,
        *,
        wall_clock: Callable[[], float],
    ) -> None:
        self._rounds, self._shares, self._control = rounds, shares, control
        self._wall_clock = wall_clock
        self._held_s = -HOLD_AGAIN_S
        self._sending = 0
        self.status: PowerStatus = NO_EVENTS

    @property
    def leaving(self) -> frozenset[int]:
        """Machines that an event has, or is about to have: orders do without them."""
        return self.status.held

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_around)
            while True:
                await self.look(nursery)
                await trio.sleep(LOOK_S)

    async def _look_around(self) -> None:
        looked_s = -AROUND_LOST_S
        while True:
            goes_on = any(it.state in GOES_ON for it in self.status.events)
            if trio.current_time() - looked_s >= (AROUND_S if goes_on else AROUND_LOST_S):
                looked_s = trio.current_time()
                try:
                    await self._shares.look_around(self.status.held)
                except Exception:  # a mistake of ours: any share under a name counts meanwhile
                    log.exception("shares_not_looked_for")
            await trio.sleep(LOOK_S)

    async def look(self, nursery: trio.Nursery) -> None:
        """One look at all of them; what it sends is sent meanwhile."""
        try:
            found: Found = await trio.to_thread.run_sync(
                self._rounds.look, self._shares.looks(), int(self._wall_clock()), trio.current_time()
            )
        except DATABASE_ERRORS as error:
            self._failed(words_of(error)[:300])
        except Exception:  # a mistake of ours must not cost miners their work, nor leave who is off unheld
            log.exception("power_events_wait")
            self._failed("")
        else:
            self.status = PowerStatus(events=tuple(found.events), held=found.leaving)
            for event, asks in found.asks.items():
                for some in _pieces(asks):
                    nursery.start_soon(self._send, event, some)
        if trio.current_time() - self._held_s >= HOLD_AGAIN_S:
            self._held_s = trio.current_time()
            self._hold(nursery)

    def _failed(self, words: str) -> None:
        if not self.status.failed:
            log.error("power_events_wait", reason=words)
        self.status = PowerStatus(events=self.status.events, held=self.status.held, failed=True)

    def _hold(self, nursery: trio.Nursery) -> None:
        """Whoever is off stays off."""
        of: dict[int, list[Ask]] = {}
        for event, ask in self._rounds.held(int(self._wall_clock()), trio.current_time()):
            of.setdefault(event, []).append(ask)
        for event, asks in of.items():
            for some in _pieces(asks):
                nursery.start_soon(self._send, event, some)

    async def _send(self, event: int, asks: Sequence[Ask]) -> None:
        if self._sending >= SENDS_MAX:
            log.error("machines_not_asked", number=event, machines=len(asks), reason="too many are under way")
            return  # what was written is seen not to be done, and is sent again
        until_s = int(self._wall_clock()) + HOLD_FOR_S
        named = {it.name: it for it in asks}
        asked = tuple(
            Asked(machine=name, action=it.action, until_s=0 if it.action is Action.RESUME else until_s)
            for name, it in named.items()
        )
        self._sending += 1
        try:
            answers = await self._control.control(asked)
        except Exception:  # whoever reaches machines made a mistake: they are seen not to obey
            log.exception("machines_not_asked", number=event, machines=len(asks))
            return
        finally:
            self._sending -= 1
        for answer in answers:
            ask = named.get(answer.machine)
            if ask is not None:
                self._rounds.answered(event, ask.worker, ask.action, answer)


def _pieces(asks: Sequence[Ask]) -> Iterator[Sequence[Ask]]:
    for at in range(0, len(asks), ASKED_MAX):
        yield asks[at : at + ASKED_MAX]
