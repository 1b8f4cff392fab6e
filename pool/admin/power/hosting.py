"""The operator's commands for what tenants pay for energy, what of it is due, its carbon, and what the grid
paid for curtailments.

Must not know: terminals, files.
"""

from typing import Any, Final, Literal

import msgspec
from sqlalchemy import Connection, func, select

from payouts.energy.carbon import ROWS_MAX, CarbonView, Method, NewCarbon, add_carbon, list_carbon
from payouts.energy.dues import due_sat
from payouts.energy.grid import Basis, NewPayment, Payment, add_payment, payments_of
from payouts.energy.terms import Charge, HostingTerms, TermsOf, history_of, set_terms, terms_at
from payouts.schemas.energy import booked_event_parts, booked_events, energy_to_charge, power_carbon
from payouts.schemas.money import tenants
from pool.admin.command import Commands, Guarded, Question
from pool.admin.desk import Desk, OperatorDesk, valid, wall_s
from pool.admin.pages import Page, Paged, page_of
from pool.admin.power.tariffs import Imported
from pool.books.changes.changes import State
from pool.fleet.registry_error import RegistryError
from pool.fleet.rows import find_tenant
from pool.people.roles import Caller, Role
from pool.power.energy.places import site_named, site_names

SHOWN_MAX: Final = 1_000  # rows of carbon in a list: the newest
EVENTS_SHOWN: Final = 200


class HostingSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`charge`: none, fee (`fee_micro` of a kWh in `currency`), or tariff: the site's. `from_s`: the
    beginning of an hour that has not begun, the next one without."""

    tenant: str
    charge: Literal["none", "fee", "tariff"] | None = None
    fee_micro: int | None = None
    currency: str | None = None
    grid_operator_bps: int | None = None  # None: as it is
    from_s: int | None = None


class HostingList(Paged, frozen=True, forbid_unknown_fields=True):
    """A tenant's user needs not say whose."""

    tenant: str | None = None


class HostingRow(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's terms of this hour, what it owes, and energy that is drawn and not charged yet."""

    tenant: str
    charge: Charge
    fee_micro: int | None
    currency: str | None
    grid_operator_bps: int
    from_s: int | None
    changed_by: str | None
    due_sat: int
    waiting_joules: int
    waiting_hours: int


class CarbonImport(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`rows`: the hour since 1970 that one is from, the one that it is until, and mg for a kWh."""

    method: Literal["location", "market"]
    source: str
    site: str | None = None
    rows: tuple[tuple[int, int, int], ...]


class CarbonList(Paged, frozen=True, forbid_unknown_fields=True):
    pass


class CarbonRow(CarbonView, frozen=True, kw_only=True):
    """With the name of its site; None: of all."""

    site: str | None


class GridPay(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`amount_micro` in micro-units of the currency; `reference` is the payer's own: it is booked once."""

    event: int
    reference: str
    amount_micro: int
    currency: str = "SAT"
    basis: Literal["forgone", "shed"] = "forgone"


class GridPayRow(msgspec.Struct, frozen=True, kw_only=True):
    """A payment, with whose parts they are."""

    id: int
    event: int
    reference: str
    currency: str
    amount_micro: int
    amount_sat: int
    basis: Basis
    booked_at_s: int
    booked_by: str
    parts: tuple["GridPart", ...]


class GridPart(msgspec.Struct, frozen=True, kw_only=True):
    tenant: str
    tenant_sat: int
    operator_sat: int


class GridList(Paged, frozen=True, forbid_unknown_fields=True):
    pass


class GridRow(msgspec.Struct, frozen=True, kw_only=True):
    """A curtailment in the books, of all tenants, and what was paid for it."""

    event: int
    site: str
    reference: str
    asked_by: str
    from_s: int
    ended_at_s: int
    watts_asked: int | None
    watts_shed: int
    watts_metered: int | None
    machines: int
    machines_off: int
    forgone_sat: int
    error_sat: int
    paid_sat: int


def hosting_set(desk: OperatorDesk, it: HostingSet) -> HostingRow:
    """What a tenant pays for energy from an hour on that has not begun."""
    now_s, charge = wall_s(), it.charge
    if charge is None:
        raise RegistryError("say what it pays for energy: a fee, the site's tariff, or nothing")

    def change(connection: Connection) -> None:
        tenant_id = find_tenant(connection, it.tenant).id
        before = history_of(connection, tenant_id)[-1:]
        kept = before[0].grid_operator_bps if before else 0
        terms = HostingTerms(
            charge=Charge(charge),
            fee_micro=it.fee_micro,
            currency=it.currency,
            grid_operator_bps=kept if it.grid_operator_bps is None else it.grid_operator_bps,
        )
        set_terms(connection, tenant_id, terms, by=desk.by, now_s=now_s, from_s=it.from_s)

    valid(lambda: desk.write(change))

    def shown(connection: Connection) -> HostingRow:
        tenant_id = find_tenant(connection, it.tenant).id
        return _hosting(connection, tenant_id, it.tenant, history_of(connection, tenant_id)[-1])

    return desk.read(shown)


def hosting_list(desk: Desk, it: HostingList) -> Page[HostingRow]:
    """Of each tenant the terms of this hour, and what it owes."""
    now_s = wall_s()

    def read(connection: Connection) -> list[HostingRow]:
        query = select(tenants.c.id, tenants.c.name).order_by(tenants.c.name)
        if it.tenant is not None:
            query = query.where(tenants.c.id == find_tenant(connection, it.tenant).id)
        return [
            _hosting(connection, row.id, row.name, terms_at(connection, row.id, now_s))
            for row in connection.execute(query)
        ]

    return page_of(it, desk.read(read), lambda row: (row.tenant,))


def hosting_list_of(it: HostingList, caller: Caller) -> HostingList:
    """A tenant's user sees its own alone."""
    return msgspec.structs.replace(it, tenant=caller.own_tenant(it.tenant))


def carbon_import(desk: OperatorDesk, it: CarbonImport) -> Imported:
    """Write all of it down, or nothing."""
    if not 0 < len(it.rows) <= ROWS_MAX:
        raise RegistryError(f"1 to {ROWS_MAX} rows at once")

    def add(connection: Connection) -> int:
        site_id = None if it.site is None else site_named(connection, it.site)
        new = [
            NewCarbon(
                method=Method(it.method),
                from_hour=first,
                until_hour=until,
                mg_per_kwh=milligrams,
                source=it.source,
                site_id=site_id,
            )
            for first, until, milligrams in it.rows
        ]
        return add_carbon(connection, new, by=desk.by, now_s=wall_s())

    return Imported(valid(lambda: desk.write(add)))


def carbon_list(desk: Desk, it: CarbonList) -> Page[CarbonRow]:
    """The newest thousand."""

    def read(connection: Connection) -> list[CarbonRow]:
        names = site_names(connection)
        return [
            CarbonRow(**msgspec.structs.asdict(row), site=names.get(row.site_id or 0))
            for row in list_carbon(connection, SHOWN_MAX)
        ]

    return page_of(it, desk.read(read), lambda row: (row.id,))


def grid_pay(desk: OperatorDesk, it: GridPay) -> GridPayRow:
    """Book what the grid paid for a curtailment: divided among the tenants whose machines were off."""
    new = valid(
        lambda: NewPayment(
            event_id=it.event,
            reference=it.reference,
            currency=it.currency,
            amount_micro=it.amount_micro,
            basis=Basis(it.basis),
        )
    )
    payment: Payment = valid(
        lambda: desk.write(lambda connection: add_payment(connection, new, by=desk.by, now_s=wall_s()))
    )

    def shown(connection: Connection) -> GridPayRow:
        names: dict[int, str] = {
            row.id: row.name for row in connection.execute(select(tenants.c.id, tenants.c.name))
        }
        return GridPayRow(
            id=payment.id,
            event=payment.event_id,
            reference=payment.reference,
            currency=payment.currency,
            amount_micro=payment.amount_micro,
            amount_sat=payment.amount_sat,
            basis=payment.basis,
            booked_at_s=payment.booked_at_s,
            booked_by=payment.booked_by,
            parts=tuple(
                GridPart(
                    tenant=names[part.tenant_id], tenant_sat=part.tenant_sat, operator_sat=part.operator_sat
                )
                for part in payment.parts
            ),
        )

    return desk.read(shown)


def grid_list(desk: Desk, it: GridList) -> Page[GridRow]:
    """The newest curtailments in the books, with what they forwent and what was paid for them."""

    def read(connection: Connection) -> list[GridRow]:
        newest = select(booked_events).order_by(booked_events.c.event_id.desc()).limit(EVENTS_SHOWN)
        return [_event(connection, row) for row in reversed(connection.execute(newest).all())]

    return page_of(it, desk.read(read), lambda row: (row.event,))


def hosting_of(it: HostingSet) -> str:
    return f"hosting/{it.tenant}"


def hosting_state(connection: Connection, subject: str) -> State:
    """Without what is due, which changes by itself."""
    name = subject.partition("/")[2]
    number = connection.scalar(select(tenants.c.id).where(tenants.c.name == name))
    history = () if number is None else history_of(connection, number)
    return {"terms": [msgspec.to_builtins(it) for it in history[-5:]]}


def carbon_of(it: CarbonImport) -> str:
    return f"carbon/{it.method}"


def carbon_state(connection: Connection, subject: str) -> State:
    method = subject.partition("/")[2]
    rows = select(func.count(), func.max(power_carbon.c.id)).where(power_carbon.c.method == method)
    there, newest = connection.execute(rows).one()
    return {"rows": there, "newest": newest}


def event_of(it: GridPay) -> str:
    return f"event/{it.event}"


def event_state(connection: Connection, subject: str) -> State:
    number = int(subject.partition("/")[2])
    return {"payments": [msgspec.to_builtins(it) for it in payments_of(connection, number)]}


def _hosting(connection: Connection, tenant_id: int, name: str, terms: TermsOf | None) -> HostingRow:
    of = energy_to_charge.c
    joules, hours = connection.execute(
        select(func.sum(of.joules - of.charged_j), func.count()).where(
            of.tenant_id == tenant_id, of.terms_id.is_not(None), of.charged_j != of.joules
        )
    ).one()
    return HostingRow(
        tenant=name,
        charge=Charge.NONE if terms is None else terms.charge,
        fee_micro=None if terms is None else terms.fee_micro,
        currency=None if terms is None else terms.currency,
        grid_operator_bps=0 if terms is None else terms.grid_operator_bps,
        from_s=None if terms is None else terms.from_s,
        changed_by=None if terms is None else terms.changed_by,
        due_sat=due_sat(connection, tenant_id),
        waiting_joules=int(joules or 0),
        waiting_hours=hours,
    )


def _event(connection: Connection, row: Any) -> GridRow:
    of = booked_event_parts.c
    sums = connection.execute(
        select(
            func.coalesce(func.sum(of.machines), 0),
            func.coalesce(func.sum(of.machines_off), 0),
            func.coalesce(func.sum(of.watts_shed), 0),
            func.coalesce(func.sum(of.forgone_sat), 0),
            func.coalesce(func.sum(of.error_sat), 0),
        ).where(of.event_id == row.event_id)
    ).one()
    machines, machines_off, shed, forgone, error = (int(it) for it in sums)
    return GridRow(
        event=row.event_id,
        site=row.site,
        reference=row.reference,
        asked_by=row.asked_by,
        from_s=row.from_s,
        ended_at_s=row.ended_at_s,
        watts_asked=row.watts_asked,
        watts_shed=shed,
        watts_metered=row.watts_metered,
        machines=machines,
        machines_off=machines_off,
        forgone_sat=forgone,
        error_sat=error,
        paid_sat=sum(it.amount_sat for it in payments_of(connection, row.event_id)),
    )


COMMANDS: Final[Commands] = {
    "hosting.set": Guarded(HostingSet, hosting_set, hosting_of, hosting_state, Role.PAYER, makes_books=False),
    "hosting.list": Question(HostingList, hosting_list, Role.TENANT, hosting_list_of),
    "carbon.import": Guarded(
        CarbonImport, carbon_import, carbon_of, carbon_state, Role.PAYER, makes_books=False
    ),
    "carbon.list": Question(CarbonList, carbon_list),
    "grid.pay": Guarded(GridPay, grid_pay, event_of, event_state, Role.PAYER, makes_books=False),
    "grid.list": Question(GridList, grid_list),
}
