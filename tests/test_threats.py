"""What docs/threats.md says is held by a test is held by one: each test that it names is there."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
TEST = re.compile(r"^ *(?:async )?def (test_\w+)", re.MULTILINE)
NAMED = re.compile(r"`tests/([\w/]*test_\w+\.py)(?:::(test_\w+))?`")


def test_every_test_that_the_threats_name_is_there() -> None:
    named = NAMED.findall((TESTS.parent / "docs" / "threats.md").read_text())
    assert len(named) > 20
    missing = []
    for file, function in named:
        path = TESTS / file
        tests = set(TEST.findall(path.read_text())) if path.exists() else set()
        if not tests or (function and function not in tests):
            missing.append((file, function))
    assert not missing
