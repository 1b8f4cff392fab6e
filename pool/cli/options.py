"""The options that commands have in common, by what a command takes: books, and a form for what it shows.

    @app.command("list")
    @with_options
    def list_all(books: Books, form: ListForm) -> None:

has `-c/--config`, `--data-dir` and `--database` in place of `books`, `--json` and `--csv` in place of `form`.

Must not know: what a command does.
"""

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer

from pool.cli.books import Books
from pool.cli.output import Form, tell
from pool.requests.made import RequestMade
from pool.settings_file import BadConfig

# Of a command that may have to wait for a second person, and must not.
GuardedBooks = Annotated[Books, "break_glass"]
ShowForm = Annotated[Form, "as_json"]
ListForm = Annotated[Form, "as_json", "as_csv"]

SignedBooks = Annotated[Books, "token_file"]  # of a command in which it matters who gives it


SEED_MAX: Final = 2**64 - 1  # what the generators in native code take


def number(least: float, most: float | None, words: str) -> Any:
    """An option between bounds, which let nan through by themselves: it is on neither side of any."""

    def finite(value: float | None) -> float | None:
        if value is not None and not math.isfinite(value):
            raise typer.BadParameter(f"{value} is no number")
        return value

    return typer.Option(min=least, max=most, callback=finite, help=words)


class NamedBooks(NamedTuple):
    """Books that a command may need: by what names them, and not looked for yet."""

    config: Path | None
    data_dir: Path | None
    database: str | None

    def opened(self) -> Books:
        """Raises BadConfig."""
        return books_of(*self)


OPTIONS: Final[dict[str, Any]] = {
    "config": Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Settings of the pool (TOML), ./angara.toml without."),
    ],
    # Who may only come as far as the socket cannot list the directory.
    "data_dir": Annotated[
        Path | None,
        typer.Option("--data-dir", readable=False, help="Data directory, in place of the settings."),
    ],
    "database": Annotated[
        str | None, typer.Option("--database", help="Database URL, where it is not in the data directory.")
    ],
    "token_file": Annotated[
        Path | None,
        typer.Option(help="File with your token, 0600: you give this command, whose account it is."),
    ],
    "break_glass": Annotated[
        str | None,
        typer.Option("--break-glass", metavar="WHY", help="An admin's: at once, and everybody is told why."),
    ],
    "as_json": Annotated[bool, typer.Option("--json", help="JSON with exact values, for programs.")],
    "as_csv": Annotated[bool, typer.Option("--csv", help="CSV with exact values, for spreadsheets.")],
}


def books_of(
    config: Path | None,
    data_dir: Path | None,
    database: str | None,
    token_file: Path | None = None,
    break_glass: str | None = None,
) -> Books:
    return Books(config, data_dir, database, _without_pool, token_file, break_glass)


def _without_pool(books: Books, command: str, body: bytes) -> Any:
    from pool.cli.without_pool import execute_without_pool  # seconds of imports

    return execute_without_pool(books, command, body)


def form_of(as_json: bool = False, as_csv: bool = False) -> Form:
    if as_json and as_csv:
        raise BadConfig("give --json or --csv, not both")
    return Form.JSON if as_json else Form.CSV if as_csv else Form.TEXT


TAKES: Final[dict[Any, tuple[Callable[..., Any], tuple[str, ...]]]] = {
    Books: (books_of, ("config", "data_dir", "database")),
    SignedBooks: (books_of, ("config", "data_dir", "database", "token_file")),
    GuardedBooks: (books_of, ("config", "data_dir", "database", "token_file", "break_glass")),
    NamedBooks: (NamedBooks, ("config", "data_dir", "database")),
    ShowForm: (form_of, ("as_json",)),
    ListForm: (form_of, ("as_json", "as_csv")),
}


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with options in place of what it takes. They come last, as in every command."""
    signature = inspect.signature(command)
    makers = {
        name: TAKES[it.annotation] for name, it in signature.parameters.items() if it.annotation in TAKES
    }
    names = [option for _, options in makers.values() for option in options]

    def run(**arguments: Any) -> None:
        made = {
            name: make(*(arguments.pop(option) for option in options))
            for name, (make, options) in makers.items()
        }
        try:
            command(**arguments, **made)
        except RequestMade as request:
            asked = request.answer["request"]
            words = f"{request}: see `angara request show {asked['id']}`"
            tell(words, request.answer, Form.JSON if Form.JSON in made.values() else Form.TEXT)

    own = [it for name, it in signature.parameters.items() if name not in makers]
    common = [_parameter(name) for name in names]
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = signature.replace(parameters=[*own, *common])  # type: ignore[attr-defined]
    run.__annotations__ = {it.name: it.annotation for it in (*own, *common)} | {"return": None}
    return run


def _parameter(name: str) -> inspect.Parameter:
    default = False if name.startswith("as_") else None
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=OPTIONS[name])
