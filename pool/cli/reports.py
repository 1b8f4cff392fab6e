"""`angara report`: statements for clients, and payouts, hashrate, orders and the pool for the operator.

Reads a pool's database, also while the pool runs, and writes nothing but the report: to standard output,
or to a file of mode 0600 that is complete or not there. Mistakes are answered in words and exit code 2,
books that contradict each other in words and exit code 1.

Must not know: what is in a report, and how it looks.
"""

import shutil
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import Connection, func, select

from payouts.book_time import latest_s
from payouts.reports.hashrate import Grain, Step, hashrate_report
from payouts.reports.luck import LUCK_DAYS, Whose, luck_report
from payouts.reports.orders import order_report
from payouts.reports.payouts import payouts_report
from payouts.reports.pool import pool_report
from payouts.statements.period import Period
from payouts.statements.statement import statement, tenant_number
from pool.books.journal_schema import journal_batches
from pool.cli.books import Books
from pool.cli.mistakes import EXIT_WRONG
from pool.cli.opened_books import opened_to_read
from pool.cli.options import ListForm, with_options
from pool.cli.output import Form, say
from pool.cli.progress import progress
from pool.cli.whole_file import write_whole
from pool.reports.document import Document
from pool.reports.luck_document import luck_document
from pool.reports.order_document import order_document
from pool.reports.pool_documents import hashrate_document, payouts_document, pool_document
from pool.reports.render_csv import render_csv
from pool.reports.render_html import render_html
from pool.reports.render_json import render_json
from pool.reports.render_text import render_text
from pool.reports.statement_document import statement_document
from pool.settings_file import BadConfig

app = typer.Typer(no_args_is_help=True)


class Format(StrEnum):
    """How a report is written."""

    TEXT = "text"
    CSV = "csv"
    JSON = "json"
    HTML = "html"
    PDF = "pdf"


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

    def make(connection: Connection) -> Document:
        period = _period(from_day, to_day)
        booked_until_s.append(_booked_until_s(connection))
        return statement_document(statement(connection, tenant, period.from_day, period.to_day))

    booked_until_s: list[int] = []
    _report(books, make, _format(written, form), out)
    end = _parse_day(to_day, "--to")
    if end > datetime.now(UTC).date():
        typer.echo("angara: the period is not over yet: this statement is provisional", err=True)
    elif booked_until_s[0] < datetime(end.year, end.month, end.day, tzinfo=UTC).timestamp():
        typer.echo(
            "angara: the pool has not run since the period's end, something may still be booked in it:"
            " this statement is provisional",
            err=True,
        )


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

    def make(connection: Connection) -> Document:
        number = None if tenant is None else tenant_number(connection, tenant)
        period = _period(from_day, to_day)
        return payouts_document(payouts_report(connection, period, number), tenant or "All tenants")

    _report(books, make, _format(written, form), out)


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

    def make(connection: Connection) -> Document:
        number = None if tenant is None else tenant_number(connection, tenant)
        period = _period(from_day, to_day)
        return hashrate_document(
            hashrate_report(connection, period, by, grain, number), tenant or "All tenants"
        )

    _report(books, make, _format(written, form), out)


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
    wrong: list[str] = []

    def make(connection: Connection) -> Document:
        report = pool_report(connection, _recent(from_day, to_day, 30))
        wrong.extend([report.wrong] if report.wrong is not None else [])
        return pool_document(report)

    _report(books, make, _format(written, form), out)
    if wrong:
        say(f"angara: the ledger is wrong: {wrong[0]}", err=True)
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

    def make(connection: Connection) -> Document:
        if tenant is not None:
            tenant_number(connection, tenant)
        return luck_document(luck_report(connection, _recent(from_day, to_day, LUCK_DAYS), whose, tenant))

    _report(books, make, _format(written, form), out)


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

    def make(connection: Connection) -> Document:
        if (from_day is None) != (to_day is None):
            raise BadConfig("give both --from and --to, or neither for all of the order")
        period = None if from_day is None or to_day is None else _period(from_day, to_day)
        return order_document(order_report(connection, name, period, int(time.time())))

    _report(books, make, _format(written, form), out)


def _booked_until_s(connection: Connection) -> int:
    """The moment before which nothing is booked any more."""
    waiting = connection.scalar(select(func.min(journal_batches.c.minute)))
    latest = latest_s(connection)
    return latest if waiting is None else min(latest, int(waiting) * 60)


def _format(written: Format, form: Form) -> Format:
    """--json and --csv are as everywhere."""
    if form is Form.TEXT:
        return written
    if written is not Format.TEXT:
        raise BadConfig(f"give --format {written} or --{form.value}, not both")
    return Format(form.value)


def _report(books: Books, make: Callable[[Connection], Document], written: Format, out: Path | None) -> None:
    with opened_to_read(books) as store, store.read() as connection, progress("reading the books"):
        document = make(connection)
    content = _render(document, written, to_terminal=out is None and sys.stdout.isatty())
    if out is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        write_whole(out, content)


def _render(document: Document, written: Format, *, to_terminal: bool) -> bytes:
    match written:
        case Format.TEXT:
            return render_text(document, shutil.get_terminal_size().columns if to_terminal else None)
        case Format.CSV:
            return render_csv(document)
        case Format.JSON:
            return render_json(document)
        case Format.HTML:
            return render_html(document)
        case Format.PDF:
            if to_terminal:
                raise BadConfig("a PDF is not for a terminal: say where with --out FILE")
            # Half a second, of which no other command needs any.
            from pool.reports.render_pdf import render_pdf

            return render_pdf(document)


def _period(from_day: str, to_day: str) -> Period:
    return Period(_parse_day(from_day, "--from"), _parse_day(to_day, "--to"))


def _recent(from_day: str | None, to_day: str | None, days: int) -> Period:
    """So many days up to and with today where nothing else is said."""
    last = to_day or str(datetime.now(UTC).date() + timedelta(days=1))
    return _period(from_day or str(_parse_day(last, "--to") - timedelta(days=days)), last)


def _parse_day(text: str, option: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        raise BadConfig(f"{option}: {text!r:.40} is not a day, YYYY-MM-DD") from None
