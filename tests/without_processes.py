"""Names the test files that start no process, by themselves, by what they import or by what they ask for.

For another Python than the one that everything is tested with (`.ci/run`), and for the inner loop
(`make check`).
"""

import ast
import re
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent
STARTS = re.compile(r"\b(subprocess|multiprocessing|run_process|open_process)\b")
IMPORTS = re.compile(r"\btests((?:\.\w+)+)")


def starts_processes(text: str, asked: set[Path]) -> bool:
    """Whether a file, or one of ours that it names, does so."""
    if STARTS.search(text) is not None:
        return True
    for name in IMPORTS.findall(text):
        path = TESTS / f"{name.strip('.').replace('.', '/')}.py"
        if path not in asked and path.exists():
            asked.add(path)
            if starts_processes(path.read_text(encoding="utf-8"), asked):
                return True
    return False


def asked_for(text: str) -> set[str]:
    """Fixtures that a file asks for, by parameters or in words, and that it does not make itself."""
    nodes = list(ast.walk(ast.parse(text)))
    functions = [it for it in nodes if isinstance(it, ast.FunctionDef | ast.AsyncFunctionDef)]
    parameters = {argument.arg for it in functions for argument in it.args.args}
    words = {it.value for it in nodes if isinstance(it, ast.Constant) and isinstance(it.value, str)}
    return (parameters | words) - {it.name for it in functions if _is_fixture(it)}


@cache
def starting_fixtures() -> frozenset[str]:
    """Those for all tests that start processes: by what they import, or by what they are made from."""
    text = (TESTS / "conftest.py").read_text(encoding="utf-8")
    sources = {
        it.name: ast.get_source_segment(text, it) or ""
        for it in ast.parse(text).body
        if isinstance(it, ast.FunctionDef) and _is_fixture(it)
    }
    found = {name for name, source in sources.items() if starts_processes(source, set())}
    while more := {name for name, source in sources.items() if _names(source) & found} - found:
        found |= more
    return frozenset(found)


def _names(source: str) -> set[str]:
    return set(re.findall(r"\w+", source.partition("(")[2]))


def _is_fixture(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any("fixture" in ast.unparse(it) for it in function.decorator_list)


def is_without(text: str) -> bool:
    """Whether a test file starts no process in any way."""
    return not starts_processes(text, set()) and not asked_for(text) & starting_fixtures()


def without_processes() -> list[Path]:
    """In their order."""
    return [path for path in sorted(TESTS.rglob("test_*.py")) if is_without(path.read_text(encoding="utf-8"))]


if __name__ == "__main__":
    for path in without_processes():
        print(path.relative_to(TESTS.parent))
