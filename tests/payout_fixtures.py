"""A regtest chain for all payout tests, and books on SQLite for those that need not run on both databases.

Load with `pytest_plugins = ("tests.postgres", "tests.payout_fixtures")`.
"""

from collections.abc import Iterator

import pytest

from pool.store import Store
from tests.databases import SqliteDatabases, fresh_store
from tests.payout_harness import Regtest


@pytest.fixture(scope="session")
def regtest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Regtest]:
    """A chain for the whole session."""
    chain = Regtest(tmp_path_factory.mktemp("chain"))
    yield chain
    chain.close()


@pytest.fixture
def books(sqlite_databases: SqliteDatabases) -> Iterator[Store]:
    """A fresh database."""
    with fresh_store(sqlite_databases) as opened:
        yield opened
