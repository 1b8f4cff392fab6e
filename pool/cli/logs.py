"""Where the log of a command goes: to standard error, bounded, in the shape of who reads it.

Set up by what writes logs, and not by every command: that alone would take as long as asking a running pool.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from pool.log_lines import LogLines, in_shape


def set_up_logs(*, verbose: bool = False, quiet: bool = False, process: int | None = None) -> None:
    """Once in a process: who asks for more with --verbose asks first. `quiet`: of a command that says in
    words what goes wrong. `process` is which of several it is: each of its lines says so."""
    if structlog.is_configured():
        return
    level = logging.DEBUG if verbose else logging.CRITICAL if quiet else logging.INFO
    renderer = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.LogfmtRenderer()
    )

    def of_process(_: object, __: str, said: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return said if process is None else {"process": process, **said}

    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
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
