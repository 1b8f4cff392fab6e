"""The operator's commands for tenants, each once: with a running pool, and without one.

Must not know: sockets, terminals.
"""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, func, select

from payouts.rates import OrderCredit, Scheme, UpstreamRisk
from payouts.reports.luck import LUCK_DAYS, Hint, luck_of_tenant
from payouts.schemas.money import rate_hours, workers
from payouts.schemas.money import rates as tenant_rates
from payouts.solo import address_at
from payouts.statements.period import Period
from pool.admin.command import Change, Commands, Guarded, Question
from pool.admin.desk import Desk, Figures, OperatorDesk, figures_of, live_figures, named, network_of, wall_s
from pool.admin.pages import Page, Paged, page_of
from pool.books.changes.changes import State
from pool.fleet import rows as registry_store
from pool.fleet.rows import RegistryError, TenantTerms, TenantView
from pool.people.roles import Caller, Role
from pool.upstreams.rows import OWN_POOL, find_upstream

TENANT_DEFAULTS: Final = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=1_000_000)


class TenantAdd(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    scheme: str = TENANT_DEFAULTS.scheme.value
    fee_bps: int = TENANT_DEFAULTS.fee_bps
    payout_minimum_sat: int = TENANT_DEFAULTS.payout_minimum_sat
    address: str | None = None
    upstream: str = OWN_POOL
    order_credit: str = TENANT_DEFAULTS.order_credit.value
    upstream_risk: str = TENANT_DEFAULTS.upstream_risk.value


class TenantList(Paged, frozen=True, forbid_unknown_fields=True):
    pass


class TenantShow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class TenantSetAddress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    address: str


class TenantSetTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is None stays as it is."""

    name: str
    scheme: str | None = None
    fee_bps: int | None = None
    payout_minimum_sat: int | None = None
    upstream: str | None = None
    order_credit: str | None = None
    upstream_risk: str | None = None


class TenantSetStatus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    active: bool


class TenantRow(Figures, frozen=True):
    """A tenant with its terms; `blocks_pay` is what a solo tenant's blocks pay now."""

    id: int
    name: str
    status: str
    scheme: str
    fee_bps: int
    payout_minimum_sat: int
    upstream_id: int | None
    upstream: str | None
    order_credit: str
    upstream_risk: str
    address: str | None
    address_effective_at_s: int | None
    created_at_s: int
    blocks_pay: str | None


class TenantShown(TenantRow, frozen=True):
    """With its machines, its accepted shares in the books, and its luck of 90 days."""

    workers: int
    booked_accepted: int
    booked_since_at_s: int | None
    blocks_found_90d: int | None
    blocks_expected_90d: str | None
    luck_90d: str | None
    luck_low_90d: str | None
    luck_high_90d: str | None
    luck_hint_90d: Hint | None


def tenant_add(desk: OperatorDesk, it: TenantAdd) -> TenantRow:
    def add(connection: Connection) -> TenantView:
        terms = _terms(connection, TENANT_DEFAULTS, it)
        return registry_store.add_tenant(
            connection,
            it.name,
            terms,
            by=desk.by,
            now_s=wall_s(),
            address=it.address,
            network="" if it.address is None else network_of(desk),
        )

    return _changed(desk, desk.write(add))


def tenant_list(desk: Desk, it: TenantList) -> Page[TenantRow]:
    """Without luck, which asks for 90 days of everybody's work: that is `tenant show` and `report luck`."""
    views = desk.read(registry_store.list_tenants)
    rates = live_figures(desk, "tenant")
    rows = [TenantRow(**_shown(view), **figures_of(desk, rates.get(view.id))) for view in views]
    return page_of(it, rows, lambda row: (row.name,))


def tenant_show(desk: Desk, it: TenantShow) -> TenantShown:
    def read(connection: Connection) -> dict[str, Any]:
        view = registry_store.find_tenant(connection, it.name)
        theirs = (workers.c.tenant_id == view.id) & workers.c.removed_at_s.is_(None)
        count = select(func.count()).select_from(workers).where(theirs)
        luck = luck_of_tenant(connection, _lately(), view.name)
        figures = {
            f"blocks_found_{LUCK_DAYS}d": luck and luck.found,
            f"blocks_expected_{LUCK_DAYS}d": luck and luck.expected,
            f"luck_{LUCK_DAYS}d": luck and luck.luck,
            f"luck_low_{LUCK_DAYS}d": luck and luck.low,
            f"luck_high_{LUCK_DAYS}d": luck and luck.high,
            f"luck_hint_{LUCK_DAYS}d": luck and luck.hint,
        }
        return {
            **_shown(view),
            "workers": connection.scalar(count),
            **_booked(connection, view.id),
            **figures,
        }

    shown = desk.read(read)
    rates = live_figures(desk, "tenant")
    return TenantShown(**shown | figures_of(desk, rates.get(shown["id"])))


def tenant_show_of(it: TenantShow, caller: Caller) -> TenantShow:
    return TenantShow(caller.own_tenant(it.name) or it.name)


def _booked(connection: Connection, tenant_id: int) -> dict[str, Any]:
    """Accepted shares in the books, which are a minute behind, and since when there are any."""
    shares, hour = connection.execute(
        select(func.sum(rate_hours.c.shares), func.min(rate_hours.c.hour))
        .join(tenant_rates, tenant_rates.c.id == rate_hours.c.rate_id)
        .where(tenant_rates.c.tenant_id == tenant_id)
    ).one()
    return {
        "booked_accepted": int(shares or 0),
        "booked_since_at_s": None if hour is None else hour * 3600,
    }


def tenant_set_address(desk: OperatorDesk, it: TenantSetAddress) -> TenantRow:
    def change(connection: Connection) -> TenantView:
        return registry_store.set_address(
            connection, it.name, it.address, network=network_of(desk), by=desk.by, now_s=wall_s()
        )

    return _changed(desk, desk.write(change))


def tenant_set_terms(desk: OperatorDesk, it: TenantSetTerms) -> TenantRow:
    def change(connection: Connection) -> TenantView:
        before = registry_store.terms_of(registry_store.find_tenant(connection, it.name))
        terms = _terms(connection, before, it)
        return registry_store.set_terms(connection, it.name, terms, by=desk.by, now_s=wall_s())

    return _changed(desk, desk.write(change))


def tenant_set_status(desk: OperatorDesk, it: TenantSetStatus) -> TenantRow:
    def change(connection: Connection) -> TenantView:
        return registry_store.set_status(connection, it.name, active=it.active)

    return _changed(desk, desk.write(change))


def tenant_state(connection: Connection, subject: str) -> State:
    views = (view for view in registry_store.list_tenants(connection) if view.name == subject)
    return next((_kept(view) for view in views), None)


def held_by_the_books(was: State) -> bool:
    """An address that replaces another holds after 72 hours; a first one may hold at once."""
    return was is not None and was["address"] is not None


def _changed(desk: Desk, view: TenantView) -> TenantRow:
    if desk.live is not None:
        desk.live.tenant_changed(view)
    return TenantRow(**_shown(view))


def _lately() -> Period:
    """The days that luck is looked at for, today with them."""
    tomorrow = datetime.fromtimestamp(wall_s(), UTC).date() + timedelta(1)
    return Period(tomorrow - timedelta(LUCK_DAYS), tomorrow)


def _shown(view: TenantView) -> dict[str, Any]:
    """With what a solo tenant's blocks pay now, which is not a new address before it holds."""
    solo = view.scheme == Scheme.SOLO
    return _kept(view) | {"blocks_pay": address_at(view.payees, wall_s()) if solo else None}


def _kept(view: TenantView) -> dict[str, Any]:
    """Without what follows from addresses and time, and what prices alone need."""
    kept: dict[str, Any] = msgspec.to_builtins(view)
    del kept["payees"], kept["terms_at_s"]
    return kept


def _terms(connection: Connection, before: TenantTerms, it: TenantAdd | TenantSetTerms) -> TenantTerms:
    """The terms before, with what the command says."""
    words = ("scheme", Scheme), ("order_credit", OrderCredit), ("upstream_risk", UpstreamRisk)
    changes: dict[str, Any] = {name: _one_of(kind, getattr(it, name)) for name, kind in words}
    changes |= {"fee_bps": it.fee_bps, "payout_minimum_sat": it.payout_minimum_sat}
    changes = {name: value for name, value in changes.items() if value is not None}
    if it.upstream is not None:
        own = it.upstream == OWN_POOL
        changes["upstream_id"] = None if own else find_upstream(connection, it.upstream).id
    try:
        return msgspec.structs.replace(before, **changes)
    except ValueError as error:
        raise RegistryError(str(error)) from None


def _one_of(kind: type[StrEnum], word: str | None) -> StrEnum | None:
    if word is not None and word not in set(kind):
        raise RegistryError(f"{word!r:.80} is none of {', '.join(kind)}")
    return None if word is None else kind(word)


COMMANDS: Final[Commands] = {
    "tenant.add": Guarded(TenantAdd, tenant_add, named, tenant_state, Role.PAYER),
    "tenant.list": Question(TenantList, tenant_list),
    "tenant.show": Question(TenantShow, tenant_show, Role.TENANT, tenant_show_of),
    "tenant.set-address": Guarded(
        TenantSetAddress, tenant_set_address, named, tenant_state, Role.PAYER, held=held_by_the_books
    ),
    "tenant.set-terms": Guarded(TenantSetTerms, tenant_set_terms, named, tenant_state, Role.PAYER),
    "tenant.set-status": Change(TenantSetStatus, tenant_set_status, named, tenant_state, Role.OPERATOR),
}
