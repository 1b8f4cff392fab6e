"""Nameplates as a table in a file: out for a spreadsheet, and in as one saves it.

    tenant,container,site,units,ths,kw

Commas, semicolons or tabs, as the spreadsheet's country has it; columns in any order, those behind the second
may be missing. An empty cell leaves what is there. What a spreadsheet would take for a formula goes out with
an apostrophe, which is taken off again.

Invariant: all lines are right, or each wrong one is told with its number. Must not know: files, what is in
the books.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from pool.fleet.registry import NAME_CHARS_MAX
from pool.fleet.registry_error import RegistryError
from pool.reports.formulas import no_formula

COLUMNS: Final = ("tenant", "container", "site", "units", "ths", "kw")
NUMBERS: Final = ("units", "ths", "kw")
NUMBER_MAX: Final = 10**9
LINES_MAX: Final = 2_000
WRONG_MAX: Final = 20  # that are told
DEFUSED: Final = re.compile(r"""(^|[;,|\t])(["\s]*)'(?=[=+\-@'\uff1d\uff0b\uff0d\uff20])""")


class Nameplate(msgspec.Struct, frozen=True, kw_only=True):
    """Of one container; None: as it is."""

    tenant: str
    container: str
    site: str | None = None
    units: int | None = None
    ths: int | None = None
    kw: int | None = None


def written(rows: Iterable[Nameplate]) -> str:
    """The table, for a spreadsheet."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in rows:
        cells = (getattr(row, column) for column in COLUMNS)
        writer.writerow([no_formula("" if it is None else str(it)) for it in cells])
    return out.getvalue()


def decoded(data: bytes) -> str:
    """As spreadsheets save it: UTF-8, UTF-16 with its mark, or the code page of Western Europe."""
    for mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        if data.startswith(mark):
            return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def read(text: str) -> list[Nameplate]:
    """The rows of the table. Raises RegistryError with every wrong line."""
    text = text.removeprefix("\ufeff")
    first, _, rest = text.partition("\n")
    said = re.fullmatch(r"sep=(.)\s*", first)  # Excel's own way to say it
    text, skipped = (rest, 1) if said else (text, 0)
    separator = said[1] if said else _separator(text)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        raise RegistryError(f"this is no table: {error}") from None
    if len(lines) > LINES_MAX:
        raise RegistryError(f"a table has at most {LINES_MAX} lines")
    columns = _columns(lines[0] if lines else [])
    wrong: list[str] = []
    found: dict[tuple[str, str], Nameplate] = {}
    for number, cells in enumerate(lines[1:], 2 + skipped):
        if not any(it.strip() for it in cells):
            continue
        try:
            row = _row(columns, cells)
            if (row.tenant, row.container) in found:
                raise ValueError(f"{row.tenant}.{row.container} has a line before")
            found[row.tenant, row.container] = row
        except ValueError as error:
            wrong.append(f"line {number}: {error}")
    refuse(wrong)
    return list(found.values())


def refuse(wrong: list[str]) -> None:
    """Raises RegistryError where something is."""
    if wrong:
        more = [f"and {len(wrong) - WRONG_MAX} more"] if len(wrong) > WRONG_MAX else []
        raise RegistryError("; ".join([*wrong[:WRONG_MAX], *more]) + ". Nothing was changed")


def _separator(text: str) -> str:
    header = text.partition("\n")[0]
    return max(",;\t", key=header.count)


def _columns(header: list[str]) -> list[str]:
    columns = [it.strip().lower() for it in header]
    for column in columns:
        if column not in COLUMNS:
            raise RegistryError(f"line 1: there is no column {column!r:.50}: they are {', '.join(COLUMNS)}")
    if len(set(columns)) < len(columns) or not {"tenant", "container"} <= set(columns):
        raise RegistryError("line 1: the columns tenant and container must be there, and each once")
    return columns


def _row(columns: list[str], cells: list[str]) -> Nameplate:
    if len(cells) > len(columns) and any(it.strip() for it in cells[len(columns) :]):
        raise ValueError(f"it has {len(cells)} cells, and there are {len(columns)} columns")
    said = {column: _meant(cell.strip()) for column, cell in zip(columns, cells, strict=False)}
    for column in ("tenant", "container", "site"):
        name = said.get(column, "")
        if len(name) > NAME_CHARS_MAX or not name.isprintable():
            raise ValueError(f"a {column} has at most {NAME_CHARS_MAX} printable characters")
    if not said.get("tenant") or not said.get("container"):
        raise ValueError("it has no tenant, or no container")
    numbers = dict(_numbers(said))
    return Nameplate(
        tenant=said["tenant"], container=said["container"], site=said.get("site") or None, **numbers
    )


def _numbers(said: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    for column in NUMBERS:
        cell = said.get(column, "")
        if not cell:
            continue
        if not (cell.isascii() and cell.isdigit() and len(cell) <= 10 and int(cell) <= NUMBER_MAX):
            raise ValueError(f"{column} is {cell!r:.30}, and must be a whole number without separators")
        yield column, int(cell)


def _meant(cell: str) -> str:
    """Without the apostrophes that it went out with."""
    plain = DEFUSED.sub(r"\1\2", cell)
    return plain if plain != cell and no_formula(plain) == cell else cell
