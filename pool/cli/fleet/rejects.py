"""`angara reject`: what became of shares: what was sent, what we judged, what upstreams said."""

from datetime import datetime
from typing import Annotated, Final

import typer

from pool.cli.books import Books
from pool.cli.options import ListForm, with_options
from pool.cli.output import Column, Form, iso_time, moment, print_json, say, show
from pool.reports.figures import grouped

app = typer.Typer(no_args_is_help=True)

PER_MILLE: Final = 1000
ROWS: Final = (
    Column("leg", "leg"),
    Column("upstream", "upstream"),
    Column("what", "what"),
    Column("shares", "shares", grouped, right=True),
    Column("of sent", "of_sent_per_mille", lambda per_mille: f"{per_mille / 10:.1f} %", right=True),
)


@app.command("show")
@with_options
def show_rejects(
    books: Books,
    form: ListForm,
    worker: Annotated[str | None, typer.Option(help="Of this machine, tenant.container.unit.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Of all machines of this tenant.")] = None,
    upstream: Annotated[str | None, typer.Option(help="Of all that was forwarded to this one.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Since this day began (UTC); today's without."),
    ] = None,
) -> None:
    """The shares of a machine, a tenant or an upstream, and what became of each: all are of those sent.

    What the books have is up to the minute before; what is `not charged`, and lines that are `no shares`, the
    running pool knows, since yesterday.
    """
    day = None if since is None else since.date().isoformat()
    account = books.ask("reject.show", worker=worker, tenant=tenant, upstream=upstream, since=day)
    if form is Form.JSON:
        print_json(account)
        return
    sent = account["sent"]
    rows = [row | {"of_sent_per_mille": _part(row, sent)} for row in account["rows"]]
    if form is Form.TEXT:
        say(f"{account['of']}, since {moment(iso_time(account['since_at_s']))}")
        if account["uncharged_since_at_s"] is not None:
            say(f"what is in no books: since {moment(iso_time(account['uncharged_since_at_s']))}")
    show(rows, ROWS, form)


def _part(row: dict[str, object], sent: int) -> int | None:
    """Of lines that are no shares there is no part."""
    shares = row["shares"]
    if row["leg"] == "no shares" or not sent or not isinstance(shares, int):
        return None
    return round(shares * PER_MILLE / sent)
