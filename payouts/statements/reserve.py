"""The reserve disclosure: what the pool would need to bear its luck, and what its books say it has.

The reserve is Rosenfeld's for the largest block value that work was bought at in the period and the fee
that was really earned, less what orphaned blocks cost. Work for an upstream is not in it, nor solo work and
its blocks: whatever the pool pays for the first, it finds no blocks of its own with either. What it has are
matured coins less all that it owes; both are the books' as of the period's end.

Invariants: exact or Decimal, never a float. Must not know: nodes, so whether the coins are there.
"""

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction

import msgspec
from sqlalchemy import Connection, func, select

from payouts.income import Status, chain_heights, newest_events
from payouts.ledger import PoolAccount
from payouts.ratebook import price_of
from payouts.rates import PSAT_PER_SAT
from payouts.risk import effective_fee, reserve_sat, ruin_probability
from payouts.schemas.money import (
    blocks,
    ledger_accounts,
    ledger_transactions,
    ledger_transfers,
    rates,
    settlements,
    solo_blocks,
)
from payouts.statements.period import Period

RUIN = Fraction(1, 1000)  # the probability of ruin that a reserve is stated for


class Reserve(msgspec.Struct, frozen=True, kw_only=True):
    """Needed against there. The first fields are None where no work was bought in the period."""

    block_sat: int | None
    fee: str | None  # the pool's part of the work's worth, in the period
    effective_fee: str | None  # the same after orphaned blocks; None also where all were orphaned
    ruin: str  # the probability that `needed_sat` is for
    needed_sat: int | None  # None also where no reserve is enough: the effective fee is not positive
    matured_sat: int  # coins that the books say can be spent
    pending_sat: int  # coinbases that are not mature yet
    owed_sat: int  # to all tenants
    free_sat: int  # matured less owed
    ruin_at_free: str | None  # the probability of ruin with what is free
    blocks_found: int
    blocks_orphaned: int


def reserve_of(connection: Connection, period: Period) -> Reserve:
    """As of the period's end."""
    pool = balances_before(connection, period.to_s)
    pending_sat = pool.get(PoolAccount.BLOCK_INCOME_PENDING, 0)
    matured_sat = -pool.get(PoolAccount.COINS, 0) - pending_sat
    owed_sat = sum(pool[name] for name in _tenant_accounts(connection) if name in pool)
    free_sat = matured_sat - owed_sat
    found, orphaned = blocks_before(connection, period.to_s)
    fee, block_sat = _fee(connection, period), _block_sat(connection, period)
    effective = needed_sat = ruin_at_free = None
    if fee is not None and block_sat and (not found or orphaned < found):
        effective = effective_fee(fee, Fraction(orphaned, found or 1))
        ruin_at_free = _digits(ruin_probability(block_sat, max(free_sat, 0), effective))
        if effective > 0:
            needed_sat = reserve_sat(block_sat, RUIN, effective)
    return Reserve(
        block_sat=block_sat,
        fee=None if fee is None else _digits(fee),
        effective_fee=None if effective is None else _digits(effective),
        ruin=_digits(RUIN),
        needed_sat=needed_sat,
        matured_sat=matured_sat,
        pending_sat=pending_sat,
        owed_sat=owed_sat,
        free_sat=free_sat,
        ruin_at_free=ruin_at_free,
        blocks_found=found,
        blocks_orphaned=orphaned,
    )


def balances_before(connection: Connection, before_s: int) -> Mapping[str, int]:
    """Balances of all accounts that had moved by then."""
    balances: dict[str, int] = {}
    for column, sign in ((ledger_transfers.c.to_account, 1), (ledger_transfers.c.from_account, -1)):
        moved = (
            select(column, func.sum(ledger_transfers.c.amount_sat))
            .join(ledger_transactions, ledger_transactions.c.seq == ledger_transfers.c.transaction_seq)
            .where(ledger_transactions.c.booked_at_s < before_s)
            .group_by(column)
        )
        for account, total_sat in connection.execute(moved):
            balances[account] = balances.get(account, 0) + sign * int(total_sat)
    return balances


def blocks_before(connection: Connection, before_s: int) -> tuple[int, int]:
    """The pool's own blocks, and how many of them were orphaned, as booked by then.

    An orphan where the chain has another block of ours is neither: it says nothing of the network.
    """
    newest = newest_events(before_s)
    sibling = (newest.c.status == Status.ORPHANED.value) & blocks.c.height.in_(chain_heights(newest))
    states = connection.scalars(
        select(newest.c.status)
        .join(blocks, blocks.c.hash == newest.c.block_hash)
        .where(blocks.c.income_sat > 0, blocks.c.hash.not_in(select(solo_blocks.c.block_hash)), ~sibling)
    ).all()
    return len(states), states.count(Status.ORPHANED.value)


def _tenant_accounts(connection: Connection) -> list[str]:
    return list(
        connection.scalars(select(ledger_accounts.c.name).where(ledger_accounts.c.tenant_id.is_not(None)))
    )


def _fee(connection: Connection, period: Period) -> Fraction | None:
    """The pool's part of all work that it bought in the period."""
    names = ("credit_sat", "credit_psat", "fee_sat", "fee_psat")
    sums = connection.execute(
        select(*(func.coalesce(func.sum(settlements.c[name]), 0) for name in names))
        .join(rates, rates.c.id == settlements.c.rate_id)
        .where(
            rates.c.upstream_id.is_(None),
            settlements.c.settled_at_s >= period.from_s,
            settlements.c.settled_at_s < period.to_s,
        )
    ).one()
    credit_sat, credit_psat, fee_sat, fee_psat = (int(it) for it in sums)
    fee, credit = fee_sat * PSAT_PER_SAT + fee_psat, credit_sat * PSAT_PER_SAT + credit_psat
    return Fraction(fee, fee + credit) if fee + credit else None


def _block_sat(connection: Connection, period: Period) -> int | None:
    """The largest value of a block that work was bought at in the period."""
    used = connection.execute(
        select(rates).where(
            rates.c.upstream_id.is_(None),
            rates.c.id.in_(
                select(settlements.c.rate_id).where(
                    settlements.c.settled_at_s >= period.from_s, settlements.c.settled_at_s < period.to_s
                )
            ),
        )
    )
    return max((price_of(row).block_sat for row in used), default=None)


def _digits(value: Fraction | Decimal) -> str:
    """Six decimals, the nearest."""
    millionths = round(Fraction(value) * 10**6)
    whole, rest = divmod(abs(millionths), 10**6)
    return f"{'-' if millionths < 0 else ''}{whole}.{rest:06d}"
