"""Invoices and reserves that a key signed which was replaced since: those of before are believed, and said to
be of such a key; those of after are wrong, whoever has stolen it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from payouts.proof.key import ProofKey
from payouts.sales.invoices import invoice, proof_of
from pool.reports.invoice_document import invoice_document
from pool.reports.render_json import render_json
from tests.fixtures.databases import SqliteDatabases, fresh_store
from tests.histories.invoices import Invoiced
from tests.histories.proof import KEY, Auditor, change_at, root_signed_again
from tests.histories.receipts import written
from tests.histories.reserves import Vault, file_of, root_of

SECOND = ProofKey(bytes(31) + b"\5", former=(KEY,))
ISSUED, JUST_AFTER = "2026-09-02T04:01:30Z", "2026-09-02T04:01:31Z"
EITHER = (KEY.public.hex(), SECOND.public.hex())


@pytest.fixture
def auditor(tmp_path: Path) -> Auditor:
    return Auditor(tmp_path)


@pytest.fixture(scope="module")
def order(sqlite_databases: SqliteDatabases) -> Iterator[Invoiced]:
    """With an invoice of midnight, and one of four o'clock on the second. Nobody changes it."""
    with fresh_store(sqlite_databases) as store:
        yield Invoiced(store)


def signed(order: Invoiced, number: int, key: ProofKey) -> bytes:
    with order.store.read() as connection:
        found = invoice(connection, number)
        return render_json(invoice_document(found, proof_of(found, key)))


def replaced(at_utc: str) -> list[dict[str, Any]]:
    """What is published then: a root of the first key, and the change."""
    root = root_of()
    return [msgspec.to_builtins(root), change_at(at_utc, KEY, SECOND, root)]


def test_an_invoice_of_before_is_believed_and_one_of_after_is_not(order: Invoiced, auditor: Auditor) -> None:
    roots, told = replaced("2026-09-02T02:00:00Z"), written(order.told()[:2])
    first, second = signed(order, 1, KEY), signed(order, 2, KEY)
    late = "it was made when its key was replaced already"
    for key in EITHER:
        assert auditor.found(first, roots=roots, key=key, against=told) == (0, [])
        assert any("was replaced at 2026-09-02T02:00Z" in it for it in auditor.open)
        assert "who made it, before you pay: ask for it again, it is signed by the new key" in auditor.open
        assert auditor.found(second, roots=roots, key=key) == (1, [late])
        assert auditor.found(second, roots=replaced(ISSUED), key=key) == (1, [late])
        assert auditor.found(second, roots=replaced(JUST_AFTER), key=key) == (0, [])
        again = signed(order, 2, SECOND)
        assert auditor.found(again, roots=roots, key=key, previous=first) == (0, [])
        assert not any("before you pay" in it for it in auditor.open)
        before = signed(order, 1, SECOND)  # asked for again, it has the new key's signature
        assert auditor.found(again, roots=roots, key=key, previous=before) == (0, [])
        code, wrong = auditor.found(again, roots=replaced("2026-09-01T12:00:00Z"), key=key, previous=first)
        assert (code, wrong) == (1, [f"an invoice before: {late}"])
    code, (unknown,) = auditor.found(first, key=SECOND.public.hex())
    assert (code, "which does not follow from the one that you gave" in unknown) == (1, True)


def test_a_reserve_of_before_is_believed_and_one_of_after_is_not(auditor: Auditor) -> None:
    """Its block is of six o'clock; who has stolen the key has no coins that sign an earlier one, and a block
    may say that it is two hours later than it is."""
    old = file_of(Vault().reserve())
    late = ["its block is of when the key was replaced already that signed the reserve"]
    for at_utc, good in (
        ("2026-09-03T00:00:00Z", True),
        ("2026-09-02T04:00:01Z", True),
        ("2026-09-02T04:00:00Z", False),
        ("2026-09-02T00:00:00Z", False),
    ):
        for key in EITHER:
            found = auditor.found(old, roots=replaced(at_utc), key=key)
            assert found == ((0, []) if good else (1, late)), at_utc
            assert any(f"was replaced at {at_utc[:16]}Z" in it for it in auditor.open)


def test_the_key_that_followed_signs_for_a_root_of_before_and_not_the_other_way(auditor: Auditor) -> None:
    vault, (first, change) = Vault(), replaced("2026-09-02T05:00:00Z")
    new = file_of(vault.reserve(key=SECOND))
    bare = msgspec.to_builtins(root_of(1)) | {"key": SECOND.public.hex(), "previous": change["hash"]}
    later = root_signed_again(bare, SECOND)
    stolen = file_of(vault.reserve(msgspec.convert(later, type(root_of())), key=KEY))
    for key in EITHER:
        assert auditor.found(new, roots=[first, change], key=key) == (0, [])
        assert "why the reserve has another key than its root" in auditor.open
        code, wrong = auditor.found(stolen, roots=[first, change, later], key=key)
        assert (code, wrong) == (1, ["the reserve is signed by a key that its root's had replaced"])
