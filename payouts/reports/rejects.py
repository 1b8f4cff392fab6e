"""What became of shares, on the legs that the books have: what we judged, and what upstreams said.

From a day on until now, in shares, whatever their difficulty. Reads only. Must not know: what is in no books.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from sqlalchemy import Connection, Select, Table, func, select

from payouts.schemas.money import tally_minutes, worker_days, workers
from payouts.schemas.orders import upstream_days, upstream_hours, upstreams

MINUTES_AT_ONCE = 5_000  # of one machine, in one query: each is a look at an index


class Said(msgspec.Struct, frozen=True):
    """What an upstream said of so many shares; `reason` is empty where it gave none, or none is kept."""

    upstream: str
    verdict: str
    reason: str
    shares: int


def judged_of_worker(connection: Connection, worker_id: int, from_day: int) -> dict[int, int]:
    """Shares of a machine by verdict."""
    totals: dict[int, int] = {}
    for minutes in _minutes(connection, from_day):
        mine = tally_minutes.c.minute.in_(minutes) & (tally_minutes.c.worker_id == worker_id)
        _add(connection, _by_verdict(tally_minutes).where(mine), totals)
    of = worker_days.c
    _add(connection, _by_verdict(worker_days).where(of.worker_id == worker_id, of.day >= from_day), totals)
    return totals


def judged_of_tenant(connection: Connection, tenant_id: int, from_day: int) -> dict[int, int]:
    """Shares of all machines of a tenant by verdict."""
    totals: dict[int, int] = {}
    for table, at, first in (
        (tally_minutes, tally_minutes.c.minute, from_day * 1440),
        (worker_days, worker_days.c.day, from_day),
    ):
        theirs = _by_verdict(table).join(workers, workers.c.id == table.c.worker_id)
        _add(connection, theirs.where(workers.c.tenant_id == tenant_id, at >= first), totals)
    return totals


def said_of_worker(connection: Connection, worker_id: int, from_day: int) -> list[Said]:
    """Of a machine's shares the books keep no reasons."""
    of = upstream_days
    query = (
        select(upstreams.c.name, of.c.verdict, func.sum(of.c.shares))
        .join(upstreams, upstreams.c.id == of.c.upstream_id)
        .where(of.c.worker_id == worker_id, of.c.day >= from_day)
        .group_by(upstreams.c.name, of.c.verdict)
        .order_by(upstreams.c.name, of.c.verdict)
    )
    return [Said(name, verdict, "", int(shares)) for name, verdict, shares in connection.execute(query)]


def said_of_tenant(connection: Connection, tenant_id: int, from_day: int) -> list[Said]:
    return _said(connection, _hours(from_day).where(upstream_hours.c.tenant_id == tenant_id))


def said_by_upstream(connection: Connection, upstream_id: int, from_day: int) -> list[Said]:
    return _said(connection, _hours(from_day).where(upstream_hours.c.upstream_id == upstream_id))


def _minutes(connection: Connection, from_day: int) -> Iterator[range]:
    """Those that tallies are of, in parts: a machine's are found by minute and machine."""
    at = tally_minutes.c.minute
    first, last = connection.execute(select(func.min(at), func.max(at))).one()
    if first is not None:
        every = range(max(first, from_day * 1440), last + 1)
        for begin in range(0, len(every), MINUTES_AT_ONCE):
            yield every[begin : begin + MINUTES_AT_ONCE]


def _by_verdict(table: Table) -> Select[Any]:
    return select(table.c.verdict, func.sum(table.c.shares)).group_by(table.c.verdict)


def _add(connection: Connection, query: Select[Any], totals: dict[int, int]) -> None:
    for verdict, shares in connection.execute(query):
        totals[verdict] = totals.get(verdict, 0) + int(shares)


def _hours(from_day: int) -> Select[Any]:
    of = upstream_hours
    return (
        select(upstreams.c.name, of.c.verdict, of.c.reason, func.sum(of.c.shares))
        .join(upstreams, upstreams.c.id == of.c.upstream_id)
        .where(of.c.hour >= from_day * 24)
        .group_by(upstreams.c.name, of.c.verdict, of.c.reason)
        .order_by(upstreams.c.name, of.c.verdict, of.c.reason)
    )


def _said(connection: Connection, query: Select[Any]) -> list[Said]:
    return [Said(row[0], row[1], row[2], int(row[3])) for row in connection.execute(query)]
