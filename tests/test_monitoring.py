"""The rules and dashboards in monitoring/ ask for metrics that there are, by labels that those have."""

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pool.metrics.contract import METRICS
from tests.test_documents import command_of

MONITORING = Path(__file__).parent.parent / "monitoring"
DASHBOARDS = sorted(MONITORING.glob("grafana/*.json"))
ALERTS = MONITORING / "alerts.yaml"
OF_HISTOGRAMS = ("_bucket", "_sum", "_count")
# Of Prometheus itself, and of its client's view of a process.
OTHERS = {"up", "process_cpu_seconds_total", "process_resident_memory_bytes"}
OTHERS |= {"process_open_fds", "process_max_fds"}
LABELS = {it.name: set(it.labels) for it in METRICS if it.kind != "histogram"}
LABELS |= {
    it.name + end: set(it.labels) | {"le"}
    for it in METRICS
    if it.kind == "histogram"
    for end in OF_HISTOGRAMS
}
NAME = re.compile(r"\b(?:angara_\w+|process_\w+|up\b)")
SELECTOR = re.compile(r"\b((?:angara|process)_\w+|up)\{([^}]*)\}")
GROUPED = re.compile(r"\b(?:by|on|without|ignoring) ?\(([^)]*)\)")
WORDS = re.compile(r"\{\{ ?\$labels\.(\w+) ?\}\}")


def rules() -> list[dict[str, Any]]:
    document = msgspec.yaml.decode(ALERTS.read_bytes())
    return [rule for group in document["groups"] for rule in group["rules"]]


def panels(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["panels"]
    return found


def targets(path: Path) -> list[tuple[str, str]]:
    """Expression and legend."""
    return [(it["expr"], it["legendFormat"]) for panel in panels(path) for it in panel["targets"]]


EXPRESSIONS = [rule["expr"] for rule in rules()]
EXPRESSIONS += [expression for path in DASHBOARDS for expression, _ in targets(path)]


def without_words(expression: str) -> str:
    return re.sub(r'"[^"]*"', '""', expression)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_what_is_asked_for_is_in_the_contract(expression: str) -> None:
    names = set(NAME.findall(without_words(expression)))
    assert names
    assert not names - LABELS.keys() - OTHERS
    for name, labels in SELECTOR.findall(without_words(expression)):
        assert set(re.findall(r"(\w+)(?:=|!=|=~|!~)", labels)) <= LABELS.get(name, {"job"}), name
    known = set().union(*(LABELS.get(name, set()) for name in names))
    for labels in GROUPED.findall(expression):
        assert {it.strip() for it in labels.split(",")} <= known


def test_every_alert_says_what_it_is_about_how_urgent_it_is_and_where_to_look() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names)) > 20
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "look"}, rule["alert"]
        known = set().union(*(LABELS.get(name, set()) for name in NAME.findall(rule["expr"])))
        said = rule["annotations"]["summary"] + rule["annotations"]["look"]
        assert set(WORDS.findall(said)) <= known, rule["alert"]


def test_every_command_that_an_alert_names_can_be_typed() -> None:
    """By who has been woken by it, as it stands there."""
    looks = [WORDS.sub("NAME", rule["annotations"]["look"]) for rule in rules()]
    lines = [line for look in looks for line in re.findall(r"\bangara ([^;)]+)", look)]
    assert len(lines) > 20
    for line in lines:
        command, words = command_of(line.split())
        known = {name for option in command.params for name in option.opts}
        assert not {it for it in words if it.startswith("--")} - known, line


def test_every_metric_is_on_a_dashboard_but_for_what_says_what_runs() -> None:
    shown = set().union(*(NAME.findall(without_words(it)) for it in EXPRESSIONS))
    missing = {
        it.name
        for it in METRICS
        if it.name not in shown and not {it.name + end for end in OF_HISTOGRAMS} & shown
    }
    assert missing == {"angara_build_info", "angara_template_height"} - shown


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_has_its_panels_beside_each_other_and_not_on_each_other(path: Path) -> None:
    places = [panel["gridPos"] for panel in panels(path)]
    assert len({panel["id"] for panel in panels(path)}) == len(places) > 10
    for place in places:
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
    for one, other in itertools.combinations(places, 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y, (one, other)
    for expression, legend in targets(path):
        known = set().union(*(LABELS.get(name, set()) for name in NAME.findall(expression)))
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= known, legend


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
@pytest.mark.parametrize(
    "arguments", [("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yaml")]
)
def test_prometheus_takes_the_rules_and_they_fire_when_they_should(arguments: tuple[str, ...]) -> None:
    ran = subprocess.run(["promtool", *arguments], cwd=MONITORING, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_prometheus_takes_every_expression_of_the_dashboards(tmp_path: Path) -> None:
    expressions = [it.replace("$__rate_interval", "1m") for path in DASHBOARDS for it, _ in targets(path)]
    recorded = [{"record": f"of:{at}", "expr": it} for at, it in enumerate(expressions)]
    path = tmp_path / "rules.yaml"
    path.write_bytes(msgspec.yaml.encode({"groups": [{"name": "panels", "rules": recorded}]}))
    ran = subprocess.run(["promtool", "check", "rules", str(path)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
