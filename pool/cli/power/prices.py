"""`angara power tariff` and `angara power price`: what a kWh costs, and what a currency is worth.

Nothing comes from the network: whoever types it, or brings the table, says where it is from.
"""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from pool.cli.books import Books
from pool.cli.options import GuardedBooks, ListForm, ShowForm, with_options
from pool.cli.output import Column, moment, show, show_one, tell
from pool.cli.pieces import ask_in_pieces
from pool.cli.power.figures import scaled, table_of, time_of
from pool.cli.whole_help import WholeHelp
from pool.reports.figures import grouped, micro
from pool.settings_file import BadConfig

tariffs = typer.Typer(cls=WholeHelp, no_args_is_help=True)
exchange = typer.Typer(cls=WholeHelp, no_args_is_help=True)

HOURS_AT_ONCE: Final = 744  # a month of a table: a command has 64 KiB
RATES_AT_ONCE: Final = 400
MICRO: Final = 10**6

SourceOption = Annotated[str, typer.Option(help="Where it is from: a contract, an exchange, a desk.")]
SiteOption = Annotated[str | None, typer.Option(help="Of a site; of all without.")]
CurrencyOption = Annotated[str, typer.Option(help="USD, EUR and so on; SAT is satoshi.")]

TARIFFS: Final = (
    Column("number", "id", right=True),
    Column("name", "name"),
    Column("site", "site"),
    Column("kind", "kind"),
    Column("a kWh", "price"),
    Column("currency", "currency"),
    Column("from", "from", moment),
    Column("until", "until", moment),
    Column("source", "source"),
    Column("added", "added_at", moment),
    Column("by", "added_by"),
)
RATES: Final = (
    Column("number", "id", right=True),
    Column("currency", "currency"),
    Column("satoshi for one", "sat", right=True),
    Column("from", "from", moment),
    Column("source", "source"),
    Column("added", "added_at", moment),
    Column("by", "added_by"),
)


@tariffs.command("add")
@with_options
def add(
    books: GuardedBooks,
    form: ShowForm,
    name: Annotated[str, typer.Argument(help="What it is called.")],
    currency: CurrencyOption,
    source: SourceOption,
    price: Annotated[str | None, typer.Option(help="Of a kWh: 0.045.")] = None,
    tier: Annotated[
        list[str] | None, typer.Option(help="KWH:PRICE, from so many kWh of a month on; once for each.")
    ] = None,
    site: SiteOption = None,
    from_time: Annotated[
        str | None, typer.Option("--from", help="When it begins: 2026-11-22T00:00Z; always without.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="When it ends; when a newer one holds without.")] = None,
) -> None:
    """Say what a kWh costs. It holds for hours that are not charged yet, until a newer one does."""
    it = books.ask(
        "tariff.add",
        name=name,
        currency=currency,
        source=source,
        site=site,
        price_micro=scaled(price, MICRO, "--price", "a currency, down to a millionth"),
        tiers=[_tier(text) for text in tier or []],
        from_s=time_of(from_time, "--from"),
        until_s=time_of(until, "--until"),
    )
    show_one(_in_words(it), TARIFFS, form)


@tariffs.command("import")
@with_options
def import_hours(
    books: GuardedBooks,
    form: ShowForm,
    file: Annotated[Path, typer.Argument(help="A table with the columns hour and price: CSV.")],
    name: Annotated[str, typer.Option(help="What it is called.")],
    currency: CurrencyOption,
    source: SourceOption,
    site: SiteOption = None,
) -> None:
    """Take prices by the hour (UTC), which may be negative. A table of a year is twelve tariffs."""
    from pool.power.energy.price_tables import price_lines

    prices = sorted(price_lines(table_of(file)).items())
    if not prices:
        raise BadConfig(f"{file}: there are no prices in it")
    said: dict[str, Any] = {"name": name, "currency": currency, "source": source, "site": site}
    ask_in_pieces(books, "tariff.import", "hours", prices, HOURS_AT_ONCE, **said)
    tell(f"{grouped(len(prices))} hours of {name}", {"name": name, "hours": len(prices)}, form)


@tariffs.command("list")
@with_options
def list_tariffs(books: Books, form: ListForm) -> None:
    """All there ever were. Of those with a price for an hour the newest of the site holds."""
    show(map(_in_words, books.ask("tariff.list")), TARIFFS, form)


@exchange.command("set")
@with_options
def set_rate(
    books: GuardedBooks,
    form: ShowForm,
    currency: Annotated[str, typer.Argument(help="USD, EUR and so on")],
    source: SourceOption,
    sat: Annotated[str | None, typer.Option(help="Satoshi for one: 1234.5, or 5000/3.")] = None,
    per_btc: Annotated[str | None, typer.Option(help="Or what a bitcoin costs in it: 97000.50.")] = None,
    from_time: Annotated[
        str, typer.Option("--from", help="From when on: 2026-11-22T00:00Z, or now.")
    ] = "now",
) -> None:
    """Say what a currency is worth, until it is said anew, and for a week at most."""
    from pool.power.energy.price_tables import SAT_PER_BTC, fraction_of

    if (sat is None) == (per_btc is None):
        raise BadConfig("give --sat or --per-btc")
    try:
        worth = fraction_of(sat) if sat is not None else SAT_PER_BTC / fraction_of(per_btc or "")
    except ValueError as error:
        raise BadConfig(str(error)) from None
    from_s = time_of(from_time, "--from")
    it = books.ask("exchange.set", currency=currency, sat=str(worth), source=source, from_s=from_s)
    show_one(it, RATES, form)


@exchange.command("import")
@with_options
def import_rates(
    books: GuardedBooks,
    form: ShowForm,
    file: Annotated[Path, typer.Argument(help="A table: currency, from, and sat or btc: CSV.")],
    source: SourceOption,
) -> None:
    """Take exchange rates of a table."""
    from pool.power.energy.price_tables import exchange_lines

    rates = exchange_lines(table_of(file))
    if not rates:
        raise BadConfig(f"{file}: there are no rates in it")
    ask_in_pieces(books, "exchange.import", "rates", rates, RATES_AT_ONCE, source=source)
    tell(f"{grouped(len(rates))} rates", {"rates": len(rates)}, form)


@exchange.command("list")
@with_options
def list_rates(books: Books, form: ListForm) -> None:
    """The newest thousand."""
    show(books.ask("exchange.list"), RATES, form)


def _tier(text: str) -> tuple[int, int]:
    kwh, _, price = text.partition(":")
    what = "prices, like 0:0.03"
    micro_units = scaled(price, MICRO, "--tier", what)
    if not kwh.isascii() or not kwh.isdigit() or micro_units is None:
        raise BadConfig(f"--tier: {text!r:.40} is none of {what}")
    return int(kwh), micro_units


def _in_words(it: dict[str, Any]) -> dict[str, Any]:
    if it["price_micro"] is not None:
        words = micro(it["price_micro"])
    elif it["tiers"]:
        words = ", ".join(f"{micro(price)} from {grouped(kwh)} kWh" for kwh, price in it["tiers"])
    else:
        words = f"by the hour, {grouped(it['hours'])} hours"
    return it | {"price": words}
