"""Blocks that were divided over a tenant's work, in its statement, with the luck of those who found them.

A block is in the statement of the period in which it was divided. What it pays follows from the work that is
told with it, in expected blocks and as exact fractions, so whoever reads it can compute it again. Found, as
booked in the period, and expected of its hours, are of all tenants of a scheme.

Invariants: nothing in it depends on when it is asked for, once the period is over. Must not know: how a
window is filled.
"""

from collections import defaultdict
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, func, select

from payouts.ratebook import price_of
from payouts.rates import DIVIDING, PSAT_PER_SAT, Scheme
from payouts.risk import FOUND_MAX, luck
from payouts.schemas.divisions import block_funds, division_parts, division_works, divisions
from payouts.schemas.money import blocks, rate_hours, rates
from payouts.statements.period import Period, utc

SIGNIFICANT = Context(prec=6)  # digits of what is shown of a Decimal


class DividedWork(msgspec.Struct, frozen=True, kw_only=True):
    """The tenant's work that a block pays, at one fee."""

    fee_bps: int
    blocks: str  # expected ones, "numerator/denominator"


class DividedBlock(msgspec.Struct, frozen=True, kw_only=True):
    """A block of which the tenant had a part, in the order in which they carried."""

    height: int
    hash: str
    mined_at_utc: str
    divided_at_utc: str
    scheme: str
    income_sat: int  # of the whole block
    window_blocks: int  # expected ones that it is divided over
    full_blocks: str  # those of them that anybody had worked for
    first_hour_utc: str
    last_hour_utc: str
    works: tuple[DividedWork, ...]
    credit_psat: int
    pool_fee_psat: int
    carry_in_psat: int
    posted_sat: int
    carry_out_psat: int


class GroupLuck(msgspec.Struct, frozen=True, kw_only=True):
    """Of all tenants of a scheme in the period; the interval is of luck, with 95 % confidence."""

    scheme: str
    found: int  # orphans too
    expected: str
    luck: str | None  # None, and no interval: nothing was expected
    low: str | None
    high: str | None


class Divided(msgspec.Struct, frozen=True, kw_only=True):
    """Of a tenant who carried its own luck."""

    blocks: tuple[DividedBlock, ...]
    luck: tuple[GroupLuck, ...]


def divided_of(connection: Connection, tenant_id: int, period: Period) -> Divided | None:
    """None where the tenant had neither a part of a block nor work of such a scheme in the period."""
    found = tuple(_block(connection, tenant_id, row) for row in _parts(connection, tenant_id, period))
    schemes = {it.scheme for it in found} | _worked(connection, period, rates.c.tenant_id == tenant_id)
    if not schemes:
        return None
    luck_of = (_luck(connection, it, period) for it in DIVIDING if it.value in schemes)
    return Divided(blocks=found, luck=tuple(luck_of))


def lucks_of_groups(connection: Connection, period: Period) -> tuple[GroupLuck, ...]:
    """Of every scheme by which somebody worked, or that found a block, in the period."""
    found = (_luck(connection, it, period) for it in DIVIDING)
    worked = _worked(connection, period)
    return tuple(it for it in found if it.found or it.scheme in worked)


def _parts(connection: Connection, tenant_id: int, period: Period) -> list[Row[Any]]:
    at_s = divisions.c.divided_at_s
    query = (
        select(division_parts, divisions, block_funds, blocks.c.height, blocks.c.income_sat)
        .join(divisions, divisions.c.seq == division_parts.c.division_seq)
        .join(block_funds, block_funds.c.block_hash == divisions.c.block_hash)
        .join(blocks, blocks.c.hash == divisions.c.block_hash)
        .where(division_parts.c.tenant_id == tenant_id, at_s >= period.from_s, at_s < period.to_s)
        .order_by(divisions.c.seq)
    )
    return list(connection.execute(query))


def _block(connection: Connection, tenant_id: int, row: Row[Any]) -> DividedBlock:
    full, by_fee = Fraction(0), defaultdict[int, Fraction](Fraction)
    query = (
        select(division_works.c.blocks, rates.c.tenant_id, rates.c.fee_bps)
        .join(rates, rates.c.id == division_works.c.rate_id)
        .where(division_works.c.division_seq == row.seq)
    )
    for text, whose, fee_bps in connection.execute(query):
        full += Fraction(text)
        if whose == tenant_id:
            by_fee[fee_bps] += Fraction(text)
    return DividedBlock(
        height=row.height,
        hash=row.block_hash,
        mined_at_utc=utc(row.mined_at_s),
        divided_at_utc=utc(row.divided_at_s),
        scheme=row.scheme,
        income_sat=row.income_sat,
        window_blocks=Scheme(row.scheme).window_blocks,
        full_blocks=_exact(full),
        first_hour_utc=utc(row.first_hour * 3600),
        last_hour_utc=utc(row.last_hour * 3600),
        works=tuple(DividedWork(fee_bps=fee, blocks=_exact(it)) for fee, it in sorted(by_fee.items())),
        credit_psat=row.credit_sat * PSAT_PER_SAT + row.credit_psat,
        pool_fee_psat=row.fee_sat * PSAT_PER_SAT + row.fee_psat,
        carry_in_psat=row.carry_in_psat,
        posted_sat=row.posted_sat,
        carry_out_psat=row.carry_out_psat,
    )


def _worked(connection: Connection, period: Period, *whose: ColumnElement[bool]) -> set[str]:
    """Schemes of work that was done in the period."""
    query = (
        select(rates.c.scheme)
        .join(rate_hours, rate_hours.c.rate_id == rates.c.id)
        .where(rates.c.scheme.in_([it.value for it in DIVIDING]), *whose, *_in(period))
        .distinct()
    )
    return set(connection.scalars(query))


def _luck(connection: Connection, scheme: Scheme, period: Period) -> GroupLuck:
    found = connection.scalar(
        select(func.count())
        .select_from(block_funds)
        .join(blocks, blocks.c.hash == block_funds.c.block_hash)
        .where(
            block_funds.c.scheme == scheme.value,
            blocks.c.found_at_s >= period.from_s,
            blocks.c.found_at_s < period.to_s,
        )
    )
    expected = Fraction(0)
    for row in connection.execute(
        select(rates, rate_hours.c.difficulty_log2, func.sum(rate_hours.c.shares).label("shares"))
        .join(rate_hours, rate_hours.c.rate_id == rates.c.id)
        .where(rates.c.scheme == scheme.value, *_in(period))
        .group_by(rates.c.id, rate_hours.c.difficulty_log2)
    ):
        expected += price_of(row).expected_blocks(Fraction(2) ** row.difficulty_log2, int(row.shares))
    known = luck(found or 0, expected) if expected and (found or 0) <= FOUND_MAX else None
    return GroupLuck(
        scheme=scheme.value,
        found=found or 0,
        expected=_digits(Decimal(expected.numerator) / Decimal(expected.denominator)),
        luck=None if known is None else _digits(known.luck),
        low=None if known is None else _digits(known.low),
        high=None if known is None else _digits(known.high),
    )


def _in(period: Period) -> tuple[Any, ...]:
    hour = rate_hours.c.hour
    return hour >= period.from_s // 3600, hour < period.to_s // 3600


def _exact(value: Fraction) -> str:
    return f"{value.numerator}/{value.denominator}"


def _digits(value: Decimal) -> str:
    return format(SIGNIFICANT.plus(value), "f")
