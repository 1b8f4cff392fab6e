"""The operator's commands for sites, containers and workers, each once: with a running pool, and without one.

Must not know: sockets, terminals.
"""

from collections.abc import Collection, Sequence
from typing import Any, Final, cast

import msgspec
from sqlalchemy import ColumnElement, Connection, func, select

from payouts.schemas.money import containers, sites, tenants, workers
from pool.admin.command import Change, Commands, Question
from pool.admin.desk import ROWS_MAX, Desk, Figures, OperatorDesk, figures_of, live_figures, wall_s
from pool.admin.pages import Page, Paged, begin_of, cursor_behind, page_of
from pool.books.changes.changes import State
from pool.fleet import rows as registry_store
from pool.fleet.hashrate import Hashrate
from pool.fleet.registry import ContainerRecord, parse_worker_name
from pool.fleet.rows import RegistryError
from pool.people.roles import Caller, Role


class ContainerList(Paged, frozen=True, forbid_unknown_fields=True):
    tenant: str | None = None


class SiteList(Paged, frozen=True, forbid_unknown_fields=True):
    pass


class ContainerSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tenant: str
    name: str
    site: str | None = None
    units: int | None = None
    ths: int | None = None
    kw: int | None = None


class WorkerList(Paged, frozen=True, forbid_unknown_fields=True):
    """Of up to ROWS_MAX workers, where no limit says less, with numbers above `after`."""

    tenant: str | None = None
    container: str | None = None
    offline_only: bool = False
    after: int = 0


class WorkerRemove(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class ContainerRemove(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tenant: str
    name: str


class WorkerShow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class ContainerRow(Figures, frozen=True):
    """A container with its nameplate."""

    id: int
    tenant: str
    name: str
    site: str | None
    units: int | None
    ths: int | None
    kw: int | None


class SiteRow(Figures, frozen=True):
    """The nameplates of its containers added up; the one without a name has those without a site."""

    name: str
    containers: int
    units: int
    ths: int
    kw: int


class WorkerRow(Figures, frozen=True):
    """A machine; `new` where it had no accepted share yet."""

    id: int
    name: str
    agent: str | None
    difficulty_log2: int | None
    first_seen_at_s: int | None
    last_seen_at_s: int | None
    removed_at_s: int | None
    new: bool | None


class WorkerRemoved(msgspec.Struct, frozen=True, kw_only=True):
    removed: str


class ContainerRemoved(msgspec.Struct, frozen=True, kw_only=True):
    """`workers`: how many machines went with it."""

    removed: str
    workers: int


def container_list(desk: Desk, it: ContainerList) -> Page[ContainerRow]:
    """Containers with their nameplates; with what they do now where a pool runs."""

    def read(connection: Connection) -> Sequence[Any]:
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
        return connection.execute(query).all()

    rows = desk.read(read)
    rates = live_figures(desk, "container")
    found = [
        ContainerRow(
            id=row.id,
            tenant=row.tenant,
            name=row.name,
            site=row.site,
            units=row.nameplate_units,
            ths=row.nameplate_ths,
            kw=row.nameplate_kw,
            **figures_of(desk, rates.get(row.id)),
        )
        for row in rows
    ]
    return page_of(it, found, lambda row: (row.tenant, row.name))


def container_list_of(it: ContainerList, caller: Caller) -> ContainerList:
    return msgspec.structs.replace(it, tenant=caller.own_tenant(it.tenant))


def site_list(desk: Desk, it: SiteList) -> Page[SiteRow]:
    """Sites with the nameplates of their containers added up; with what they do where a pool runs."""
    named = ("units", "ths", "kw")
    rates = live_figures(desk, "site")
    numbers = dict(desk.read(lambda connection: connection.execute(select(sites.c.name, sites.c.id)).all()))
    totals: dict[str, dict[str, Any]] = {}
    for container in container_list(desk, ContainerList()).rows:
        name = container.site or ""
        total = totals.setdefault(name, {"name": name, "containers": 0, **dict.fromkeys(named, 0)})
        total["containers"] += 1
        for what in named:
            total[what] += getattr(container, what) or 0
    rows = [
        SiteRow(**totals[name], **figures_of(desk, rates.get(numbers.get(name, 0))))
        for name in sorted(totals)
    ]
    return page_of(it, rows, lambda row: (row.name,))


def container_set(desk: OperatorDesk, it: ContainerSet) -> ContainerRow:
    def change(connection: Connection) -> ContainerRecord:
        next_id = (connection.scalar(select(func.max(containers.c.id))) or 0) + 1
        if desk.live is not None:
            next_id = desk.live.reserve_container(it.tenant, it.name)
        return registry_store.set_container(
            connection,
            it.tenant,
            it.name,
            site=it.site,
            units=it.units,
            ths=it.ths,
            kw=it.kw,
            next_id=next_id,
            now_s=wall_s(),
        )

    record = desk.write(change)
    if desk.live is not None:
        desk.live.container_changed(record)
    return next(row for row in container_list(desk, ContainerList(it.tenant)).rows if row.id == record.id)


def worker_list(desk: Desk, it: WorkerList) -> Page[WorkerRow]:
    """A page, by number; with machines that have no row yet where a pool runs."""
    rows: list[WorkerRow] = []
    limit, after = it.limit or ROWS_MAX, cast(int | None, it.after)
    if it.cursor is not None:
        (begin,) = begin_of(it, (int,))
        after = max(it.after, int(begin))
    # Of those who are offline there may be few in many.
    count = ROWS_MAX if it.offline_only else min(limit + 1, ROWS_MAX)
    while after is not None and len(rows) < limit:
        page, after = _page(desk, it, after, count)
        figures = {} if desk.live is None else desk.live.worker_figures([row.id for row in page])
        for row in page:
            rate = figures.get(row.id)
            if not it.offline_only or rate is None or rate.offline:
                rows.append(_worker(desk, row, rate))
    more = len(rows) > limit or after is not None
    rows = rows[:limit]
    return Page(rows, cursor_behind(it, (rows[-1].id,)) if more else None)


def worker_list_of(it: WorkerList, caller: Caller) -> WorkerList:
    return msgspec.structs.replace(it, tenant=caller.own_tenant(it.tenant))


def _page(desk: Desk, it: WorkerList, after: int, count: int) -> tuple[list[Any], int | None]:
    """Up to so many machines with numbers above `after`, and where the next ones begin if there are more."""

    def read(connection: Connection) -> tuple[int | None, list[Any]]:
        tenant = None if it.tenant is None else registry_store.find_tenant(connection, it.tenant).id
        here = workers.c.removed_at_s.is_(None)
        query = _WORKERS.where(here, workers.c.id > after).order_by(workers.c.id).limit(count)
        if tenant is not None:
            query = query.where(workers.c.tenant_id == tenant)
        if it.container is not None:
            query = query.where(containers.c.name == it.container)
        return tenant, list(connection.execute(query))

    tenant, listed = desk.read(read)
    found = {row.id: row for row in listed}
    for unlisted in () if desk.live is None else desk.live.unlisted(after, tenant, it.container):
        found.setdefault(unlisted.id, unlisted)
    page = [found[number] for number in sorted(found)[:count]]
    return page, page[-1].id if len(page) == count else None


def worker_show(desk: Desk, it: WorkerShow) -> WorkerRow:
    tenant, container, unit = parse_worker_name(it.name)
    asked = _WORKERS.where(_is_worker(tenant, container, unit))
    row: Any = desk.read(lambda connection: connection.execute(asked).one_or_none())
    if row is None and desk.live is not None:
        row = desk.live.find_unlisted(tenant, container, unit)
    if row is None:
        raise RegistryError(f"there is no worker {it.name!r:.200}: names are tenant.container.unit")
    figures = {} if desk.live is None else desk.live.worker_figures([row.id])
    return _worker(desk, row, figures.get(row.id))


def worker_show_of(it: WorkerShow, caller: Caller) -> WorkerShow:
    caller.own_tenant(parse_worker_name(it.name)[0])
    return it


def worker_remove(desk: OperatorDesk, it: WorkerRemove) -> WorkerRemoved:
    """A machine that is gone; refused while it mines."""
    tenant, container, unit = parse_worker_name(it.name)

    def remove(connection: Connection) -> int:
        number = registry_store.remove_worker(connection, tenant, container, unit, wall_s())
        _refuse_if_mining(desk, [number])
        return number

    number = desk.write(remove)
    if desk.live is not None:
        desk.live.workers_removed([number])
    return WorkerRemoved(removed=it.name)


def container_remove(desk: OperatorDesk, it: ContainerRemove) -> ContainerRemoved:
    """A container that is gone, with its machines; refused while one of them mines."""

    def remove(connection: Connection) -> tuple[ContainerRecord, tuple[int, ...]]:
        number, machines = registry_store.remove_container(connection, it.tenant, it.name, wall_s())
        _refuse_if_mining(desk, machines)
        return registry_store.find_container(connection, number), machines

    record, machines = desk.write(remove)
    if desk.live is not None:
        desk.live.workers_removed(machines)
        desk.live.container_changed(record)
    return ContainerRemoved(removed=f"{it.tenant}.{it.name}", workers=len(machines))


def named_container(it: ContainerSet | ContainerRemove) -> str:
    return f"{it.tenant}.{it.name}"


def named_worker(it: WorkerRemove) -> str:
    """As it is listed, however it was typed."""
    return ".".join(part for part in parse_worker_name(it.name) if part)


def container_state(connection: Connection, subject: str) -> State:
    tenant, _, name = subject.partition(".")
    its = (workers.c.container_id == containers.c.id) & workers.c.removed_at_s.is_(None)
    there = select(func.count()).select_from(workers).where(its)
    query = (
        select(containers, sites.c.name.label("site"), there.scalar_subquery().label("workers"))
        .join(tenants, tenants.c.id == containers.c.tenant_id)
        .outerjoin(sites, sites.c.id == containers.c.site_id)
        .where(tenants.c.name == tenant, containers.c.name == name)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    return {
        "site": row.site,
        "units": row.nameplate_units,
        "ths": row.nameplate_ths,
        "kw": row.nameplate_kw,
        "workers": row.workers,
        "removed_at_s": row.removed_at_s,
    }


def worker_state(connection: Connection, subject: str) -> State:
    row = connection.execute(_WORKERS.where(_is_worker(*parse_worker_name(subject)))).one_or_none()
    return None if row is None else {"agent": row.agent, "removed_at_s": row.removed_at_s}


def _is_worker(tenant: str, container: str, unit: str) -> ColumnElement[bool]:
    return (tenants.c.name == tenant) & (containers.c.name == container) & (workers.c.unit == unit)


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


def _worker(desk: Desk, row: Any, rate: Hashrate | None) -> WorkerRow:
    """Of a row of _WORKERS, or of an UnlistedWorker."""
    return WorkerRow(
        id=row.id,
        name=".".join(part for part in (row.tenant, row.container, row.unit) if part),
        agent=row.agent,
        difficulty_log2=getattr(row, "difficulty_log2", None),
        first_seen_at_s=row.first_seen_at_s,
        last_seen_at_s=getattr(row, "last_seen_at_s", None),
        removed_at_s=getattr(row, "removed_at_s", None),
        new=getattr(row, "new", False) or None,
        **figures_of(desk, rate),
    )


COMMANDS: Final[Commands] = {
    "container.list": Question(ContainerList, container_list, Role.TENANT, container_list_of),
    "site.list": Question(SiteList, site_list),
    "container.set": Change(ContainerSet, container_set, named_container, container_state, Role.OPERATOR),
    "container.remove": Change(
        ContainerRemove, container_remove, named_container, container_state, Role.OPERATOR
    ),
    "worker.list": Question(WorkerList, worker_list, Role.TENANT, worker_list_of),
    "worker.show": Question(WorkerShow, worker_show, Role.TENANT, worker_show_of),
    "worker.remove": Change(WorkerRemove, worker_remove, named_worker, worker_state, Role.OPERATOR),
}
