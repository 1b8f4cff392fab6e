"""Fresh databases for tests, on SQLite and on PostgreSQL alike, and how a transaction is killed.

The fixtures that hand them out are in `tests.postgres`.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from psycopg import sql
from sqlalchemy import Connection, Engine, event, insert, text

from payouts.schema import containers, tenants, workers
from pool.data_dir import database_url
from pool.store import Store, open_store, upgrade
from tests.in_memory import is_there


class PostgresDatabases:
    """Makes databases on the server; each is a copy of an upgraded one and dropped after use."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._made = 0
        # With no disk below, copying the template's files takes half the time of logging every page of it.
        self._strategy = sql.SQL("STRATEGY FILE_COPY" if is_there(home) and self._version() >= 150000 else "")
        self._create("template_angara", "template0")
        upgrade(self._url("template_angara"))

    @contextmanager
    def fresh_url(self, *, upgraded: bool = True) -> Iterator[str]:
        """The URL of a database of the present schema, or an empty one."""
        self._made += 1
        name = f"test_{self._made}"
        self._create(name, "template_angara" if upgraded else "template0")
        yield self._url(name)
        self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _url(self, name: str) -> str:
        return f"postgresql://angara@/{name}?host={self._home}"

    def _create(self, name: str, template: str) -> None:
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {} {}")
        self._execute(create.format(sql.Identifier(name), sql.Identifier(template), self._strategy))

    def _execute(self, statement: sql.Composed) -> None:
        with self._connection() as connection:
            connection.execute(statement)

    def _version(self) -> int:
        with self._connection() as connection:
            return connection.info.server_version

    def _connection(self) -> psycopg.Connection:
        home = str(self._home)
        return psycopg.connect(host=home, user="angara", dbname="postgres", autocommit=True)


class SqliteDatabases:
    """Makes database files; each is a copy of an upgraded one and deleted after use."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made = 0
        upgrade(f"sqlite:///{directory}/template.db")

    @contextmanager
    def fresh_url(self, *, upgraded: bool = True) -> Iterator[str]:
        """The URL of a database of the present schema, or an empty one."""
        self._made += 1
        home = self._directory / str(self._made)
        home.mkdir()
        if upgraded:
            shutil.copy(self._directory / "template.db", home / "angara.db")
        yield f"sqlite:///{home}/angara.db"
        shutil.rmtree(home)


Databases = PostgresDatabases | SqliteDatabases


@contextmanager
def fresh_store(databases: Databases) -> Iterator[Store]:
    """A fresh, open database of the present schema."""
    with databases.fresh_url() as url:
        opened = open_store(url)
        try:
            yield opened
        finally:
            opened.close()


def store_in(data_dir: Path) -> Store:
    """The default database of a data directory, open; a new one where there is none."""
    file = data_dir / "angara.db"
    if not file.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_no_rows())
    return open_store(database_url(data_dir))


@cache
def _no_rows() -> bytes:
    """A database of the present schema: making one takes half a second."""
    with TemporaryDirectory() as directory:
        open_store(database_url(Path(directory))).close()
        return (Path(directory) / "angara.db").read_bytes()


def add_tenant(connection: Connection, tenant_id: int, name: str, workers_each: int = 2) -> None:
    """A tenant with one container; its workers have the ids tenant_id * 100 + 0, 1, ..."""
    connection.execute(insert(tenants).values(id=tenant_id, name=name, status="active", created_at_s=0))
    connection.execute(
        insert(containers).values(id=tenant_id, tenant_id=tenant_id, name="c01", created_at_s=0)
    )
    connection.execute(
        insert(workers),
        [
            {
                "id": tenant_id * 100 + i,
                "tenant_id": tenant_id,
                "container_id": tenant_id,
                "unit": f"u{i}",
                "first_seen_at_s": 0,
                "last_seen_at_s": 0,
            }
            for i in range(workers_each)
        ],
    )


def disarm(connection: Connection) -> None:
    """What somebody with all rights does before changing the books: no triggers, no foreign keys."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET session_replication_role = replica")
        return
    triggers = connection.scalars(text("SELECT name FROM sqlite_master WHERE type = 'trigger'"))
    for name in triggers.all():
        connection.exec_driver_sql(f"DROP TRIGGER {name}")
    connection.exec_driver_sql("PRAGMA defer_foreign_keys = 1")


class Crash(Exception):
    """The process is gone, as far as the database can tell."""


@contextmanager
def crash_at(statement: int | None) -> Iterator[None]:
    """Crash before the statement of that number (from 0), or before the commit where there are fewer.

    None does not crash. What was done after the last commit is lost, as it is when a process dies.
    """
    executed = 0

    def count(*_: object) -> None:
        nonlocal executed
        if executed == statement:
            raise Crash
        executed += 1

    def commit(*_: object) -> None:
        if statement is not None and executed <= statement:
            raise Crash

    event.listen(Engine, "before_cursor_execute", count)
    event.listen(Engine, "commit", commit)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", count)
        event.remove(Engine, "commit", commit)


@contextmanager
def crash_before(step: int) -> Iterator[None]:
    """Crash before the step of that number (from 0), of all statements and commits of all transactions."""
    steps = 0

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1
        if steps > step:
            raise Crash

    for name in ("before_cursor_execute", "commit"):
        event.listen(Engine, name, count)
    try:
        yield
    finally:
        for name in ("before_cursor_execute", "commit"):
            event.remove(Engine, name, count)
