"""Who has a statement and `angara_verify.py` finds what anybody changed in it, and how a pool cheated."""

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from payouts.proof import angara_verify
from payouts.proof.angara_verify import Price, as_written, signed_by
from payouts.proof.key import ProofKey
from payouts.proof.tree import BadTree, Tree
from payouts.tallies import Tally
from tests.fixtures.databases import SqliteDatabases, fresh_store
from tests.histories.proof import (
    KEY,
    Auditor,
    ClosedBook,
    altered,
    kinds_of_fields,
    root_signed_again,
    signed_again,
)
from tests.histories.statements import DAY, DAY_S

FILE = Path(angara_verify.__file__)
VECTORS = Path(__file__).parents[2] / "vectors"
FIRST = "DFF1D77F2A671C5F36183726DB2341BE58FEAE1DA2DECED843240F7B502BA659"
SECOND = "243F6A8885A308D313198A2E03707344A4093822299F31D0082EFA98EC4E6C89"
R = "6CFF5C3BA86C69EA4B7376F31A9BCB4F74C1976089B2D9963DA2E5543E177769"
S = "69E89B4C5564D00349106B8497785DD7D1D713A8AE82B32FA79D5F7FC407D39B"
# BIP340, test-vectors.csv: key, message, signature, whether it is one.
BIP340 = (
    (
        "F9308A019258C31049344F85F89D5229B531C845836F99B08601F113BCE036F9",
        "00" * 32,
        "E907831F80848D1069A5371B402410364BDF1C5F8307B0084C55F1CE2DCA8215"
        "25F66A4A85EA8B71E482A74F382D2CE5EBEEE8FDB2172F477DF4900D310536C0",
        True,
    ),
    (
        FIRST,
        SECOND,
        "6896BD60EEAE296DB48A229FF71DFE071BDE413E6D43F917DC8DCF8C78DE3341"
        "8906D11AC976ABCCB20B091292BFF4EA897EFCB639EA871CFA95F6DE339E4B0A",
        True,
    ),
    (
        "DD308AFEC5777E13121FA72B9CC1B7CC0139715309B086C960E18FD969774EB8",
        "7E2D58D8B3BCDF1ABADEC7829054F90DDA9805AAB56C77333024B9D0A508B75C",
        "5831AAEED7B44BB74E5EAB94BA9D4294C49BCF2A60728D8B4C200F50DD313C1B"
        "AB745879A5AD954A72C45A91C3A51D3C7ADEA98D82F8481E0E1E03674A6F3FB7",
        True,
    ),
    (
        "25D1DFF95105F5253C4022F628A996AD3A0D95FBF21D468A1B33F8C160D8F517",
        "FF" * 32,
        "7EB0509757E246F19449885651611CB965ECC1A187DD51B64FDA1EDC9637D5EC"
        "97582B9CB13DB3933705B32BA982AF5AF25FD78881EBB32771FC5922EFC66EA3",
        True,
    ),
    (
        "D69C3509BB99E412E68B0FE8544E72837DFA30746D8BE2AA65975F29D22DC7B9",
        "4DF3C3F68FCC83B27E9D42C90431A72499F17875C81A599B566C9889B9696703",
        "00000000000000000000003B78CE563F89A0ED9414F5AA28AD0D96D6795F9C63"
        "76AFB1548AF603B3EB45C9F8207DEE1060CB71C04E80F593060B07D28308D7F4",
        True,
    ),
    ("EEFDEA4CDB677750A420FEE807EACF21EB9898AE79B9768766E4FAA04A2D4A34", SECOND, R + S, False),
    (
        FIRST,
        SECOND,
        "FFF97BD5755EEEA420453A14355235D382F6472F8568A18B2F057A1460297556"
        "3CC27944640AC607CD107AE10923D9EF7A73C643E166BE5EBEAFA34B1AC553E2",
        False,
    ),
    (
        FIRST,
        SECOND,
        "1FA62E331EDBC21C394792D2AB1100A7B432B013DF3F6FF4F99FCB33E0E1515F"
        "28890B3EDB6E7189B630448B515CE4F8622A954CFE545735AAEA5134FCCDB2BD",
        False,
    ),
    (FIRST, SECOND, R + "961764B3AA9B2FFCB6EF947B6887A226E8D7C93E00C5ED0C1834FF0D0C2E6DA6", False),
    (FIRST, SECOND, "00" * 32 + "123DDA8328AF9C23A94C1FEECFD123BA4FB73476F0D594DCB65C6425BD186051", False),
    (
        FIRST,
        SECOND,
        "00" * 31 + "017615FBAF5AE28864013C099742DEADB4DBA87F11AC6754F93780D5A1837CF197",
        False,
    ),
    (FIRST, SECOND, "4A298DACAE57395A15D0795DDBFD1DCB564DA82B0F269BC70A74F8220429BA1D" + S, False),
    (FIRST, SECOND, f"{angara_verify.FIELD:064X}{S}", False),
    (FIRST, SECOND, f"{R}{angara_verify.ORDER:064X}", False),
    (f"{angara_verify.FIELD + 1:064X}", SECOND, R + S, False),
)


@pytest.fixture(scope="module")
def book(sqlite_databases: SqliteDatabases) -> Iterator[ClosedBook]:
    """Of three days, of which the second is closed, and the third. Nobody changes it."""
    with fresh_store(sqlite_databases) as store:
        made = ClosedBook(store)
        made.close(2)
        made.close(3)
        yield made


@pytest.fixture
def auditor(tmp_path: Path) -> Auditor:
    return Auditor(tmp_path)


# What it is built of


@pytest.mark.parametrize(("key", "message", "signature", "holds"), BIP340)
def test_signatures_are_those_of_bip340(key: str, message: str, signature: str, holds: bool) -> None:
    assert signed_by(bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature)) is holds


def test_it_agrees_with_who_signs() -> None:
    assert ProofKey(bytes(31) + b"\3").sign(bytes(32)).hex().upper() == BIP340[0][2]
    for number in range(1, 20):
        key, message = ProofKey(number.to_bytes(32, "big")), bytes([number]) * 32
        signature = key.sign(message)
        assert signed_by(key.public, message, signature)
        assert not signed_by(key.public, bytes(32), signature)


def test_prices_are_those_of_the_vectors() -> None:
    for case in json.loads((VECTORS / "pps.json").read_text()):
        names = ("nbits", "subsidy_sat", "block_fees_sat", "fee_bps")
        price = Price({"scheme": "fpps"} | {name: case[name] for name in names})
        credit, _ = price.psat(price.worth_sat(Fraction(case["difficulty"]), case["shares"]))
        assert divmod(credit, 10**12) == (case["sat"], case["carry_psat"]), case


def test_days_are_those_of_the_calendar() -> None:
    for number in range(-20_000, 60_000, 97):
        day = DAY + timedelta(number)
        assert angara_verify.day_number(str(day), "day") == day.toordinal() - 719_163


# Statements as a pool writes them


def test_a_statement_proves_itself_and_says_what_it_cannot(book: ClosedBook, auditor: Auditor) -> None:
    first, second = book.file(days=2), book.file(from_day=DAY + timedelta(2), days=1)
    assert auditor.found(first, roots=book.published()) == (0, [])
    assert auditor.found(second, roots=book.published(), previous=first) == (0, [])
    assert auditor.found(book.file("borealis"), roots=book.published()) == (0, [])


def test_of_a_statement_without_a_signature_figures_are_checked(book: ClosedBook, auditor: Auditor) -> None:
    plain = book.file(key=None)
    assert auditor.found(plain, key=None) == (0, [])
    assert auditor.found(plain)[0] == 1  # a key was given that should have signed it


def test_it_runs_without_anything_that_is_not_pythons(book: ClosedBook, tmp_path: Path) -> None:
    statement, roots = tmp_path / "statement.json", tmp_path / "roots.json"
    statement.write_bytes(book.file())
    roots.write_text(json.dumps(book.published()))
    done = subprocess.run(
        [sys.executable, "-I", "-S", FILE, statement, "--roots", roots, "--key", KEY.public.hex()],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("Nothing is wrong; see what was not checked.\n")
    assert "WRONG" not in done.stdout
    assert "settlements at 1 prices: each follows" in done.stdout
    assert "not checked: uptime" in done.stdout


def test_it_imports_the_standard_library_alone() -> None:
    lines = [it for it in FILE.read_text().splitlines() if it.startswith(("import ", "from "))]
    assert {it.split()[1].partition(".")[0] for it in lines} <= {*sys.stdlib_module_names}


# A hand that has no key


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def assert_every_bit_is_found(data: bytes, auditor: Auditor, count: int) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    for bit in random.Random(seed).sample(range(8 * len(data)), count):
        code, wrong = auditor.found(flipped(data, bit))
        assert code in (1, 2), (seed, bit)
        assert wrong


def test_a_single_bit_that_changed_is_found(book: ClosedBook, auditor: Auditor) -> None:
    assert_every_bit_is_found(book.file(), auditor, 100)


def test_any_field_that_changed_is_found(book: ClosedBook, auditor: Auditor) -> None:
    """Each kind of field there is, in a file that is written again as a pool writes it."""
    value = json.loads(book.file())
    for path in kinds_of_fields(value):
        found = value
        for name in path:
            found = found[name]
        new = found + 1 if isinstance(found, int) else f"{found}0"
        code, wrong = auditor.found(as_written(altered(value, path, new)))
        assert code in (1, 2), path
        assert wrong


def test_no_file_makes_it_fail(book: ClosedBook, auditor: Auditor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind of field as something else, where every signature holds: it ends, in words."""
    monkeypatch.setattr(angara_verify, "signed_by", lambda *_: True)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance, value = random.Random(seed), json.loads(book.file())
    others: tuple[object, ...] = (None, True, -1, 10**25, "", "0", [], [[]], {}, {"a": 1})
    for path in kinds_of_fields(value):
        for new in chance.sample(others, 1):
            code, wrong = auditor.found(as_written(altered(value, path, new)))
            assert (code == 0) == (not wrong)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[]", "no object"),
        (b'{"a": NaN}', "no whole number"),
        (b'{"a": Infinity}', "no whole number"),
        (b'{"a": 1e999999999}', "no whole number"),
        (b'{"a": 1.0}', "no whole number"),
        (b'{"a": ' + b"9" * 1_000_000 + b"}", "1000000 digits"),
        (b'{"a": 1, "a": 1}', "two members of the same name"),
        (b"[" * 1_000_000, "no JSON"),
        (b'{"a":' * 500_000, "no JSON"),
        (b"[" + b"0," * 3_000_000 + b"0]", "more than 2000000 values"),
        (b'{"statement": "\\ud800"}', "text that is none"),
        (b'{"statement": {}}', "there is no"),
    ],
)
def test_a_hostile_file_ends_in_words(data: bytes, words: str, auditor: Auditor) -> None:
    code, (why,) = auditor.found(data)
    assert code == 2
    assert words in why


def test_what_is_too_large_is_not_read(auditor: Auditor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(angara_verify, "FILE_BYTES_MAX", 1 << 20)
    assert auditor.found(bytes(2 << 20)) == (2, ["it is larger than 1 MiB"])


def test_a_block_that_pays_work_at_fees_without_end_is_not_added_up(
    book: ClosedBook, auditor: Auditor
) -> None:
    """Fractions of 600 digits each, of which no two are alike: of 1 MB of them the sum took a minute, of the
    64 MB that a file may have years."""
    value = json.loads(book.file())
    works = [{"fee_bps": at, "blocks": f"1/{10**599 + at}"} for at in range(101)]
    value["statement"]["divided"] = {
        "blocks": [{"hash": "0" * 64, "scheme": "pplns1", "window_blocks": 1, "works": works}]
    }
    assert auditor.found(signed_again(value)) == (2, ["'works' is no list of up to 100"])


def test_a_root_of_no_leaves_is_none(book: ClosedBook, auditor: Auditor) -> None:
    """Whose signature is looked at, and whose way to it then: that was a traceback."""
    value = json.loads(book.file())
    value["proof"]["root"]["leaves"] = 0
    code, wrong = auditor.found(signed_again(value))
    assert code == 1
    assert "root 1 is not signed by its key" in wrong


def test_no_depth_of_a_file_ends_in_a_traceback(tmp_path: Path) -> None:
    """What could just be read was too deep to be hashed."""
    change: dict[str, object] = {
        name: "0" * size for name, size in (("former", 64), ("key", 64), ("former_signature", 128))
    }
    change |= {"change": 1, "lost": False, "at_utc": "2026-12-01T00:00:00Z"}
    file, most = tmp_path / "file.json", sys.getrecursionlimit()
    for depth in range(most - 120, most):
        deep = "[" * depth + "]" * depth
        file.write_text(f'[{json.dumps(change)[:-1]}, "deep": {deep}}}]')
        assert angara_verify.verify(angara_verify.parser().parse_args([str(file), "--key", "0" * 64])) == 2


def test_two_files_of_the_same_meaning_are_not_both_good(book: ClosedBook, auditor: Auditor) -> None:
    """What another program wrote may be read otherwise by a third."""
    compact = json.dumps(json.loads(book.file())).encode()
    assert auditor.found(compact) == (
        1,
        ["the file is not byte for byte as a pool writes it: another program has saved it"],
    )


# A pool that cheats, and signs it


def test_a_tenant_that_is_left_out_of_the_total_sees_it(book: ClosedBook, auditor: Auditor) -> None:
    """What he gains is the balance, which he need not have coins for."""
    value = json.loads(book.file())
    balances = {"borealis": json.loads(book.file("borealis"))["statement"]["money"]["closing_sat"]}
    value = with_root_of(value, Tree(balances, KEY.blinding("00" * 32, 1)))
    value["proof"]["leaves"] = []
    _, wrong = auditor.found(signed_again(value))
    closing = value["statement"]["money"]["closing_sat"]
    assert f"balance in the root's total: it says 0, and it is {closing}" in wrong


def with_root_of(value: dict[str, Any], tree: Tree) -> dict[str, Any]:
    root = value["proof"]["root"]
    root |= {"root": tree.root.hash.hex(), "total_sat": tree.root.sum_sat, "leaves": tree.size}
    value["statement"]["reserve"]["owed_sat"] = tree.root.sum_sat
    value["statement"]["reserve"]["free_sat"] = (
        value["statement"]["reserve"]["matured_sat"] - tree.root.sum_sat
    )
    return value


def test_nobody_is_owed_less_than_nothing(book: ClosedBook, auditor: Auditor) -> None:
    """A tenant that is not there, with a negative balance, would have made the total as small as he likes."""
    with pytest.raises(BadTree, match="no liability"):
        Tree({"acme": 100, "nobody": -90}, KEY.blinding("00" * 32, 1))
    value = json.loads(book.file())
    for at, name in ((("leaves", 0, "path", 0), "sum_sat"), (("leaves", 0), "amount_sat")):
        forged = signed_again(altered(value, ("proof", *at, name), -1))
        assert auditor.found(forged) == (2, [f"{name!r} is below zero"])


def test_two_tenants_cannot_have_the_same_leaf(book: ClosedBook, auditor: Auditor) -> None:
    """Two of one balance, of whom one would have been counted."""
    mine, other = json.loads(book.file()), json.loads(book.file("borealis"))
    other["proof"]["leaves"] = mine["proof"]["leaves"]
    code, wrong = auditor.found(signed_again(other))
    assert code == 1
    assert sum("root above leaf" in it for it in wrong) == len(mine["proof"]["leaves"])


def test_the_same_leaf_does_not_count_twice(book: ClosedBook, auditor: Auditor) -> None:
    value = json.loads(book.file())
    leaves = value["proof"]["leaves"]
    value["proof"]["leaves"] = [*leaves, leaves[0]]
    assert any("it is there twice" in it for it in auditor.found(signed_again(value))[1])


def test_two_clients_that_are_shown_two_roots_see_it(book: ClosedBook, auditor: Auditor) -> None:
    """Each has a root with itself alone in it. Both are signed; there is one list for everybody."""
    value = json.loads(book.file())
    forged = signed_again(alone_in_the_root(value))
    assert auditor.found(forged) == (0, [])  # by itself nothing tells it
    code, wrong = auditor.found(forged, roots=book.published())
    assert (code, wrong) == (1, ["root 1 of the statement is not in the list: others see another"])


def alone_in_the_root(value: dict[str, Any]) -> dict[str, Any]:
    tree = Tree({"acme": value["statement"]["money"]["closing_sat"]}, KEY.blinding("00" * 32, 1))
    value = with_root_of(value, tree)
    value["proof"]["leaves"] = [
        {
            "index": it.index,
            "amount_sat": it.amount_sat,
            "nonce": it.nonce.hex(),
            "path": [{"hash": beside.hash.hex(), "sum_sat": beside.sum_sat} for beside in it.path],
        }
        for it in tree.leaves("acme")
    ]
    return value


def test_a_total_below_what_is_owed_is_found_by_everybody(book: ClosedBook, auditor: Auditor) -> None:
    value = json.loads(book.file())
    root, reserve = value["proof"]["root"], value["statement"]["reserve"]
    root["total_sat"] -= 1
    reserve["owed_sat"] -= 1
    reserve["free_sat"] += 1
    code, wrong = auditor.found(signed_again(value))
    assert code == 1
    assert all("root above leaf" in it for it in wrong)


def test_a_root_that_is_made_again_later_does_not_go_on(book: ClosedBook, auditor: Auditor) -> None:
    first, second = book.published()
    again = root_signed_again(first | {"total_sat": first["total_sat"] - 1})
    _, wrong = auditor.found(book.file(), roots=[again, second])
    assert any(it.startswith("what is before root 2") for it in wrong)
    third_day = book.file(from_day=DAY + timedelta(2), days=1)
    value = json.loads(book.file())
    value["proof"]["root"] = again
    code, wrong = auditor.found(third_day, previous=signed_again(value))
    assert code == 1
    assert any(it.startswith("what is before the root") for it in wrong)


def test_work_that_is_paid_below_its_price_is_found(book: ClosedBook, auditor: Auditor) -> None:
    """He takes a satoshi of every settlement, and all sums go together."""
    value = json.loads(book.file())
    of, settled = value["statement"], value["proof"]["settlements"]
    for it in settled:
        it["credit_psat"] -= 10**12
        it["posted_sat"] -= 1
    taken = len(settled)
    of["rates"][0]["credit_sat"] -= taken
    of["money"]["credits_sat"] -= taken
    _, wrong = auditor.found(signed_again(value))
    assert sum(it.startswith("credit of settlement") for it in wrong) == taken


def test_work_that_is_counted_and_credited_in_part_is_found(
    sqlite_databases: SqliteDatabases, auditor: Auditor
) -> None:
    """He tells him all that his machines count themselves, twice what he settles, and each settlement is
    right: half of the work was his, and nothing was wrong."""
    with fresh_store(sqlite_databases) as store:
        book = ClosedBook(store)
        book.close(1)
        rate = book.rate()
        work = Tally(
            worker_id=100, rate_id=rate, minute=DAY_S // 60 + 1500, difficulty_log2=18, verdict=0, shares=9
        )
        book.tally([work])
        book.settle(DAY_S + 86_400 + 3 * 3600)
        book.close(2)
        first, second = book.file(days=1), book.file(from_day=DAY + timedelta(1), days=1)
    assert auditor.found(second, previous=first) == (0, [])
    forged = counted_twice(json.loads(first))
    assert auditor.found(forged) == (0, [])
    assert any("accepted shares of this period are credited" in it for it in auditor.open)
    _, wrong = auditor.found(second, previous=forged)
    assert [it for it in wrong if "accepted shares of the period before" in it] == wrong
    assert wrong[0].startswith("49283072 accepted"), wrong


def counted_twice(value: dict[str, Any]) -> bytes:
    """As who has the key tells twice the work."""
    work = value["statement"]["work"]
    for it in (work["total"], *work["containers"], *work["workers"]):
        done = 2 * Fraction(it["work"])
        hashrate = int(done * (1 << 256) / angara_verify.DIFF1 / angara_verify.DAY_S)
        it.update(accepted=2 * it["accepted"], work=str(done), hashrate_hps=hashrate)
    for it in value["statement"]["timeline"]:
        it["accepted"] *= 2
    return signed_again(value)


def with_energy(value: dict[str, Any], energy: dict[str, Any] | None, **money: int) -> bytes:
    """Of a statement, as who has the key writes it: so much is taken for energy, or paid by the grid."""
    of = value["statement"]["money"]
    of.update(money)
    for name in ("closing_sat", "closing_payable_sat"):
        of[name] += money.get("grid_sat", 0) - money.get("energy_sat", 0)
    if energy is not None:
        sums = ("due_before_sat", "charged_sat", "collected_sat", "due_after_sat", "carry_in_psat")
        none: dict[str, Any] = dict.fromkeys((*sums, "carry_out_psat"), 0)
        none |= {"charges": [], "payments": []}
        value["statement"]["energy"] = none | energy
    return signed_again(alone_in_the_root(value))


def test_money_that_no_payout_has_is_found(book: ClosedBook, auditor: Auditor) -> None:
    value = json.loads(book.file())
    of = value["statement"]["money"]
    of["payouts_sat"] += 10_000
    for name in ("closing_sat", "closing_payable_sat"):
        of[name] -= 10_000
    _, wrong = auditor.found(signed_again(alone_in_the_root(value)))
    assert wrong == ["payouts, as they are listed: it says 10000, and it is 0"]


def test_terms_of_before_that_are_others_than_before_are_found(book: ClosedBook, auditor: Auditor) -> None:
    """A fee of 90 % that the tenant is said to have had all along: his work was paid by it, as agreed."""
    first, value = book.file(), json.loads(book.file(from_day=DAY + timedelta(2), days=1))
    (terms,) = value["statement"]["terms"]
    terms["fee_bps"] = 9_000
    forged = signed_again(value)
    assert auditor.found(forged) == (0, [])
    _, wrong = auditor.found(forged, previous=first)
    assert [it.partition(":")[0] for it in wrong] == ["terms at its beginning, against the statement before"]


def test_money_for_energy_of_which_nothing_is_told_is_found(book: ClosedBook, auditor: Auditor) -> None:
    value = json.loads(book.file())
    _, wrong = auditor.found(with_energy(value, None, energy_sat=10_000))
    assert wrong == ["energy that was collected, of which nothing is told: it says 10000, and it is 0"]


def test_of_what_the_grid_paid_nothing_is_kept(book: ClosedBook, auditor: Auditor) -> None:
    value, paid = json.loads(book.file()), {"payments": [{"tenant_sat": 10_000}]}
    _, wrong = auditor.found(with_energy(value, paid, grid_sat=1_000))
    assert wrong == ["what the grid paid: it says 1000, and it is 10000"]


def test_a_debt_for_energy_that_was_none_the_day_before_is_found(book: ClosedBook, auditor: Auditor) -> None:
    """He says that so much was due already, and collects it; nothing was charged, on either day."""
    first, value = book.file(), json.loads(book.file(from_day=DAY + timedelta(2), days=1))
    forged = with_energy(value, {"due_before_sat": 10_000, "collected_sat": 10_000}, energy_sat=10_000)
    assert auditor.found(forged) == (0, [])
    _, wrong = auditor.found(forged, previous=first)
    assert wrong == ["energy that was due, against the statement before: it says 10000, and it is 0"]


FEES_OF: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "the block that paid most is left out": (
        lambda fees: fees["bases"][0].update(blocks=[[0, 142]]),
        "143 blocks, and not 144 one after the other",
    ),
    "one paid less than it says": (
        lambda fees: fees.update(blocks=[it | {"fees_sat": 1} for it in fees["blocks"]]),
        "block fees of rate 1: it says 4000009, and it is",
    ),
    "an older one stands for the one that paid most": (
        lambda fees: fees["blocks"][0].update(height=1),
        "144 blocks, and not 144 one after the other",
    ),
    "they are later ones": (
        lambda fees: fees.update(blocks=[it | {"height": it["height"] + 99} for it in fees["blocks"]]),
        "its blocks are later than the work",
    ),
    "one counts twice": (
        lambda fees: fees["blocks"][1].update(hash=fees["blocks"][0]["hash"]),
        "or one is there twice",
    ),
    "there is no list": (lambda fees: fees.update(bases=[]), "there is no list of blocks that they are of"),
    "there are two": (lambda fees: fees["bases"].append(fees["bases"][0]), "goes by none, or by two lists"),
    "it has blocks that are not listed": (
        lambda fees: fees["bases"][0].update(blocks=[[1, 144]]),
        "has other blocks than are listed",
    ),
}


@pytest.mark.parametrize("cheat", FEES_OF)
def test_block_fees_that_are_not_the_mean_of_the_last_blocks_are_found(
    book: ClosedBook, auditor: Auditor, cheat: str
) -> None:
    """What FPPS is paid by, beside the subsidy: a pool that could choose would choose the cheap ones."""
    change, words = FEES_OF[cheat]
    value = json.loads(book.file())
    change(value["proof"]["block_fees"])
    code, wrong = auditor.found(signed_again(value))
    assert (code != 0, any(words in it for it in wrong)) == (True, True), wrong


def test_a_list_of_fees_that_a_price_goes_by_for_long_is_told(book: ClosedBook, auditor: Auditor) -> None:
    """A pool that makes a new one only when blocks pay less keeps the cheapest one of two weeks."""
    assert auditor.found(book.file()) == (0, [])
    assert [it for it in auditor.open if it.startswith("why rate 1 goes by fees") and "for 24 hours" in it]


def test_work_that_is_paid_by_terms_that_were_over_is_told(book: ClosedBook, auditor: Auditor) -> None:
    """His fee was to be less from the morning on, and was taken all day."""
    value = json.loads(book.file())
    (terms,) = value["statement"]["terms"]
    value["statement"]["terms"].append(terms | {"fee_bps": 100, "changed_at_utc": f"{DAY}T06:00:00Z"})
    assert auditor.found(signed_again(value)) == (0, [])
    assert [it for it in auditor.open if it.startswith("why rate 1 is of work") and "did not hold" in it]


def test_a_fee_that_was_not_agreed_to_is_found(book: ClosedBook, auditor: Auditor) -> None:
    value = json.loads(book.file())
    value["statement"]["terms"] = [it | {"fee_bps": 100} for it in value["statement"]["terms"]]
    value["statement"]["rates"][0]["first_hour_utc"] = value["statement"]["rates"][0]["last_hour_utc"]
    wrong = auditor.found(signed_again(value))[1]
    assert "rate 1: fpps less 250 bps is none of your terms" in wrong


def test_another_key_is_told(book: ClosedBook, auditor: Auditor) -> None:
    value, other = json.loads(book.file()), ProofKey(bytes(31) + b"\7")
    value["proof"]["root"]["key"] = other.public.hex()
    code, (wrong,) = auditor.found(signed_again(value, other))
    assert code == 1
    assert wrong.startswith(f"key of the statement is {other.public.hex()}, which does not follow from")


@pytest.mark.parametrize(
    ("data", "taken"),
    [
        ({"statement": {}}, {"roots", "previous", "reserve"}),
        ({"closings": [], "hour_utc": ""}, {"roots", "against"}),
        ({"hour_utc": ""}, {"roots", "previous", "counted"}),
        ([{"hour_utc": ""}], {"roots", "previous", "counted"}),
        ({"invoice": {}}, {"roots", "previous", "against"}),
        ({"coins": []}, {"roots"}),
        ([{"change": 1}], {"previous"}),
        ([{"day": "", "number": 1}], {"previous"}),
        ([{"first_settlement": 1}], {"previous"}),
    ],
)
def test_what_is_given_beside_a_file_that_is_not_for_it_is_said_and_never_ignored(
    data: Any, taken: set[str], tmp_path: Path
) -> None:
    (file := tmp_path / "file.json").write_text(json.dumps(data))
    for name in ("roots", "previous", "counted", "against", "reserve"):
        asked = angara_verify.parser().parse_args([str(file), f"--{name}", str(tmp_path / "missing")])
        with pytest.raises(angara_verify.Unreadable) as told:
            angara_verify.checked(asked)
        assert str(told.value).startswith(f"--{name} is for ") == (name not in taken), name
