"""Which books a command means: --data-dir, --database, or -c angara.toml. The same for every command.

Must not know: what the command does.
"""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from pool.config import BadConfig, load_config
from pool.data_dir import database_url

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="Settings of the pool (TOML).")]
DataDirOption = Annotated[Path | None, typer.Option(help="Data directory, in place of the settings.")]
DatabaseOption = Annotated[
    str | None, typer.Option(help="Database URL, where it is not in the data directory.")
]


class Books(msgspec.Struct, frozen=True):
    """A pool's data directory and database."""

    data_dir: Path
    database_url: str
    network: str | None  # what the settings say; without settings it is the book's own


def books_of(config: Path | None, data_dir: Path | None, database: str | None) -> Books:
    """The books that the options name; ./angara.toml where they name none. Raises BadConfig."""
    if config is not None and data_dir is not None:
        raise BadConfig("give --config or --data-dir, not both")
    if data_dir is not None:
        if not data_dir.is_dir():
            raise BadConfig(f"there is no data directory {data_dir}")
        return Books(data_dir, database or database_url(data_dir), None)
    settings = load_config(config if config is not None else Path("angara.toml"))
    return Books(settings.data_dir, database or settings.database_url, settings.network)
