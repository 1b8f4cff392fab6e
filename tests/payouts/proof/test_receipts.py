"""A buyer with receipts and his own pool's count finds what anybody changed, and how a seller cheats."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from payouts.proof import angara_verify
from payouts.proof.angara_verify import Report
from payouts.proof.key import ProofKey
from tests.fixtures.databases import SqliteDatabases, fresh_store
from tests.histories.orders import PRICE, TARGET
from tests.histories.proof import KEY, Auditor, altered, kinds_of_fields
from tests.histories.receipts import ClosedOrder, changed, closed_order, counted, signed_again, written

EASY = f"{TARGET:064x}"
SHARE_SAT = Fraction(1 << 256, TARGET) * PRICE / (10**15 * 86_400)  # of that target, at the order's price


@pytest.fixture(scope="module")
def order(sqlite_databases: SqliteDatabases) -> Iterator[ClosedOrder]:
    """Nobody changes it."""
    with fresh_store(sqlite_databases) as store:
        yield closed_order(store)


@pytest.fixture
def chain(order: ClosedOrder) -> list[dict[str, Any]]:
    return order.told()


@pytest.fixture
def auditor(tmp_path: Path) -> Auditor:
    return Auditor(tmp_path)


def sat(shares: int) -> str:
    psat = int(shares * SHARE_SAT * 10**12)
    return f"{psat // 10**12}.{psat % 10**12:012}"


# What a pool tells


def test_receipts_prove_themselves_and_agree_with_the_buyers_count(
    chain: list[dict[str, Any]], auditor: Auditor
) -> None:
    for rejects in (False, True):
        assert auditor.found(written(chain), counted=counted(chain, rejects)) == (0, [])
    assert auditor.found(written(chain), previous=written(chain[:2])) == (0, [])
    assert auditor.found(written(chain[1:3])) == (0, []), "some of them"
    assert auditor.found(written(chain[2])) == (0, []), "one alone"


def test_a_share_that_is_on_its_way_at_an_hours_end_is_in_the_next(
    chain: list[dict[str, Any]], auditor: Auditor
) -> None:
    """It agrees all the same, to the share: with one more or less anywhere it does not."""
    mine = counted(chain).decode()
    moved = mine.replace(f"10:00:00Z,{EASY},402", f"10:00:00Z,{EASY},405")
    moved = moved.replace(f"11:00:00Z,{EASY},299", f"11:00:00Z,{EASY},296")
    assert auditor.found(written(chain), counted=moved.encode()) == (0, [])
    fewer = moved.replace(",811", ",810").encode()
    code, (wrong,) = auditor.found(written(chain), counted=fewer)
    assert (code, f"1 accepted shares more than you counted, worth {sat(1)} sat" in wrong) == (1, True)
    # Four were never answered: the pool may have them. A fifth is work that is in no receipt.
    assert auditor.found(written(chain), counted=moved.replace(",811", ",815").encode()) == (0, [])
    code, (wrong,) = auditor.found(written(chain), counted=moved.replace(",811", ",816").encode())
    assert "you counted 5 accepted shares more than the receipts have, of which 4 may be" in wrong


def test_moments_are_those_of_the_calendar() -> None:
    for at_s in range(0, 4_000_000_000, 97_531 * 60):
        told = f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%dT%H:%MZ}"
        assert angara_verify.utc(at_s) == told


def test_receipts_without_a_key_are_checked_and_that_is_said(
    sqlite_databases: SqliteDatabases, auditor: Auditor
) -> None:
    with fresh_store(sqlite_databases) as store:
        order = ClosedOrder(store)
        order.close(12, None)
        assert auditor.found(written(order.told()), key=None) == (0, [])
        assert auditor.found(written(order.told()))[0] == 1
        order.close(20)
        assert auditor.found(written(order.told())) == (0, []), "it has one since"
        forged = changed(order.told(), 0, signature="ab" * 64)
        assert auditor.found(written(forged))[0] == 1


# A hand that has no key


def assert_every_bit_is_found(data: bytes, auditor: Auditor, count: int) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    for bit in random.Random(seed).sample(range(8 * len(data)), count):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        code, wrong = auditor.found(bytes(flipped))
        assert code in (1, 2), (seed, bit)
        assert wrong


def test_a_single_bit_that_changed_is_found(chain: list[dict[str, Any]], auditor: Auditor) -> None:
    assert_every_bit_is_found(written(chain), auditor, 60)


def test_any_field_that_changed_is_found_and_no_file_makes_it_fail(
    chain: list[dict[str, Any]], auditor: Auditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    others: tuple[object, ...] = (None, True, -1, 10**25, "", "0", [], [[]], {}, {"a": 1})
    for path in kinds_of_fields(chain):
        found: Any = chain
        for name in path:
            found = found[name]
        new = found + 1 if isinstance(found, int) else f"{found}0"
        assert auditor.found(written(altered(chain, path, new)))[0] in (1, 2), path
        with monkeypatch.context() as patch:
            patch.setattr(angara_verify, "signed_by", lambda *_: True)
            code, wrong = auditor.found(written(altered(chain, path, chance.choice(others))), key=None)
            assert (code == 0) == (not wrong), (seed, path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the counts begin with"),
        (b"hour;target;accepted\n", "the counts begin with"),
        (b"\xff", "no ASCII"),
        (b"hour,target,accepted\n1,2,3\n", "line 2 of the counts is not of its form"),
        (b"hour,target,accepted\n2026-09-01T10:30:00Z," + b"0" * 64 + b",3\n", "no whole hour"),
        (b"hour,target,accepted\n2026-09-01T10:00:00Z," + b"0" * 64 + b",3\n", "a target is zero"),
        (b"hour,target,accepted\n" + 2 * (b"2026-09-01T10:00:00Z," + b"1" * 64 + b",3\n"), "there twice"),
        (b"hour,target,accepted,rejected\n2026-09-01T10:00:00Z," + b"1" * 64 + b",3\n", "not of its form"),
    ],
)
def test_counts_that_cannot_be_read_end_in_words(
    chain: list[dict[str, Any]], data: bytes, words: str, auditor: Auditor
) -> None:
    code, (why,) = auditor.found(written(chain), counted=data)
    assert code == 2
    assert words in why


def test_a_receipt_that_is_missing_there_twice_or_elsewhere_is_found(
    chain: list[dict[str, Any]], auditor: Auditor
) -> None:
    first, second, third, fourth = chain
    for wrong in (
        [first, third, fourth],
        [first, second, second, third],
        [first, third, second, fourth],
        [second, first],
    ):
        assert auditor.found(written(wrong))[0] == 1


# A seller that cheats, and signs it: what he would gain is told


def test_shares_that_were_never_sent_are_not_in_the_buyers_count(
    chain: list[dict[str, Any]], auditor: Auditor
) -> None:
    """First way: 40 more of them, and the work that they would stand for."""
    mine = counted(chain)
    said = [chain[1]["targets"][0] | {"accepted": 299 + 40}]
    forged = signed_again(changed(chain, 1, targets=said, delivered={"20": 310 + 40}))
    assert auditor.found(written(forged))[0] == 0, "of themselves they are sound"
    code, (wrong,) = auditor.found(written(forged), counted=mine)
    assert code == 1
    assert f"the receipts have 40 accepted shares more than you counted, worth {sat(40)} sat" in wrong


def test_work_that_no_share_stands_for_is_billed_within_chance_alone(
    chain: list[dict[str, Any]], auditor: Auditor
) -> None:
    """Shares below the buyer's target nobody but the seller can count. Of 1,565 that were sent he gains what
    chance would explain, once for the whole of the order, and no more: less than 15 % of it here, and one
    in ten thousand of a month that has a hundred shares a second."""
    found = [
        more
        for more in (0, 60, 120, 400, 800)
        if auditor.found(written(signed_again(changed(chain, 0, delivered={"20": 400 + more}))))[0] == 1
    ]
    assert found == [120, 400, 800]
    sent, per_second = 1_565, 100 * 86_400 * 30
    assert 5 * sent**-0.5 < 0.15
    assert 5 * per_second**-0.5 < 0.000_4


def test_an_hour_of_targets_without_end_is_not_added_up(
    chain: list[dict[str, Any]], auditor: Auditor
) -> None:
    """Of 20,000 of which no two are alike the sum took hours."""
    said = {"accepted": 1, "rejected": {}, "unanswered": 0}
    chain[0]["targets"] = [said | {"target": f"{at:064x}"} for at in range(1, 1_002)]
    assert auditor.found(angara_verify.as_written(chain)) == (2, ["'targets' is no list of up to 1000"])


def test_work_of_an_hour_that_is_in_two_receipts_is_found(
    chain: list[dict[str, Any]], auditor: Auditor
) -> None:
    """Second way: the hour that is short has the work of the full one after it as well."""
    mine = counted(chain)
    forged = changed(chain, 1, **{it: chain[2][it] for it in ("delivered", "targets")})
    code, wrong = auditor.found(written(signed_again(forged)), counted=mine)
    assert code == 1
    assert any(f"{811 - 299} accepted shares more than you counted" in it for it in wrong)
    assert any(f"worth {sat(811 - 299)} sat" in it for it in wrong)
    twice = signed_again([*chain[:3], *json.loads(json.dumps(chain[2:]))])
    code, wrong = auditor.found(written(twice))
    assert code == 1
    assert "part of its hour that receipt 4 is: it says 0, and it is 1" in wrong


def test_an_hour_that_is_left_out_is_found_though_the_rest_is_numbered_anew(
    chain: list[dict[str, Any]], auditor: Auditor
) -> None:
    """Third way: the hour with 0.39 of what was sold, and nine shares rejected."""
    copy = json.loads(json.dumps(chain))
    del copy[1]
    code, wrong = auditor.found(written(signed_again(copy)))
    assert code == 1
    assert "hour of receipt 2: it says 2026-09-01T12:00Z, and it is 2026-09-01T11:00Z" in wrong
    assert len(auditor.found(written(signed_again(copy)), counted=counted(chain))[1]) > len(wrong)


def test_rejected_shares_that_are_counted_as_accepted_are_found(
    chain: list[dict[str, Any]], auditor: Auditor
) -> None:
    """Fourth way."""
    mine = counted(chain, rejects=True)
    said = [chain[1]["targets"][0] | {"accepted": 299 + 9, "rejected": {}}]
    forged = signed_again(changed(chain, 1, targets=said, delivered={"20": 310 + 9}))
    code, (wrong,) = auditor.found(written(forged), counted=mine)
    assert (code, f"9 accepted shares more than you counted, worth {sat(9)} sat" in wrong) == (1, True)
    more = [chain[1]["targets"][0] | {"rejected": {"stale": 7, "low_difficulty": 99}}]
    code, (wrong,) = auditor.found(written(signed_again(changed(chain, 1, targets=more))), counted=mine)
    assert (code, "97 rejected shares more than you counted" in wrong) == (1, True)


def test_shares_of_another_order_and_a_past_that_was_signed_again_are_found(
    chain: list[dict[str, Any]], auditor: Auditor
) -> None:
    """Fifth way: another buyer's hour as this one's; and a receipt that was told before is told otherwise."""
    mine, before = counted(chain), written(chain[:2])
    elsewhere = changed(chain, 3, delivered={"20": 199 + 500}, targets=chain[2]["targets"])
    code, wrong = auditor.found(written(signed_again(elsewhere)), counted=mine)
    assert code == 1
    claimed = f"the receipts have 811 accepted shares more than you counted, worth {sat(811)}"
    assert any(claimed in it for it in wrong)
    assert auditor.found(written(signed_again(changed(chain, 1, order="red"))))[0] == 1
    past = signed_again(changed(chain, 1, delivered={"20": 310 + 50}))
    assert auditor.found(written(past))[0] == 0
    code, (wrong_hash,) = auditor.found(written(past), previous=before)
    assert code == 1
    assert f"given before, and {KEY.public.hex()} signed both: keep both files" in wrong_hash
    other = signed_again(json.loads(json.dumps(chain)), ProofKey(bytes(31) + b"\5"))
    assert auditor.found(written(other))[0] == 1


def test_receipts_that_share_none_go_on_from_one_another(
    chain: list[dict[str, Any]], auditor: Auditor
) -> None:
    """A month's from those of the months before: the last of these is in the hash of the first of that."""
    for cut in range(1, len(chain)):
        assert auditor.found(written(chain[cut:]), previous=written(chain[:cut])) == (0, [])
        assert not any("none of these files" in it or "no row is in both" in it for it in auditor.open)
    each = [written(it) for it in chain[:3]]
    assert auditor.found(written(chain[3:]), previous=[each[2], each[0], each[1]]) == (0, [])
    report = Report()
    angara_verify.check_told(chain[3:], chain[:3], report)
    assert report.good == ["it goes on from receipt 3, which you were given before"]
    for known, words in (([0], "receipts 2 to 3, "), ([0, 2], "receipt 2, "), ([1], "receipt 3, ")):
        assert auditor.found(written(chain[3:]), previous=[each[it] for it in known]) == (0, [])
        assert sum(it.startswith(f"{words}which are in none of these files") for it in auditor.open) == 1


def test_a_past_that_was_written_again_is_found_by_what_goes_on_from_it(
    chain: list[dict[str, Any]], auditor: Auditor
) -> None:
    """More is billed of an hour that the buyer has a receipt of; he is shown what comes after it alone."""
    past = signed_again(changed(chain, 1, delivered={"20": 310 + 50}))
    assert auditor.found(written(past[2:])) == (0, [])
    code, wrong = auditor.found(written(past[2:]), previous=written(chain[:2]))
    assert code == 1
    assert wrong[0].startswith("with what you were given before: what is before receipt 3: it says")
    code, (both, *_) = auditor.found(written(chain[2:]), previous=[written(past[:2]), written(chain[:2])])
    assert (code, "receipt 2 is another one" in both, "signed both" in both) == (1, True, True)
    bare = changed(chain[:2], 1, seconds=1)
    assert auditor.found(written(chain[2:]), previous=written(bare))[0] == 1
    assert auditor.found(written(chain[2:]), previous=b'[{"number": 1, "day": ""}]')[0] == 2


def test_it_says_whose_key_it_is(chain: list[dict[str, Any]], auditor: Auditor) -> None:
    code, (wrong,) = auditor.found(written(chain), key="ab" * 32)
    assert code == 1
    assert wrong.startswith(f"key of receipts is {KEY.public.hex()}, which does not follow from")
    assert auditor.found(written(chain), roots=[]) == (2, ["the roots are no list of 1 to 7305"])
