"""Which books a command means: the same for every command.

    -c FILE            the pool of these settings; ./angara.toml where nothing is said
    --data-dir DIR     the pool on this directory, without its settings; with --database URL where its
                       database is not in the directory
    --database URL     a database alone, past any pool that runs on it

Must not know: what a command does, and what it takes to open a book: a running pool is asked without.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from pool.cli.token_file import token_in
from pool.settings_file import BadConfig, data_dir_in

DEFAULT_CONFIG: Final = Path("angara.toml")


class Books:
    """A pool's books, by the options that name them. Raises BadConfig where they contradict each other.

    `without_pool` executes a command on them where no pool runs; `token_file` has who gives it, and `glass`
    why it must not wait."""

    def __init__(
        self,
        config: Path | None,
        data_dir: Path | None,
        database: str | None,
        without_pool: Callable[["Books", str, bytes], Any],
        token_file: Path | None = None,
        glass: str | None = None,
    ) -> None:
        if config is not None and data_dir is not None:
            raise BadConfig("give --config or --data-dir, not both")
        if config is not None and database is not None:
            raise BadConfig("the settings say where the database is: give --config or --database, not both")
        if data_dir is not None and not data_dir.is_dir():
            raise BadConfig(f"there is no data directory {data_dir}")
        if config is None and data_dir is None and database is None:
            config = DEFAULT_CONFIG
            if not config.exists():
                raise BadConfig(
                    f"there is no {config} here: say which pool, with --config, --data-dir or --database"
                )
        self.config = config
        self.data_dir = data_dir
        self.database = database
        self.glass = glass
        self._without_pool = without_pool
        self._token_file = token_file

    @property
    def token(self) -> str | None:
        """What proves who gives the command; None: it is whose account it is. Raises BadConfig."""
        return None if self._token_file is None else token_in(self._token_file)

    def ask(self, command: str, **params: Any) -> Any:
        """The command's result, from the running pool or from its database."""
        from pool.admin.client import ask  # a fifth of what help takes, which asks nobody

        data_dir = self.data_dir if self.config is None else data_dir_in(self.config)
        return ask(
            data_dir, partial(self._without_pool, self), command, params, token=self.token, glass=self.glass
        )
