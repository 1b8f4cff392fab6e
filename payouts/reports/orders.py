"""The report of an order: work delivered against work sold by hour, and what the upstream made of it.

Sold is the order's hashrate times the seconds of the hour that are the order's and have passed. Delivered is
the work of the shares that are counted on the order's jobs, by the difficulty assigned to each. What the
upstream says is about the few of those shares that reach its own target, so its figure for the same work
scatters around ours. A PH-hour is 10^15 H/s for an hour: 3.6 * 10^18 hashes.

Invariants: exact until it is written, then rounded down, to a billionth of a PH-hour and a psat. Reads only.
An hour that has passed, and is settled, is told the same whenever it is asked for. Must not know: nodes.
"""

from datetime import timedelta
from fractions import Fraction
from typing import Any

import msgspec
from msgspec import UnsetType
from sqlalchemy import Connection, Row, and_, func, or_, select

from payouts.rates import (
    DIFF1,
    HASHES_PER_DIFFICULTY,
    HASHES_PER_PH_DAY,
    HPS_PER_THS,
    PSAT_PER_SAT,
    floor_to_psat,
)
from payouts.receipts.hours import TAKEN, end_s, of_order
from payouts.receipts.making_good import MakeGood, Tolerance
from payouts.receipts.receipt import WORK_PER_HASH, extended_work, owed_work
from payouts.receipts.rows import all_terms, billed, last_receipt
from payouts.schemas.money import rate_hours, rates, settlements, tenants
from payouts.schemas.orders import channel_events, order_hours, orders, upstream_hours, upstreams
from payouts.schemas.sales import order_billing, order_charges
from payouts.statements.period import EPOCH, Period, utc, work_text

HASHES_PER_PH_HOUR = HASHES_PER_PH_DAY // 24
PH_HOUR_DIGITS = 9  # after the point: 3.6 * 10^9 hashes, a small part of one share
EVENTS_MAX = 1_000  # a channel that comes and goes; who wants the rest asks for fewer days
DAY_S = 86_400


class UnknownOrder(ValueError):
    """There is no order of this name."""


class Verdicts(msgspec.Struct, frozen=True, kw_only=True):
    """What the upstream said of shares that were sent to it."""

    accepted: int
    rejected: dict[str, int]  # by reason
    unanswered: int
    accepted_ph_hours: str  # the work that the accepted ones stand for, by the upstream's target


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """Some time of the order."""

    sold_ph_hours: str
    delivered_ph_hours: str
    delivered_work: str  # the same exactly: the sum of d
    delivered_bps: int | None  # of what was sold
    delivered_hps: int  # average over the seconds that are the order's
    minutes: int  # in which the allocator measured it
    minutes_short: int  # those of them in which it was below its tolerance
    moves: int  # machines that the allocator moved for it
    upstream: Verdicts


class Hour(Delivery, frozen=True, kw_only=True):
    """One hour of it."""

    from_utc: str


class TargetRow(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of one target of the upstream."""

    target: str  # 64 hex digits
    difficulty: str  # as people say it; whole, or rounded down to a thousandth
    upstream: Verdicts


class Seller(msgspec.Struct, frozen=True, kw_only=True):
    """What a supplier delivered, and what it was credited for it so far."""

    tenant: str
    delivered_ph_hours: str
    delivered_work: str
    # Shares that its machines brought of those that the upstream asks for, whatever it said of them, and what
    # they stand for: within chance what was delivered, unless somebody keeps them back.
    forwarded: int
    forwarded_ph_hours: str
    unsettled_ph_hours: str  # the part of it that is not settled yet
    credit_sat: int
    credit_psat: int
    pool_fee_sat: int
    pool_fee_psat: int


class ChannelEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something happened to the order's channel."""

    at_utc: str
    event: str
    words: str
    sessions: int


class MakingGood(msgspec.Struct, frozen=True, kw_only=True):
    """How an order makes good what is missing, and what all its receipts up to now come to."""

    how: MakeGood
    tolerances: tuple[Tolerance, ...]
    receipts: int
    made_good_ph_hours: str
    owed_sat: int
    owed_psat: int
    due_sat: int  # back to the buyer
    due_psat: int
    # Of an extension: for how long after the order's end; what is still owed as work, and what was delivered.
    extension_h: int | UnsetType = msgspec.UNSET
    owed_ph_hours: str | UnsetType = msgspec.UNSET
    extended_ph_hours: str | UnsetType = msgspec.UNSET


class OrderReport(msgspec.Struct, frozen=True, kw_only=True):
    """One order, in one period."""

    order: str
    buyer: str
    upstream: str
    hashrate_ths: int
    tolerance_bps: int
    sat_per_ph_day: int
    from_utc: str
    until_utc: str
    ended_at_utc: str | None  # before its time
    ended_by: str | None
    from_day: str
    to_day: str
    told_until_utc: str  # the period's end, or now
    total: Delivery
    cost_sat: int  # to the buyer: what was delivered, at the order's price
    cost_psat: int
    charged_sat: int | None  # of that, what is booked as owed by the buyer; None: the order is not billed
    charged_psat: int | None
    making_good: MakingGood | None
    hours: tuple[Hour, ...]
    targets: tuple[TargetRow, ...]
    sellers: tuple[Seller, ...]
    events: tuple[ChannelEvent, ...]
    events_left_out: int


def order_report(connection: Connection, name: str, period: Period | None, now_s: int) -> OrderReport:
    """Of whole days; of all days of the order where no period is given. Raises UnknownOrder."""
    order = connection.execute(
        select(orders, upstreams.c.name.label("upstream"))
        .join(upstreams, upstreams.c.id == orders.c.upstream_id)
        .where(orders.c.name == name)
    ).one_or_none()
    if order is None:
        raise UnknownOrder(f"there is no order {name!r:.80}")
    whole = _whole_period(connection, order)
    days = whole if period is None else period
    hours = _hours(connection, order, days, now_s)
    total = _Sum()
    targets: dict[str, _Sum] = {}
    for it in hours.values():
        total.merge(it)
        for target, verdicts in it.targets.items():
            targets.setdefault(target, _Sum()).merge_target(target, verdicts)
    ph_days = total.work * HASHES_PER_DIFFICULTY / HASHES_PER_PH_DAY
    cost = floor_to_psat(ph_days * order.sat_per_ph_day)
    charged_sat, charged_psat = _charged(connection, order.id, days)
    events, left_out = _events(connection, order, days)
    return OrderReport(
        order=order.name,
        buyer=order.buyer,
        upstream=order.upstream,
        hashrate_ths=order.hashrate_ths,
        tolerance_bps=order.tolerance_bps,
        sat_per_ph_day=order.sat_per_ph_day,
        from_utc=utc(order.from_s),
        until_utc=utc(order.until_s),
        ended_at_utc=None if order.ended_at_s is None else utc(order.ended_at_s),
        ended_by=order.ended_by,
        from_day=str(days.from_day),
        to_day=str(days.to_day),
        told_until_utc=utc(min(days.to_s, now_s)),
        total=Delivery(**total.fields()),
        cost_sat=cost.sat,
        cost_psat=cost.carry_psat,
        charged_sat=charged_sat,
        charged_psat=charged_psat,
        making_good=_making_good(connection, order.id),
        hours=tuple(Hour(from_utc=utc(hour * 3600), **it.fields()) for hour, it in hours.items()),
        targets=tuple(
            TargetRow(target=target, difficulty=_difficulty(target), upstream=it.verdicts())
            for target, it in sorted(targets.items(), reverse=True)
        ),
        sellers=_sellers(connection, order.id, days),
        events=events,
        events_left_out=left_out,
    )


class _Sum:
    """What belongs to an hour, or to several."""

    def __init__(self) -> None:
        self.seconds = 0  # of the order
        self.sold = Fraction(0)  # hashes
        self.work = Fraction(0)  # sum of d
        self.minutes = self.minutes_short = self.moves = 0
        # By target: shares by verdict and reason.
        self.targets: dict[str, dict[tuple[str, str], int]] = {}

    def merge(self, other: "_Sum") -> None:
        self.seconds += other.seconds
        self.sold += other.sold
        self.work += other.work
        self.minutes += other.minutes
        self.minutes_short += other.minutes_short
        self.moves += other.moves
        for target, verdicts in other.targets.items():
            self.merge_target(target, verdicts)

    def merge_target(self, target: str, verdicts: dict[tuple[str, str], int]) -> None:
        mine = self.targets.setdefault(target, {})
        for key, shares in verdicts.items():
            mine[key] = mine.get(key, 0) + shares

    def verdicts(self) -> Verdicts:
        counts: dict[tuple[str, str], int] = {}
        accepted_hashes = Fraction(0)
        for target, verdicts in self.targets.items():
            for key, shares in verdicts.items():
                counts[key] = counts.get(key, 0) + shares
            accepted_hashes += verdicts.get(("accepted", ""), 0) * Fraction(1 << 256, int(target, 16))
        return Verdicts(
            accepted=counts.get(("accepted", ""), 0),
            rejected={reason: counts[it, reason] for it, reason in sorted(counts) if it == "rejected"},
            unanswered=counts.get(("unanswered", ""), 0),
            accepted_ph_hours=_ph_hours(accepted_hashes),
        )

    def fields(self) -> dict[str, Any]:
        """The fields of a Delivery."""
        hashes = self.work * HASHES_PER_DIFFICULTY
        return {
            "sold_ph_hours": _ph_hours(self.sold),
            "delivered_ph_hours": _ph_hours(hashes),
            "delivered_work": work_text(self.work),
            "delivered_bps": int(hashes * 10_000 / self.sold) if self.sold else None,
            "delivered_hps": int(hashes / self.seconds) if self.seconds else 0,
            "minutes": self.minutes,
            "minutes_short": self.minutes_short,
            "moves": self.moves,
            "upstream": self.verdicts(),
        }


def _whole_period(connection: Connection, order: Row[Any]) -> Period:
    """The days of the order, and of shares that came after its end."""
    last_hour = connection.scalar(of_order((func.max(rate_hours.c.hour),), order.id)) or 0
    told_until_s = max(end_s(order), order.from_s + 1, (last_hour + 1) * 3600)
    return Period(
        EPOCH + timedelta(days=order.from_s // DAY_S), EPOCH + timedelta(days=-(-told_until_s // DAY_S))
    )


def _hours(connection: Connection, order: Row[Any], days: Period, now_s: int) -> dict[int, _Sum]:
    """By the hours since 1970, without gaps: those that were sold, and those in which anything was done."""
    first, last = days.from_s // 3600, days.to_s // 3600
    found: dict[int, _Sum] = {}
    delivered = of_order((rate_hours.c.hour, rate_hours.c.difficulty_log2, TAKEN), order.id)
    for hour, difficulty_log2, shares in connection.execute(
        delivered.where(rate_hours.c.hour >= first, rate_hours.c.hour < last)
    ):
        found.setdefault(hour, _Sum()).work += shares * Fraction(2) ** difficulty_log2
    for row in connection.execute(
        select(order_hours).where(
            order_hours.c.order_id == order.id, order_hours.c.hour >= first, order_hours.c.hour < last
        )
    ):
        it = found.setdefault(row.hour, _Sum())
        it.minutes, it.minutes_short, it.moves = row.minutes, row.minutes_short, row.moves
    key = (
        upstream_hours.c.hour,
        upstream_hours.c.target,
        upstream_hours.c.verdict,
        upstream_hours.c.reason,
    )
    said = select(*key, func.sum(upstream_hours.c.shares)).group_by(*key)
    for hour, target, verdict, reason, shares in connection.execute(
        said.where(
            upstream_hours.c.order_id == order.id,
            upstream_hours.c.hour >= first,
            upstream_hours.c.hour < last,
        )
    ):
        found.setdefault(hour, _Sum()).merge_target(target, {(verdict, reason): int(shares)})
    began_s = max(order.from_s, days.from_s)
    ended_s = min(end_s(order), days.to_s, now_s)
    if began_s < ended_s:
        for hour in (began_s // 3600, (ended_s - 1) // 3600):
            found.setdefault(hour, _Sum())
    hours = range(min(found), max(found) + 1) if found else range(0)
    for hour in hours:
        it = found.setdefault(hour, _Sum())
        it.seconds = max(min(ended_s, (hour + 1) * 3600) - max(began_s, hour * 3600), 0)
        it.sold = Fraction(order.hashrate_ths * it.seconds * HPS_PER_THS)
    return {hour: found[hour] for hour in hours}


def _charged(connection: Connection, order_id: int, days: Period) -> tuple[int | None, int | None]:
    """What the buyer was charged for the hours of these days; nothing of an order that is not billed."""
    if (
        connection.scalar(select(order_billing.c.order_id).where(order_billing.c.order_id == order_id))
        is None
    ):
        return None, None
    of = order_charges.c
    sums = (func.coalesce(func.sum(it), 0) for it in (of.amount_sat, of.amount_psat))
    sat, psat = connection.execute(
        select(*sums).where(
            of.order_id == order_id, of.hour >= days.from_s // 3600, of.hour < days.to_s // 3600
        )
    ).one()
    return divmod(int(sat) * PSAT_PER_SAT + int(psat), PSAT_PER_SAT)


def _making_good(connection: Connection, order_id: int) -> MakingGood | None:
    if (terms := all_terms(connection).get(order_id)) is None:
        return None
    sums, last = billed(connection, order_id), last_receipt(connection, order_id)
    good = last.made_good if last is not None else msgspec.UNSET
    granted = 0 if good is msgspec.UNSET else int(good.granted_before) + int(good.granted)
    extends, owed, delivered = terms.how is MakeGood.EXTENSION, owed_work(last), extended_work(last)
    owed_sat, owed_psat = divmod(sums.bill_psat, PSAT_PER_SAT)
    due_sat, due_psat = divmod(sums.due_psat, PSAT_PER_SAT)
    return MakingGood(
        how=terms.how,
        tolerances=terms.tolerances,
        receipts=sums.number,
        made_good_ph_hours=_ph_hours(Fraction(granted, WORK_PER_HASH)),
        owed_sat=owed_sat,
        owed_psat=owed_psat,
        due_sat=due_sat,
        due_psat=due_psat,
        extension_h=terms.extension_h if extends else msgspec.UNSET,
        owed_ph_hours=_ph_hours(Fraction(owed, WORK_PER_HASH)) if extends else msgspec.UNSET,
        extended_ph_hours=_ph_hours(Fraction(delivered, WORK_PER_HASH)) if extends else msgspec.UNSET,
    )


def _sellers(connection: Connection, order_id: int, days: Period) -> tuple[Seller, ...]:
    """By name: everybody whose shares counted."""
    first, last = days.from_s // 3600, days.to_s // 3600
    work: dict[str, Fraction] = {}
    unsettled: dict[str, Fraction] = {}
    delivered = of_order(
        (
            tenants.c.name,
            rate_hours.c.difficulty_log2,
            TAKEN,
            rate_hours.c.shares - rate_hours.c.settled,
        ),
        order_id,
    )
    for tenant, difficulty_log2, taken, open_shares in connection.execute(
        delivered.join(tenants, tenants.c.id == rates.c.tenant_id).where(
            rate_hours.c.hour >= first, rate_hours.c.hour < last
        )
    ):
        difficulty = Fraction(2) ** difficulty_log2
        work[tenant] = work.get(tenant, Fraction(0)) + taken * difficulty
        unsettled[tenant] = unsettled.get(tenant, Fraction(0)) + open_shares * difficulty
    forwarded: dict[str, tuple[int, Fraction]] = {}
    of = upstream_hours.c
    said = (
        select(tenants.c.name, of.target, func.sum(of.shares))
        .join(tenants, tenants.c.id == of.tenant_id)
        .where(of.order_id == order_id, of.hour >= first, of.hour < last)
        .group_by(tenants.c.name, of.target)
    )
    for tenant, target, shares in connection.execute(said):
        count, hashes = forwarded.get(tenant, (0, Fraction(0)))
        forwarded[tenant] = count + int(shares), hashes + int(shares) * Fraction(1 << 256, int(target, 16))
    credits_psat: dict[str, tuple[int, int]] = {}
    for row in connection.execute(
        select(
            tenants.c.name,
            settlements.c.credit_sat,
            settlements.c.credit_psat,
            settlements.c.fee_sat,
            settlements.c.fee_psat,
        )
        .join(rates, rates.c.id == settlements.c.rate_id)
        .join(tenants, tenants.c.id == settlements.c.tenant_id)
        .where(rates.c.order_id == order_id, settlements.c.hour >= first, settlements.c.hour < last)
    ):
        credit, fee = credits_psat.get(row.name, (0, 0))
        credit += row.credit_sat * PSAT_PER_SAT + row.credit_psat
        credits_psat[row.name] = credit, fee + row.fee_sat * PSAT_PER_SAT + row.fee_psat
    return tuple(
        _seller(
            tenant,
            work[tenant],
            forwarded.get(tenant, (0, Fraction(0))),
            unsettled[tenant],
            *credits_psat.get(tenant, (0, 0)),
        )
        for tenant in sorted(work)
    )


def _seller(
    tenant: str,
    work: Fraction,
    forwarded: tuple[int, Fraction],
    unsettled: Fraction,
    credit_psat: int,
    fee_psat: int,
) -> Seller:
    return Seller(
        tenant=tenant,
        delivered_ph_hours=_ph_hours(work * HASHES_PER_DIFFICULTY),
        delivered_work=work_text(work),
        forwarded=forwarded[0],
        forwarded_ph_hours=_ph_hours(forwarded[1]),
        unsettled_ph_hours=_ph_hours(unsettled * HASHES_PER_DIFFICULTY),
        credit_sat=credit_psat // PSAT_PER_SAT,
        credit_psat=credit_psat % PSAT_PER_SAT,
        pool_fee_sat=fee_psat // PSAT_PER_SAT,
        pool_fee_psat=fee_psat % PSAT_PER_SAT,
    )


def _events(connection: Connection, order: Row[Any], days: Period) -> tuple[tuple[ChannelEvent, ...], int]:
    """Of the order's own channel, and of the upstream as a whole; and how many more there are."""
    of_all = and_(channel_events.c.order_id.is_(None), channel_events.c.event == "switched")
    mine = and_(
        channel_events.c.upstream_id == order.upstream_id, or_(channel_events.c.order_id == order.id, of_all)
    )
    within = and_(mine, channel_events.c.at_s >= days.from_s, channel_events.c.at_s < days.to_s)
    count = connection.scalar(select(func.count()).select_from(channel_events).where(within)) or 0
    rows = connection.execute(
        select(channel_events)
        .where(within)
        .order_by(channel_events.c.at_s, channel_events.c.id)
        .limit(EVENTS_MAX)
    )
    events = tuple(
        ChannelEvent(at_utc=utc(row.at_s), event=row.event, words=row.words, sessions=row.sessions)
        for row in rows
    )
    return events, count - len(events)


def _difficulty(target: str) -> str:
    whole, _, rest = _decimal(Fraction(DIFF1, int(target, 16)), 3).partition(".")
    return whole if not rest.strip("0") else f"{whole}.{rest}"


def _ph_hours(hashes: Fraction) -> str:
    return _decimal(hashes / HASHES_PER_PH_HOUR, PH_HOUR_DIGITS)


def _decimal(exact: Fraction, digits: int) -> str:
    """With so many digits after the point, rounded down."""
    scaled = int(exact * 10**digits)
    return f"{scaled // 10**digits}.{scaled % 10**digits:0{digits}d}"
