"""`angara power now` and `suspects`: what is drawn, by work or by meters, and by whom for nothing."""

from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from pool.cli.books import Books
from pool.cli.live_columns import of_hps
from pool.cli.options import ListForm, ShowForm, with_options
from pool.cli.output import NOTHING, Column, Form, print_json, say, show
from pool.cli.power.figures import joules_per_th, kilowatts, watts_of, within
from pool.reports.figures import grouped

FIGURES: Final = (
    Column("draws", "watts", kilowatts, right=True, live=True),
    Column("by", "basis", live=True),
    Column("within", "error_bps", within, right=True, live=True),
    Column("by work", "work_watts", kilowatts, right=True, live=True),
    Column("efficiency", "mj_per_th", joules_per_th, right=True, live=True),
    Column("hashrate 5 min", "hps", of_hps, right=True, live=True),
    Column("mining", "mining", grouped, right=True, live=True),
    Column("unknown", "unknown_machines", grouped, right=True, live=True),
    Column("limit", "limit_watts", kilowatts, right=True),
)
PLACES: Final = (
    Column("site", "site", lambda name: name or NOTHING),
    Column("container", "place"),
    *FIGURES,
)
MACHINES: Final = (
    Column("machine", "name"),
    Column("draws", "watts", watts_of, right=True, live=True),
    Column("by", "basis", live=True),
    Column("within", "error_bps", within, right=True, live=True),
    Column("by work", "work_watts", watts_of, right=True, live=True),
    Column("efficiency", "mj_per_th", joules_per_th, right=True, live=True),
    Column("hashrate 5 min", "hps", of_hps, right=True, live=True),
    Column("nameplate", "nameplate_watts", watts_of, right=True, live=True),
)
METERS: Final = (
    Column("meter", "meter"),
    Column("before", "before"),
    Column("reads", "watts", kilowatts, right=True),
    Column("by work", "work_watts", kilowatts, right=True),
    Column("believed", "believed", lambda it: "yes" if it else "no"),
)
SUSPECTS: Final = (
    Column("what", "kind"),
    Column("who", "subject"),
    Column("draws", "watts", watts_of, right=True),
    Column("why", "words"),
)


@with_options
def now(
    books: Books,
    form: ListForm,
    site: Annotated[str | None, typer.Option(help="Only what stands there.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    container: Annotated[
        str | None, typer.Option(help="Each machine of it: TENANT.CONTAINER.", metavar="NAME")
    ] = None,
    machines: Annotated[bool, typer.Option("--machines", help="Each machine by itself.")] = False,
) -> None:
    """What sites and containers draw now, and how that is known: by accepted work, or by a meter."""
    if machines or container is not None:
        show(_machines(books, site, tenant, container), MACHINES, form)
        return
    told = books.ask("power.now", site=site, tenant=tenant)
    if form is Form.JSON:
        print_json(told)
        return
    whole = [it | {"place": "(all of it)"} for it in told["sites"]]
    boxes = [it | {"place": f"{it['tenant']}.{it['container']}"} for it in told["containers"]]
    show(sorted([*whole, *boxes], key=_by_site), PLACES, form)
    if told["meters"] and form is Form.TEXT:
        say("")
        show([it | {"before": ", ".join(it["places"])} for it in told["meters"]], METERS)


def _machines(
    books: Books, site: str | None, tenant: str | None, container: str | None
) -> Iterator[dict[str, Any]]:
    """Of a container after the other, so that a site of thousands is never in memory as a whole."""
    boxes = [container]
    if container is None:
        told = books.ask("power.now", site=site, tenant=tenant)["containers"]
        boxes = [f"{it['tenant']}.{it['container']}" for it in told]
    for box in boxes:
        yield from books.ask("power.machines", site=site, tenant=tenant, container=box)


def _by_site(it: dict[str, Any]) -> tuple[str, bool, str]:
    return (it["site"] or "", "tenant" in it, it["place"])


@with_options
def suspects(books: Books, form: ShowForm) -> None:
    """Machines that draw and do not mine, or mine and are not paid for; and meters that cannot be right."""
    show(books.ask("power.suspects"), SUSPECTS, form)
