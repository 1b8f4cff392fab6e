"""The parts of a statement and of the report of power that are about energy, as blocks.

Invariants: every figure is the statement's, or the report's, own. Must not know: the database, and any
format.
"""

from datetime import date

from payouts.energy.carbon import Method
from payouts.rates import PSAT_PER_SAT
from payouts.reports.choices import Place
from payouts.reports.power import PowerReport, PowerRow
from payouts.statements.energy import Drawn, Energy
from pool.reports.cells import BLANK, amount, carbon, count, exact, kwh, moment, number, watts
from pool.reports.document import (
    Block,
    Cell,
    Column,
    Document,
    Fact,
    Facts,
    Prose,
    Section,
    Table,
    period_in_words,
    text,
)

METHODS = {Method.LOCATION: "location-based", Method.MARKET: "market-based"}
EVENT_COLUMNS = (
    Column(key="event", title="Event"),
    Column(key="from_utc", title="From (UTC)"),
    Column(key="ended_utc", title="Over (UTC)"),
    Column(key="asked_by", title="Asked by"),
)
SHED_COLUMNS = (
    Column(key="machines_off", title="Machines off", right=True),
    Column(key="watts_shed", title="Shed", right=True),
    Column(key="joules_shed", title="Not drawn", right=True),
    Column(key="ph_days", title="PH-days", right=True),
    Column(key="forgone_sat", title="Forgone (BTC)", right=True),
    Column(key="error_sat", title="Within (BTC)", right=True),
)


def energy_sections(energy: Energy | None) -> tuple[Section, ...]:
    """Of a statement; none where there was no energy in it."""
    if energy is None:
        return ()
    sections = [Section(title="Energy", blocks=_energy(energy))]
    if energy.curtailments or energy.payments:
        sections.append(Section(title="Curtailments", blocks=_curtailments(energy)))
    return tuple(sections)


def _energy(energy: Energy) -> tuple[Block, ...]:
    drawn = Table(
        key="drawn",
        columns=(
            Column(key="container", title="Container"),
            Column(key="metered_j", title="Metered", right=True),
            Column(key="estimated_j", title="Estimated", right=True),
            Column(key="joules", title="Together", right=True),
            Column(key="error_j", title="Within", right=True),
        ),
        rows=tuple((text(it.container), *_drawn(it)) for it in energy.containers),
        total=(Cell("Total", "total"), *_drawn(energy.total)) if energy.containers else None,
        empty="No energy was booked in this period.",
    )
    charges = Table(
        key="charges",
        columns=(
            Column(key="tariff", title="By"),
            Column(key="currency", title="Currency"),
            Column(key="source", title="Source"),
            Column(key="hours", title="Hours", right=True),
            Column(key="joules", title="Energy", right=True),
            Column(key="cost", title="Cost (sat)", right=True),
        ),
        rows=tuple(
            (
                text(it.tariff),
                text(it.currency),
                text(it.source),
                count(it.hours),
                kwh(it.joules),
                exact(it.cost_sat * PSAT_PER_SAT + it.cost_psat),
            )
            for it in energy.charges
        ),
        empty="No energy was charged in this period.",
    )
    return (drawn, _carbon(energy), charges, _due(energy), _how(energy))


def _carbon(energy: Energy) -> Facts:
    facts = []
    drawn_j = energy.total.metered_j + energy.total.estimated_j
    for it in energy.carbon:
        method = METHODS[it.method]
        facts.append(Fact(key=it.method.value, label=f"CO2e, {method}", cell=carbon(it.mg), strong=True))
        sources = ", ".join(text(source).text for source in it.sources) or "nobody has said any"
        facts.append(
            Fact(key=f"{it.method}_sources", label="by", cell=Cell(sources, "; ".join(it.sources)), part=True)
        )
        if it.known_j != drawn_j:
            without = Cell(kwh(drawn_j - it.known_j).text, drawn_j - it.known_j)
            facts.append(
                Fact(key=f"{it.method}_unknown_j", label="without a figure", cell=without, part=True)
            )
    return Facts(key="carbon_mg", facts=tuple(facts))


def _due(energy: Energy) -> Facts:
    return Facts(
        key="due_sat",
        facts=(
            Fact(key="due_before", label="Due for energy before", cell=amount(energy.due_before_sat)),
            Fact(key="charged", label="Charged in whole satoshi", cell=amount(energy.charged_sat)),
            Fact(key="collected", label="Collected from the balance", cell=amount(-energy.collected_sat)),
            Fact(
                key="due_after", label="Due for energy (BTC)", cell=amount(energy.due_after_sat), strong=True
            ),
            Fact(key="carried_in", label="Carried in from before (sat)", cell=exact(energy.carry_in_psat)),
            Fact(key="carried_out", label="Carried forward (sat)", cell=exact(energy.carry_out_psat)),
        ),
    )


def _how(energy: Energy) -> Prose:
    hours = ""
    if energy.first_hour_utc is not None and energy.last_hour_utc is not None:
        first, last = moment(energy.first_hour_utc).text, moment(energy.last_hour_utc).text
        hours = f" Here it is of the hours from {first} to {last}."
    return Prose(
        text="Energy is booked a quarter of an hour after its hour is over: what was read later is the next"
        f" part of its hour, more or less, in the statement of the day on which it was.{hours} Metered is"
        " what a meter measured, divided by the work behind it; estimated is accepted work times the"
        " efficiency of the machines. A charge is energy × price, exactly, carried below one satoshi;"  # noqa: RUF001
        " what the balance cannot pay stays due and is collected from later credits before anything is paid"
        " out. Carbon is what was known by the period's end."
    )


def _curtailments(energy: Energy) -> tuple[Block, ...]:
    events = Table(
        key="curtailments",
        columns=(*EVENT_COLUMNS, *SHED_COLUMNS),
        rows=tuple(
            (
                number(it.event),
                moment(it.from_utc),
                moment(it.ended_utc),
                text(it.asked_by),
                Cell(f"{it.machines_off} of {it.machines}", it.machines_off),
                watts(it.watts_shed),
                kwh(it.joules_shed),
                Cell(it.ph_days, it.ph_days),
                amount(it.forgone_sat),
                amount(it.error_sat),
            )
            for it in energy.curtailments
        ),
        empty="No curtailment was booked in this period.",
    )
    note = Prose(
        text="A machine is off by its accepted shares alone. It forgoes the exact price of the work that it"
        " did in the hour before it was asked, for as long as it was off, by the pool's own price of each"
        " moment; “within” is three standard deviations, both ways."
    )
    payments = Table(
        key="grid_payments",
        columns=(
            Column(key="event", title="Event"),
            Column(key="booked_at_utc", title="Booked (UTC)"),
            Column(key="reference", title="Paid by the grid"),
            Column(key="operator_sat", title="Operator's part (BTC)", right=True),
            Column(key="tenant_sat", title="To you (BTC)", right=True),
        ),
        rows=tuple(
            (
                number(it.event),
                moment(it.booked_at_utc),
                text(it.reference),
                amount(it.operator_sat),
                amount(it.tenant_sat),
            )
            for it in energy.payments
        ),
        empty="The grid paid nothing in this period.",
    )
    return events, note, payments


def power_document(report: PowerReport, subject: str) -> Document:
    """What was drawn, what it cost, and what was curtailed."""
    rows = tuple((text(it.name) if it.name else Cell("nowhere", ""), *_cells(it)) for it in report.rows)
    costs = report.place != Place.CONTAINER
    drawn = Table(
        key="power",
        columns=(
            Column(key=report.place, title=report.place.capitalize()),
            Column(key="metered_j", title="Metered", right=True),
            Column(key="estimated_j", title="Estimated", right=True),
            Column(key="error_j", title="Within", right=True),
            Column(key="watts", title="Average", right=True),
            Column(key="location_mg", title="CO2e, location", right=True),
            Column(key="market_mg", title="CO2e, market", right=True),
            *((Column(key="cost_sat", title="Cost (BTC)", right=True),) if costs else ()),
            *((Column(key="waiting_j", title="No price yet", right=True),) if costs else ()),
            *((Column(key="due_sat", title="Due (BTC)", right=True),) if _owes(report) else ()),
        ),
        rows=rows,
        total=(Cell("Total", "total"), *_cells(report.total)) if rows else None,
        empty="No energy was booked for this period.",
    )
    events = Table(
        key="events",
        columns=(
            *EVENT_COLUMNS,
            Column(key="watts_asked", title="Asked", right=True),
            Column(key="watts_metered", title="By meter", right=True),
            Column(key="tenant", title="Tenant"),
            *SHED_COLUMNS,
            Column(key="paid_sat", title="Paid (BTC)", right=True),
        ),
        rows=tuple(
            (
                number(it.event),
                moment(it.from_utc),
                moment(it.ended_utc),
                text(it.asked_by),
                watts(it.watts_asked),
                watts(it.watts_metered),
                text(it.tenant),
                Cell(f"{it.machines_off} of {it.machines}", it.machines_off),
                watts(it.watts_shed),
                kwh(it.joules_shed),
                Cell(it.ph_days, it.ph_days),
                amount(it.forgone_sat),
                amount(it.error_sat),
                amount(it.paid_sat),
            )
            for it in report.events
        ),
        empty="No curtailment ended in this period.",
    )
    sources = ", ".join(text(it).text for it in report.sources) or "nobody has said any"
    note = Prose(
        text="Energy is of the hours of the period, as it is known now; statements count by when it was"
        " booked. Carbon is of energy of which somebody has said a figure, location-based (the grid's mix)"
        f" and market-based (by contracts); sources: {sources}."
    )
    return Document(
        title=f"Power by {report.place}",
        subject=text(subject).text,
        period=period_in_words(report.from_day, report.to_day),
        ends=date.fromisoformat(report.to_day),
        sections=(
            Section(title=None, blocks=(drawn, note)),
            Section(title="Curtailments", blocks=(events,)),
        ),
        name="power",
        data=report,
    )


def _owes(report: PowerReport) -> bool:
    return report.place == Place.TENANT


def _drawn(it: Drawn) -> tuple[Cell, ...]:
    return kwh(it.metered_j), kwh(it.estimated_j), kwh(it.metered_j + it.estimated_j), kwh(it.error_j)


def _cells(it: PowerRow) -> tuple[Cell, ...]:
    cells = (
        kwh(it.metered_j),
        kwh(it.estimated_j),
        kwh(it.error_j),
        watts(it.watts),
        carbon(it.location_mg) if it.location_known_j else BLANK,
        carbon(it.market_mg) if it.market_known_j else BLANK,
    )
    if it.cost_sat is None or it.waiting_j is None:
        return cells
    costs = (amount(it.cost_sat), kwh(it.waiting_j))
    return (*cells, *costs) if it.due_sat is None else (*cells, *costs, amount(it.due_sat))
