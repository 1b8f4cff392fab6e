"""A change of the key that is signed with: one row, signed by the new key and by the one before it.

Who knows the key of before follows its signature to the new one, and from there to the next. Where the key of
before is lost there is no signature of it, which every client is told: he has to be told the new key in the
way in which he was told the first one. A key that was replaced is never taken again: somebody may have it.

Invariants: a change is the next link of roots, of closings and of changes; what it says is before it does not
change. Must not know: where keys are kept.
"""

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, insert, select

from payouts.book_time import latest_s
from payouts.proof.angara_verify import key_change_hash
from payouts.proof.key import NoSigning, ProofKey
from payouts.proof.links import key_of_book, next_link, see_that_it_signs
from payouts.proof.roots import binding
from payouts.schemas.proof import key_changes, liability_roots, share_closings
from payouts.statements.period import utc


class KeyChange(msgspec.Struct, frozen=True, kw_only=True):
    """A row as it is published, and hashed: `hash` and both signatures are over all the rest. `root` and
    `closing` are the newest of then, and the hashes what was before the next of each. `lost`: nobody had the
    former key, and there is no signature of it."""

    change: int
    former: str
    key: str
    root: int
    root_hash: str
    closing: int
    closing_hash: str
    lost: bool
    at_utc: str
    network: str
    genesis: str
    book: str
    previous: str
    hash: str = ""
    signature: str = ""
    former_signature: str = ""


def due_key_change(connection: Connection, key: ProofKey) -> KeyChange | None:
    """The change from the book's key to this one; None where it is that, or the first. Reads only. Raises
    NoSigning where neither the book's key is known nor it is said that nobody has it."""
    of_book, mine, bound = key_of_book(connection), key.public.hex(), binding(connection)
    if of_book is None or of_book == mine or bound is None:
        return None
    before = select(func.count()).where(key_changes.c.former == mine)
    if connection.scalar(before):
        raise NoSigning(f"the key {mine} was replaced, and is not taken again: make another one")
    former = key.of(of_book)
    if former is None and key.lost != of_book:
        see_that_it_signs(connection, key)
    (root, root_hash), (closing, closing_hash), (number, previous) = (
        next_link(connection, it) for it in (liability_roots, share_closings, key_changes)
    )
    change = KeyChange(
        change=number,
        former=of_book,
        key=mine,
        root=root - 1,
        root_hash=root_hash,
        closing=closing - 1,
        closing_hash=closing_hash,
        lost=former is None,
        at_utc=utc(latest_s(connection)),
        network=bound[0],
        genesis=bound[1],
        book=bound[2],
        previous=previous,
    )
    digest = key_change_hash(msgspec.to_builtins(change))
    return msgspec.structs.replace(
        change,
        hash=digest.hex(),
        signature=key.sign(digest).hex(),
        former_signature="" if former is None else former.sign(digest).hex(),
    )


def note_key_change(connection: Connection, it: KeyChange) -> bool:
    """Write it down, unless something was signed since: a change that is behind other rows is none any
    more."""
    links = (
        (it.root + 1, it.root_hash),
        (it.closing + 1, it.closing_hash),
        (it.change, it.previous),
    )
    chains = (liability_roots, share_closings, key_changes)
    if links != tuple(next_link(connection, chain) for chain in chains):
        return False
    connection.execute(
        insert(key_changes).values(
            number=it.change,
            former=it.former,
            key=it.key,
            root=it.root,
            root_hash=it.root_hash,
            closing=it.closing,
            closing_hash=it.closing_hash,
            lost=int(it.lost),
            at_s=int(datetime.fromisoformat(it.at_utc).timestamp()),
            book=it.book,
            prev_hash=it.previous,
            hash=it.hash,
            signature=it.signature,
            former_signature=it.former_signature,
        )
    )
    return True


def changes_of_keys(connection: Connection) -> tuple[KeyChange, ...]:
    """All, in their order."""
    bound = binding(connection)
    if bound is None:
        return ()
    rows = connection.execute(select(key_changes).order_by(key_changes.c.number))
    return tuple(_change(row, bound) for row in rows)


def _change(row: Row[Any], bound: tuple[str, str, str]) -> KeyChange:
    return KeyChange(
        change=row.number,
        former=row.former,
        key=row.key,
        root=row.root,
        root_hash=row.root_hash,
        closing=row.closing,
        closing_hash=row.closing_hash,
        lost=bool(row.lost),
        at_utc=utc(row.at_s),
        network=bound[0],
        genesis=bound[1],
        book=row.book,
        previous=row.prev_hash,
        hash=row.hash,
        signature=row.signature,
        former_signature=row.former_signature,
    )
