"""Changes of the key against the chains that they stand in: each follows the one before it, is signed by the
new key, and by the former where that was there; and what it says is before it is what is there.

Must not know: the keys.
"""

from typing import Final, NamedTuple

import msgspec
from sqlalchemy import Connection, func, select

from payouts.audit.finding import Found
from payouts.ledger import GENESIS_HASH
from payouts.proof.angara_verify import key_change_hash, signed_by
from payouts.proof.key_changes import KeyChange, changes_of_keys
from payouts.schemas.proof import key_changes, liability_roots

TABLE: Final = key_changes.name


class Place(NamedTuple):
    """In a chain of rows: the number and the hash of the newest, the key that the next one is signed by."""

    number: int
    link: str
    key: str | None


class Links:
    """What is before each row of a chain, among which keys change. Raises Found where a change is not behind
    what it says."""

    def __init__(self, changes: tuple[KeyChange, ...], name: str) -> None:
        of_roots = name == liability_roots.name
        self._changes = [
            (it, it.root, it.root_hash) if of_roots else (it, it.closing, it.closing_hash) for it in changes
        ]
        self._place = Place(0, GENESIS_HASH, None)
        self._pass_changes()

    def passes(self, number: int, previous: str, key: str, hash_: str) -> bool:
        """Whether that row is the next one; then it is what is before the others."""
        last = self._place
        follows = (number, previous) == (last.number + 1, last.link) and last.key in (None, key)
        self._place = Place(number, hash_, key)
        self._pass_changes()
        return follows

    def _pass_changes(self) -> None:
        while self._changes and self._changes[0][1] == self._place.number:
            change, number, link = self._changes.pop(0)
            if link != self._place.link or self._place.key not in (None, change.former):
                raise Found(TABLE, change.change, "it is behind other rows than it says, or of another key")
            self._place = Place(number, change.hash, change.key)

    def ends(self) -> None:
        """Raises Found for a change that is behind rows that are not there."""
        if self._changes:
            raise Found(TABLE, self._changes[0][0].change, "it is behind rows that are not there")


def check_key_changes(connection: Connection) -> tuple[KeyChange, ...]:
    """Those that there are. Raises Found for the first that is wrong."""
    found = changes_of_keys(connection)
    if len(found) != connection.scalar(select(func.count()).select_from(key_changes)):
        raise Found(TABLE, "all", "the book is bound to no chain")
    before: KeyChange | None = None
    for it in found:
        follows = (
            (it.change, it.previous) == (1, GENESIS_HASH)
            if before is None
            else (it.change, it.previous, it.former, it.book)
            == (before.change + 1, before.hash, before.key, before.book)
        )
        if not follows:
            raise Found(TABLE, it.change, "it does not follow the one before it")
        digest = key_change_hash(msgspec.to_builtins(it))
        if it.hash != digest.hex():
            raise Found(TABLE, it.change, "its hash is not that of its content")
        former_signed = it.lost or _is_signed(it.former, digest, it.former_signature)
        if not former_signed or not _is_signed(it.key, digest, it.signature):
            raise Found(TABLE, it.change, "it is not signed by its keys")
        before = it
    return found


def _is_signed(key: str, digest: bytes, signature: str) -> bool:
    try:
        return signed_by(bytes.fromhex(key), digest, bytes.fromhex(signature))
    except ValueError:
        return False
