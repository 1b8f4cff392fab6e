"""`angara report`: what it writes, where, and what it says to mistakes."""

import shutil
import stat
from datetime import date, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from payouts.book_time import book_time
from payouts.statements.period import Period
from pool.cli.main import app
from tests.fixtures.databases import store_in
from tests.histories.statements import DAY, DAY_S, History, mine_with_hostile_names
from tests.judges.report_readers import pdf_text

NEXT, AFTER = DAY + timedelta(1), DAY + timedelta(2)
PERIOD = Period(DAY, AFTER)
HOUR_S, DAY_LENGTH_S = 3600, 86_400


@pytest.fixture(scope="module")
def closed_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("closed")
    store = store_in(home)
    mine_with_hostile_names(History(store))
    with store.write() as connection:
        book_time(connection, DAY_S + 30 * DAY_LENGTH_S)  # the pool ran on
    store.close()
    return home / "angara.db"


@pytest.fixture
def data_dir(tmp_path: Path, closed_database: Path) -> Path:
    """A data directory of a pool that is not running."""
    shutil.copy(closed_database, tmp_path)
    return tmp_path


def report(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["report", *arguments])


def days(first: date = DAY, last: date = AFTER) -> tuple[str, ...]:
    return ("--from", str(first), "--to", str(last))


def test_the_command_writes_a_statement_for_its_owner_alone(data_dir: Path) -> None:
    out = data_dir / "acme.pdf"
    done = report(
        "statement",
        "--tenant",
        "acme",
        *days(),
        "--format",
        "pdf",
        "--out",
        str(out),
        "--data-dir",
        str(data_dir),
    )
    assert (done.exit_code, done.output) == (0, "")
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert "Statement of account" in pdf_text(out.read_bytes())
    assert {path.name for path in data_dir.iterdir()} <= {
        "acme.pdf",
        "angara.db",
        "angara.db-wal",
        "angara.db-shm",
    }


# Each report, and each format: tests/payouts/reports has every report in every format.
@pytest.mark.parametrize(
    ("what", "form"),
    [
        (("statement", "--tenant", "acme"), "text"),
        (("statement", "--tenant", "acme"), "pdf"),
        (("payouts",), "csv"),
        (("hashrate", "--by", "hour"), "json"),
        (("pool",), "html"),
    ],
)
def test_the_command_writes_to_standard_output(data_dir: Path, what: tuple[str, ...], form: str) -> None:
    done = report(*what, *days(), "--format", form, "--database", f"sqlite:///{data_dir}/angara.db")
    assert (done.exit_code, done.stderr) == (0, "")
    assert len(done.stdout_bytes) > 400


def test_an_unfinished_period_is_provisional(data_dir: Path) -> None:
    done = report("statement", "--tenant", "acme", *days(DAY, date(2036, 1, 1)), "--data-dir", str(data_dir))
    assert (done.exit_code, "this statement is provisional" in done.stderr) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("statement", "--tenant", "nobody", *days()), "there is no tenant 'nobody'"),
        (("statement", "--tenant", "acme", *days(AFTER, DAY)), "is empty"),
        (
            ("statement", "--tenant", "acme", "--from", "yesterday", "--to", "2026-09-02"),
            "--from: 'yesterday' is not a day",
        ),
        (("statement", "--tenant", "acme", "--from", "2026-02-30", "--to", "2026-09-02"), "is not a day"),
        (("payouts", "--tenant", "\x1b[2J", *days()), r"there is no tenant '\x1b[2J'"),
        (("hashrate", "--of", "worker", "--by", "hour", *days(date(2020, 1, 1))), "ask for fewer days"),
    ],
)
def test_mistakes_are_answered_in_words(data_dir: Path, arguments: tuple[str, ...], reason: str) -> None:
    done = report(*arguments, "--data-dir", str(data_dir))
    assert done.exit_code == 2
    assert reason in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    for arguments, reason in (
        (("--data-dir", str(tmp_path)), "there is no database"),
        (("--database", f"sqlite:///{tmp_path}/x.db"), "there is no database"),
        (("--database", "mysql://x"), "is not a database that is supported"),
        (("-c", str(tmp_path / "angara.toml")), "cannot read"),
        (("--data-dir", str(tmp_path), "-c", "x.toml"), "not both"),
        (("-c", "x.toml", "--database", "sqlite:///x"), "not both"),
    ):
        done = report("pool", *arguments)
        assert (done.exit_code, reason in done.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_leaves_nothing_behind(data_dir: Path) -> None:
    taken = data_dir / "taken"
    taken.mkdir()
    done = report("pool", *days(), "--data-dir", str(data_dir), "--out", str(taken))
    assert done.exit_code == 2
    assert not [path for path in data_dir.iterdir() if path.name.startswith(".")]


def test_books_that_contradict_each_other_are_told_with_exit_code_1(data_dir: Path) -> None:
    store = store_in(data_dir)
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE tally_minutes SET shares = shares + 1 WHERE verdict = 0")
    store.close()
    for what in (("statement", "--tenant", "acme"), ("pool",)):
        done = report(*what, *days(), "--data-dir", str(data_dir))
        assert done.exit_code == 1
        assert "angara: " in done.stderr


@pytest.mark.parametrize("name", ["luck", "pool"])
def test_days_before_the_calendar_begins_are_a_mistake(name: str, data_dir: Path) -> None:
    done = report(name, "--to", "0001-01-01", "--data-dir", str(data_dir))
    assert done.exit_code == 2
    assert "--to: there are no " in done.output


@pytest.mark.parametrize(("name", "more"), [("acme.pdf", ()), ("acme.CSV", ("--format", "pdf"))])
def test_a_file_that_is_called_another_format_is_not_written(
    name: str, more: tuple[str, ...], data_dir: Path
) -> None:
    """Text that is called PDF goes to a tenant who cannot open it."""
    out = data_dir / name
    done = report(
        "statement", "--tenant", "acme", *days(), *more, "--out", str(out), "--data-dir", str(data_dir)
    )
    assert done.exit_code == 2
    assert f"give --format {name[-3:].lower()}, or the file another name" in done.output
    assert not out.exists()
