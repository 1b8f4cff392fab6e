"""What is printed: whole names wherever it goes, words for people, exact values for programs, nothing
that moves a cursor or computes in a spreadsheet."""

import csv
import io
import json
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool.cli.output import PAGE_ROWS, Column, Form, moment, show, show_one
from pool.reports.figures import amount, difficulty
from pool.reports.text_table import Head, TextTable, cells

ADDRESS = "bcrt1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqc8gma6"
HASH = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"
NAME = "acme.container-07.rack-11-slot-0042"
COLUMNS = (
    Column("name", "name"),
    Column("address", "address"),
    Column("block", "hash"),
    Column("difficulty", "difficulty", difficulty, right=True),
    Column("owed", "owed_sat", amount, right=True),
    Column("last seen", "last_seen_at", moment),
    Column("why", "why"),
)
ROW: dict[str, Any] = {
    "name": NAME,
    "address": ADDRESS,
    "hash": HASH,
    "difficulty_log2": 16,
    "owed_sat": 1_234_567,
    "last_seen_at_s": 1_764_140_000,
    "why": "nobody has said where it is to be paid",
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is shown on a terminal of so many columns."""

    def shown(width: int, rows: list[dict[str, Any]]) -> str:
        out = Terminal()
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(sys, "stdout", out)
        show(rows, COLUMNS)
        return out.getvalue()

    return shown


def piped(capsys: pytest.CaptureFixture[str], rows: list[dict[str, Any]], form: Form = Form.TEXT) -> str:
    show(rows, COLUMNS, form)
    return capsys.readouterr().out


def test_into_a_pipe_a_row_is_a_line_and_nothing_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    head, line = piped(capsys, [ROW]).splitlines()
    for words in (NAME, ADDRESS, HASH, "64k", "1,234,567 sat", "2025-11-26 06:53:20Z", ROW["why"]):
        assert words in line
    assert head.split() == ["name", "address", "block", "difficulty", "owed", "last", "seen", "why"]
    assert line.index(ADDRESS) == head.index("address")
    assert head.isascii()
    assert head.isprintable()
    assert line.isprintable()


@pytest.mark.parametrize("width", [20, 40, 79, 80, 100, 200, 259, 300])
def test_on_a_terminal_it_fits_or_wraps_and_no_name_is_cut(terminal: Any, width: int) -> None:
    text = terminal(width, [ROW, ROW | {"why": None, "name": "x"}])
    lines = text.splitlines()
    for whole in (NAME, ADDRESS, HASH, "2025-11-26", "1,234,567"):
        assert any(whole in line for line in lines), text
    too_long = [line for line in lines if len(line) > max(width, len("difficulty  ") + len(HASH))]
    assert not too_long
    for word in str(ROW["why"]).split():
        assert word in text


def test_a_person_is_told_that_there_are_none_and_a_pipe_has_the_headings(
    terminal: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    show([], COLUMNS[:2])
    assert capsys.readouterr().out == "name  address\n"
    assert terminal(80, []) == "none\n"


def test_a_sentence_wraps_between_its_words_when_that_is_enough(terminal: Any) -> None:
    lines = terminal(240, [ROW]).splitlines()
    assert len(lines) == 3
    assert (ADDRESS in lines[1], HASH in lines[1], NAME in lines[1]) == (True, True, True)
    assert max(map(len, lines)) <= 240


@settings(derandomize=True, deadline=None)
@given(
    st.lists(st.lists(st.text("ab \u4e2d", max_size=30), min_size=3, max_size=3), min_size=1, max_size=8),
    st.integers(10, 120),
)
def test_every_word_of_every_cell_is_told_whole_in_whatever_width(rows: list[list[str]], width: int) -> None:
    table = TextTable([Head("one"), Head("two", right=True), Head("three")], width)
    lines = list(table.lines(rows))
    told = " ".join(lines).split()
    expected = [word for row in rows for cell in row for word in cell.split()]
    assert sorted(set(expected)) == sorted({word for word in told if word in expected})
    longest = max((cells(word) for word in expected), default=0)
    assert all(cells(line) <= max(width, longest + len("three") + 2) for line in lines)


def test_a_list_of_any_length_is_told_in_pages_that_never_get_narrower(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [{"name": f"m{number}"} for number in range(PAGE_ROWS + 2)]
    rows[-1] = {"name": "m" * 40}
    show(iter(rows), (Column("name", "name"), Column("why", "why")))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(rows) + 1
    assert lines[1].index("-") < 42
    assert lines[-1].index("-") == 42


def test_what_only_a_running_pool_knows_is_left_out_of_the_text_and_never_of_the_csv(
    capsys: pytest.CaptureFixture[str],
) -> None:
    columns = (Column("name", "name"), Column("hashrate", "hps", live=True))
    for form, with_it in ((Form.TEXT, False), (Form.CSV, True)):
        show([{"name": "a"}], columns, form)
        assert ("hps" in capsys.readouterr().out) == with_it
    show([{"name": "a", "hps": 0}], columns)
    assert "hashrate" in capsys.readouterr().out


def test_json_is_one_document_of_exact_values(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(piped(capsys, [], Form.JSON)) == []
    (row, other) = json.loads(piped(capsys, [ROW, ROW | {"difficulty_log2": -7}], Form.JSON))
    assert (row["owed_sat"], row["difficulty"], row["last_seen_at"]) == (
        1_234_567,
        65_536,
        "2025-11-26T06:53:20Z",
    )
    assert other["difficulty"] == 1 / 128
    show_one(ROW | {"blocks": [{"found_at_s": 0}]}, COLUMNS, Form.JSON)
    shown = json.loads(capsys.readouterr().out)
    assert shown["blocks"] == [{"found_at": "1970-01-01T00:00:00Z"}]


def test_csv_says_yes_and_no_as_json_does(capsys: pytest.CaptureFixture[str]) -> None:
    show([{"new": True}, {"new": False}, {"new": None}], (Column("new", "new"), Column("x", "x")), Form.CSV)
    assert capsys.readouterr().out.split() == ["new,x", "true,", "false,", ","]


def test_csv_has_the_columns_with_exact_values(capsys: pytest.CaptureFixture[str]) -> None:
    head, row = csv.reader(io.StringIO(piped(capsys, [ROW], Form.CSV)))
    assert dict(zip(head, row, strict=True)) == {
        "name": NAME,
        "address": ADDRESS,
        "hash": HASH,
        "difficulty": "65536",
        "owed_sat": "1234567",
        "last_seen_at": "2025-11-26T06:53:20Z",
        "why": ROW["why"],
    }


HOSTILE = ("=cmd|'/c calc'!A1", "+1", "@SUM(A1)", "\x1b[2Jx", "a\nb", "\x9b31m", "\u202egnp.exe", 'a",=1')


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("form", list(Form))
def test_a_strangers_name_moves_no_cursor_and_computes_nothing(
    capsys: pytest.CaptureFixture[str], name: str, form: Form
) -> None:
    text = piped(capsys, [ROW | {"name": name}], form)
    assert all(line.isprintable() for line in text.split("\n"))
    match form:
        case Form.TEXT:
            assert len(text.splitlines()) == 2
        case Form.JSON:
            assert json.loads(text)[0]["name"] == name
        case Form.CSV:
            cell = list(csv.reader(io.StringIO(text)))[1][0]
            assert not cell.startswith(("=", "+", "-", "@"))
            assert ",=" not in cell


def test_facts_that_there_are_not_have_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    show_one({"name": NAME, "why": None}, COLUMNS)
    assert capsys.readouterr().out == f"name  {NAME}\n"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (1, "1"),
        (512, "512"),
        (1024, "1k"),
        (65_536, "64k"),
        (1 << 20, "1M"),
        (10_000, "10,000"),
        (1 << 50, "1P"),
        (1 << 70, "1,024E"),
        (0.5, "1/2"),
        (2.0**-32, "1/4,294,967,296"),
    ],
)
def test_a_difficulty_is_a_number_with_a_suffix(number: int | float, words: str) -> None:
    assert difficulty(number) == words
