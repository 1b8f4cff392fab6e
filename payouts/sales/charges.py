"""Charges: work that was delivered for an order becomes what its buyer owes, hour by hour.

An hour is charged when the last of its shares that are in the books is settled: what the order was given in
it, at its price, is one exact amount, floored to psat and added to what the order's last charge carried;
whole satoshi are owed and the rest, below one, is carried forward. Shares that come after it are charged as
the hour's next part. What is due is what was delivered and is not charged, never what lies after some moment.
What no upstream took was not delivered, whoever is credited for it.

Invariants: a charge, its posting and its shares are one transaction, the caller's, which must be the only
writer; of an order that is not billed nothing is booked. Must not know: the time, who counted, and whether it
is ever paid.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from fractions import Fraction
from typing import Final

import msgspec
from sqlalchemy import Connection, func, insert, select

from payouts.accrual import Settlement
from payouts.book_time import book_time
from payouts.ledger import (
    Kind,
    PoolAccount,
    Transaction,
    Transfer,
    balance_sat,
    open_receivable,
    post,
    receivable,
)
from payouts.rates import PSAT_PER_SAT, floor_to_psat, ph_days
from payouts.schemas.money import rate_hours, rates
from payouts.schemas.orders import orders
from payouts.schemas.sales import order_billing, order_charge_shares, order_charges

HOUR_S: Final = 3600
# So long after its end an hour has receipts of what came late, and is charged what they change. Nothing is
# booked in one that is over, but what somebody mends.
CORRECTED_H: Final = 48

Shares = Mapping[int, int]  # by the exponent of their difficulty


class ChargeKind(StrEnum):
    """What a charge is for."""

    WORK = "work"
    MAKE_GOOD = "make_good"  # what an order's terms give back, or ask, for what it was given otherwise


class OrderCharge(msgspec.Struct, frozen=True, kw_only=True):
    """One hour of an order, or a later part of it, with all that its posting follows from."""

    order_id: int
    hour: int
    kind: ChargeKind
    part: int
    amount_psat: int  # floored, below zero where it is given back
    carry_in_psat: int

    @property
    def posted_sat(self) -> int:
        return (self.amount_psat + self.carry_in_psat) // PSAT_PER_SAT

    @property
    def carry_out_psat(self) -> int:
        return (self.amount_psat + self.carry_in_psat) % PSAT_PER_SAT

    @property
    def transaction(self) -> Transaction | None:
        """What is booked; None where there is no whole satoshi."""
        if not self.posted_sat:
            return None
        ways = [receivable(self.order_id), PoolAccount.ORDER_INCOME.value]
        if self.posted_sat < 0:
            ways.reverse()
        hour = datetime.fromtimestamp(self.hour * HOUR_S, UTC)
        return Transaction(
            key=f"sale:{self.order_id}:{self.hour}:{self.kind.value}:{self.part}",
            kind=Kind.SALE,
            memo=f"{self.kind.value} of order {self.order_id}, {hour:%Y-%m-%dT%H}Z, part {self.part}",
            transfers=(Transfer(ways[0], ways[1], abs(self.posted_sat)),),
        )


def worth_psat(sat_per_ph_day: int, shares: Shares) -> int:
    """What shares are worth at an order's price: pure, so that it can be checked."""
    days = sum((ph_days(Fraction(2) ** log2, count) for log2, count in shares.items()), Fraction(0))
    return floor_to_psat(days * sat_per_ph_day).psat


def charge_settled(connection: Connection, done: Sequence[Settlement], now_s: int) -> tuple[int, ...]:
    """Charge the hours that these settlements were the last of; the charges' numbers."""
    rate_ids = {it.rate_id for it in done}
    if not rate_ids:
        return ()
    sold = select(rates.c.id, rates.c.order_id).join(
        order_billing, order_billing.c.order_id == rates.c.order_id
    )
    order_of = dict(connection.execute(sold.where(rates.c.id.in_(rate_ids))).all())
    places = sorted({(order_of[it.rate_id], it.hour) for it in done if it.rate_id in order_of})
    charged = (_charge_hour(connection, order_id, hour, now_s) for order_id, hour in places)
    return tuple(it for it in charged if it is not None)


def charge_line(
    connection: Connection,
    order_id: int,
    hour: int,
    kind: ChargeKind,
    amount_psat: int,
    now_s: int,
    shares: Shares | None = None,
) -> int | None:
    """Book a charge, or what is given back where the amount is below zero; its number. None: the order is not
    billed."""
    if (
        connection.scalar(select(order_billing.c.order_id).where(order_billing.c.order_id == order_id))
        is None
    ):
        return None
    of = order_charges.c
    counted = select(func.count()).where(of.order_id == order_id, of.hour == hour, of.kind == kind.value)
    it = OrderCharge(
        order_id=order_id,
        hour=hour,
        kind=kind,
        part=connection.scalar(counted) or 0,
        amount_psat=amount_psat,
        carry_in_psat=carry_psat(connection, order_id),
    )
    return _book(connection, it, shares or {}, now_s)


def carry_psat(connection: Connection, order_id: int) -> int:
    """What the order's last charge carried forward."""
    of = order_charges.c
    last = select(of.carry_out_psat).where(of.order_id == order_id).order_by(of.seq.desc()).limit(1)
    return connection.scalar(last) or 0


def owed_sat(connection: Connection, order_id: int) -> int:
    """What the buyer owes for it; below zero is owed to the buyer."""
    return -balance_sat(connection, receivable(order_id))


def _charge_hour(connection: Connection, order_id: int, hour: int, now_s: int) -> int | None:
    """None while something of the hour is not settled, and where nothing of it is left to charge."""
    mine = (rates.c.order_id == order_id) & (rate_hours.c.hour == hour)
    joined = select(
        rate_hours.c.difficulty_log2,
        func.sum(rate_hours.c.shares - rate_hours.c.undelivered),
        func.sum(rate_hours.c.shares - rate_hours.c.settled),
    ).join(rates, rates.c.id == rate_hours.c.rate_id)
    counted = connection.execute(joined.where(mine).group_by(rate_hours.c.difficulty_log2)).all()
    if any(waiting for _, _, waiting in counted):
        return None
    charged = _charged(connection, order_id, hour)
    shares = {log2: int(taken) - charged.get(log2, 0) for log2, taken, _ in counted}
    shares = {log2: count for log2, count in sorted(shares.items()) if count}
    if not shares:
        return None
    price = connection.execute(select(orders.c.sat_per_ph_day).where(orders.c.id == order_id)).scalar_one()
    amount_psat = worth_psat(price, shares)
    return charge_line(connection, order_id, hour, ChargeKind.WORK, amount_psat, now_s, shares)


def _charged(connection: Connection, order_id: int, hour: int) -> dict[int, int]:
    of = order_charge_shares.c
    rows = connection.execute(
        select(of.difficulty_log2, func.sum(of.shares))
        .join(order_charges, order_charges.c.seq == of.charge_seq)
        .where(order_charges.c.order_id == order_id, order_charges.c.hour == hour)
        .group_by(of.difficulty_log2)
    )
    return {log2: int(shares) for log2, shares in rows}


def _book(connection: Connection, it: OrderCharge, shares: Shares, now_s: int) -> int:
    at_s = book_time(connection, now_s)
    transaction_seq = None
    if it.transaction is not None:
        open_receivable(connection, it.order_id)
        transaction_seq = post(connection, it.transaction, at_s).seq
    amount_sat, amount_psat = divmod(it.amount_psat, PSAT_PER_SAT)
    seq: int = connection.execute(
        insert(order_charges)
        .values(
            order_id=it.order_id,
            hour=it.hour,
            kind=it.kind.value,
            part=it.part,
            amount_sat=amount_sat,
            amount_psat=amount_psat,
            carry_in_psat=it.carry_in_psat,
            posted_sat=it.posted_sat,
            carry_out_psat=it.carry_out_psat,
            transaction_seq=transaction_seq,
            charged_at_s=at_s,
        )
        .returning(order_charges.c.seq)
    ).scalar_one()
    if shares:
        connection.execute(
            insert(order_charge_shares),
            [{"charge_seq": seq, "difficulty_log2": log2, "shares": count} for log2, count in shares.items()],
        )
    return seq
