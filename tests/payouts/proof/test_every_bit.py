"""Every single bit of a statement, of receipts, of an hour of shares and of one share's proof: whichever of
them is another one, `angara verify` says so. Samples of them are in every run of the tests of each.

Here it stops at the first thing that is wrong, which is never taken back, and reads from memory. A file is
good as a pool writes it and in no other way, so a bit that would change nothing in what it means, a space or
a letter's case in an escape, is found like any other.
"""

from argparse import Namespace
from collections.abc import Callable
from functools import cache

import pytest
from coincurve import PublicKeyXOnly

from payouts.proof import angara_verify
from payouts.proof.angara_verify import Report, Unreadable, parser
from pool.books.store import Store
from tests.fixtures.databases import SqliteDatabases, fresh_store
from tests.histories.proof import KEY, ClosedBook
from tests.histories.receipts import closed_order, written
from tests.histories.shares import FIRST, MinedHours
from tests.histories.statements import ACME


def a_statement(store: Store) -> bytes:
    book = ClosedBook(store)
    book.close(2)
    return book.file()


def receipts(store: Store) -> bytes:
    return written(closed_order(store).told())


def an_hour_of_shares(store: Store) -> bytes:
    return mined(store)[0].shares_file(FIRST)


def a_share(store: Store) -> bytes:
    book, hashes = mined(store)
    return book.shares_file(FIRST, share=hashes[1])


def mined(store: Store) -> tuple[MinedHours, list[bytes]]:
    book = MinedHours(store)
    hashes = sorted(it.hash for it in book.mine_hour(FIRST, workers=[ACME * 100]))
    book.close_hours((FIRST + 1) * 3600 + 120)
    return book, hashes


class Wrong(Exception):
    """Something is."""


class NothingYet(list[str]):
    """What is wrong, until there is anything."""

    def append(self, words: str) -> None:
        raise Wrong(words)


class HastyReport(Report):
    def __init__(self) -> None:
        super().__init__()
        self.wrong = NothingYet()


@cache
def signed_by(key: bytes, message: bytes, signature: bytes) -> bool:
    """By the library that signs, which is fifty times as fast: that both agree is another test's."""
    try:
        return bool(PublicKeyXOnly(key).verify(signature, message))
    except ValueError:
        return False


def is_found(asked: Namespace) -> bool:
    try:
        angara_verify.checked(asked)
    except (Wrong, Unreadable):
        return True
    return False


PARTS = 16  # each of which ends within the suite's five minutes


@pytest.mark.soak
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("made", [a_statement, receipts, an_hour_of_shares, a_share])
def test_every_single_bit_that_is_another_is_found(
    sqlite_databases: SqliteDatabases,
    monkeypatch: pytest.MonkeyPatch,
    made: Callable[[Store], bytes],
    part: int,
) -> None:
    with fresh_store(sqlite_databases) as store:
        data = bytearray(made(store))
    monkeypatch.setattr(angara_verify, "Report", HastyReport)
    monkeypatch.setattr(angara_verify, "signed_by", signed_by)
    monkeypatch.setattr(angara_verify, "read", lambda _: bytes(data))
    asked = parser().parse_args(["in memory", "--key", KEY.public.hex()])
    assert not is_found(asked)
    missed = []
    for bit in range(part, 8 * len(data), PARTS):
        data[bit // 8] ^= 1 << bit % 8
        if not is_found(asked):
            missed.append(bit)
        data[bit // 8] ^= 1 << bit % 8
    print(f"{8 * len(data)} bits of {made.__name__}")
    assert not missed
