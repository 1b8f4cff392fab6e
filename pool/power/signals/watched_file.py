"""The watched file: whoever may write it has machines stopped. Read when it is another one than before.

    version = 1
    count = 1                    of the calls that follow
    [[calls]]                    pool.power.signals.call

JSON of the same, where its name ends in .json. The file is all that is asked for: a call that is in it no
more is restored. What is wrong, or is not there, changes nothing; an event that was asked for ends at its own
time.

A file that somebody is writing, or stopped writing, is never acted on: it has to stay as it is for a while,
a text that lost its end is no file (every line of a call is needed, `count` says how many there are, TOML
ends with a line's end), and so no beginning of a file is another file.

Invariant: nobody but the account that runs the pool, and root, could have written it. Must not know: what is
done by it.
"""

import os
import stat
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from pool.power.signals.bounds import STANDING_MAX
from pool.power.signals.call import VERSION, BadCall, Call, Called, called, in_words
from pool.power.signals.intake import Intake

BYTES_MAX: Final = 64 * 1024  # 64 calls are 16 KiB
OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH

Mark = tuple[int, int, int, int]  # device, inode, size, and time of the last change: another file has another


class Calls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that such a file has."""

    version: Literal[1]
    count: Annotated[int, Meta(ge=0, le=STANDING_MAX)]
    calls: list[Call] = []


def calls_in(content: bytes, *, json: bool) -> list[Called]:
    """What a whole file asks for. Raises BadCall."""
    try:
        read: Any = msgspec.json.decode(content) if json else _toml(content)
        if isinstance(read, dict) and read.get("version", VERSION) != VERSION:
            raise BadCall(f"version {in_words(read['version'])} is not known here, {VERSION} is")
        file = msgspec.convert(read, Calls)
    except (ValueError, RecursionError) as error:  # not UTF-8, neither TOML nor JSON, or not so
        raise BadCall(in_words(error)) from None
    if len(file.calls) != file.count:
        raise BadCall(f"count says {file.count} calls, and there are {len(file.calls)}")
    found = [called(it) for it in file.calls]
    if len({it.reference for it in found}) != len(found):
        raise BadCall("two calls have one reference")
    return found


def is_json(path: Path) -> bool:
    """By its name; else it is TOML."""
    return path.suffix == ".json"


def _toml(content: bytes) -> Any:
    if not content.endswith(b"\n"):
        raise BadCall("it does not end with a line's end: it is not whole")
    return tomllib.loads(content.decode())


class WatchedFile:
    """Looked at now and then, and acted on when it has been the same for two looks. Blocks."""

    def __init__(self, path: Path, intake: Intake, source: str = "file") -> None:
        self._path, self._intake, self._source = path, intake, source
        self._seen: Mark | None = None  # at the last look
        self._done: Mark | None = None  # which was acted on, or refused
        self._good = False  # whether that was one to act on
        self._words = ""  # why it cannot be read, as told

    def look(self) -> None:
        """Raises nothing of the file's doing."""
        try:
            mark, content = read(self._path)
        except BadCall as error:
            self._done = self._seen = None  # whatever is there then is another one
            if self._words != str(error):
                self._words = str(error)
                self._intake.refuse(self._source, error)
            return
        self._words = ""
        if mark == self._done:
            if self._good:
                self._intake.heard(self._source)
        elif mark == self._seen:
            self._act(content)
            self._done = mark
        self._seen = mark

    def _act(self, content: bytes) -> None:
        self._good = False
        try:
            found: Sequence[Called] = calls_in(content, json=is_json(self._path))
        except BadCall as error:
            self._intake.refuse(self._source, f"{self._path.name}: {error}")
            return
        self._good = True
        self._intake.only(self._source, found)


def read(path: Path) -> tuple[Mark, bytes]:
    """The file, and which one it is, if nobody could have written it but who may. Raises BadCall."""
    try:
        _check_writers(os.stat(path.parent), path.parent)  # who may write there can put another in its place
        # A pipe in its place holds nobody up, and a link leads to what others may write.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise BadCall(f"cannot read {path}: {error.strerror}") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise BadCall(f"{path} is no file")
        _check_writers(found, path)
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(BYTES_MAX + 1)
        found = os.fstat(descriptor)  # behind the last byte: what is written from now on is another file
    except OSError as error:
        raise BadCall(f"cannot read {path}: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(content) > BYTES_MAX:
        raise BadCall(f"{path} is larger than {BYTES_MAX} bytes")
    return (found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns), content


def _check_writers(found: os.stat_result, path: Path) -> None:
    if found.st_uid not in (os.geteuid(), 0):
        raise BadCall(f"{path} is another account's, which could stop machines by it")
    if found.st_mode & OTHERS_MAY_WRITE:
        raise BadCall(f"others may write {path}, and could stop machines by it: `chmod go-w {path}`")
