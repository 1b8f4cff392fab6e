"""Tables of models and of readings, as a spreadsheet saves them: commas, semicolons or tabs, columns in any
order, an empty cell for what is not said.

    tenant,container,unit,model,ths,watts,idle_watts,joules_per_th,error_percent
    meter,at,watts,counter_kwh

A number is written with a point, or with a comma where commas separate nothing. Invariant: all lines are
right, or each wrong one is told with its number. Must not know: files, what is in the books.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from pool.fleet.nameplates import refuse
from pool.fleet.registry_error import RegistryError
from pool.power.figures import MJ_PER_TH_MAX

LINES_MAX: Final = 100_000  # all machines of a tenant, or two months of minutes
MODEL_COLUMNS: Final = (
    "tenant",
    "container",
    "unit",
    "model",
    "ths",
    "watts",
    "idle_watts",
    "joules_per_th",
    "error_percent",
)
READING_COLUMNS: Final = ("meter", "at", "watts", "counter_kwh")
NUMBER_MAX: Final = 10**15
# Neither 1e-9999999, which is next to nothing, nor 1_0; what is within bounds is exact in 28 digits.
PLAIN: Final = re.compile(r"-?[0-9]{1,16}([.,][0-9]{1,9})?")
Cells = dict[str, str]


def model_lines(text: str) -> list[dict[str, Any]]:
    """Nameplates as the command `model.import` takes them. Raises RegistryError with every wrong line."""

    def line(cells: Cells) -> dict[str, Any]:
        if not cells.get("tenant") or not cells.get("container"):
            raise ValueError("it has no tenant, or no container")
        return {
            "container": f"{cells['tenant']}.{cells['container']}",
            "unit": cells.get("unit") or None,
            "model": cells.get("model") or None,
            "hashrate_ghs": number_of(cells, "ths", 1000),
            "watts": number_of(cells, "watts", 1),
            "idle_watts": number_of(cells, "idle_watts", 1),
            "mj_per_th": number_of(cells, "joules_per_th", 1000, most=MJ_PER_TH_MAX),
            "error_bps": number_of(cells, "error_percent", 100),
        }

    lines = list(lines_of(text, MODEL_COLUMNS, ("tenant", "container"), line))
    seen: set[tuple[str, str | None]] = set()
    twice = []
    for it in lines:
        key = it["container"], it["unit"]
        if key in seen:
            twice.append(f"{it['container']}{'' if it['unit'] is None else '.' + it['unit']} is there twice")
        seen.add(key)
    refuse(twice)
    return lines


def reading_lines(text: str) -> dict[str, list[dict[str, Any]]]:
    """Readings by meter, as the command `meter.import` takes them. Raises RegistryError likewise."""

    def line(cells: Cells) -> tuple[str, dict[str, Any]]:
        if not cells.get("meter"):
            raise ValueError("it has no meter")
        reading = {
            "at_s": moment_of(cells.get("at", "")),
            "watts": number_of(cells, "watts", 1),
            "counter_wh": number_of(cells, "counter_kwh", 1000),
        }
        if reading["watts"] is None and reading["counter_wh"] is None:
            raise ValueError("it has no watts, and nothing of a counter")
        return cells["meter"], reading

    found: dict[str, list[dict[str, Any]]] = {}
    for meter, reading in lines_of(text, READING_COLUMNS, ("meter", "at"), line):
        found.setdefault(meter, []).append(reading)
    return found


def lines_of(
    text: str, known: tuple[str, ...], needed: tuple[str, ...], made: Callable[[Cells], Any]
) -> Iterator[Any]:
    """What `made` makes of each line of a table with columns of the `known` ones. Raises RegistryError."""
    text = text.removeprefix("\ufeff")
    header = text.partition("\n")[0]
    separator = max(",;\t", key=header.count)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        raise RegistryError(f"this is no table: {error}") from None
    if len(lines) > LINES_MAX:
        raise RegistryError(f"a table has at most {LINES_MAX} lines")
    columns = [it.strip().lower() for it in (lines[0] if lines else [])]
    unknown = [it for it in columns if it not in known]
    if unknown or len(set(columns)) < len(columns) or not set(needed) <= set(columns):
        raise RegistryError(
            f"line 1: the columns are {', '.join(known)}, each once; {' and '.join(needed)} must be there"
        )
    wrong, found = [], []
    for number, cells in enumerate(lines[1:], 2):
        if not any(it.strip() for it in cells):
            continue
        try:
            if any(it.strip() for it in cells[len(columns) :]):
                raise ValueError(f"it has {len(cells)} cells, and there are {len(columns)} columns")
            found.append(made({name: it.strip() for name, it in zip(columns, cells, strict=False)}))
        except ValueError as error:
            wrong.append(f"line {number}: {error}")
    refuse(wrong)
    yield from found


def number_of(
    cells: Cells, column: str, scale: int, *, negative: bool = False, most: int = NUMBER_MAX
) -> int | None:
    """Whole, in a smaller unit. Raises ValueError."""
    cell = cells.get(column, "")
    if not cell:
        return None
    plain = PLAIN.fullmatch(cell) is not None
    value = Decimal(cell.replace(",", ".") if plain else "NaN") * scale
    least = -most if negative else 0
    if not plain or not least <= value <= most or value != int(value):
        raise ValueError(f"{column} is {cell!r:.30}, and must be a number, down to 1/{scale}")
    return int(value)


def moment_of(cell: str) -> int:
    """Unix seconds, or ISO 8601; UTC where no zone is said. Raises ValueError."""
    if cell.isascii() and cell.isdigit() and len(cell) <= 11:
        return int(cell)
    try:
        at = datetime.fromisoformat(cell)
        return int((at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        raise ValueError(f"at is {cell!r:.40}, and must be a time, like 2026-11-22T00:00Z") from None
