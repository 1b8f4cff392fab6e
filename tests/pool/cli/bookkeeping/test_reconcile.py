"""`angara reconcile` as an operator types it: at an edge, at the hub, and with what an edge said."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pool.books.journal import folding
from pool.books.store import Store
from pool.cli.main import app
from pool.journal.segments import segments
from tests.stages.worked_edge import FIRST_HOUR, NORTH, SOUTH, WorkedEdge, forge, worked

Angara = Callable[..., tuple[int, str]]


@pytest.fixture
async def north(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkedEdge:
    monkeypatch.setattr(folding, "STEP_PAUSE_S", 0.0)
    return (await worked(store, tmp_path, NORTH, SOUTH))[0]


def reconcile(*arguments: object) -> tuple[int, str]:
    ran = CliRunner().invoke(app, ["reconcile", *map(str, arguments)])
    if ran.exception is not None and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    return ran.exit_code, ran.output


@pytest.fixture
def at_hub(north: WorkedEdge) -> Angara:
    url = north.hub.store.engine.url.render_as_string(hide_password=False)
    return lambda *arguments: reconcile(*arguments, "--data-dir", north.hub.home, "--database", url)


@pytest.mark.sqlite_suffices
async def test_at_the_hub_each_journal_is_a_line_and_each_hour_with_hours(
    north: WorkedEdge, at_hub: Angara
) -> None:
    code, output = at_hub()
    assert code == 0
    lines = output.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["edge", NORTH, SOUTH]
    assert [line.endswith("equal") for line in lines[1:3]] == [True, True]
    assert "18 accepted shares are in the hours of journals, and 18 in those that are paid for" in lines
    code, output = at_hub("--hours")
    assert (code, output.count(" equal\n")) == (0, 6)
    assert north.journal.log.at.digest.hex() in output


@pytest.mark.sqlite_suffices
async def test_what_waits_and_what_is_not_here_is_said_in_words(north: WorkedEdge, at_hub: Angara) -> None:
    there = segments(north.inbox)
    there[0][1].unlink()
    north.work(3)
    await north.send()
    code, output = at_hub()
    assert code == 0
    assert f"records 1 to {there[1][0] - 1} are not here any more" in output
    assert "with 3 accepted shares wait for the books, the first of 2023-11-15 01:00:00Z" in output


async def test_a_difference_is_exit_code_1_and_says_edge_hour_record_and_both_sides(
    north: WorkedEdge, at_hub: Angara
) -> None:
    forge(
        north.hub.store,
        "UPDATE journal_hour_shares SET shares = 1000 WHERE hour = :hour AND verdict = 0 AND writer = :it",
        hour=FIRST_HOUR,
        it=north.journal.writer,
    )
    forge(north.hub.store, "UPDATE rate_hours SET shares = shares + 1 WHERE hour = :hour", hour=FIRST_HOUR)
    code, output = at_hub()
    assert code == 1
    short = north.journal.writer[:8]
    (wrong,) = (line for line in output.splitlines() if line.startswith("WRONG edge"))
    assert wrong.startswith(f"WRONG edge north {short} (inbox) hour 2023-11-14 22:00:00Z record ")
    assert wrong.endswith(
        "1000 shares of difficulty 2^16 in it are accepted in the books, and 3 in the inbox"
    )
    assert "WRONG journal_positions " in output
    code, output = at_hub("--json")
    assert code == 1
    said = json.loads(output)
    assert said["ok"] is False
    (difference,) = (it["difference"] for it in said["journals"] if it["difference"] is not None)
    assert difference["from"] == "2023-11-14T22:00:00Z"


@pytest.mark.sqlite_suffices
async def test_what_an_edge_says_goes_by_file_to_the_hub(
    north: WorkedEdge, at_hub: Angara, tmp_path: Path
) -> None:
    code, output = reconcile("--journal", north.journal.directory)
    assert code == 0
    assert north.journal.log.at.digest.hex() in output
    code, output = reconcile("--journal", north.journal.directory.parent, "--json")
    assert code == 0
    file = tmp_path / "north.json"
    file.write_text(output)
    code, output = at_hub("--with", file, "--json")
    assert code == 0
    said = json.loads(output)
    assert said["ok"] is True
    assert [(it["edge"], it["side"], it["state"]) for it in said["journals"]] == [
        (NORTH, "inbox", "equal"),
        (NORTH, "edge", "equal"),
        (SOUTH, "inbox", "equal"),
    ]
    lie = json.loads(file.read_text())
    lie["journals"][0]["hours"][1]["records"] += 1
    file.write_text(json.dumps(lie))
    code, output = at_hub("--with", file)
    assert (code, "WRONG edge north" in output, "in what the edge says" in output) == (1, True, True)


@pytest.mark.sqlite_suffices
async def test_a_journal_that_is_damaged_is_exit_code_1_where_it_is(north: WorkedEdge) -> None:
    path = segments(north.journal.directory)[1][1]
    path.write_bytes(path.read_bytes()[1:])
    code, output = reconcile("--journal", north.journal.directory)
    assert code == 1
    assert f"WRONG journal {north.journal.writer[:8]} record {int(path.stem)}: " in output


def test_what_is_no_journal_and_no_file_of_an_edge_is_a_mistake_in_words(tmp_path: Path) -> None:
    code, output = reconcile("--journal", tmp_path)
    assert (code, f"there is no journal in {tmp_path}" in output) == (2, True)
    for content in (b"{}", b'{"journals": [{"wrong": "\xff"}]}', b'{"x": ' + b"[" * 100_000):
        (tmp_path / "x.json").write_bytes(content)
        code, output = reconcile("--with", tmp_path / "x.json", "--data-dir", tmp_path)
        assert (code, "is not what `angara reconcile --journal` says" in output) == (2, True)
    code, output = reconcile("--with", tmp_path / "none.json", "--data-dir", tmp_path)
    assert (code, "No such file" in output) == (2, True)
    code, output = reconcile("--journal", tmp_path, "--with", tmp_path / "x.json")
    assert (code, "or --with where the books are" in output) == (2, True)


async def test_a_digest_that_is_none_is_said_and_nothing_else_is_read(
    north: WorkedEdge, at_hub: Angara
) -> None:
    forge(
        north.hub.store,
        "UPDATE journal_hours SET digest = :it WHERE hour = :hour",
        it="z" * 32,
        hour=FIRST_HOUR,
    )
    for form in ((), ("--json",)):
        code, output = at_hub(*form)
        assert (code, "its digest is none" in output) == (1, True)
