"""`angara order`: sales of computing power to a buyer, who names the pool that it is delivered to.

They work while the pool runs (through its socket) and on the data directory when it does not. Times are UTC
where they name no zone.
"""

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation, Overflow
from enum import Enum
from typing import Annotated, Any, Final

import typer

from payouts.sales.billing import Billing
from pool.cli.books import Books
from pool.cli.live_columns import of_hps, of_ths
from pool.cli.options import GuardedBooks, ListForm, ShowForm, with_options
from pool.cli.output import Column, Form, iso_time, moment, moment_by, print_json, show, show_one
from pool.cli.routing import sales
from pool.reports.figures import amount, grouped, percent, sat_exact
from pool.settings_file import BadConfig

app = typer.Typer(no_args_is_help=True)
app.add_typer(sales.app)

OVER_CHARS_MAX: Final = 6  # hours of a tolerance, and their unit


class Making(Enum):
    """payouts.receipts.making_good.MakeGood, without reading it."""

    NONE = "none"
    CREDIT = "credit"
    REFUND = "refund"
    EXTENSION = "extension"


NameArgument = Annotated[str, typer.Argument(help="Name of the order.")]

ORDERS: Final = (
    Column("name", "name"),
    Column("state", "state"),
    Column("buyer", "buyer"),
    Column("upstream", "upstream"),
    Column("sold", "hashrate_ths", of_ths, right=True),
    Column("delivered now", "supply_hps", of_hps, right=True, live=True),
    Column("machines", "machines", grouped, right=True, live=True),
    Column("from", "from", moment),
    Column("until", "until", moment),
    Column("ended", "ended_at", moment),
)
ORDER: Final = (
    *ORDERS[:5],
    Column("more or less", "tolerance_bps", percent),
    Column("price of a PH-day", "sat_per_ph_day", amount),
    Column("made good", "made_good"),
    Column("owed as work", "owed_work", lambda it: f"{_ph_hours(it)} PH·h"),
    Column("goes on until", "extended_until", moment),
    Column("owed by receipts", "bill_psat", lambda it: f"{sat_exact(*divmod(it, PSAT_PER_SAT))} sat"),
    Column("due to the buyer", "due_psat", lambda it: f"{sat_exact(*divmod(it, PSAT_PER_SAT))} sat"),
    *ORDERS[7:9],
    Column("priority", "priority"),
    Column("supplied by", "supplier_names"),
    ORDERS[5],
    Column("short by", "short_hps", of_hps),
    ORDERS[6],
    Column("being moved", "moving", grouped),
    Column("invoices", "invoiced"),
    Column("left of its deposit", "cover_sat", lambda it: f"{grouped(it)} sat, when this hour is paid"),
    Column("lasts until", "cover_until", moment),
    Column("added", "added"),
    Column("ended", "ended"),
)

WORK_OF_PH_HOUR: Final = 65_535 * 10**15 * 3_600  # as receipts count it
PSAT_PER_SAT: Final = 10**12
RECEIPTS: Final = (
    Column("receipt", "number", right=True),
    Column("hour", "hour_utc", moment),
    Column("part", "part", right=True),
    Column("sold PH·h", "sold", lambda it: _ph_hours(it), right=True),
    Column("delivered PH·h", "work", lambda it: _ph_hours(it), right=True),
    Column("accepted", "accepted", grouped, right=True),
    Column("rejected", "rejected", grouped, right=True),
    Column("unanswered", "unanswered", grouped, right=True),
    Column("bill sat", "bill_psat", lambda it: sat_exact(*divmod(it, PSAT_PER_SAT)), right=True),
    Column("signed by", "key"),
)


@app.command("add")
@with_options
def add(
    books: GuardedBooks,
    form: ShowForm,
    name: NameArgument,
    buyer: Annotated[str, typer.Option(help="Who buys.")],
    upstream: Annotated[str, typer.Option(help="Where it is delivered: one of `angara upstream list`.")],
    ph: Annotated[str, typer.Option(help="How much, in PH/s: 50 or 0.5.")],
    until: Annotated[str, typer.Option(help="When it ends: 2026-11-30T00:00Z.")],
    price_sat_per_ph_day: Annotated[int, typer.Option(help="Price in satoshi for 1 PH/s over a day.")],
    from_time: Annotated[
        str, typer.Option("--from", help="When it begins: 2026-11-22T00:00Z, or now.")
    ] = "now",
    tolerance: Annotated[
        str,
        typer.Option(
            help="How far off it may be, in percent; of what is made good over hours: 5%:1h,1%:24h,0.3%:7d."
        ),
    ] = "2",
    make_good: Annotated[
        Making, typer.Option(help="What becomes of work that is missing by your fault, beyond the tolerance.")
    ] = Making.NONE,
    extend: Annotated[
        str | None,
        typer.Option(help="How long after its end what is owed is delivered: 36h; 7d without."),
    ] = None,
    priority: Annotated[int, typer.Option(help="1 to 100; 1 is served first.")] = 50,
    from_tenant: Annotated[
        list[str] | None, typer.Option(help="Tenant whose machines supply it; once for each.")
    ] = None,
    from_container: Annotated[
        list[str] | None, typer.Option(help="TENANT.CONTAINER that supplies it; once for each.")
    ] = None,
    billing: Annotated[Billing, typer.Option(help="How often its buyer has an invoice.")] = Billing.NONE,
    due_days: Annotated[
        int | None, typer.Option(min=0, help="Days in which an invoice is to be paid; 14 without.")
    ] = None,
    stop_overdue_days: Annotated[
        int | None, typer.Option(min=0, help="Days overdue after which it stops; it goes on without.")
    ] = None,
    prepaid: Annotated[
        bool, typer.Option("--prepaid", help="It runs only while what was paid before covers the hour.")
    ] = False,
) -> None:
    """Sell computing power. A running pool moves machines to it, from the time that it begins."""
    steps = _tolerances(tolerance)
    added = books.ask(
        "order.add",
        name=name,
        buyer=buyer,
        upstream=upstream,
        hashrate_ths=_scaled(ph, 1000, "--ph", "PH/s, down to 0.001"),
        tolerance_bps=steps[0]["bps"],
        make_good=make_good.value,
        tolerances=steps if ":" in tolerance else [],
        extension_h=None if extend is None else _hours(extend, f"--extend: {extend!r:.40} is not like 36h"),
        from_s=None if from_time == "now" else _time(from_time, "--from"),
        until_s=_time(until, "--until"),
        priority=priority,
        sat_per_ph_day=price_sat_per_ph_day,
        tenants=from_tenant or [],
        containers=from_container or [],
        billing=billing.value,
        due_days=due_days,
        stop_days=stop_overdue_days,
        prepaid=prepaid,
    )
    _show(added, form)


@app.command("list")
@with_options
def list_all(books: Books, form: ListForm) -> None:
    """All orders: what was sold, and what is delivered now."""
    show(books.ask("order.list"), ORDERS, form)


@app.command("show")
@with_options
def show_order(books: Books, form: ShowForm, name: NameArgument) -> None:
    """One order. What it has delivered is told by `angara report order`."""
    _show(books.ask("order.show", name=name), form)


@app.command("receipts")
@with_options
def receipts(
    books: Books,
    form: ListForm,
    name: NameArgument,
    from_time: Annotated[
        str | None, typer.Option("--from", help="Hours from here on: 2026-11-22T00:00Z.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="Hours before that.")] = None,
) -> None:
    """What every hour of an order came to. For its buyer: `--json`, which `angara verify` checks."""
    from payouts.proof.angara_verify import as_written

    asked: dict[str, Any] = {"name": name}
    hours = {"from_s": (from_time, "--from"), "until_s": (until, "--to")}
    asked |= {it: _time(text, option) for it, (text, option) in hours.items() if text is not None}
    found: list[Any] = []
    following: int | None = 1
    while following is not None:
        answer = books.ask("order.receipts", **asked, first=following)
        found += answer["receipts"]
        following = answer["next"]
    if form is Form.JSON:
        typer.echo(as_written(found), nl=False)
    else:
        show(map(_told, found), RECEIPTS, form)


@app.command("end")
@with_options
def end(books: GuardedBooks, form: ShowForm, name: NameArgument) -> None:
    """End an order now. Its machines go back to where they mined before."""
    _show(books.ask("order.end", name=name), form)


def _told(it: dict[str, Any]) -> dict[str, Any]:
    """A receipt as a row."""
    targets = it["targets"]
    return it | {
        "accepted": sum(said["accepted"] for said in targets),
        "rejected": sum(sum(said["rejected"].values()) for said in targets),
        "unanswered": sum(said["unanswered"] for said in targets),
    }


def _ph_hours(work: str) -> str:
    """Down to a ten-thousandth."""
    whole, rest = divmod(int(work) * 10_000 // WORK_OF_PH_HOUR, 10_000)
    return f"{grouped(whole)}.{rest:04}"


def _show(it: dict[str, Any], form: Form) -> None:
    if form is Form.JSON:
        print_json(it)
    else:
        show_one(it | _in_words(it), ORDER)


def _in_words(it: dict[str, Any]) -> dict[str, Any]:
    ended_at_s = it["ended_at_s"]
    told = it.get("receipts") or {}
    over = ", ".join(f"{percent(step['bps'])} over {step['hours']} h" for step in it["tolerances"])
    how = f"{it['make_good']} of up to {it['extension_h']} h" if it["extension_h"] else it["make_good"]
    owing, cover = it.get("extension") or {}, it.get("cover") or {}
    return {
        "made_good": f"{how}, beyond {over}" if over else None,
        "owed_work": owing.get("owed_work"),
        "extended_until": iso_time(owing["until_s"]) if owing else None,
        "bill_psat": told.get("bill_psat") if told.get("number") else None,
        "due_psat": told.get("due_psat") or None,
        "cover_sat": cover.get("left_sat"),
        "cover_until": iso_time(cover["until_s"]) if cover else None,
        "supplier_names": ", ".join(it["suppliers"]),
        "short_hps": it.get("shortage_hps") or None,
        "moving": it.get("moving") or None,
        "invoiced": _billed(it),
        "added": moment_by(it["created_at_s"], it["created_by"]),
        "ended": None if ended_at_s is None else moment_by(ended_at_s, it["ended_by"]),
    }


def _billed(it: dict[str, Any]) -> str | None:
    if it["billing"] == Billing.NONE:
        return None
    if it["prepaid"]:
        return f"{it['billing']}, prepaid"
    words = f"{it['billing']}, due in {it['due_days']} days"
    return words if it["stop_days"] is None else f"{words}, stops {it['stop_days']} days after that"


def _tolerances(text: str) -> list[dict[str, int]]:
    """As 5%:1h,1%:24h,0.3%:7d; one alone is over a day. Raises BadConfig."""
    steps = []
    for it in text.split(","):
        share, _, over = it.partition(":") if ":" in text else (it, "", "24h")
        hours = _hours(over, f"--tolerance: {it!r:.40} is not like 1%:24h")
        bps = _scaled(share.removesuffix("%"), 100, "--tolerance", "percent, down to 0.01")
        steps.append({"bps": bps, "hours": hours})
    return steps


def _hours(text: str, mistake: str) -> int:
    """Of 36h or 7d. Raises BadConfig."""
    hours = {"h": 1, "d": 24}.get(text[-1:], 0)
    if not hours or not text[:-1].isascii() or not text[:-1].isdecimal() or len(text) > OVER_CHARS_MAX:
        raise BadConfig(mistake)
    return int(text[:-1]) * hours


def _scaled(text: str, scale: int, option: str, what: str) -> int:
    """A decimal as a whole number of a smaller unit. Raises BadConfig where it is none."""
    try:
        scaled = Decimal(text) * scale
        whole = int(scaled) if scaled.is_finite() and abs(scaled) < 10**15 else None
    except (InvalidOperation, Overflow):
        whole = None
    if whole is None or whole != scaled:
        raise BadConfig(f"{option}: {text!r:.40} is not a number of {what}")
    return whole


def _time(text: str, option: str) -> int:
    """Unix seconds. Raises BadConfig."""
    try:
        at = datetime.fromisoformat(text)
        return int((at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        raise BadConfig(f"{option}: {text!r:.40} is not a time, like 2026-11-22T00:00Z") from None
