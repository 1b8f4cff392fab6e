"""What a currency is worth in satoshi, as persons say: from a time, with where they have it from.

A rate holds until the next one of its currency, and for HOLDS_S at most: a price that old is none. Nothing is
charged in a currency without one, and what waited is charged once there is: by the rate of its own hour.

Invariants: exact fractions; never from the network. Must not know: what is paid with it.
"""

from fractions import Fraction
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, insert, select

from payouts.book_time import book_time
from payouts.energy.tariffs import BadTariff, check_currency, check_words
from payouts.schemas.energy import power_exchange

SATOSHI: Final = "SAT"  # needs no rate
HOLDS_S: Final = (
    7 * 86_400
)  # over the longest holidays of banks; whoever keeps an old one gains a week at most
PART_MAX: Final = 2**63 - 1  # of a fraction, in a column
RATES_MAX: Final = 8_784  # of a file: a leap year of hours


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """Satoshi for a unit; `id` None: satoshi for satoshi."""

    id: int | None
    sat: Fraction


class NewExchange(msgspec.Struct, frozen=True, kw_only=True):
    currency: str
    sat: Fraction
    from_s: int
    source: str

    def __post_init__(self) -> None:
        check_currency(self.currency)
        check_words("a source", self.source)
        if self.currency == SATOSHI:
            raise BadTariff("a satoshi is a satoshi")
        if not 0 < self.sat.numerator <= PART_MAX or self.sat.denominator > PART_MAX:
            raise BadTariff(f"{in_full(self.sat)} satoshi for a {self.currency} is no rate")
        if self.from_s < 0:
            raise BadTariff("a rate from before 1970")


class ExchangeView(msgspec.Struct, frozen=True, kw_only=True):
    """A rate as it is listed."""

    id: int
    currency: str
    sat: str  # exactly: 1234, or 5000/3
    from_s: int
    source: str
    added_at_s: int
    added_by: str


IN_SATOSHI: Final = Exchange(id=None, sat=Fraction(1))


def add_exchange(connection: Connection, new: NewExchange, *, by: str, now_s: int) -> int:
    """Its number. It holds for hours that are not charged yet."""
    if new.from_s > now_s:
        raise BadTariff("nobody knows yet what a currency will be worth")
    made = insert(power_exchange).values(
        currency=new.currency,
        sat_numerator=new.sat.numerator,
        sat_denominator=new.sat.denominator,
        from_s=new.from_s,
        source=new.source,
        added_at_s=book_time(connection, now_s),
        added_by=by,
    )
    return int(connection.execute(made.returning(power_exchange.c.id)).scalar_one())


def exchange_at(connection: Connection, currency: str, at_s: int) -> Exchange | None:
    """What a unit is worth then, None where nobody has said."""
    if currency == SATOSHI:
        return IN_SATOSHI
    row = connection.execute(holding(currency, at_s).limit(1)).one_or_none()
    return None if row is None else exchange_of(row)


def exchange_in(connection: Connection, exchange_id: int | None) -> Exchange:
    """A rate by its number."""
    if exchange_id is None:
        return IN_SATOSHI
    found = select(power_exchange).where(power_exchange.c.id == exchange_id)
    return exchange_of(connection.execute(found).one())


def holding(currency: str, at_s: int) -> Any:
    """All rates that hold then, the one that counts first."""
    of = power_exchange.c
    return (
        select(power_exchange)
        .where(of.currency == currency, of.from_s <= at_s, of.from_s > at_s - HOLDS_S)
        .order_by(of.from_s.desc(), of.id.desc())
    )


def exchange_of(row: Any) -> Exchange:
    return Exchange(id=row.id, sat=Fraction(row.sat_numerator, row.sat_denominator))


def list_exchange(connection: Connection, rows_max: int) -> tuple[ExchangeView, ...]:
    """The newest, and of these the newest last."""
    rows = connection.execute(select(power_exchange).order_by(power_exchange.c.id.desc()).limit(rows_max))
    return tuple(
        ExchangeView(
            id=row.id,
            currency=row.currency,
            sat=in_full(Fraction(row.sat_numerator, row.sat_denominator)),
            from_s=row.from_s,
            source=row.source,
            added_at_s=row.added_at_s,
            added_by=row.added_by,
        )
        for row in reversed(rows.all())
    )


def in_full(value: Fraction) -> str:
    """As text, exactly: 1234 or 5000/3."""
    return str(value)
