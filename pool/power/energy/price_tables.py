"""Tables of prices, exchange rates and carbon, as a spreadsheet saves them.

    hour,price                     a kWh's, in the tariff's currency; an hour begins at that time
    currency,from,sat              satoshi for a unit, 1234 or 5000/3; or btc: units for a bitcoin
    from,until,g_per_kwh           grams of CO2e; an hour, where there is no until

Invariant: all lines are right, or each wrong one is told with its number. Must not know: files, what is in
the books.
"""

from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, Final

from payouts.energy.tariffs import HOUR_S, MICRO
from pool.fleet.nameplates import refuse
from pool.power.energy.tables import Cells, lines_of, moment_of, number_of

SAT_PER_BTC: Final = 10**8
DIGITS_MAX: Final = 40  # of a fraction that somebody types


def price_lines(text: str) -> dict[int, int]:
    """Micro-units by the hour since 1970. Raises RegistryError with every wrong line."""

    def line(cells: Cells) -> tuple[int, int]:
        price = number_of(cells, "price", MICRO, negative=True)
        if price is None:
            raise ValueError("it has no price")
        return _hour(cells["hour"]), price

    found: dict[int, int] = {}
    twice = []
    for hour, price in lines_of(text, ("hour", "price"), ("hour", "price"), line):
        if hour in found:
            twice.append(f"the hour {hour * HOUR_S} s after 1970 is there twice")
        found[hour] = price
    refuse(twice)
    return found


def exchange_lines(text: str) -> list[dict[str, Any]]:
    """Rates as the command `exchange.import` takes them."""

    def line(cells: Cells) -> dict[str, Any]:
        sat, btc = cells.get("sat"), cells.get("btc")
        if bool(sat) == bool(btc):
            raise ValueError("it has either sat, or btc")
        rate = fraction_of(sat) if sat else SAT_PER_BTC / fraction_of(btc or "")
        return {"currency": cells["currency"], "sat": str(rate), "from_s": moment_of(cells["from"])}

    return list(lines_of(text, ("currency", "from", "sat", "btc"), ("currency", "from"), line))


def carbon_lines(text: str) -> list[dict[str, Any]]:
    """Carbon as the command `carbon.import` takes it."""

    def line(cells: Cells) -> dict[str, Any]:
        milligrams = number_of(cells, "g_per_kwh", 1000)
        if milligrams is None:
            raise ValueError("it has no g_per_kwh")
        first = _hour(cells["from"])
        until = _hour(cells["until"]) if cells.get("until") else first + 1
        return {"from_hour": first, "until_hour": until, "mg_per_kwh": milligrams}

    return list(lines_of(text, ("from", "until", "g_per_kwh"), ("from", "g_per_kwh"), line))


def fraction_of(text: str) -> Fraction:
    """Of 1234, 1234.5 or 5000/3; above nothing. Raises ValueError."""
    try:
        if len(text) > DIGITS_MAX or not text.isascii():
            raise ValueError
        over, _, under = text.partition("/")
        value = Fraction(Decimal(over)) / (Fraction(int(under)) if under else 1)
    except (ValueError, InvalidOperation, OverflowError, ZeroDivisionError):
        value = Fraction(0)
    if value <= 0:
        raise ValueError(f"{text!r:.40} is no number above nothing, like 1234.5 or 5000/3")
    return value


def _hour(cell: str) -> int:
    at_s = moment_of(cell)
    if at_s % HOUR_S:
        raise ValueError(f"{cell!r:.40} is not when an hour begins")
    return at_s // HOUR_S
