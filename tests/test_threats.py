"""What docs/threats.md says is held by a test is held by one: each test that it names is there."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
NAMED = re.compile(r"`tests/([\w/]*test_\w+\.py)(?:::(test_\w+))?`")


def test_every_test_that_the_threats_name_is_there() -> None:
    named = NAMED.findall((TESTS.parent / "docs" / "threats.md").read_text())
    assert len(named) > 20
    missing = []
    for file, function in named:
        path = TESTS / file
        tree = ast.parse(path.read_text()) if path.exists() else ast.Module([], [])
        tests = {it.name for it in ast.walk(tree) if isinstance(it, ast.FunctionDef | ast.AsyncFunctionDef)}
        if not tests or (function and function not in tests):
            missing.append((file, function))
    assert not missing
