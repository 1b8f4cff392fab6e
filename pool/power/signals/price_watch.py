"""Tariffs as a signal: events for the hours in which machines of a site do not pay for their energy.

The tariffs in the books say what a kWh costs in the coming hours, and what work is worth is what the books
last paid for it; `price_plan` says who is off in which hour. An event is asked for a day before it begins, so
whoever delivers orders knows; it has the price that stops whoever is to be off, which changes with the hour.

What is not known (a price, an exchange rate, what a machine needs) stops nobody. An event that a person has
ended stays so until its own end. Blocks: a look every some minutes, in a worker thread. Must not know: which
machines an event chooses.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from typing import Final

import numpy as np
from sqlalchemy import Connection, func, select

from payouts.energy.prices import price_at
from payouts.schemas.energy import power_exchange, power_tariffs
from payouts.schemas.money import containers, sites, workers
from pool.books.store import Store
from pool.power.curtailment.worth import price_now, sat_per_kwh
from pool.power.energy.efficiencies import efficiencies_at
from pool.power.signals.bounds import HOUR_S, PRICES_LONGEST_S, Standing
from pool.power.signals.call import Called
from pool.power.signals.intake import Intake
from pool.power.signals.price_plan import Price, Run, between, limit_at, limits, runs

SOURCE: Final = "price"
LOOK_S: Final = 600.0
SILENT_S: Final = 3 * HOUR_S  # without a price of the hour that it is
HORIZON_H: Final = 36  # day-ahead markets have tomorrow's prices in the afternoon
AHEAD_H: Final = 24
RAMP_S: Final = 600  # a price is no emergency: a tenth of the hour
MSAT: Final = 1_000


class PriceWatch:
    """`only`: the sites that signals may stop; none: all that have a name, or all machines where none has."""

    def __init__(
        self,
        store: Store,
        intake: Intake,
        only: tuple[str, ...],
        wall_clock: Callable[[], float],
        longest_s: int = PRICES_LONGEST_S,
    ) -> None:
        self._store, self._intake, self._only = store, intake, only
        self._wall_clock = wall_clock
        self._hours_max = max(1, min(longest_s, PRICES_LONGEST_S) // HOUR_S)  # of one event; then another
        self._was: dict[str, dict[int, int]] = {}  # by site: from which mJ/TH on machines are off, by hour
        self._prices: Mapping[str, Sequence[Price]] = {}
        self._known: tuple[object, ...] = ()  # what they were asked for by

    def look(self) -> None:
        """Ask for what is to be. Raises what the books raise."""
        now_s = int(self._wall_clock())
        begun = now_s // HOUR_S
        with self._store.read() as connection:
            worth = price_now(connection)
            kinds = self._kinds(connection, now_s)
            prices = self._prices_of(connection, tuple(kinds), begun)
        if worth is None:
            self._intake.refuse(SOURCE, "nobody was paid for work yet: what it is worth is not known")
            return
        if not any(of[0].sat is not None for of in prices.values()):
            self._intake.refuse(SOURCE, "no site has a tariff for this hour, with an exchange rate")
            return
        standing = self._intake.standing(SOURCE)
        calls: list[Called] = []
        for at, site in enumerate(kinds):
            worths = {it: sat_per_kwh(worth, it) for it in kinds[site]}
            of_site = [it for it in standing if it.called.site == site]
            was = self._was.get(site) or _was(of_site, worths)
            found = {hour: it for hour, it in was.items() if _began(of_site, now_s) <= hour < begun}
            found |= limits(prices[site], worths, was, begun)
            for hour in self._ended(of_site):
                found.pop(hour, None)
            self._was[site] = found
            for run in runs(found, self._hours_max):
                if run.until > begun and run.begin <= begun + AHEAD_H:
                    call = _call(site, run, worths, of_site, begun, f"{now_s}.{at}")
                    of_site = [it for it in of_site if it.called.reference != call.reference]
                    calls.append(call)
        self._intake.only(SOURCE, calls)

    def _prices_of(
        self, connection: Connection, names: tuple[str, ...], begun: int
    ) -> Mapping[str, Sequence[Price]]:
        """Of the coming hours; asked for when something of them may be another."""
        newest = [connection.scalar(select(func.max(it.c.id))) for it in (power_tariffs, power_exchange)]
        key = (names, begun, *newest)
        if key != self._known:
            hours = range(begun, begun + HORIZON_H)
            self._prices = {
                it: [Price(hour=hour, sat=price_at(connection, it, hour * HOUR_S)) for hour in hours]
                for it in names
            }
            self._known = key
        return self._prices

    def _kinds(self, connection: Connection, now_s: int) -> Mapping[str, Sequence[int]]:
        """What machines need (mJ/TH), each kind once, by site."""
        known = efficiencies_at(connection, now_s)
        query = (
            select(workers.c.id, sites.c.name)
            .join(containers, containers.c.id == workers.c.container_id)
            .outerjoin(sites, sites.c.id == containers.c.site_id)
            .where(workers.c.removed_at_s.is_(None))
        )
        by: dict[str, list[int]] = {}
        for number, name in connection.execute(query):
            by.setdefault(name or "", []).append(number)
        if len(by) > 1:
            by.pop("", None)  # of an event it would be the name of all sites
        found = {}
        for site, numbers in sorted(by.items()):
            kinds = np.unique(known.column("mj_per_th", np.array(numbers, dtype=np.int64)))
            if (not self._only or site in self._only) and kinds.any():
                found[site] = [int(it) for it in kinds if it]
        return found

    def _ended(self, standing: Sequence[Standing]) -> Iterator[int]:
        """The hours of events that somebody else has ended."""
        for it in standing:
            ended = it.over and not it.replaced and it.until_s < it.called.until_s
            if ended and not it.dropped:
                yield from range(it.called.from_s // HOUR_S, it.called.until_s // HOUR_S)


def _was(standing: Sequence[Standing], worths: Mapping[int, Fraction]) -> dict[int, int]:
    """What a pool that begins finds asked for."""
    found: dict[int, int] = {}
    for it in standing:
        limit = limit_at(worths, Fraction(it.called.target_value or 0, MSAT))
        if not it.over and limit is not None:
            hours = range(it.called.from_s // HOUR_S, it.called.until_s // HOUR_S)
            found |= dict.fromkeys(hours, limit)
    return found


def _began(standing: Sequence[Standing], now_s: int) -> int:
    """The first hour of an event that goes on, which is a part of it still; this one where there is none."""
    going = (it.called.from_s for it in standing if not it.over)
    return min((it for it in going if it < now_s), default=now_s) // HOUR_S


def _call(
    site: str, run: Run, worths: Mapping[int, Fraction], standing: Sequence[Standing], begun: int, new: str
) -> Called:
    """As the event that is there already is called, where there is one that no earlier run is."""
    limit = run.limits[max(begun - run.begin, 0)]
    known = next(
        (
            it.called
            for it in standing
            if not it.over
            and it.called.from_s < run.until * HOUR_S
            and run.begin * HOUR_S < it.called.until_s
        ),
        None,
    )
    value = int(between(worths, limit) * MSAT)
    asked = None if known is None else known.target_value
    if asked is not None and limit_at(worths, Fraction(asked, MSAT)) == limit:
        value = asked  # it stops the same
    hour = datetime.fromtimestamp(run.begin * HOUR_S, UTC).strftime("%Y-%m-%dT%H")
    return Called(
        reference=f"{hour}.{new}" if known is None else known.reference,
        site=site,
        target="break_even",
        target_value=value,
        from_s=run.begin * HOUR_S,
        until_s=run.until * HOUR_S,
        ramp_s=RAMP_S,
    )
