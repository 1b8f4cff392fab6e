"""The watched file: acted on when it is whole and nobody else's, once, and otherwise not at all."""

import os
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pool.books.store import Store
from pool.power.signals.call import BadCall
from pool.power.signals.watched_file import BYTES_MAX, WatchedFile, calls_in
from tests.stages.signals import NOW_S, SignalHouse

DOCUMENT = Path(__file__).parents[4] / "docs" / "power.md"
ONE = """\
version = 1
count = 1

[[calls]]
reference = "grid-0412"
site = "north"
target = "limit"
limit_kw = 1500
from = 2026-11-27T16:00:00Z
until = 2026-11-27T18:00:00Z
ramp_s = 300
"""
NONE = "version = 1\ncount = 0\n"


class Watched(SignalHouse):
    """A directory of the pool's account, and somebody who looks into it."""

    def __init__(self, store: Store, directory: Path, name: str = "calls.toml") -> None:
        super().__init__(store)
        directory.chmod(0o755)
        self.path = directory / name
        self.file = WatchedFile(self.path, self.intake)

    def put(self, text: str, mode: int = 0o644) -> None:
        """As whoever writes a file whole does."""
        draft = self.path.with_name("draft")
        draft.write_text(text)
        draft.chmod(mode)
        draft.replace(self.path)

    def look(self, times: int = 2) -> None:
        for _ in range(times):
            self.file.look()


@pytest.fixture
def watched(books: Store, tmp_path: Path) -> Watched:
    return Watched(books, tmp_path)


def test_a_file_is_asked_for_when_it_has_stayed_as_it_is_and_once(watched: Watched) -> None:
    watched.put(ONE)
    watched.look(1)
    assert watched.events.asked == []
    watched.look(5)
    assert watched.events.asked == ["ask grid-0412"]
    assert watched.source().heard_at_s == NOW_S


def test_a_file_in_json_asks_for_the_same(books: Store, tmp_path: Path) -> None:
    call: dict[str, Any] = {
        "reference": "grid-0412",
        "site": "north",
        "target": "limit",
        "limit_kw": 1500,
        "from": "2026-11-27T16:00:00Z",
        "until": "2026-11-27T18:00:00Z",
        "ramp_s": 300,
    }
    text = msgspec.json.encode({"version": 1, "count": 1, "calls": [call]}).decode()
    assert calls_in(text.encode(), json=True) == calls_in(ONE.encode(), json=False)
    watched = Watched(books, tmp_path, "calls.json")
    watched.put(text)
    watched.look()
    assert watched.events.asked == ["ask grid-0412"]


def test_the_file_of_the_document_asks_for_what_it_says() -> None:
    text = re.search(r"```toml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert text is not None
    assert calls_in(text[1].encode(), json=False) == calls_in(ONE.encode(), json=False)


def test_what_is_in_it_no_more_is_restored_and_what_is_another_is_changed(watched: Watched) -> None:
    watched.put(ONE)
    watched.look()
    watched.put(ONE.replace("1500", "1200"))
    watched.look()
    watched.put(NONE)
    watched.look()
    assert watched.events.asked == ["ask grid-0412", "change grid-0412", "restore grid-0412"]


def test_a_file_that_is_gone_or_wrong_changes_nothing_and_is_told_once(watched: Watched) -> None:
    watched.put(ONE)
    watched.look()
    watched.path.unlink()
    watched.look(9)
    assert watched.source().refused.endswith("No such file or directory")
    watched.put(ONE.replace("count = 1", "count = 2"))
    watched.look(9)
    assert watched.source().refused == "calls.toml: count says 2 calls, and there are 1"
    assert watched.source().refused_count == 2
    assert watched.events.live("file") == ["grid-0412"]
    watched.put(ONE)
    watched.look()
    assert watched.events.asked == ["ask grid-0412"]


def test_a_wrong_file_is_not_heard_of_however_long_it_lies_there(watched: Watched) -> None:
    watched.put("version = 1\n")
    watched.look()
    watched.events.now_s += 3_600
    watched.look(3)
    assert watched.source().silent_s(NOW_S + 3_600) == 3_600


CALL = ONE.partition("\n\n")[2]
TWO = ONE.replace("count = 1", "count = 2") + CALL.replace("0412", "0413")
TWICE = ONE.replace("count = 1", "count = 2") + CALL


@pytest.mark.parametrize("text", [ONE, TWO, NONE])
def test_no_beginning_of_a_file_is_another_file(text: str) -> None:
    """Whoever writes it may be killed behind any byte of it."""
    whole = text.encode()
    asked = calls_in(whole, json=False)
    for end in range(len(whole)):
        try:
            assert calls_in(whole[:end], json=False) == asked
        except BadCall:
            continue
        assert not whole[end:].strip()


def test_a_file_that_grows_while_it_is_written_is_not_acted_on(watched: Watched) -> None:
    for end in range(0, len(ONE), 7):
        watched.path.write_text(ONE[:end])
        watched.look(1)
    assert watched.events.asked == []


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o602])
def test_a_file_that_others_may_write_is_not_acted_on(watched: Watched, mode: int) -> None:
    watched.put(ONE, mode)
    watched.look(3)
    assert watched.events.asked == []
    assert "others may write" in watched.source().refused


def test_nor_is_one_in_a_directory_that_others_may_write(watched: Watched) -> None:
    watched.put(ONE)
    watched.path.parent.chmod(0o777)
    watched.look(3)
    assert watched.events.asked == []
    assert "others may write" in watched.source().refused


def test_nor_is_one_of_another_account(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.put(ONE)
    if os.geteuid() == 0:
        os.chown(watched.path, 4_711, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4_711)
    watched.look(3)
    assert watched.events.asked == []
    assert "another account's" in watched.source().refused


def test_a_link_a_pipe_and_a_directory_are_no_file_and_hold_nobody_up(watched: Watched) -> None:
    other = watched.path.with_name("other.toml")
    other.write_text(ONE)
    watched.path.symlink_to(other)
    watched.look(3)
    watched.path.unlink()
    os.mkfifo(watched.path)
    watched.look(3)
    assert watched.source().refused.endswith("is no file")
    watched.path.unlink()
    watched.path.mkdir()
    watched.look(3)
    assert watched.events.asked == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x" * (BYTES_MAX + 1), f"is larger than {BYTES_MAX} bytes"),
        ("", "it is not whole"),
        ("\n", "missing required field `version`"),
        ("\0\n", "Invalid"),
        (ONE.replace("version = 1", "version = 2"), "version 2 is not known here, 1 is"),
        (ONE.replace('"limit"', '"all"'), "Invalid enum value 'all'"),
        (ONE.replace("ramp_s = 300", "ramp_s = 300\nsoon = true"), "unknown field `soon`"),
        (ONE.replace("count = 1", "count = 65"), "Expected `int` <= 64"),
        (TWICE, "two calls have one reference"),
        (ONE.replace("2026-11-27T16:00:00Z", "2026-11-27"), "Expected `datetime`"),
        ("a = " + "[" * 60_000 + "\n", ""),
    ],
)
def test_what_is_wrong_is_told_in_words(watched: Watched, text: str, words: str) -> None:
    watched.put(text)
    watched.look(3)
    found = watched.source()
    assert words in found.refused
    assert found.refused.isprintable()
    assert len(found.refused) <= 300
    assert watched.events.asked == []
