"""Standard output, error and input as commands have them, whatever they were started with.

    a reader that has enough    the command ends as if its signal had ended it, 141, without a word
    a full disk                 words, and exit code 1
    closed (`>&-`)              the same as soon as something is written: until then nobody misses it, and no
                                file that is opened meanwhile takes its number

SIGPIPE itself stays ignored, as Python has it: it would end a pool when a miner hangs up.

Must not know: what is written.
"""

import io
import os
import signal
import sys
from typing import Any, Final

EXIT_READER_GONE: Final = 128 + signal.SIGPIPE
OUTPUT: Final = 1


class OutputFailed(Exception):
    """What a command tells cannot be written, in words. No OSError: those are of files that are named."""


class ReaderGone(OutputFailed):
    """Whoever read what a command tells has enough."""


class _Output(io.FileIO):
    """Standard output, whose errors are told from those of other files."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise ReaderGone from None
        except OSError as error:
            raise OutputFailed(f"cannot write to standard output: {error.strerror}") from None


def set_up_streams() -> None:
    """Once, before anything is opened or written."""
    for number, flags in ((0, os.O_RDONLY), (OUTPUT, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # the lowest number that is free; output to it fails, as it did
    raw = _Output(OUTPUT, "w", closefd=False)
    # Names have letters that not every terminal knows.
    encoding = None if sys.stdout is None else sys.stdout.encoding
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(raw), encoding, errors="backslashreplace", line_buffering=raw.isatty()
    )
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace")


def give_output_up() -> None:
    """What is left to write goes nowhere, so that the end of the process says nothing of it either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), OUTPUT)
