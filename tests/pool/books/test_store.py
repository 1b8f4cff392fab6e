"""The database behind a URL: durable or refused, one writer, readers that see one moment, one schema."""

import stat
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, insert, inspect, select, text, update
from sqlalchemy.exc import DatabaseError, IntegrityError

import payouts.batches.schema
import payouts.schemas.book
import payouts.schemas.divisions
import payouts.schemas.energy
import payouts.schemas.money
import payouts.schemas.orders
import payouts.schemas.power
import payouts.schemas.proof
import payouts.schemas.proposals
import payouts.schemas.receipts
import payouts.schemas.sales
import pool.books.changes.schema
import pool.books.edges.schema
import pool.books.journal.schema
import pool.books.store
import pool.people.schema
import pool.power.control.schema
import pool.power.curtailment.schema
import pool.requests.schema
from payouts.ledger import PoolAccount
from payouts.schemas.money import journal_writers, ledger_accounts, metadata, tenants
from pool.books.migrations.revisions import NEWEST, REVISIONS
from pool.books.store import MIGRATIONS, PRAGMAS, Store, StoreError, open_store, upgrade
from tests.fixtures.databases import Crash, Databases, PostgresDatabases, crash_at

WAIT_S = 10  # for another thread, on a loaded machine


# Opening


def test_a_sqlite_database_is_created_at_the_first_start_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "angara.db"
    store = open_store(f"sqlite:///{path}")
    with store.write() as connection:
        connection.execute(insert(journal_writers).values(writer="a", batch=1))
    store.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    store = open_store(f"sqlite:///{path}")
    with store.read() as connection:
        assert connection.scalars(select(journal_writers.c.writer)).all() == ["a"]
    store.close()


def test_every_sqlite_connection_is_durable_and_strict(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/angara.db")
    with store.read() as first, store.read() as second:
        for connection in (first, second):
            found = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in PRAGMAS}
            assert found == PRAGMAS
            assert found["journal_mode"] == "wal"
            assert found["synchronous"] == 2  # FULL
            tables = connection.exec_driver_sql("PRAGMA table_list").mappings().all()
            assert {row["name"] for row in tables if not row["strict"]} == {
                "alembic_version",
                "sqlite_schema",
                "sqlite_temp_schema",
            }
    store.close()


def test_a_sqlite_that_does_not_take_a_setting_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRAGMAS, "busy_timeout", -1)  # SQLite makes it 0
    with pytest.raises(StoreError, match="does not take busy_timeout = -1 here: it stays at 0"):
        open_store(f"sqlite:///{tmp_path}/angara.db")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite://", "is a file"),
        ("sqlite:///:memory:", "is a file"),
        ("sqlite:////nowhere/at/all.db", "cannot be opened: No such file"),
        ("mysql://root@localhost/angara", "mysql is not a database that is supported"),
        ("sqlite+aiosqlite:///x.db", "is not a database that is supported"),
        ("what is this", "cannot be read"),
        ("postgresql://angara@/x?host=/nowhere/at/all", "cannot be used"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_in_words(url: str, reason: str) -> None:
    with pytest.raises(StoreError, match=reason):
        open_store(url)


def test_a_file_that_is_not_a_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "angara.db").write_text("This is a letter. " * 100)
    with pytest.raises(StoreError, match="not a database"):
        open_store(f"sqlite:///{tmp_path}/angara.db")


def test_an_old_sqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool.books.store, "SQLITE_VERSION_MIN", (99, 0))
    with pytest.raises(StoreError, match="too old"):
        open_store(f"sqlite:///{tmp_path}/angara.db")


def test_a_postgresql_must_be_upgraded_first(postgres_databases: PostgresDatabases) -> None:
    with postgres_databases.fresh_url(upgraded=False) as url:
        with pytest.raises(StoreError, match=r"is empty.*angara db upgrade"):
            open_store(url)
        upgrade(url)
        open_store(url).close()


@pytest.mark.parametrize("value", ["off", "local", "remote_write"])
def test_a_postgresql_that_forgets_commits_is_refused(
    postgres_databases: PostgresDatabases, value: str
) -> None:
    with postgres_databases.fresh_url() as url:
        store = open_store(url)
        with store.write() as connection:
            name = connection.exec_driver_sql("SELECT current_database()").scalar()
            connection.exec_driver_sql(f"ALTER DATABASE {name} SET synchronous_commit = {value}")
        store.close()
        with pytest.raises(StoreError, match=f"synchronous_commit = {value}: a commit would not survive"):
            open_store(url)


def test_the_schemas_that_are_known_are_those_of_the_migrations() -> None:
    scripts = ScriptDirectory(str(MIGRATIONS))
    assert scripts.get_current_head() == NEWEST
    assert {it.revision for it in scripts.walk_revisions()} == REVISIONS


def test_a_database_of_a_newer_version_is_refused(databases: Databases) -> None:
    with databases.fresh_url() as url:
        store = open_store(url)
        with store.write() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        store.close()
        with pytest.raises(StoreError, match="schema 9999, which is newer"):
            open_store(url)
        with pytest.raises(StoreError, match="schema 9999, which is newer"):
            upgrade(url)


# Transactions


def test_what_was_written_is_there_after_the_transaction_and_not_when_it_fails(store: Store) -> None:
    with store.write() as connection:
        connection.execute(insert(journal_writers).values(writer="kept", batch=1))
    with pytest.raises(Crash), crash_at(10), store.write() as connection:
        connection.execute(insert(journal_writers).values(writer="lost", batch=1))
    with store.read() as connection:
        assert connection.scalars(select(journal_writers.c.writer)).all() == ["kept"]


def test_a_reading_transaction_cannot_write(store: Store) -> None:
    with pytest.raises(DatabaseError, match=r"read-?only"), store.read() as connection:
        connection.execute(insert(journal_writers).values(writer="a", batch=1))
    with store.write() as connection:  # the connection is as good as new
        connection.execute(insert(journal_writers).values(writer="b", batch=1))


def test_a_reading_transaction_sees_one_moment_while_a_writer_commits(store: Store) -> None:
    count = text("SELECT count(*) FROM journal_writers")
    with store.read() as reader:
        assert reader.scalar(count) == 0
        with store.write() as writer:
            writer.execute(insert(journal_writers).values(writer="a", batch=1))
        assert reader.scalar(count) == 0
    with store.read() as reader:
        assert reader.scalar(count) == 1


def test_a_writer_waits_for_the_one_before_it(store: Store) -> None:
    """Read, change, write in four threads: with two writers at once, counts would be lost."""
    threads, rounds = 4, 10
    with store.write() as connection:
        connection.execute(insert(journal_writers).values(writer="a", batch=1))

    def count_up() -> None:
        for _ in range(rounds):
            with store.write() as connection:
                batch = connection.scalar(select(journal_writers.c.batch)) or 0
                connection.execute(update(journal_writers).values(batch=batch + 1))

    workers = [threading.Thread(target=count_up) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(WAIT_S)
    with store.read() as connection:
        assert connection.scalar(select(journal_writers.c.batch)) == 1 + threads * rounds


def test_a_writer_that_never_gets_its_turn_gives_up(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRAGMAS, "busy_timeout", 50)
    monkeypatch.setitem(pool.books.store.BOUNDS_MS, "lock_timeout", 50)
    with databases.fresh_url() as url:
        store = open_store(url)
        with store.write():
            with pytest.raises(DatabaseError, match=r"locked|lock timeout"), store.write():
                pytest.fail("there were two writers")
            with store.read() as reader:  # readers do not wait
                assert reader.scalar(select(1)) == 1
        store.close()


WRITER = """
import sys
from sqlalchemy import insert, update
from payouts.schemas.money import journal_writers
from pool.books.store import open_store

store = open_store(sys.argv[1])
for batch in range(1, 100_000):
    with store.write() as connection:
        if batch == 1:
            connection.execute(insert(journal_writers).values(writer="a", batch=1))
        else:
            connection.execute(update(journal_writers).values(batch=batch))
    print(batch, flush=True)
"""


def test_a_commit_that_returned_survives_kill_9(databases: Databases) -> None:
    with databases.fresh_url() as url:
        writer = subprocess.Popen([sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        with writer.stdout:
            while int(writer.stdout.readline()) < 30:
                pass
            writer.kill()
            writer.wait(WAIT_S)
            told = [int(line) for line in writer.stdout.read().splitlines()] or [30]
        store = open_store(url)
        with store.read() as connection:
            kept = connection.scalar(select(journal_writers.c.batch)) or 0
        store.close()
    assert kept in (told[-1], told[-1] + 1)  # one more may have been committed and not yet told


# Schema


def reflected(connection: Connection) -> dict[str, Any]:
    """All that a database says of its tables."""
    found = inspect(connection)
    return {
        name: {
            "columns": [
                {**column, "type": str(column["type"]), "default": None} for column in found.get_columns(name)
            ],
            "primary": found.get_pk_constraint(name),
            "checks": {it["name"]: it["sqltext"] for it in found.get_check_constraints(name)},
            "uniques": sorted(found.get_unique_constraints(name), key=str),
            "foreign": sorted((foreign_key(connection, it) for it in found.get_foreign_keys(name)), key=str),
            "indexes": sorted(index_definition(connection, it["name"]) for it in found.get_indexes(name)),
            "sqlite": connection.dialect.name == "sqlite" and sqlite_options(connection, name),
        }
        for name in sorted(set(found.get_table_names()) - {"alembic_version"})
    }


def foreign_key(connection: Connection, found: Any) -> dict[str, Any]:
    """SQLite does not tell the name of one that came with a later column, and has no use for it."""
    return {**found, "name": None} if connection.dialect.name == "sqlite" else dict(found)


def tables_of_the_schema(databases: Databases) -> dict[str, Any]:
    """What SQLAlchemy makes of the tables, without any migration."""
    with (
        databases.fresh_url(upgraded=False) as url,
        closing(Store(pool.books.store.open_engine(url))) as empty,
        empty.write() as connection,
    ):
        metadata.create_all(connection)
        return reflected(connection)


def index_definition(connection: Connection, name: str | None) -> str:
    sqlite = connection.dialect.name == "sqlite"
    query = text(
        "SELECT sql FROM sqlite_master WHERE name = :name"
        if sqlite
        else "SELECT indexdef FROM pg_indexes WHERE indexname = :name"
    )
    return str(connection.scalar(query, {"name": name}))


def sqlite_options(connection: Connection, table: str) -> tuple[int, int]:
    row = connection.exec_driver_sql(f"PRAGMA table_list({table})").mappings().one()
    return row["strict"], row["wr"]


def test_the_migrations_make_exactly_the_tables_of_the_schema(databases: Databases) -> None:
    assert {"rates", "payout_batches", "journal_positions"} <= set(metadata.tables)
    with databases.fresh_url() as url, closing(open_store(url)) as store, store.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        migrated = reflected(connection)
    created = tables_of_the_schema(databases)
    for name, found in created.items():
        assert found == migrated[name], name
    assert set(created) == set(migrated)


def test_the_ledger_starts_with_the_accounts_of_the_pool(store: Store) -> None:
    with store.read() as connection:
        rows = connection.execute(select(ledger_accounts).order_by(ledger_accounts.c.name)).all()
    assert [(row.name, row.tenant_id) for row in rows] == sorted((it.value, None) for it in PoolAccount)


def test_every_append_only_table_has_its_triggers(store: Store) -> None:
    tables = (
        payouts.schemas.money.APPEND_ONLY
        + payouts.batches.schema.APPEND_ONLY
        + payouts.schemas.proposals.APPEND_ONLY
        + payouts.schemas.orders.APPEND_ONLY
        + payouts.schemas.energy.APPEND_ONLY
        + payouts.schemas.proof.APPEND_ONLY
        + payouts.schemas.receipts.APPEND_ONLY
        + payouts.schemas.sales.APPEND_ONLY
        + payouts.schemas.divisions.APPEND_ONLY
        + pool.books.journal.schema.APPEND_ONLY
        + pool.books.changes.schema.APPEND_ONLY
        + pool.requests.schema.APPEND_ONLY
        + pool.power.curtailment.schema.APPEND_ONLY
        + payouts.schemas.power.APPEND_ONLY
    )
    assert set(tables) <= set(metadata.tables)
    with store.read() as connection:
        if connection.dialect.name == "sqlite":
            query = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
            wanted = {f"{table}_no_{event}" for table in tables for event in ("update", "delete", "replace")}
            wanted.add("book_no_replace")
        else:
            query = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled = 'O'"
            wanted = {f"{table}_append_only" for table in tables}
        found = set(connection.exec_driver_sql(query).scalars())
    grows = {"book", "rate_hours", "orders", "upstream_hours", "sibling_blocks", "users", "tokens"}
    grows |= {"worker_days", "journal_positions", "journal_hours", "journal_hour_shares"}
    edges = {"edges", "edge_writers"}
    grows |= edges
    energy = {"power_meters", "power_limits"}
    grows |= energy
    wanted.add("power_readings_no_update")
    grows |= {"energy_to_charge", "energy_taken"}
    wanted |= {f"{table}_{what}" for table in grows for what in ("no_delete", "only_grows")}
    assert found == wanted | {f"{table}_set_once" for table in ("book", "users", "tokens", *edges, *energy)}


def test_closed_sets_and_bounds_are_checked_by_the_database(store: Store) -> None:
    for values in (
        {"name": "acme", "status": "asleep", "created_at_s": 0},
        {"name": "", "status": "active", "created_at_s": 0},
        {"name": "acme.c07", "status": "active", "created_at_s": 0},
    ):
        with pytest.raises(IntegrityError), store.write() as connection:
            connection.execute(insert(tenants).values(id=1, **values))


def test_foreign_keys_are_enforced(store: Store) -> None:
    with pytest.raises(IntegrityError, match=r"(?i)foreign key"), store.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO tenant_addresses (tenant_id, address, changed_at_s, changed_by, effective_at_s)"
            " VALUES (77, 'bc1', 0, 'me', 0)"
        )


def test_an_upgrade_that_is_killed_anywhere_leaves_an_empty_database(databases: Databases) -> None:
    with databases.fresh_url(upgraded=False) as url:
        for statement in (3, 20, 40, 60, 80, 1000):
            with pytest.raises(Crash), crash_at(statement):
                upgrade(url)
            empty = Store(pool.books.store.open_engine(url))
            with empty.read() as connection:
                assert inspect(connection).get_table_names() == []
            empty.close()
        upgrade(url)
        upgrade(url)
        open_store(url).close()


def test_the_crash_of_other_tests_comes_before_any_statement_and_before_the_commit(store: Store) -> None:
    # Statements of beginning: the turn, where it is one, and that nobody else is the book's writer.
    begun = 2 if store.engine.dialect.name == "sqlite" else 4
    for statement, executed in ((0, []), (begun, []), (begun + 1, ["a"]), (99, ["a", "b"])):
        seen: list[str] = []
        with pytest.raises(Crash), crash_at(statement):
            write_two(store, seen)
        assert seen == executed
        with store.read() as connection:
            assert connection.scalars(select(journal_writers.c.writer)).all() == []


def write_two(store: Store, seen: list[str]) -> None:
    with store.write() as connection:
        for writer in ("a", "b"):
            connection.execute(insert(journal_writers).values(writer=writer, batch=1))
            seen.append(writer)
