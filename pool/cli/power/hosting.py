"""`angara power hosting`, `carbon` and `grid-payment`: who pays for energy, what it is in carbon, and what
the grid paid for what was not drawn.
"""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from pool.cli.books import Books
from pool.cli.options import GuardedBooks, ListForm, ShowForm, with_options
from pool.cli.output import Column, Form, moment, print_json, show, show_one, tell
from pool.cli.pieces import ask_in_pieces
from pool.cli.power.figures import kilowatts, scaled, table_of, time_of
from pool.cli.whole_help import WholeHelp
from pool.reports.figures import amount, grouped, kwh, micro, milligrams, percent
from pool.settings_file import BadConfig

hosting = typer.Typer(cls=WholeHelp, no_args_is_help=True)
carbon = typer.Typer(cls=WholeHelp, no_args_is_help=True)
grid = typer.Typer(cls=WholeHelp, no_args_is_help=True)

ROWS_AT_ONCE: Final = 1_000  # of a table: a command has 64 KiB
MICRO: Final = 10**6

HOSTING: Final = (
    Column("tenant", "tenant"),
    Column("pays", "pays"),
    Column("operator's part of the grid's", "grid_operator_bps", percent, right=True),
    Column("from", "from", moment),
    Column("by", "changed_by"),
    Column("due", "due_sat", amount, right=True),
    Column("not charged yet", "waiting_joules", kwh, right=True),
    Column("hours", "waiting_hours", grouped, right=True),
)
CARBON: Final = (
    Column("number", "id", right=True),
    Column("site", "site"),
    Column("method", "method"),
    Column("from", "from", moment),
    Column("until", "until", moment),
    Column("a kWh", "mg_per_kwh", milligrams, right=True),
    Column("source", "source"),
    Column("by", "added_by"),
)
EVENTS: Final = (
    Column("event", "event", right=True),
    Column("site", "site"),
    Column("from", "from", moment),
    Column("over", "ended_at", moment),
    Column("asked by", "asked_by"),
    Column("asked", "watts_asked", kilowatts, right=True),
    Column("shed", "watts_shed", kilowatts, right=True),
    Column("by meter", "watts_metered", kilowatts, right=True),
    Column("machines off", "machines_off", grouped, right=True),
    Column("forgone", "forgone_sat", amount, right=True),
    Column("within", "error_sat", amount, right=True),
    Column("paid", "paid_sat", amount, right=True),
)
PARTS: Final = (
    Column("tenant", "tenant"),
    Column("to the tenant", "tenant_sat", amount, right=True),
    Column("to the operator", "operator_sat", amount, right=True),
)


@hosting.command("set")
@with_options
def set_hosting(
    books: GuardedBooks,
    form: ShowForm,
    tenant: Annotated[str, typer.Argument(help="Whose.")],
    fee: Annotated[str | None, typer.Option(help="Of a kWh, with --currency: 0.05.")] = None,
    currency: Annotated[str | None, typer.Option(help="Of the fee: USD, EUR, SAT.")] = None,
    tariff: Annotated[bool, typer.Option("--tariff", help="The tariff of the site, as it is.")] = False,
    none: Annotated[bool, typer.Option("--none", help="Nothing.")] = False,
    grid_operator: Annotated[
        str | None, typer.Option(help="What you keep of the grid's payments for its machines, in percent.")
    ] = None,
    from_time: Annotated[
        str | None, typer.Option("--from", help="An hour that has not begun; the next one without.")
    ] = None,
) -> None:
    """Say what a tenant pays for energy, from an hour on that has not begun."""
    said = [it for it, there in (("fee", fee is not None), ("tariff", tariff), ("none", none)) if there]
    if len(said) > 1:
        raise BadConfig("give one of --fee, --tariff and --none")
    it = books.ask(
        "hosting.set",
        tenant=tenant,
        charge=said[0] if said else None,
        fee_micro=scaled(fee, MICRO, "--fee", "a currency, down to a millionth"),
        currency=currency,
        grid_operator_bps=scaled(grid_operator, 100, "--grid-operator", "percent, down to 0.01"),
        from_s=time_of(from_time, "--from"),
    )
    show_one(_pays(it), HOSTING, form)


@hosting.command("list")
@with_options
def list_hosting(books: Books, form: ListForm) -> None:
    """Who pays for energy by what, what is due, and what waits for a price."""
    show(map(_pays, books.ask("hosting.list")), HOSTING, form)


@carbon.command("import")
@with_options
def import_carbon(
    books: GuardedBooks,
    form: ShowForm,
    file: Annotated[Path, typer.Argument(help="A table: from, until, g_per_kwh: CSV.")],
    method: Annotated[str, typer.Option(help="location (the grid's mix) or market (by contracts).")],
    source: Annotated[str, typer.Option(help="Who says so: it is told in every statement.")],
    site: Annotated[str | None, typer.Option(help="Of a site; of all without.")] = None,
) -> None:
    """Take carbon of energy by hours. What is said later holds for statements that are not closed."""
    from pool.power.energy.price_tables import carbon_lines

    rows = [(it["from_hour"], it["until_hour"], it["mg_per_kwh"]) for it in carbon_lines(table_of(file))]
    if not rows:
        raise BadConfig(f"{file}: there is no carbon in it")
    ask_in_pieces(books, "carbon.import", "rows", rows, ROWS_AT_ONCE, method=method, source=source, site=site)
    tell(f"{grouped(len(rows))} rows of carbon", {"rows": len(rows)}, form)


@carbon.command("list")
@with_options
def list_carbon(books: Books, form: ListForm) -> None:
    """The newest thousand rows."""
    show(books.ask("carbon.list"), CARBON, form)


@grid.command("add")
@with_options
def add_payment(
    books: GuardedBooks,
    form: ShowForm,
    event: Annotated[int, typer.Argument(help="Number of the curtailment.")],
    paid: Annotated[str, typer.Argument(help="How much: 1250.50.")],
    reference: Annotated[str, typer.Option(help="The payer's: the same one is booked once.")],
    currency: Annotated[str, typer.Option(help="USD, EUR and so on; SAT is satoshi.")] = "SAT",
    basis: Annotated[
        str, typer.Option("--by", help="Divided by revenue forgone, or by energy shed: forgone, shed.")
    ] = "forgone",
) -> None:
    """Book what the grid paid for a curtailment, divided among the tenants whose machines were off."""
    it = books.ask(
        "grid.pay",
        event=event,
        reference=reference,
        currency=currency,
        amount_micro=scaled(paid, MICRO, "PAID", "a currency, down to a millionth"),
        basis=basis,
    )
    if form is Form.JSON:
        print_json(it)
    else:
        show(it["parts"], PARTS)


@grid.command("list")
@with_options
def list_events(books: Books, form: ListForm) -> None:
    """Curtailments in the books: what was shed and forgone, and what was paid for it."""
    show(books.ask("grid.list"), EVENTS, form)


def _pays(it: dict[str, Any]) -> dict[str, Any]:
    fee = it["fee_micro"]
    by = {"none": "nothing", "tariff": "the site's tariff"}
    return it | {"pays": by[it["charge"]] if fee is None else f"{micro(fee)} {it['currency']} a kWh"}
