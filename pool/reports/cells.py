"""Cells: a figure as it is shown, with the exact value behind it.

Must not know: which table a cell is in.
"""

from payouts.rates import PSAT_PER_SAT
from pool.reports import figures
from pool.reports.document import Cell

BLANK = Cell("", None)


def amount(sat: int | None) -> Cell:
    """Satoshi, shown in BTC."""
    return Cell("n/a", None) if sat is None else Cell(figures.btc(sat), sat)


def exact(total_psat: int) -> Cell:
    """Satoshi to the last psat; for machines too, as text."""
    shown = figures.sat_exact(*divmod(abs(total_psat), PSAT_PER_SAT))
    minus = total_psat < 0
    return Cell(f"{'−' if minus else ''}{shown}", f"{'-' if minus else ''}{shown.replace(',', '')}")  # noqa: RUF001


def count(number: int) -> Cell:
    return Cell(figures.grouped(number), number)


def number(value: int | None) -> Cell:
    """A name that is a number: a batch, a transaction."""
    return BLANK if value is None else Cell(str(value), value)


def percent(bps: int | None) -> Cell:
    return BLANK if bps is None else Cell(figures.percent(bps), bps)


def hashrate(hps: int | None) -> Cell:
    return BLANK if hps is None else Cell(figures.hashrate(hps), hps)


def kwh(joules: int) -> Cell:
    return Cell(figures.kwh(joules), joules)


def watts(value: int | None) -> Cell:
    return BLANK if value is None else Cell(figures.kilowatts(value), value)


def carbon(mg: int) -> Cell:
    """Of CO2e."""
    return Cell(figures.milligrams(mg), mg)


def work(text: str) -> Cell:
    """A sum of difficulties."""
    return Cell(figures.work(text), text)


def moment(utc: str) -> Cell:
    return Cell(figures.moment(utc), utc)
