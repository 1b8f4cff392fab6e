"""`angara upstream`: other pools that tenants and orders mine on.

The commands work while the pool runs (through its socket) and on the data directory when it does not; `test`
reads the database itself, and connects from here. A password comes from a file, and is never shown.
"""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from pool.cli.books import Books
from pool.cli.mistakes import EXIT_WRONG
from pool.cli.options import GuardedBooks, ListForm, ShowForm, with_options
from pool.cli.output import (
    Column,
    Form,
    duration,
    moment_by,
    print_json,
    say,
    show,
    show_one,
    yes_or_no,
)
from pool.reports.figures import difficulty, grouped

app = typer.Typer(no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="Name of the upstream.")]

UPSTREAMS: Final = (
    Column("name", "name"),
    Column("first endpoint", "first_endpoint"),
    Column("endpoints", "endpoint_count", grouped, right=True),
    Column("fallback", "fallback"),
    Column("after", "outage_s", lambda s: f"{s} s", right=True),
    Column("serves", "serves", live=True),
    Column("sessions", "sessions", grouped, right=True, live=True),
    Column("unanswered", "unanswered", grouped, right=True, live=True),
)
UPSTREAM: Final = (
    Column("name", "name"),
    Column("fallback", "fallback_words"),
    Column("connections", "connections", grouped),
    Column("suggested difficulty", "suggest_difficulty", difficulty),
    Column("added", "added"),
    Column("orders", "order_names"),
    Column("tenants", "tenant_names"),
    Column("shares today", "today_words"),
)
ENDPOINTS: Final = (
    Column("endpoint", "number", right=True),
    Column("address", "address"),
    Column("account", "user"),
    Column("TLS", "tls", yes_or_no),
    Column("CA file", "ca_file"),
)
CHANNEL_ENDPOINTS: Final = (
    Column("address", "address"),
    Column("state", "state"),
    Column("since", "age_s", duration, right=True),
    Column("why", "reason"),
)


@app.command("add")
@with_options
def add(
    books: GuardedBooks,
    form: ShowForm,
    name: NameArgument,
    endpoint: Annotated[
        list[str],
        typer.Option(
            help="stratum+tcp://[USER@]HOST:PORT, or stratum+ssl:// for TLS; once for each, the first is"
            " the one to be on."
        ),
    ],
    user: Annotated[str | None, typer.Option(help="Account there, where --endpoint names none.")] = None,
    password_file: Annotated[
        Path | None, typer.Option(help="File with the password; 'x' is sent without.")
    ] = None,
    ca_file: Annotated[Path | None, typer.Option(help="CAs (PEM) in place of the system's, for TLS.")] = None,
    fallback: Annotated[
        str, typer.Option(help="Where its miners go when it is gone: pool, or another upstream.")
    ] = "pool",
    outage_s: Annotated[int, typer.Option(help="When it has been gone for so many seconds.")] = 30,
    connections: Annotated[int, typer.Option(help="Connections at a time, for more extranonces.")] = 1,
    suggest_difficulty: Annotated[int | None, typer.Option(help="Share difficulty to ask for.")] = None,
) -> None:
    """Add an upstream; then `angara upstream test` says whether it would serve."""
    from pool.cli.routing.upstream_urls import endpoints_of

    added = books.ask(
        "upstream.add",
        name=name,
        endpoints=endpoints_of(endpoint, user, password_file, ca_file),
        fallback=fallback,
        outage_s=outage_s,
        connections=connections,
        suggest_difficulty=suggest_difficulty,
    )
    _show(added, form)


@app.command("list")
@with_options
def list_all(books: Books, form: ListForm) -> None:
    """All upstreams, and what serves now."""
    show([row | _in_a_line(row) for row in books.ask("upstream.list")], UPSTREAMS, form)


@app.command("show")
@with_options
def show_upstream(books: Books, form: ShowForm, name: NameArgument) -> None:
    """One upstream: its endpoints, who mines there, what it said of our shares today."""
    _show(books.ask("upstream.show", name=name), form)


@app.command("switch")
@with_options
def switch(
    books: Books,
    form: ShowForm,
    name: NameArgument,
    to: Annotated[str, typer.Argument(help="Number of the endpoint, or its HOST:PORT.")],
) -> None:
    """Make an endpoint the first one. A running pool goes there."""
    _show(books.ask("upstream.switch", name=name, to=to), form)


@app.command("remove")
@with_options
def remove(books: GuardedBooks, form: ShowForm, name: NameArgument) -> None:
    """Remove an upstream that nobody mines on, and forget its password."""
    removed = books.ask("upstream.remove", name=name)
    if form is Form.JSON:
        print_json(removed)
    else:
        say(f"the upstream {name} is removed")


@app.command("test")
@with_options
def try_upstream(
    books: Books,
    form: ShowForm,
    name: NameArgument,
    endpoint: Annotated[str | None, typer.Option(help="Only this one: its number, or HOST:PORT.")] = None,
) -> None:
    """Connect to its endpoints and say what each gives. Exit code 1 when none is of use."""
    from pool.cli.routing.upstream_trials import show_trials, trials_of

    trials = trials_of(books, name, endpoint)
    show_trials(trials, form)
    if all(trial.facts is None for trial in trials):
        raise typer.Exit(EXIT_WRONG)


def _in_a_line(it: dict[str, Any]) -> dict[str, Any]:
    """What a list has of an upstream's endpoints and channels."""
    line: dict[str, Any] = {
        "first_endpoint": it["endpoints"][0]["address"],
        "endpoint_count": len(it["endpoints"]),
    }
    channels = it.get("channels")
    if channels is not None:
        serving = sorted({channel["serving"] or "nothing" for channel in channels})
        serving += ["on fallback"] if any(channel["diverted"] for channel in channels) else []
        line["serves"] = ", ".join(serving) or None
        line |= {key: sum(channel[key] for channel in channels) for key in ("sessions", "unanswered")}
    return line


def _show(it: dict[str, Any], form: Form) -> None:
    if form is Form.JSON:
        print_json(it)
        return
    show_one(it | _in_words(it), UPSTREAM)
    typer.echo("")
    show(it["endpoints"], ENDPOINTS)
    for channel in it.get("channels", ()):
        _show_channel(channel)


def _in_words(it: dict[str, Any]) -> dict[str, Any]:
    today = it["today"]
    rejected = ", ".join(f"{grouped(shares)} {reason}" for reason, shares in today["rejected"].items())
    return {
        "fallback_words": f"{it['fallback']}, after {it['outage_s']} s",
        "added": moment_by(it["created_at_s"], it["created_by"]),
        "order_names": ", ".join(it["orders"]) or None,
        "tenant_names": ", ".join(it["tenants"]) or None,
        "today_words": f"{grouped(today['accepted'])} accepted, {rejected or '0'} rejected,"
        f" {grouped(today['unanswered'])} unanswered",
    }


def _show_channel(it: dict[str, Any]) -> None:
    typer.echo("")
    whose = "tenants" if it["order"] is None else f"order {it['order']}"
    serves = f"{it['serving']} serves" if it["serving"] else "nothing serves"
    diverted = ", its miners are on the fallback" if it["diverted"] else ""
    say(f"channel {it['number']}, {whose}: {serves} since {duration(it['since_s'])}{diverted}")
    typer.echo(f"{grouped(it['sessions'])} sessions, {grouped(it['unanswered'])} shares unanswered")
    ours, miners = it["prefix_bytes"], it["miner_bytes"]
    typer.echo(f"extranonce2: {ours} bytes ours ({grouped(1 << 8 * ours)} sessions), {miners} the miner's")
    if it["limits"]:
        say(f"BUT: {it['limits']}")
    show([at | {"reason": at["reason"] or None} for at in it["endpoints"]], CHANNEL_ENDPOINTS)
