"""What a kWh costs: tariffs, fixed, by the hour, or by tiers of a month, in micro-units of a currency.

A tariff is never changed: another one is added, and of those with a price for an hour the newest is in force,
one of the site before one of all sites. So what an hour cost can be asked again, and a tariff that was wrong
is followed by one that is right. Hours and months are UTC: no hour is twice, and none is missing.

Tiers are an account of their own: a month's energy is given to them from the lowest on, in the order in which
it is charged, and energy that is taken back leaves the highest. So the sum of a month is the same whatever
came late.

Invariants: costs are exact fractions; a price may be negative, and is what the tenant is paid then.
Must not know: who pays, and what a currency is worth.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from fractions import Fraction
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, and_, insert, or_, select

from payouts.book_time import book_time
from payouts.schemas.energy import power_tariff_hours, power_tariff_tiers, power_tariffs

J_PER_KWH: Final = 3_600_000
HOUR_S: Final = 3600
HOUR_MAX: Final = 70_389_527  # since 1970: the last of the year 9999
MICRO: Final = 10**6
PRICE_MICRO_MAX: Final = 10**12  # a million units for a kWh: no currency's, and products stay small
HOURS_MAX: Final = 8_784  # of a file: a leap year
TIERS_MAX: Final = 20  # utilities have three to six
TIER_KWH_MAX: Final = 10**12  # more than a country uses in a month
WORDS_MAX: Final = 200  # of a name or a source
CURRENCY: Final = re.compile(r"[A-Z]{3,8}")


class BadTariff(ValueError):
    """A tariff, a price or a term that cannot be, in words."""


class Kind(StrEnum):
    """How a tariff says its prices."""

    FIXED = "fixed"
    HOURLY = "hourly"
    TIERED = "tiered"


class NewTariff(msgspec.Struct, frozen=True, kw_only=True):
    """`hours` has prices by the hour since 1970, `tiers` by the kWh of a month that they begin at. One by the
    hour holds for its hours, whatever `from_s` and `until_s` are."""

    name: str
    kind: Kind
    currency: str
    source: str
    site_id: int | None = None  # all of them
    price_micro: int | None = None
    hours: Mapping[int, int] = {}
    tiers: Mapping[int, int] = {}
    from_s: int = 0
    until_s: int | None = None

    def __post_init__(self) -> None:
        check_words("a name", self.name)
        check_words("a source", self.source)
        check_currency(self.currency)
        given = {
            Kind.FIXED: self.price_micro is not None,
            Kind.HOURLY: bool(self.hours),
            Kind.TIERED: bool(self.tiers),
        }
        if [kind for kind, there in given.items() if there] != [self.kind]:
            raise BadTariff("a tariff has one price, prices by the hour, or tiers")
        for price in (*self.hours.values(), *self.tiers.values(), self.price_micro or 0):
            check_price(price)
        if len(self.hours) > HOURS_MAX:
            raise BadTariff(f"a file of prices has {HOURS_MAX} hours at most, a leap year")
        if len(self.tiers) > TIERS_MAX:
            raise BadTariff(f"a tariff has {TIERS_MAX} tiers at most")
        if self.tiers and (min(self.tiers) != 0 or max(self.tiers) > TIER_KWH_MAX):
            raise BadTariff("the first tier begins at 0 kWh")
        if self.hours and not 0 <= min(self.hours) <= max(self.hours) <= HOUR_MAX:
            raise BadTariff("an hour before 1970, or after the year 9999")
        _check_validity(self.from_s, self.until_s)


class Tariff(msgspec.Struct, frozen=True, kw_only=True):
    """What is in force in an hour: one price, or tiers by the kWh that they begin at. Without a number it is
    a tenant's own fee."""

    id: int | None
    currency: str
    price_micro: int | None
    tiers: tuple[tuple[int, int], ...] = ()

    def cost(self, joules: int, before_j: int = 0) -> Fraction:
        """What so much costs, in micro-units; `before_j` is what its tiers had been given of the month.
        Negative for energy that is taken back."""
        if self.price_micro is not None:
            return Fraction(self.price_micro * joules, J_PER_KWH)
        return self._up_to(before_j + joules) - self._up_to(before_j)

    def marginal_micro(self, before_j: int = 0) -> int:
        """The price of the next kWh."""
        if self.price_micro is not None:
            return self.price_micro
        return [price for from_kwh, price in self.tiers if from_kwh * J_PER_KWH <= before_j][-1]

    def _up_to(self, joules: int) -> Fraction:
        """The cost of a month's first so many; below nothing it is the first tier's."""
        (_, first), ends = self.tiers[0], [*(from_kwh for from_kwh, _ in self.tiers[1:]), None]
        if joules <= 0:
            return Fraction(first * joules, J_PER_KWH)
        micro_j = 0
        for (from_kwh, price), end in zip(self.tiers, ends, strict=True):
            last_j = joules if end is None else min(joules, end * J_PER_KWH)
            micro_j += price * max(last_j - from_kwh * J_PER_KWH, 0)
        return Fraction(micro_j, J_PER_KWH)


class TariffView(msgspec.Struct, frozen=True, kw_only=True):
    """A tariff as it is listed; `hours` and `tiers` are how many it has."""

    id: int
    site_id: int | None
    name: str
    kind: Kind
    currency: str
    price_micro: int | None
    hours: int
    tiers: tuple[tuple[int, int], ...]
    from_s: int
    until_s: int | None
    source: str
    added_at_s: int
    added_by: str


def add_tariff(connection: Connection, new: NewTariff, *, by: str, now_s: int) -> int:
    """Its number. It is in force for hours that are not charged yet."""
    from_s, until_s = new.from_s, new.until_s
    if new.hours:
        from_s, until_s = min(new.hours) * HOUR_S, (max(new.hours) + 1) * HOUR_S
    made = insert(power_tariffs).values(
        site_id=new.site_id,
        name=new.name,
        kind=new.kind.value,
        currency=new.currency,
        price_micro=new.price_micro,
        from_s=from_s,
        until_s=until_s,
        source=new.source,
        added_at_s=book_time(connection, now_s),
        added_by=by,
    )
    tariff_id = int(connection.execute(made.returning(power_tariffs.c.id)).scalar_one())
    for table, key, prices in (
        (power_tariff_hours, "hour", new.hours),
        (power_tariff_tiers, "from_kwh", new.tiers),
    ):
        if prices:
            rows = [{"tariff_id": tariff_id, key: at, "price_micro": it} for at, it in sorted(prices.items())]
            connection.execute(insert(table), rows)
    return tariff_id


def tariff_at(connection: Connection, site_id: int | None, hour: int) -> Tariff | None:
    """What is in force at a site in an hour."""
    row = connection.execute(in_force(site_id, hour).limit(1)).one_or_none()
    return None if row is None else tariff_of(connection, row)


def in_force(site_id: int | None, hour: int) -> Any:
    """All tariffs with a price for that hour of the site, the one that counts first."""
    of = power_tariffs.c
    whose = of.site_id.is_(None) if site_id is None else or_(of.site_id.is_(None), of.site_id == site_id)
    return (
        select(power_tariffs, power_tariff_hours.c.price_micro.label("hour_micro"))
        .outerjoin(
            power_tariff_hours,
            and_(power_tariff_hours.c.tariff_id == of.id, power_tariff_hours.c.hour == hour),
        )
        .where(
            whose,
            of.from_s <= hour * HOUR_S,
            or_(of.until_s.is_(None), of.until_s > hour * HOUR_S),
            or_(of.kind != Kind.HOURLY.value, power_tariff_hours.c.price_micro.is_not(None)),
        )
        .order_by(of.site_id.is_(None), of.id.desc())
    )


def tariff_of(connection: Connection, row: Row[Any]) -> Tariff:
    """Of a row of `in_force`."""
    price = row.hour_micro if row.kind == Kind.HOURLY else row.price_micro
    tiers = tiers_of(connection, row.id) if row.kind == Kind.TIERED else ()
    return Tariff(id=row.id, currency=row.currency, price_micro=price, tiers=tiers)


def tiers_of(connection: Connection, tariff_id: int) -> tuple[tuple[int, int], ...]:
    """Where each begins, and its price."""
    of = power_tariff_tiers.c
    rows = connection.execute(
        select(of.from_kwh, of.price_micro).where(of.tariff_id == tariff_id).order_by(of.from_kwh)
    )
    return tuple((row.from_kwh, row.price_micro) for row in rows)


def tariff_in(connection: Connection, tariff_id: int, hour: int) -> Tariff:
    """A tariff by its number, as it is in an hour that it has a price for."""
    of = power_tariff_hours.c
    price = select(of.price_micro).where(of.tariff_id == power_tariffs.c.id, of.hour == hour)
    row = connection.execute(
        select(power_tariffs, price.scalar_subquery().label("hour_micro")).where(
            power_tariffs.c.id == tariff_id
        )
    ).one()
    return tariff_of(connection, row)


def list_tariffs(connection: Connection) -> tuple[TariffView, ...]:
    """All there ever were, the oldest first."""
    views = []
    for row in connection.execute(select(power_tariffs).order_by(power_tariffs.c.id)):
        hours = 0
        if row.kind == Kind.HOURLY:
            counted = select(power_tariff_hours.c.hour).where(power_tariff_hours.c.tariff_id == row.id)
            hours = len(connection.scalars(counted).all())
        views.append(
            TariffView(
                id=row.id,
                site_id=row.site_id,
                name=row.name,
                kind=Kind(row.kind),
                currency=row.currency,
                price_micro=row.price_micro,
                hours=hours,
                tiers=tiers_of(connection, row.id),
                from_s=row.from_s,
                until_s=row.until_s,
                source=row.source,
                added_at_s=row.added_at_s,
                added_by=row.added_by,
            )
        )
    return tuple(views)


def month_of(hour: int) -> tuple[int, int]:
    """The hours of the month (UTC) that an hour is of: the first, and the first of the next."""
    at = datetime.fromtimestamp(hour * HOUR_S, UTC)
    first = datetime(at.year, at.month, 1, tzinfo=UTC)
    after = datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=UTC)
    return int(first.timestamp()) // HOUR_S, int(after.timestamp()) // HOUR_S


def check_currency(currency: str) -> None:
    if not CURRENCY.fullmatch(currency):
        raise BadTariff(f"{currency!r:.40} is no currency: three to eight capital letters, SAT is satoshi")


def check_words(what: str, text: str) -> None:
    if not text or len(text) > WORDS_MAX or not text.isprintable() or text != text.strip():
        raise BadTariff(f"{what} is 1 to {WORDS_MAX} printable characters")


def check_price(micro: int) -> None:
    if abs(micro) > PRICE_MICRO_MAX:
        raise BadTariff(f"a price of {micro} micro-units for a kWh is none")


def _check_validity(from_s: int, until_s: int | None) -> None:
    if from_s < 0 or from_s % HOUR_S or (until_s is not None and until_s % HOUR_S):
        raise BadTariff("a tariff begins and ends with an hour")
    if until_s is not None and until_s <= from_s:
        raise BadTariff("a tariff ends after it begins")
