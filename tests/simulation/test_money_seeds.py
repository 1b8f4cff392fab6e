"""Whatever persons, the pool, whoever has the keys and the chain do beside each other: work is credited once,
to the last of 10^-12 satoshi, what was paid is on the chain, and no file that is given away is wrong.

`python -m tests.simulation --money --seed SEED --trace` says all that happened.
"""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.fixtures.databases import PostgresDatabases
from tests.simulation.money_auditor import play_money
from tests.simulation.planted_money_bugs import PLANTED, VERDICTS

ROOT = Path(__file__).parents[2]
SEEDS = (3, 4)  # each is five seconds of a processor: CI plays ten with `make simulation`
SEED_ON_A_SERVER = 0
SEEDS_OF_A_SOAK = 300
FIRST_SEEDS = 25
FOUND_BY: Final = {"pay_whoever_was_drafted": 1}  # by what it was found last


@pytest.mark.simulation
def test_work_is_credited_once_and_what_is_paid_is_on_the_chain() -> None:
    done = Counter[str]()
    for seed in SEEDS:
        played = play_money(seed)
        assert played.found is None, f"seed {seed}: {played.found}"
        done += played.done
    for what in ("sends", "killed", "put back", "divides a block", "sells", "asks for a statement"):
        assert done[what], done


@pytest.mark.simulation
def test_a_book_on_a_server_has_the_same_and_may_come_there_at_any_time(
    postgres_databases: PostgresDatabases,
) -> None:
    played = play_money(SEED_ON_A_SERVER, postgres_databases)
    assert played.found is None
    assert played.done["moved"]


@pytest.mark.soak
def test_three_hundred_seeds_are_clean(postgres_databases: PostgresDatabases) -> None:
    bad = {
        seed: played.found
        for seed in range(SEEDS_OF_A_SOAK)
        if (played := play_money(seed, postgres_databases if seed % 3 == 0 else None)).found is not None
    }
    assert not bad


@pytest.mark.simulation
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_of_money_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PLANTED[name](monkeypatch)
    found: list[str] = []
    for seed in (FOUND_BY.get(name, 0), *range(FIRST_SEEDS)):
        played = play_money(seed)
        if played.found is not None:
            found.append(played.found.verdict)
        if VERDICTS[name] & set(found):
            return
    pytest.fail(f"{name} was found as {sorted(set(found)) or 'nothing'}")


@pytest.mark.simulation
def test_the_command_plays_it_the_same_in_another_process() -> None:
    command = [sys.executable, "-m", "tests.simulation", "--money", "--seed", "1", "--trace"]
    environment = os.environ | {"PYTHONHASHSEED": "77"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert done.stdout.splitlines()[:-1] == play_money(1).course
