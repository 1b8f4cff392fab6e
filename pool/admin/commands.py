"""The operator's commands, each once: a running pool executes them, and so does the command line without one.

A command is a frozen struct of its parameters and a function of a `Desk`; what it returns is JSON. Mistakes
are RegistryError, in words. Must not know: sockets, terminals.
"""

import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Literal, Protocol, TypeVar

import msgspec
from sqlalchemy import Connection, func, select

from payouts.rates import OrderCredit, Scheme, UpstreamRisk
from payouts.reports.luck import LUCK_DAYS, luck_of_tenant
from payouts.schema import containers, rate_hours, sites, tenants, workers
from payouts.schema import rates as tenant_rates
from payouts.solo import address_at
from payouts.statements.period import Period
from pool.admin.order_commands import ORDER_COMMANDS
from pool.books.store import Store
from pool.fleet import rows as registry_store
from pool.fleet.hashrate import WINDOWS_S, Hashrate
from pool.fleet.registry import ContainerRecord, UnlistedWorker, parse_worker_name
from pool.fleet.rows import RegistryError, TenantTerms, TenantView
from pool.upstreams.rows import OWN_POOL, find_upstream
from stratum.json_depth import too_deep

INTEGER_MAX: Final = (1 << 63) - 1
ROWS_MAX: Final = 1_000  # workers in one answer; the next page starts after the last name
TENANT_DEFAULTS: Final = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=1_000_000)

_Value = TypeVar("_Value")


class LivePool(Protocol):
    """What a running pool adds to commands, which are in a worker thread: each of these hops to its own."""

    def figures(self, of: Literal["tenant", "site", "container", "worker"]) -> Mapping[int, Hashrate]:
        """Live figures by number."""

    def worker_figures(self, numbers: Collection[int]) -> Mapping[int, Hashrate]:
        """Live figures of these workers, by number."""

    def unlisted(self, after: int, tenant_id: int | None, container: str | None) -> list[UnlistedWorker]:
        """The first ROWS_MAX machines without a row, by number above `after`."""

    def find_unlisted(self, tenant: str, container: str, unit: str) -> UnlistedWorker | None:
        """The machine of that name, if it has no row."""

    @property
    def since_s(self) -> int:
        """When the pool was started."""

    def reserve_container(self) -> int:
        """A number for a new container."""

    def container_changed(self, record: ContainerRecord) -> None:
        """A container is new."""

    def workers_removed(self, numbers: Collection[int]) -> None:
        """These machines are gone."""

    def tenant_changed(self, view: TenantView) -> None:
        """A tenant is new, or has another status or other terms."""

    def routes_changed(self) -> None:
        """An upstream or an order is new, another one, or over: to be read anew."""

    def upstream_status(self) -> list[dict[str, Any]]:
        """Every channel on an upstream, as a pool.route_status.UpstreamStatus."""

    def order_status(self) -> list[dict[str, Any]]:
        """Every order that is delivered, as a pool.route_status.OrderStatus."""


class Desk(msgspec.Struct, frozen=True):
    """Where commands are executed. `live` is None when no pool runs."""

    store: Store
    network: str | None  # None: the book was never started, and no settings say
    live: LivePool | None = None

    def write(self, work: Callable[[Connection], _Value]) -> _Value:
        with self.store.write() as connection:
            return work(connection)

    def read(self, work: Callable[[Connection], _Value]) -> _Value:
        with self.store.read() as connection:
            return work(connection)


class TenantAdd(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    by: str
    scheme: str = TENANT_DEFAULTS.scheme.value
    fee_bps: int = TENANT_DEFAULTS.fee_bps
    payout_minimum_sat: int = TENANT_DEFAULTS.payout_minimum_sat
    address: str | None = None
    upstream: str = OWN_POOL
    order_credit: str = TENANT_DEFAULTS.order_credit.value
    upstream_risk: str = TENANT_DEFAULTS.upstream_risk.value


class TenantList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class TenantShow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class TenantSetAddress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    address: str
    by: str


class TenantSetTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is None stays as it is."""

    name: str
    by: str
    scheme: str | None = None
    fee_bps: int | None = None
    payout_minimum_sat: int | None = None
    upstream: str | None = None
    order_credit: str | None = None
    upstream_risk: str | None = None


class TenantSetStatus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    active: bool


class ContainerList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tenant: str | None = None


class SiteList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class ContainerSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tenant: str
    name: str
    site: str | None = None
    units: int | None = None
    ths: int | None = None
    kw: int | None = None


class WorkerList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A page of up to ROWS_MAX workers with numbers above `after`."""

    tenant: str | None = None
    container: str | None = None
    offline_only: bool = False
    after: int = 0


class LeaseShow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class WorkerRemove(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class ContainerRemove(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tenant: str
    name: str


class WorkerShow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


def tenant_add(desk: Desk, it: TenantAdd) -> Any:
    def add(connection: Connection) -> TenantView:
        terms = _terms(connection, TENANT_DEFAULTS, it)
        return registry_store.add_tenant(
            connection,
            it.name,
            terms,
            by=it.by,
            now_s=_now_s(),
            address=it.address,
            network="" if it.address is None else _network(desk),
        )

    return _changed(desk, desk.write(add))


def tenant_list(desk: Desk, it: TenantList) -> Any:
    """Without luck, which asks for 90 days of everybody's work: that is `tenant show` and `report luck`."""
    views = desk.read(registry_store.list_tenants)
    rates = _live(desk, "tenant")
    return [_shown(view) | _figures(desk, rates.get(view.id)) for view in views]


def tenant_show(desk: Desk, it: TenantShow) -> Any:
    def look(connection: Connection) -> dict[str, Any]:
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

    shown = desk.read(look)
    rates = _live(desk, "tenant")
    return shown | _figures(desk, rates.get(shown["id"]))


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


def tenant_set_address(desk: Desk, it: TenantSetAddress) -> Any:
    def change(connection: Connection) -> TenantView:
        return registry_store.set_address(
            connection, it.name, it.address, network=_network(desk), by=it.by, now_s=_now_s()
        )

    return _changed(desk, desk.write(change))


def tenant_set_terms(desk: Desk, it: TenantSetTerms) -> Any:
    def change(connection: Connection) -> TenantView:
        before = registry_store.terms_of(registry_store.find_tenant(connection, it.name))
        terms = _terms(connection, before, it)
        return registry_store.set_terms(connection, it.name, terms, by=it.by, now_s=_now_s())

    return _changed(desk, desk.write(change))


def tenant_set_status(desk: Desk, it: TenantSetStatus) -> Any:
    def change(connection: Connection) -> TenantView:
        return registry_store.set_status(connection, it.name, active=it.active)

    return _changed(desk, desk.write(change))


def container_list(desk: Desk, it: ContainerList) -> Any:
    """Containers with their nameplates; with what they do now where a pool runs."""

    def look(connection: Connection) -> list[dict[str, Any]]:
        query = (
            select(containers, tenants.c.name.label("tenant"), sites.c.name.label("site"))
            .join(tenants, tenants.c.id == containers.c.tenant_id)
            .outerjoin(sites, sites.c.id == containers.c.site_id)
            .where(containers.c.removed_at_s.is_(None))
            .order_by(tenants.c.name, containers.c.name)
        )
        if it.tenant is not None:
            query = query.where(
                containers.c.tenant_id == registry_store.find_tenant(connection, it.tenant).id
            )
        return [
            {
                "id": row.id,
                "tenant": row.tenant,
                "name": row.name,
                "site": row.site,
                "units": row.nameplate_units,
                "ths": row.nameplate_ths,
                "kw": row.nameplate_kw,
            }
            for row in connection.execute(query)
        ]

    rows = desk.read(look)
    rates = _live(desk, "container")
    return [row | _figures(desk, rates.get(row["id"])) for row in rows]


def site_list(desk: Desk, it: SiteList) -> Any:
    """Sites with the nameplates of their containers added up; with what they do where a pool runs."""
    named = ("units", "ths", "kw")
    rates = _live(desk, "site")
    numbers = dict(desk.read(lambda connection: connection.execute(select(sites.c.name, sites.c.id)).all()))
    totals: dict[str, dict[str, Any]] = {}
    for container in container_list(desk, ContainerList()):
        name = container["site"] or ""
        total = totals.setdefault(name, {"name": name, "containers": 0, **dict.fromkeys(named, 0)})
        total["containers"] += 1
        for what in named:
            total[what] += container[what] or 0
    return [totals[name] | _figures(desk, rates.get(numbers.get(name, 0))) for name in sorted(totals)]


def container_set(desk: Desk, it: ContainerSet) -> Any:
    def change(connection: Connection) -> ContainerRecord:
        next_id = (connection.scalar(select(func.max(containers.c.id))) or 0) + 1
        if desk.live is not None:
            next_id = desk.live.reserve_container()
        return registry_store.set_container(
            connection,
            it.tenant,
            it.name,
            site=it.site,
            units=it.units,
            ths=it.ths,
            kw=it.kw,
            next_id=next_id,
            now_s=_now_s(),
        )

    record = desk.write(change)
    if desk.live is not None:
        desk.live.container_changed(record)
    return next(row for row in container_list(desk, ContainerList(it.tenant)) if row["id"] == record.id)


def worker_list(desk: Desk, it: WorkerList) -> Any:
    """A page; with machines that have no row yet where a pool runs."""
    rows: list[dict[str, Any]] = []
    after: int | None = it.after
    while after is not None and len(rows) < ROWS_MAX:
        page, after = _page(desk, it, after)
        figures = {} if desk.live is None else desk.live.worker_figures([row["id"] for row in page])
        for row in page:
            shown = row | _figures(desk, figures.get(row["id"]))
            if not it.offline_only or shown.get("offline", True):
                rows.append(shown)
    return rows[:ROWS_MAX]


def _page(desk: Desk, it: WorkerList, after: int) -> tuple[list[dict[str, Any]], int | None]:
    """Up to ROWS_MAX machines with numbers above `after`, and where the next ones begin if there are more."""

    def look(connection: Connection) -> tuple[int | None, list[dict[str, Any]]]:
        tenant = None if it.tenant is None else registry_store.find_tenant(connection, it.tenant).id
        here = workers.c.removed_at_s.is_(None)
        query = _WORKERS.where(here, workers.c.id > after).order_by(workers.c.id).limit(ROWS_MAX)
        if tenant is not None:
            query = query.where(workers.c.tenant_id == tenant)
        if it.container is not None:
            query = query.where(containers.c.name == it.container)
        return tenant, [_worker(row) for row in connection.execute(query)]

    tenant, listed = desk.read(look)
    found = {row["id"]: row for row in listed}
    for unlisted in () if desk.live is None else desk.live.unlisted(after, tenant, it.container):
        found.setdefault(unlisted.id, _worker(unlisted))
    page = [found[number] for number in sorted(found)[:ROWS_MAX]]
    return page, page[-1]["id"] if len(page) == ROWS_MAX else None


def worker_show(desk: Desk, it: WorkerShow) -> Any:
    tenant, container, unit = parse_worker_name(it.name)
    named = (tenants.c.name == tenant) & (containers.c.name == container) & (workers.c.unit == unit)
    row: Any = desk.read(lambda connection: connection.execute(_WORKERS.where(named)).one_or_none())
    if row is None and desk.live is not None:
        row = desk.live.find_unlisted(tenant, container, unit)
    if row is None:
        raise RegistryError(f"there is no worker {it.name!r:.200}: names are tenant.container.unit")
    figures = {} if desk.live is None else desk.live.worker_figures([row.id])
    return _worker(row) | _figures(desk, figures.get(row.id))


def worker_remove(desk: Desk, it: WorkerRemove) -> Any:
    """A machine that is gone; refused while it mines."""
    tenant, container, unit = parse_worker_name(it.name)

    def remove(connection: Connection) -> int:
        number = registry_store.remove_worker(connection, tenant, container, unit, _now_s())
        _refuse_if_mining(desk, [number])
        return number

    number = desk.write(remove)
    if desk.live is not None:
        desk.live.workers_removed([number])
    return {"removed": it.name}


def container_remove(desk: Desk, it: ContainerRemove) -> Any:
    """A container that is gone, with its machines; refused while one of them mines."""

    def remove(connection: Connection) -> tuple[ContainerRecord, tuple[int, ...]]:
        number, machines = registry_store.remove_container(connection, it.tenant, it.name, _now_s())
        _refuse_if_mining(desk, machines)
        tenant_id = registry_store.find_tenant(connection, it.tenant).id
        return ContainerRecord(id=number, tenant_id=tenant_id, name=it.name, removed=True), machines

    record, machines = desk.write(remove)
    if desk.live is not None:
        desk.live.workers_removed(machines)
        desk.live.container_changed(record)
    return {"removed": f"{it.tenant}.{it.name}", "workers": len(machines)}


def _refuse_if_mining(desk: Desk, numbers: Collection[int]) -> None:
    figures = {} if desk.live is None else desk.live.worker_figures(numbers)
    mining = sum(not figures[number].offline for number in figures)
    if mining:
        raise RegistryError(f"{mining} of {len(numbers)} had a share in the last five minutes: stop it first")


_WORKERS: Final = (
    select(workers, tenants.c.name.label("tenant"), containers.c.name.label("container"))
    .join(tenants, tenants.c.id == workers.c.tenant_id)
    .join(containers, containers.c.id == workers.c.container_id)
)


def _worker(row: Any) -> dict[str, Any]:
    """Of a row of _WORKERS, or of an UnlistedWorker."""
    return {
        "id": row.id,
        "name": ".".join(part for part in (row.tenant, row.container, row.unit) if part),
        "agent": row.agent,
        "difficulty_log2": getattr(row, "difficulty_log2", None),
        "first_seen_at_s": row.first_seen_at_s,
        "last_seen_at_s": getattr(row, "last_seen_at_s", None),
        "removed_at_s": getattr(row, "removed_at_s", None),
        "new": getattr(row, "new", False) or None,  # no accepted share yet
    }


def lease_show(desk: Desk, it: LeaseShow) -> Any:
    """The epoch of the pool's lease, for those who write beside it on its host."""
    return desk.store.lease_epoch


def _network(desk: Desk) -> str:
    if desk.network is None:
        raise RegistryError(
            "the database is of no network yet, and an address belongs to one: give the settings with"
            " --config, or start the pool once"
        )
    return desk.network


def _changed(desk: Desk, view: TenantView) -> Any:
    if desk.live is not None:
        desk.live.tenant_changed(view)
    return _shown(view)


def _lately() -> Period:
    """The days that luck is looked at for, today with them."""
    tomorrow = datetime.fromtimestamp(_now_s(), UTC).date() + timedelta(1)
    return Period(tomorrow - timedelta(LUCK_DAYS), tomorrow)


def _shown(view: TenantView) -> dict[str, Any]:
    """With what a solo tenant's blocks pay now, which is not a new address before it holds."""
    shown: dict[str, Any] = msgspec.to_builtins(view)
    del shown["payees"]
    solo = view.scheme == Scheme.SOLO
    return shown | {"blocks_pay": address_at(view.payees, _now_s()) if solo else None}


def _live(desk: Desk, of: Literal["tenant", "site", "container", "worker"]) -> Mapping[int, Hashrate]:
    return desk.live.figures(of) if desk.live is not None else {}


def _figures(desk: Desk, rate: Hashrate | None) -> dict[str, Any]:
    """Live figures, and since when shares are counted; nothing without a running pool."""
    if rate is None or desk.live is None:
        return {}
    figures: dict[str, Any] = msgspec.to_builtins(rate)
    rates = figures.pop("rates_hps")
    figures.update({f"hps_{window_s}s": rate for window_s, rate in zip(WINDOWS_S, rates, strict=True)})
    return figures | {"counted_since_at_s": desk.live.since_s}


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


def _now_s() -> int:
    return int(time.time())


COMMANDS: Final[dict[str, tuple[type[msgspec.Struct], Callable[[Desk, Any], Any]]]] = {
    "tenant.add": (TenantAdd, tenant_add),
    "tenant.list": (TenantList, tenant_list),
    "tenant.show": (TenantShow, tenant_show),
    "tenant.set-address": (TenantSetAddress, tenant_set_address),
    "tenant.set-terms": (TenantSetTerms, tenant_set_terms),
    "tenant.set-status": (TenantSetStatus, tenant_set_status),
    "container.list": (ContainerList, container_list),
    "site.list": (SiteList, site_list),
    "container.set": (ContainerSet, container_set),
    "worker.list": (WorkerList, worker_list),
    "worker.show": (WorkerShow, worker_show),
    "lease.show": (LeaseShow, lease_show),
    "worker.remove": (WorkerRemove, worker_remove),
    "container.remove": (ContainerRemove, container_remove),
    **ORDER_COMMANDS,
}


READING: Final = frozenset(name for name in COMMANDS if name.endswith((".list", ".show")))


def _beyond(value: object) -> int | None:
    """A number in it that no column of the database takes."""
    if isinstance(value, int):
        return None if -INTEGER_MAX <= value <= INTEGER_MAX else value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return next((number for part in parts if (number := _beyond(part)) is not None), None)


def execute(desk: Desk, name: str, body: bytes) -> Any:
    """Execute a command with its JSON parameters. Raises RegistryError in words."""
    if name not in COMMANDS:
        raise RegistryError(f"there is no command {name!r}")
    kind, function = COMMANDS[name]
    if too_deep(body):
        raise RegistryError(f"{name}: nested too deeply")
    try:
        params = msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RegistryError(f"{name}: {error}") from None
    if (number := _beyond(msgspec.to_builtins(params))) is not None:
        raise RegistryError(f"{name}: {str(number)[:20]}... has more than 64 bits")
    return function(desk, params)
