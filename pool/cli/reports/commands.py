"""`angara report`: statements for clients, and payouts, hashrate, orders and the pool for the operator.

Reads a pool's database, also while the pool runs, and writes nothing but the report: to standard output,
or to a file of mode 0600 that is complete or not there. Mistakes are answered in words and exit code 2,
books that contradict each other in words and exit code 1.

Must not know: what is in a report, and how it looks.
"""

import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from payouts.reports.choices import Grain, Place, Step, Whose
from payouts.statements.period import Period
from pool.cli.books import Books
from pool.cli.mistakes import EXIT_WRONG
from pool.cli.options import ListForm, with_options
from pool.cli.output import say
from pool.cli.reports.format import Format, format_of, write_report
from pool.settings_file import BadConfig

app = typer.Typer(no_args_is_help=True)

ALL_TENANTS: Final = "All tenants"
POOL_DAYS: Final = 30

TenantOption = Annotated[str, typer.Option("--tenant", help="Whose.")]
OneTenantOption = Annotated[str | None, typer.Option("--tenant", help="Of one tenant only.")]
FromOption = Annotated[str, typer.Option("--from", help="First day (UTC), YYYY-MM-DD.")]
ToOption = Annotated[str, typer.Option("--to", help="The day after the last one (UTC), YYYY-MM-DD.")]
FormatOption = Annotated[Format, typer.Option("--format", help="How to write it.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="File to write; standard output without.")]


@app.command("statement")
@with_options
def statement_command(
    books: Books,
    form: ListForm,
    tenant: TenantOption,
    from_day: FromOption,
    to_day: ToOption,
    written: FormatOption = Format.TEXT,
    out: OutOption = None,
) -> None:
    """A client's statement: balance, work, payouts, decisions."""
    from payouts.proof.evidence import proof_of
    from payouts.statements.statement import statement
    from pool.admin.bookkeeping.statements import why_provisional
    from pool.cli.opened_books import proof_key_of
    from pool.cli.reports.books import books_read
    from pool.reports.statement_document import statement_document

    written = format_of(written, form)
    period = _period(from_day, to_day)
    key = proof_key_of(books)
    with books_read(books) as connection:
        of = statement(connection, tenant, period.from_day, period.to_day)
        provisional = why_provisional(connection, period, int(time.time()))
        proof = None if key is None or provisional is not None else proof_of(connection, of, key)
        document = statement_document(of, proof)
    write_report(document, written, out)
    if provisional is not None:
        say(f"angara: {provisional}: this statement is provisional", err=True)


@app.command("payouts")
@with_options
def payouts_command(
    books: Books,
    form: ListForm,
    from_day: FromOption,
    to_day: ToOption,
    tenant: OneTenantOption = None,
    written: FormatOption = Format.TEXT,
    out: OutOption = None,
) -> None:
    """Payout batches that were under way in a period, and whom they pay."""
    from payouts.reports.payouts import payouts_report
    from payouts.statements.statement import tenant_number
    from pool.cli.reports.books import books_read
    from pool.reports.pool_documents import payouts_document

    written = format_of(written, form)
    period = _period(from_day, to_day)
    with books_read(books) as connection:
        number = None if tenant is None else tenant_number(connection, tenant)
        report = payouts_report(connection, period, number)
    write_report(payouts_document(report, tenant or ALL_TENANTS), written, out)


@app.command("hashrate")
@with_options
def hashrate_command(
    books: Books,
    form: ListForm,
    from_day: FromOption,
    to_day: ToOption,
    tenant: OneTenantOption = None,
    by: Annotated[Step, typer.Option(help="Length of a row's time.")] = Step.DAY,
    grain: Annotated[Grain, typer.Option("--of", help="What a row is of.")] = Grain.CONTAINER,
    written: FormatOption = Format.TEXT,
    out: OutOption = None,
) -> None:
    """Hashrate of tenants, containers or machines by hour or day, against their nameplates."""
    from payouts.reports.hashrate import hashrate_report
    from payouts.statements.statement import tenant_number
    from pool.cli.reports.books import books_read
    from pool.reports.pool_documents import hashrate_document

    written = format_of(written, form)
    period = _period(from_day, to_day)
    with books_read(books) as connection:
        number = None if tenant is None else tenant_number(connection, tenant)
        report = hashrate_report(connection, period, by, grain, number)
    write_report(hashrate_document(report, tenant or ALL_TENANTS), written, out)


@app.command("power")
@with_options
def power_command(
    books: Books,
    form: ListForm,
    from_day: FromOption,
    to_day: ToOption,
    tenant: OneTenantOption = None,
    by: Annotated[Place, typer.Option(help="What a row is of.")] = Place.SITE,
    written: FormatOption = Format.TEXT,
    out: OutOption = None,
) -> None:
    """Energy of sites, containers or tenants: kWh, cost, carbon, and what was curtailed."""
    from payouts.reports.power import power_report
    from payouts.statements.statement import tenant_number
    from pool.cli.reports.books import books_read
    from pool.reports.energy_section import power_document

    written = format_of(written, form)
    period = _period(from_day, to_day)
    with books_read(books) as connection:
        number = None if tenant is None else tenant_number(connection, tenant)
        report = power_report(connection, period, by, number)
    write_report(power_document(report, tenant or ALL_TENANTS), written, out)


@app.command("pool")
@with_options
def pool_command(
    books: Books,
    form: ListForm,
    from_day: Annotated[str | None, typer.Option("--from", help="First day; 30 days back without.")] = None,
    to_day: Annotated[str | None, typer.Option("--to", help="Day after the last; tomorrow without.")] = None,
    written: FormatOption = Format.TEXT,
    out: OutOption = None,
) -> None:
    """Luck, reserve, block income, what is owed, and an audit of the ledger."""
    from payouts.reports.pool import pool_report
    from pool.cli.reports.books import books_read
    from pool.reports.pool_documents import pool_document

    written = format_of(written, form)
    period = _recent(from_day, to_day, POOL_DAYS)
    with books_read(books) as connection:
        report = pool_report(connection, period)
    write_report(pool_document(report), written, out)
    if report.wrong is not None:
        say(f"angara: the ledger is wrong: {report.wrong}", err=True)
        raise typer.Exit(EXIT_WRONG)


@app.command("luck")
@with_options
def luck_command(
    books: Books,
    form: ListForm,
    from_day: Annotated[str | None, typer.Option("--from", help="First day; 90 days back without.")] = None,
    to_day: Annotated[str | None, typer.Option("--to", help="Day after the last; tomorrow without.")] = None,
    tenant: OneTenantOption = None,
    whose: Annotated[Whose, typer.Option("--of", help="What a row is of.")] = Whose.TENANT,
    written: FormatOption = Format.TEXT,
    out: OutOption = None,
) -> None:
    """Blocks found against blocks expected, and whose luck is beyond chance: who withholds blocks."""
    from payouts.reports.luck import LUCK_DAYS, luck_report
    from payouts.statements.statement import tenant_number
    from pool.cli.reports.books import books_read
    from pool.reports.luck_document import luck_document

    written = format_of(written, form)
    period = _recent(from_day, to_day, LUCK_DAYS)
    with books_read(books) as connection:
        if tenant is not None:
            tenant_number(connection, tenant)
        report = luck_report(connection, period, whose, tenant)
    write_report(luck_document(report), written, out)


@app.command("order")
@with_options
def order_command(
    books: Books,
    form: ListForm,
    name: Annotated[str, typer.Argument(help="Name of the order.")],
    from_day: Annotated[str | None, typer.Option("--from", help="First day; the order's without.")] = None,
    to_day: Annotated[
        str | None, typer.Option("--to", help="Day after the last; the order's without.")
    ] = None,
    written: FormatOption = Format.TEXT,
    out: OutOption = None,
) -> None:
    """Work delivered for an order against what was sold, and what the upstream made of it."""
    from payouts.reports.orders import order_report
    from pool.cli.reports.books import books_read
    from pool.reports.order_document import order_document

    if (from_day is None) != (to_day is None):
        raise BadConfig("give both --from and --to, or neither for all of the order")
    written = format_of(written, form)
    period = None if from_day is None or to_day is None else _period(from_day, to_day)
    with books_read(books) as connection:
        report = order_report(connection, name, period, int(time.time()))
    write_report(order_document(report), written, out)


@app.command("invoice")
@with_options
def invoice_command(
    books: Books,
    form: ListForm,
    number: Annotated[int, typer.Argument(min=1, help="Of `angara order invoices`.")],
    written: FormatOption = Format.TEXT,
    out: OutOption = None,
) -> None:
    """An invoice to the buyer of an order: its hours, their work and amounts, and when it is due."""
    from payouts.sales.deposits import address_on
    from payouts.sales.invoices import invoice, proof_of
    from pool.cli.opened_books import proof_key_of
    from pool.cli.reports.books import books_read
    from pool.reports.invoice_document import invoice_document

    written = format_of(written, form)
    key = proof_key_of(books)
    with books_read(books) as connection:
        made, given = invoice(connection, number), address_on(connection, number)
    if given is not None and books.config is not None:
        from pool.cli.opened_paymaster import see_that_it_is_ours

        see_that_it_is_ours(books, given)
    write_report(invoice_document(made, None if key is None else proof_of(made, key)), written, out)


def _period(from_day: str, to_day: str) -> Period:
    return Period(_parse_day(from_day, "--from"), _parse_day(to_day, "--to"))


def _recent(from_day: str | None, to_day: str | None, days: int) -> Period:
    """So many days up to and with today where nothing else is said."""
    last = datetime.now(UTC).date() + timedelta(days=1) if to_day is None else _parse_day(to_day, "--to")
    if from_day is not None:
        return Period(_parse_day(from_day, "--from"), last)
    try:
        return Period(last - timedelta(days=days), last)
    except OverflowError:
        raise BadConfig(f"--to: there are no {days} days before {last}") from None


def _parse_day(text: str, option: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        raise BadConfig(f"{option}: {text!r:.40} is not a day, YYYY-MM-DD") from None
