"""Shares of an hour are in one signed root, and who has them finds out what a pool did with them.

The thief here is the pool, which has the key: whatever it changed, hashes and signatures are right.
"""

import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.exc import DBAPIError

from payouts.audit.closings import check_closings
from payouts.audit.finding import Found
from payouts.proof import angara_verify, share_tree
from payouts.proof.angara_verify import Work, as_written, climbed, reaches, share_leaf
from payouts.proof.closings import KEPT_S, UNSETTLED_KEPT_S, closed, due, forget_old, note
from payouts.proof.key import ProofKey
from payouts.proof.share_proofs import NoShares
from payouts.proof.share_tree import Share, Tree, in_order, packed
from payouts.schemas.money import settlements
from payouts.schemas.proof import share_closings, share_leaves, share_parts, share_roots
from pool.books.day_closing import ShareClosing
from pool.books.store import Store
from tests.fixtures.databases import SqliteDatabases, disarm, fresh_store
from tests.histories.proof import KEY, Auditor, altered, kinds_of_fields
from tests.histories.shares import EASIEST_LOG2, FIRST, FROM_LOG2, MinedHours, closed_again
from tests.histories.statements import ACME

OTHER = ProofKey(bytes(31) + b"\5")
OVER_S = (FIRST + 1) * 3600 + 120


@pytest.fixture(scope="module")
def book(sqlite_databases: SqliteDatabases) -> Iterator[MinedHours]:
    """Three hours of two tenants, closed. Nobody changes it."""
    with fresh_store(sqlite_databases) as store:
        made = MinedHours(store)
        for hour in range(3):
            made.mine_hour(FIRST + hour)
            made.close_hours(OVER_S + hour * 3600)
        yield made


@pytest.fixture
def auditor(tmp_path: Path) -> Auditor:
    return Auditor(tmp_path)


def audited(book: MinedHours) -> str | None:
    with book.store.read() as connection:
        try:
            check_closings(connection)
        except Found as found:
            return found.wrong.reason
        return None


def count(book: MinedHours, table: Any) -> int:
    with book.store.read() as connection:
        return int(connection.scalar(select(func.count()).select_from(table)) or 0)


# What a client does


def test_an_hour_and_each_share_of_it_are_proven(book: MinedHours, auditor: Auditor) -> None:
    listed = book.published_closings()
    whole = book.shares_file(FIRST)
    assert auditor.found(whole, roots=listed) == (0, [])
    shares = [it for of in json.loads(whole)["settlements"] for it in of["shares"]]
    assert 3 < len(shares) < 30
    assert {it["worker"] for it in shares} == {"acme.c01.u0", "acme.c01.u1"}
    for it in shares:
        hash_ = angara_verify.sha256d(bytes.fromhex(it["header"]))
        alone = book.shares_file(FIRST, share=hash_)
        assert auditor.found(alone, roots=listed) == (0, [])
        assert len(alone) < 5_000
    with pytest.raises(NoShares, match="is not among the shares"):
        book.shares_file(FIRST, share=bytes(32))
    with pytest.raises(NoShares, match="nothing of acme is closed"):
        book.shares_file(FIRST + 9)


def test_the_statement_of_the_day_has_what_the_shares_are_of(book: MinedHours, auditor: Auditor) -> None:
    book.close(6)
    statement = book.file(days=6)
    assert json.loads(statement)["proof"]
    assert auditor.found(book.shares_file(FIRST), against=statement) == (0, [])
    value = json.loads(book.shares_file(FIRST))
    value["settlements"][0]["settlement"]["shares"] = {"-32": 47}
    code, wrong = auditor.found(closed_again(value), against=statement)
    assert (code, len(wrong), "in the statement" in wrong[0]) == (1, 1, True)


@pytest.mark.parametrize("alone", [False, True])
def test_a_single_bit_that_changed_is_found(book: MinedHours, auditor: Auditor, alone: bool) -> None:
    data = proof_of_one(book) if alone else book.shares_file(FIRST)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    for bit in random.Random(seed).sample(range(8 * len(data)), 150):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        code, wrong = auditor.found(bytes(changed))
        assert code in (1, 2), bit
        assert wrong


def proof_of_one(book: MinedHours) -> bytes:
    header = json.loads(book.shares_file(FIRST))["settlements"][0]["shares"][1]["header"]
    return book.shares_file(FIRST, share=angara_verify.sha256d(bytes.fromhex(header)))


@pytest.mark.parametrize("alone", [False, True])
def test_any_field_that_changed_is_found(book: MinedHours, auditor: Auditor, alone: bool) -> None:
    value = json.loads(proof_of_one(book) if alone else book.shares_file(FIRST))
    for path in kinds_of_fields(value):
        found = value
        for name in path:
            found = found[name]
        new = not found if isinstance(found, bool) else found + 1 if isinstance(found, int) else f"{found}0"
        code, wrong = auditor.found(as_written(altered(value, path, new)))
        assert code in (1, 2), path
        assert wrong


@pytest.mark.parametrize("alone", [False, True])
def test_no_file_makes_it_fail(
    book: MinedHours, auditor: Auditor, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    """Each kind of field as something else, where every signature holds: it ends, in words."""
    monkeypatch.setattr(angara_verify, "signed_by", lambda *_: True)
    value = json.loads(proof_of_one(book) if alone else book.shares_file(FIRST))
    listed = book.published_closings()
    others: tuple[object, ...] = (
        None,
        True,
        -1,
        10**25,
        "",
        "0",
        [],
        [[]],
        {},
        {"a": 1},
        "0001-01-01T00:00:00Z",
    )
    for path in kinds_of_fields(value):
        for new in others:
            code, wrong = auditor.found(as_written(altered(value, path, new)), roots=listed)
            assert (code == 0) == (not wrong)
    for path in kinds_of_fields(listed):
        for new in others[:5]:
            code, wrong = auditor.found(as_written(value), roots=altered(listed, path, new))
            assert (code == 0) == (not wrong)


# What a pool may try


def changed(book: MinedHours, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The first settlement of an hour, as a pool closes it that has changed something before."""
    value = json.loads(book.shares_file(FIRST))
    change(value["settlements"][0])
    return closed_again(value)


def test_a_pool_that_writes_it_again_as_it_was_is_believed(book: MinedHours, auditor: Auditor) -> None:
    """What follows fails for what is changed, not for how."""
    assert auditor.found(changed(book, lambda of: None)) == (0, [])


CHEATS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "one share, committed twice": (lambda of: of["shares"].append(of["shares"][-1]), "there twice"),
    "a share that is no work": (
        lambda of: of["shares"].append({**of["shares"][-1], "header": "f" * 160}),
        "is not of difficulty",
    ),
    "a share that is easier than it says": (
        lambda of: of["shares"][0].update(difficulty_log2=40),
        "is not of difficulty 2^40",
    ),
    "a share of another hour": (
        lambda of: of["shares"][0].update(minute_utc="2026-09-01T00:00:00Z"),
        "not of its settlement's hour",
    ),
    "another tenant's machine": (
        lambda of: of["shares"][0].update(worker="borealis.c01.u0"),
        "of a machine of somebody else",
    ),
    "a difficulty from which on all are there, when they are not": (
        lambda of: of["settlement"].update(from_log2=-29),
        "is not of difficulty 2^-29",
    ),
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_pool_that_commits_to_what_was_not_is_found(book: MinedHours, auditor: Auditor, cheat: str) -> None:
    change, words = CHEATS[cheat]
    code, wrong = auditor.found(changed(book, change))
    assert code == 1
    assert any(words in it for it in wrong), wrong


def test_a_share_that_a_pool_left_out_is_not_in_the_root_whatever_it_does(
    book: MinedHours, auditor: Auditor
) -> None:
    """The client has it from its machine's log. No way leads from it to the root, and none to a root that was
    made without it, as every closing since is chained to that one."""
    value = json.loads(book.shares_file(FIRST))
    left_out = value["settlements"][0]["shares"].pop(2)
    again = closed_again(value)
    assert auditor.found(again)[0] == 0  # by itself it is sound
    there = [it["header"] for it in json.loads(again)["settlements"][0]["shares"]]
    assert left_out["header"] not in there
    code, wrong = auditor.found(again, roots=book.published_closings())
    assert (code, "others see another" in wrong[-1]) == (1, True)


@pytest.mark.parametrize(("machines_ph", "percent"), [(20, 22), (1_000, 3), (10_000, 1)])
def test_work_that_is_left_out_shows_in_the_shares_that_prove_it(machines_ph: int, percent: int) -> None:
    """A pool that counts some percent less than was mined, and leaves no share out of the roots, so that no
    client misses one: found in one hour where the sum of work is that much too small for the hard shares in
    it. One that leaves hard ones out with the others is found by whoever has them in a log."""
    hashes = machines_ph * 10**15 * 3600
    kept = hashes // (1 << 32 + 24)
    counted = hashes // (1 << 32 + 16) * (100 - percent) // 100
    work = Work()
    work.add({16: kept}, {16: counted}, 24)
    assert work.is_more
    honest = Work()
    honest.add({16: kept + 3 * int(kept**0.5)}, {16: hashes // (1 << 32 + 16)}, 24)
    assert not honest.is_more  # three sigmas of luck are no theft


def test_a_pool_that_credits_less_than_was_found_is_wrong_and_one_that_credits_more_is_asked_why(
    store: Store, auditor: Auditor
) -> None:
    book = MinedHours(store)
    book.mine_hour(FIRST, 800, [ACME * 100], counted=350)
    book.close_hours(OVER_S)
    code, wrong = auditor.found(book.shares_file(FIRST))
    assert (code, "shares were left out of it" in wrong[0]) == (1, True)
    book.mine_hour(FIRST + 1, 100, [ACME * 100], counted=2_000)
    book.close_hours(OVER_S + 3600)
    report = report_of(book.shares_file(FIRST + 1))
    assert report.wrong == []
    assert any("why so few shares prove it" in it for it in report.open)


def report_of(data: bytes) -> angara_verify.Report:
    report = angara_verify.Report()
    angara_verify.check_hour(json.loads(data), report, angara_verify.Keys(KEY.public))
    return report


def test_old_work_that_is_shown_again_is_asked_about(store: Store) -> None:
    """What was found long before it was counted may be of a site that was away: words, and how many."""
    book = MinedHours(store)
    old = book.found(ACME * 100, (FIRST - 3) * 60, 40)
    shown = [Share(it.header, it.worker_id, FIRST * 60, it.difficulty_log2) for it in old]
    book.mine_hour(FIRST, 40, [ACME * 100])
    book.keep(book.rates[ACME], FIRST, [it for it in shown if reaches(it.hash, FROM_LOG2)][:5])
    book.close_hours(OVER_S)
    words = [it for it in report_of(book.shares_file(FIRST)).open if "two hours or more" in it]
    assert [it.startswith("why 5 shares") for it in words] == [True]


def test_two_clients_that_are_shown_two_closings_see_it(book: MinedHours, auditor: Auditor) -> None:
    listed = book.published_closings()
    alone = changed(book, lambda of: None)
    assert auditor.found(alone) == (0, [])
    code, wrong = auditor.found(alone, roots=listed)
    assert (code, "others see another" in wrong[-1]) == (1, True)
    for number, values, words in (
        (1, None, "what is before closing"),
        (1, {"root": "1" * 64}, "hash of closing 2"),
        (-1, {"signature": "1" * 128}, "not signed by its key"),
    ):
        rows = json.loads(json.dumps(listed))
        if values is None:
            rows.pop(number)
        else:
            rows[number].update(values)
        code, wrong = auditor.found(book.shares_file(FIRST), roots=rows)
        assert (code, any(words in it for it in wrong)) == (1, True), (words, wrong)
    code, wrong = auditor.found(book.shares_file(FIRST), key=OTHER.public.hex())
    assert (code, wrong[0].startswith("key of a closing")) == (1, True)


# What a miner may try


def test_no_name_makes_a_leaf_of_another_share() -> None:
    """All but the name has one length, so what is in front of a name cannot be taken for it."""
    header, names = bytes(80), ["a.b.c", "a.b.cc", "", "\x10" + 7 * "\0" + "a", 127 * "a"]
    leaves = {
        share_leaf(header, log2, minute, name) for name in names for log2 in (-1, 16) for minute in (0, 16)
    }
    assert len(leaves) == len(names) * 4
    assert not any(share_leaf(header[:79], 0, 0, "x") == it for it in leaves)


def test_who_keeps_easy_shares_back_is_in_the_root_as_before_and_paid_less(store: Store) -> None:
    """He can have no more hard shares than his machines find: each is the work of four others here."""
    book = MinedHours(store)
    kept = book.mine_hour(FIRST, 400, [ACME * 100])
    book.mine_hour(FIRST + 1, 400, [ACME * 100 + 1], counted=len(kept))
    book.close_hours(OVER_S + 3600)
    first, second = (json.loads(book.shares_file(FIRST + at))["settlements"][0] for at in (0, 1))
    assert len(first["shares"]) == len(kept)
    assert second["settlement"]["shares"] == {str(EASIEST_LOG2): len(kept)}  # a quarter of what he found


# How it is closed


def test_a_closing_goes_on_where_the_last_one_ended_and_late_shares_are_a_part_of_their_own(
    store: Store, auditor: Auditor
) -> None:
    """An edge that lagged brings shares of an hour that is closed: the next closing has them, chained."""
    book = MinedHours(store)
    book.mine_hour(FIRST)
    (first,) = book.close_hours(OVER_S)
    assert book.close_hours(OVER_S) == []
    late = book.mine_hour(FIRST, 40, [ACME * 100])
    book.mine_hour(FIRST + 1)
    (second,) = book.close_hours(OVER_S + 3600)
    assert (second.first_settlement, second.previous) == (first.last_settlement + 1, first.hash)
    value = json.loads(book.shares_file(FIRST))
    assert [it["closing"] for it in value["settlements"]] == [first.number, second.number]
    assert [it["settlement"]["part"] for it in value["settlements"]] == [0, 1]
    assert len(value["settlements"][1]["shares"]) == len(late) > 3
    assert auditor.found(book.shares_file(FIRST), roots=book.published_closings()) == (0, [])
    assert (audited(book), count(book, share_parts)) == (None, 0)


async def test_a_pool_closes_what_is_due_once_and_not_before_all_of_it_is_settled(store: Store) -> None:
    book = MinedHours(store)
    before = count(book, share_closings)
    book.mine_hour(FIRST)
    with book.store.write() as connection:
        connection.execute(text("UPDATE book SET latest_s = :now"), {"now": OVER_S})
    await ShareClosing(book.store, KEY, FROM_LOG2).keep()
    assert count(book, share_closings) == before  # nothing is settled yet
    book.settle(OVER_S)
    for _ in range(2):
        await ShareClosing(book.store, KEY, FROM_LOG2).keep()
        assert count(book, share_closings) == before + 1
    with book.store.write() as connection:
        assert due(connection) is None
    assert audited(book) is None


@pytest.mark.sqlite_suffices
def test_who_was_slower_writes_nothing_and_what_came_in_between_waits(store: Store) -> None:
    book = MinedHours(store)
    book.mine_hour(FIRST, workers=[ACME * 100])
    book.settle(OVER_S)
    with book.store.read() as connection:
        found = due(connection)
        assert found is not None
        made = closed(connection, KEY, *found, FROM_LOG2)
    book.mine_hour(FIRST, workers=[ACME * 100])
    with book.store.write() as connection:
        assert note(connection, made)
        assert not note(connection, made)
    assert count(book, share_parts) == 1
    assert audited(book) is None


@pytest.mark.sqlite_suffices
def test_more_shares_than_a_settlement_may_have_are_thinned_by_their_hashes(store: Store) -> None:
    """Not by when they came, or whose they are: whoever has the rest can tell which are to be there."""
    book = MinedHours(store)
    kept = book.mine_hour(FIRST, 100)
    parts = [(FROM_LOG2, packed(kept[at : at + 7])) for at in range(0, len(kept), 7)]
    least, thinned = in_order(parts, EASIEST_LOG2, at_most=20)
    assert least > FROM_LOG2
    assert {it.hash for it in thinned} == {it.hash for it in kept if reaches(it.hash, least)}
    assert len(thinned) <= 20
    assert in_order([], 24) == (24, [])
    coarse, some = in_order([*parts, (-28, packed([]))], EASIEST_LOG2)
    assert (coarse, all(reaches(it.hash, -28) for it in some)) == (-28, True)
    assert in_order(parts + parts, FROM_LOG2)[1] == in_order(parts, FROM_LOG2)[1]  # each once


def test_shares_go_after_400_days_and_their_roots_stay(store: Store) -> None:
    book = MinedHours(store)
    book.mine_hour(FIRST)
    book.close_hours(OVER_S)
    book.mine_hour(FIRST + 1)  # of which nothing is ever settled
    leaves, roots = count(book, share_leaves), count(book, share_roots)
    with book.store.write() as connection:
        assert forget_old(connection, OVER_S + KEPT_S - 4000) > 0
        assert forget_old(connection, OVER_S + UNSETTLED_KEPT_S) == 0
    assert (count(book, share_leaves), count(book, share_parts)) == (leaves, 0)
    with book.store.write() as connection:
        connection.execute(text("UPDATE book SET latest_s = :now"), {"now": OVER_S + KEPT_S + 3600})
        assert forget_old(connection, OVER_S + KEPT_S + 3600) == leaves
    assert (count(book, share_leaves), count(book, share_roots)) == (0, roots)
    with pytest.raises(NoShares, match="kept for 400 days"):
        book.shares_file(FIRST)
    assert audited(book) is None


@pytest.mark.sqlite_suffices
def test_the_audit_finds_what_does_not_follow(store: Store) -> None:
    book = MinedHours(store)
    book.mine_hour(FIRST)
    book.close_hours(OVER_S)
    with book.store.read() as connection:
        newest = connection.scalar(select(func.max(settlements.c.seq)))
    assert audited(book) is None
    of_newest = share_leaves.c.settlement_seq == newest
    for statement, words in (
        (update(share_closings).values(signature="0" * 128), "not signed by its key"),
        (update(share_closings).values(root="0" * 64), "its hash is not that of its content"),
        (update(share_roots).values(nonce="0" * 64), "its root is not that of its settlements"),
        (delete(share_roots).where(share_roots.c.settlement_seq == newest), "other settlements than those"),
        (update(share_leaves).where(of_newest).values(packed=packed([])), "not the shares of its root"),
        (update(share_leaves).where(of_newest).values(packed=b"x"), "not the shares of its root"),
        (delete(share_leaves).where(of_newest), "its shares are missing"),
    ):
        assert words in (undone(book, statement) or ""), words
    assert audited(book) is None


class Undone(Exception):
    """What was forged is not kept."""


def undone(book: MinedHours, statement: Any) -> str | None:
    reasons: list[str] = []
    with suppress(Undone), book.store.write() as connection:
        disarm(connection)
        connection.execute(statement)
        try:
            check_closings(connection)
        except Found as found:
            reasons.append(found.wrong.reason)
        raise Undone
    return reasons[0] if reasons else None


def test_closings_and_roots_are_never_changed_and_never_gone(store: Store) -> None:
    book = MinedHours(store)
    book.mine_hour(FIRST)
    book.close_hours(OVER_S)
    for table in ("share_closings", "share_roots"):
        for change in (f"UPDATE {table} SET root = ''", f"DELETE FROM {table}"):  # noqa: S608
            with pytest.raises(DBAPIError, match="append-only"), book.store.write() as connection:
                connection.execute(text(change))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 5, 8, 13])
def test_every_leaf_has_a_way_to_the_root(size: int) -> None:
    leaves = [bytes([at]) * 32 for at in range(1, size + 1)]
    tree = Tree(leaves)
    assert tree.root == angara_verify.root_of(list(leaves))
    for at, leaf in enumerate(leaves):
        path = tree.path(at)
        assert len(path) == (size - 1).bit_length()
        assert climbed(leaf, at, list(path)) == tree.root
    assert share_tree.SHARE_BYTES == 92
