"""A tenant's statement of a period: money, work, payouts and decisions, as one value with a hash.

opening + credits + divided - payouts + adjustments - energy + grid = closing, to the satoshi, or there is no
statement.
Bookings count by the time they were booked, work by the time it was done: the last hour of a day is worked on
that day and credited on the next.

Invariants: nothing in it depends on when it is asked for, once the period is over: the same period gives
the same value, byte for byte, on SQLite and PostgreSQL alike. Integers and text, no float. Must not know:
how it is shown.
"""

from collections.abc import Mapping
from datetime import date
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from payouts.ledger import GENESIS_HASH, canonical_hash
from payouts.schemas.money import ledger_transactions, tenants
from payouts.statements.divided import Divided, divided_of
from payouts.statements.energy import Energy, energy_of
from payouts.statements.money import (
    Adjustment,
    Money,
    RateRow,
    StatementWrong,
    adjustments_of,
    credits_by,
    money_of,
    rates_of,
)
from payouts.statements.payouts import (
    AddressChange,
    Approval,
    Payout,
    TermsChange,
    addresses_of,
    approvals_of,
    payouts_of,
    terms_of,
)
from payouts.statements.period import Period, hashrate_hps, utc
from payouts.statements.reserve import Reserve, reserve_of
from payouts.statements.solo import SoloBlock, solo_blocks_of
from payouts.statements.work import HOURLY_DAYS_MAX, SPANS, Span, Work, spans_of, work_of


class UnknownTenant(ValueError):
    """There is no tenant of that name."""


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """One hour or day of the period: work done in it, credit booked in it."""

    from_utc: str
    accepted: int
    hashrate_hps: int
    credit_sat: int


class Statement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything a tenant is told about a period."""

    tenant: str
    from_day: str
    to_day: str  # the first day that is not in it
    money: Money
    rates: tuple[RateRow, ...]
    adjustments: tuple[Adjustment, ...]
    payouts: tuple[Payout, ...]
    step: str  # of the timeline: hour or day
    timeline: tuple[Moment, ...]
    work: Work
    terms: tuple[TermsChange, ...]
    addresses: tuple[AddressChange, ...]
    approvals: tuple[Approval, ...]
    reserve: Reserve
    ledger_seq: int  # the last transaction booked before the period's end, and its hash
    ledger_hash: str
    blocks: tuple[SoloBlock, ...] = ()  # that paid the tenant themselves
    energy: Energy | None = None  # where there was anything about it
    divided: Divided | None = None  # blocks over its work, where it carried its own luck

    @property
    def content_hash(self) -> str:
        """SHA-256 of the content as canonical JSON (sorted keys, no spaces, ASCII), in hex."""
        return canonical_hash(msgspec.to_builtins(self))


def statement(connection: Connection, tenant: str, from_day: date, to_day: date) -> Statement:
    """The tenant's statement of the days from `from_day` up to but not `to_day`, UTC.

    Raises UnknownTenant, BadPeriod, and StatementWrong where the books contradict each other.
    """
    period = Period(from_day, to_day)
    tenant_id = tenant_number(connection, tenant)
    money = money_of(connection, tenant_id, period)
    work = work_of(connection, tenant_id, period)
    step = "hour" if period.days <= HOURLY_DAYS_MAX else "day"
    spans = spans_of(connection, tenant_id, period, SPANS[step])
    counted = sum(span.accepted for span in spans.values())
    if counted != work.total.accepted:
        raise StatementWrong(f"{work.total.accepted} shares are tallied, {counted} are priced")
    seq, head = _head(connection, period)
    return Statement(
        tenant=tenant,
        from_day=str(from_day),
        to_day=str(to_day),
        money=money,
        rates=rates_of(connection, tenant_id, period, money),
        adjustments=adjustments_of(connection, tenant_id, period),
        payouts=payouts_of(connection, tenant_id, period),
        step=step,
        timeline=_timeline(
            period, SPANS[step], spans, credits_by(connection, tenant_id, period, SPANS[step])
        ),
        work=work,
        terms=terms_of(connection, tenant_id, period),
        addresses=addresses_of(connection, tenant_id, period),
        approvals=approvals_of(connection, tenant_id, period),
        reserve=reserve_of(connection, period),
        ledger_seq=seq,
        ledger_hash=head,
        blocks=solo_blocks_of(connection, tenant_id, period),
        energy=energy_of(connection, tenant_id, period),
        divided=divided_of(connection, tenant_id, period),
    )


def tenant_number(connection: Connection, tenant: str) -> int:
    """Raises UnknownTenant."""
    tenant_id = connection.scalar(select(tenants.c.id).where(tenants.c.name == tenant))
    if tenant_id is None:
        raise UnknownTenant(f"there is no tenant {tenant!r:.80}")
    return int(tenant_id)


def _timeline(
    period: Period, seconds: int, spans: Mapping[int, Span], credits_sat: Mapping[int, int]
) -> tuple[Moment, ...]:
    moments = []
    for at in range(period.from_s // seconds, period.to_s // seconds):
        span = spans.get(at)
        moments.append(
            Moment(
                from_utc=utc(at * seconds),
                accepted=span.accepted if span else 0,
                hashrate_hps=hashrate_hps(span.work, seconds) if span else 0,
                credit_sat=credits_sat.get(at, 0),
            )
        )
    return tuple(moments)


def _head(connection: Connection, period: Period) -> tuple[int, str]:
    row: Any = connection.execute(
        select(ledger_transactions.c.seq, ledger_transactions.c.hash)
        .where(ledger_transactions.c.booked_at_s < period.to_s)
        .order_by(ledger_transactions.c.seq.desc())
        .limit(1)
    ).one_or_none()
    return (row.seq, row.hash) if row else (0, GENESIS_HASH)
