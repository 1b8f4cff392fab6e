"""How soon a command answers: counted in modules that it imports, because a time depends on the machine."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from sqlalchemy import inspect

import pool.cli.mistakes
from pool.admin.desk import Desk
from pool.admin.server import serve_admin
from pool.cli.command_groups import GROUPS
from pool.cli.mistakes import ANSWERS, MISTAKES
from pool.cli.standard_streams import EXIT_READER_GONE
from pool.data_dir import admin_socket, held
from tests.fixtures.databases import store_in

# 210 to 300 on CPython 3.11; with sqlalchemy alone there would be 500, with all of the pool 1,060.
MODULES_MAX = 360
HEAVY = (
    *("sqlalchemy", "alembic", "psycopg", "numpy", "fpdf", "jinja2", "bdkpython", "bitcoin", "pbk", "zmq"),
    *(
        "trio",
        "httpx",
        "hypercorn",
        "starlette",
        "structlog",
        "asyncio",
        "rich",
        "pydantic",
        "pool.config",
        "pool.main",
    ),
)
LOADED = """
import sys
from pool.cli.main import main
sys.argv = ["angara", *sys.argv[1:]]
try:
    main()
except SystemExit as ended:
    read = [name for name, module in sys.modules.items() if module is not None]
    print("\\n".join([f"exit {ended.code or 0}", *read]), file=sys.stderr)
"""


# The same of a process that has read every command and every option, as all the helps together do.
EVERY_HELP = """
import sys
import typer
from pool.cli.main import app
def read(command):
    if hasattr(command, "list_commands"):
        context = typer.Context(command)
        for name in command.list_commands(context):
            read(command.get_command(context, name))
    else:
        assert command.get_help(typer.Context(command))
read(typer.main.get_command(app))
print("\\n".join(["exit 0", *sys.modules]), file=sys.stderr)
"""


# The tables that a process knows in which a command has ended, well or not.
TABLES = """
import sys
from pool.cli.main import main
sys.argv = ["angara", *sys.argv[1:]]
try:
    main()
except SystemExit:
    from payouts.schemas.money import metadata
    print("tables:", *metadata.tables, file=sys.stderr)
"""


async def modules(*arguments: str, code: str = LOADED) -> set[str]:
    """What a process has imported in which the command succeeds."""
    done = await trio.run_process(
        [sys.executable, "-c", code, *arguments], capture_stdout=True, capture_stderr=True, check=False
    )
    ended, *names = done.stderr.decode().splitlines()
    assert ended == "exit 0", done.stderr.decode()
    return set(names)


def check(loaded: set[str]) -> None:
    assert not {name for name in loaded if name in HEAVY or name.split(".")[0] in HEAVY}
    assert len(loaded) < MODULES_MAX


@pytest.mark.parametrize("arguments", [("--help",), ("version",)], ids=" ".join)
async def test_help_and_version_import_next_to_nothing(arguments: tuple[str, ...]) -> None:
    check(await modules(*arguments))


async def test_nor_does_the_help_of_any_group_or_command() -> None:
    loaded = await modules(code=EVERY_HELP)
    assert {module for module, _ in GROUPS.values()} <= loaded
    check(loaded)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Path]:
    """A data directory on which a pool runs, as far as commands see."""
    with held(tmp_path):
        store = store_in(tmp_path)
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_admin, Desk(store, "regtest"), admin_socket(tmp_path))
            yield tmp_path
            nursery.cancel_scope.cancel()
        store.close()


@pytest.mark.parametrize(
    "command", ["tenant list", "tenant add acme", "worker list --csv", "order list --json", "change list"]
)
async def test_who_asks_a_running_pool_imports_next_to_nothing(running: Path, command: str) -> None:
    check(await modules(*command.split(), "--data-dir", str(running)))


async def test_settings_cost_a_running_pools_command_nothing_either(running: Path, tmp_path: Path) -> None:
    settings = tmp_path / "angara.toml"
    settings.write_text(f'[pool]\ndata_dir = "{running}"\n')
    check(await modules("site", "list", "-c", str(settings)))


async def test_who_reads_a_book_alone_waits_for_nothing_of_other_databases_upgrades_and_certificates(
    tmp_path: Path,
) -> None:
    """Nor for the other commands, and what a running pool is made of."""
    store_in(tmp_path).close()
    loaded = await modules("worker", "list", "--data-dir", str(tmp_path))
    assert "sqlalchemy" in loaded
    assert loaded.isdisjoint(("alembic", "psycopg", "cryptography", "rich"))
    assert loaded.isdisjoint(("trio", "httpx", "bdkpython", "pool.config", "pool.admin.fleet.tenants"))


@pytest.mark.parametrize("command", ["ledger verify", "db move --to postgresql://nobody@127.0.0.1:1/none"])
async def test_who_audits_a_book_or_moves_it_knows_every_table(tmp_path: Path, command: str) -> None:
    """What a process has not imported is not there for it, while these tests have all of it."""
    store = store_in(tmp_path)
    there = set(inspect(store.engine).get_table_names()) - {"alembic_version"}
    store.close()
    words = [*command.split(), "--data-dir", str(tmp_path)]
    done = await trio.run_process(
        [sys.executable, "-c", TABLES, *words], capture_stdout=True, capture_stderr=True
    )
    known = done.stderr.decode().rpartition("tables: ")[2].split()
    assert there - set(known) == set()


def test_the_count_would_see_what_is_heavy() -> None:
    """Or the bound would be of nothing."""
    code = "import sys, pool.cli.opened_paymaster; print(len(sys.modules), *sys.modules)"
    count, *names = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert int(count) > 2 * MODULES_MAX
    assert set(HEAVY) & set(names)


@pytest.mark.parametrize("name", [*MISTAKES, *ANSWERS])
def test_every_mistake_that_is_known_by_its_name_has_that_name(name: str) -> None:
    module, _, kind = name.rpartition(".")
    found = getattr(__import__(module, fromlist=[kind]), kind)
    assert issubclass(found, Exception)
    assert f"{found.__module__}.{found.__qualname__}" == name
    assert pool.cli.mistakes.exit_code(found.__new__(found), runs_on=False) in (1, 2, EXIT_READER_GONE)
