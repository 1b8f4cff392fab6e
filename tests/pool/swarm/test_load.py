"""A run of simulated machines, from their arrival to the report, and what is made of its figures."""

from collections.abc import Iterator
from typing import Any

import pytest

from pool.swarm.latency_picture import picture
from pool.swarm.load import Arrived, Cut, LoadError, LoadOptions, Measured, machine_rows, run_load
from pool.swarm.load_report import document, percentile_ms, spread
from pool.swarm.profiles import PROFILES, spoken
from tests.stages.stratum_server import StratumServer

COUNTERS = """due submitted busy too_dear unanswered hashes connects notifies notify_bytes bad_lines
    stray_replies pings reconnects_asked reconnects_elsewhere in_flight"""
LISTS = "latency slow_latency found_after first_job block_delays blocks"
EMPTY: dict[str, Any] = dict.fromkeys(COUNTERS.split(), 0) | {name: [] for name in LISTS.split()}


def options(port: int = 3333, **changes: Any) -> LoadOptions:
    fields: dict[str, Any] = {"containers": 1, "units": 2, "seconds": 3_600.0}
    return LoadOptions(host="127.0.0.1", address="127.0.0.1", port=port, **(fields | changes))


def measured(counted: dict[str, Any], **changes: Any) -> Measured:
    told = (
        EMPTY
        | {
            "verdicts": {},
            "words": {},
            "lost": {},
            "hashes_per_s": 1e7,
            "difficulty_least": 0.0,
            "difficulty_most": 0.0,
        }
        | counted
    )
    fields: dict[str, Any] = {
        "options": options(),
        "arrived": Arrived(2, 0.5),
        "seconds": 10.0,
        "mining": 2,
        "cuts": [],
        "cpu_user_s": 0.01,
        "cpu_system_s": 0.03,
        "interrupted": False,
    }
    return Measured(counted=told, **(fields | changes))


@pytest.fixture
def server() -> Iterator[StratumServer]:
    server = StratumServer()
    yield server
    server.close()


def test_a_run_ends_when_it_is_asked_to_with_the_report_so_far(server: StratumServer) -> None:
    came: list[Arrived] = []

    def stopped() -> bool:
        server.step()
        return sum(len(it.submits()) for it in server.connections) > 20

    report = document(run_load(options(server.port, closed_loop=True), stopped, came.append))
    assert [it.machines for it in came] == [2]
    assert report["interrupted"]
    assert report["accepted"] + report["unanswered"] == report["submitted"] > 0
    assert report["verdicts"] == {"good": {"accepted": report["accepted"]}}
    assert report["first_job_ms"]["count"] == 2
    assert report["profiles"] == {"antminer": 2}


def test_a_cut_is_told_with_the_time_until_all_were_back(server: StratumServer) -> None:
    def stopped() -> bool:
        server.step()
        return len(server.connections) >= 4 and len(server.connections[3].submits()) > 1

    cut = Cut(at_s=0.0, for_s=0.0)
    report = document(run_load(options(server.port, closed_loop=True, cuts=(cut,)), stopped))
    (told,) = report["cuts"]
    assert (told["at_s"], told["for_s"], told["container"]) == (0.0, 0.0, None)
    assert report["mining_at_the_end"] == 2


def test_who_asks_for_more_machines_than_files_is_told() -> None:
    with pytest.raises(LoadError, match="open files"):
        run_load(options(containers=100_000, units=100_000), lambda: True)


def test_containers_have_profiles_in_turn_and_slow_readers_are_among_all() -> None:
    rows = machine_rows(
        options(containers=3, units=50, profiles=("antminer", "bitaxe"), slow_readers=0.1, user='a"b')
    )
    assert [rows[at][:3] for at in (0, 21, 50, 149)] == [
        ('a\\"b.c01.r01s01', 0, 0),
        ('a\\"b.c01.r02s02', 0, 0),
        ('a\\"b.c02.r01s01', 1, 1),
        ('a\\"b.c03.r03s10', 0, 2),
    ]
    assert sum(slow for *_, slow in rows) == 15
    assert len({name for name, *_ in rows}) == 150


def test_a_difficulty_is_suggested_without_an_exponent_behind_what_firmware_says_itself() -> None:
    def texts(name: str, asked: float | None) -> list[str]:
        said = spoken(PROFILES[name], password='"', host="h", port=1, suggest_difficulty=asked)
        return [step.text for step in said.steps]

    assert '"mining.suggest_difficulty","params":[0.0000001]' in texts("antminer", 1e-7)[-1]
    assert not [it for it in texts("antminer", None) if "suggest" in it]
    assert '"params":[1000]' in texts("bitaxe", None)[3]
    assert texts("antminer", None)[1] == '"method":"mining.authorize","params":["{worker}","\\""]'


def test_percentiles_are_of_all_and_the_longest_is_the_longest() -> None:
    buckets = [(1_000_000, 990), (5_000_000, 9), (80_000_000, 1)]
    assert spread(buckets) == {
        "count": 1_000, "p50": 1.0, "p90": 1.0, "p99": 1.0, "p999": 5.0, "max": 80.0
    }  # fmt: skip
    assert percentile_ms(buckets, 0.9991) == 80.0
    assert spread([]) == {"count": 0}


def test_blocks_that_did_not_reach_all_are_counted_and_not_summed_up() -> None:
    blocks = [(5_000_000, 2), (9_000_000, 2), (1_000_000, 1)]
    told = document(measured({"blocks": blocks}))["new_blocks"]
    assert told == {"count": 3, "reached_all": 2, "median_ms": 9.0, "max_ms": 9.0}


def test_the_cost_of_a_share_is_told() -> None:
    report = document(measured({"submitted": 4_000, "verdicts": {"good": {"accepted": 3_900, "21": 100}}}))
    assert report["client_cpu"]["us_a_share"] == 10.0
    assert report["accepted_per_s"] == 390.0
    assert report["verdicts"]["good"] == {"accepted": 3_900, "21": 100}


def test_the_picture_shows_one_answer_among_many_and_no_words_break_it() -> None:
    shown = picture("<&>", [(1_000_000, 100_000), (900_000_000, 1)])
    assert shown.count("fill='#3572b0'") == 2
    assert "&lt;&amp;&gt;" in shown
    assert "p999 1.0 ms" in shown
    assert "max 900.0 ms" in shown
    assert "no answers" in picture("nothing", [])
