"""The log, bounded: the first lines of an event in a minute, then a count, and nobody silences another."""

from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from pool.log_lines import EVENTS_MAX, LEFT_OUT, LINES_MAX, LINES_S, LogLines, in_shape


class Log:
    """What gets through, and a clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.lines: list[dict[str, Any]] = []
        self.bounds = LogLines(lambda: self.now_s)

    def keep(self, logger: Any, method: str, event_dict: Any) -> str:
        self.lines.append(dict(event_dict))
        raise structlog.DropEvent

    def names(self) -> list[str]:
        return [line["event"] for line in self.lines]


@pytest.fixture
def log() -> Iterator[Log]:
    it = Log()
    before = structlog.get_config()
    structlog.configure(processors=[it.bounds, it.keep])
    yield it
    structlog.configure(**before)


def test_ten_thousand_events_are_twenty_lines_and_a_count(log: Log) -> None:
    for number in range(10_000):
        structlog.get_logger().warning("session_failed", address=f"127.0.0.{number % 250}")
    assert log.names() == ["session_failed"] * LINES_MAX
    log.now_s = LINES_S
    structlog.get_logger().info("new_tip")
    assert log.names()[LINES_MAX:] == [LEFT_OUT, "new_tip"]
    assert log.lines[LINES_MAX] == {"event": LEFT_OUT, "of": "session_failed", "lines": 10_000 - LINES_MAX}
    structlog.get_logger().warning("session_failed")
    assert log.names()[-1] == "session_failed", "a new minute"


def test_what_happens_seldom_is_always_told(log: Log) -> None:
    for minute in range(100):
        log.now_s = minute * LINES_S
        structlog.get_logger().info("settled")
    assert log.names() == ["settled"] * 100


def test_a_noisy_upstream_or_node_silences_no_other(log: Log) -> None:
    for owner in ("node", "upstream", "edge"):
        for _ in range(1_000):
            structlog.get_logger().warning("unreachable", **{owner: "noisy"})
        structlog.get_logger().warning("unreachable", **{owner: "quiet"})
        assert log.lines[-1][owner] == "quiet"
    assert len(log.lines) == 3 * (LINES_MAX + 1)


def test_what_is_remembered_is_bounded(log: Log) -> None:
    for number in range(10 * EVENTS_MAX):
        structlog.get_logger().warning("unreachable", node=f"{number}")
    assert len(log.bounds._minutes) <= EVENTS_MAX + 1
    assert len(log.lines) <= EVENTS_MAX + LINES_MAX
    log.now_s = LINES_S
    structlog.get_logger().info("new_tip")
    told = {line["of"]: line["lines"] for line in log.lines if line["event"] == LEFT_OUT}
    assert told == {"others": 9 * EVENTS_MAX - LINES_MAX}


def test_what_strangers_say_moves_no_cursor_of_who_reads_the_log() -> None:
    said = {"event": "node_says", "reason": "\x1b[2J[/x]\nall is well", "height": 7}
    told = in_shape(None, "warning", said)
    assert told == {"event": "node_says", "reason": r"\x1b[2J[/x]\x0aall is well", "height": 7}
