"""A real PostgreSQL server for the tests, and a fresh database on either engine for each of them.

The server is started once a session from the binaries of Debian's `postgresql` (or any in PATH), on a
Unix socket in a directory of its own, and stopped at the end. PostgreSQL does not run as root: started
by root it becomes `postgres`, or `nobody`. Where there are no binaries the tests that need it are
skipped and say so; with CI=true they fail. Load with `pytest_plugins = ("tests.postgres",)`.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pool.store import Store
from tests.databases import Databases, PostgresDatabases, SqliteDatabases, fresh_store

START_S_MAX = 120  # for a loaded machine; it takes less than one
STOP_S_MAX = 120
MISSING = "PostgreSQL is not tested: no initdb and postgres here (Debian: apt-get install postgresql)"


def binary(name: str) -> str | None:
    """The newest installed, else the one in PATH."""
    installed = sorted(
        Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3].split(".")[0])
    )
    return str(installed[-1]) if installed else shutil.which(name)


def unprivileged() -> dict[str, Any]:
    """How to start a process as somebody who is not root."""
    if os.geteuid() != 0:
        return {}
    accounts = {account.pw_name: account for account in pwd.getpwall()}
    account = accounts.get("postgres") or accounts["nobody"]
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Path]:
    """A running server: the directory of its socket. Its superuser is `angara`."""
    initdb, postgres = binary("initdb"), binary("postgres")
    if not initdb or not postgres:
        if os.environ.get("CI") == "true":
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    # Not below pytest's own directory, which nobody but its owner may enter.
    home = Path(tempfile.mkdtemp(prefix="angara-postgres-"))
    account = unprivileged()
    if account:
        shutil.chown(home, account["user"], account["group"])
    data, log = home / "data", home / "log"
    subprocess.run(
        [initdb, "-D", data, "-U", "angara", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
        check=True,
        capture_output=True,
        cwd=home,
        **account,
    )
    with log.open("wb") as output:
        server = subprocess.Popen(
            [postgres, "-D", data, "-k", home, "-c", "listen_addresses=", "-c", "max_connections=40"],
            stdout=output,
            stderr=output,
            cwd=home,
            **account,
        )
    try:
        wait_until_up(home, server, log)
        yield home
    finally:
        server.send_signal(signal.SIGINT)  # fast shutdown: sessions are cut off
        server.wait(STOP_S_MAX)
        shutil.rmtree(home)


def wait_until_up(home: Path, server: subprocess.Popen[bytes], log: Path) -> None:
    """Return when it answers; fail with its log when it stops or never does."""
    deadline_s = time.monotonic() + START_S_MAX
    while server.poll() is None and time.monotonic() < deadline_s:
        try:
            psycopg.connect(host=str(home), user="angara", dbname="postgres").close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"PostgreSQL did not start:\n{log.read_text()}")


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
