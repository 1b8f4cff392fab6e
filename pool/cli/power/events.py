"""`angara power plan`, `curtail`, `restore`, `release`, `events` and `show`: machines off, and back."""

from typing import Annotated, Any, Final

import typer

from pool.cli.books import Books
from pool.cli.live_columns import of_hps
from pool.cli.options import GuardedBooks, ListForm, ShowForm, with_options
from pool.cli.output import Column, Form, moment, moment_by, print_json, say, show, show_one
from pool.cli.power.figures import BPS_PER_PERCENT, kilowatts, scaled, time_of
from pool.reports.figures import grouped
from pool.settings_file import BadConfig

MSAT: Final = 1_000

SiteOption = Annotated[str, typer.Option(help="Only there; everywhere without.")]
LimitOption = Annotated[str | None, typer.Option(help="So that the site draws so many kW at most.")]
ShareOption = Annotated[str | None, typer.Option(help="So many percent of what is drawn now less.")]
EverythingOption = Annotated[bool, typer.Option("--everything", help="All machines.")]
BreakEvenOption = Annotated[
    bool, typer.Option("--break-even", help="Machines that earn less than their energy costs by the tariff.")
]
BelowOption = Annotated[
    str | None, typer.Option(help="Machines that earn less than so many satoshi with a kWh.")
]
RampOption = Annotated[int, typer.Option("--ramp-s", help="Within how many seconds it is to be met.")]
EventArgument = Annotated[int, typer.Argument(help="Number of the event.")]

PLAN: Final = (
    Column("site", "place"),
    Column("draws", "before_watts", kilowatts),
    Column("of it besides machines", "other_words"),
    Column("keeps to the limit of", "limit_watts", kilowatts),
    Column("less is asked for", "asked_watts", kilowatts),
    Column("less is expected", "shed_watts", kilowatts),
    Column("draws then", "expected_watts", kilowatts),
    Column("more or less", "error_watts", kilowatts),
    Column("missing", "missing_watts", kilowatts),
    Column("machines", "machines", grouped),
    Column("batches", "batch_words"),
    Column("restored within", "restore_words"),
    Column("exempt", "exempt_words"),
    Column("another event has", "taken", grouped),
    Column("of unknown power", "unknown"),
)
LOSSES: Final = (
    Column("tenant", "tenant"),
    Column("machines", "machines", grouped, right=True),
    Column("draw less", "watts", kilowatts, right=True),
    Column("do not mine", "hashrate_hps", of_hps, right=True),
    Column("worth an hour", "sat_per_hour", lambda sat: f"{grouped(sat)} sat", right=True),
)
SHORT: Final = (Column("order", "order"), Column("short by", "short_hps", of_hps, right=True))
EVENTS: Final = (
    Column("number", "id", right=True),
    Column("state", "state"),
    Column("site", "site", lambda name: name or "all"),
    Column("target", "target_words"),
    Column("less", "watts_asked", kilowatts, right=True),
    Column("machines", "machine_words"),
    Column("of unknown power", "unknown_words"),
    Column("from", "from", moment),
    Column("until", "until", moment),
    Column("asked for by", "asker"),
)
EVENT: Final = (
    *EVENTS[:4],
    Column("drew before", "watts_before", kilowatts),
    EVENTS[4],
    *EVENTS[5:9],
    Column("ramp", "ramp_words"),
    Column("source", "source"),
    Column("reference", "reference"),
    Column("asked for", "asked"),
    Column("restored", "restored"),
    Column("ended", "ended_at", moment),
    Column("dry run", "dry_words"),
)
MACHINES: Final = (
    Column("machine", "machine"),
    Column("state", "state"),
    Column("batch", "batch", right=True),
    Column("drew", "watts_before", kilowatts, right=True),
    Column("off from", "off_from", moment),
    Column("until", "off_until", moment),
)
STEPS: Final = (
    Column("at", "at", moment),
    Column("machine", "machine"),
    Column("state", "state"),
    Column("what", "words"),
)


@with_options
def plan(
    books: Books,
    form: ShowForm,
    site: SiteOption = "",
    to_kw: LimitOption = None,
    share: ShareOption = None,
    everything: EverythingOption = False,
    break_even: BreakEvenOption = False,
    below: BelowOption = None,
    ramp_s: RampOption = 600,
) -> None:
    """What an event would do now: which machines, how much less, and what that costs whom. Sends nothing."""
    asked = _target(to_kw, share, everything, break_even, below)
    it = books.ask("power.plan", site=site, ramp_s=ramp_s, **asked)
    if form is Form.JSON:
        print_json(it)
        return
    show_one(it | _planned(it), PLAN)
    if it["losses"]:
        say("")
        show(it["losses"], LOSSES)
    _show_short(it)


@with_options
def curtail(
    books: GuardedBooks,
    form: ShowForm,
    site: SiteOption = "",
    to_kw: LimitOption = None,
    share: ShareOption = None,
    everything: EverythingOption = False,
    break_even: BreakEvenOption = False,
    below: BelowOption = None,
    ramp_s: RampOption = 600,
    from_time: Annotated[
        str, typer.Option("--from", help="When it begins: 2026-11-27T16:00Z, or now.")
    ] = "now",
    until: Annotated[str | None, typer.Option(help="When it ends; a day later without.")] = None,
    reference: Annotated[
        str | None, typer.Option(help="Your own name of it: given again it is the same event.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write down what would be asked, and send nothing.")
    ] = False,
) -> None:
    """Have machines pause, from now or from a time on. They come back when it ends, or is restored."""
    event = books.ask(
        "power.curtail",
        site=site,
        ramp_s=ramp_s,
        from_s=time_of(from_time, "--from"),
        until_s=time_of(until, "--until"),
        reference=reference,
        dry_run=dry_run,
        source="cli",
        **_target(to_kw, share, everything, break_even, below),
    )
    _show_event(event, form)
    if form is Form.TEXT:
        _show_short(event)


@with_options
def restore(books: GuardedBooks, form: ShowForm, event: EventArgument) -> None:
    """End an event now: its machines come back in batches. One that has not begun is called off."""
    _show_event(books.ask("power.restore", event=event), form)


@with_options
def release(
    books: Books,
    form: ShowForm,
    event: EventArgument,
    machine: Annotated[str | None, typer.Argument(help="TENANT.CONTAINER.UNIT; all without.")] = None,
) -> None:
    """Let machines go at once, without a ramp: they are the event's no more. For an admin, when in need."""
    _show_event(books.ask("power.release", event=event, machine=machine), form)


@with_options
def events(
    books: Books,
    form: ListForm,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
) -> None:
    """Events that go on, or are to come."""
    show(
        (it | _in_words(it) for it in books.ask("power.list", everything=everything)),
        EVENTS,
        form,
    )


@with_options
def show_event(books: Books, form: ShowForm, event: EventArgument) -> None:
    """One event: its machines, those first that are not as they should be, and every step."""
    it = books.ask("power.show", event=event)
    _show_event(it, form)
    if form is Form.TEXT:
        _show_short(it)
        for rows, columns in ((it["of_machines"], MACHINES), (it["steps"], STEPS)):
            say("")
            show(rows, columns)


def _target(
    to_kw: str | None, share: str | None, everything: bool, break_even: bool, below: str | None
) -> dict[str, Any]:
    """What is asked for: exactly one of them. Raises BadConfig."""
    given: list[tuple[str, int | None]] = []
    if to_kw is not None:
        given.append(("limit", scaled(to_kw, 1_000, "--to-kw", "kW")))
    if share is not None:
        given.append(("share", scaled(share, BPS_PER_PERCENT, "--share", "percent")))
    if everything:
        given.append(("everything", None))
    if break_even:
        given.append(("break_even", None))
    if below is not None:
        given.append(("break_even", scaled(below, MSAT, "--below", "satoshi, down to 0.001")))
    if len(given) != 1:
        raise BadConfig("say one of --to-kw, --share, --everything, --break-even and --below")
    ((target, value),) = given
    return {"target": target, "target_value": value}


def _show_event(it: dict[str, Any], form: Form) -> None:
    if form is Form.JSON:
        print_json(it)
    else:
        show_one(it | _in_words(it), EVENT)


def _show_short(it: dict[str, Any]) -> None:
    """Orders that miss something without the machines."""
    if it["orders_short"]:
        say("")
        show(it["orders_short"], SHORT)


def _planned(it: dict[str, Any]) -> dict[str, Any]:
    exempt = f"{grouped(it['exempt_machines'])} machines, {kilowatts(it['exempt_watts'])}"
    last_s = max((batch["after_s"] for batch in it["batches"]), default=0)
    return {
        "place": it["site"] or "all",
        "other_words": f"{kilowatts(it['other_watts'])}, by {it['other_by']}" if it["other_by"] else None,
        "missing_watts": it["short_watts"] or None,
        "batch_words": f"{len(it['batches'])}, the last after {last_s} s",
        "restore_words": f"{-(-it['restore_s'] // 60)} min",
        "exempt_words": exempt if it["exempt_machines"] else None,
        "taken": it["taken_machines"] or None,
        "unknown": f"{grouped(it['unknown_machines'])}, of which {grouped(it['unknown_asked'])} are asked"
        if it["unknown_machines"]
        else None,
    }


def _in_words(it: dict[str, Any]) -> dict[str, Any]:
    restored_at_s = None if it["state"] == "cancelled" else it["restore_asked_at_s"]
    states = ", ".join(f"{grouped(count)} {state}" for state, count in sorted(it["machines"].items()))
    return {
        "target_words": _target_words(it["target"], it["target_value"]),
        "machine_words": states or None,
        "unknown_words": f"{grouped(it['unknown_off'])} of {grouped(it['unknown_machines'])} off"
        if it["unknown_machines"]
        else None,
        "asker": f"{it['source']}, {it['asked_by']}",
        "ramp_words": f"{it['ramp_s']} s",
        "asked": moment_by(it["asked_at_s"], it["asked_by"]),
        "restored": None if restored_at_s is None else moment_by(restored_at_s, it["restore_asked_by"]),
        "dry_words": "yes: nothing is sent" if it["dry_run"] else None,
    }


def _target_words(target: str, value: int | None) -> str:
    if value is None:
        return "everything" if target == "everything" else "below break-even"
    if target == "limit":
        return f"at most {kilowatts(value)}"
    if target == "share":
        return f"{value / BPS_PER_PERCENT:g} % less"
    return f"below {value / MSAT:g} sat a kWh"
