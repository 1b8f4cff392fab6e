"""A real PostgreSQL server for the session, and a fresh database on either engine for each test.

Load with `pytest_plugins = ("tests.postgres",)`.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pool.store import Store
from tests.databases import Databases, PostgresDatabases, SqliteDatabases, fresh_store
from tests.postgres_server import PostgresServer


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Path]:
    """A running server: the directory of its socket."""
    server = PostgresServer()
    try:
        server.start()
        yield server.home
    finally:
        server.remove()


@pytest.fixture(scope="session")
def sqlite_databases(tmp_path_factory: pytest.TempPathFactory) -> SqliteDatabases:
    return SqliteDatabases(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture(scope="session")
def postgres_databases(postgres_server: Path) -> PostgresDatabases:
    return PostgresDatabases(postgres_server)


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest) -> Databases:
    """Where fresh databases come from: SQLite, then PostgreSQL."""
    kind = "sqlite_databases" if request.param == "sqlite" else "postgres_databases"
    found: Databases = request.getfixturevalue(kind)
    return found


@pytest.fixture
def store(databases: Databases) -> Iterator[Store]:
    """A fresh, open database, on SQLite and then on PostgreSQL."""
    with fresh_store(databases) as opened:
        yield opened
