"""What upstreams said of the shares that were forwarded to them: packed in the journal, added up when folded.

By hour, tenant and order in `upstream_hours`, for buyers and tenants; by day and machine in `upstream_days`,
for whoever looks for a bad machine.

Invariants: a record that is on disk means the same to every later version, so the numbers of verdicts and
reasons only grow. Everything is done in the caller's transaction, which must be the only writer.
Must not know: what a share is worth, and who counted.
"""

import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec
import structlog
from sqlalchemy import Connection, Table, select

from payouts.ratebook import OWN_WORK, WorkSource
from payouts.schemas.orders import upstream_days, upstream_hours
from payouts.schemas.upsert import Insert, upserts
from pool.books.journal.schema import rate_epochs
from stratum.upstream.shares import RejectReason, SubmitVerdict

log = structlog.get_logger()

VERDICTS: Final = (SubmitVerdict.ACCEPTED, SubmitVerdict.REJECTED, SubmitVerdict.UNANSWERED)
REASONS: Final = (
    None,
    RejectReason.STALE,
    RejectReason.DUPLICATE,
    RejectReason.LOW_DIFFICULTY,
    RejectReason.UNAUTHORISED,
    RejectReason.NOT_SUBSCRIBED,
    RejectReason.OTHER,
)
_KEY: Final = struct.Struct("<II32sBBH")  # worker, epoch, target, verdict, reason, 0
_RECORD: Final = struct.Struct(f"<{_KEY.size}sI")  # and how many
RECORD_BYTES: Final = _RECORD.size


class UpstreamTally(msgspec.Struct, frozen=True):
    """What is counted together: shares of a worker on a rate, with one target and one answer."""

    worker: int
    epoch: int
    target: int
    verdict: SubmitVerdict
    reason: RejectReason | None = None  # where it was rejected


def pack(counts: Mapping[UpstreamTally, int]) -> bytes:
    """For a journal batch; empty where nothing was counted."""
    return b"".join(
        _RECORD.pack(
            _KEY.pack(
                it.worker,
                it.epoch,
                it.target.to_bytes(32, "big"),
                VERDICTS.index(it.verdict),
                REASONS.index(it.reason),
                0,
            ),
            count,
        )
        for it, count in counts.items()
    )


def unpack(batches: Iterable[bytes]) -> dict[UpstreamTally, int]:
    """The counts of many batches, added up."""
    counts: Counter[bytes] = Counter()
    for key, count in _RECORD.iter_unpack(b"".join(batches)):
        counts[key] += count
    return {_unpack(key): count for key, count in counts.items()}


def record(
    connection: Connection, batches: Iterable[tuple[int, bytes]], tenant_of: Callable[[int], int]
) -> None:
    """Add batches, each with its minute, to the hours and days. `tenant_of` a worker's number."""
    by_hour: dict[int, list[bytes]] = {}
    for minute, packed in batches:
        by_hour.setdefault(minute // 60, []).append(packed)
    hours: Counter[tuple[int, int, int, int, str, str, str]] = Counter()
    days: Counter[tuple[int, int, int, str]] = Counter()
    for hour, packed_in_hour in by_hour.items():
        counts = unpack(packed_in_hour)
        sources = _sources(connection, {it.epoch for it in counts})
        for it, shares in counts.items():
            source = sources.get(it.epoch, OWN_WORK)
            if source.upstream_id is None:  # nobody to speak of; it must not be in everybody's way for ever
                log.error("upstream_verdict_of_own_work", epoch=it.epoch, worker=it.worker, shares=shares)
                continue
            target, verdict = f"{it.target:064x}", it.verdict.value
            reason = it.reason.value if it.reason is not None else ""
            tenant_id, order_id = tenant_of(it.worker), source.order_id or 0
            hours[hour, tenant_id, source.upstream_id, order_id, target, verdict, reason] += shares
            days[hour // 24, it.worker, source.upstream_id, verdict] += shares
    for table, sums in ((upstream_hours, hours), (upstream_days, days)):
        if sums:
            names = [column.name for column in table.columns]
            rows = [dict(zip(names, (*key, shares), strict=True)) for key, shares in sums.items()]
            connection.execute(_ADD[connection.dialect.name][table.name], rows)


def _unpack(key: bytes) -> UpstreamTally:
    worker, epoch, target, verdict, reason, _ = _KEY.unpack(key)
    return UpstreamTally(worker, epoch, int.from_bytes(target, "big"), VERDICTS[verdict], REASONS[reason])


def _sources(connection: Connection, epochs: set[int]) -> dict[int, WorkSource]:
    rows = connection.execute(
        select(rate_epochs.c.epoch, rate_epochs.c.upstream_id, rate_epochs.c.order_id).where(
            rate_epochs.c.epoch.in_(epochs)
        )
    )
    return {epoch: WorkSource(upstream_id, order_id) for epoch, upstream_id, order_id in rows}


def _adding(table: Table, new: Insert) -> Insert:
    """Insert a row, or add its shares to the one that is there."""
    return new.on_conflict_do_update(
        index_elements=list(table.primary_key), set_={"shares": table.c.shares + new.excluded.shares}
    )


_ADD: Final = upserts(upstream_hours, upstream_days, on=_adding)
