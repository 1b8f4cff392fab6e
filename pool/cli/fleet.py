"""`angara tenant`, `angara container` and `angara worker`: who may mine, and what stands where.

They work while the pool runs (through its socket) and on the data directory when it does not.
"""

import time
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import typer

from pool.admin.machines import (
    ContainerList,
    ContainerRemove,
    ContainerSet,
    SiteList,
    WorkerList,
    WorkerRemove,
    WorkerShow,
)
from pool.admin.tenants import (
    TenantAdd,
    TenantList,
    TenantSetAddress,
    TenantSetStatus,
    TenantSetTerms,
    TenantShow,
)
from pool.cli.command_line import JsonOption, ask_pool, moment, print_json, print_lines
from pool.cli.options import ConfigOption, DatabaseOption, DataDirOption
from pool.reports.figures import hashrate, visible

tenant_app = typer.Typer(
    help="Custody clients: who they are, how and where they are paid.", no_args_is_help=True
)
container_app = typer.Typer(help="Containers and their nameplates.", no_args_is_help=True)
site_app = typer.Typer(help="Places where containers stand.", no_args_is_help=True)
worker_app = typer.Typer(help="Machines as the pool knows them.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="Name of the tenant.")]
SchemeOption = Annotated[str | None, typer.Option(help="pps, fpps, solo or proxy.")]
FeeOption = Annotated[int | None, typer.Option(help="Fee of the pool in basis points: 200 is 2 %.")]
MinimumOption = Annotated[int | None, typer.Option(help="Smallest payout, in satoshi.")]
UPSTREAM_HELP = "Where its machines mine: an upstream by its name, or pool."
ORDER_CREDIT_HELP = "How work that an order sells is paid: pps, or order: by the order's price."
UPSTREAM_RISK_HELP = "Who bears shares that an upstream did not take: tenant or pool."


@site_app.callback()
def _site() -> None:
    """Places where containers stand."""


@tenant_app.command("add")
def tenant_add(
    name: NameArgument,
    scheme: Annotated[str, typer.Option(help="pps, fpps, solo or proxy.")] = "pps",
    fee_bps: Annotated[int, typer.Option(help="Fee of the pool in basis points.")] = 200,
    minimum_sat: Annotated[int, typer.Option(help="Smallest payout, in satoshi.")] = 1_000_000,
    address: Annotated[str | None, typer.Option(help="Where it is paid; may be set later.")] = None,
    upstream: Annotated[str, typer.Option(help=UPSTREAM_HELP)] = "pool",
    order_credit: Annotated[str, typer.Option(help=ORDER_CREDIT_HELP)] = "pps",
    upstream_risk: Annotated[str, typer.Option(help=UPSTREAM_RISK_HELP)] = "tenant",
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
) -> None:
    """Add a tenant. Its machines may mine from now on."""
    params = TenantAdd(name, scheme, fee_bps, minimum_sat, address, upstream, order_credit, upstream_risk)
    _show(ask_pool("tenant.add", params, config, data_dir, database))


@tenant_app.command("list")
def tenant_list(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """All tenants."""
    rows = ask_pool("tenant.list", TenantList(), config, data_dir, database)
    columns = (
        *("name", "status", "scheme", "upstream", "fee_bps", "payout_minimum_sat", "address"),
        *("workers", "hps_3600s"),
    )
    _print([rows], columns, as_json)


@tenant_app.command("show")
def tenant_show(
    name: NameArgument,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """One tenant."""
    _show(ask_pool("tenant.show", TenantShow(name), config, data_dir, database), as_json)


@tenant_app.command("set-address")
def tenant_set_address(
    name: NameArgument,
    address: Annotated[
        str,
        typer.Argument(
            help="Payout address. A change holds after 72 hours, for blocks of a solo tenant too."
        ),
    ],
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
) -> None:
    """Set the payout address."""
    params = TenantSetAddress(name, address)
    _show(ask_pool("tenant.set-address", params, config, data_dir, database))


@tenant_app.command("set-terms")
def tenant_set_terms(
    name: NameArgument,
    scheme: SchemeOption = None,
    fee_bps: FeeOption = None,
    minimum_sat: MinimumOption = None,
    upstream: Annotated[str | None, typer.Option(help=UPSTREAM_HELP)] = None,
    order_credit: Annotated[str | None, typer.Option(help=ORDER_CREDIT_HELP)] = None,
    upstream_risk: Annotated[str | None, typer.Option(help=UPSTREAM_RISK_HELP)] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
) -> None:
    """Change where the machines mine and how they are paid, for the work of jobs sent from now on."""
    params = TenantSetTerms(name, scheme, fee_bps, minimum_sat, upstream, order_credit, upstream_risk)
    _show(ask_pool("tenant.set-terms", params, config, data_dir, database))


@tenant_app.command("suspend")
def tenant_suspend(
    name: NameArgument,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
) -> None:
    """Refuse the tenant's machines from now on. What it has earned stays."""
    _show(ask_pool("tenant.set-status", TenantSetStatus(name, False), config, data_dir, database))


@tenant_app.command("resume")
def tenant_resume(
    name: NameArgument,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
) -> None:
    """Let a suspended tenant's machines mine again."""
    _show(ask_pool("tenant.set-status", TenantSetStatus(name, True), config, data_dir, database))


@container_app.command("list")
def container_list(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Containers, what they are meant to do and what they do."""
    rows = ask_pool("container.list", ContainerList(tenant), config, data_dir, database)
    columns = ("tenant", "name", "site", "units", "ths", "kw", "workers", "offline", "hps_300s", "hps_3600s")
    _print([rows], columns, as_json)


@site_app.command("list")
def site_list(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sites: what stands there and what it does; without a name is what nobody has placed."""
    rows = ask_pool("site.list", SiteList(), config, data_dir, database)
    columns = ("name", "containers", "units", "ths", "kw", "workers", "offline", "hps_300s", "hps_3600s")
    _print([rows], columns, as_json)


@container_app.command("set")
def container_set(
    tenant: NameArgument,
    name: Annotated[str, typer.Argument(help="Name of the container; made where it is new.")],
    site: Annotated[str | None, typer.Option(help="Where it stands.")] = None,
    units: Annotated[int | None, typer.Option(help="Machines in it.")] = None,
    ths: Annotated[int | None, typer.Option(help="Hashrate of all of them, TH/s.")] = None,
    kw: Annotated[int | None, typer.Option(help="Power of all of them, kW.")] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
) -> None:
    """Set a container's site and nameplate."""
    params = ContainerSet(tenant, name, site, units, ths, kw)
    _show(ask_pool("container.set", params, config, data_dir, database))


@worker_app.command("list")
def worker_list(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    container: Annotated[str | None, typer.Option(help="Only this container's.")] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Only those without shares for 5 minutes.")
    ] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Machines, by the order in which they were first seen."""

    def pages() -> Iterator[list[dict[str, Any]]]:
        after = 0
        while True:  # bounded by the workers there are
            params = WorkerList(tenant, container, offline, after)
            page = ask_pool("worker.list", params, config, data_dir, database)
            if not page:
                return
            yield page
            after = page[-1]["id"]

    columns = (
        *("name", "agent", "new", "difficulty_log2", "last_seen_at_s"),
        *("accepted", "stale", "low", "hps_300s"),
    )
    _print(pages(), columns, as_json)


@worker_app.command("remove")
def worker_remove(
    name: Annotated[str, typer.Argument(help="tenant.container.unit")],
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
) -> None:
    """Take a machine that is gone out of lists and quotas. What it did stays, and mining brings it back."""
    _show(ask_pool("worker.remove", WorkerRemove(name), config, data_dir, database))


@container_app.command("remove")
def container_remove(
    tenant: NameArgument,
    name: Annotated[str, typer.Argument(help="Name of the container.")],
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
) -> None:
    """Take a container that is gone, with its machines, out of lists and quotas. What they did stays."""
    _show(ask_pool("container.remove", ContainerRemove(tenant, name), config, data_dir, database))


@worker_app.command("show")
def worker_show(
    name: Annotated[str, typer.Argument(help="tenant.container.unit")],
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """One machine."""
    _show(ask_pool("worker.show", WorkerShow(name), config, data_dir, database), as_json)


def _show(row: dict[str, Any], as_json: bool = False) -> None:
    if as_json:
        print_json(row)
        return
    for key, value in row.items():
        if value is not None:
            what = key.removesuffix("_s") if key.endswith("_at_s") else key
            typer.echo(f"{what:22} {visible(_text(key, value))}")


def _print(pages: Iterable[list[dict[str, Any]]], columns: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        print_json([row for page in pages for row in page])
        return
    used: list[str] | None = None
    for page in pages:
        first, used = (
            used is None,
            used or [it for it in columns if any(row.get(it) is not None for row in page)],
        )
        print_lines(
            [it if it in ("name", "tenant", "agent", "site") else f"{it}>" for it in used],
            [[_text(it, row.get(it)) for it in used] for row in page],
            heads=first,
        )


def _text(key: str, value: object) -> str:
    if value is None:
        return "-"
    if key.endswith("_at_s") and isinstance(value, int):
        return moment(value) + (" (held back)" if value > time.time() else "")
    if key.startswith("hps_") and isinstance(value, int | float):
        return hashrate(int(value))
    if isinstance(value, bool):
        return "yes" if value else "-"
    return str(value)
