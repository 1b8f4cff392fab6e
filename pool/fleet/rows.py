"""The registry's rows: tenants with their terms and addresses, sites, containers, workers.

Functions on a connection inside the caller's transaction, which for changes must be the only writer. Every
change of terms or address is a new row, so that a statement can tell who changed what and when.

Must not know: commands, sessions, whether a pool is running.
"""

from collections.abc import Collection
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, Table, insert, select, update
from sqlalchemy.dialects import sqlite

from payouts.book_time import book_time
from payouts.ledger import balance_sat, open_accounts, payable
from payouts.rates import BPS, MAX_MONEY_SAT, OrderCredit, Scheme, UpstreamRisk
from payouts.schemas.many import among, bound, selected
from payouts.schemas.money import containers, sites, tenant_addresses, tenant_terms, tenants, workers
from payouts.schemas.orders import upstreams
from payouts.schemas.upsert import Insert, upserts
from payouts.solo import Payee, schedule
from pool.chain.addresses import BadAddress, script_for
from pool.fleet.plates import note_plate
from pool.fleet.registry import (
    NAME_CHARS_MAX,
    ContainerRecord,
    NewRows,
    Snapshot,
    TenantRecord,
    WorkerRecord,
)
from pool.fleet.registry_error import RegistryError as RegistryError
from pool.fleet.upstream_accounts import check_paid_work, check_proxy, proxied
from pool.store_error import StoreError

ADDRESS_HOLD_S: Final = 72 * 3600  # MONEY: nothing is paid to an address that was changed less than this ago
TENANT_CHARS_MAX: Final = 32  # leaves room for container and unit in 63 bytes
# Each has a coinbase of its own in every new job, 0.1 ms: together half of what it takes to hash the branch.
SOLO_TENANTS_MAX: Final = 64


class NumberTaken(StoreError):
    """A number that was handed out in memory is another's in the database: two have written to it."""


class TenantTerms(msgspec.Struct, frozen=True, kw_only=True):
    """Where a tenant's machines mine, and what it is paid by."""

    scheme: Scheme
    fee_bps: int
    payout_minimum_sat: int
    upstream_id: int | None = None  # None: for the pool
    order_credit: OrderCredit = OrderCredit.PPS
    upstream_risk: UpstreamRisk = UpstreamRisk.TENANT

    def __post_init__(self) -> None:
        if not 0 <= self.fee_bps <= BPS:
            raise ValueError(f"a fee is 0 to {BPS} basis points")
        if not 0 <= self.payout_minimum_sat <= MAX_MONEY_SAT:
            raise ValueError("a minimum payout is 0 to 21 million BTC, in satoshi")


class TenantView(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant as commands show it."""

    id: int
    name: str
    status: str
    scheme: str
    fee_bps: int
    terms_at_s: int  # in force since
    payout_minimum_sat: int
    upstream_id: int | None
    upstream: str | None  # its name; None: the pool itself
    order_credit: str
    upstream_risk: str
    address: str | None
    address_effective_at_s: int | None
    payees: tuple[Payee, ...]  # which address blocks pay from when, were it a solo tenant
    created_at_s: int


def load(connection: Connection) -> Snapshot:
    """Everything that admission needs."""
    return Snapshot(
        tenants=load_tenants(connection),
        containers=load_containers(connection),
        workers=load_workers(connection),
    )


def load_containers(connection: Connection) -> tuple[ContainerRecord, ...]:
    """All of them."""
    return tuple(_container_of(row) for row in connection.execute(_CONTAINERS))


def load_workers(
    connection: Connection, containers: Collection[int] | None = None
) -> tuple[WorkerRecord, ...]:
    """All of them, or of these containers."""
    query = select(
        workers.c.id,
        workers.c.tenant_id,
        workers.c.container_id,
        workers.c.unit,
        workers.c.agent,
        workers.c.difficulty_log2,
        workers.c.removed_at_s,
    )
    if containers is not None:
        query = query.where(among(connection, workers.c.container_id, containers))
    return tuple(
        WorkerRecord(
            id=id_,
            tenant_id=tenant,
            container_id=container,
            unit=unit,
            agent=agent,
            difficulty_log2=log2,
            removed=removed is not None,
        )
        for id_, tenant, container, unit, agent, log2, removed in connection.execute(query)
    )


def load_tenants(connection: Connection) -> tuple[TenantRecord, ...]:
    """All of them, with the upstreams that ever paid each."""
    return tuple(
        msgspec.structs.replace(record_of(view), proxied=proxied(connection, view.id))
        for view in list_tenants(connection)
    )


_CONTAINERS: Final = select(containers, sites.c.name.label("site")).outerjoin(
    sites, sites.c.id == containers.c.site_id
)


def find_container(connection: Connection, number: int) -> ContainerRecord:
    """As the registry has it."""
    return _container_of(connection.execute(_CONTAINERS.where(containers.c.id == number)).one())


def _container_of(row: Row[Any]) -> ContainerRecord:
    return ContainerRecord(
        id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        site_id=row.site_id or 0,
        site=row.site,
        units=row.nameplate_units,
        ths=row.nameplate_ths,
        removed=row.removed_at_s is not None,
    )


def insert_new(connection: Connection, new: NewRows, now_s: int) -> None:
    """Rows that the registry numbered; those that are there already stay as they are.

    Raises NumberTaken where a number is another's: shares are booked by it.
    """
    places = [
        {"id": it.id, "tenant_id": it.tenant_id, "name": it.name, "created_at_s": now_s}
        for it in new.containers
    ]
    machines = [
        {
            "id": it.id,
            "tenant_id": it.tenant_id,
            "container_id": it.container_id,
            "unit": it.unit,
            "agent": it.agent,
            "first_seen_at_s": now_s,
            "last_seen_at_s": now_s,
        }
        for it in new.workers
    ]
    for table, rows in ((containers, places), (workers, machines)):
        if rows:
            connection.execute(_INSERT_NEW[connection.dialect.name][table.name], bound(rows))
    _check_numbers(connection, new)


def _check_numbers(connection: Connection, new: NewRows) -> None:
    """Every number stands for what the registry means by it, whoever wrote the row."""
    wanted: dict[Table, dict[int, tuple[int | str, ...]]] = {
        containers: {it.id: (it.tenant_id, it.name) for it in new.containers},
        workers: {it.id: (it.tenant_id, it.container_id, it.unit) for it in new.workers},
    }
    for table, names in (
        (containers, ("tenant_id", "name")),
        (workers, ("tenant_id", "container_id", "unit")),
    ):
        columns = [table.c[name] for name in names]
        there = select(table.c.id, *columns).where(among(connection, table.c.id, wanted[table]))
        for id_, *found in connection.execute(there):
            if tuple(found) != wanted[table][id_]:
                raise NumberTaken(
                    f"number {id_} of {table.name} is another's: somebody else wrote to the book"
                )


_NEW_COLUMNS: Final = {
    containers: ("id", "tenant_id", "name", "created_at_s"),
    workers: (
        "id",
        "tenant_id",
        "container_id",
        "unit",
        "agent",
        "first_seen_at_s",
        "last_seen_at_s",
    ),
}


def _back(table: Table, new: Insert) -> Insert:
    """A row that is there stays as it is; but it mines, so it is not removed."""
    names = _NEW_COLUMNS[table]
    rows = selected(table, names)["sqlite" if isinstance(new, sqlite.Insert) else "postgresql"]
    into = new.from_select(names, rows, include_defaults=False)
    return into.on_conflict_do_update(index_elements=[table.c.id], set_={"removed_at_s": None})


_INSERT_NEW: Final = upserts(containers, workers, on=_back)


def remove_worker(connection: Connection, tenant: str, container: str, unit: str, now_s: int) -> int:
    """Out of lists and quotas, until it mines again; its number. What it did stays. Raises RegistryError."""
    container_id = _container_id(connection, tenant, container)
    named = (workers.c.container_id == container_id) & (workers.c.unit == unit)
    number = connection.scalar(select(workers.c.id).where(named, workers.c.removed_at_s.is_(None)))
    if number is None:
        name = ".".join(part for part in (tenant, container, unit) if part)
        raise RegistryError(f"there is no worker {name!r:.200}: names are tenant.container.unit")
    connection.execute(update(workers).where(workers.c.id == number).values(removed_at_s=now_s))
    return int(number)


def remove_container(
    connection: Connection, tenant: str, container: str, now_s: int
) -> tuple[int, tuple[int, ...]]:
    """The container with all its machines; their numbers. Raises RegistryError."""
    container_id = _container_id(connection, tenant, container)
    there = (workers.c.container_id == container_id) & workers.c.removed_at_s.is_(None)
    numbers = tuple(connection.scalars(select(workers.c.id).where(there)))
    for table, which in ((workers, there), (containers, containers.c.id == container_id)):
        connection.execute(update(table).where(which).values(removed_at_s=now_s))
    return container_id, numbers


def _container_id(connection: Connection, tenant: str, container: str) -> int:
    named = (containers.c.tenant_id == find_tenant(connection, tenant).id) & (containers.c.name == container)
    found = connection.scalar(select(containers.c.id).where(named, containers.c.removed_at_s.is_(None)))
    if found is None:
        raise RegistryError(f"{tenant} has no container {container!r:.100}")
    return int(found)


def list_tenants(connection: Connection) -> tuple[TenantView, ...]:
    """All tenants by name, each with its newest terms and address."""
    terms = {
        row.tenant_id: row
        for row in connection.execute(
            select(tenant_terms, upstreams.c.name.label("upstream"))
            .outerjoin(upstreams, upstreams.c.id == tenant_terms.c.upstream_id)
            .order_by(tenant_terms.c.id)
        )
    }
    addresses: dict[int, list[Row[Any]]] = {}
    for row in connection.execute(select(tenant_addresses).order_by(tenant_addresses.c.id)):
        addresses.setdefault(row.tenant_id, []).append(row)
    views = []
    for row in connection.execute(select(tenants).order_by(tenants.c.name)):
        changes = addresses.get(row.id, [])
        address = changes[-1] if changes else None
        views.append(
            TenantView(
                id=row.id,
                name=row.name,
                status=row.status,
                scheme=terms[row.id].scheme,
                fee_bps=terms[row.id].fee_bps,
                terms_at_s=terms[row.id].changed_at_s,
                payout_minimum_sat=terms[row.id].payout_minimum_sat,
                upstream_id=terms[row.id].upstream_id,
                upstream=terms[row.id].upstream,
                order_credit=terms[row.id].order_credit,
                upstream_risk=terms[row.id].upstream_risk,
                address=address.address if address is not None else None,
                address_effective_at_s=address.effective_at_s if address is not None else None,
                payees=schedule((it.changed_at_s, it.effective_at_s, it.address) for it in changes),
                created_at_s=row.created_at_s,
            )
        )
    return tuple(views)


def find_tenant(connection: Connection, name: str) -> TenantView:
    """Raises RegistryError for an unknown name."""
    for view in list_tenants(connection):
        if view.name == name:
            return view
    raise RegistryError(f"there is no tenant {name!r}")


def record_of(view: TenantView) -> TenantRecord:
    """Of its terms in force alone: which upstreams paid it before, the registry knows."""
    own = view.upstream_id if view.scheme == Scheme.PROXY else None
    return TenantRecord(
        id=view.id,
        name=view.name,
        active=view.status == "active",
        scheme=Scheme(view.scheme),
        fee_bps=view.fee_bps,
        terms_at_s=view.terms_at_s,
        upstream_id=view.upstream_id,
        order_credit=OrderCredit(view.order_credit),
        upstream_risk=UpstreamRisk(view.upstream_risk),
        proxied=frozenset() if own is None else frozenset({own}),
        payees=view.payees,
    )


def check_name(name: str, what: str) -> None:
    """Lower-case letters, digits, dash and underscore: what survives in every miner's user field."""
    letters = name.replace("-", "").replace("_", "")
    if not letters.isascii() or not letters.isalnum() or name != name.lower() or len(name) > TENANT_CHARS_MAX:
        raise RegistryError(
            f"{name!r} is not {what}: up to {TENANT_CHARS_MAX} lower-case letters, digits, - and _"
        )


def add_tenant(
    connection: Connection,
    name: str,
    terms: TenantTerms,
    *,
    by: str,
    now_s: int,
    address: str | None = None,
    network: str = "",
) -> TenantView:
    """A new, active tenant; an address is one of the network. Raises RegistryError."""
    check_name(name, "a tenant name")
    _check_terms(terms)
    _check_account(connection, name, terms, now_s)
    if terms.scheme is Scheme.SOLO:
        _check_solo(connection, name, terms, address)
    if connection.scalar(select(tenants.c.id).where(tenants.c.name == name)) is not None:
        raise RegistryError(f"there is a tenant {name!r} already")
    now_s = book_time(connection, now_s)
    row = insert(tenants).values(name=name, status="active", created_at_s=now_s).returning(tenants.c.id)
    tenant_id = int(connection.execute(row).scalar_one())
    open_accounts(connection, tenant_id)
    _insert_terms(connection, tenant_id, terms, by, now_s)
    if address is not None:
        return set_address(connection, name, address, network=network, by=by, now_s=now_s)
    return find_tenant(connection, name)


def set_terms(connection: Connection, name: str, terms: TenantTerms, *, by: str, now_s: int) -> TenantView:
    """New terms from the next job on. Raises RegistryError."""
    tenant = find_tenant(connection, name)
    if terms_of(tenant) != terms:
        _check_terms(terms)
        _check_account(connection, name, terms, now_s)
        if terms.scheme is Scheme.SOLO:
            _check_solo(connection, name, terms, tenant.address)
        _insert_terms(connection, tenant.id, terms, by, now_s)
    return find_tenant(connection, name)


def terms_of(view: TenantView) -> TenantTerms:
    return TenantTerms(
        scheme=Scheme(view.scheme),
        fee_bps=view.fee_bps,
        payout_minimum_sat=view.payout_minimum_sat,
        upstream_id=view.upstream_id,
        order_credit=OrderCredit(view.order_credit),
        upstream_risk=UpstreamRisk(view.upstream_risk),
    )


def set_address(
    connection: Connection, name: str, address: str, *, network: str, by: str, now_s: int
) -> TenantView:
    """A new payout address. It is held back for 72 hours, but for the first one of who is owed nothing yet.
    Raises RegistryError."""
    tenant = find_tenant(connection, name)
    try:
        script_for(address, network)
    except BadAddress as error:
        raise RegistryError(str(error)) from None
    if tenant.address != address:
        now_s = book_time(connection, now_s)
        owed = tenant.address is not None or balance_sat(connection, payable(tenant.id)) > 0
        hold_s = ADDRESS_HOLD_S if owed else 0
        connection.execute(
            insert(tenant_addresses).values(
                tenant_id=tenant.id,
                address=address,
                changed_at_s=now_s,
                changed_by=by,
                effective_at_s=now_s + hold_s,
            )
        )
    return find_tenant(connection, name)


def set_status(connection: Connection, name: str, *, active: bool) -> TenantView:
    """Suspend or resume. Its balance and its history stay."""
    tenant = find_tenant(connection, name)
    status = "active" if active else "suspended"
    connection.execute(update(tenants).where(tenants.c.id == tenant.id).values(status=status))
    return find_tenant(connection, name)


def set_container(
    connection: Connection,
    tenant_name: str,
    container_name: str,
    *,
    site: str | None = None,
    units: int | None = None,
    ths: int | None = None,
    kw: int | None = None,
    next_id: int,
    now_s: int,
) -> ContainerRecord:
    """Nameplate and site of a container, made where it is new (with the number next_id)."""
    tenant = find_tenant(connection, tenant_name)
    if not container_name or len(container_name) > NAME_CHARS_MAX or not container_name.isprintable():
        raise RegistryError(f"a container has a name of 1 to {NAME_CHARS_MAX} printable characters")
    for what, value in (("units", units), ("TH/s", ths), ("kW", kw)):
        if value is not None and not 0 <= value <= 10**9:
            raise RegistryError(f"{what} must be 0 to a thousand million")
    where = (containers.c.tenant_id == tenant.id) & (containers.c.name == container_name)
    container_id = connection.scalar(select(containers.c.id).where(where))
    if container_id is None:
        container_id = next_id
        connection.execute(
            insert(containers).values(
                id=next_id, tenant_id=tenant.id, name=container_name, created_at_s=now_s
            )
        )
    values: dict[str, Any] = {"nameplate_units": units, "nameplate_ths": ths, "nameplate_kw": kw}
    values = {column: value for column, value in values.items() if value is not None}
    values["removed_at_s"] = None  # it is there again
    if site is not None:
        values["site_id"] = _site(connection, site, now_s)
    if values:
        connection.execute(update(containers).where(containers.c.id == container_id).values(**values))
    note_plate(connection, int(container_id), now_s)
    return find_container(connection, int(container_id))


def _site(connection: Connection, name: str, now_s: int) -> int:
    if not name or len(name) > NAME_CHARS_MAX or not name.isprintable():
        raise RegistryError(f"a site has a name of 1 to {NAME_CHARS_MAX} printable characters")
    known = connection.scalar(select(sites.c.id).where(sites.c.name == name))
    if known is not None:
        return int(known)
    row = insert(sites).values(name=name, created_at_s=now_s).returning(sites.c.id)
    return int(connection.execute(row).scalar_one())


def _check_terms(terms: TenantTerms) -> None:
    """A scheme and where the machines mine must go together; what is in force already may stay."""
    if terms.scheme is Scheme.PROXY and terms.upstream_id is None:
        raise RegistryError("a proxy tenant is paid by its upstream and has none: say which with --upstream")
    if (terms.scheme is Scheme.SOLO or terms.scheme.divides) and terms.upstream_id is not None:
        raise RegistryError(
            f"a {terms.scheme} tenant is paid by the blocks that its machines find for the pool, and they"
            " would mine for an upstream: another scheme, or --upstream pool"
        )


def _check_account(connection: Connection, name: str, terms: TenantTerms, now_s: int) -> None:
    """Whether who pays the tenant is one: the pool, or the account of its upstream."""
    if terms.upstream_id is None:
        return
    if terms.scheme is Scheme.PROXY:
        check_proxy(connection, terms.upstream_id, name, now_s)
    else:
        check_paid_work(connection, terms.upstream_id, f"{terms.scheme} for {name}")


def _check_solo(connection: Connection, name: str, terms: TenantTerms, address: str | None) -> None:
    """Whether the blocks of a tenant of that name can pay it."""
    if terms.fee_bps >= BPS:
        raise RegistryError("a solo tenant's blocks pay it what the fee leaves: 100 % leaves nothing")
    if address is None:
        raise RegistryError("a solo tenant's blocks pay its address, and it has none: set one first")
    others = sum(it.scheme == Scheme.SOLO and it.name != name for it in list_tenants(connection))
    if others >= SOLO_TENANTS_MAX:
        raise RegistryError(f"there are {others} solo tenants, each with a coinbase in every job: no more")


def _insert_terms(connection: Connection, tenant_id: int, terms: TenantTerms, by: str, now_s: int) -> None:
    connection.execute(
        insert(tenant_terms).values(
            tenant_id=tenant_id,
            scheme=terms.scheme.value,
            fee_bps=terms.fee_bps,
            payout_minimum_sat=terms.payout_minimum_sat,
            changed_at_s=book_time(connection, now_s),
            changed_by=by,
            upstream_id=terms.upstream_id,
            order_credit=terms.order_credit.value,
            upstream_risk=terms.upstream_risk.value,
        )
    )
