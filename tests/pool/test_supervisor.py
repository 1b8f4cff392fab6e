"""What the service manager hears of a pool: that it serves, that its loop lives, and that it stops."""

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked
from typer.testing import CliRunner

from pool.books import standby
from pool.cli.main import app
from pool.regtest.server import RegtestNode, RegtestOptions, serve_regtest
from pool.settings_file import BadConfig
from pool.supervisor import supervised
from tests.faults.test_01_kill import SETTINGS
from tests.stages.waiting import PATIENCE_S

ANGARA = [sys.executable, "-c", "from pool.cli.main import main; main()"]
WATCHDOG_S = 60
SERVES = f"READY=1\nWATCHDOG_USEC={WATCHDOG_S}000000\nWATCHDOG=1"


class Manager:
    """systemd's socket, and what it gives to whom it starts."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0", 1))
        self.socket.settimeout(PATIENCE_S)  # a safety net
        self._address = address

    def environment(self, of: int | None = None) -> dict[str, str]:
        given = {"NOTIFY_SOCKET": self._address, "WATCHDOG_USEC": f"{WATCHDOG_S}000000"}
        return given if of is None else given | {"WATCHDOG_PID": str(of)}

    def hears(self) -> str:
        """The next that it is told."""
        return self.socket.recv(4096).decode()

    def all_that_it_heard(self) -> list[str]:
        heard = []
        while not self.silent:
            heard.append(self.hears())
        return heard

    @property
    def silent(self) -> bool:
        """Whether it was told nothing more."""
        self.socket.setblocking(False)
        try:
            self.socket.recv(4096, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(PATIENCE_S)
        return False


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@angara-{os.getpid()}"
    it = Manager(address)
    yield it
    it.socket.close()


async def test_it_hears_that_the_pool_serves_and_lives_until_it_stops(
    manager: Manager, autojump_clock: MockClock
) -> None:
    """Four times in each of its times: three beats may be lost, or late."""
    with supervised(manager.environment(os.getpid())) as told:
        assert manager.silent, "it begins only"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(told.serves)
            await trio.sleep(WATCHDOG_S - 1)
            assert [manager.hears() for _ in range(4)] == [SERVES] * 4
            assert manager.silent
            nursery.cancel_scope.cancel()
        assert manager.hears() == "STOPPING=1"
        await trio.sleep(10 * WATCHDOG_S)
        assert manager.silent


async def test_a_pool_that_falls_says_that_it_stops(manager: Manager) -> None:
    async def falls() -> None:
        await wait_all_tasks_blocked()
        raise OSError(errno.ENOMEM, "no memory")

    with suppress(ExceptionGroup), supervised(manager.environment()) as told:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(told.serves)
            nursery.start_soon(falls)
    assert [manager.hears(), manager.hears()] == [SERVES, "STOPPING=1"]


async def test_who_stands_by_is_ready_and_not_watched_before_it_serves(manager: Manager) -> None:
    with supervised(manager.environment()) as told:
        for _ in range(3):  # looks for who leads
            told.stands_by()
        assert manager.hears() == "READY=1\nWATCHDOG_USEC=0"
        assert manager.silent
        with trio.move_on_after(0):
            await told.serves()
        assert manager.hears() == SERVES


@pytest.mark.parametrize(
    "change", [{"WATCHDOG_USEC": ""}, {"WATCHDOG_PID": "1"}], ids=["no watchdog", "of somebody else"]
)
async def test_who_is_not_watched_says_no_more_than_that_it_serves(
    manager: Manager, change: dict[str, str], autojump_clock: MockClock
) -> None:
    with supervised(manager.environment() | change) as told, trio.move_on_after(10 * WATCHDOG_S):
        await told.serves()
    assert [manager.hears(), manager.hears()] == ["READY=1", "STOPPING=1"]
    assert manager.silent


async def test_without_a_manager_nothing_is_said() -> None:
    with supervised({}) as told:
        told.stands_by()
        await told.serves()


def test_what_is_started_from_here_does_not_speak_to_it(manager: Manager) -> None:
    environment = manager.environment(os.getpid()) | {"LANG": "C"}
    with supervised(environment):
        assert environment == {"LANG": "C"}


@pytest.mark.parametrize("manager", ["path"], indirect=True)
async def test_a_manager_that_does_not_read_or_is_gone_holds_nobody_up(
    manager: Manager, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """It is told anew when it reads, and of a silence there is one line."""
    with supervised(manager.environment()) as told, capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(told.serves)
            await trio.sleep(10_000 * WATCHDOG_S)
            assert [it["event"] for it in logs] == ["supervisor_not_told"]
            assert set(manager.all_that_it_heard()) == {SERVES}
            await trio.sleep(WATCHDOG_S)
            assert manager.hears() == SERVES
            (tmp_path / "notify").unlink()
            await trio.sleep(WATCHDOG_S)
            nursery.cancel_scope.cancel()
    assert [it["event"] for it in logs] == ["supervisor_not_told"] * 2


@pytest.mark.parametrize("manager", ["path"], indirect=True)
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(
    ("number", "last", "codes"),
    [(signal.SIGTERM, ["STOPPING=1"], {0}), (signal.SIGABRT, [], {-signal.SIGABRT, -signal.SIGSEGV})],
    ids=["a stop", "what ends one that hangs"],
)
async def test_a_pool_tells_it_when_miners_can_connect_and_that_it_stops(
    manager: Manager, tmp_path: Path, processes: int, number: signal.Signals, last: list[str], codes: set[int]
) -> None:
    """One that hangs says in the log where it stood. This one does not hang: Python, which reads stacks of
    threads that run meanwhile, may fall over one of them, and that ends it too."""
    ended = []
    async with trio.open_nursery() as nursery:
        node: RegtestNode = await nursery.start(serve_regtest, RegtestOptions(data_dir=tmp_path / "node"))
        settings = SETTINGS.format(url=node.url, cookie=node.cookie_file) + f"processes = {processes}\n"

        def play() -> None:
            (tmp_path / "data").mkdir()
            (tmp_path / "angara.toml").write_text(settings)
            with pool_of(manager, tmp_path) as pool:
                assert manager.hears() == SERVES
                assert (tmp_path / "log").read_text().count("event=listening") == processes
                children = children_of(pool.pid)
                assert len(children) == (processes if processes > 1 else 0)
                for child in children:
                    assert b"NOTIFY_SOCKET" not in Path(f"/proc/{child}/environ").read_bytes()
                pool.send_signal(number)
                ended.append(pool.wait())

        await trio.to_thread.run_sync(play)
        nursery.cancel_scope.cancel()
    assert set(ended) <= codes
    assert [it for it in manager.all_that_it_heard() if it != SERVES] == last
    if ended != [-signal.SIGSEGV]:
        assert ("until_signal.py" in (tmp_path / "log").read_text()) is (number == signal.SIGABRT)


@contextmanager
def pool_of(manager: Manager, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (home / "log").open("wb") as log:
        pool = subprocess.Popen(
            [*ANGARA, "run"], cwd=home, env=os.environ | manager.environment(), stderr=log
        )
    try:
        yield pool
    finally:
        pool.kill()
        pool.wait()


def children_of(number: int) -> list[str]:
    found: list[str] = []
    for task in Path(f"/proc/{number}/task").iterdir():
        found += (task / "children").read_text().split()
    return found


@pytest.mark.parametrize("manager", ["path"], indirect=True)
def test_a_hub_that_waits_for_another_ones_end_has_started(
    manager: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in manager.environment().items():
        monkeypatch.setenv(name, value)

    async def waits(store: object, *, on_wait: object) -> None:
        assert callable(on_wait)
        on_wait("hub1 has the lease")
        raise BadConfig("it has waited")

    monkeypatch.setattr(standby, "await_lease", waits)
    (tmp_path / "angara.toml").write_text(
        SETTINGS.partition("[stratum]")[0].format(url="http://127.0.0.1:1", cookie=tmp_path / "cookie")
        + '[hub]\nnats = ["nats://127.0.0.1:1"]\nkey_file = "hub.nk"\n'
    )
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(app, ["hub"])
    assert "it has waited" in ran.output, ran.output
    assert manager.hears() == "READY=1\nWATCHDOG_USEC=0"
    assert manager.silent
