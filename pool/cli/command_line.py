"""What the command lines of the pool's commands have in common: asking, and printing tables and JSON.

Must not know: what a command is about.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pool.admin.client import ask
from pool.admin.operators import operator_of
from pool.cli.options import books_of
from pool.reports.figures import visible

TEXT_COLUMNS: Final = 160  # of tables that are not for a terminal

JsonOption = Annotated[bool, typer.Option("--json", help="JSON, for programs.")]


def ask_pool(
    command: str, params: msgspec.Struct, config: Path | None, data_dir: Path | None, database: str | None
) -> Any:
    """The command's result, from the running pool or from its database."""
    books = books_of(config, data_dir, database)
    return ask(books.data_dir, books.database_url, books.network, command, params, operator())


def operator() -> str:
    """Who changes something, for the history: the system's user, whatever the environment says."""
    return operator_of(os.geteuid())


def print_json(value: object) -> None:
    typer.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


def say(words: str, *, err: bool = False) -> None:
    """A line of words, some of which others chose: a node, an upstream, whoever typed a name. What would move
    the cursor or change what is read has a shape."""
    typer.echo(visible(words), err=err)


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """A line for each; what is None has none."""
    for name, value in facts:
        if value is not None:
            typer.echo(f"{name:20} {visible(str(value))}")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns whose name ends in > are figures; None is a dash."""
    table = Table(box=None, pad_edge=False)
    for name in columns:
        figures = name.endswith(">")
        table.add_column(name.rstrip(">"), justify="right" if figures else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text("-" if value is None else visible(str(value))) for value in row))
    console = Console() if sys.stdout.isatty() else Console(width=TEXT_COLUMNS)
    console.print(table)


def print_lines(columns: Sequence[str], rows: Sequence[Sequence[str]], *, heads: bool = True) -> None:
    """Columns as in print_table, a line a row however long: 100,000 of them in seconds, and for grep."""
    names = [name.rstrip(">") for name in columns]
    shown = [[visible(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(names, *shown, strict=True)]
    for row in [names, *shown] if heads else shown:
        cells = [
            cell.rjust(width) if column.endswith(">") else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ]
        typer.echo("  ".join(cells).rstrip())


def moment(at_s: int) -> str:
    """2026-11-22 00:00:00Z."""
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S}Z"


def duration(seconds: float) -> str:
    """The two largest units of it: 3 d 4 h, 12 min 5 s."""
    left = int(seconds)
    parts: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count or parts:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"
