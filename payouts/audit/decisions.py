"""The audit of decisions: what was agreed with tenants, when, and whether prices and payouts followed it.

Whoever may write to the database may write that a tenant agreed to something; what the books prove is that
work was priced by terms that the tenant had then, that money went to addresses that were in force then, that
nothing is dated before what stood before it, or after the latest moment of the book, and that rows which say
the same thing twice say the same.

Invariants: reads only. Must not know: who may decide what.
"""

from bisect import bisect_right
from functools import cache
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, Row, Select, Table, and_, column, func, select, union_all

from payouts.audit.filled import filled
from payouts.audit.finding import Found
from payouts.batches.batch import State
from payouts.batches.schema import (
    payout_approvals,
    payout_attempts,
    payout_batches,
    payout_events,
    payout_items,
    payout_strangers,
)
from payouts.rates import DIVIDING, OrderCredit, Scheme
from payouts.schemas.book import book
from payouts.schemas.divisions import divisions
from payouts.schemas.money import (
    block_events,
    blocks,
    container_hours,
    containers,
    fee_bases,
    ledger_transactions,
    metadata,
    rate_hours,
    rates,
    settlements,
    tally_days,
    tally_hours,
    tally_minutes,
    tenant_addresses,
    tenant_terms,
    tenants,
    worker_days,
    workers,
)
from payouts.schemas.orders import (
    order_suppliers,
    upstream_days,
    upstream_endpoints,
    upstream_hours,
    upstreams,
)
from payouts.schemas.proposals import confirmations, proposals

ADDRESS_HOLD_S = 72 * 3600  # of every address but a tenant's first
AT_SITES = sqlalchemy.table("edge_writers", column("writer"))
# A site goes on for a week by the terms that it heard last, and what it did then is booked when its line, and
# the books, are there again. At terms that were over for longer by then it is refused, where edges are asked.
ALONE_S = 30 * 86_400
# Everything that a statement dates its rows by.
DATED = (
    tenants.c.created_at_s,
    tenant_terms.c.changed_at_s,
    tenant_addresses.c.changed_at_s,
    workers.c.first_seen_at_s,
    rates.c.created_at_s,
    fee_bases.c.created_at_s,
    ledger_transactions.c.booked_at_s,
    settlements.c.settled_at_s,
    divisions.c.divided_at_s,
    blocks.c.found_at_s,
    block_events.c.at_s,
    payout_batches.c.created_at_s,
    payout_approvals.c.approved_at_s,
    payout_events.c.at_s,
    payout_attempts.c.created_at_s,
    payout_strangers.c.accepted_at_s,
    proposals.c.proposed_at_s,
    confirmations.c.confirmed_at_s,
)
# Those that are written one after the other, by their number.
IN_ORDER = (
    (tenant_terms.c.id, tenant_terms.c.changed_at_s),
    (tenant_addresses.c.id, tenant_addresses.c.changed_at_s),
    (rates.c.id, rates.c.created_at_s),
    (fee_bases.c.id, fee_bases.c.created_at_s),
    (settlements.c.seq, settlements.c.settled_at_s),
    (divisions.c.seq, divisions.c.divided_at_s),
    (ledger_transactions.c.seq, ledger_transactions.c.booked_at_s),
)
GROWING = (tally_hours, tally_days, worker_days, container_hours)
SPANS = (
    (tally_minutes, "minute", 60),
    (tally_hours, "hour", 3600),
    (tally_days, "day", 86_400),
    (rate_hours, "hour", 3600),
)


def check_registry(connection: Connection) -> None:
    """Raises Found for the first row that is wrong."""
    _check_tenants(connection)
    _check_dates(connection)
    _check_prices(connection)
    _check_addresses(connection)
    _check_verdicts(connection)


def _check_tenants(connection: Connection) -> None:
    missing = select(tenants.c.id).where(tenants.c.id.not_in(select(tenant_terms.c.tenant_id)))
    _none(connection, missing.order_by(tenants.c.id), "tenants", "it has nothing in tenant_terms")
    _none(
        connection,
        select(workers.c.id)
        .join(containers, containers.c.id == workers.c.container_id)
        .where(containers.c.tenant_id != workers.c.tenant_id)
        .order_by(workers.c.id),
        "workers",
        "its container is another tenant's",
    )
    _none(
        connection,
        select(order_suppliers.c.order_id, order_suppliers.c.tenant_id, order_suppliers.c.container_id)
        .outerjoin(containers, containers.c.id == order_suppliers.c.container_id)
        .where(
            order_suppliers.c.container_id != 0,
            func.coalesce(containers.c.tenant_id, 0) != order_suppliers.c.tenant_id,
        ),
        "order_suppliers",
        "its container is another tenant's",
    )
    _none(
        connection,
        select(upstream_endpoints.c.upstream_id, upstream_endpoints.c.position)
        .join(upstreams, upstreams.c.id == upstream_endpoints.c.upstream_id)
        .where(upstreams.c.status == "removed"),
        "upstream_endpoints",
        "its upstream was removed",
    )
    _none(
        connection,
        select(tally_minutes.c.worker_id, tally_minutes.c.rate_id)
        .outerjoin(rates, rates.c.id == tally_minutes.c.rate_id)
        .where(tally_minutes.c.rate_id != 0, rates.c.id.is_(None)),
        "tally_minutes",
        "there is no such rate",
    )
    _none(
        connection,
        select(tally_minutes.c.minute, tally_minutes.c.worker_id)
        .outerjoin(workers, workers.c.id == tally_minutes.c.worker_id)
        .where(workers.c.id.is_(None)),
        "tally_minutes",
        "there is no such machine",
    )


def _check_dates(connection: Connection) -> None:
    """Nothing is later than the book, and nothing earlier than what was written before it."""
    latest_s, ordered_from_s = connection.execute(select(book.c.latest_s, book.c.ordered_from_s)).one()
    if ordered_from_s > latest_s:
        raise Found("book", 1, "it is in order from a moment that has not been")
    have = filled(connection, *(it.table for it in DATED), *(table for table, _, _ in SPANS))
    for at_s in (it for it in DATED if it.table in have):
        key = list(at_s.table.primary_key)
        late = select(*key).where(at_s > latest_s).order_by(*key)
        _none(connection, late, at_s.table.name, "it is dated after the latest moment of the book")
    for table, span, seconds in (it for it in SPANS if it[0] in have):
        late = select(*table.primary_key).where(table.c[span] > latest_s // seconds)
        if table in (tally_hours, tally_days):  # by machine first: each is looked up
            late = late.where(table.c.worker_id.in_(select(workers.c.id)))
        _none(connection, late, table.name, "its work is dated after the latest moment of the book")
    # A book of before this rule may have rows that are out of order, up to its latest moment then.
    for number, at_s in (it for it in IN_ORDER if it[0].table in have):
        before_s = 0
        for row_number, row_s in connection.execute(select(number, at_s).order_by(number)):
            if row_s < before_s and before_s > ordered_from_s:
                raise Found(number.table.name, row_number, "it is dated before the row before it")
            before_s = max(before_s, row_s)


def _check_prices(connection: Connection) -> None:
    """Every rate is what the tenant's terms said when it was made, be it any of one second, or those before
    them; where sites work on while their line is down, those of the time that they may have been alone."""
    ordered_from_s = connection.execute(select(book.c.ordered_from_s)).scalar_one()
    # All terms of a rate's second, and the last of before it: one second back, where nobody was alone.
    alone_s = 1 if connection.scalar(select(AT_SITES.c.writer).limit(1)) is None else ALONE_S
    terms: dict[int, list[Row[Any]]] = {}
    for row in connection.execute(select(tenant_terms).order_by(tenant_terms.c.id)):
        terms.setdefault(row.tenant_id, []).append(row)
    for rate in connection.execute(select(rates).order_by(rates.c.id)):
        agreed = terms.get(rate.tenant_id, [])
        if rate.created_at_s > ordered_from_s:
            then, alone = (
                bisect_right(agreed, at_s, key=lambda row: int(row.changed_at_s))
                for at_s in (rate.created_at_s, rate.created_at_s - alone_s)
            )
            agreed = agreed[max(min(then - 2, alone - 1), 0) : then]
        once = (it for it in terms.get(rate.tenant_id, []) if it.scheme == Scheme.PROXY)
        own = {it.upstream_id for it in once if it.upstream_id is not None}
        if not any(_follows(rate, row, own) for row in agreed):
            raise Found("rates", rate.id, "the tenant had no such terms then")


def _follows(rate: Row[Any], terms: Row[Any], own: set[int]) -> bool:
    """`own`: the upstreams that pay the tenant, or did once: the pool pays nothing for what is done there."""
    if rate.fee_bps != terms.fee_bps:
        return False
    if rate.sat_per_ph_day is not None and terms.order_credit != OrderCredit.ORDER:
        return False
    if rate.scheme == terms.scheme or (rate.scheme == Scheme.PROXY and rate.upstream_id in own):
        return True
    # Work that its scheme pays nothing for is paid PPS; who mines a solo job is not paid by the pool.
    return (
        rate.scheme == Scheme.PPS and terms.scheme in (Scheme.SOLO, Scheme.PROXY, *DIVIDING)
    ) or rate.scheme == Scheme.SOLO


def _check_addresses(connection: Connection) -> None:
    """No address was in force before its time, and nothing was paid to another."""
    known: dict[int, list[Row[Any]]] = {}
    for row in connection.execute(select(tenant_addresses).order_by(tenant_addresses.c.id)):
        first = row.tenant_id not in known
        if not first and row.effective_at_s - row.changed_at_s < ADDRESS_HOLD_S:
            raise Found("tenant_addresses", row.id, "it is in force before its 72 hours are over")
        known.setdefault(row.tenant_id, []).append(row)
    # What was found on the chain was paid, to an address of the tenant's that may not have been in force.
    found = set(
        connection.scalars(
            select(payout_events.c.batch_id).where(
                payout_events.c.position == 0, payout_events.c.state == State.BROADCAST.value
            )
        )
    )
    for item in connection.execute(
        select(payout_items, payout_batches.c.created_at_s)
        .join(payout_batches, payout_batches.c.id == payout_items.c.batch_id)
        .order_by(payout_items.c.batch_id, payout_items.c.position)
    ):
        had = [row for row in known.get(item.tenant_id, []) if row.changed_at_s <= item.created_at_s]
        paid = {
            row.address for row in had if item.batch_id in found or row.effective_at_s <= item.created_at_s
        }
        if item.address not in paid:
            where = f"{item.batch_id}, {item.position}"
            raise Found("payout_items", where, "the tenant had no such address in force then")


def _check_verdicts(connection: Connection) -> None:
    """What upstreams said by machine is what they said by target."""
    said = union_all(
        select(
            workers.c.tenant_id, upstream_days.c.upstream_id, upstream_days.c.verdict, upstream_days.c.shares
        ).join(workers, workers.c.id == upstream_days.c.worker_id),
        select(
            upstream_hours.c.tenant_id,
            upstream_hours.c.upstream_id,
            upstream_hours.c.verdict,
            -upstream_hours.c.shares,
        ),
    ).subquery()
    key = (said.c.tenant_id, said.c.upstream_id, said.c.verdict)
    differ = select(*key).group_by(*key).having(func.sum(said.c.shares) != 0).order_by(*key)
    _none(connection, differ, "upstream_hours", "the same shares by machine are another number")


def check_references(connection: Connection, *, tallies: bool = True) -> None:
    """Every row that another one names is there; the database says so only while nobody told it not to. What
    grows by machines and hours may be left out."""
    have = filled(connection, *_tables(len(metadata.tables)))
    for table in (it for it in _tables(len(metadata.tables)) if it in have):
        if not tallies and table in GROWING:
            continue
        for parent, lost in _lost(table):
            row = connection.execute(lost).first()
            if row is not None:
                raise Found.of(table.name, row, f"what it names in {parent} is missing")


@cache
def _tables(_: int) -> tuple[Table, ...]:
    """Those that are known, of so many; in order, which takes longer than all questions."""
    return tuple(metadata.sorted_tables)


@cache
def _lost(table: Table) -> tuple[tuple[str, Select[Any]], ...]:
    """By the table that each reference names: the rows without what they name. Tables do not change."""
    found = []
    for reference in table.foreign_key_constraints:
        pairs = [(it.parent, it.column) for it in reference.elements]
        parent = pairs[0][1].table.alias()
        lost = (
            select(*table.primary_key)
            .select_from(table.outerjoin(parent, and_(*(mine == parent.c[its.name] for mine, its in pairs))))
            .where(*(mine.is_not(None) for mine, _ in pairs), parent.c[pairs[0][1].name].is_(None))
        )
        found.append((pairs[0][1].table.name, lost.limit(1)))
    return tuple(found)


def _none(connection: Connection, query: Select[Any], table: str, reason: str) -> None:
    row = connection.execute(query.limit(1)).first()
    if row is not None:
        raise Found.of(table, row, reason)
