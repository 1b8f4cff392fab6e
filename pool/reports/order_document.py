"""The report of an order as a document: what was sold and delivered first, then who said what of it.

Invariants: every figure is the report's own. Must not know: the database, and any format.
"""

from datetime import date
from typing import Final

from msgspec import UNSET

from payouts.rates import HPS_PER_THS, PSAT_PER_SAT
from payouts.reports.orders import Delivery, MakingGood, OrderReport, Verdicts
from pool.reports.cells import BLANK, count, exact, hashrate, moment, percent, work
from pool.reports.document import (
    Block,
    Cell,
    Column,
    Document,
    Fact,
    Facts,
    Prose,
    Section,
    Series,
    Table,
    Tiles,
    period_in_words,
    text,
)
from pool.reports.figures import grouped

PH_HOUR_DIGITS_SHOWN: Final = 4
REASON_COLUMNS_MAX: Final = 4  # more leave no room on a page or a terminal
HOURLY_CHART_DAYS_MAX: Final = 9  # more hours than its axis can label are drawn by day


def order_document(report: OrderReport) -> Document:
    """The whole report."""
    return Document(
        title="Order report",
        subject=text(report.order).text,
        period=period_in_words(report.from_day, report.to_day),
        ends=date.fromisoformat(report.to_day),
        sections=(
            Section(title=None, blocks=_head(report)),
            Section(title="Delivered work by hour", blocks=(_chart(report), _hours(report))),
            Section(title="What the upstream said", blocks=_upstream(report)),
            Section(title="Sellers", blocks=_sellers(report)),
            Section(title="Events", blocks=_events(report)),
        ),
        name="order",
        data=report,
    )


def _head(report: OrderReport) -> tuple[Block, ...]:
    total = report.total
    tiles = Tiles(
        key="delivery",
        facts=(
            Fact(key="sold_ph_hours", label="Sold, PH·h", cell=_ph_hours(total.sold_ph_hours)),
            Fact(key="delivered_ph_hours", label="Delivered, PH·h", cell=_ph_hours(total.delivered_ph_hours)),
            Fact(key="delivered_bps", label="Of what was sold", cell=_share(total.delivered_bps)),
            Fact(key="minutes_short", label="Minutes short", cell=count(total.minutes_short)),
            Fact(key="moves", label="Machines moved", cell=count(total.moves)),
        ),
    )
    ended: tuple[Fact, ...] = ()
    if report.ended_at_utc is not None:
        by = text(f"{report.ended_at_utc[:16].replace('T', ' ')} by {report.ended_by}")
        ended = (Fact(key="ended", label="Ended before its time (UTC)", cell=by),)
    cost_psat = report.cost_sat * PSAT_PER_SAT + report.cost_psat
    facts = Facts(
        key="order",
        facts=(
            Fact(key="buyer", label="Buyer", cell=text(report.buyer)),
            Fact(key="upstream", label="Delivered to", cell=text(report.upstream)),
            Fact(key="sold_ths", label="Sold", cell=_sold(report.hashrate_ths)),
            Fact(key="tolerance_bps", label="Tolerance", cell=percent(report.tolerance_bps)),
            Fact(key="from_utc", label="From (UTC)", cell=moment(report.from_utc)),
            Fact(key="until_utc", label="Until (UTC)", cell=moment(report.until_utc)),
            *ended,
            Fact(key="told_until_utc", label="Told here until (UTC)", cell=moment(report.told_until_utc)),
            Fact(
                key="delivered_work",
                label="Delivered, as the exact sum of difficulty",
                cell=work(total.delivered_work),
            ),
            Fact(key="sat_per_ph_day", label="Price (sat per PH·day)", cell=count(report.sat_per_ph_day)),
            Fact(
                key="cost",
                label="Cost to the buyer of what was delivered (sat)",
                cell=exact(cost_psat),
                strong=True,
            ),
            *_charged(report),
            *_making_good(report.making_good),
        ),
    )
    return tiles, facts


def _charged(report: OrderReport) -> tuple[Fact, ...]:
    """What is booked of the cost, of an order that is billed."""
    if report.charged_sat is None or report.charged_psat is None:
        return ()
    psat = report.charged_sat * PSAT_PER_SAT + report.charged_psat
    label = "of which charged, and owed by the buyer until it is paid (sat)"
    return (Fact(key="charged", label=label, cell=exact(psat), part=True),)


def _making_good(it: MakingGood | None) -> tuple[Fact, ...]:
    """Of an order that makes good what is missing: it is owed for what was sold."""
    if it is None:
        return ()
    over = ", ".join(f"{percent(step.bps).text} over {step.hours} h" for step in it.tolerances)
    how = it.how.value if it.extension_h is UNSET else f"{it.how.value} of up to {it.extension_h} h"
    due_psat = it.due_sat * PSAT_PER_SAT + it.due_psat
    return (
        Fact(key="make_good", label="What is missing is made good", cell=text(f"{how}, beyond {over}")),
        Fact(key="made_good_ph_hours", label="Made good, PH·h", cell=_ph_hours(it.made_good_ph_hours)),
        *_extended(it),
        Fact(
            key="owed",
            label=f"Owed by all {grouped(it.receipts)} receipts so far (sat)",
            cell=exact(it.owed_sat * PSAT_PER_SAT + it.owed_psat),
            strong=True,
        ),
        Fact(key="due", label="Due to the buyer by them (sat)", cell=exact(due_psat)),
    )


def _extended(it: MakingGood) -> tuple[Fact, ...]:
    """Of that what is work again."""
    if it.extended_ph_hours is UNSET or it.owed_ph_hours is UNSET:
        return ()
    done = _ph_hours(it.extended_ph_hours)
    return (
        Fact(
            key="extended_ph_hours", label="of which delivered after all, and owed for", cell=done, part=True
        ),
        Fact(
            key="owed_ph_hours",
            label="of which still owed as work",
            cell=_ph_hours(it.owed_ph_hours),
            part=True,
        ),
    )


def _chart(report: OrderReport) -> Series:
    """By hour, or by day where there are too many."""
    starts = [it.from_utc for it in report.hours]
    values = [it.delivered_hps for it in report.hours]
    step = "hour"
    if len(starts) > HOURLY_CHART_DAYS_MAX * 24:
        days: dict[str, list[int]] = {}
        for start, value in zip(starts, values, strict=True):
            days.setdefault(start[:10], []).append(value)
        starts = [f"{day}T00:00:00Z" for day in days]
        values = [sum(of_day) // len(of_day) for of_day in days.values()]
        step = "day"
    return Series(
        key="delivered_hashrate_hps",
        title=f"Delivered hashrate by {step}",
        kind="line",
        quantity="hashrate_hps",
        step=step,
        starts_utc=tuple(starts),
        values=tuple(values),
    )


def _hours(report: OrderReport) -> Table:
    return Table(
        key="hours",
        columns=(
            Column(key="from_utc", title="Hour from (UTC)"),
            Column(key="sold_ph_hours", title="Sold PH·h", right=True),
            Column(key="delivered_ph_hours", title="Delivered PH·h", right=True),
            Column(key="delivered_bps", title="Of sold", right=True),
            Column(key="minutes", title="Minutes", right=True),
            Column(key="minutes_short", title="of which short", right=True),
            Column(key="moves", title="Moved", right=True),
        ),
        rows=tuple((moment(it.from_utc), *_delivery(it)) for it in report.hours),
        total=(Cell("Total", "total"), *_delivery(report.total)) if report.hours else None,
        empty="No hour of the order is in this period.",
    )


def _delivery(it: Delivery) -> tuple[Cell, ...]:
    return (
        _ph_hours(it.sold_ph_hours),
        _ph_hours(it.delivered_ph_hours),
        _share(it.delivered_bps),
        count(it.minutes),
        count(it.minutes_short),
        count(it.moves),
    )


def _upstream(report: OrderReport) -> tuple[Block, ...]:
    reasons = _Reasons(report.total.upstream.rejected)
    said = [it for it in report.hours if _anything(it.upstream)]
    by_hour = Table(
        key="upstream_hours",
        columns=(Column(key="from_utc", title="Hour from (UTC)"), *reasons.columns),
        rows=tuple((moment(it.from_utc), *reasons.of(it.upstream)) for it in said),
        total=(Cell("Total", "total"), *reasons.of(report.total.upstream)) if said else None,
        empty="No share was sent to the upstream.",
    )
    by_target = Table(
        key="upstream_targets",
        columns=(Column(key="target", title="Difficulty there"), *reasons.columns),
        rows=tuple(
            (Cell(work(it.difficulty).text, it.target), *reasons.of(it.upstream)) for it in report.targets
        ),
        empty="And so there is nothing to add up by its difficulty.",
    )
    return (
        Prose(
            text="Only shares that reach the upstream's own difficulty are sent to it; each stands for the"
            " work that finds one such share on average. So its figure scatters around what is delivered:"
            " by 1 % with 10,000 accepted shares, by 10 % with 100. Rejected shares are told by its reasons,"
            " unanswered are those of which it never said anything."
        ),
        by_hour,
        by_target,
    )


class _Reasons:
    """Columns of the upstream's verdicts: one for each of the commonest reasons, the others in words."""

    def __init__(self, rejected: dict[str, int]) -> None:
        ranked = sorted(rejected, key=lambda reason: (-rejected[reason], reason))
        many = len(ranked) > REASON_COLUMNS_MAX
        self._shown = ranked[: REASON_COLUMNS_MAX - 1] if many else ranked
        self._other = ranked[REASON_COLUMNS_MAX - 1 :] if many else []
        self.columns = (
            Column(key="accepted", title="Accepted", right=True),
            *(
                Column(key=f"rejected_{reason}", title=_in_words(reason).capitalize(), right=True)
                for reason in self._shown
            ),
            Column(key="unanswered", title="Unanswered", right=True),
            Column(key="accepted_ph_hours", title="Accepted PH·h", right=True),
        )
        if many:
            self.columns += (Column(key="rejected_other_reasons", title="Also rejected"),)

    def of(self, it: Verdicts) -> tuple[Cell, ...]:
        """The cells of a row."""
        cells = [
            count(it.accepted),
            *(count(it.rejected.get(reason, 0)) for reason in self._shown),
            count(it.unanswered),
            _ph_hours(it.accepted_ph_hours),
        ]
        if self._other:
            rest = (reason for reason in self._other if reason in it.rejected)
            told = (f"{_in_words(reason)} {grouped(it.rejected[reason])}" for reason in rest)
            cells.append(text(", ".join(told)))
        return tuple(cells)


def _sellers(report: OrderReport) -> tuple[Block, ...]:
    credits_psat = [it.credit_sat * PSAT_PER_SAT + it.credit_psat for it in report.sellers]
    fees_psat = [it.pool_fee_sat * PSAT_PER_SAT + it.pool_fee_psat for it in report.sellers]
    table = Table(
        key="sellers",
        columns=(
            Column(key="tenant", title="Tenant"),
            Column(key="delivered_ph_hours", title="Delivered PH·h", right=True),
            Column(key="forwarded", title="Forwarded", right=True),
            Column(key="forwarded_ph_hours", title="Forwarded PH·h", right=True),
            Column(key="unsettled_ph_hours", title="Not settled yet PH·h", right=True),
            Column(key="credit", title="Credit (sat)", right=True),
            Column(key="pool_fee", title="Pool's fee (sat)", right=True),
        ),
        rows=tuple(
            (
                text(it.tenant),
                _ph_hours(it.delivered_ph_hours),
                count(it.forwarded),
                _ph_hours(it.forwarded_ph_hours),
                _ph_hours(it.unsettled_ph_hours),
                exact(credit_psat),
                exact(fee_psat),
            )
            for it, credit_psat, fee_psat in zip(report.sellers, credits_psat, fees_psat, strict=True)
        ),
        total=(
            Cell("Total", "total"),
            _ph_hours(report.total.delivered_ph_hours),
            count(sum(it.forwarded for it in report.sellers)),
            BLANK,
            BLANK,
            exact(sum(credits_psat)),
            exact(sum(fees_psat)),
        )
        if report.sellers
        else None,
        empty="Nobody has delivered anything in this period.",
    )
    note = Prose(
        text="What sellers are credited by the pool's own rate, or by the order's price, as their terms say;"
        " an hour is settled after its end. Where a seller's terms leave the risk of the upstream to the"
        " pool, it is credited as well for shares that the upstream rejected or never answered; they are"
        " not delivered, and not in the buyer's cost. Forwarded are shares that its machines brought of those"
        " that the upstream asks for, whatever it said of them: they stand for as much as was delivered,"
        " within chance (of 100 shares three deviations are 30 %, of 10,000 they are 3 %). Who brings far"
        " less keeps from the buyer what he pays for."
    )
    return table, note


def _events(report: OrderReport) -> tuple[Block, ...]:
    table = Table(
        key="events",
        columns=(
            Column(key="at_utc", title="When (UTC)"),
            Column(key="event", title="What"),
            Column(key="sessions", title="Sessions", right=True),
            Column(key="words", title="Why"),
        ),
        rows=tuple(
            (
                Cell(it.at_utc[:19].replace("T", " "), it.at_utc),
                Cell(_in_words(it.event), it.event),
                count(it.sessions),
                text(it.words),
            )
            for it in report.events
        ),
        empty="Nothing happened to the order's channel.",
    )
    if not report.events_left_out:
        return (table,)
    more = f"{grouped(report.events_left_out)} more events are left out: ask for fewer days."
    return table, Prose(text=more)


def _ph_hours(exact_text: str) -> Cell:
    whole, _, rest = exact_text.partition(".")
    return Cell(f"{grouped(int(whole))}.{rest[:PH_HOUR_DIGITS_SHOWN]}", exact_text)


def _in_words(name: str) -> str:
    return name.replace("_", " ")


def _sold(hashrate_ths: int) -> Cell:
    return Cell(hashrate(hashrate_ths * HPS_PER_THS).text, hashrate_ths)


def _share(bps: int | None) -> Cell:
    return Cell("n/a", None) if bps is None else percent(bps)


def _anything(it: Verdicts) -> bool:
    return bool(it.accepted or it.rejected or it.unanswered)
