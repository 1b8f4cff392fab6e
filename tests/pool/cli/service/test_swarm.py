"""`angara swarm`: whom it may be pointed at, what is a mistake, and what it shows."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import pool.cli.service.swarm as swarming
from pool.cli.main import app
from pool.settings_file import BadConfig
from pool.swarm.load import Cut, LoadOptions, Measured
from tests.pool.swarm.test_load import measured

COUNTED: dict[str, Any] = {
    "verdicts": {"good": {"accepted": 990, "21": 4}, "late": {"21": 6}},
    "words": {"21": "[21,'\x1b[2J stale']"},
    "latency": [(2_000_000, 999), (90_000_000, 1)],
    "first_job": [(1_000_000, 2)],
    "blocks": [(4_000_000, 2)],
    "block_delays": [(4_000_000, 2)],
    "lost": {"closed by the server": 3},
    "due": 1_000,
    "submitted": 1_000,
    "reconnects_asked": 5,
    "reconnects_elsewhere": 1,
}


def angara(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["swarm", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[LoadOptions]:
    """What was to be run; what came of it is COUNTED."""
    runs: list[LoadOptions] = []

    def run_load(options: LoadOptions, *_: object) -> Measured:
        runs.append(options)
        return measured(COUNTED, options=options, cuts=[(Cut(at_s=3, for_s=1, container=0), 0.25)])

    monkeypatch.setattr(swarming, "run_load", run_load)
    return runs


@pytest.mark.parametrize("server", ["192.0.2.7:3333", "[2001:db8::1]:3333", "0.0.0.0:3333"])
def test_another_host_is_a_target_only_for_whom_it_belongs_to(asked: list[LoadOptions], server: str) -> None:
    code, said = angara(server)
    assert (code, asked) == (2, [])
    assert "--this-server-is-mine" in said
    assert angara(server, "--this-server-is-mine")[0] == 0
    assert len(asked) == 1


@pytest.mark.parametrize("server", ["127.0.0.1:3333", "127.8.9.10:3333", "[::1]:3333"])
def test_this_host_is_one_for_everybody(asked: list[LoadOptions], server: str) -> None:
    assert angara(server)[0] == 0
    assert asked[0].port == 3333


def test_without_any_option_it_is_a_container_for_a_minute(asked: list[LoadOptions]) -> None:
    angara("127.0.0.1:3333")
    (options,) = asked
    assert (options.machines, options.seconds, options.connects_per_s) == (100, 60.0, 1_000.0)
    assert options.shares_per_s == pytest.approx(100 / 6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["127.0.0.1"], "HOST:PORT"),
        (["127.0.0.1:0"], "HOST:PORT"),
        (["127.0.0.1:99999"], "HOST:PORT"),
        ([":3333"], "HOST:PORT"),
        (["127.0.0.1:1", "--profile", "abacus"], "abacus"),
        (["127.0.0.1:1", "--hashrate", "many"], "--hashrate"),
        (["127.0.0.1:1", "--hashrate", "-1k"], "--hashrate"),
        (["127.0.0.1:1", "--hashrate", "1k", "--rate", "1"], "one of"),
        (["127.0.0.1:1", "--closed-loop", "--rate", "0"], "one of"),
        (["127.0.0.1:1", "--cut", "soon"], "--cut"),
        (["127.0.0.1:1", "--cut", "1:nan"], "--cut"),
        (["127.0.0.1:1", "--cut", "1:2:3"], "container 3 of 1"),
        (["127.0.0.1:1", "--bad", "0.7", "--late", "0.7"], "--late"),
        (["127.0.0.1:1", "--containers", "999", "--units", "999"], "at most"),
        (["127.0.0.1:1", "--svg", "/nowhere/at/all.svg"], "directory"),
    ],
)
def test_a_mistake_is_told_in_words_before_anything_runs(
    asked: list[LoadOptions], arguments: list[str], words: str
) -> None:
    code, said = angara(*arguments)
    assert (code, asked) == (2, [])
    assert words in said


def test_text_has_verdicts_latencies_blocks_cuts_and_what_failed(asked: list[LoadOptions]) -> None:
    code, said = angara("127.0.0.1:3333", "--cut", "3:1:1")
    assert code == 0
    for words in (
        "990 shares accepted, 99.0 a second; 10 rejected",
        "40.0 us of our processor a share",
        "p99.9",
        "90.0",
        "median 4.0 ms",
        "power cut of container 1 at 3 s for 1 s: all had work 0.2 s after it",
        "asked to reconnect: 5 times, 1 of them elsewhere",
        "connections that failed: 3, closed by the server",
        "\\x1b[2J stale",
    ):
        assert words in said
    assert "were not found" not in said
    assert asked[0].cuts == (Cut(at_s=3, for_s=1, container=0),)


def test_shares_that_are_too_dear_are_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = COUNTED | {
        "too_dear": 900,
        "difficulty_least": 1024.0,
        "difficulty_most": 2048.0,
        "hashes": 50_000_000,
    }
    monkeypatch.setattr(swarming, "run_load", lambda *_: measured(counted))
    _, said = angara("127.0.0.1:3333")
    assert "900 of 1,000 shares that were due were not found: difficulty 1024 to 2048 takes 4,398" in said
    assert "5.000 MH/s" in said
    assert "--suggest-difficulty" in said


def test_json_and_the_picture_are_of_the_same_run(asked: list[LoadOptions], tmp_path: Path) -> None:
    code, said = angara("127.0.0.1:3333", "--json", "--svg", tmp_path / "latency.svg")
    report = json.loads(said)
    assert (code, report["ack_ms"]["p999"], report["ack_ms"]["max"]) == (0, 2.0, 90.0)
    assert (tmp_path / "latency.svg").read_text().startswith("<svg")


def test_where_no_machine_had_work_the_exit_code_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from pool.swarm.load import Arrived

    counted = {"lost": {"Connection refused": 5}}
    monkeypatch.setattr(swarming, "run_load", lambda *_: measured(counted, arrived=Arrived(0, 20.0)))
    code, said = angara("127.0.0.1:3333")
    assert code == 1
    assert "Connection refused" in said
    assert "milliseconds" not in said


def test_the_first_signal_ends_the_run_and_the_second_is_as_without_us() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with swarming._signals() as came:
            signal.raise_signal(signal.SIGTERM)
            assert (came, heard) == ([signal.SIGTERM], [])
            signal.raise_signal(signal.SIGTERM)
            assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_hashrates_are_read_with_their_prefix() -> None:
    assert [swarming.hashrate_from(it) for it in ("500", "500k", "2.5M")] == [500.0, 5e5, 2.5e6]
    with pytest.raises(BadConfig):
        swarming.hashrate_from("nan")
