"""The log on standard error: a pool neither waits for who reads it nor ends by it."""

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from pool.cli.logs import set_up_logs

MANY = 4_000  # lines: several times what a pipe takes
log = structlog.get_logger()


@pytest.fixture(autouse=True)
def unconfigured() -> Iterator[None]:
    before = structlog.get_config()
    structlog.reset_defaults()
    yield
    structlog.configure(**before)


@contextmanager
def logging_to(output: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with open(output, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        set_up_logs()
        yield


def read_all(end: int) -> str:
    os.set_blocking(end, False)
    text = b""
    while True:
        try:
            text += os.read(end, 1 << 20)
        except BlockingIOError:
            return text.decode()


def test_who_reads_no_more_keeps_nobody_waiting_and_is_told_later_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading, writing = os.pipe()
    with logging_to(writing, monkeypatch):
        for number in range(MANY):
            log.info(f"event_{number % 997}", number=number, words="x" * 5_000 if number == 7 else "")
        kept = read_all(reading).splitlines()
        assert 0 < len(kept) < MANY
        log.info("read_again")
        again, told = [line for line in read_all(reading).splitlines() if line]
        assert "event=read_again" in again
        assert 'of="standard error"' in told
        assert "event=log_lines_left_out" in told
        missing = int(told.split("lines=")[1].split()[0])
        assert sum("timestamp=" in line for line in kept) + missing == MANY
    os.close(reading)


def test_a_terminal_that_stands_still_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """As screen's does while somebody looks back in it: it is ready as long as it has room for a byte."""
    reading, writing = os.openpty()
    with logging_to(writing, monkeypatch):
        for number in range(MANY):
            log.info(f"event_{number % 997}", number=number)
    os.close(reading)


def test_who_finds_a_pipe_full_that_was_ready_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process of the pool writes to it, too."""
    reading, writing = os.pipe()
    others = os.open(f"/dev/fd/{writing}", os.O_WRONLY | os.O_NONBLOCK)

    class ReadyUntilAnotherWrites:
        def register(self, *_: Any) -> None: ...

        def poll(self, *_: Any) -> bool:
            os.write(others, bytes(1 << 20))
            return True

    with logging_to(writing, monkeypatch), monkeypatch.context() as meanwhile:
        meanwhile.setattr(select, "poll", ReadyUntilAnotherWrites)
        log.info("there_was_room")
    os.close(others)
    os.close(reading)


def test_what_is_missing_is_counted_until_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line that tells it may find no room itself."""
    reading, writing = os.pipe()
    with logging_to(writing, monkeypatch):
        for number in range(MANY):
            log.info(f"event_{number % 997}", number=number, words="x" * 3_000)
        os.read(reading, select.PIPE_BUF)
        log.info("just_enough_room", words="x" * (select.PIPE_BUF - 100))
        read_all(reading)
        log.info("read_again")
        told = read_all(reading).splitlines()[-1]
        assert "event=log_lines_left_out" in told
        assert int(told.split("lines=")[1].split()[0]) > MANY // 2
    os.close(reading)


def test_a_reader_that_is_gone_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with logging_to(writing, monkeypatch):
        log.error("nobody_reads")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full disk to write to")
def test_a_full_disk_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with logging_to(os.open("/dev/full", os.O_WRONLY), monkeypatch):
        log.error("nothing_is_written")
