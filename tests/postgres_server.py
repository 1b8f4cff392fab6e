"""A real PostgreSQL server for the tests, from the binaries of Debian's `postgresql` (or any in PATH).

It is on a Unix socket in a directory of its own. PostgreSQL does not run as root: started by root it becomes
`postgres`, or `nobody`. Where there are no binaries the tests that need it are skipped and say so; with
CI=true they fail.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

START_S_MAX = 120  # for a loaded machine; it takes less than one
STOP_S_MAX = 120
CLUSTER = ("-U", "angara", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
SETTINGS = ("-c", "listen_addresses=", "-c", "max_connections=40")
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


class PostgresServer:
    """A server with a directory of its own, where its socket is; its superuser is `angara`."""

    def __init__(self) -> None:
        initdb, postgres = binary("initdb"), binary("postgres")
        if not initdb or not postgres:
            if os.environ.get("CI") == "true":
                pytest.fail(MISSING)
            pytest.skip(MISSING)
        # Not below pytest's own directory, which nobody but its owner may enter.
        self.home = Path(tempfile.mkdtemp(prefix="angara-postgres-"))
        self._account = unprivileged()
        if self._account:
            shutil.chown(self.home, self._account["user"], self._account["group"])
        self._postgres, self._data, self._log = postgres, self.home / "data", self.home / "log"
        self._process: subprocess.Popen[bytes] | None = None
        subprocess.run(
            [
                initdb,
                "-D",
                self._data,
                "-U",
                "angara",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "--no-sync",
            ],
            check=True,
            capture_output=True,
            cwd=self.home,
            **self._account,
        )

    def start(self) -> None:
        """Return when it answers."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [self._postgres, "-D", self._data, "-k", self.home, *SETTINGS],
                stdout=output,
                stderr=output,
                cwd=self.home,
                start_new_session=True,  # so that all its processes can be killed at once
                **self._account,
            )
        wait_until_up(self.home, self._process, self._log)

    def stop(self) -> None:
        """Fast: sessions are cut off."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(STOP_S_MAX)
            self._process = None

    def kill(self) -> None:
        """As when the machine loses its power: nobody of it has time for anything."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(STOP_S_MAX)
        self._process = None

    def remove(self) -> None:
        """And all that it has."""
        self.stop()
        shutil.rmtree(self.home)


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
