"""Prepaid orders: each hour of one is delivered only if what its buyer paid covers all of that hour.

Taken from what was paid are all charges, work that the books have and have not charged, and, of hours that
the books do not have all of yet, however many, up to the one that is looked at, what was sold of them and its
tolerance. So the deposit is used up by an order before its machines are told to go home, and not after.

Invariants: reads only; whole psat, rounded against the buyer and given back with the rest. An hour that is
covered stays so, but for a payment that is taken back; one that is not may be when the books have it that
less was given than sold. Must not know: what stops an order.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, func, or_, select

from payouts.rates import BPS, PSAT_PER_SAT
from payouts.sales.charges import HOUR_S, Shares, worth_psat
from payouts.sales.standing import OrderStanding, standing
from payouts.sales.terms import billing_of, ends_s
from payouts.schemas.money import rate_hours, rates
from payouts.schemas.orders import orders
from payouts.schemas.sales import order_charge_shares, order_charges

# Looks are a minute apart, and a machine takes one to go home: an hour is decided before it begins.
AHEAD_S: Final = 120
THS_OF_PH_DAY: Final = 1_000 * 86_400  # TH/s for a second, of a PH/s for a day


class Cover(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of an order's deposit when the hour is over that is looked at: below zero, that hour is
    not delivered. `until_s`: for how long it would run with no more payments."""

    left_sat: int
    until_s: int

    @property
    def covers(self) -> bool:
        return self.left_sat >= 0


def covers(connection: Connection, now_s: int, booked_until_s: int) -> dict[int, Cover]:
    """By number, of prepaid orders that are not over. The books have everything up to a moment."""
    prepaid = [it for it, terms in billing_of(connection).items() if terms.prepaid]
    of = orders.c
    going = select(orders).where(of.id.in_(prepaid), of.ended_at_s.is_(None), of.until_s > now_s)
    found = {}
    for order in connection.execute(going.order_by(of.id)).all():
        owes = standing(connection, order.id, now_s)
        assert owes is not None, "what is prepaid is billed"
        found[order.id] = _cover(connection, order, owes, now_s, booked_until_s)
    return found


def uncovered(connection: Connection, now_s: int, booked_until_s: int) -> frozenset[int]:
    """Those that nothing is to be delivered for."""
    return frozenset(it for it, of in covers(connection, now_s, booked_until_s).items() if not of.covers)


def uncharged(connection: Connection, order_id: int) -> bool:
    """Whether the books have work of it that is not charged."""
    waiting = (
        select(rate_hours.c.hour)
        .join(rates, rates.c.id == rate_hours.c.rate_id)
        .where(rates.c.order_id == order_id, rate_hours.c.settled < rate_hours.c.shares)
    )
    return connection.scalar(waiting.limit(1)) is not None


def _cover(
    connection: Connection, order: Row[Any], owes: OrderStanding, now_s: int, booked_until_s: int
) -> Cover:
    this_hour = (now_s + AHEAD_S) // HOUR_S
    unbooked = min(max(booked_until_s, order.from_s) // HOUR_S, this_hour)
    paid_psat = -owes.owed_sat * PSAT_PER_SAT - owes.carry_psat
    open_psat = dict(_open_psat(connection, order, unbooked))
    needed_psat = sum(it for hour, it in open_psat.items() if hour < unbooked)
    charged_psat = _charged_psat(connection, order.id, unbooked)
    for hour in range(unbooked, this_hour + 1):  # of ten years at most: 0.1 s
        sold_psat = _price_psat(order, _seconds(order, hour))
        needed_psat += max(sold_psat - charged_psat.get(hour, 0), open_psat.get(hour, 0))
    left_psat = paid_psat - needed_psat
    more_h = left_psat // max(_price_psat(order, HOUR_S), 1) + 1 if left_psat >= 0 else 0
    # No order is as long as that.
    until_s = (this_hour + min(more_h, order.until_s // HOUR_S)) * HOUR_S
    return Cover(left_sat=left_psat // PSAT_PER_SAT, until_s=min(max(until_s, order.from_s), ends_s(order)))


def _seconds(order: Row[Any], hour: int) -> int:
    """Of an hour, that are the order's."""
    ends = min(ends_s(order), (hour + 1) * HOUR_S)
    return int(max(ends - max(order.from_s, hour * HOUR_S), 0))


def _price_psat(order: Row[Any], seconds: int) -> int:
    """What so long costs, with as much more as the order's tolerance; rounded up."""
    price = order.hashrate_ths * seconds * order.sat_per_ph_day * PSAT_PER_SAT
    return int(-(-price * (BPS + order.tolerance_bps) // (THS_OF_PH_DAY * BPS)))


def _charged_psat(connection: Connection, order_id: int, first_hour: int) -> dict[int, int]:
    """By hour, from that one on."""
    of = order_charges.c
    sums = select(of.hour, func.sum(of.amount_sat), func.sum(of.amount_psat))
    mine = sums.where(of.order_id == order_id, of.hour >= first_hour).group_by(of.hour)
    return {hour: int(sat) * PSAT_PER_SAT + int(psat) for hour, sat, psat in connection.execute(mine)}


def _open_psat(connection: Connection, order: Row[Any], unbooked: int) -> Iterator[tuple[int, int]]:
    """By hour, what the work costs that the books have and have not charged."""
    mine = select(rate_hours.c.hour).join(rates, rates.c.id == rate_hours.c.rate_id)
    waiting = mine.where(
        rates.c.order_id == order.id,
        or_(rate_hours.c.settled < rate_hours.c.shares, rate_hours.c.hour >= unbooked),
    ).distinct()
    hours = set(connection.scalars(waiting))
    counts: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    taken = (
        select(
            rate_hours.c.hour,
            rate_hours.c.difficulty_log2,
            func.sum(rate_hours.c.shares - rate_hours.c.undelivered),
        )
        .join(rates, rates.c.id == rate_hours.c.rate_id)
        .where(rates.c.order_id == order.id, rate_hours.c.hour.in_(hours))
        .group_by(rate_hours.c.hour, rate_hours.c.difficulty_log2)
    )
    of = order_charge_shares.c
    charged = (
        select(order_charges.c.hour, of.difficulty_log2, -func.sum(of.shares))
        .join(order_charges, order_charges.c.seq == of.charge_seq)
        .where(order_charges.c.order_id == order.id, order_charges.c.hour.in_(hours))
        .group_by(order_charges.c.hour, of.difficulty_log2)
    )
    for query in (taken, charged):
        for hour, log2, shares in connection.execute(query):
            counts[hour][log2] += int(shares)
    for hour, work in counts.items():
        shares_of: Shares = {log2: count for log2, count in work.items() if count > 0}
        if shares_of:
            yield hour, worth_psat(order.sat_per_ph_day, shares_of) + 1
