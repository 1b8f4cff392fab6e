"""Luck by tenant, container, machine or firmware: blocks found against blocks expected, and who stands out.

PPS pays for work whether or not it finds blocks, so who throws the blocks away and keeps the shares is paid
in full, and the pool is not. Nothing in a share shows it; only that blocks are missing does. Expected is the
sum of p over the accepted shares of our own work, solo work included; found are all blocks of it, orphans
and siblings too. Both are compared with the exact (Garwood) interval, and with the probability that chance
alone gives so few or so many.

Who is hinted at: of n that are looked at, those with a probability below LEVEL / 2n at one of the two ends
(Bonferroni). So a report in which all are honest hints at somebody once in 1 / LEVEL times, however many they
are; whoever reports every day looks again every day. Of whom too little is expected, even none found is
chance: from `tells_from` blocks on it is not.

Invariants: exact or Decimal. Reads only. Must not know: nodes, and work for upstreams: its blocks are theirs.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Context, Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, func, select

from payouts.rates import share_probability
from payouts.reports.choices import Whose
from payouts.risk import CONTEXT, FOUND_MAX, luck, tails
from payouts.schemas.money import (
    blocks,
    containers,
    rate_hours,
    rates,
    sibling_blocks,
    solo_blocks,
    tally_days,
    tally_hours,
    tally_minutes,
    tenants,
    workers,
)
from payouts.statements.period import Period
from payouts.tallies import ACCEPTED

LEVEL = Fraction(1, 1000)  # the probability that a report hints at anybody although all are honest
LUCK_DAYS = (
    90  # that are looked at where nobody says which: a tenant of 1 % of Bitcoin has 130 blocks in them
)
ROWS_MAX = 100  # those that stand out most; nobody reads on, and all were looked at
SIGNIFICANT = Context(prec=4)


class Hint(StrEnum):
    """What chance does not explain."""

    FEW = "too few"  # blocks are withheld, or lost on the way
    MANY = "too many"  # work is not counted, or priced for too many hashes


class LuckRow(msgspec.Struct, frozen=True, kw_only=True):
    """Blocks of one of them. The interval is of luck, found over expected, with 95 % confidence."""

    name: str
    found: int
    expected: str
    luck: str | None  # None, and no interval: no work was counted
    low: str | None
    high: str | None
    chance: str  # the probability of so few, or of so many, whichever is less
    hint: Hint | None


class LuckReport(msgspec.Struct, frozen=True, kw_only=True):
    """Those who stand out most, first."""

    from_day: str
    to_day: str
    whose: Whose
    tenant: str | None  # of whose machines; None: of all
    looked_at: int
    threshold: str  # a probability below this is hinted at
    tells_from: str  # so many blocks must be expected of whom no block at all is found
    nobodys: int  # blocks found of which nobody knows by whom
    rows: tuple[LuckRow, ...]


def luck_report(
    connection: Connection, period: Period, whose: Whose, tenant: str | None = None
) -> LuckReport:
    """Of all, or of what is a tenant's; there must be a tenant of that name."""
    tenant_id = connection.scalar(select(tenants.c.id).where(tenants.c.name == tenant)) if tenant else None
    judged, nobodys = _judged(connection, period, whose, tenant_id)
    threshold = threshold_of(len(judged))
    return LuckReport(
        from_day=str(period.from_day),
        to_day=str(period.to_day),
        whose=whose,
        tenant=tenant,
        looked_at=len(judged),
        threshold=_text(threshold),
        tells_from=_text(-threshold.ln(CONTEXT)),
        nobodys=nobodys,
        rows=tuple(_row(it, threshold) for it in judged[:ROWS_MAX]),
    )


def luck_of_tenant(connection: Connection, period: Period, tenant: str) -> LuckRow | None:
    """As it is in the report of all; None where it has neither work nor blocks."""
    judged, _ = _judged(connection, period, Whose.TENANT, None)
    threshold = threshold_of(len(judged))
    return next((_row(it, threshold) for it in judged if it.name == tenant), None)


def threshold_of(looked_at: int) -> Decimal:
    """Below this a probability is hinted at, of so many that are looked at."""
    return Decimal(LEVEL.numerator) / (LEVEL.denominator * 2 * max(looked_at, 1))


class _Judged(msgspec.Struct, frozen=True, kw_only=True):
    chance: Decimal
    name: str
    found: int
    expected: Fraction

    def hint(self, threshold: Decimal) -> Hint | None:
        if self.chance >= threshold:
            return None
        return Hint.FEW if self.found < self.expected else Hint.MANY


def _judged(
    connection: Connection, period: Period, whose: Whose, tenant_id: int | None
) -> tuple[list[_Judged], int]:
    """Everybody who worked or found something, the least likely first; and blocks of nobody known."""
    expected = _expected(connection, period, whose, tenant_id)
    found = _found(connection, period, whose, tenant_id)
    nobodys = found.pop(None, 0)
    judged = []
    for key, name in _names(connection, whose, expected.keys() | found.keys()).items():
        count, mean = found.get(key, 0), expected.get(key, Fraction(0))
        chance = min(tails(min(count, FOUND_MAX), mean))
        judged.append(_Judged(chance=chance, name=name, found=count, expected=mean))
    return sorted(judged, key=lambda it: (it.chance, it.name)), nobodys


def _row(it: _Judged, threshold: Decimal) -> LuckRow:
    known = luck(it.found, it.expected) if it.expected and it.found <= FOUND_MAX else None
    return LuckRow(
        name=it.name,
        found=it.found,
        expected=_text(Decimal(it.expected.numerator) / Decimal(it.expected.denominator)),
        luck=None if known is None else _text(known.luck),
        low=None if known is None else _text(known.low),
        high=None if known is None else _text(known.high),
        chance=_text(it.chance),
        hint=it.hint(threshold),
    )


def _expected(
    connection: Connection, period: Period, whose: Whose, tenant_id: int | None
) -> dict[Any, Fraction]:
    """Blocks by number (or firmware)."""
    expected: dict[Any, Fraction] = defaultdict(Fraction)
    for query in _work(period, whose, tenant_id):
        for who, nbits, difficulty_log2, shares in connection.execute(query):
            expected[who] += share_probability(nbits, Fraction(2) ** difficulty_log2) * int(shares)
    return dict(expected)


def _work(period: Period, whose: Whose, tenant_id: int | None) -> Iterable[Any]:
    """Accepted shares of our own work: by (who, nBits, difficulty's exponent)."""
    if whose is Whose.TENANT:
        query = (
            select(
                rates.c.tenant_id, rates.c.nbits, rate_hours.c.difficulty_log2, func.sum(rate_hours.c.shares)
            )
            .join(rate_hours, rate_hours.c.rate_id == rates.c.id)
            .where(rate_hours.c.hour >= period.from_s // 3600, rate_hours.c.hour < period.to_s // 3600)
            .group_by(rates.c.tenant_id, rates.c.nbits, rate_hours.c.difficulty_log2)
        )
        return [_own(query, rates.c.tenant_id, tenant_id)]
    spans = (
        (tally_minutes, tally_minutes.c.minute, 60),
        (tally_hours, tally_hours.c.hour, 3600),
        (tally_days, tally_days.c.day, 86_400),
    )
    return [_own(_tallied(*span, period, whose), workers.c.tenant_id, tenant_id) for span in spans]


def _tallied(table: Table, at: Any, unit_s: int, period: Period, whose: Whose) -> Any:
    key = (_who(whose), rates.c.nbits, table.c.difficulty_log2)
    return (
        select(*key, func.sum(table.c.shares))
        .join(workers, workers.c.id == table.c.worker_id)
        .join(rates, rates.c.id == table.c.rate_id)
        .where(table.c.verdict == ACCEPTED, at >= period.from_s // unit_s, at < period.to_s // unit_s)
        .group_by(*key)
    )


def _own(query: Any, of_tenant: Any, tenant_id: int | None) -> Any:
    query = query.where(rates.c.upstream_id.is_(None))
    return query if tenant_id is None else query.where(of_tenant == tenant_id)


def _found(connection: Connection, period: Period, whose: Whose, tenant_id: int | None) -> dict[Any, int]:
    """Blocks by number (or firmware); None: nobody knows whose."""
    tenant = func.coalesce(workers.c.tenant_id, solo_blocks.c.tenant_id)
    who = tenant if whose is Whose.TENANT else _who(whose)
    query = (
        select(who, func.count())
        .select_from(blocks)
        .outerjoin(workers, workers.c.id == blocks.c.worker_id)
        .outerjoin(solo_blocks, solo_blocks.c.block_hash == blocks.c.hash)
        .where(blocks.c.found_at_s >= period.from_s, blocks.c.found_at_s < period.to_s)
        .group_by(who)
    )
    if tenant_id is not None:
        query = query.where(tenant == tenant_id)
    found: dict[Any, int] = defaultdict(int)
    for counted in (query, _siblings(period, whose, tenant_id)):
        for number, count in connection.execute(counted):
            found[number] += int(count)
    return found


def _siblings(period: Period, whose: Whose, tenant_id: int | None) -> Any:
    """Blocks that were not submitted because another of ours had their parent: they were not withheld."""
    who = workers.c.tenant_id if whose is Whose.TENANT else _who(whose)
    query = (
        select(who, func.sum(sibling_blocks.c.blocks))
        .select_from(sibling_blocks)
        .outerjoin(workers, workers.c.id == sibling_blocks.c.worker_id)
        .where(sibling_blocks.c.found_at_s >= period.from_s, sibling_blocks.c.found_at_s < period.to_s)
        .group_by(who)
    )
    return query if tenant_id is None else query.where(workers.c.tenant_id == tenant_id)


def _who(whose: Whose) -> Any:
    if whose is Whose.FIRMWARE:  # of a machine that is not known there is none, of a silent one an empty one
        return func.coalesce(workers.c.agent, func.substr(workers.c.unit, 1, 0))
    return workers.c.container_id if whose is Whose.CONTAINER else workers.c.id


def _names(connection: Connection, whose: Whose, keys: Iterable[Any]) -> Mapping[Any, str]:
    """Of those that worked or found something."""
    if whose is Whose.FIRMWARE:
        return {key: key or "(says nothing)" for key in keys}
    if whose is Whose.TENANT:
        query: Any = select(tenants.c.id, tenants.c.name)
    else:
        place = select(tenants.c.name, containers.c.name).join(
            containers, containers.c.tenant_id == tenants.c.id
        )
        query = (
            place.add_columns(containers.c.id)
            if whose is Whose.CONTAINER
            else place.join(workers, workers.c.container_id == containers.c.id).add_columns(
                workers.c.unit, workers.c.id
            )
        )
    wanted, named = set(keys), {}
    for row in connection.execute(query):
        key, parts = (row[0], row[1:]) if whose is Whose.TENANT else (row[-1], row[:-1])
        if key in wanted:
            named[key] = ".".join(part for part in parts if part)
    return named


def _text(value: Decimal) -> str:
    return format(SIGNIFICANT.plus(value), "f" if value == 0 or value >= Decimal("1e-6") else "")
