"""`angara db move`: a book in SQLite becomes one in PostgreSQL, row for row, and at no moment are there two
that somebody could begin with: they would pay the same tenants."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import CheckConstraint, Connection, Engine, Table, event, insert, select, text, update
from typer.testing import CliRunner

from payouts.rates import Scheme
from payouts.schemas.book import book
from payouts.schemas.money import metadata
from payouts.schemas.orders import upstreams
from pool.books.audit.verify import verify
from pool.books.copies import moving
from pool.books.lease import FileLock
from pool.books.store import Store, open_store
from pool.cli.bookkeeping.database_copies import prove_moved
from pool.cli.main import app
from pool.data_dir import held
from pool.fleet.rows import TenantTerms, add_tenant
from pool.store_error import StoreError
from tests.faults.test_26_forged_rows import live
from tests.fixtures.databases import Crash, PostgresDatabases, disarm, store_in
from tests.stages.command_line import angara

OF_THE_MOVE = {"last_change", "last_change_hash", "latest_s"}  # of the book's own row: it is a change itself


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A book with a row in every table."""
    home = tmp_path_factory.mktemp("lived")
    store = store_in(home)
    live(store)
    store.close()
    return home / "angara.db"


@pytest.fixture
def data_dir(lived: Path, tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    (home / "angara.db").write_bytes(lived.read_bytes())
    return home


@pytest.fixture
def url(postgres_databases: PostgresDatabases) -> Iterator[str]:
    """Of a database with the present schema and nothing in it: that takes a second less to make."""
    with postgres_databases.fresh_url() as found:
        yield found


def rows_in(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """All there are, of every table."""
    return {
        table.name: sorted((tuple(it) for it in connection.execute(select(table))), key=repr)
        for table in metadata.sorted_tables
    }


def rows_of(url: str) -> dict[str, list[tuple[Any, ...]]]:
    store = open_store(url, new=False)
    with store.read() as connection:
        found = rows_in(connection)
    store.close()
    return found


def lives(url: str) -> bool:
    """Whether a pool could begin with that book, and it is the one of these tests."""
    try:
        store = open_store(url, new=False)
    except StoreError:
        return False
    with store.read() as connection:
        found = connection.scalar(select(book.c.network)) is not None
    store.close()
    return found


def here(data_dir: Path) -> str:
    return f"sqlite:///{data_dir}/angara.db"


def without_move(rows: dict[str, list[tuple[Any, ...]]]) -> dict[str, list[tuple[Any, ...]]]:
    names = [it.name for it in book.columns]
    (of_book,) = rows["book"]
    told = [value for name, value in zip(names, of_book, strict=True) if name not in OF_THE_MOVE | LEASE]
    changes = [it for it in rows["changes"] if "db.move" not in it]
    return rows | {"book": [tuple(told)], "changes": changes}


LEASE = {"lease_epoch", "lease_holder"}  # who writes to it


def test_every_row_of_every_table_is_the_same_there_and_the_book_here_is_nobodys(
    data_dir: Path, url: str
) -> None:
    before = rows_of(here(data_dir))
    assert len([name for name, rows in before.items() if rows]) > 45
    code, output = angara(data_dir, "db", "move", "--to", url, "--json")
    assert code == 0, output
    told = json.loads(output)
    assert {name: it["rows"] for name, it in told["tables"].items()} == {
        name: len(rows) for name, rows in before.items()
    }
    after = rows_of(url)
    assert without_move(after) == without_move(before)
    assert len(after["changes"]) == len(before["changes"]) + 1
    store = open_store(url, new=False)
    with store.write() as connection:
        assert verify(connection).wrong is None
        terms = TenantTerms(scheme=Scheme.PPS, fee_bps=0, payout_minimum_sat=0)
        added = add_tenant(connection, "cygnus", terms, by="test", now_s=0)
        assert added.id == max(it[0] for it in before["tenants"]) + 1, "numbers go on"
    with store.write() as connection, pytest.raises(Exception, match="append-only"):
        connection.execute(text("UPDATE ledger_transfers SET amount_sat = 1"))
    store.close()
    for command in (("tenant", "list"), ("db", "upgrade"), ("ledger", "verify"), ("db", "move", "--to", url)):
        code, output = angara(data_dir, *command)
        assert (code, "this book has moved to " in output) == (2, True), output
    assert ":5432/test_" in output, "where it is, without who asks"


NUMBERS = {"found_at_s": (1 << 63) - 1, "minutes": 0, "until_s": 7200, "before_until_s": 2, "until_hour": 2}
# What a table wants of two columns together.
TOGETHER: dict[str, dict[str, Any]] = {
    "machine_addresses": {"address": "10.0.0.1"},
    "power_nameplates": {"from_s": 3600, "scope": "container", "unit": None},
    "power_limits": {"container_id": None},
    "power_tariffs": {"from_s": 3600},
    "hosting_terms": {"from_s": 3600, "fee_micro": None},
}


def checks_of(table: Table) -> list[CheckConstraint]:
    return [it for it in table.constraints if isinstance(it, CheckConstraint)]


def fill(connection: Connection) -> None:
    """A row in each table that has none yet, of what is hard to carry: it proves nothing of money."""
    for table in metadata.sorted_tables:
        if connection.execute(select(table).limit(1)).first() is not None:
            continue
        row: dict[str, Any] = {}
        closed = dict(re.findall(r"(\w+) IN \('(\w+)'", " ".join(str(it.sqltext) for it in checks_of(table))))
        for it in table.columns:
            refers = [key.column for key in it.foreign_keys]
            if it.name in TOGETHER.get(table.name, {}):
                row[it.name] = TOGETHER[table.name][it.name]
            elif it.name == "currency" and not it.nullable:
                row[it.name] = "USD"
            elif refers:
                row[it.name] = connection.scalar(select(refers[0]).limit(1))
            elif it.name in closed:
                row[it.name] = closed[it.name]
            elif it.name in ("digest", "target"):
                row[it.name] = "ab" * 32
            elif it.type.python_type is str:
                row[it.name] = None if it.nullable else f"tab\t \\N \\. ż {table.name}\nß\U0001f980\x7f"
            else:
                row[it.name] = NUMBERS.get(it.name, 1)
        connection.execute(insert(table).values(row))


def test_what_is_hard_to_carry_arrives_and_rows_may_refer_to_later_ones_of_their_table(
    data_dir: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_in(data_dir)
    with store.write() as connection:
        disarm(connection)
        fill(connection)
        for number in (2, 3):
            row = connection.execute(text("SELECT * FROM upstreams WHERE id = 1")).mappings().one()
            values = dict(row) | {"id": number, "name": f"u{number}", "fallback_id": None}
            connection.execute(insert(upstreams).values(values))
            connection.execute(
                update(upstreams).where(upstreams.c.id == number - 1).values(fallback_id=number)
            )
    with store.read() as connection:
        before = rows_in(connection)
    store.close()
    assert [name for name, rows in before.items() if not rows] == [], "each table has rows"
    monkeypatch.setattr(moving, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(moving, "ROWS_A_STATEMENT", 3)
    moving.move_book(data_dir / "angara.db", url, "ann", lambda target: None)
    assert without_move(rows_of(url)) == without_move(before)


def test_a_copy_of_what_was_moved_is_no_book_either(
    data_dir: Path, postgres_databases: PostgresDatabases, tmp_path: Path
) -> None:
    with postgres_databases.fresh_url(upgraded=False) as empty:
        assert angara(data_dir, "db", "move", "--to", empty).exit_code == 0
        assert lives(empty)
    other = tmp_path / "other"
    other.mkdir()
    (other / "angara.db").write_bytes((data_dir / "angara.db").read_bytes())
    assert not lives(here(other))
    code, output = angara(tmp_path / "home", "db", "restore", other / "angara.db", "--replace")
    assert (code, "this book has moved to" in output) == (2, True), output


# Killed


class KilledBefore:
    """The process ends there, as by kill -9: nothing is taken back."""

    def __init__(self, patch: pytest.MonkeyPatch, *where: str) -> None:
        self._patch = patch
        for it in where:
            patch.setattr(moving, it, self._die)
        patch.setattr(moving, "_take_back_if_nothing_is_there", lambda *_: None)

    def _die(self, *_: object) -> None:
        raise Crash


KILLS = {
    "when it has said that it moves": "_check_empty",
    "when it begins to write": "_make_room",
    "when all is written": "_set_counters",
    "before all is proven": "_note",
    "when it is there": "_moved",
    "before it says so": "end_move",
}


@pytest.mark.parametrize("moment", KILLS)
def test_a_kill_leaves_one_book_or_none_and_the_same_command_ends_it(
    moment: str, data_dir: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows_of(here(data_dir))
    with monkeypatch.context() as patch:
        KilledBefore(patch, KILLS[moment])
        with pytest.raises(Crash):
            moving.move_book(data_dir / "angara.db", url, "ann", prove_moved)
    there = KILLS[moment] in ("_moved", "end_move")
    assert (lives(here(data_dir)), lives(url)) == (False, there)
    code, output = angara(data_dir, "tenant", "list")
    assert (code, "was begun and did not end: `angara db move`" in output) == (2, True), output
    assert angara(data_dir, "db", "move", "--to", url).exit_code == 0
    assert (lives(here(data_dir)), lives(url)) == (False, True)
    assert without_move(rows_of(url)) == without_move(before)


def test_what_was_begun_goes_nowhere_else_and_is_taken_back_where_nothing_is_there(
    data_dir: Path, url: str, postgres_databases: PostgresDatabases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be there, committed by a server whose answer was lost."""
    with monkeypatch.context() as patch:
        KilledBefore(patch, "_note")
        with pytest.raises(Crash):
            moving.move_book(data_dir / "angara.db", url, "ann", prove_moved)
    with postgres_databases.fresh_url() as other:
        for more in ((), ("--undo",)):
            code, output = angara(data_dir, "db", "move", "--to", other, *more)
            assert (code, "it may be there, and goes to no other" in output) == (2, True), output
        assert not lives(other)
    code, output = angara(data_dir, "db", "move", "--to", url, "--undo")
    assert (code, lives(here(data_dir)), lives(url)) == (0, True, False), output
    assert angara(data_dir, "db", "move", "--to", url, "--undo").exit_code == 2, "there is nothing to undo"
    with monkeypatch.context() as patch:
        KilledBefore(patch, "_moved")
        with pytest.raises(Crash):
            moving.move_book(data_dir / "angara.db", url, "ann", prove_moved)
    code, output = angara(data_dir, "db", "move", "--to", url, "--undo")
    assert (code, "without --undo ends the move" in output) == (2, True), output
    assert not lives(here(data_dir))


# Refused, and the book stays


class AnswerOfCommitLost:
    """The server has committed, and nobody hears of it."""

    def __enter__(self) -> None:
        event.listen(Engine, "commit", self._lose)

    def __exit__(self, *_: object) -> None:
        event.remove(Engine, "commit", self._lose)

    def _lose(self, connection: Connection) -> None:
        if connection.dialect.name == "postgresql" and connection.scalar(select(text("to_regclass('book')"))):
            if connection.scalar(select(book.c.network)) is None:
                return
            event.remove(Engine, "commit", self._lose)
            driver: Any = connection.connection.dbapi_connection
            driver.commit()
            event.listen(Engine, "commit", self._lose)
            raise Crash


def test_whoever_cannot_know_whether_it_is_there_asks(data_dir: Path, url: str) -> None:
    with AnswerOfCommitLost(), pytest.raises(Crash):
        moving.move_book(data_dir / "angara.db", url, "ann", prove_moved)
    assert (lives(here(data_dir)), lives(url)) == (False, True)
    assert angara(data_dir, "db", "move", "--to", url).exit_code == 0


def forged(connection: Connection) -> None:
    disarm(connection)
    connection.execute(text("UPDATE ledger_transfers SET amount_sat = amount_sat + 1"))


def with_a_nul(connection: Connection) -> None:
    """What PostgreSQL has no text for."""
    connection.execute(text("UPDATE tenants SET name = 'ac' || char(0) || 'me' WHERE id = 1"))


def with_another_table(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE notes (words TEXT)"))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (forged, "the book does not move, because it is wrong: ledger_transactions 1"),
        (with_a_nul, "NUL"),
        (with_another_table, "the tables of the book are not those of schema"),
    ],
)
def test_a_book_that_cannot_be_one_there_stays_here(
    wrong: Callable[[Connection], None], words: str, data_dir: Path, url: str
) -> None:
    store = store_in(data_dir)
    with store.write() as connection:
        wrong(connection)
    store.close()
    code, output = angara(data_dir, "db", "move", "--to", url)
    assert (code, words in output) == (2, True), output
    assert (lives(here(data_dir)), lives(url)) == (True, False)


def test_what_was_written_is_compared_with_what_was_read(
    data_dir: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(target: Connection, tables: object) -> None:
        target.execute(text("UPDATE rate_hours SET shares = shares + 1"))

    monkeypatch.setattr(moving, "_set_counters", changed)
    code, output = angara(data_dir, "db", "move", "--to", url)
    assert (code, "what was written is not what was read: rate_hours" in output) == (2, True), output
    assert (lives(here(data_dir)), lives(url)) == (True, False)


def test_it_moves_to_an_empty_database_alone(data_dir: Path, url: str, tmp_path: Path) -> None:
    store = open_store(url)
    with store.write() as connection:
        terms = TenantTerms(scheme=Scheme.PPS, fee_bps=0, payout_minimum_sat=0)
        add_tenant(connection, "borealis", terms, by="test", now_s=0)
    code, output = angara(data_dir, "db", "move", "--to", url)
    assert (code, "with rows in tenants" in output) == (2, True), output
    assert lives(here(data_dir))
    store.acquire_lease()
    code, output = angara(data_dir, "db", "move", "--to", url)
    assert (code, "writes to the database" in output) == (2, True), output
    store.close()
    assert lives(here(data_dir))
    for to in (here(tmp_path), "mysql://x/y"):
        assert "a book moves to PostgreSQL" in angara(data_dir, "db", "move", "--to", to).output
    said = CliRunner().invoke(app, ["db", "move", "--to", url, "--database", url])
    assert (said.exit_code, "the book is in PostgreSQL already" in said.output) == (2, True)


@pytest.mark.parametrize("to", ["postgresql://ann:hush@db/angara", "postgresql://db/angara?password=hush"])
def test_a_password_is_nothing_for_a_command_line(data_dir: Path, to: str) -> None:
    output = angara(data_dir, "db", "move", "--to", to).output
    assert "PGPASSFILE" in output
    assert "hush" not in output
    assert angara(data_dir, "tenant", "list").exit_code == 0, "nothing has moved"


def test_nobody_may_be_at_it(data_dir: Path, url: str) -> None:
    with held(data_dir):
        assert angara(data_dir, "db", "move", "--to", url).exit_code == 2
    lock = FileLock(data_dir / "angara.db")
    assert lock.acquire()
    code, output = angara(data_dir, "db", "move", "--to", url)
    assert (code, "a pool writes to the database: stop it first" in output) == (2, True), output
    lock.release()
    assert (lives(here(data_dir)), lives(url)) == (True, False)


def test_whoever_writes_while_it_moves_finds_another_writer(data_dir: Path, url: str) -> None:
    """A lock that was lost unnoticed: its file was removed."""
    store: Store = store_in(data_dir)
    store.acquire_lease()
    (data_dir / "angara.db.lock").unlink()
    assert angara(data_dir, "db", "move", "--to", url).exit_code == 0
    with (
        pytest.raises(StoreError, match=r"the move to .* has written to the database meanwhile"),
        store.write(),
    ):
        pass
    store.close()
