"""Reports, copies and proofs leave the processor to the pool; other commands, and the pool, do not."""

import os
import subprocess
import sys

import pytest
from typer.main import get_command

from pool.cli.main import app
from pool.cli.priority import LONG, NICE, make_way
from tests.pool.cli.test_main import all_commands

LEAST = 19  # of all priorities, whoever asks for less
PRIORITY = """
import os, sys
from pool.cli.main import main
try:
    main()
finally:
    print(os.nice(0), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("line", "more"),
    [
        ("report statement --tenant acme", NICE),
        ("--verbose report luck", NICE),
        ("db backup copy.db", NICE),
        ("ledger verify --full", NICE),
        ("reconcile --hours", NICE),
        ("run -c angara.toml", 0),
        ("db restore copy.db", 0),
        ("ledger checkpoint", 0),
        ("tenant show report", 0),
        ("", 0),
    ],
)
def test_long_work_beside_a_pool_makes_way(line: str, more: int, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [0]
    monkeypatch.setattr("pool.cli.priority.os.nice", steps.append)
    make_way(line.split())
    assert sum(steps) == more


def test_what_makes_way_are_commands() -> None:
    assert set(LONG) <= set(all_commands(get_command(app)))


def test_a_command_makes_way_before_it_reads_anything() -> None:
    command = [sys.executable, "-c", PRIORITY, "report", "--help"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stderr.split() == [str(min(os.nice(0) + NICE, LEAST))]
