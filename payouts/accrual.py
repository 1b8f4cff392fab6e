"""Accrual: what the journal has counted becomes what the pool owes, hour by hour.

A settlement is the accepted shares of one rate (so of one tenant) in one hour: one exact fraction,
floored to psat, added to what the tenant's last settlement carried; whole satoshi are posted and the
rest, below one satoshi, is carried forward. The pool's fee is carried and posted the same way, so that
the expense is the full price of the work.

Shares that reach an hour after its settlement are settled as its next part. What is due is what is
counted and not settled, never what lies after some moment: a clock that steps by a day, either way,
settles early or late, but neither twice nor never. Rates of solo and proxy tenants settle to nothing.

Invariants: the settlement, its posting and the count of what is settled are one transaction, the
caller's, which must be the only writer. Must not know: the time, and who counted.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from fractions import Fraction

import msgspec
from sqlalchemy import Connection, func, insert, select, update

from payouts.book_time import book_time
from payouts.ledger import Kind, PoolAccount, Transaction, Transfer, open_accounts, payable, post
from payouts.ratebook import price_of
from payouts.rates import Amount, Price, floor_to_psat
from payouts.schemas.money import rate_hours, rates, settled_shares, settlements

# An hour is settled this long after its end: shares that wait for the journal are in by then.
GRACE_S = 60
# In one transaction: 10 to 15 ms (SQLite) during which the journal waits for its turn.
SETTLEMENTS_MAX = 5


class Carry(msgspec.Struct, frozen=True):
    """What a tenant's settlements have not posted yet: the tenant's part and the pool's, below 1 sat."""

    credit_psat: int = 0
    fee_psat: int = 0


class Posted(msgspec.Struct, frozen=True):
    """The whole satoshi of a credit and a fee, and what is carried on of them."""

    posted_sat: int
    fee_posted_sat: int
    carry_out: Carry


def with_carry(credit: Amount, fee: Amount, carry_in: Carry) -> Posted:
    """Both with what was carried."""
    total, fee_total = credit.plus(Amount(0, carry_in.credit_psat)), fee.plus(Amount(0, carry_in.fee_psat))
    return Posted(total.sat, fee_total.sat, Carry(total.carry_psat, fee_total.carry_psat))


def paid_from(
    account: PoolAccount, tenant_id: int, posted_sat: int, fee_posted_sat: int
) -> tuple[Transfer, ...]:
    """To the tenant, and the pool's fee; nothing where there is no whole satoshi."""
    to = ((payable(tenant_id), posted_sat), (PoolAccount.FEE_INCOME.value, fee_posted_sat))
    return tuple(Transfer(account.value, payee, sat) for payee, sat in to if sat)


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """One rate's hour, or a later part of it, with all that its posting follows from."""

    tenant_id: int
    rate_id: int
    hour: int
    part: int
    credit: Amount
    fee: Amount
    carry_in: Carry
    posted_sat: int
    fee_posted_sat: int
    carry_out: Carry

    @property
    def transaction(self) -> Transaction | None:
        """What is booked; None where there is no whole satoshi."""
        transfers = paid_from(PoolAccount.PPS_EXPENSE, self.tenant_id, self.posted_sat, self.fee_posted_sat)
        if not transfers:
            return None
        hour = datetime.fromtimestamp(self.hour * 3600, UTC)
        return Transaction(
            key=f"settlement:{self.rate_id}:{self.hour}:{self.part}",
            kind=Kind.SETTLEMENT,
            memo=f"rate {self.rate_id}, {hour:%Y-%m-%dT%H}Z, part {self.part}",
            transfers=transfers,
        )


def derive(
    tenant_id: int,
    rate_id: int,
    hour: int,
    part: int,
    price: Price,
    shares_by_log2: Mapping[int, int],
    carry_in: Carry,
) -> Settlement:
    """The settlement of these shares, by the difficulty's exponent: pure, so that it can be checked."""
    credit_sat = fee_sat = Fraction(0)
    for difficulty_log2, shares in shares_by_log2.items():
        difficulty = Fraction(2) ** difficulty_log2
        credit_sat += price.credit_sat(difficulty, shares)
        fee_sat += price.pool_fee_sat(difficulty, shares)
    credit, fee = floor_to_psat(credit_sat), floor_to_psat(fee_sat)
    posted = with_carry(credit, fee, carry_in)
    return Settlement(
        tenant_id=tenant_id,
        rate_id=rate_id,
        hour=hour,
        part=part,
        credit=credit,
        fee=fee,
        carry_in=carry_in,
        posted_sat=posted.posted_sat,
        fee_posted_sat=posted.fee_posted_sat,
        carry_out=posted.carry_out,
    )


def settle(connection: Connection, now_s: int, *, early_s: int = 0) -> tuple[Settlement, ...]:
    """Settle what is due, at most SETTLEMENTS_MAX; nothing when all is settled.

    Hours count as over `early_s` before they are.
    """
    unsettled = rate_hours.c.settled < rate_hours.c.shares
    ended = rate_hours.c.hour < (now_s + early_s - GRACE_S) // 3600
    due = connection.execute(
        select(rates, rate_hours.c.hour)
        .join(rate_hours, rate_hours.c.rate_id == rates.c.id)
        .where(unsettled, ended)
        .distinct()
        .order_by(rate_hours.c.hour, rates.c.tenant_id, rates.c.id)
        .limit(SETTLEMENTS_MAX)
    ).all()
    done = []
    for row in due:
        counted = connection.execute(
            select(rate_hours.c.difficulty_log2, rate_hours.c.shares, rate_hours.c.settled)
            .where(rate_hours.c.rate_id == row.id, rate_hours.c.hour == row.hour, unsettled)
            .order_by(rate_hours.c.difficulty_log2)
        )
        part = connection.scalar(
            select(func.count()).where(settlements.c.rate_id == row.id, settlements.c.hour == row.hour)
        )
        shares_by_log2 = {it.difficulty_log2: it.shares - it.settled for it in counted}
        settlement = derive(
            row.tenant_id,
            row.id,
            row.hour,
            part or 0,
            price_of(row),
            shares_by_log2,
            carry_of(connection, row.tenant_id),
        )
        _book(connection, settlement, shares_by_log2, now_s)
        done.append(settlement)
    return tuple(done)


def carry_of(connection: Connection, tenant_id: int) -> Carry:
    """What the tenant's last settlement carried forward."""
    last = connection.execute(
        select(settlements.c.carry_out_psat, settlements.c.fee_carry_out_psat)
        .where(settlements.c.tenant_id == tenant_id)
        .order_by(settlements.c.seq.desc())
        .limit(1)
    ).one_or_none()
    return Carry(*last) if last else Carry()


def _book(connection: Connection, it: Settlement, shares_by_log2: Mapping[int, int], now_s: int) -> None:
    now_s = book_time(connection, now_s)
    transaction_seq = None
    if it.transaction is not None:
        open_accounts(connection, it.tenant_id)
        transaction_seq = post(connection, it.transaction, now_s).seq
    seq = connection.execute(
        insert(settlements)
        .values(
            tenant_id=it.tenant_id,
            rate_id=it.rate_id,
            hour=it.hour,
            part=it.part,
            credit_sat=it.credit.sat,
            credit_psat=it.credit.carry_psat,
            carry_in_psat=it.carry_in.credit_psat,
            posted_sat=it.posted_sat,
            carry_out_psat=it.carry_out.credit_psat,
            fee_sat=it.fee.sat,
            fee_psat=it.fee.carry_psat,
            fee_carry_in_psat=it.carry_in.fee_psat,
            fee_posted_sat=it.fee_posted_sat,
            fee_carry_out_psat=it.carry_out.fee_psat,
            transaction_seq=transaction_seq,
            settled_at_s=now_s,
        )
        .returning(settlements.c.seq)
    ).scalar_one()
    connection.execute(
        insert(settled_shares),
        [
            {"settlement_seq": seq, "difficulty_log2": log2, "shares": shares}
            for log2, shares in shares_by_log2.items()
        ],
    )
    for log2, shares in shares_by_log2.items():
        connection.execute(
            update(rate_hours)
            .where(
                rate_hours.c.rate_id == it.rate_id,
                rate_hours.c.hour == it.hour,
                rate_hours.c.difficulty_log2 == log2,
            )
            .values(settled=rate_hours.c.settled + shares)
        )
