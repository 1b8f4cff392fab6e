"""The pool report, for the operator: luck, reserve, block income, what is owed to whom, and the audit.

Luck compares the blocks that pay the pool with those that the work it bought was expected to find, both
in the period; orphaned ones and siblings were found as well. Blocks that paid a solo tenant, or are divided
over the work of those who found them, and the work that found them, are not in it: groups whose blocks are
divided have a luck of their own. Income is what the best chain has. Balances are the newest, and the audit is
of all.

Invariants: exact or Decimal. Reads only. Must not know: nodes.
"""

from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

import msgspec
from sqlalchemy import Connection, func, select

from payouts.audit.verify import audit
from payouts.income import IN_CHAIN, Status, chain_heights, newest_events
from payouts.ledger import PoolAccount, in_payout, payable
from payouts.ratebook import price_of
from payouts.reports.choices import Whose
from payouts.reports.luck import LuckReport, luck_report
from payouts.risk import FOUND_MAX, luck
from payouts.schemas.divisions import block_funds
from payouts.schemas.money import blocks, rate_hours, rates, solo_blocks, tenants
from payouts.siblings import siblings_between
from payouts.statements.divided import GroupLuck, lucks_of_groups
from payouts.statements.period import Period, utc
from payouts.statements.reserve import Reserve, reserve_of

SIBLING = "sibling"  # an orphan at whose height the chain has another block of ours
SIGNIFICANT = Context(prec=6)  # digits of what is shown of a Decimal


class PoolLuck(msgspec.Struct, frozen=True, kw_only=True):
    """Blocks found over blocks expected; the interval holds the true ratio with 95 % confidence."""

    found: int  # siblings too
    siblings: int  # that were not even submitted
    expected: str
    luck: str
    low: str
    high: str


class Owed(msgspec.Struct, frozen=True, kw_only=True):
    """What the pool owes a tenant."""

    tenant: str
    payable_sat: int
    in_payout_sat: int


class FoundBlock(msgspec.Struct, frozen=True, kw_only=True):
    """A block found in the period and submitted, with its newest status, and what it is worth with that."""

    height: int
    hash: str
    found_at_utc: str
    income_sat: int
    status: str
    tenant: str | None  # a solo tenant that it paid; the pool's income is the fee then
    tenant_sat: int


class PoolReport(msgspec.Struct, frozen=True, kw_only=True):
    """Where the pool stands."""

    from_day: str
    to_day: str
    luck: PoolLuck | None  # None: no work was bought in the period
    groups: tuple[GroupLuck, ...]  # those whose blocks are divided
    reserve: Reserve
    blocks: tuple[FoundBlock, ...]
    by_tenant: LuckReport
    accounts_sat: dict[str, int]  # of the pool itself
    owed: tuple[Owed, ...]
    ledger_seq: int
    ledger_hash: str
    settlements: int
    wrong: str | None  # the first wrong row of the books, None when all is well


def pool_report(connection: Connection, period: Period) -> PoolReport:
    """Reads and checks the books as a whole: minutes for years of them."""
    checked = audit(connection)
    balances_sat = checked.balances_sat
    names = connection.execute(select(tenants.c.id, tenants.c.name).order_by(tenants.c.id)).all()
    wrong = checked.wrong
    return PoolReport(
        from_day=str(period.from_day),
        to_day=str(period.to_day),
        luck=_luck(connection, period),
        groups=lucks_of_groups(connection, period),
        reserve=reserve_of(connection, period),
        blocks=_blocks(connection, period),
        by_tenant=luck_report(connection, period, Whose.TENANT),
        accounts_sat={account.value: balances_sat.get(account, 0) for account in PoolAccount},
        owed=tuple(
            Owed(
                tenant=row.name,
                payable_sat=balances_sat.get(payable(row.id), 0),
                in_payout_sat=balances_sat.get(in_payout(row.id), 0),
            )
            for row in names
        ),
        ledger_seq=checked.head.seq,
        ledger_hash=checked.head.hash,
        settlements=checked.settlements,
        wrong=None if wrong is None else f"{wrong.table} {wrong.row}: {wrong.reason}",
    )


def _luck(connection: Connection, period: Period) -> PoolLuck | None:
    expected = _expected_blocks(connection, period)
    siblings = siblings_between(connection, period.from_s, period.to_s)
    submitted = connection.scalar(
        select(func.count())
        .select_from(blocks)
        .where(
            blocks.c.income_sat > 0,
            blocks.c.hash.not_in(select(solo_blocks.c.block_hash)),
            blocks.c.hash.not_in(select(block_funds.c.block_hash)),
            blocks.c.found_at_s >= period.from_s,
            blocks.c.found_at_s < period.to_s,
        )
    )
    found = siblings + (submitted or 0)
    if not expected or found > FOUND_MAX:
        return None
    known = luck(found, expected)
    return PoolLuck(
        found=found,
        siblings=siblings,
        expected=_text(Decimal(expected.numerator) / Decimal(expected.denominator)),
        luck=_text(known.luck),
        low=_text(known.low),
        high=_text(known.high),
    )


def _expected_blocks(connection: Connection, period: Period) -> Fraction:
    """The sum of p over all shares of its own work that the pool bought."""
    rows = connection.execute(
        select(rates, rate_hours.c.difficulty_log2, func.sum(rate_hours.c.shares).label("shares"))
        .join(rate_hours, rate_hours.c.rate_id == rates.c.id)
        .where(
            rates.c.upstream_id.is_(None),
            rate_hours.c.hour >= period.from_s // 3600,
            rate_hours.c.hour < period.to_s // 3600,
        )
        .group_by(rates.c.id, rate_hours.c.difficulty_log2)
    )
    expected = Fraction(0)
    for row in rows:
        price = price_of(row)
        if price.scheme.accrues:
            expected += price.expected_blocks(Fraction(2) ** row.difficulty_log2, int(row.shares))
    return expected


def _blocks(connection: Connection, period: Period) -> tuple[FoundBlock, ...]:
    newest = newest_events()
    rows: Any = connection.execute(
        select(
            blocks,
            newest.c.status,
            blocks.c.height.in_(chain_heights(newest)).label("ours_is_there"),
            solo_blocks.c.amount_sat,
            tenants.c.name,
        )
        .join(newest, newest.c.block_hash == blocks.c.hash)
        .outerjoin(solo_blocks, solo_blocks.c.block_hash == blocks.c.hash)
        .outerjoin(tenants, tenants.c.id == solo_blocks.c.tenant_id)
        .where(blocks.c.found_at_s >= period.from_s, blocks.c.found_at_s < period.to_s)
        .order_by(blocks.c.found_at_s, blocks.c.hash)
    )
    return tuple(
        FoundBlock(
            height=row.height,
            hash=row.hash,
            found_at_utc=utc(row.found_at_s),
            income_sat=row.income_sat if row.status in IN_CHAIN else 0,
            status=SIBLING if row.ours_is_there and row.status == Status.ORPHANED else row.status,
            tenant=row.name,
            tenant_sat=(row.amount_sat or 0) if row.status in IN_CHAIN else 0,
        )
        for row in rows
    )


def _text(value: Decimal) -> str:
    return format(SIGNIFICANT.plus(value), "f")
