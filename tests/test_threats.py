"""What docs/threats.md and docs/faults.md say is held by a test is held by one: each named test is there."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TEST = re.compile(r"^ *(?:async )?def (test_\w+)", re.MULTILINE)
NAMED = re.compile(r"`tests/([\w/]*test_\w+\.py)(?:::(test_\w+))?`")


@pytest.mark.parametrize("document", ["threats.md", "faults.md"])
def test_every_test_that_is_named_is_there(document: str) -> None:
    named = NAMED.findall((TESTS.parent / "docs" / document).read_text())
    assert len(named) > 20
    missing = []
    for file, function in named:
        path = TESTS / file
        tests = set(TEST.findall(path.read_text())) if path.exists() else set()
        if not tests or (function and function not in tests):
            missing.append((file, function))
    assert not missing


def test_every_fault_has_its_row() -> None:
    rows = re.findall(r"^\| (\d+) \|", (TESTS.parent / "docs" / "faults.md").read_text(), re.MULTILINE)
    assert [int(it) for it in rows] == list(range(1, 37))
