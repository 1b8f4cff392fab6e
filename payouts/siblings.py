"""Blocks of ours that follow a parent which another of ours follows already, and were never submitted.

Only one of them can be in the chain. Chance found them all, so luck counts them; money does not.

Invariants: counts only grow; everything is done in the caller's transaction. Must not know: nodes.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from sqlalchemy import Connection, Table, delete, func, insert, select

from payouts.book_time import book_time
from payouts.schemas.money import sibling_blocks, sibling_reports
from payouts.schemas.upsert import Insert, upserts

REPORTS_KEPT_S: Final = 86_400  # who tells one again does so within seconds of the answer that was lost


class SiblingKey(msgspec.Struct, frozen=True):
    """What siblings are counted by: their parent, and who found them (0: nobody who is known)."""

    parent_hash: str
    height: int
    worker_id: int
    pays_pool: bool


def count_siblings(connection: Connection, counts: Mapping[SiblingKey, int], now_s: int) -> None:
    """Add blocks that were found and not submitted."""
    now_s = book_time(connection, now_s)
    for key, count in counts.items():
        row = {
            "parent_hash": key.parent_hash,
            "worker_id": key.worker_id,
            "pays_pool": int(key.pays_pool),
            "height": key.height,
            "found_at_s": now_s,
            "blocks": count,
        }
        connection.execute(_ADD[connection.dialect.name][sibling_blocks.name], row)


def note_report(connection: Connection, report: str, now_s: int) -> bool:
    """Whether it comes for the first time: what it counts is to be added then."""
    known = connection.scalar(select(func.count()).where(sibling_reports.c.report == report))
    if known:
        return False
    connection.execute(delete(sibling_reports).where(sibling_reports.c.at_s < now_s - REPORTS_KEPT_S))
    connection.execute(insert(sibling_reports).values(report=report, at_s=now_s))
    return True


def siblings_between(connection: Connection, from_s: int, to_s: int) -> int:
    """How many blocks that would have paid the pool were not submitted, by when they were first counted."""
    total = connection.scalar(
        select(func.coalesce(func.sum(sibling_blocks.c.blocks), 0)).where(
            sibling_blocks.c.pays_pool == 1,
            sibling_blocks.c.found_at_s >= from_s,
            sibling_blocks.c.found_at_s < to_s,
        )
    )
    return int(total or 0)


def _adding(table: Table, new: Insert) -> Insert:
    key = ["parent_hash", "worker_id", "pays_pool"]
    blocks = table.c.blocks + new.excluded.blocks
    return new.on_conflict_do_update(index_elements=key, set_={"blocks": blocks})


_ADD = upserts(sibling_blocks, on=_adding)
