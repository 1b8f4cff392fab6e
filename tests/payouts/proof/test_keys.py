"""A key that signs statements, roots, closings and receipts is followed by another one: who knows the first
follows them by their signatures, and sees whatever a thief of one of them writes.
"""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from payouts.proof import angara_verify
from payouts.proof.angara_verify import Keys, Report, root_hash
from payouts.proof.key import NoSigning, ProofKey
from payouts.proof.key_changes import changes_of_keys, due_key_change, note_key_change
from pool.books.audit.verify import verify
from pool.books.day_closing import DayClosing
from pool.books.store import Store
from tests.fixtures.databases import SqliteDatabases, fresh_store
from tests.histories.proof import KEY, Auditor, altered, change_signed, kinds_of_fields
from tests.histories.shares import FIRST, MinedHours
from tests.histories.statements import DAY

SECOND = ProofKey(bytes(31) + b"\5", former=(KEY,))
THIRD = ProofKey(bytes(31) + b"\6", former=(SECOND, KEY))
THIEF = ProofKey(bytes(31) + b"\7")
LOST = ProofKey(bytes(31) + b"\5", lost=KEY.public.hex())
FIFTH = DAY + timedelta(5)


@pytest.fixture
def auditor(tmp_path: Path) -> Auditor:
    return Auditor(tmp_path)


def of_one_key(store: Store) -> MinedHours:
    """Five days and an hour of shares are closed."""
    book = MinedHours(store)
    book.mine_hour(FIRST)
    book.close_hours((FIRST + 1) * 3600 + 120)
    book.close(5)
    return book


def goes_on(book: MinedHours, *keys: ProofKey) -> None:
    """The key is another one; an hour and a day more are closed."""
    for key in keys:
        book.change_key(key)
    book.mine_hour(FIRST + 1)
    book.close_hours((FIRST + 2) * 3600 + 120)
    book.close(6)


@pytest.fixture(scope="module")
def book(sqlite_databases: SqliteDatabases) -> Iterator[MinedHours]:
    """With one change. Nobody changes it."""
    with fresh_store(sqlite_databases) as store:
        made = of_one_key(store)
        goes_on(made, SECOND)
        yield made


def later(book: MinedHours) -> bytes:
    """The statement of the day that the newest key closed."""
    return book.file(from_day=FIFTH, days=1, key=book.key)


# What a client does


def test_keys_are_followed_from_the_one_that_is_known(store: Store, auditor: Auditor) -> None:
    book = of_one_key(store)
    earlier, shares = book.file(days=5), book.shares_file(FIRST)
    goes_on(book, SECOND, THIRD)
    roots, closings = book.published(), book.published_closings()
    for known in (KEY, SECOND, THIRD):
        key = known.public.hex()
        assert auditor.found(later(book), roots=roots, previous=earlier, key=key) == (0, [])
        assert auditor.found(earlier, roots=roots, key=key) == (0, [])
        for of in (shares, book.shares_file(FIRST + 1)):
            assert auditor.found(of, roots=closings, key=key) == (0, [])
        for of, listed in ((later(book), closings), (shares, roots)):  # the other list has other rows
            assert auditor.found(of, roots=listed, key=key)[0] != 0
    for without in (None, [it for it in roots if "change" not in it]):
        code, wrong = auditor.found(later(book), roots=without)
        assert (code, any("which does not follow from" in it for it in wrong)) == (1, True)
    assert book.file(days=5, key=THIRD) == earlier, "by the key that closed its day"
    with store.read() as connection:
        assert [it.key for it in changes_of_keys(connection)] == [SECOND.public.hex(), THIRD.public.hex()]
        assert verify(connection, proof=THIRD).wrong is None


def test_a_list_is_held_against_the_one_of_before(book: MinedHours, auditor: Auditor) -> None:
    rows = book.published()
    before, now = (json.dumps(it).encode() for it in (rows[:-2], rows))
    assert auditor.found(now, previous=before) == (0, [])
    code, wrong = auditor.found(before, previous=now)
    assert (code, all("which you were given before, is missing" in it for it in wrong)) == (1, True)
    closings = json.dumps(book.published_closings()).encode()
    assert auditor.found(closings, previous=closings, key=SECOND.public.hex()) == (0, [])
    assert auditor.found(now, roots=rows)[0] == 2


@pytest.mark.parametrize("which", ["roots", "closings"])
def test_lists_that_share_no_row_go_on_from_one_another(
    book: MinedHours, auditor: Auditor, which: str
) -> None:
    """Also where the change of the key is the last of one, or the first of the other."""
    rows = book.published() if which == "roots" else book.published_closings()
    kept = [json.dumps([it]).encode() for it in rows]
    for cut in range(1, len(rows)):
        now, key = json.dumps(rows[cut:]).encode(), None if rows[cut:] == rows[-1:] else KEY.public.hex()
        assert auditor.found(now, previous=kept[:cut][::-1], key=key) == (0, [])
        assert not any("none of these files" in it or "no row is in both" in it for it in auditor.open)
        report = Report()
        angara_verify.check_told(rows[cut:], [rows[:cut]], report)
        assert (len(report.good), report.good[0].startswith("it goes on from ")) == (1, True)
        other = altered(rows, (cut - 1, "hash"), "ab" * 32)[:cut]
        assert auditor.found(now, previous=json.dumps(other).encode(), key=key)[0] == 1
    other_list = book.published_closings() if which == "roots" else book.published()
    assert auditor.found(json.dumps(rows).encode(), previous=json.dumps(other_list).encode())[0] == 2


def test_what_lies_between_two_lists_is_said_and_a_past_that_was_written_again_found(
    store: Store, auditor: Auditor
) -> None:
    book = MinedHours(store)
    for days in range(2, 7):
        book.close(days)
    book.change_key(SECOND)
    book.close(7)
    rows = book.published()
    assert [it.get("number") for it in rows] == [1, 2, 3, 4, 5, None, 6]
    for known, now, words in ((2, 4, "roots 3 to 4, "), (3, 4, "root 4, "), (3, 5, "roots 4 to 5, ")):
        assert auditor.found(json.dumps(rows[now:]).encode(), previous=json.dumps(rows[:known]).encode()) == (
            0,
            [],
        )
        assert sum(it.startswith(f"{words}which are in none of these files") for it in auditor.open) == 1
    less = root_by(rows[2] | {"total_sat": 1}, rows[1]["hash"], KEY)
    shown = json.dumps([root_by(rows[3], less["hash"], KEY)]).encode()
    assert auditor.found(shown) == (0, [])
    code, wrong = auditor.found(shown, previous=json.dumps(rows[:3]).encode())
    assert (code, len(wrong)) == (1, 1)
    assert wrong[0].startswith("with what you were given before: what is before root 4: it says")


def test_a_key_that_is_lost_has_signed_nothing_and_every_client_is_told(
    store: Store, auditor: Auditor
) -> None:
    book = of_one_key(store)
    goes_on(book, LOST)
    roots = book.published()
    code, wrong = auditor.found(later(book), roots=roots)
    assert (code, len(wrong)) == (1, 2)  # of the statement and of the newest root
    assert all("which does not follow from the one that you gave" in it for it in wrong)
    assert auditor.found(later(book), roots=roots, key=LOST.public.hex()) == (0, [])
    report = Report()
    angara_verify.check_listed("root", roots, [], report, Keys(LOST.public, roots))
    assert any("did not sign that, as it is lost" in it for it in report.open)


# What a pool does


async def test_a_pool_that_begins_with_another_key_signs_nothing_before_the_change(store: Store) -> None:
    book = of_one_key(store)
    rows = len(book.published())
    book.mine_hour(FIRST + 1)
    with store.read() as connection, pytest.raises(NoSigning, match="name the file of the first in former"):
        due_key_change(connection, THIEF)
    for key, more in ((THIEF, 0), (SECOND, 1), (SECOND, 1), (THIEF, 1), (KEY, 1), (LOST, 1)):
        await DayClosing(store, key).keep()
        assert len(book.published()) == rows + more, key
    with store.read() as connection, pytest.raises(NoSigning, match="is not taken again"):
        due_key_change(connection, ProofKey(bytes(range(1, 33)), former=(SECOND,)))


def test_what_was_signed_since_makes_a_change_be_made_again(store: Store) -> None:
    book = of_one_key(store)
    with store.read() as connection:
        change = due_key_change(connection, SECOND)
    assert change is not None
    book.close(6)
    with store.write() as connection:
        assert not note_key_change(connection, change)
    book.change_key(SECOND)
    with store.write() as connection:
        assert not note_key_change(connection, change)
        assert due_key_change(connection, SECOND) is None


# What a thief does who has a key


def root_by(root: dict[str, Any], previous: str, key: ProofKey) -> dict[str, Any]:
    root = root | {"previous": previous, "key": key.public.hex()}
    digest = root_hash(root)
    return root | {"hash": digest.hex(), "signature": key.sign(digest).hex()}


def test_who_steals_a_key_that_was_replaced_cannot_go_on_with_it(book: MinedHours, auditor: Auditor) -> None:
    *_, change, newest = book.published()
    forged = [*book.published()[:-1], root_by(newest, change["hash"], KEY)]
    code, wrong = auditor.found(json.dumps(forged).encode())
    assert (code, f"and nothing changed {SECOND.public.hex()} to that" in wrong[0]) == (1, True)


def test_another_successor_is_a_second_statement_of_the_same_key(book: MinedHours, auditor: Auditor) -> None:
    """By itself nothing tells it: whoever has the list of before, or another client's, has the proof that
    there are two, and of which key."""
    *before, change, newest = book.published()
    other = change_signed(change, KEY, THIEF)
    forged = json.dumps([*before, other, root_by(newest, other["hash"], THIEF)]).encode()
    assert auditor.found(forged) == (0, [])
    assert auditor.found(forged, key=SECOND.public.hex())[0] == 1  # who was told the new one
    code, wrong = auditor.found(forged, previous=json.dumps(book.published()).encode())
    assert code == 1
    assert f"given before, and {KEY.public.hex()} signed both: keep both files" in wrong[0]


def test_history_that_is_written_again_without_the_change_is_another_one(
    book: MinedHours, auditor: Auditor
) -> None:
    *before, _, newest = book.published()
    forged = json.dumps([*before, root_by(newest, before[-1]["hash"], KEY)]).encode()
    assert auditor.found(forged) == (0, [])
    wrong = auditor.found(forged, previous=json.dumps(book.published()).encode())[1]
    assert wrong[0] == "change of keys 1, which you were given before, is missing"
    assert auditor.found(later(book), roots=json.loads(forged))[0] == 1


@pytest.mark.parametrize("which", ["roots", "closings"])
def test_any_field_of_a_change_that_is_another_is_found(
    book: MinedHours, auditor: Auditor, which: str
) -> None:
    listed = book.published() if which == "roots" else book.published_closings()
    at = next(at for at, it in enumerate(listed) if "change" in it)
    for name, value in listed[at].items():
        new = not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else f"{value}0"
        code, wrong = auditor.found(json.dumps(altered(listed, (at, name), new)).encode())
        assert (code in (1, 2), bool(wrong)) == (True, True), name
    lost = altered(altered(listed, (at, "lost"), True), (at, "former_signature"), "")
    assert auditor.found(json.dumps(lost).encode())[0] == 1
    for left_out in range(len(listed) - 1):
        rows = [it for number, it in enumerate(listed) if number != left_out]
        assert left_out == 0 or auditor.found(json.dumps(rows).encode())[0] == 1, left_out


OTHERS: tuple[object, ...] = (None, True, -1, 10**25, "", "0", [], [[]], {}, {"a": 1})


def test_no_list_makes_it_fail(book: MinedHours, auditor: Auditor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(angara_verify, "signed_by", lambda *_: True)
    listed, statement = book.published(), later(book)
    for path in kinds_of_fields(listed)[1:]:
        for new in OTHERS:
            for previous in (None, json.dumps(listed).encode()):
                data = json.dumps(altered(listed, path, new)).encode()
                code, wrong = auditor.found(data, previous=previous)
                assert (code == 0) == (not wrong)
            first = json.dumps(altered(listed, path, new)[:-1]).encode()
            code, wrong = auditor.found(json.dumps(listed[-1:]).encode(), previous=first)
            assert (code == 0) == (not wrong)
            code, wrong = auditor.found(statement, roots=altered(listed, path, new))
            assert (code == 0) == (not wrong)


def test_a_receipt_of_an_hour_in_which_its_key_was_replaced_is_wrong() -> None:
    rows = [
        {"number": number, "hour_utc": f"2026-09-01T0{number}:00:00Z", "key": KEY.public.hex()}
        for number in (1, 2, 3)
    ]
    keys, report = Keys(KEY.public), Report()
    keys.replaced = {KEY.public.hex(): angara_verify.moment({"at": "2026-09-01T02:00:00Z"}, "at")}
    angara_verify.check_receipt_keys(rows, report, keys)
    assert [it.split()[1] for it in report.wrong] == ["2", "3"]
    assert any("was replaced at 2026-09-01T02:00Z" in it for it in report.open)


def test_a_receipt_that_a_former_key_signs_behind_its_follower_s_is_wrong() -> None:
    """Who has stolen a key that was replaced would bill any hour before that once more, as its later part."""
    first, second = "11" * 32, "22" * 32
    hour = {"hour_utc": "2026-09-01T01:00:00Z"}
    keys = Keys(KEY.public)
    for signers, wrong in (
        ((first, first, second, second), []),
        ((first, "", second), []),
        ((first, second, first), ["3"]),
        ((first, second, first, second), ["3", "4"]),
    ):
        report = Report()
        rows = [{**hour, "number": number, "key": it} for number, it in enumerate(signers, start=1)]
        angara_verify.check_receipt_keys(rows, report, keys)
        assert [it.split()[1] for it in report.wrong if "another one follows" in it] == wrong
