"""Watts, errors and joules as people read and write them. Must not know: what is asked for with them."""

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation, Overflow
from pathlib import Path
from typing import Final

from pool.reports.figures import grouped
from pool.settings_file import BadConfig

BPS_PER_PERCENT: Final = 100


def kilowatts(watts: int) -> str:
    return f"{Decimal(watts) / 1000:,.1f} kW"


def joules_per_th(mj_per_th: int) -> str:
    return f"{Decimal(mj_per_th) / 1000:.1f} J/TH"


def within(error_bps: int) -> str:
    """Both ways."""
    percent = Decimal(error_bps) / BPS_PER_PERCENT
    return "unknown" if percent >= 1_000 else f"{percent:.1f} %"


def terahashes(hashrate_ghs: int) -> str:
    return f"{(Decimal(hashrate_ghs) / 1000).normalize():f} TH/s" if hashrate_ghs else "0 TH/s"


def watts_of(watts: int) -> str:
    return f"{grouped(watts)} W"


def scaled(text: str | None, scale: int, option: str, what: str, *, most: int = 10**15) -> int | None:
    """A decimal as a whole number of a smaller unit. Raises BadConfig where it is none."""
    if text is None:
        return None
    try:
        value = Decimal(text) * scale
        whole = int(value) if value.is_finite() and abs(value) <= most else None
    except (InvalidOperation, Overflow):
        whole = None
    if whole is None or whole != value:
        raise BadConfig(f"{option}: {text!r:.40} is not a number of {what}")
    return whole


def time_of(text: str | None, option: str) -> int | None:
    """Unix seconds; UTC where no zone is said. Raises BadConfig."""
    if text is None or text == "now":
        return None
    try:
        at = datetime.fromisoformat(text)
        return int((at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        raise BadConfig(f"{option}: {text!r:.40} is not a time, like 2026-11-22T00:00Z") from None


def table_of(file: Path) -> str:
    """As a spreadsheet saved it. Raises BadConfig."""
    from pool.fleet.nameplates import decoded  # a third of a second, of who imports

    try:
        return decoded(file.read_bytes())
    except OSError as error:
        raise BadConfig(f"{file}: {error.strerror}") from None
