"""Where machines are, as a table in a file: what a spreadsheet saves, and takes.

    tenant,container,unit,address,port,firmware

Cells behind the third may be empty: without an address it is where the machine mines from, without a firmware
it is what the machine says. Invariant: all lines are right, or each wrong one is told with its number.
Must not know: files, what is in the books.
"""

import csv
import io
from collections.abc import Iterable
from typing import Final

from pool.fleet.nameplates import refuse
from pool.fleet.registry import NAME_CHARS_MAX
from pool.fleet.registry_error import RegistryError
from pool.power.control.contract import Firmware, MachineName
from pool.power.control.rows import MachineAddress
from pool.power.control.settings import address_of
from pool.reports.formulas import no_formula

COLUMNS: Final = ("tenant", "container", "unit", "address", "port", "firmware")
LINES_MAX: Final = 100_000  # machines of a large site, and room


def written(rows: Iterable[MachineAddress]) -> str:
    """The table."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([no_formula(it) for it in cells(row).values()])
    return out.getvalue()


def cells(row: MachineAddress) -> dict[str, str]:
    """Of a line, by column."""
    found = {column: getattr(row, column) for column in COLUMNS}
    return {column: "" if it is None else str(it) for column, it in found.items()}


def read(text: str) -> list[MachineAddress]:
    """Its rows. Raises RegistryError with every wrong line."""
    text = text.removeprefix("\ufeff")
    separator = max(",;\t", key=text.partition("\n")[0].count)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        raise RegistryError(f"this is no table: {error}") from None
    if len(lines) > LINES_MAX:
        raise RegistryError(f"a table has at most {LINES_MAX} lines")
    columns = [it.strip().lower() for it in lines[0]] if lines else []
    if len(set(columns)) < len(columns) or not {*COLUMNS[:3]} <= {*columns} <= {*COLUMNS}:
        raise RegistryError(f"line 1: the columns are {', '.join(COLUMNS)}, the first three must be there")
    wrong: list[str] = []
    found: dict[MachineName, MachineAddress] = {}
    for number, line in enumerate(lines[1:], 2):
        if any(it.strip() for it in line):
            try:
                row = checked(**dict(zip(columns, (it.strip() for it in line), strict=False)))
                if row.machine in found:
                    raise ValueError(f"{row.machine} has a line before")
                found[row.machine] = row
            except ValueError as error:
                wrong.append(f"line {number}: {error}")
    refuse(wrong)
    return list(found.values())


def checked(
    tenant: str, container: str, unit: str, address: str = "", port: str = "", firmware: str = ""
) -> MachineAddress:
    """As it is kept. Raises ValueError."""
    for what, name in (("tenant", tenant), ("container", container), ("unit", unit)):
        if len(name) > NAME_CHARS_MAX or not name.isprintable():
            raise ValueError(f"a {what} has at most {NAME_CHARS_MAX} printable characters")
    if not tenant or not unit:
        raise ValueError("a machine has a tenant and a unit")
    numbers = address_of(address) if address else None
    if address and numbers is None:
        raise ValueError(f"{address!r:.60} is no address: give it as numbers, like 10.0.0.7")
    if port and not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65_535):
        raise ValueError(f"{port!r:.20} is no port")
    if port and not address:
        raise ValueError("a port is an address's")
    if firmware and firmware not in {it.value for it in Firmware}:
        raise ValueError(f"{firmware!r:.40} is none of {', '.join(it.value for it in Firmware)}")
    return MachineAddress(
        tenant=tenant,
        container=container,
        unit=unit,
        address=None if numbers is None else str(numbers),
        port=int(port) if port else None,
        firmware=Firmware(firmware) if firmware else None,
    )
