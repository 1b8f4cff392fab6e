"""`angara upstream`: other pools that tenants and orders mine on.

The commands work while the pool runs (through its socket) and on the data directory when it does not; `test`
reads the database itself, and connects from here. A password comes from a file, and is never shown.
"""

from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import unquote, urlsplit

import trio
import typer

from pool.admin.upstreams import UpstreamAdd, UpstreamList, UpstreamRemove, UpstreamShow, UpstreamSwitch
from pool.books.store import open_store
from pool.cli.command_line import (
    JsonOption,
    ask_pool,
    duration,
    moment,
    print_facts,
    print_json,
    print_table,
    say,
)
from pool.cli.options import ConfigOption, DatabaseOption, DataDirOption, books_of
from pool.config import BadConfig
from pool.reports.figures import grouped
from pool.upstreams.rows import find_upstream, numbered_endpoint
from pool.upstreams.trial import Trial, try_endpoints
from stratum.difficulty import difficulty_of_target
from stratum.upstream.endpoint import ACCOUNT_CHARS_MAX, BadUpstream, UpstreamEndpoint
from stratum.upstream.failover import UpstreamSettings

EXIT_UNUSABLE: Final = 1
SCHEMES: Final = {"stratum+tcp": False, "stratum+ssl": True}  # and whether that is TLS

app = typer.Typer(help="Other pools to mine on: proxy and orders.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="Name of the upstream.")]


@app.command("add")
def add(
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
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
) -> None:
    """Add an upstream; then `angara upstream test` says whether it would serve."""
    password = None if password_file is None else _password(password_file)
    try:
        endpoints = tuple(parse_endpoint(url, user, password, ca_file) for url in endpoint)
    except BadUpstream as error:
        raise BadConfig(f"--endpoint: {error}") from None
    params = UpstreamAdd(name, endpoints, fallback, outage_s, connections, suggest_difficulty)
    _print_upstream(ask_pool("upstream.add", params, config, data_dir, database))


@app.command("list")
def list_all(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """All upstreams, and what serves now."""
    rows = ask_pool("upstream.list", UpstreamList(), config, data_dir, database)
    if as_json:
        print_json(rows)
        return
    columns = (
        "name",
        "first endpoint",
        "endpoints>",
        "fallback",
        "outage>",
        "serves",
        "sessions>",
        "unanswered>",
    )
    print_table(columns, [_row(row) for row in rows])


@app.command("show")
def show(
    name: NameArgument,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """One upstream: its endpoints, who mines there, what it said of our shares today."""
    shown = ask_pool("upstream.show", UpstreamShow(name), config, data_dir, database)
    if as_json:
        print_json(shown)
    else:
        _print_upstream(shown)


@app.command("switch")
def switch(
    name: NameArgument,
    to: Annotated[str, typer.Argument(help="Number of the endpoint, or its HOST:PORT.")],
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
) -> None:
    """Make an endpoint the first one. A running pool goes there."""
    params = UpstreamSwitch(name, to)
    _print_upstream(ask_pool("upstream.switch", params, config, data_dir, database))


@app.command("remove")
def remove(
    name: NameArgument,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
) -> None:
    """Remove an upstream that nobody mines on, and forget its password."""
    ask_pool("upstream.remove", UpstreamRemove(name), config, data_dir, database)
    typer.echo(f"the upstream {name} is removed")


@app.command("test")
def look_at(
    name: NameArgument,
    endpoint: Annotated[str | None, typer.Option(help="Only this one: its number, or HOST:PORT.")] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Connect to its endpoints and say what each gives. Exit code 1 when none is of use."""
    store = open_store(books_of(config, data_dir, database).database_url)
    try:
        with store.read() as connection:
            record = find_upstream(connection, name)
    finally:
        store.close()
    chosen = list(enumerate(record.endpoints, 1))
    if endpoint is not None:
        number = numbered_endpoint(record, endpoint)
        chosen = chosen[number - 1 : number]
    settings = UpstreamSettings(name=name, suggest_difficulty=record.suggest_difficulty)
    trials = trio.run(try_endpoints, settings, chosen)
    if as_json:
        print_json([_trial_row(trial) for trial in trials])
    else:
        for trial in trials:
            _print_trial(trial)
    if all(trial.facts is None for trial in trials):
        raise typer.Exit(EXIT_UNUSABLE)


def parse_endpoint(
    url: str, user: str | None, password: str | None, ca_file: Path | None
) -> UpstreamEndpoint:
    """The endpoint that the URL names. Raises BadUpstream, which repeats nothing of the URL: people put
    passwords there."""
    scheme, _, rest = url.partition("://")
    account, _, address = rest.rpartition("@")
    if scheme not in SCHEMES or not address:
        raise BadUpstream("is to be stratum+tcp://[USER@]HOST:PORT, or stratum+ssl:// for TLS")
    if ":" in account:
        raise BadUpstream("no password here: give --password-file (and in a user's name, : is %3A)")
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or port is None or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise BadUpstream("host and port are to be HOST:PORT")
    if not account and user is None:
        raise BadUpstream("whose account? Give --user, or USER@ in front of the host")
    tls = SCHEMES[scheme]
    secret = {} if password is None else {"password": password}
    path = str(ca_file.absolute()) if ca_file is not None and tls else None
    return UpstreamEndpoint(
        host=host, port=port, user=unquote(account) or user or "", tls=tls, ca_file=path, **secret
    )


def _password(path: Path) -> str:
    """One line. Raises BadConfig."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(ACCOUNT_CHARS_MAX + 3)  # with its line end
    except UnicodeDecodeError:
        text = ""
    password = text.removesuffix("\n").removesuffix("\r")
    if not password or len(password) > ACCOUNT_CHARS_MAX or not password.isprintable():
        raise BadConfig(f"{path} is to hold one line of 1 to {ACCOUNT_CHARS_MAX} printable characters")
    return password


def _row(it: dict[str, Any]) -> tuple[object, ...]:
    channels = it.get("channels")
    counted: tuple[object, ...] = (None, None, None)
    if channels is not None:
        serving = sorted({channel["serving"] or "nothing" for channel in channels})
        serving += ["on fallback"] if any(channel["diverted"] for channel in channels) else []
        sums = (sum(channel[key] for channel in channels) for key in ("sessions", "unanswered"))
        counted = (", ".join(serving) or None, *sums)
    first = it["endpoints"][0]["address"]
    return (it["name"], first, len(it["endpoints"]), it["fallback"], f"{it['outage_s']} s", *counted)


def _print_upstream(it: dict[str, Any]) -> None:
    today = it["today"]
    rejected = ", ".join(f"{grouped(shares)} {reason}" for reason, shares in today["rejected"].items())
    print_facts(
        (
            ("name", it["name"]),
            ("fallback", f"{it['fallback']}, after {it['outage_s']} s"),
            ("connections", it["connections"]),
            ("suggested difficulty", it["suggest_difficulty"]),
            ("added", f"{moment(it['created_at_s'])} by {it['created_by']}"),
            ("orders", ", ".join(it["orders"]) or None),
            ("tenants", ", ".join(it["tenants"]) or None),
            (
                "shares today",
                f"{grouped(today['accepted'])} accepted, {rejected or '0'} rejected,"
                f" {grouped(today['unanswered'])} unanswered",
            ),
        )
    )
    typer.echo("")
    print_table(
        ("endpoint>", "address", "account", "TLS", "CA file"),
        [
            (at["number"], at["address"], at["user"], "yes" if at["tls"] else "no", at["ca_file"])
            for at in it["endpoints"]
        ],
    )
    for channel in it.get("channels", ()):
        _print_channel(channel)


def _print_channel(it: dict[str, Any]) -> None:
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
    print_table(
        ("address", "state", "since>", "why"),
        [(at["address"], at["state"], duration(at["age_s"]), at["reason"] or None) for at in it["endpoints"]],
    )


def _trial_row(it: Trial) -> dict[str, Any]:
    row: dict[str, Any] = {
        "number": it.number,
        "address": it.endpoint.address,
        "usable": it.facts is not None,
    }
    if it.facts is None:
        return row | {"reason": it.reason}
    facts = it.facts
    return row | {
        "extranonce1": facts.extranonce1.hex(),
        "filler_bytes": facts.split.filler_bytes,
        "prefix_bytes": facts.split.prefix_bytes,
        "miner_bytes": facts.split.miner_bytes,
        "sessions": facts.split.sessions,
        "limits": facts.split.limits,
        "mask": f"{facts.mask:08x}",
        "target": f"{facts.target:064x}",
        "difficulty": _difficulty(facts.target),
        "height": facts.work.height,
        "took_s": round(facts.took_s, 3),
    }


def _print_trial(it: Trial) -> None:
    tls = " (TLS)" if it.endpoint.tls else ""
    if it.facts is None:
        say(f"{it.number}  {it.endpoint.address}{tls}: NOT USABLE: {it.reason}")
        return
    split = it.facts.split
    rolling = f"version mask {it.facts.mask:08x}" if it.facts.mask else "no version rolling"
    say(f"{it.number}  {it.endpoint.address}{tls}: usable, a job after {it.facts.took_s:.2f} s")
    typer.echo(
        f"   extranonce2 of {split.upstream_bytes} bytes: {split.prefix_bytes} ours"
        f" ({grouped(split.sessions)} sessions), {split.miner_bytes} the miner's,"
        f" {split.filler_bytes} filler"
    )
    if split.limits:
        say(f"   BUT: {split.limits}")
    say(f"   {rolling}, difficulty {_difficulty(it.facts.target)}, height {it.facts.work.height}")


def _difficulty(target: int) -> str:
    """For people: whole, or its first digits."""
    exact = difficulty_of_target(target)
    return str(exact.numerator) if exact.denominator == 1 else f"{float(exact):.6g}"
