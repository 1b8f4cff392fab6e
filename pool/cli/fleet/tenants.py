"""`angara tenant`: custody clients, their terms and addresses.

The commands work while the pool runs (through its socket) and on the data directory when it does not.
"""

import time
from typing import Annotated, Any, Final

import typer

from pool.cli.books import Books
from pool.cli.live_columns import ALL, HOUR, MACHINES, OFFLINE
from pool.cli.options import GuardedBooks, ListForm, ShowForm, with_options
from pool.cli.output import Column, iso_time, moment, show, show_one
from pool.reports.figures import amount, grouped, percent

app = typer.Typer(no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="Name of the tenant.")]
SCHEME_HELP: Final = "pps, fpps, solo, proxy, pplns1, pplns2, pplns4, pplns8 or tides."
SchemeOption = Annotated[str | None, typer.Option(help=SCHEME_HELP)]
FeeOption = Annotated[int | None, typer.Option(help="Fee of the pool in basis points: 200 is 2 %.")]
MinimumOption = Annotated[int | None, typer.Option(help="Smallest payout, in satoshi.")]
UPSTREAM_HELP: Final = "Where its machines mine: an upstream by its name, or pool."
ORDER_CREDIT_HELP: Final = "How work that an order sells is paid: pps, or order: by the order's price."
UPSTREAM_RISK_HELP: Final = "Who bears shares that an upstream did not take: tenant or pool."


def _held_back(iso: str) -> str:
    """When an address holds; a new one is held back for 72 hours."""
    return moment(iso) + (" (held back)" if iso > iso_time(int(time.time())) else "")


TENANTS: Final = (
    Column("name", "name"),
    Column("status", "status"),
    Column("scheme", "scheme"),
    Column("upstream", "upstream"),
    Column("fee", "fee_bps", percent, right=True),
    Column("smallest payout", "payout_minimum_sat", amount, right=True),
    Column("address", "address"),
    MACHINES,
    HOUR,
)
TENANT: Final = (
    *TENANTS[:4],
    Column("sold work is paid by", "order_credit"),
    Column("upstream's risk is borne by", "upstream_risk"),
    *TENANTS[4:7],
    Column("address holds from", "address_effective_at", _held_back),
    Column("blocks pay", "blocks_pay"),
    Column("added", "created_at", moment),
    Column("shares booked", "booked_accepted", grouped),
    Column("booked since", "booked_since_at", moment),
    Column("blocks found, 90 d", "blocks_found_90d", grouped),
    Column("blocks expected, 90 d", "blocks_expected_90d"),
    Column("luck, 90 d", "luck_90d"),
    Column("luck at least", "luck_low_90d"),
    Column("luck at most", "luck_high_90d"),
    Column("beyond chance", "luck_hint_90d"),
    MACHINES,
    OFFLINE,
    *ALL,
)


@app.command("add")
@with_options
def add(
    books: GuardedBooks,
    form: ShowForm,
    name: NameArgument,
    scheme: Annotated[str, typer.Option(help=SCHEME_HELP)] = "pps",
    fee_bps: Annotated[int, typer.Option(help="Fee of the pool in basis points.")] = 200,
    minimum_sat: Annotated[int, typer.Option(help="Smallest payout, in satoshi.")] = 1_000_000,
    address: Annotated[str | None, typer.Option(help="Where it is paid; may be set later.")] = None,
    upstream: Annotated[str, typer.Option(help=UPSTREAM_HELP)] = "pool",
    order_credit: Annotated[str, typer.Option(help=ORDER_CREDIT_HELP)] = "pps",
    upstream_risk: Annotated[str, typer.Option(help=UPSTREAM_RISK_HELP)] = "tenant",
) -> None:
    """Add a tenant. Its machines may mine from now on."""
    made = books.ask(
        "tenant.add",
        name=name,
        scheme=scheme,
        fee_bps=fee_bps,
        payout_minimum_sat=minimum_sat,
        address=address,
        upstream=upstream,
        order_credit=order_credit,
        upstream_risk=upstream_risk,
    )
    show_one(made, TENANT, form)


@app.command("list")
@with_options
def list_all(books: Books, form: ListForm) -> None:
    """All tenants."""
    show(books.ask("tenant.list"), TENANTS, form)


@app.command("show")
@with_options
def show_tenant(books: Books, form: ShowForm, name: NameArgument) -> None:
    """One tenant."""
    show_one(books.ask("tenant.show", name=name), TENANT, form)


@app.command("set-address")
@with_options
def set_address(
    books: GuardedBooks,
    form: ShowForm,
    name: NameArgument,
    address: Annotated[
        str,
        typer.Argument(
            help="Payout address. A change holds after 72 hours, for blocks of a solo tenant too."
        ),
    ],
) -> None:
    """Set the payout address."""
    changed = books.ask("tenant.set-address", name=name, address=address)
    show_one(changed, TENANT, form)


@app.command("set-terms")
@with_options
def set_terms(
    books: GuardedBooks,
    form: ShowForm,
    name: NameArgument,
    scheme: SchemeOption = None,
    fee_bps: FeeOption = None,
    minimum_sat: MinimumOption = None,
    upstream: Annotated[str | None, typer.Option(help=UPSTREAM_HELP)] = None,
    order_credit: Annotated[str | None, typer.Option(help=ORDER_CREDIT_HELP)] = None,
    upstream_risk: Annotated[str | None, typer.Option(help=UPSTREAM_RISK_HELP)] = None,
) -> None:
    """Change where the machines mine and how they are paid, for the work of jobs sent from now on."""
    changed = books.ask(
        "tenant.set-terms",
        name=name,
        scheme=scheme,
        fee_bps=fee_bps,
        payout_minimum_sat=minimum_sat,
        upstream=upstream,
        order_credit=order_credit,
        upstream_risk=upstream_risk,
    )
    show_one(changed, TENANT, form)


@app.command("suspend")
@with_options
def suspend(books: Books, form: ShowForm, name: NameArgument) -> None:
    """Refuse the tenant's machines from now on. What it has earned stays."""
    show_one(_set_status(books, name, active=False), TENANT, form)


@app.command("resume")
@with_options
def resume(books: Books, form: ShowForm, name: NameArgument) -> None:
    """Let a suspended tenant's machines mine again."""
    show_one(_set_status(books, name, active=True), TENANT, form)


def _set_status(books: Books, name: str, *, active: bool) -> Any:
    return books.ask("tenant.set-status", name=name, active=active)
