"""A book whose days are closed and whose statements are signed; and their files, as thieves alter them."""

import json
from collections.abc import Iterator
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from payouts.book_time import book_time
from payouts.proof import angara_verify
from payouts.proof.evidence import proof_of
from payouts.proof.key import ProofKey
from payouts.proof.key_changes import KeyChange, changes_of_keys, due_key_change, note_key_change
from payouts.proof.roots import Root, closed, due_day, note, roots
from payouts.statements.statement import statement
from payouts.tallies import Tally
from pool.books.book import bind
from pool.books.store import Store
from pool.cli.bookkeeping.proof import with_changes
from pool.reports.render_json import render_json
from pool.reports.statement_document import statement_document
from tests.histories.statements import BOREALIS, DAY, DAY_S, History

SECRET = bytes(range(1, 33))
KEY = ProofKey(SECRET)
Way = tuple[str | int, ...]


class ClosedBook(History):
    """Two tenants that mined, were credited, and of whom one is paid; days are closed by `close`: with
    `key`."""

    def __init__(self, store: Store, *, by_hand: bool = True) -> None:
        super().__init__(store)
        self.key = KEY
        bind(store, "main")
        self.set_terms(DAY_S - 86_400, fee_bps=250, tenant_id=BOREALIS)
        for tenant_id in (1, BOREALIS):
            rate = self.rate(tenant_id=tenant_id)
            self.tally(
                [
                    Tally(
                        worker_id=tenant_id * 100,
                        rate_id=rate,
                        minute=DAY_S // 60 + minute,
                        difficulty_log2=18,
                        verdict=0,
                        shares=1 << 20,
                    )
                    for minute in range(0, 1440, 31)
                ]
            )
        self.settle(DAY_S + 86_400 + 120)
        if by_hand:  # which an audit asks the reason of
            self.adjust(12_345, DAY_S + 87_000)
            self.draft(1_000, DAY_S + 90_000)

    def close(self, days: int) -> tuple[Root, ...]:
        """As a pool does it that runs so many days after DAY; the roots that are new."""
        with self.store.write() as connection:
            book_time(connection, DAY_S + days * 86_400)
        new: list[Root] = []
        while True:
            with self.store.read() as connection:
                day = due_day(connection)
                if day is None:
                    return tuple(new)
                root = closed(connection, self.key, day)
            with self.store.write() as connection:
                assert note(connection, root)
            new.append(root)

    def file(
        self, tenant: str = "acme", from_day: date = DAY, days: int = 2, key: ProofKey | None = KEY
    ) -> bytes:
        """The statement as it is written."""
        with self.store.read() as connection:
            of = statement(connection, tenant, from_day, from_day + timedelta(days))
            return render_json(statement_document(of, None if key is None else proof_of(connection, of, key)))

    def change_key(self, key: ProofKey) -> KeyChange:
        """As a pool does it that begins with another one."""
        with self.store.read() as connection:
            change = due_key_change(connection, key)
        assert change is not None
        with self.store.write() as connection:
            assert note_key_change(connection, change)
        self.key = key
        return change

    def published(self) -> list[dict[str, Any]]:
        with self.store.read() as connection:
            found: list[dict[str, Any]] = msgspec.to_builtins(roots(connection))
            changes: list[dict[str, Any]] = msgspec.to_builtins(changes_of_keys(connection))
            return with_changes(found, changes, "root")


def change_signed(change: dict[str, Any], former: ProofKey, key: ProofKey) -> dict[str, Any]:
    """A change of the key, as who has both writes it."""
    change = change | {"former": former.public.hex(), "key": key.public.hex()}
    digest = angara_verify.key_change_hash(change)
    signatures = {"signature": key.sign(digest).hex(), "former_signature": former.sign(digest).hex()}
    return change | {"hash": digest.hex()} | signatures


def change_at(at_utc: str, former: ProofKey, key: ProofKey, root: Root) -> dict[str, Any]:
    """The first change, behind that root."""
    change = {
        "change": 1,
        "root": root.number,
        "root_hash": root.hash,
        "closing": 0,
        "closing_hash": "0" * 64,
        "lost": False,
        "at_utc": at_utc,
        "network": root.network,
        "genesis": root.genesis,
        "book": root.book,
        "previous": "0" * 64,
    }
    return change_signed(change, former, key)


class Auditor:
    """Who checks files with nothing but `angara_verify`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files = 0
        self.open: list[str] = []

    def found(
        self,
        data: bytes,
        *,
        roots: object = None,
        previous: bytes | list[bytes] | None = None,
        counted: bytes | None = None,
        against: bytes | None = None,
        reserve: bytes | None = None,
        key: str | None = KEY.public.hex(),
    ) -> tuple[int, list[str]]:
        """The exit code, and what is wrong; what could not be checked is in `open` after it."""
        arguments = [self._kept(data)]
        if roots is not None:
            arguments += ["--roots", self._kept(json.dumps(roots).encode())]
        for one in [] if previous is None else previous if isinstance(previous, list) else [previous]:
            arguments += ["--previous", self._kept(one)]
        if counted is not None:
            arguments += ["--counted", self._kept(counted)]
        if against is not None:
            arguments += ["--against", self._kept(against)]
        if reserve is not None:
            arguments += ["--reserve", self._kept(reserve)]
        if key is not None:
            arguments += ["--key", key]
        parsed = angara_verify.parser().parse_args(arguments)
        try:
            report = angara_verify.checked(parsed)
            self.open = report.open
        except angara_verify.Unreadable as error:
            return 2, [str(error)]
        return (1 if report.wrong else 0), report.wrong

    def _kept(self, data: bytes) -> str:
        self._files += 1
        path = self._directory / f"{self._files % 8}.json"
        path.write_bytes(data)
        return str(path)


def signed_again(value: dict[str, Any], key: ProofKey = KEY) -> bytes:
    """As a thief writes it who has the pool's key: whatever he changed, hashes and signatures are right."""
    statement_hash = sha256(angara_verify.canonical(value["statement"])).hexdigest()
    value["content_sha256"] = statement_hash
    proof = value["proof"]
    proof["root"] = root_signed_again(proof["root"], key)
    proof["signature"] = key.sign(angara_verify.signed_message(statement_hash, proof)).hex()
    return angara_verify.as_written(value)


def root_signed_again(root: dict[str, Any], key: ProofKey = KEY) -> dict[str, Any]:
    digest = angara_verify.root_hash(root)
    return root | {"hash": digest.hex(), "signature": key.sign(digest).hex()}


def fields(value: Any, path: Way = ()) -> Iterator[Way]:
    """The way to every value in it."""
    inner: Any = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    yield path
    for name, it in inner:
        yield from fields(it, (*path, name))


def kinds_of_fields(value: Any) -> list[Way]:
    """One way to each kind of value: of rows of a list the last one."""
    return list(
        {tuple("*" if isinstance(it, int) else it for it in path): path for path in fields(value)}.values()
    )


def altered(value: Any, path: Way, new: object) -> Any:
    """A copy with another value there."""
    copy = json.loads(json.dumps(value))
    if not path:
        return new
    inner = copy
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = new
    return copy
