"""Who may import whom: packages, the rooms in them, and their modules, read from the source of every file.

A room may import those that stand behind it, itself aside; a module that stands in a package without a room
is a room of its own. Nothing imports in a circle, not even for its types.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from tests.without_processes import is_without, starting_fixtures, without_processes

ROOT = Path(__file__).parent.parent
PACKAGES = ("stratum", "payouts", "pool")
FORBIDDEN = {
    "stratum": {"pool", "payouts", "tests", "bench", "asyncio", "sqlalchemy", "httpx"},
    "payouts": {"pool", "stratum", "trio", "tests", "bench", "asyncio", "httpx"},
    "pool": {"tests", "bench", "asyncio"},
}
# NATS has no client for Trio: its own runs in a thread, behind this one module.
EXEMPT = {
    "pool/sites/nats/client.py": {"asyncio"},
    "pool/power/signals/openadr_ven.py": {"asyncio"},
}
ROOMS = {
    # Both sides of the wire share words, and nothing else.
    "stratum": (
        "sv2",
        "miners upstream",
        "messages",
        "difficulty job tallies json_depth unreadable paced histogram",
        "figures _engine",
    ),
    "payouts": (
        "reports",
        "audit reversals",
        "receipts",
        "sales",
        "proof",
        "statements solo",
        "divisions",
        "accrual batches income",
        "energy",
        "ledger ratebook siblings windows",
        "book_time",
        "tallies",
        "tally_rows",
        "sums",
        "persons rates risk schemas",
    ),
    "pool": (
        "cli",
        "demo_sites",
        "demo",
        "main",
        "dashboard",
        "metrics",
        "web",
        "readiness",
        "check",
        "processes sites",
        "edge_process",
        "edge",
        "serving",
        "parts",
        "block_submission keeping",
        "admin",
        "edges",
        "routing",
        "hub",
        "config",
        "settings_mistakes",
        "settings_tables",
        "messages",
        "treasury",
        "power",
        "orders",
        "upstreams",
        "books",
        "requests",
        "people",
        "fleet",
        "journal",
        "regtest",
        "chain",
        "authority_key proof_key stamping",
        "key_file",
        "log_lines settings_file http_server",
        "reports swarm data_dir database_url store_error http_connection garbage supervisor link whole_file",
        "questions md5_crypt short_start redirections",
    ),
    # Rooms that have rooms: the same within.
    "stratum.miners": (
        "listening",
        "switchboard",
        "connection distribution",
        "session group_commit poller traces",
        "mining_session",
        "assignment agents",
        "session_difficulty language",
        "contracts",
        "channel liveness silent_machines turns",
        "extranonce owner vardiff firmware uncharged decisions",
    ),
    "stratum.sv2": (
        "dialect",
        "connection",
        "mining_channel",
        "conversation",
        "channel_session",
        "language trace_words",
        "messages",
        "fields noise",
        "authority",
        "secp256k1",
    ),
    "pool.books": (
        "bookkeeper lease_watch standby audit copies opening",
        "block_division block_watch book day_closing edges energy_books found_blocks price_watch",
        "receipt_closing sales_books",
        "signing_key",
        "changes",
        "journal",
        "database_waits",
        "store",
        "lease moved",
    ),
    "pool.power": ("signals", "curtailment", "energy", "control", "figures"),
    "pool.admin": (
        "server due_requests client",
        "handler",
        "commands",
        "bookkeeping fleet power routing service requests",
        "payouts",
        "people",
        "command",
        "live operators",
        "desk",
        "pages live_settings peers",
    ),
    "pool.cli": (
        "main edge",
        "command_groups",
        "fleet routing power people service bookkeeping payouts reports",
        "live_columns options pieces manual until_signal",
        "without_pool",
        "opened_paymaster",
        "opened_books",
        "mistakes output progress logs books operator",
        "standard_streams token_file priority whole_help",
    ),
}
SANS_IO = (
    "messages",
    "difficulty",
    "job",
    "json_depth",
    "unreadable",
    "figures",
    "tallies",
    "histogram",
    "miners/session",
    "miners/mining_session",
    "miners/language",
    "miners/assignment",
    "miners/session_difficulty",
    "miners/contracts",
    "miners/owner",
    "miners/liveness",
    "miners/traces/line_words",
    "miners/traces/traces",
    "miners/channel",
    "miners/extranonce",
    "miners/vardiff",
    "miners/agents",
    "miners/firmware",
    "miners/uncharged",
    "miners/silent_machines",
    "miners/decisions",
    "miners/turns/connection_limits",
    "miners/listening/proxy_protocol",
    "sv2/secp256k1",
    "sv2/noise",
    "sv2/fields",
    "sv2/messages",
    "sv2/language",
    "sv2/trace_words",
    "sv2/channel_session",
    "sv2/conversation",
    "upstream/session",
    "upstream/events",
    "upstream/messages",
    "upstream/submits",
    "upstream/shares",
    "upstream/extranonce_split",
)
IO = {"socket", "ssl", "select", "selectors", "trio", "os", "threading", "subprocess"}
SHAPELESS = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc"}


def files(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, f"{package} is empty: this test would pass without looking"
    return found


@cache
def named(path: Path) -> frozenset[str]:
    """The modules that a file names in an import, wherever in the file; `from a import b` names a and a.b."""
    return frozenset(_named(path))


def _named(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide who imports whom"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute | ast.Name)
            and (node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id)
            in ("import_module", "__import__")
        ):
            yield from (str(argument.value) for argument in node.args if isinstance(argument, ast.Constant))


def imports(path: Path) -> frozenset[str]:
    """Modules, whole and at their top."""
    names = named(path)
    return names | {name.partition(".")[0] for name in names}


def modules(root: Path, package: str) -> dict[str, Path]:
    """By their dotted names. Migrations are alembic's to find."""
    paths = (path for path in (root / package).rglob("*.py") if "migrations" not in path.parts)
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for path in paths
    }


def arrows(root: Path, package: str) -> dict[str, frozenset[str]]:
    """Which module of the package imports which others of it."""
    of = modules(root, package)
    return {name: (named(path) & set(of)) - {name} for name, path in of.items()}


def circle(of: Mapping[str, Iterable[str]]) -> list[str]:
    """One circle, or nothing."""
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> list[str]:
        if name in way:
            return way[way.index(name) :]
        if name in done:
            return []
        for other in sorted(of.get(name, ())):
            if found := walk(other, [*way, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(of) if (found := walk(name, []))), [])


def room(name: str, house: str) -> str:
    """Which room of the house it is in; nothing for the house itself, and for who is elsewhere."""
    return name.removeprefix(f"{house}.").partition(".")[0] if name.startswith(f"{house}.") else ""


def against_the_order(root: Path, house: str) -> list[str]:
    """Imports of a room that does not stand behind, and modules that stand nowhere."""
    place = {name: at for at, row in enumerate(ROOMS[house]) for name in row.split()}
    wrong = []
    for name, others in arrows(root, house.partition(".")[0]).items():
        here = room(name, house)
        if not here:
            continue
        if here not in place:
            wrong.append(f"{name} has no room")
            continue
        wrong += [
            f"{name} imports {other}"
            for other in sorted(others)
            if room(other, house) not in ("", here) and place.get(room(other, house), -1) <= place[here]
        ]
    return wrong


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_imported_in_one_direction(package: str) -> None:
    wrong = {
        name: found
        for path in files(package)
        if (name := str(path.relative_to(ROOT)))
        and (found := imports(path) & FORBIDDEN[package] - EXEMPT.get(name, set()))
    }
    assert not wrong


@pytest.mark.parametrize("house", ROOMS)
def test_a_room_imports_only_what_stands_behind_it(house: str) -> None:
    assert not against_the_order(ROOT, house)


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_is_imported_in_a_circle(package: str) -> None:
    assert not circle(arrows(ROOT, package))


def test_every_room_that_is_named_is_there() -> None:
    for house, rows in ROOMS.items():
        there = {room(name, house) for name in modules(ROOT, house.partition(".")[0])} | {"_engine"}
        assert not {name for row in rows for name in row.split()} - there


def test_the_document_has_every_room_in_this_order() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text().split("\n## Rooms\n")[1]
    houses, within = re.findall(r"^```$(.*?)^```$", text, re.M | re.S)[:2]
    for house in PACKAGES:
        (drawn,) = re.findall(rf"^{house}( .*?)(?=^\w|\Z)", houses, re.M | re.S)
        place = {name: at for at, row in enumerate(ROOMS[house]) for name in row.split() if name != "_engine"}
        shown = [name for it in re.split(r" {2,}|│|\n", drawn) if (name := it.strip()) in place]
        assert sorted(shown) == sorted(place)
        assert shown == sorted(shown, key=place.__getitem__)
    inner = {path.parent for package in PACKAGES for path in files(package)} - {ROOT / it for it in PACKAGES}
    names = {path.name for path in inner if path.parent.parent != ROOT and path.name != "versions"}
    assert not names - set(re.findall(r"\w+", within))


def plant(root: Path, name: str, text: str) -> None:
    path = root / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_planted_circle_is_found(tmp_path: Path) -> None:
    plant(tmp_path, "pool/books/journal", "from pool.books.store import Store\n")
    plant(tmp_path, "pool/books/store", "from pool.books import lease\n")
    plant(tmp_path, "pool/books/lease", "def f():\n    from pool.books.journal import Journal\n")
    assert circle(arrows(tmp_path, "pool")) == ["pool.books.journal", "pool.books.store", "pool.books.lease"]


def test_an_upward_import_and_a_module_without_a_room_are_found(tmp_path: Path) -> None:
    plant(tmp_path, "pool/chain/rpc", "from pool.books.store import Store\n")
    plant(tmp_path, "pool/books/store", "from pool.chain import rpc\n")
    plant(tmp_path, "pool/cellar", "")
    assert against_the_order(tmp_path, "pool") == [
        "pool.cellar has no room",
        "pool.chain.rpc imports pool.books.store",
    ]


def test_so_it_is_in_a_room_that_has_rooms(tmp_path: Path) -> None:
    plant(tmp_path, "pool/books/store", "from pool.books.journal.journal import Journal\n")
    plant(tmp_path, "pool/books/journal/journal", "from pool.chain import rpc\n")
    plant(tmp_path, "pool/chain/rpc", "")
    assert against_the_order(tmp_path, "pool.books") == [
        "pool.books.store imports pool.books.journal.journal"
    ]


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
    forbidden = IO | {
        "stratum.miners.switchboard",
        "stratum.miners.connection",
        "stratum.miners.group_commit",
        "stratum.miners.listening.listeners",
        "stratum.upstream.connection",
    }
    assert not imports(ROOT / "stratum" / f"{module}.py") & forbidden


def test_modules_are_nouns_that_an_operator_would_say() -> None:
    folders = (*PACKAGES, "tests", "bench")
    names = {path.stem for folder in folders for path in (ROOT / folder).rglob("*.py")}
    names |= {path.name for folder in folders for path in (ROOT / folder).rglob("*") if path.is_dir()}
    assert not {name for name in names if set(name.lower().split("_")) & SHAPELESS}


def test_rich_draws_what_the_demo_shows_and_nothing_else() -> None:
    """It takes strings for markup: a name like `[/x]` broke the list that it was in."""
    drawing = {path.stem for path in files("pool") if "rich.table" in imports(path)}
    assert drawing == {"demo", "screen"}


def test_the_tests_that_start_no_process_are_many_and_none_of_a_server() -> None:
    """They are what another Python is tried with: a list that is nearly empty would try nothing."""
    listed = {str(path.relative_to(ROOT / "tests")) for path in without_processes()}
    assert len(listed) > 80
    assert {"stratum/miners/test_session.py", "payouts/test_rates.py"} <= listed
    assert not {"pool/books/test_store.py", "pool/cli/test_main.py", "faults/test_01_kill.py"} & listed


@pytest.mark.parametrize(
    ("text", "starts_none"),
    [
        ("def test_x(tmp_path): pass", True),
        ("import subprocess", False),
        ("from tests.fixtures.postgres_server import PostgresServer", False),
        ("def test_x(store): pass", False),
        ("async def test_x(tmp_path, postgres_databases): pass", False),
        ("@pytest.fixture\ndef mine(databases): pass", False),
        ("@pytest.mark.usefixtures('store')\ndef test_x(): pass", False),
        ("@pytest.fixture\ndef store(tmp_path): pass\ndef test_x(store): pass", True),
        ("def test_x(books): pass", True),
    ],
)
def test_a_test_starts_processes_by_what_it_imports_or_by_the_fixtures_it_asks_for(
    text: str, starts_none: bool
) -> None:
    assert {"postgres_server", "databases", "store"} <= starting_fixtures()
    assert is_without(text) == starts_none
