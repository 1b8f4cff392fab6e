"""The report of `make bench` is whole: every figure that was promised has its part, and what is not reached
its reason. Nothing is measured here: shown is what was measured last, which is in the repository.
"""

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import report
from bench.curves import curves
from bench.figures import FIGURES, Figure, Measured, Result
from bench.parts import PARTS
from bench.report import RESULTS, Ran, keep, kept, write
from bench.stamp import stamp


def test_every_figure_has_a_part_and_what_to_say_where_it_is_not_reached() -> None:
    assert len(FIGURES) == 14
    for figure in FIGURES:
        assert figure.part in PARTS
        assert "lift" in figure.limits


def test_the_committed_report_is_the_one_of_the_results_beside_it(tmp_path: Path) -> None:
    """So are its pictures: `python -m bench` writes both."""
    for name, ran in kept().items():
        keep(name, ran, tmp_path)
    written = write(tmp_path)
    made = {file.name for file in tmp_path.iterdir() if file.suffix != ".json"}
    for name in made:
        assert (RESULTS / name).read_bytes() == (tmp_path / name).read_bytes(), name
    text = written.read_text()
    for figure in FIGURES:
        assert f"| {figure.what} | {figure.promised} |" in text
    for name in PARTS:
        assert (f"`python -m bench {name}`, " in text) == (name in kept())
    for picture in made:
        if picture.endswith(".svg"):
            assert f"({picture})" in text


def test_what_is_not_reached_has_its_reason_in_the_report_and_what_is_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(reached: bool) -> Callable[[Result], Measured]:
        return lambda result: Measured(f"{result['rows_per_s']} a second", reached)

    figures = tuple(
        Figure(
            what=what,
            promised="much",
            part="books",
            measured=measured(what == "reached"),
            limits=f"reason of {what}",
        )
        for what in ("reached", "missed")
    )
    monkeypatch.setattr(report, "FIGURES", figures)
    keep("books", kept()["books"], tmp_path)
    text = write(tmp_path).read_text()
    rows = kept()["books"].result["rows_per_s"]
    assert f"| reached | much | {rows} a second | yes |" in text
    assert f"| missed | much | {rows} a second | **no** |" in text
    assert "reason of missed" in text
    assert "reason of reached" not in text


def test_a_part_that_is_run_again_leaves_the_sections_of_others(tmp_path: Path) -> None:
    for name in ("books", "engine"):
        keep(name, kept()[name], tmp_path)
    before = write(tmp_path).read_text()
    again = kept()["books"]
    keep("books", Ran(stamp(), again.result | {"rows_per_s": 123_456}), tmp_path)
    assert (tmp_path / "report.md").read_text() == before  # until it is written
    after = write(tmp_path).read_text()
    assert "123,456, PostgreSQL" in after
    engine = before[before.index("## The engine") :]
    assert engine in after


def test_curves_are_a_picture_with_every_point_in_it() -> None:
    drawn = curves("title & more", "x", "y", {"a": [(1, 10), (10, 100), (100, 250)], "b": [(1, 3), (100, 4)]})
    root = ET.fromstring(drawn)  # noqa: S314  # ours
    names = {"svg": "http://www.w3.org/2000/svg"}
    lines = [it.get("points") for it in root.findall("svg:polyline", names)]
    assert [len((it or "").split()) for it in lines] == [3, 2]
    texts = [it.text for it in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"title & more", "a", "b", "500", "1", "10", "100"} <= set(texts)
