"""`angara order`: sales of computing power to a buyer, who names the pool that it is delivered to.

They work while the pool runs (through its socket) and on the data directory when it does not. Times are UTC
where they name no zone.
"""

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer

from payouts.rates import HPS_PER_THS
from pool.admin.orders import OrderAdd, OrderEnd, OrderList, OrderShow
from pool.cli.command_line import JsonOption, ask_pool, moment, print_facts, print_json, print_table
from pool.cli.options import ConfigOption, DatabaseOption, DataDirOption
from pool.config import BadConfig
from pool.reports.figures import grouped, hashrate, percent

app = typer.Typer(help="Hashrate orders: computing power that is sold.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="Name of the order.")]


@app.command("add")
def add(
    name: NameArgument,
    buyer: Annotated[str, typer.Option(help="Who buys.")],
    upstream: Annotated[str, typer.Option(help="Where it is delivered: one of `angara upstream list`.")],
    ph: Annotated[str, typer.Option(help="How much, in PH/s: 50 or 0.5.")],
    until: Annotated[str, typer.Option(help="When it ends: 2026-11-30T00:00Z.")],
    price_sat_per_ph_day: Annotated[int, typer.Option(help="Price in satoshi for 1 PH/s over a day.")],
    from_time: Annotated[
        str, typer.Option("--from", help="When it begins: 2026-11-22T00:00Z, or now.")
    ] = "now",
    tolerance: Annotated[str, typer.Option(help="How far off it may be, in percent.")] = "2",
    priority: Annotated[int, typer.Option(help="1 to 100; 1 is served first.")] = 50,
    from_tenant: Annotated[
        list[str] | None, typer.Option(help="Tenant whose machines supply it; once for each.")
    ] = None,
    from_container: Annotated[
        list[str] | None, typer.Option(help="TENANT.CONTAINER that supplies it; once for each.")
    ] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
) -> None:
    """Sell computing power. A running pool moves machines to it, from the time that it begins."""
    params = OrderAdd(
        name=name,
        buyer=buyer,
        upstream=upstream,
        hashrate_ths=_scaled(ph, 1000, "--ph", "PH/s, down to 0.001"),
        tolerance_bps=_scaled(tolerance, 100, "--tolerance", "percent, down to 0.01"),
        from_s=None if from_time == "now" else _time(from_time, "--from"),
        until_s=_time(until, "--until"),
        priority=priority,
        sat_per_ph_day=price_sat_per_ph_day,
        tenants=tuple(from_tenant or ()),
        containers=tuple(from_container or ()),
    )
    _print_order(ask_pool("order.add", params, config, data_dir, database))


@app.command("list")
def list_all(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """All orders: what was sold, and what is delivered now."""
    rows = ask_pool("order.list", OrderList(), config, data_dir, database)
    if as_json:
        print_json(rows)
        return
    columns = ("name", "state", "buyer", "upstream", "sold>", "now>", "machines>", "from", "until")
    print_table(
        columns,
        [
            (
                *(row[key] for key in ("name", "state", "buyer", "upstream")),
                hashrate(row["hashrate_ths"] * HPS_PER_THS),
                _measured(row, "supply_hps"),
                row.get("machines"),
                moment(row["from_s"])[:16],
                moment(_end_s(row))[:16],
            )
            for row in rows
        ],
    )


@app.command("show")
def show(
    name: NameArgument,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """One order. What it has delivered is told by `angara report order`."""
    shown = ask_pool("order.show", OrderShow(name), config, data_dir, database)
    if as_json:
        print_json(shown)
    else:
        _print_order(shown)


@app.command("end")
def end(
    name: NameArgument,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
) -> None:
    """End an order now. Its machines go back to where they mined before."""
    params = OrderEnd(name)
    _print_order(ask_pool("order.end", params, config, data_dir, database))


def _print_order(it: dict[str, Any]) -> None:
    ended = None
    if it["ended_at_s"] is not None:
        ended = f"{moment(it['ended_at_s'])} by {it['ended_by']}"
    print_facts(
        (
            ("name", it["name"]),
            ("state", it["state"]),
            ("buyer", it["buyer"]),
            ("upstream", it["upstream"]),
            (
                "sold",
                f"{hashrate(it['hashrate_ths'] * HPS_PER_THS)}, {percent(it['tolerance_bps'])} more or less",
            ),
            ("price", f"{grouped(it['sat_per_ph_day'])} sat per PH-day"),
            ("from", moment(it["from_s"])),
            ("until", moment(it["until_s"])),
            ("priority", it["priority"]),
            ("supplied by", ", ".join(it["suppliers"])),
            ("delivered now", _measured(it, "supply_hps")),
            ("short by", _measured(it, "shortage_hps") if it.get("shortage_hps") else None),
            ("machines", it.get("machines")),
            ("being moved", it.get("moving") or None),
            ("added", f"{moment(it['created_at_s'])} by {it['created_by']}"),
            ("ended", ended),
        )
    )


def _measured(it: dict[str, Any], key: str) -> str | None:
    """A hashrate of the router, where a pool runs."""
    return hashrate(int(it[key])) if key in it else None


def _end_s(it: dict[str, Any]) -> int:
    return int(it["until_s"] if it["ended_at_s"] is None else it["ended_at_s"])


def _scaled(text: str, scale: int, option: str, what: str) -> int:
    """A decimal as a whole number of a smaller unit. Raises BadConfig where it is none."""
    try:
        scaled = Decimal(text) * scale
        whole = int(scaled) if scaled.is_finite() and abs(scaled) < 10**15 else None
    except InvalidOperation:
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
