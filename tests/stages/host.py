"""A host on which somebody follows a document: a shell, terminals beside it, and the unit that runs the pool.

Everything lies in one directory, and needs no root. Commands are as they stand, but for what the caller
substitutes. Whatever was started ends with it.
"""

import os
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.stages.waiting import LOOK_S, PATIENCE_S

UNIT: Final = Path(__file__).parents[2] / "systemd" / "angara.service"
# A host has none of it; each command would compile all that it imports anew.
OF_THE_TESTS: Final = ("VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE")
OVER: Final = "(the block is over)"  # in a line of its own
# A safety net for loops that wait for what never comes; nothing is measured with it. An installation builds
# the engine, which takes a busy machine a quarter of an hour.
BLOCK_S: Final = 1800.0


class Host:
    """`substituted`: what is written otherwise here, and how."""

    def __init__(self, home: Path, substituted: Mapping[str, str], path: Path) -> None:
        self._home, self._substituted = home, substituted
        inherited = {name: value for name, value in os.environ.items() if name not in OF_THE_TESTS}
        self._environment = inherited | {"PATH": f"{path}:{os.environ['PATH']}"}
        self._started: list[subprocess.Popen[bytes]] = []
        self.cwd: Path = home

    def __enter__(self) -> Self:
        self._shell = subprocess.Popen(
            ["bash", "-euo", "pipefail"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment,
            start_new_session=True,  # so that what it runs can be ended with it
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._kill_shell()
        self._shell.communicate()
        for process in reversed(self._started):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if kind is None:
            assert [it.returncode for it in self._started] == [0] * len(self._started)

    def here(self, text: str) -> str:
        """As it is typed on this host."""
        for known, other in self._substituted.items():
            text = text.replace(known, other)
        return text

    def type(self, block: str) -> str:
        """What the commands print. Each has to succeed."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        cwd = shlex.quote(str(self.cwd))
        typed = f"cd {cwd}\n{{\n{self.here(block)}}} </dev/null\nprintf '\\n{OVER}\\n'\n"
        self._shell.stdin.write(typed)
        self._shell.stdin.flush()
        printed: list[str] = []
        patience = threading.Timer(BLOCK_S, self._kill_shell)
        patience.start()
        try:
            for line in self._shell.stdout:
                if line == f"{OVER}\n":
                    return "".join(printed)
                printed.append(line)
        finally:
            patience.cancel()
        raise AssertionError(f"{block}\nfailed, and had printed:\n{''.join(printed)}\n{self.logs()}")

    def _kill_shell(self) -> None:
        if self._shell.poll() is None:
            os.killpg(self._shell.pid, signal.SIGKILL)

    def run_on(self, line: str, until: str | None = None) -> None:
        """Start what stays in a terminal of its own, and wait until it has said so."""
        log = self._home / f"terminal-{len(self._started)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {self.here(line).strip()}"],
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self.cwd,
                env=self._environment,
            )
        self._started.append(process)
        give_up_s = time.monotonic() + PATIENCE_S
        while until is not None and until not in log.read_text():
            assert process.poll() is None, self.logs()
            assert time.monotonic() < give_up_s, self.logs()
            time.sleep(LOOK_S)

    def start_unit(self) -> None:
        """As systemd would, without what it forbids."""
        (line,) = re.findall(r"^ExecStart=(.+)$", UNIT.read_text(), re.MULTILINE)
        self.run_on(line)

    def logs(self) -> str:
        """The end of what each terminal says."""
        files = sorted(self._home.glob("terminal-*.log"))
        return "\n".join(f"{it.name}:\n{it.read_text()[-3_000:]}" for it in files)
