"""The chain of closings against the settlements: each goes on where the one before it ended, names the head
that the ledger had then, and its root is that of what was settled; and the shares that are there are those of
their settlement's root.

Must not know: the key.
"""

import msgspec
from sqlalchemy import Connection, func, select

from payouts.audit.finding import Found
from payouts.audit.key_changes import Links
from payouts.book_time import latest_s
from payouts.proof.angara_verify import closing_hash, signed_by
from payouts.proof.closings import (
    KEPT_S,
    Closing,
    closings,
    head_at,
    leaf_of,
    names_of,
    settled,
    tree_of,
)
from payouts.proof.key_changes import changes_of_keys
from payouts.proof.share_tree import Tree, unpacked
from payouts.schemas.money import settlements
from payouts.schemas.proof import share_closings, share_leaves, share_parts, share_roots

TABLE = "share_closings"
LEAVES_CHECKED = 4_096  # settlements, the newest: a day. An older one that is wrong proves nothing to anybody
DAY_H = 24


def check_closings(connection: Connection) -> None:
    """Raises Found for the first that is wrong."""
    found = closings(connection)
    if len(found) != connection.scalar(select(func.count()).select_from(share_closings)):
        raise Found(TABLE, "all", "the book is bound to no chain")
    before: Closing | None = None
    links = Links(changes_of_keys(connection), TABLE)
    for it in found:
        if not links.passes(it.number, it.previous, it.key, it.hash):
            raise Found(TABLE, it.number, "it does not follow the one before it")
        _check_row(connection, it, before)
        before = it
    links.ends()
    strangers = select(func.count()).where(share_roots.c.closing.not_in(select(share_closings.c.number)))
    if connection.scalar(strangers):
        raise Found(share_roots.name, "all", "it is of no closing")
    _check_leaves(connection)
    for row in connection.execute(select(share_parts)):
        try:
            unpacked(row.packed)
        except ValueError as error:
            raise Found(share_parts.name, row.writer, str(error)) from None


def _check_row(connection: Connection, it: Closing, before: Closing | None) -> None:
    if before is not None and (it.first_settlement, it.book) != (before.last_settlement + 1, before.book):
        raise Found(TABLE, it.number, "it does not follow the one before it")
    digest = closing_hash(msgspec.to_builtins(it))
    if it.hash != digest.hex():
        raise Found(TABLE, it.number, "its hash is not that of its content")
    if not _is_signed(it, digest):
        raise Found(TABLE, it.number, "it is not signed by its key")
    if (it.ledger_seq, it.ledger_hash) != head_at(connection, it.last_settlement):
        raise Found(TABLE, it.number, "the ledger had another head then")
    try:
        root = tree_of(settled(connection, it)).root.hex()
    except ValueError as error:  # what is in a row is no JSON, too
        raise Found(share_roots.name, it.number, str(error)) from None
    if root != it.root:
        raise Found(TABLE, it.number, "its root is not that of its settlements")


def _is_signed(it: Closing, digest: bytes) -> bool:
    try:
        return signed_by(bytes.fromhex(it.key), digest, bytes.fromhex(it.signature))
    except ValueError:
        return False


def _check_leaves(connection: Connection) -> None:
    """Those whose time is over may be missing, and no others."""
    of = share_leaves.c
    since = (latest_s(connection) - KEPT_S) // 3600 + DAY_H
    missing = (
        select(func.min(share_roots.c.settlement_seq))
        .join(settlements, settlements.c.seq == share_roots.c.settlement_seq)
        .join(share_leaves, of.settlement_seq == share_roots.c.settlement_seq, isouter=True)
        .where(of.settlement_seq.is_(None), share_roots.c.kept != "{}", settlements.c.hour >= since)
    )
    if (seq := connection.scalar(missing)) is not None:
        raise Found(share_leaves.name, seq, "its shares are missing")
    query = (
        select(share_leaves, share_roots.c.root)
        .join(share_roots, share_roots.c.settlement_seq == of.settlement_seq, isouter=True)
        .order_by(of.settlement_seq.desc())
        .limit(LEAVES_CHECKED)
    )
    for row in connection.execute(query.execution_options(yield_per=16)):
        try:
            kept = unpacked(row.packed)
            names = names_of(connection, {it.worker_id for it in kept})
            root = Tree([leaf_of(it, names) for it in kept]).root.hex()
        except (ValueError, KeyError, OverflowError):
            root = ""
        if root != row.root:
            raise Found(share_leaves.name, row.settlement_seq, "these are not the shares of its root")
