"""`angara power minutes`: what was drawn by the minute, while there are minutes."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any, Final

import typer

from pool.cli.books import Books
from pool.cli.live_columns import of_hps
from pool.cli.options import ListForm, with_options
from pool.cli.output import Column, moment, show
from pool.cli.power.figures import time_of, watts_of, within
from pool.reports.figures import grouped

J_PER_KWH: Final = 3_600_000
MINUTE_S: Final = 60


def _kwh(joules: int) -> str:
    return f"{Decimal(joules) / J_PER_KWH:,.4f} kWh"


MINUTES: Final = (
    Column("minute", "from", moment),
    Column("draws", "watts", watts_of, right=True),
    Column("energy", "joules", _kwh, right=True),
    Column("by", "basis"),
    Column("within", "error_bps", within, right=True),
    Column("hashrate", "hps", of_hps, right=True),
    Column("mined", "machines", grouped, right=True),
    Column("unknown", "unknown_machines", grouped, right=True),
)


@with_options
def minutes(
    books: Books,
    form: ListForm,
    site: Annotated[str | None, typer.Option(help="Of all that stands there.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Of this tenant, at that site or everywhere.")] = None,
    container: Annotated[str | None, typer.Option(help="Of TENANT.CONTAINER.", metavar="NAME")] = None,
    machine: Annotated[str | None, typer.Option(help="Of TENANT.CONTAINER.UNIT.", metavar="NAME")] = None,
    from_time: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="UTC; of this hour or the last one.")
    ] = None,
    to_time: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="UTC; as far as the books go without.")
    ] = None,
) -> None:
    """What was drawn in each minute, by meter or by accepted work: the last 60 minutes without --from."""
    of = {"site": site, "tenant": tenant, "container": container, "machine": machine}
    rows = _rows(books, time_of(from_time, "--from"), time_of(to_time, "--to"), of)
    show(rows, MINUTES, form)


def _rows(
    books: Books, from_s: int | None, until_s: int | None, of: dict[str, str | None]
) -> Iterator[dict[str, Any]]:
    """An answer after the other: each has the first of what was asked for."""
    while rows := books.ask("power.minutes", from_s=from_s, until_s=until_s, **of):
        yield from rows
        from_s = rows[-1]["from_s"] + MINUTE_S
        if until_s is not None and from_s >= until_s:
            return
