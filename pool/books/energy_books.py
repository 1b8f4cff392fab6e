"""Energy and curtailments as the books take them while the pool runs: hours that are over, what is charged
for them, what is collected, and events that are over.

An hour is taken a quarter of an hour after its end, and looked at again when the next one is: by then every
reading of it that is taken at all is there. It is looked at a day later once more, for a clock that had
stepped. Each step is one short transaction and done at most once whenever it is tried, so being killed
between any two costs nothing but time; what takes longer, to add up the work of a site, is read outside of
it.

Must not know: how energy is measured, and how machines are told.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar

import structlog
import trio
from sqlalchemy import Connection

from payouts.energy.charges import FIRST, Place, charge
from payouts.energy.dues import collect
from payouts.energy.events import (
    BOOKED_AFTER_S,
    Event,
    EventBooks,
    EventMachine,
    book_event,
    books_of,
    unbooked,
)
from payouts.energy.hours import (
    ContainerEnergy,
    begin,
    differs,
    due_hour,
    first_hour,
    take_again,
    take_next,
)
from pool.books.database_waits import read_books, when_it_answers
from pool.books.store import Store

log = structlog.get_logger()

KEEP_S: Final = 10.0
LOOKED_AGAIN_H: Final = (25, 1)  # hours before the one that is taken

_Value = TypeVar("_Value")


class PowerTold(Protocol):
    """What whoever knows power tells the books."""

    def drawn(self, connection: Connection, hour: int) -> Sequence[ContainerEnergy]:
        """What every container drew in an hour (since 1970); who is not in it drew nothing."""

    def ended(self, connection: Connection, before_s: int) -> Sequence[int]:
        """The numbers of all curtailments that were over by then and were no rehearsals."""

    def event(self, connection: Connection, number: int) -> tuple[Event, Sequence[EventMachine]]:
        """One of them, with its machines."""


class EnergyBooks:
    """`keep` does all that is due."""

    def __init__(self, store: Store, power: PowerTold, *, wall_clock: Callable[[], float]) -> None:
        self._store, self._power, self._wall_clock = store, power, wall_clock
        self._told: frozenset[tuple[int, str]] = frozenset()  # whose energy has no price, and why

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.keep()
            await trio.sleep(KEEP_S)

    async def keep(self) -> None:
        """Take the hours that are over, charge and collect, and book the events that are over."""
        await self._write(partial(begin, now_s=self._now_s()))
        while (hour := await self._read(partial(due_hour, now_s=self._now_s()))) is not None:
            for before_h in LOOKED_AGAIN_H:
                await self._look_again(hour - before_h)
            drawn = await self._read(partial(self._power.drawn, hour=hour))
            await self._write(partial(take_next, hour=hour, drawn=drawn, now_s=self._now_s()))
        await self._charge()
        await self._collect()
        await self._book_events()

    async def _look_again(self, hour: int) -> None:
        drawn = await self._read(partial(self._power.drawn, hour=hour))
        if await self._read(partial(_was_taken, hour=hour, drawn=drawn)):
            parts = await self._write(partial(take_again, hour=hour, drawn=drawn, now_s=self._now_s()))
            log.info("energy_taken_again", hour=hour, parts=parts)

    async def _charge(self) -> None:
        charges, unpriced = 0, set()
        after: Place | None = FIRST
        while after is not None:
            looked = await self._write(partial(charge, now_s=self._now_s(), after=after))
            charges += len(looked.charged)
            unpriced |= {(it.tenant_id, it.why) for it in looked.unpriced}
            after = looked.after
        if charges:
            log.info("energy_charged", charges=charges)
        if unpriced != self._told:
            self._told = frozenset(unpriced)
            for tenant_id, why in sorted(unpriced):
                log.warning("energy_without_price", tenant_id=tenant_id, reason=why)

    async def _collect(self) -> None:
        after: int | None = 0
        while after is not None:
            _, after = await self._write(partial(collect, now_s=self._now_s(), after_tenant=after))

    async def _book_events(self) -> None:
        before_s = self._now_s() - BOOKED_AFTER_S
        for number in await self._read(partial(_to_book, power=self._power, before_s=before_s)):
            books = await self._read(partial(self._books_of, number=number))
            if await self._write(partial(book_event, books=books, now_s=self._now_s())):
                log.info("curtailment_booked", curtailment=number)

    def _books_of(self, connection: Connection, number: int) -> EventBooks:
        return books_of(connection, *self._power.event(connection, number))

    def _now_s(self) -> int:
        return int(self._wall_clock())

    async def _read(self, work: Callable[[Connection], _Value]) -> _Value:
        found: _Value = await read_books(self._store, work)
        return found

    async def _write(self, work: Callable[[Connection], _Value]) -> _Value:
        def transaction() -> _Value:
            with self._store.write() as connection:
                return work(connection)

        done: _Value = await when_it_answers("write to the books", transaction)
        return done


def _was_taken(connection: Connection, hour: int, drawn: Sequence[ContainerEnergy]) -> bool:
    """Whether an hour of before is known otherwise than it was taken."""
    return hour >= first_hour(connection) and differs(connection, hour, drawn)


def _to_book(connection: Connection, power: PowerTold, before_s: int) -> list[int]:
    return unbooked(connection, power.ended(connection, before_s))
