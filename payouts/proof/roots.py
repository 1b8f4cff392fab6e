"""Closing a day: one signed row has the root of all that was owed to tenants when it ended.

A tenant's balance is what is payable and what is in a payout; whoever never had a booking is not in it. A day
is closed when the book's time has passed its end: nothing is dated before that any more, so the same balances
are found whenever they are asked for, and a day that was missed is closed later as it was. The first row is
of the last day that had ended by then.

Invariants: rows are of days one after the other and each has the hash of the one before it, so no day's root
can be made anew without another hash from there on. Must not know: where the key is kept.
"""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, insert, select

from payouts.book_time import latest_s
from payouts.ledger import GENESIS_HASH
from payouts.proof.angara_verify import root_hash, tagged
from payouts.proof.key import ProofKey
from payouts.proof.links import next_link, see_that_it_signs
from payouts.proof.tree import Tree
from payouts.schemas.book import book
from payouts.schemas.money import ledger_accounts, ledger_transactions, tenants
from payouts.schemas.proof import liability_roots
from payouts.statements.period import EPOCH
from payouts.statements.reserve import balances_before

DAY_S = 86_400


class Root(msgspec.Struct, frozen=True, kw_only=True):
    """A row as it is published, and hashed: `hash` and `signature` are over all the rest."""

    number: int
    day: str  # what was owed at its end
    root: str
    total_sat: int
    leaves: int
    ledger_seq: int  # the last transaction by then
    ledger_hash: str
    network: str
    genesis: str
    book: str
    key: str
    previous: str
    hash: str = ""
    signature: str = ""


def due_day(connection: Connection) -> int | None:
    """The next day (since 1970) to be closed; None where all are that are over."""
    ended = latest_s(connection) // DAY_S - 1
    if ended < 0 or binding(connection) is None:
        return None
    last = connection.scalar(select(func.max(liability_roots.c.day)))
    if last is None:
        return ended
    return int(last) + 1 if last < ended else None


def closed(connection: Connection, key: ProofKey, day: int) -> Root:
    """The root of that day, which is due. Reads only. Raises BadTree, NoSigning."""
    see_that_it_signs(connection, key)
    number, previous = next_link(connection, liability_roots)
    bound = binding(connection)
    assert bound is not None
    network, genesis, book_id = bound
    tree = tree_of(connection, key, day, book_id)
    seq, head = _head(connection, (day + 1) * DAY_S)
    root = Root(
        number=number,
        day=_text(day),
        root=tree.root.hash.hex(),
        total_sat=tree.root.sum_sat,
        leaves=tree.size,
        ledger_seq=seq,
        ledger_hash=head,
        network=network,
        genesis=genesis,
        book=book_id,
        key=key.public.hex(),
        previous=previous,
    )
    digest = root_hash(msgspec.to_builtins(root))
    return msgspec.structs.replace(root, hash=digest.hex(), signature=key.sign(digest).hex())


def note(connection: Connection, root: Root) -> bool:
    """Write it down, unless somebody did: a root that does not follow the last one is none any more."""
    if (root.number, root.previous) != next_link(connection, liability_roots):
        return False
    connection.execute(
        insert(liability_roots).values(
            number=root.number,
            day=(date.fromisoformat(root.day) - EPOCH).days,
            root=root.root,
            total_sat=root.total_sat,
            leaves=root.leaves,
            ledger_seq=root.ledger_seq,
            ledger_hash=root.ledger_hash,
            book=root.book,
            key=root.key,
            prev_hash=root.previous,
            hash=root.hash,
            signature=root.signature,
        )
    )
    return True


def roots(connection: Connection, first: int = 1, at_most: int | None = None) -> tuple[Root, ...]:
    """From that number on."""
    bound = binding(connection)
    if bound is None:
        return ()
    rows = connection.execute(
        select(liability_roots)
        .where(liability_roots.c.number >= first)
        .order_by(liability_roots.c.number)
        .limit(at_most)
    )
    return tuple(_root(row, bound) for row in rows)


def root_of(connection: Connection, day: int) -> Root | None:
    """Of the end of that day."""
    bound = binding(connection)
    row = connection.execute(select(liability_roots).where(liability_roots.c.day == day)).one_or_none()
    return None if row is None or bound is None else _root(row, bound)


def newest_root(connection: Connection) -> Root | None:
    """None where no day was closed yet."""
    last = connection.scalar(select(func.max(liability_roots.c.number)))
    found = () if last is None else roots(connection, last)
    return found[0] if found else None


def root_named(connection: Connection, hash_: str) -> Root | None:
    """By its row's hash."""
    number = connection.scalar(select(liability_roots.c.number).where(liability_roots.c.hash == hash_))
    found = () if number is None else roots(connection, number, 1)
    return found[0] if found else None


def tree_of(connection: Connection, key: ProofKey, day: int, book_id: str) -> Tree:
    """Of what was owed at that day's end. Raises BadTree."""
    return Tree(owed_sat(connection, (day + 1) * DAY_S), key.blinding(book_id, day))


def owed_sat(connection: Connection, before_s: int) -> Mapping[str, int]:
    """To every tenant that had a booking by then, by its name."""
    names = connection.execute(
        select(ledger_accounts.c.name, tenants.c.name.label("tenant"))
        .join(tenants, tenants.c.id == ledger_accounts.c.tenant_id)
        .order_by(tenants.c.name, ledger_accounts.c.name)
    ).all()
    balances, owed = balances_before(connection, before_s), dict[str, int]()
    for row in names:
        if row.name in balances:
            owed[row.tenant] = owed.get(row.tenant, 0) + balances[row.name]
    return owed


def binding(connection: Connection) -> tuple[str, str, str] | None:
    """Network, genesis and outside name of the book: of its own name journals make secrets."""
    row = connection.execute(select(book.c.network, book.c.genesis, book.c.uid)).one()
    if row.network is None or row.uid is None:
        return None
    return row.network, row.genesis, tagged("angara/book", row.uid.encode()).hex()


def _text(day: int) -> str:
    return str(EPOCH + timedelta(days=day))


def _root(row: Row[Any], bound: tuple[str, str, str]) -> Root:
    return Root(
        number=row.number,
        day=_text(row.day),
        root=row.root,
        total_sat=row.total_sat,
        leaves=row.leaves,
        ledger_seq=row.ledger_seq,
        ledger_hash=row.ledger_hash,
        network=bound[0],
        genesis=bound[1],
        book=row.book,
        key=row.key,
        previous=row.prev_hash,
        hash=row.hash,
        signature=row.signature,
    )


def _head(connection: Connection, before_s: int) -> tuple[int, str]:
    of = ledger_transactions.c
    row = connection.execute(
        select(of.seq, of.hash).where(of.booked_at_s < before_s).order_by(of.seq.desc()).limit(1)
    ).one_or_none()
    return (row.seq, row.hash) if row else (0, GENESIS_HASH)
