"""Energy and curtailments as the books take them while the pool runs: hours that are over, what is charged
for them, what is collected, and events that are over.

An hour is taken a quarter of an hour after its end, and looked at again when the next one is: by then every
reading of it that is taken at all is there. It is looked at a day later once more, for a clock that had
stepped. A curtailment is booked when it is over for as long, and when nothing of before its end comes into
the books any more: shares of an edge that is minutes behind are in what it forwent. Each step is one short
transaction and done at most once whenever it is tried, so being killed between any two costs nothing but
time; what takes longer, to add up the work of a site, is read outside of it. Nothing is written where nothing
is due: that is read first.

Must not know: how energy is measured, and how machines are told.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar

import msgspec
import structlog
import trio
from sqlalchemy import Connection

from payouts.energy.charges import FIRST, Place, Unpriced, charge, due, newest_prices
from payouts.energy.dues import collect, to_collect
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
    began,
    begin,
    differs,
    due_hour,
    first_hour,
    take_again,
    take_next,
)
from pool.books.database_waits import read_books, write_books
from pool.books.journal.positions import taken_until_s
from pool.books.store import Store

log = structlog.get_logger()

KEEP_S: Final = 10.0
LOOKED_AGAIN_H: Final = (25, 1)  # hours before the one that is taken
# What waits for a price is gone through when there is more of it, or another price; a year of it is half a
# second. And as often as this, whatever is overlooked.
UNPRICED_S: Final = 3_600.0

_Value = TypeVar("_Value")


class UnpricedEnergy(msgspec.Struct, frozen=True, kw_only=True):
    """What of one tenant is not charged, for want of a price, and why."""

    tenant_id: int
    hours: int
    joules: int
    whys: tuple[str, ...]


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
        self.unpriced: tuple[UnpricedEnergy, ...] | None = None  # None: nobody has looked yet
        self._prices: tuple[int, int] | None = None  # by which all was charged that has a price
        self._charged_s = -UNPRICED_S

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.keep()
            await trio.sleep(KEEP_S)

    async def keep(self) -> None:
        """Take the hours that are over, charge and collect, and book the events that are over."""
        if not await self._read(began):
            await self._write(partial(begin, now_s=self._now_s()))
        while (hour := await self._read(partial(due_hour, now_s=self._now_s()))) is not None:
            for before_h in LOOKED_AGAIN_H:
                await self._look_again(hour - before_h)
            drawn = await self._read(partial(self._power.drawn, hour=hour))
            self._prices = None
            await self._write(partial(take_next, hour=hour, drawn=drawn, now_s=self._now_s()))
        prices = await self._read(newest_prices)
        if prices != self._prices or trio.current_time() - self._charged_s >= UNPRICED_S:
            self._prices = None
            await self._charge()
            self._prices, self._charged_s = prices, trio.current_time()
        await self._collect()
        await self._book_events()

    async def _look_again(self, hour: int) -> None:
        drawn = await self._read(partial(self._power.drawn, hour=hour))
        if await self._read(partial(_was_taken, hour=hour, drawn=drawn)):
            self._prices = None
            parts = await self._write(partial(take_again, hour=hour, drawn=drawn, now_s=self._now_s()))
            log.info("energy_taken_again", hour=hour, parts=parts)

    async def _charge(self) -> None:
        charges = 0
        unpriced: list[Unpriced] = []
        after: Place | None = FIRST
        while after is not None:
            found = await self._read(partial(due, after=after))
            if found.priced:
                looked = await self._write(partial(charge, now_s=self._now_s(), after=after))
                charges += len(looked.charged)
                unpriced += looked.unpriced
                after = looked.after
            else:
                unpriced += found.unpriced
                after = found.after
        if charges:
            log.info("energy_charged", charges=charges)
        self._tell({(it.tenant_id, it.why) for it in unpriced})
        self.unpriced = _of_tenants(unpriced)

    def _tell(self, unpriced: set[tuple[int, str]]) -> None:
        if unpriced != self._told:
            self._told = frozenset(unpriced)
            for tenant_id, why in sorted(unpriced):
                log.warning("energy_without_price", tenant_id=tenant_id, reason=why)

    async def _collect(self) -> None:
        if not await self._read(to_collect):
            return
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
        done: _Value = await write_books(self._store, work)
        return done


def _of_tenants(unpriced: Sequence[Unpriced]) -> tuple[UnpricedEnergy, ...]:
    of: dict[int, list[Unpriced]] = {}
    for it in unpriced:
        of.setdefault(it.tenant_id, []).append(it)
    return tuple(
        UnpricedEnergy(
            tenant_id=tenant,
            hours=len(its),
            joules=sum(it.joules for it in its),
            whys=tuple(sorted({it.why for it in its})),
        )
        for tenant, its in sorted(of.items())
    )


def _was_taken(connection: Connection, hour: int, drawn: Sequence[ContainerEnergy]) -> bool:
    """Whether an hour of before is known otherwise than it was taken."""
    return hour >= first_hour(connection) and differs(connection, hour, drawn)


def _to_book(connection: Connection, power: PowerTold, before_s: int) -> list[int]:
    """None of which the books may still take a share: a journal that is behind is waited for."""
    taken_s = taken_until_s(connection)
    until_s = before_s if taken_s is None else min(before_s, taken_s)
    return unbooked(connection, power.ended(connection, until_s))
