"""What a statement says of money: balances, the price of every share, and every other booking.

A tenant's balance is all that the pool owes it: payable and in payout. Whatever changed it in the period is a
credit (settlements), its part of a block, a payout, energy, a payment from the grid, or an adjustment
(everything else, reversals included), by the kind of its transaction; a hold for a payout moves within the
balance and is none of them.

Invariants: a booking is in the period of its booking time, so a statement of days that are over never
changes; the last hour of a day is settled, and booked, on the next one. The settlements add up to the
ledger's credits, or StatementWrong is raised. Reads only. Must not know: how a report looks.
"""

from collections import defaultdict
from fractions import Fraction
from itertools import pairwise
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, and_, case, func, or_, select

from payouts.ledger import Kind, in_payout, payable
from payouts.ratebook import WorkSource, source_of
from payouts.rates import PSAT_PER_SAT
from payouts.schemas.money import ledger_transactions, ledger_transfers, rates, settled_shares, settlements
from payouts.schemas.orders import upstreams
from payouts.statements.period import Period, utc, work_text

# What is told by itself, and is no adjustment.
TOLD_APART = (Kind.SETTLEMENT, Kind.PAYOUT, Kind.ENERGY, Kind.GRID, Kind.DIVISION)


class StatementWrong(Exception):
    """The books do not agree with each other: nothing can be stated until the audit has said where."""


class RateRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was settled in the period at one price.

    Where there is a `sat_per_ph_day`, that is the price before the fee, and not what a block is worth.
    """

    rate: int
    scheme: str
    nbits: str  # 8 hex digits
    height_from: int
    height_to: int | None  # None: it was still the tenant's price at the period's end
    subsidy_sat: int
    block_fees_sat: int
    fee_bps: int
    first_hour_utc: str  # when the work was done
    last_hour_utc: str
    shares: int
    work: str  # the sum of d
    credit_sat: int
    credit_psat: int
    pool_fee_sat: int
    pool_fee_psat: int
    upstream: str | None = None  # whose work it was; None: the pool's own
    order: int | None = None  # the number of the order that sold it
    sat_per_ph_day: int | None = None  # the order's price


class Adjustment(msgspec.Struct, frozen=True, kw_only=True):
    """A booking that is neither a settlement nor a payout."""

    transaction: int
    booked_at_utc: str
    kind: str
    memo: str
    amount_sat: int  # negative where it lowers the balance
    reverses: int | None


class Money(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """opening + credits + divided - payouts + adjustments - energy + grid = closing."""

    opening_sat: int
    credits_sat: int
    payouts_sat: int
    adjustments_sat: int
    closing_sat: int
    closing_payable_sat: int
    closing_in_payout_sat: int
    carry_in_psat: int
    carry_out_psat: int
    energy_sat: int = 0  # collected for energy, or less than nothing where it was given back
    grid_sat: int = 0  # paid by the grid for curtailments
    divided_sat: int = 0  # of blocks that were divided over the tenant's work


def money_of(connection: Connection, tenant_id: int, period: Period) -> Money:
    """The balances at both ends and what lies between. Raises StatementWrong."""
    opening = _balances_sat(connection, tenant_id, period.from_s)
    closing = _balances_sat(connection, tenant_id, period.to_s)
    moved = _moved_sat(connection, tenant_id, period)
    credits_sat, payouts_sat = moved.pop(Kind.SETTLEMENT, 0), -moved.pop(Kind.PAYOUT, 0)
    energy_sat, grid_sat = -moved.pop(Kind.ENERGY, 0), moved.pop(Kind.GRID, 0)
    divided_sat = moved.pop(Kind.DIVISION, 0)
    money = Money(
        opening_sat=sum(opening),
        credits_sat=credits_sat,
        payouts_sat=payouts_sat,
        adjustments_sat=sum(moved.values()),
        closing_sat=sum(closing),
        closing_payable_sat=closing[0],
        closing_in_payout_sat=closing[1],
        carry_in_psat=_carry_psat(connection, tenant_id, period.from_s),
        carry_out_psat=_carry_psat(connection, tenant_id, period.to_s),
        energy_sat=energy_sat,
        grid_sat=grid_sat,
        divided_sat=divided_sat,
    )
    earned_sat = money.opening_sat + credits_sat + divided_sat + money.adjustments_sat + grid_sat
    expected_sat = earned_sat - payouts_sat - energy_sat
    assert expected_sat == money.closing_sat, f"{expected_sat} sat is not {money.closing_sat} sat"
    return money


def rates_of(connection: Connection, tenant_id: int, period: Period, money: Money) -> tuple[RateRow, ...]:
    """A row for each rate settled in the period. Raises StatementWrong where they are not the credits."""
    settled = _settled(tenant_id, period)
    work: dict[int, Fraction] = defaultdict(Fraction)
    shares: dict[int, int] = defaultdict(int)
    for rate_id, difficulty_log2, count in connection.execute(
        select(settlements.c.rate_id, settled_shares.c.difficulty_log2, func.sum(settled_shares.c.shares))
        .join(settled_shares, settled_shares.c.settlement_seq == settlements.c.seq)
        .where(settled)
        .group_by(settlements.c.rate_id, settled_shares.c.difficulty_log2)
    ):
        work[rate_id] += int(count) * Fraction(2) ** difficulty_log2
        shares[rate_id] += int(count)
    sums = [
        func.sum(settlements.c[name]).label(name)
        for name in ("credit_sat", "credit_psat", "fee_sat", "fee_psat")
    ]
    hours = (
        func.min(settlements.c.hour).label("first_hour"),
        func.max(settlements.c.hour).label("last_hour"),
    )
    rows = connection.execute(
        select(rates, upstreams.c.name.label("upstream"), *sums, *hours)
        .join(settlements, settlements.c.rate_id == rates.c.id)
        .outerjoin(upstreams, upstreams.c.id == rates.c.upstream_id)
        .where(settled)
        .group_by(rates.c.id, upstreams.c.name)
        .order_by(rates.c.id)
    ).all()
    until = _last_heights(connection, tenant_id, period)
    found = tuple(_rate_row(row, until.get(row.id), shares[row.id], work[row.id]) for row in rows)
    credited_psat = sum(row.credit_sat * PSAT_PER_SAT + row.credit_psat for row in found)
    booked_psat = money.credits_sat * PSAT_PER_SAT + money.carry_out_psat - money.carry_in_psat
    if credited_psat != booked_psat:
        raise StatementWrong(f"the settlements are {credited_psat} psat, the ledger has {booked_psat} psat")
    return found


def adjustments_of(connection: Connection, tenant_id: int, period: Period) -> tuple[Adjustment, ...]:
    """Every other booking that changed the balance, in the order of the ledger."""
    change = _change(tenant_id)
    rows = connection.execute(
        select(ledger_transactions, func.sum(change).label("amount_sat"))
        .join(ledger_transfers, ledger_transfers.c.transaction_seq == ledger_transactions.c.seq)
        .where(
            _booked(period),
            _mine(tenant_id),
            ledger_transactions.c.kind.not_in([it.value for it in TOLD_APART]),
        )
        .group_by(ledger_transactions.c.seq)
        .order_by(ledger_transactions.c.seq)
    )
    return tuple(
        Adjustment(
            transaction=row.seq,
            booked_at_utc=utc(row.booked_at_s),
            kind=row.kind,
            memo=row.memo,
            amount_sat=int(row.amount_sat),
            reverses=row.reverses_seq,
        )
        for row in rows
        if row.amount_sat
    )


def credits_by(connection: Connection, tenant_id: int, period: Period, seconds: int) -> dict[int, int]:
    """Satoshi credited in each span of so many seconds since 1970 that had any."""
    span = settlements.c.settled_at_s // seconds
    rows = connection.execute(
        select(span, func.sum(settlements.c.posted_sat)).where(_settled(tenant_id, period)).group_by(span)
    )
    return {int(at): int(posted_sat) for at, posted_sat in rows}


def _rate_row(row: Row[Any], height_to: int | None, shares: int, work: Fraction) -> RateRow:
    credit = divmod(int(row.credit_sat) * PSAT_PER_SAT + int(row.credit_psat), PSAT_PER_SAT)
    pool_fee = divmod(int(row.fee_sat) * PSAT_PER_SAT + int(row.fee_psat), PSAT_PER_SAT)
    return RateRow(
        rate=row.id,
        scheme=row.scheme,
        nbits=f"{row.nbits:08x}",
        height_from=row.height,
        height_to=height_to,
        subsidy_sat=row.subsidy_sat,
        block_fees_sat=row.block_fees_sat,
        fee_bps=row.fee_bps,
        first_hour_utc=utc(row.first_hour * 3600),
        last_hour_utc=utc(row.last_hour * 3600),
        shares=shares,
        work=work_text(work),
        credit_sat=credit[0],
        credit_psat=credit[1],
        pool_fee_sat=pool_fee[0],
        pool_fee_psat=pool_fee[1],
        upstream=row.upstream,
        order=row.order_id,
        sat_per_ph_day=row.sat_per_ph_day,
    )


def _last_heights(connection: Connection, tenant_id: int, period: Period) -> dict[int, int]:
    """The last height that a rate was offered for: the one before the first of the next for that work."""
    known: dict[WorkSource, list[tuple[int, int]]] = defaultdict(list)
    for row in connection.execute(
        select(rates)
        .where(rates.c.tenant_id == tenant_id, rates.c.created_at_s < period.to_s)
        .order_by(rates.c.id)
    ):
        known[source_of(row)].append((row.id, row.height))
    return {
        rate_id: max(height, next_height - 1)
        for of_source in known.values()
        for (rate_id, height), (_, next_height) in pairwise(of_source)
    }


def _settled(tenant_id: int, period: Period) -> Any:
    at_s = settlements.c.settled_at_s
    return and_(settlements.c.tenant_id == tenant_id, at_s >= period.from_s, at_s < period.to_s)


def _carry_psat(connection: Connection, tenant_id: int, before_s: int) -> int:
    """What all settlements before that moment earned and did not post."""
    kept = func.sum(settlements.c.carry_out_psat - settlements.c.carry_in_psat)
    mine = (settlements.c.tenant_id == tenant_id, settlements.c.settled_at_s < before_s)
    return int(connection.scalar(select(kept).where(*mine)) or 0)


def _balances_sat(connection: Connection, tenant_id: int, before_s: int) -> tuple[int, int]:
    """Payable and in payout as of that moment."""
    balances = []
    for account in (payable(tenant_id), in_payout(tenant_id)):
        balance_sat = 0
        for column, sign in ((ledger_transfers.c.to_account, 1), (ledger_transfers.c.from_account, -1)):
            moved = (
                select(func.sum(ledger_transfers.c.amount_sat))
                .join(ledger_transactions, ledger_transactions.c.seq == ledger_transfers.c.transaction_seq)
                .where(column == account, ledger_transactions.c.booked_at_s < before_s)
            )
            balance_sat += sign * int(connection.scalar(moved) or 0)
        balances.append(balance_sat)
    return balances[0], balances[1]


def _moved_sat(connection: Connection, tenant_id: int, period: Period) -> dict[str, int]:
    """By kind of transaction, how much the balance changed."""
    rows = connection.execute(
        select(ledger_transactions.c.kind, func.sum(_change(tenant_id)))
        .join(ledger_transfers, ledger_transfers.c.transaction_seq == ledger_transactions.c.seq)
        .where(_booked(period), _mine(tenant_id))
        .group_by(ledger_transactions.c.kind)
    )
    return {kind: int(change_sat) for kind, change_sat in rows}


def _booked(period: Period) -> Any:
    at_s = ledger_transactions.c.booked_at_s
    return and_(at_s >= period.from_s, at_s < period.to_s)


def _mine(tenant_id: int) -> Any:
    accounts = (payable(tenant_id), in_payout(tenant_id))
    return or_(ledger_transfers.c.from_account.in_(accounts), ledger_transfers.c.to_account.in_(accounts))


def _change(tenant_id: int) -> Any:
    """By how much a transfer changes the balance: nothing where it stays within."""
    accounts = (payable(tenant_id), in_payout(tenant_id))
    amount = ledger_transfers.c.amount_sat
    arrived = case((ledger_transfers.c.to_account.in_(accounts), amount), else_=0)
    left = case((ledger_transfers.c.from_account.in_(accounts), amount), else_=0)
    return arrived - left
