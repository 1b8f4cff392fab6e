"""Figures and names as people read them: exact integers in, text out.

Invariants: nothing is rounded up; an amount of money is never rounded at all. A name that somebody else
chose cannot hide or reorder anything: what has no shape on paper is shown as its escape. Must not know:
where a figure comes from.
"""

import unicodedata
from decimal import Decimal
from typing import Final

SAT_PER_BTC: Final = 10**8
PSAT_DIGITS: Final = 12
MICRO: Final = 10**6
J_PER_KWH: Final = 3_600_000
HASHRATE_UNITS: Final = ("H/s", "kH/s", "MH/s", "GH/s", "TH/s", "PH/s", "EH/s", "ZH/s")
DIFFICULTY_SUFFIXES: Final = ("", "k", "M", "G", "T", "P", "E")
DIGITS_SHOWN: Final = 4  # of a hashrate: the fifth changes with luck
WORK_CHARACTERS_MAX: Final = 22  # of an exact sum of difficulties; one that is longer is shortened
# Unicode categories without a shape of their own: controls, formats (text direction), surrogates,
# private use, unassigned, line and paragraph separators.
SHAPELESS: Final = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def visible(text: str) -> str:
    r"""The text with everything that has no shape as an escape: \x07, \u202e."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character if unicodedata.category(character) not in SHAPELESS else escaped(character)
        for character in text
    )


def escaped(character: str) -> str:
    r"""One character as \x07, \u202e or \U0001f600."""
    number = ord(character)
    if number <= 0xFF:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


def grouped(number: int) -> str:
    """1,234,567."""
    return f"{number:,}"


def btc(sat: int) -> str:
    """1.23456789, with a true minus sign."""
    whole, rest = divmod(abs(sat), SAT_PER_BTC)
    return f"{'−' if sat < 0 else ''}{whole:,}.{rest:08d}"  # noqa: RUF001


def sat_exact(sat: int, psat: int) -> str:
    """1,234.000000000567: satoshi to the last psat."""
    return f"{sat:,}.{psat:0{PSAT_DIGITS}d}"


def percent(bps: int) -> str:
    """98.76 % of basis points."""
    return f"{bps // 100}.{bps % 100:02d} %"


def percent_of(fraction: str) -> str:
    """A fraction given as text, in percent to four digits: 0.020000 is 2.0000 %."""
    return f"{Decimal(fraction) * 100:.4f} %".replace("-", "−")  # noqa: RUF001


def hashrate_unit(hps: int) -> int:
    """Which of HASHRATE_UNITS a hashrate is best told in."""
    return min(max(len(str(hps)) - 1, 0) // 3, len(HASHRATE_UNITS) - 1)


def hashrate(hps: int) -> str:
    """43.87 PH/s, rounded down."""
    unit = hashrate_unit(hps)
    whole, rest = divmod(hps, 1000**unit)
    decimals = min(max(DIGITS_SHOWN - len(str(whole)), 0), 3 * unit)
    shown = f"{rest:0{3 * unit}d}"[:decimals] if unit else ""
    return f"{whole:,}{'.' if shown else ''}{shown} {HASHRATE_UNITS[unit]}"


def difficulty(value: int | float) -> str:
    """64k of 65,536, as machines' settings have it: 1,024 times a step; what is no multiple is told whole."""
    if value < 1:
        return f"1/{grouped(round(1 / value))}"
    number, steps = int(value), 0
    while number and number % 1024 == 0 and steps + 1 < len(DIFFICULTY_SUFFIXES):
        number, steps = number // 1024, steps + 1
    return f"{grouped(number)}{DIFFICULTY_SUFFIXES[steps]}"


def amount(sat: int) -> str:
    """1,234 sat."""
    return f"{grouped(sat)} sat"


def micro(micro_units: int) -> str:
    """0.045 of 45,000 micro-units of a currency."""
    whole, rest = divmod(abs(micro_units), MICRO)
    decimals = f"{rest:06d}".rstrip("0")
    return f"{_minus(micro_units)}{whole:,}{'.' if decimals else ''}{decimals}"


def kwh(joules: int) -> str:
    """1,234.567 kWh."""
    return f"{_minus(joules)}{_thousandths(abs(joules) * 1000 // J_PER_KWH)} kWh"


def kilowatts(watts: int) -> str:
    """6,000.5 kW."""
    return f"{_minus(watts)}{abs(watts) // 1000:,}.{abs(watts) % 1000 // 100} kW"


def milligrams(mg: int) -> str:
    """Of CO2e: 24.500 g, 1.234 kg, 5.678 t."""
    for unit, size in (("t", 10**9), ("kg", 10**6)):
        if abs(mg) >= size:
            return f"{_minus(mg)}{_thousandths(abs(mg) * 1000 // size)} {unit}"
    return f"{_minus(mg)}{_thousandths(abs(mg))} g"


def _thousandths(number: int) -> str:
    return f"{number // 1000:,}.{number % 1000:03d}"


def _minus(number: int) -> str:
    return "−" if number < 0 else ""  # noqa: RUF001


def work(text: str) -> str:
    """A sum of difficulties given as exact text: grouped; one that is very long is cut, and says so."""
    whole, point, rest = text.partition(".")
    exact = f"{int(whole):,}{point}{rest}"
    return exact if len(exact) <= WORK_CHARACTERS_MAX else f"{exact[: WORK_CHARACTERS_MAX - 1]}…"


def moment(utc: str) -> str:
    """2026-09-01T06:00:59Z as 2026-09-01 06:00."""
    return utc[:16].replace("T", " ")


def confirmations(booked: int) -> str:
    """What is booked at 1 and at 6 has that many, or more by now."""
    return f"{booked} or more" if booked else "0"
