"""The operator's commands for what a kWh costs, and what a currency is worth.

What is said here is what tenants are charged by, so a second person agrees to it. Must not know: terminals,
files.
"""

from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from payouts.energy.exchange import RATES_MAX, ExchangeView, NewExchange, add_exchange, list_exchange
from payouts.energy.tariffs import Kind, NewTariff, TariffView, add_tariff, list_tariffs
from pool.admin.command import Commands, Guarded, Question
from pool.admin.desk import Desk, OperatorDesk, valid, wall_s
from pool.admin.pages import Page, Paged, page_of
from pool.books.changes.changes import State
from pool.fleet.registry_error import RegistryError
from pool.people.roles import Role
from pool.power.energy.places import site_named, site_names
from pool.power.energy.price_tables import fraction_of

SHOWN_MAX: Final = 1_000  # exchange rates in a list: the newest


class TariffAdd(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One price, or tiers: pairs of the kWh of a month that one begins at, and its price. Prices are
    micro-units of the currency for a kWh. `site` None: of all sites; `from_s` None: always."""

    name: str
    currency: str
    source: str
    site: str | None = None
    price_micro: int | None = None
    tiers: tuple[tuple[int, int], ...] = ()
    from_s: int | None = None
    until_s: int | None = None


class TariffImport(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Pairs of an hour since 1970 and its price."""

    name: str
    currency: str
    source: str
    site: str | None = None
    hours: tuple[tuple[int, int], ...]


class TariffList(Paged, frozen=True, forbid_unknown_fields=True):
    pass


class ExchangeSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`sat`: satoshi for a unit, 1234.5 or 5000/3; from then on, or from now."""

    currency: str
    sat: str
    source: str
    from_s: int | None = None


class Rate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    currency: str
    sat: str
    from_s: int


class ExchangeImport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    source: str
    rates: tuple[Rate, ...]


class ExchangeList(Paged, frozen=True, forbid_unknown_fields=True):
    pass


class TariffRow(TariffView, frozen=True, kw_only=True):
    """With the name of its site; None: of all."""

    site: str | None


class Imported(msgspec.Struct, frozen=True):
    """How many rows were written down."""

    rows: int


def tariff_add(desk: OperatorDesk, it: TariffAdd) -> TariffRow:
    """A price, or tiers, that hold until a newer tariff does."""
    tiers = dict(it.tiers)
    if len(tiers) < len(it.tiers):
        raise RegistryError("a tier begins twice at the same kWh")

    def add(connection: Connection) -> int:
        new = NewTariff(
            name=it.name,
            kind=Kind.TIERED if tiers else Kind.FIXED,
            currency=it.currency,
            source=it.source,
            site_id=None if it.site is None else site_named(connection, it.site),
            price_micro=it.price_micro,
            tiers=tiers,
            from_s=it.from_s or 0,
            until_s=it.until_s,
        )
        return add_tariff(connection, new, by=desk.by, now_s=wall_s())

    return _added(desk, valid(lambda: desk.write(add)))


def tariff_import(desk: OperatorDesk, it: TariffImport) -> TariffRow:
    """Prices by the hour, which hold for these hours until newer ones do."""
    hours = dict(it.hours)
    if len(hours) < len(it.hours):
        raise RegistryError("an hour is there twice")

    def add(connection: Connection) -> int:
        new = NewTariff(
            name=it.name,
            kind=Kind.HOURLY,
            currency=it.currency,
            source=it.source,
            site_id=None if it.site is None else site_named(connection, it.site),
            hours=hours,
        )
        return add_tariff(connection, new, by=desk.by, now_s=wall_s())

    return _added(desk, valid(lambda: desk.write(add)))


def tariff_list(desk: Desk, it: TariffList) -> Page[TariffRow]:
    """All there ever were: of those with a price for an hour the newest of the site holds."""
    return page_of(it, desk.read(_tariffs), lambda row: (row.id,))


def exchange_set(desk: OperatorDesk, it: ExchangeSet) -> ExchangeView:
    """What a unit of a currency is worth, until it is said anew, and for a week at most."""
    now_s = wall_s()
    new = valid(
        lambda: NewExchange(
            currency=it.currency,
            sat=fraction_of(it.sat),
            from_s=now_s if it.from_s is None else it.from_s,
            source=it.source,
        )
    )
    number = valid(
        lambda: desk.write(lambda connection: add_exchange(connection, new, by=desk.by, now_s=now_s))
    )
    return next(it for it in desk.read(lambda read: list_exchange(read, SHOWN_MAX)) if it.id == number)


def exchange_import(desk: OperatorDesk, it: ExchangeImport) -> Imported:
    """Write all of them down, or none."""
    if not 0 < len(it.rates) <= RATES_MAX:
        raise RegistryError(f"1 to {RATES_MAX} rates at once")
    now_s = wall_s()

    def add(connection: Connection) -> None:
        for rate in it.rates:
            sat = fraction_of(rate.sat)
            new = NewExchange(currency=rate.currency, sat=sat, from_s=rate.from_s, source=it.source)
            add_exchange(connection, new, by=desk.by, now_s=now_s)

    valid(lambda: desk.write(add))
    return Imported(len(it.rates))


def exchange_list(desk: Desk, it: ExchangeList) -> Page[ExchangeView]:
    """The newest thousand."""
    rows = desk.read(lambda connection: list_exchange(connection, SHOWN_MAX))
    return page_of(it, rows, lambda row: (row.id,))


def tariff_name(it: TariffAdd | TariffImport) -> str:
    return f"tariff/{it.name}"


def tariff_state(connection: Connection, subject: str) -> State:
    name = subject.partition("/")[2]
    rows: list[Any] = [msgspec.to_builtins(it) for it in list_tariffs(connection) if it.name == name]
    return {"tariffs": rows[-5:], "there_are": len(rows)}


def currency_of(it: ExchangeSet) -> str:
    return f"exchange/{it.currency}"


def all_currencies(it: ExchangeImport) -> str:
    return "exchange"


def exchange_state(connection: Connection, subject: str) -> State:
    """What was said last."""
    currency = subject.partition("/")[2]
    rows = list_exchange(connection, SHOWN_MAX)
    newest = [it for it in rows if not currency or it.currency == currency][-1:]
    return {"newest": [msgspec.to_builtins(it) for it in newest]}


def _added(desk: Desk, number: int) -> TariffRow:
    return next(it for it in desk.read(_tariffs) if it.id == number)


def _tariffs(connection: Connection) -> list[TariffRow]:
    names = site_names(connection)
    return [
        TariffRow(**msgspec.structs.asdict(it), site=names.get(it.site_id or 0))
        for it in list_tariffs(connection)
    ]


COMMANDS: Final[Commands] = {
    "tariff.add": Guarded(TariffAdd, tariff_add, tariff_name, tariff_state, Role.PAYER, makes_books=False),
    "tariff.import": Guarded(
        TariffImport, tariff_import, tariff_name, tariff_state, Role.PAYER, makes_books=False
    ),
    "tariff.list": Question(TariffList, tariff_list),
    "exchange.set": Guarded(
        ExchangeSet, exchange_set, currency_of, exchange_state, Role.PAYER, makes_books=False
    ),
    "exchange.import": Guarded(
        ExchangeImport, exchange_import, all_currencies, exchange_state, Role.PAYER, makes_books=False
    ),
    "exchange.list": Question(ExchangeList, exchange_list),
}
