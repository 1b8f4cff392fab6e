"""Names the test files that start no process, themselves or through what they import: one a line.

For another Python than the one that everything is tested with (`.ci/run`).
"""

import re
from pathlib import Path

TESTS = Path(__file__).parent
STARTS = re.compile(r"\b(subprocess|multiprocessing|run_process|open_process)\b")
IMPORTS = re.compile(r"\btests((?:\.\w+)+)")


def starts_processes(path: Path, asked: set[Path]) -> bool:
    """Whether a file, or one of ours that it names, does so."""
    if path in asked or not path.exists():
        return False
    asked.add(path)
    text = path.read_text(encoding="utf-8")
    named = (TESTS / f"{name.strip('.').replace('.', '/')}.py" for name in IMPORTS.findall(text))
    return STARTS.search(text) is not None or any(starts_processes(it, asked) for it in named)


def without_processes() -> list[Path]:
    """In their order."""
    return [path for path in sorted(TESTS.rglob("test_*.py")) if not starts_processes(path, set())]


if __name__ == "__main__":
    for path in without_processes():
        print(path.relative_to(TESTS.parent))
