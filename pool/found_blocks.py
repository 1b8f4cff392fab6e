"""Blocks that are on disk and not in the books: what a kill between the two left behind.

`pool.blocks` keeps every found block as <height>-<hash>.<state>. At the start each that a node took is
compared with the books, so that income is never missing. Must not know: nodes.
"""

from pathlib import Path
from typing import Final

import structlog
from bitcoin.core import CBlock
from sqlalchemy import Connection, select

from payouts import income
from payouts.income import Block
from payouts.schema import blocks

log = structlog.get_logger()

TAKEN: Final = (".accepted", ".inconclusive")


def book_found_blocks(connection: Connection, directory: Path, payout_script: bytes, now_s: int) -> int:
    """Book every block on disk that the books do not have; how many. The finder is not known any more."""
    known = set(connection.scalars(select(blocks.c.hash)))
    count = 0
    for path in sorted(directory.glob("*-*")):
        height, _, hash_hex = path.stem.partition("-")
        if path.suffix not in TAKEN or hash_hex in known or not height.isdecimal():
            continue
        paid_sat = income_sat(path.read_bytes(), payout_script)
        found = Block(
            hash=hash_hex, height=int(height), income_sat=paid_sat, worker_id=None, found_at_s=now_s
        )
        income.record_block(connection, found, now_s)
        log.warning("block_booked_late", height=int(height), hash=hash_hex, income_sat=paid_sat)
        count += 1
    return count


def income_sat(block: bytes, payout_script: bytes) -> int:
    """What the block's coinbase pays to the script."""
    coinbase = CBlock.deserialize(block).vtx[0]
    return sum(int(out.nValue) for out in coinbase.vout if bytes(out.scriptPubKey) == payout_script)
