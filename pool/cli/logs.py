"""Where the log of a command goes: to standard error, bounded, in the shape of who reads it.

Whoever writes a line neither waits nor fails by it: a reader that has stopped, or is gone, or a full disk
would stop or end a pool in the middle of anything, also of a block. What could not be written is counted, and
told after the next line that can.

Set up by what writes logs, and not by every command: that alone would take as long as asking a running pool.
"""

import logging
import os
import select
import stat
import sys
import threading
from collections.abc import MutableMapping
from typing import Any

import structlog

from pool.log_lines import LEFT_OUT, LogLines, in_shape

log = structlog.get_logger()


class StandardError:
    """A logger of structlog that writes there. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._own = _opened_not_to_wait()
        self._lost = 0
        self._is_cut = False  # what was written last has no end of its line

    def write(self, line: str) -> bool:
        """Whether it is written."""
        with self._lock:
            taken = self._take("\n" * self._is_cut + line + "\n")
            lost = 0 if taken else self._lost + 1
            told, self._lost = self._lost if taken else 0, lost
        if told and log.warning(LEFT_OUT, of="standard error", lines=told) is False:
            with self._lock:
                self._lost += told - 1  # it has counted itself
        return taken

    debug = info = warning = error = critical = exception = msg = write

    def _take(self, text: str) -> bool:
        """Whether all of it is written. What is ready, and no terminal, takes PIPE_BUF without a wait."""
        try:
            output = sys.stderr.fileno() if self._own is None else self._own
        except OSError:  # it is none of the system's
            sys.stderr.write(text)
            return True
        data = text.encode(errors="backslashreplace")
        ready = select.poll()
        ready.register(output, select.POLLOUT)
        try:
            while data and ready.poll(0):
                data = data[os.write(output, data[: select.PIPE_BUF]) :]
                self._is_cut = bool(data)
        except OSError:
            return False
        return not data


def _opened_not_to_wait() -> int | None:
    """A terminal or a pipe, opened once more: a terminal is ready where it has room for a byte, and a pipe
    another process may fill meanwhile. None where that cannot be: of a file it would be another place."""
    try:
        output = sys.stderr.fileno()
        kind = os.fstat(output).st_mode
        if not (stat.S_ISCHR(kind) or stat.S_ISFIFO(kind)):
            return None
        return os.open(f"/dev/fd/{output}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None


def set_up_logs(*, verbose: bool = False, quiet: bool = False, process: int | None = None) -> None:
    """Once in a process: who asks for more with --verbose asks first. `quiet`: of a command that says in
    words what goes wrong. `process` is which of several it is: each of its lines says so."""
    if structlog.is_configured():
        return
    level = logging.DEBUG if verbose else logging.CRITICAL if quiet else logging.INFO
    renderer = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.LogfmtRenderer()
    )

    output = StandardError()

    def of_process(_: object, __: str, said: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return said if process is None else {"process": process, **said}

    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: output,
        processors=[
            LogLines(),
            of_process,
            in_shape,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
    )
