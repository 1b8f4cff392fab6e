"""Who may import whom: the design's directions, read from the source of every file."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("stratum", "payouts", "pool")
FORBIDDEN = {
    "stratum": {"pool", "payouts", "tests", "bench", "asyncio", "sqlalchemy", "httpx"},
    "payouts": {"pool", "stratum", "trio", "tests", "bench", "asyncio", "httpx"},
    "pool": {"tests", "bench", "asyncio"},
}
SANS_IO = (
    "messages",
    "miners/session",
    "miners/contracts",
    "miners/liveness",
    "miners/channel",
    "miners/extranonce",
    "miners/vardiff",
    "miners/connection_limits",
    "difficulty",
    "job",
    "tallies",
)
IO = {"socket", "ssl", "select", "selectors", "trio", "os", "threading", "subprocess"}
SHAPELESS = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc"}


def files(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, f"{package} is empty: this test would pass without looking"
    return found


def imports(path: Path) -> set[str]:
    """The modules that a file names in an import, whole and at their top, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide who imports whom"
            names.add(node.module or "")
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute | ast.Name)
            and (node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id)
            in ("import_module", "__import__")
        ):
            names.update(str(argument.value) for argument in node.args if isinstance(argument, ast.Constant))
    return names | {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_in_one_direction(package: str) -> None:
    wrong = {
        str(path.relative_to(ROOT)): sorted(imports(path) & FORBIDDEN[package])
        for path in files(package)
        if imports(path) & FORBIDDEN[package]
    }
    assert not wrong


def test_the_reading_of_imports_sees_them_all(tmp_path: Path) -> None:
    path = tmp_path / "sly.py"
    path.write_text(
        "import pool.main as x\n"
        "def f():\n    from payouts.rates import quote\n"
        "    import importlib\n    importlib.import_module('trio.testing')\n"
    )
    assert {"pool", "payouts", "trio"} <= imports(path)


@pytest.mark.parametrize("module", SANS_IO)
def test_the_protocol_does_no_io(module: str) -> None:
    forbidden = IO | {"stratum.miners.switchboard", "stratum.miners.listeners"}
    assert not imports(ROOT / "stratum" / f"{module}.py") & forbidden


def test_modules_are_nouns_that_an_operator_would_say() -> None:
    folders = (*PACKAGES, "tests", "bench")
    names = {path.stem for folder in folders for path in (ROOT / folder).rglob("*.py")}
    names |= {path.name for folder in folders for path in (ROOT / folder).rglob("*") if path.is_dir()}
    assert not {name for name in names if set(name.lower().split("_")) & SHAPELESS}


def test_tables_are_drawn_where_cells_are_made_text_and_nowhere_else() -> None:
    """Rich takes strings for markup: a name like `[/x]` broke the list that it was in."""
    drawing = {path.stem for path in files("pool") if "rich.table" in imports(path)}
    assert drawing == {"command_line", "demo", "render_text"}
