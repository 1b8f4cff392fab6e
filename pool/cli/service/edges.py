"""`angara edge`: pools at other sites that this one keeps the books of; and with -c alone one of them.

The commands are the hub's: they work while it runs (through its socket), and on the data directory when it
does not.
"""

import os
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from pool.cli.books import Books
from pool.cli.live_columns import of_ths
from pool.cli.options import GuardedBooks, ListForm, ShowForm, with_options
from pool.cli.output import Column, Form, duration, moment, moment_by, print_json, show, show_one
from pool.reports.figures import grouped
from pool.settings_file import BadConfig

app = typer.Typer()

NameArgument = Annotated[str, typer.Argument(help="Name of the edge.")]
TenantOption = Annotated[
    list[str] | None, typer.Option("--tenant", help="Tenant whose machines it may count for; once for each.")
]
ContainerOption = Annotated[
    list[str] | None,
    typer.Option("--container", help="TENANT.CONTAINER whose machines it may count for; once for each."),
]
ThsOption = Annotated[int | None, typer.Option(help="What its machines do together: more is told.")]

EDGES: Final = (
    Column("name", "name"),
    Column("part", "part", right=True),
    Column("epoch", "epoch", grouped, right=True),
    Column("counts for", "places"),
    Column("is", "is"),
    Column("heard", "heard_age_s", duration, right=True, live=True),
    Column("here", "have", grouped, right=True, live=True),
    Column("booked", "booked", grouped, right=True, live=True),
    Column("state", "state"),
)
EDGE: Final = (
    Column("name", "name"),
    Column("state", "state"),
    Column("part of the numbers", "part"),
    Column("NKey", "nkey"),
    Column("counts for", "places"),
    Column("machines do", "ths", of_ths),
    Column("journal", "writer"),
    Column("epoch", "epoch", grouped),
    Column("is", "is"),
    Column("lease until", "lease_until_at", moment),
    Column("heard", "heard_age_s", duration),
    Column("here of its journal", "have", grouped),
    Column("booked of it", "booked", grouped),
    Column("bytes to book", "untaken_bytes", grouped),
    Column("all is here up to", "moment_at", moment),
    Column("waits", "waits"),
    Column("held", "held"),
    Column("held since", "held_at", moment),
    Column("beyond its machines", "beyond_at", moment),
    Column("added", "added"),
    Column("retired", "retired_at", moment),
)


@app.callback(invoke_without_command=True)
def serve(
    ctx: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Serve miners at a site, by these settings (TOML)."),
    ] = None,
) -> None:
    """Pools at other sites, whose books are kept here; with -c alone: be one of them."""
    if ctx.invoked_subcommand is not None:
        if config is not None:
            raise BadConfig("-c before a command is of who serves miners: give it behind the command")
        return
    if config is None:
        typer.echo(ctx.get_help())
        raise typer.Exit()
    from pool.cli.until_signal import until_signal
    from pool.config import load_config
    from pool.data_dir import held
    from pool.sites.edge_site import EdgeSite
    from pool.supervisor import supervised

    async def site(path: Path) -> None:
        settings = load_config(path)
        second = None if settings.site is None else settings.site.second_journal
        with held(settings.data_dir), nullcontext() if second is None else held(second):
            await EdgeSite(settings, path, supervisor=supervisor).run()

    with supervised(os.environ) as supervisor:
        until_signal(partial(site, config.absolute()))


@app.command("add")
@with_options
def add(
    books: GuardedBooks,
    form: ShowForm,
    name: NameArgument,
    nkey: Annotated[str, typer.Option(help="Its public key, as `angara nats key` prints it.")],
    tenant: TenantOption = None,
    container: ContainerOption = None,
    ths: ThsOption = None,
) -> None:
    """Let a pool at another site count for tenants, or for some of their containers."""
    added = books.ask(
        "edge.add", name=name, nkey=nkey, tenants=tenant or [], containers=container or [], ths=ths
    )
    _show(added, form)


@app.command("list")
@with_options
def list_all(books: Books, form: ListForm) -> None:
    """All edges: how far each journal is here, and in the books."""
    show([row | _in_words(row) for row in books.ask("edge.list")], EDGES, form)


@app.command("show")
@with_options
def show_edge(books: Books, form: ShowForm, name: NameArgument) -> None:
    """One edge."""
    _show(books.ask("edge.show", name=name), form)


@app.command("set")
@with_options
def change(
    books: GuardedBooks,
    form: ShowForm,
    name: NameArgument,
    nkey: Annotated[str | None, typer.Option(help="Another public key.")] = None,
    tenant: TenantOption = None,
    container: ContainerOption = None,
    ths: ThsOption = None,
) -> None:
    """Change its key, whom it counts for (tenants and containers together, as a whole), or its nameplate."""
    changed = books.ask("edge.set", name=name, nkey=nkey, tenants=tenant, containers=container, ths=ths)
    _show(changed, form)


@app.command("reset")
@with_options
def reset(books: Books, form: ShowForm, name: NameArgument) -> None:
    """Let it begin another journal, with other numbers: its disk is lost, or was put back from a copy.

    What has not come of the journal that it had never is booked. Refused, with what to do, while a hub has
    more of that than the books."""
    _show(books.ask("edge.reset", name=name), form)


@app.command("give-up")
@with_options
def give_up(
    books: GuardedBooks,
    form: ShowForm,
    name: NameArgument,
    hub: Annotated[str, typer.Option(help="Whose disk is gone, as `angara edge reset` names it.")],
    behind: Annotated[int, typer.Option(metavar="RECORD", help="The last of its journal that is here.")],
) -> None:
    """Lose what a hub had of its journal behind that record, on a disk that is gone for good.

    Tenants were told that it is accepted, and nobody is credited for it. Then the edge can be reset."""
    _show(books.ask("edge.give-up", name=name, hub=hub, behind=behind), form)


@app.command("release")
@with_options
def release(books: Books, form: ShowForm, name: NameArgument) -> None:
    """Look again at what was held, when its cause is gone. What was wrong is held again."""
    _show(books.ask("edge.release", name=name), form)


@app.command("book-late")
@with_options
def book_late(
    books: GuardedBooks,
    form: ShowForm,
    name: NameArgument,
    height: Annotated[int, typer.Option(help="Whose price was over, as `angara edge show` has it.")],
    until: Annotated[
        int | None, typer.Option(metavar="RECORD", help="Of its journal: all that is here now, without.")
    ] = None,
) -> None:
    """Have work that was found when its price was over be paid by it, and what was held be taken again.

    For an edge whose node stood, or whose clock was ahead. Look at its node's log first: who goes on by the
    price of before a difficulty that has risen is paid too much."""
    if until is None:
        until = books.ask("edge.show", name=name).get("have")
        if until is None:
            raise BadConfig("no hub runs here that knows how far its journal is: say it with --until")
    _show(books.ask("edge.book-late", name=name, height=height, until=until), form)


@app.command("retire")
@with_options
def retire(books: Books, form: ShowForm, name: NameArgument) -> None:
    """Take nothing more of it, for good."""
    _show(books.ask("edge.retire", name=name), form)


def _show(it: dict[str, Any], form: Form) -> None:
    if form is Form.JSON:
        print_json(it)
    else:
        show_one(it | _in_words(it), EDGE)


def _in_words(it: dict[str, Any]) -> dict[str, Any]:
    state = it.get("state") or ("nobody knows: no hub runs here" if it["held"] is None else "held")
    if it["retired_at_s"] is not None:
        state = "retired"
    elif it["writer"] is None:
        state = "has not begun"
    return {
        "state": state,
        "places": ", ".join([*it["tenants"], *it["containers"]]),
        "is": None if it["host"] is None else f"{it['process']} on {it['host']}",
        "added": moment_by(it["created_at_s"], it["created_by"]),
    }
