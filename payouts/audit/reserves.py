"""The chain of reserves: each follows the one before it, is of a root of these books, and signed by its key.

What coins signed was looked at when it was noted, and is an auditor's to look at again: a year of it takes
minutes. Must not know: where the key is kept.
"""

import msgspec
from sqlalchemy import Connection, select

from payouts.audit.filled import filled
from payouts.audit.finding import Found
from payouts.ledger import GENESIS_HASH
from payouts.proof.angara_verify import row_hash, signed_by
from payouts.proof.reserves import TAG, Reserve
from payouts.proof.roots import roots
from payouts.schemas.proof import reserves

TABLE = "reserves"


def check_reserves(connection: Connection) -> None:
    """Raises Found for the first that is wrong."""
    if not filled(connection, reserves):
        return
    known = {it.number: it for it in roots(connection)}
    before = (0, GENESIS_HASH)
    for row in connection.execute(select(reserves).order_by(reserves.c.number)):
        try:
            it = msgspec.json.decode(row.content, type=Reserve)
        except msgspec.MsgspecError:
            raise Found(TABLE, row.number, "its content cannot be read") from None
        if (it.number, it.hash, it.total_sat) != (row.number, row.hash, row.total_sat):
            raise Found(TABLE, row.number, "its content is another reserve's")
        if (it.number, it.previous) != (before[0] + 1, before[1]):
            raise Found(TABLE, row.number, "it does not follow the one before it")
        if it.root.number != row.root_number or it.root != known.get(row.root_number):
            raise Found(TABLE, row.number, "its root is none of these books")
        digest = row_hash(TAG, msgspec.to_builtins(it))
        if it.hash != digest.hex():
            raise Found(TABLE, row.number, "its hash is not that of its content")
        if not _is_signed(it, digest):
            raise Found(TABLE, row.number, "it is not signed by its key")
        before = it.number, it.hash


def _is_signed(it: Reserve, digest: bytes) -> bool:
    try:
        return signed_by(bytes.fromhex(it.key), digest, bytes.fromhex(it.signature))
    except ValueError:
        return False
