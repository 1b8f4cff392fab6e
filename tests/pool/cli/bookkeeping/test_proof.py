"""`angara proof`, signed statements from the settings, and `angara verify`: from a key to an audited file."""

import json
import stat
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
import trio
from sqlalchemy import text, update
from typer.testing import CliRunner, Result

from payouts.book_time import book_time
from payouts.proof import angara_verify
from payouts.proof.roots import roots
from payouts.schemas.proof import liability_roots
from pool.books.day_closing import DayClosing
from pool.books.journal.positions import Position, write_position
from pool.cli.main import app
from pool.config import load_config
from pool.proof_key import read_proof_key
from tests.fixtures.databases import store_in
from tests.histories.proof import KEY, SECRET, ClosedBook, root_signed_again
from tests.histories.shares import FIRST, MinedHours
from tests.histories.statements import DAY, DAY_S

SETTINGS = """
[pool]
network = "main"
data_dir = "."
payout_address = "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"
[[node]]
name = "first"
url = "http://127.0.0.1:8332"
user = "u"
password = "p"
[proof]
key_file = "proof.key"
"""


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Of a pool that closed two days and is not running."""
    return written(tmp_path)


def written(tmp_path: Path, *, by_hand: bool = True) -> Path:
    with closing(store_in(tmp_path)) as store:
        book = ClosedBook(store, by_hand=by_hand)
        book.close(2)
        book.close(3)
        with store.write() as connection:
            book_time(connection, DAY_S + 4 * 86_400)
            if by_hand:
                write_position(connection, Position(writer="pool", moment_s=DAY_S + 4 * 86_400))
    file = tmp_path / "angara.toml"
    file.write_text(SETTINGS)
    (tmp_path / "proof.key").write_text(SECRET.hex())
    (tmp_path / "proof.key").chmod(0o600)
    return file


def angara(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def statement(settings: Path, first: int, days: int, out: Path) -> Result:
    from_day, to_day = DAY + timedelta(first), DAY + timedelta(first + days)
    period = ("--from", from_day, "--to", to_day)
    return angara(
        "report", "statement", "--tenant", "acme", *period, "--format", "json", "--out", out, "-c", settings
    )


def test_from_a_key_to_a_file_that_an_auditor_believes(settings: Path, tmp_path: Path) -> None:
    first, second, list_of_all = (tmp_path / f"{name}.json" for name in ("first", "second", "roots"))
    assert statement(settings, 0, 2, first).exit_code == 0
    assert statement(settings, 2, 1, second).exit_code == 0
    published = angara("proof", "roots", "--json", "-c", settings)
    assert published.exit_code == 0
    list_of_all.write_text(published.stdout)
    options = ("--key", KEY.public.hex(), "--roots", list_of_all, "--previous", first)
    done = angara("verify", second, *options)
    assert (done.exit_code, "WRONG" in done.stdout) == (0, False), done.stdout
    assert "it goes on from the statement before it" in done.stdout
    second.write_bytes(second.read_bytes().replace(b'"acme"', b'"acne"'))
    assert angara("verify", second, *options).exit_code == 1
    second.write_bytes(b"{")
    assert angara("verify", second).exit_code == 2


def test_a_key_is_followed_by_another_which_it_signs(settings: Path, tmp_path: Path) -> None:
    """As docs/proof.md says it: a client that knows the first one believes what the second signs."""
    first, second, listed = (tmp_path / f"{name}.json" for name in ("first", "second", "roots"))
    assert statement(settings, 0, 2, first).exit_code == 0
    made = angara("proof", "key", tmp_path / "next.key")
    named = 'key_file = "next.key"\nformer_key_files = ["proof.key"]\n'
    settings.write_text(SETTINGS.replace('key_file = "proof.key"\n', named))
    config = load_config(settings)
    assert config.proof_key_file is not None
    key = read_proof_key(config.proof_key_file, config.proof_former_files)
    with closing(store_in(tmp_path)) as store:
        trio.run(DayClosing(store, key).keep)
    assert statement(settings, 2, 2, second).exit_code == 0
    listed.write_text(angara("proof", "roots", "--json", "-c", settings).stdout)
    options = ("--key", KEY.public.hex(), "--roots", listed, "--previous", first)
    done = angara("verify", second, *options)
    assert (done.exit_code, f"key of the statement is {made.stdout.strip()}" in done.stdout) == (0, True)
    assert angara("verify", second, "--key", KEY.public.hex()).exit_code == 1
    assert angara("verify", listed, "--key", KEY.public.hex(), "--previous", listed).exit_code == 0
    told = angara("proof", "keys", "-c", settings).stdout
    assert (made.stdout.strip() in told, "yes" in told) == (True, True)
    before = first.read_bytes()
    first.unlink()
    assert statement(settings, 0, 2, first).exit_code == 0
    assert first.read_bytes() == before


def test_other_forms_name_the_root_and_the_key(settings: Path) -> None:
    period = ("--from", DAY, "--to", DAY + timedelta(2))
    of = ("report", "statement", "--tenant", "acme", *period)
    told = angara(*of, "-c", settings).stdout
    assert KEY.public.hex() in told
    assert "Root 1, of all that was owed" in told
    assert KEY.public.hex() not in angara(*of, "--data-dir", settings.parent).stdout  # no settings, no key


def test_a_list_of_roots_is_for_people_too(settings: Path) -> None:
    told = angara("proof", "roots", "-c", settings).stdout
    assert str(DAY + timedelta(2)) in told
    assert len(angara("proof", "roots", "--first", 2, "--json", "-c", settings).stdout) > 2


def test_from_an_hour_to_shares_that_their_owner_believes(tmp_path: Path) -> None:
    with closing(store_in(tmp_path)) as store:
        book = MinedHours(store)
        book.mine_hour(FIRST)
        book.close_hours((FIRST + 1) * 3600 + 120)
        hash_ = angara_verify.sha256d(
            bytes.fromhex(json.loads(book.shares_file(FIRST))["settlements"][0]["shares"][0]["header"])
        )
    whole, listed = tmp_path / "shares.json", tmp_path / "closings.json"
    hour = f"{DAY + timedelta(5)}T00"
    of = ("proof", "shares", hour, "--tenant", "acme", "--data-dir", tmp_path)
    assert angara(*of, "--out", whole).exit_code == 0
    published = angara("proof", "closings", "--json", "--data-dir", tmp_path)
    listed.write_text(published.stdout)
    assert "settlements from" in angara("proof", "closings", "--data-dir", tmp_path).stdout
    options = ("--key", KEY.public.hex(), "--roots", listed)
    done = angara("verify", whole, *options)
    assert (done.exit_code, "WRONG" in done.stdout) == (0, False), done.stdout
    assert "are all that their roots have, each of them once" in done.stdout
    alone = angara(*of, "--share", hash_[::-1].hex())
    whole.write_text(alone.stdout)
    done = angara("verify", whole, *options)
    assert (done.exit_code, "the share was credited to acme.c01" in done.stdout) == (0, True), done.stdout
    whole.write_text(alone.stdout.replace("acme.c01.u0", "acme.c01.u9").replace("acme.c01.u1", "acme.c01.u8"))
    assert angara("verify", whole, *options).exit_code == 1
    none = angara("proof", "shares", "2020-01-01T00", "--tenant", "acme", "--data-dir", tmp_path)
    assert (none.exit_code != 0, "nothing of acme is closed" in none.output) == (True, True)
    assert (
        "is no hour"
        in angara("proof", "shares", "2020-13-01T00", "--tenant", "acme", "--data-dir", tmp_path).output
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("yesterday",), "'yesterday' is not an hour, like 2026-09-01T06"),
        (("2026-09-01T06", "--share", "AB"), "--share: 'AB' is not a hash, 64 small hex digits"),
    ],
)
def test_what_is_no_hour_and_no_hash_is_a_mistake(
    arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    done = angara("proof", "shares", *arguments, "--tenant", "acme", "--data-dir", tmp_path)
    assert done.exit_code == 2
    assert words in done.output


def test_the_books_are_verified_with_the_key_of_the_settings(tmp_path: Path) -> None:
    """A tree of other balances than the ledger's, of the same total, which the key alone tells."""
    file = written(tmp_path, by_hand=False)
    with closing(store_in(tmp_path)) as store, store.write() as connection:
        connection.execute(text("DROP TRIGGER liability_roots_no_update"))
        forged = root_signed_again(msgspec.to_builtins(roots(connection)[-1]) | {"root": "1" * 64})
        values = {it: forged[it] for it in ("root", "hash", "signature")}
        connection.execute(update(liability_roots).where(liability_roots.c.number == 2).values(values))
    alone = json.loads(angara("ledger", "verify", "--json", "--data-dir", tmp_path).stdout)
    assert alone["wrong"] is None
    found = json.loads(angara("ledger", "verify", "--json", "-c", file).stdout)["wrong"]
    assert found == {
        "table": "liability_roots",
        "row": "2",
        "reason": "its tree is not of what was owed to each tenant",
    }


def test_a_new_key_is_its_owners_alone_and_is_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "new.key"
    made = angara("proof", "key", file)
    assert made.exit_code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(made.stdout.strip()) == 64
    assert file.read_text().strip() not in made.output
    again = angara("proof", "key", file)
    assert (again.exit_code, "there is" in again.output) == (2, True)


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (SECRET.hex(), 0o644, "others may read"),
        ("zz" * 32, 0o600, "is no key"),
        ("00" * 32, 0o600, "it is no key"),
        (SECRET.hex() + "00", 0o600, "is no key"),
    ],
)
def test_a_file_that_is_no_key_is_refused_in_words(
    settings: Path, tmp_path: Path, content: str, mode: int, words: str
) -> None:
    file = tmp_path / "proof.key"
    file.write_text(content)
    file.chmod(mode)
    refused = statement(settings, 0, 2, tmp_path / "out.json")
    assert refused.exit_code == 2
    assert words in refused.output
    assert content not in refused.output
