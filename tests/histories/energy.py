"""A day of energy for tests of statements and reports: drawn, read late, charged, curtailed, and paid for."""

from datetime import date
from fractions import Fraction

from sqlalchemy import insert, update

from payouts.energy.carbon import Method, NewCarbon, add_carbon
from payouts.energy.charges import FIRST, Place, charge
from payouts.energy.dues import collect
from payouts.energy.events import Event, EventBooks, EventPart, book_event
from payouts.energy.exchange import NewExchange, add_exchange
from payouts.energy.grid import NewPayment, add_payment
from payouts.energy.hours import GRACE_S, ContainerEnergy, begin, take_again, take_next
from payouts.energy.tariffs import Kind, NewTariff, add_tariff
from payouts.energy.terms import Charge, HostingTerms, set_terms
from payouts.schemas.money import containers, sites
from pool.books.store import Store
from tests.histories.statements import ACME, BOREALIS, DAY, DAY_S, HOUR

KWH = 3_600_000
NORTH = 1
EVENT = Event(
    event_id=4,
    site="north",
    source="cli",
    reference="call 4",
    asked_by="olga",
    from_s=DAY_S + 6 * 3600,
    ended_at_s=DAY_S + 7 * 3600,
    watts_asked=6_000,
    watts_metered=6_200,
)


def draw_a_day(store: Store) -> None:
    """Hours 1 to 22 of DAY: acme's container draws 10 kWh by a meter and 2 by its work, borealis' 5, at a
    tariff of 0.05 USD and 1,500 sat a dollar for acme alone. Hour 3 was read late: 4 kWh less. Of what grid
    pays for a curtailment a quarter of acme's is the operator's."""
    with store.write() as connection:
        connection.execute(insert(sites).values(id=NORTH, name="north", created_at_s=0))
        connection.execute(update(containers).where(containers.c.id == ACME).values(site_id=NORTH))
        begin(connection, DAY_S)
        terms = HostingTerms(charge=Charge.TARIFF, grid_operator_bps=2_500)
        set_terms(connection, ACME, terms, by="olga", now_s=DAY_S, from_s=None)
        tariff = NewTariff(
            name="dam", kind=Kind.FIXED, currency="USD", source="contract 7", price_micro=50_000
        )
        add_tariff(connection, tariff, by="olga", now_s=DAY_S)
        worth = NewExchange(currency="USD", sat=Fraction(1_500), from_s=DAY_S, source="desk")
        add_exchange(connection, worth, by="olga", now_s=DAY_S)
        carbon = [
            NewCarbon(method=method, from_hour=HOUR, until_hour=HOUR + hours, mg_per_kwh=mg, source=source)
            for method, hours, mg, source in (
                (Method.LOCATION, 24, 24_000, "grid 2025"),
                (Method.MARKET, 12, 0, "certificates of the dam"),
            )
        ]
        add_carbon(connection, carbon, by="olga", now_s=DAY_S)
    usual = [
        ContainerEnergy(container_id=ACME, metered_j=10 * KWH, estimated_j=2 * KWH, error_j=KWH // 2),
        ContainerEnergy(container_id=BOREALIS, estimated_j=5 * KWH, error_j=KWH),
    ]
    for hour in range(1, 23):
        take(store, hour, usual)
        if hour == 5:
            less = ContainerEnergy(
                container_id=ACME, metered_j=6 * KWH, estimated_j=2 * KWH, error_j=KWH // 2
            )
            with store.write() as connection:
                take_again(connection, HOUR + 3, [less, usual[1]], DAY_S + 6 * 3600 + GRACE_S + 1)
    curtail(store)


def take(store: Store, hour: int, drawn: list[ContainerEnergy]) -> None:
    at_s = DAY_S + (hour + 1) * 3600 + GRACE_S
    with store.write() as connection:
        take_next(connection, HOUR + hour, drawn, at_s)
        after: Place | None = FIRST
        while after is not None:
            after = charge(connection, at_s, after).after
        collect(connection, at_s)


def curtail(store: Store) -> None:
    """One that is over, with what the grid paid for it."""
    part = EventPart(
        tenant_id=ACME,
        machines=2,
        machines_off=2,
        off_s=7_200,
        watts_shed=6_100,
        joules_shed=6_100 * 3_600,
        difficulty=480 << 18,
        forgone_sat=40_000,
        forgone_psat=5,
        error_sat=900,
    )
    at_s = DAY_S + 23 * 3600 + 1800
    with store.write() as connection:
        assert book_event(connection, EventBooks(EVENT, (part,)), at_s)
        paid = NewPayment(event_id=4, reference="invoice 9", currency="USD", amount_micro=2_000_000)
        add_payment(connection, paid, by="olga", now_s=at_s)


def day_of(offset: int) -> date:
    return date.fromordinal(DAY.toordinal() + offset)
