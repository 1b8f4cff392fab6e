"""`angara db backup` and `angara db restore` as an operator types them: whole or not at all, nothing
overwritten that somebody may want, and what would be lost is said first."""

import json
import shutil
from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

import pool.cli.bookkeeping.database_copies
from payouts.rates import Scheme
from pool.books.book import bind
from pool.books.lease import FileLock
from pool.cli.main import app
from pool.data_dir import held
from pool.fleet.rows import TenantTerms, add_tenant
from pool.store_error import StoreError
from tests.fixtures.databases import disarm, store_in
from tests.stages.command_line import angara
from tests.stages.payouts import credit

HASH = "00" * 31 + "07"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Books of a tenant with one credit."""
    home = tmp_path / "home"
    with_credit(home, "work")
    return home


def with_credit(data_dir: Path, key: str, tenant: str | None = "acme") -> None:
    store = store_in(data_dir)
    bind(store, "regtest")
    terms = TenantTerms(scheme=Scheme.PPS, fee_bps=0, payout_minimum_sat=0)
    with store.write() as connection:
        if tenant is not None:
            add_tenant(connection, tenant, terms, by="test", now_s=0)
        credit(connection, 1, 1000, key)
    store.close()


def transactions(data_dir: Path) -> int:
    code, output = angara(data_dir, "ledger", "verify", "--json")
    assert code == 0
    return int(json.loads(output)["transactions"])


def test_a_backup_is_verified_and_says_what_it_is_of(data_dir: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    code, output = angara(data_dir, "db", "backup", copy)
    assert code == 0
    assert f"{copy} has a book of regtest, 1 transactions, head " in output
    assert copy.stat().st_mode & 0o777 == 0o600
    code, output = angara(data_dir, "db", "backup", copy, "--replace", "--json")
    told = json.loads(output)
    assert (code, told["verified"], told["network"], told["transactions"]) == (0, True, "regtest", 1)
    assert told["bytes"] == copy.stat().st_size
    assert [it.name for it in tmp_path.iterdir() if it != data_dir] == ["copy"]


def test_a_backup_is_taken_while_a_pool_writes(data_dir: Path, tmp_path: Path) -> None:
    with held(data_dir):
        store = store_in(data_dir)
        store.acquire_lease()
        with store.write():
            assert angara(data_dir, "db", "backup", tmp_path / "copy").exit_code == 0
        store.close()


def test_a_file_that_is_there_is_kept_until_a_whole_one_takes_its_place(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    copy.write_text("of yesterday")
    code, output = angara(data_dir, "db", "backup", copy)
    assert (code, output) == (2, f"angara: {copy} is there: give another name, or --replace\n")
    monkeypatch.setattr(pool.cli.bookkeeping.database_copies, "check_pages", damaged)
    assert angara(data_dir, "db", "backup", copy, "--replace").exit_code == 2
    assert copy.read_text() == "of yesterday"
    assert {it.name for it in tmp_path.iterdir()} == {"home", "copy"}
    book = data_dir / "angara.db"
    assert "is no place for a backup" in angara(data_dir, "db", "backup", book, "--replace").output


def damaged(path: Path) -> None:
    raise StoreError(f"{path} is damaged")


def test_books_that_are_wrong_are_no_backup(data_dir: Path, tmp_path: Path) -> None:
    angara(data_dir, "db", "backup", tmp_path / "before")
    store = store_in(data_dir)
    with store.write() as connection:
        disarm(connection)
        connection.execute(text("UPDATE ledger_transfers SET amount_sat = 1001"))
    store.close()
    code, output = angara(data_dir, "db", "backup", tmp_path / "copy")
    assert (code, "its books are wrong: ledger_transactions 1" in output) == (2, True)
    assert not (tmp_path / "copy").exists()
    shutil.copy(data_dir / "angara.db", tmp_path / "forged")
    code, output = angara(data_dir, "db", "restore", tmp_path / "forged", "--replace")
    assert (code, "its books are wrong: ledger_transactions 1" in output) == (2, True)
    assert angara(data_dir, "db", "restore", tmp_path / "before", "--replace").exit_code == 0


def test_a_restore_says_what_would_be_lost_and_sets_it_aside_when_told(
    data_dir: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    angara(data_dir, "db", "backup", copy)
    with_credit(data_dir, "more", tenant=None)
    code, output = angara(data_dir, "db", "restore", copy)
    assert (code, "1 transactions are not in the copy" in output, "--replace" in output) == (2, True, True)
    assert transactions(data_dir) == 2
    (data_dir / "blocks").mkdir()
    (data_dir / "blocks" / f"7-{HASH}.accepted").write_bytes(b"")
    code, output = angara(data_dir, "db", "restore", copy, "--replace")
    assert (code, "1 transactions are not in the copy" in output) == (0, True)
    assert "1 blocks in" in output
    assert "Next: start the pool, which takes what its journal has; a minute later `angara payout" in output
    assert transactions(data_dir) == 1
    assert (data_dir / "angara.db").stat().st_mode & 0o777 == 0o600
    (aside,) = (it for it in data_dir.glob("angara.db.2*") if it.suffix != ".lock")
    (tmp_path / "aside").mkdir()
    shutil.copy(aside, tmp_path / "aside" / "angara.db")
    assert transactions(tmp_path / "aside") == 2
    code, output = angara(data_dir, "change", "list", "--json")
    assert [it["command"] for it in json.loads(output)] == ["db.restore"]


def test_a_log_that_a_lost_book_left_behind_is_not_the_restored_one_s(data_dir: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    angara(data_dir, "db", "backup", copy)
    (data_dir / "angara.db").unlink()
    (data_dir / "angara.db-wal").write_bytes(b"of another book")
    code, output = angara(data_dir, "db", "restore", copy, "--json")
    assert (code, json.loads(output)["set_aside"] is not None) == (0, True)
    assert transactions(data_dir) == 1


def test_nothing_is_restored_under_a_pool(data_dir: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    angara(data_dir, "db", "backup", copy)
    with held(data_dir):
        code, output = angara(data_dir, "db", "restore", copy, "--replace")
        assert (code, "another process is using" in output) == (2, True)
    lock = FileLock(data_dir / "angara.db")
    assert lock.acquire()
    code, output = angara(data_dir, "db", "restore", copy, "--replace")
    assert (code, "a pool writes to the database" in output) == (2, True)
    lock.release()


def test_what_is_no_backup_is_not_restored(data_dir: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    in_use = tmp_path / "in-use"
    shutil.copy(data_dir / "angara.db", in_use)
    Path(f"{in_use}-wal").write_bytes(b"")
    for file, words in (
        (tmp_path / "nothing", "there is no file"),
        (Path(__file__), "is damaged"),
        (empty, "is no backup of a book"),
        (in_use, "it is a book in use"),
        (data_dir / "angara.db", "is the book itself"),
    ):
        code, output = angara(data_dir, "db", "restore", file, "--replace")
        assert (code, words in output) == (2, True), output
    assert transactions(data_dir) == 1


def test_a_book_of_another_network_than_the_settings_say_is_not_restored(
    data_dir: Path, tmp_path: Path
) -> None:
    angara(data_dir, "db", "backup", tmp_path / "copy")
    with pytest.raises(Exception, match="is a book of regtest, the settings say main"):
        pool.cli.bookkeeping.database_copies.look(tmp_path / "copy", tmp_path / "book", "main")


def test_postgresql_has_its_own_tools(data_dir: Path, tmp_path: Path) -> None:
    for command in ("backup", "restore"):
        code, output = angara(
            data_dir, "db", command, tmp_path / "copy", "--database", "postgresql://u@host/angara"
        )
        assert (code, "pg_dump" in output) == (2, True)


def test_an_upgrade_makes_a_book_where_the_settings_say_a_directory_that_there_is_not(tmp_path: Path) -> None:
    where = 'data_dir = "new/pool"\npayout_address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"'
    node = 'name = "first"\nurl = "http://127.0.0.1:1"\nuser = "u"\npassword = "p"'
    settings = tmp_path / "angara.toml"
    settings.write_text(f'[pool]\nnetwork = "regtest"\n{where}\n[[node]]\n{node}\n')
    result = CliRunner().invoke(app, ["db", "upgrade", "-c", str(settings)])
    assert (result.exit_code, "present schema" in result.output) == (0, True)
    assert (tmp_path / "new" / "pool" / "angara.db").exists()
