"""The `angara` command. What a command needs is imported when it runs: `angara --help` and whatever asks a
running pool take a fraction of a second, `angara run` some seconds.
"""

import faulthandler
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.completion import completion_init  # type: ignore[attr-defined]

from pool import short_start
from pool.cli.books import DEFAULT_CONFIG, Books
from pool.cli.command_groups import Angara
from pool.cli.manual import ZSH_WORDS, Shell
from pool.cli.mistakes import EXIT_WRONG
from pool.cli.options import SEED_MAX, NamedBooks, ShowForm, number, with_options
from pool.cli.output import Form, print_json, say
from pool.cli.priority import make_way
from pool.cli.standard_streams import set_up_streams
from pool.cli.until_signal import until_signal
from pool.demo_sites.broken import Break
from pool.settings_file import BadConfig

app = typer.Typer(
    cls=Angara,
    help="Stratum V1 mining pool and proxy for container data centres.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="Settings file (TOML), see the README.", show_default=True)
]
DataDirOption = Annotated[Path, typer.Option(help="Where the chain and the found blocks are kept.")]
BitsOption = Annotated[str | None, typer.Option(help="nBits that templates offer, in hex, e.g. 1d00ffff.")]
TxsOption = Annotated[int, typer.Option(min=0, help="Transactions that every template is filled with.")]


def main() -> None:
    """Entry point of the `angara` command."""
    short_start.begin()
    set_up_streams()
    faulthandler.enable()  # a service manager ends by SIGABRT who hangs, which then says where it stood
    make_way(sys.argv[1:])
    completion_init()
    app()


@app.callback()
def _setup(verbose: Annotated[bool, typer.Option(help="Log debug messages too.")] = False) -> None:
    if verbose:
        from pool.cli.logs import set_up_logs

        set_up_logs(verbose=True)


@app.command()
def run(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run the pool."""
    from pool.books.store import open_store
    from pool.config import load_settings
    from pool.data_dir import held
    from pool.main import Pool
    from pool.supervisor import supervised

    async def pool() -> None:
        settings = load_settings(config)
        if settings.config.site is not None or settings.config.hub is not None:
            raise BadConfig("these settings are for `angara edge -c` or `angara hub -c`")
        with held(settings.config.data_dir):
            store = open_store(settings.config.database_url)
            try:
                await Pool(settings.config, store, settings=settings, supervisor=supervisor).run()
            finally:
                store.close()

    with supervised(os.environ) as supervisor:
        until_signal(pool)


@app.command()
def hub(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Keep the books of pools at other sites. A second one on the same PostgreSQL waits to take over."""
    from pool.books.standby import await_lease
    from pool.books.store import open_store
    from pool.config import load_settings
    from pool.data_dir import held
    from pool.main import Pool
    from pool.supervisor import supervised

    async def keep() -> None:
        settings = load_settings(config)
        if settings.config.hub is None:
            raise BadConfig("there is no [hub] in these settings")
        with held(settings.config.data_dir):
            store = open_store(settings.config.database_url)
            try:
                await await_lease(store, on_wait=lambda words: supervisor.stands_by())
                await Pool(settings.config, store, settings=settings, supervisor=supervisor).run()
            finally:
                store.close()

    with supervised(os.environ) as supervisor:
        until_signal(keep)


@app.command()
@with_options
def check(form: ShowForm, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Check the settings, the addresses, the book and every node: what is wrong, in words."""
    from pool.check import Finding, check_pool
    from pool.cli.logs import set_up_logs
    from pool.config import load_config

    set_up_logs(quiet=True)
    findings: list[Finding] = []

    async def check_all() -> None:
        findings.extend(await check_pool(load_config(config)))

    until_signal(check_all)
    if form is Form.JSON:
        print_json([{"ok": it.good, "subject": it.subject, "words": it.text} for it in findings])
    else:
        for finding in findings:
            say(f"{'ok  ' if finding.good else 'BAD '} {finding.subject}: {finding.text}")
    if not all(finding.good for finding in findings):
        raise typer.Exit(EXIT_WRONG)


@app.command()
def verify(
    statement: Annotated[
        Path,
        typer.Argument(help="The statement, receipts, an invoice, shares, a reserve, or roots, JSON."),
    ],
    key: Annotated[str | None, typer.Option(help="The pool's key, 64 hex digits, as you know it.")] = None,
    roots: Annotated[
        Path | None, typer.Option(help="The list of roots, or of closings, that is published, JSON.")
    ] = None,
    previous: Annotated[
        list[Path] | None,
        typer.Option(
            help="The statement before, receipts or a list that you have, each invoice before, JSON."
        ),
    ] = None,
    counted: Annotated[
        Path | None, typer.Option(help="Of receipts: what the buyer's own pool counted, CSV.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Of shares their day's statement, of an invoice receipts, JSON.")
    ] = None,
    reserve: Annotated[
        Path | None, typer.Option(help="Of a statement: the reserve of its last day, JSON.")
    ] = None,
) -> None:
    """Check a statement, receipts, an invoice, shares, or a reserve, without the pool: `angara-verify` too.

    Says what holds, what is WRONG and what could not be checked. Exit code 1 where something is wrong.
    """
    from argparse import Namespace

    from payouts.proof.angara_verify import verify as check

    asked = Namespace(
        statement=statement,
        key=key,
        roots=roots,
        previous=previous or None,
        counted=counted,
        against=against,
        reserve=reserve,
    )
    code = check(asked)
    if code:
        raise typer.Exit(code)


@app.command()
@with_options
def reconcile(
    books: NamedBooks,
    form: ShowForm,
    journal: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="At an edge, without books: what its own journal has, by the hour."),
    ] = None,
    said: Annotated[
        list[Path] | None,
        typer.Option("--with", metavar="FILE", help="What an edge said of its journal (JSON); several."),
    ] = None,
    hours: Annotated[bool, typer.Option("--hours", help="A line for each hour.")] = False,
) -> None:
    """Compare journals, what is here of them, and the books: by hash and count, by edge and hour.

    Exit code 1 and the first record that differs, with what each side says. At an edge `--journal DIR --json`
    says what its own files have, for `--with` at the hub.
    """
    from pool.cli.bookkeeping import reconcile as comparing

    if journal is not None:
        if said:
            raise BadConfig("give --journal where the journal is, or --with where the books are")
        comparing.tell_journals(journal, form)
    else:
        comparing.tell_differences(books.opened(), said or (), hours, form)


@app.command()
@with_options
def drain(
    books: Books,
    form: ShowForm,
    over: Annotated[int, typer.Option(min=1, max=3600, help="Seconds within which miners go.")] = 120,
    resume: Annotated[bool, typer.Option("--resume", help="Let miners in again.")] = False,
    edge: Annotated[
        str | None, typer.Option(help="Those of this edge alone, until it is started again.")
    ] = None,
) -> None:
    """Before a restart: let no new miners in, and those who are here go in steps. Waits until they have."""
    from pool.cli.service import draining

    if resume:
        draining.resume(books, edge, form)
    else:
        draining.drain(books, over, edge, form)


@app.command()
@with_options
def reload(books: Books, form: ShowForm) -> None:
    """Have the running pool take up its settings file anew: what needs no restart, or nothing of it.

    Which settings those are is in docs/configuration.md. SIGHUP does the same, and says it in the log.
    """
    from pool.cli.service.reloading import reload

    reload(books, form)


@app.command()
def demo(
    stratum: Annotated[str, typer.Option(help="Address for miners, HOST:PORT.")] = "127.0.0.1:3333",
    blocks: Annotated[int, typer.Option(min=0, help="Stop after so many blocks; 0 is never.")] = 0,
    fleet: Annotated[bool, typer.Option(help="Simulated machines, or serve only.")] = True,
    difficulty: Annotated[
        str | None, typer.Option(help="Fixed share difficulty, a power of two down to 2^-32.")
    ] = None,
    template_txs: TxsOption = 0,
    network_bits: BitsOption = None,
    data_dir: DataDirOption = Path("angara-demo"),
    sites: Annotated[
        int | None,
        typer.Option(min=1, max=8, help="So many sites with an edge each, NATS between them and one hub."),
    ] = None,
    broken: Annotated[
        Break | None,
        typer.Option(
            "--break", help="Break that between sites, mend it, prove that no share is lost, and end."
        ),
    ] = None,
) -> None:
    """An embedded regtest node, the pool and a few simulated container miners, all in one."""
    import logging

    import structlog

    short_start.wanted("rich")
    from rich.console import Console

    from pool.config import parse_address, parse_difficulty
    from pool.demo import DemoOptions, above, run_demo
    from pool.demo_sites.demo import SitesOptions, run_sites

    of_one_pool = {
        "--blocks": blocks != 0,
        "--no-fleet": not fleet,
        "--difficulty": difficulty is not None,
        "--template-txs": template_txs != 0,
        "--network-bits": network_bits is not None,
    }
    given = [option for option, is_given in of_one_pool.items() if is_given]
    if sites is not None and given:
        raise BadConfig(f"{given[0]} is of a demo of one pool: it does not go with --sites")
    if sites is None and broken is not None:
        raise BadConfig("--break is for what is between sites: give --sites 3 too")
    proven = True

    async def show() -> None:
        nonlocal proven
        host, port = parse_address(stratum, "--stratum")
        console = Console()
        if console.is_terminal or sites is not None:  # the table has the news; so have the lines of sites
            structlog.configure(
                wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
                logger_factory=structlog.PrintLoggerFactory(
                    above(console) if console.is_terminal else sys.stderr
                ),
            )
        if sites is not None:
            of_sites = SitesOptions(host=host, port=port, data_dir=data_dir, sites=sites, broken=broken)
            proven = await run_sites(of_sites, console)
            return
        options = DemoOptions(
            host=host,
            port=port,
            data_dir=data_dir,
            blocks=blocks,
            fleet=fleet,
            difficulty_log2=None if difficulty is None else parse_difficulty(difficulty, "--difficulty"),
            template_txs=_template_txs(template_txs),
            network_bits=_parse_bits(network_bits),
        )
        await run_demo(options, console)

    until_signal(show)
    if not proven:
        raise typer.Exit(EXIT_WRONG)


@app.command()
def regtest(
    listen: Annotated[str, typer.Option(help="Address for JSON-RPC, HOST:PORT.")] = "127.0.0.1:18443",
    template_txs: TxsOption = 0,
    network_bits: BitsOption = None,
    data_dir: DataDirOption = Path("angara-regtest"),
) -> None:
    """A regtest node on Bitcoin Core's consensus engine, for tests and demonstrations."""
    from pool.config import parse_address
    from pool.regtest.server import RegtestOptions, serve_regtest

    async def serve() -> None:
        host, port = parse_address(listen, "--listen")
        await serve_regtest(
            RegtestOptions(
                data_dir=data_dir,
                host=host,
                port=port,
                template_txs=_template_txs(template_txs),
                network_bits=_parse_bits(network_bits),
            )
        )

    until_signal(serve)


@app.command()
@with_options
def swarm(
    server: Annotated[str, typer.Argument(metavar="HOST:PORT", help="Any Stratum V1 server.")],
    form: ShowForm,
    containers: Annotated[int, typer.Option(min=1, help="Each of one vendor, in turn.")] = 1,
    units: Annotated[int, typer.Option(min=1, help="Machines in each.")] = 100,
    profile: Annotated[
        list[str] | None,
        typer.Option(help="How machines speak, several in turn: docs/swarm.md; antminer without."),
    ] = None,
    user: Annotated[str, typer.Option(help="What names of machines begin with.")] = "acme",
    password: Annotated[str, typer.Option(help="What machines say with their name.")] = "x",  # noqa: S107
    rate: Annotated[
        float | None, number(0, 1e6, "Shares a second, all together; one a machine in 6 s without.")
    ] = None,
    hash_rate: Annotated[
        str | None, typer.Option("--hashrate", help="Each machine's, e.g. 500k, in place of a rate.")
    ] = None,
    closed_loop: Annotated[
        bool, typer.Option("--closed-loop", help="One share in flight for each machine, always.")
    ] = False,
    hashing: Annotated[float, number(0.01, 1, "How much of a core looks for shares, at most.")] = 0.5,
    suggest_difficulty: Annotated[
        float | None, number(1e-12, None, "What machines ask for, so that shares can be found.")
    ] = None,
    bad: Annotated[float, number(0, 1, "So many of all shares are wrong.")] = 0.0,
    late: Annotated[float, number(0, 1, "And so many of a job before the last.")] = 0.0,
    slow_readers: Annotated[float, number(0, 1, "So many machines hardly read.")] = 0.0,
    cut: Annotated[
        list[str] | None,
        typer.Option(metavar="AT:FOR[:CONTAINER]", help="No power then, for so many seconds; of all or one."),
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", help="TLS, whatever the certificate says.")] = False,
    connect_rate: Annotated[float, number(1, 50_000, "Connections a second, at most.")] = 1000.0,
    warmup: Annotated[float, number(0, 3600, "Seconds before it is measured.")] = 0.0,
    seconds: Annotated[float, number(0.1, 86_400, "So long, and it ends.")] = 60.0,
    seed: Annotated[int, typer.Option(min=0, max=SEED_MAX, help="Of everything that is left to chance.")] = 1,
    svg: Annotated[Path | None, typer.Option(help="The histogram of latencies, as a picture.")] = None,
    this_server_is_mine: Annotated[
        bool,
        typer.Option(
            "--this-server-is-mine",
            help="Needed for any host but this. On a server that is not yours it is an attack, by you.",
        ),
    ] = False,
) -> None:
    """Simulated container miners against a server: verdicts, latencies, time of a new block to each machine.

    They really hash, so the server has to ask for little: see docs/swarm.md.
    """
    from pool.cli.service import swarm as swarming
    from pool.swarm.load import LoadOptions

    if sum((rate is not None, hash_rate is not None, closed_loop)) > 1:
        raise BadConfig("give one of --rate, --hashrate and --closed-loop")
    host, address, port = swarming.destination(server, this_server_is_mine)
    paced = hash_rate is not None or closed_loop
    options = LoadOptions(
        host=host,
        address=address,
        port=port,
        containers=containers,
        units=units,
        profiles=tuple(profile or ("antminer",)),
        user=user,
        password=password,
        shares_per_s=0.0 if paced else containers * units / 6 if rate is None else rate,
        hashrate_hps=0.0 if hash_rate is None else swarming.hashrate_from(hash_rate),
        closed_loop=closed_loop,
        hashing=hashing,
        suggest_difficulty=suggest_difficulty,
        bad=bad,
        late=late,
        slow_readers=slow_readers,
        cuts=tuple(swarming.cut_from(it, containers) for it in cut or ()),
        tls=tls,
        connects_per_s=connect_rate,
        warmup_s=warmup,
        seconds=seconds,
        seed=seed,
    )
    swarming.swarm(options, svg, form)


@app.command("man")
def show_manual() -> None:
    """The manual page: `angara man | man -l -`, or into a file angara.1 where man looks."""
    from importlib.metadata import version as installed

    import typer.main

    from pool.cli.manual import manual

    typer.echo(manual(typer.main.get_command(app), installed("angara")), nl=False)


@app.command("completion")
def show_completion(
    shell: Annotated[Shell, typer.Argument(help="bash, zsh or fish.")],
    install: Annotated[bool, typer.Option("--install", help="Put it where the shell looks.")] = False,
) -> None:
    """What makes a shell complete commands and options."""
    from pool.cli.manual import completion, completion_file

    if not install:
        typer.echo(completion(shell), nl=False)
        return
    file = completion_file(shell)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(completion(shell))
    say(f"{file} is read by the next {shell}{ZSH_WORDS if shell is Shell.ZSH else ''}")


@app.command()
@with_options
def version(form: ShowForm) -> None:
    """The version, and the hash backend that this machine's processor gets."""
    from importlib.metadata import version as installed

    from stratum import _engine

    if form is Form.JSON:
        print_json({"version": installed("angara"), "hash_backend": _engine.backend})
    else:
        typer.echo(f"angara {installed('angara')}, hash backend {_engine.backend}")


def _template_txs(count: int) -> int:
    from pool.regtest.wallet import TEMPLATE_TXS_MAX

    if count > TEMPLATE_TXS_MAX:
        raise BadConfig(f"--template-txs: a template has at most {TEMPLATE_TXS_MAX} transactions")
    return count


def _parse_bits(text: str | None) -> int | None:
    from stratum.difficulty import BadTarget, target_from_nbits

    if text is None:
        return None
    try:
        bits = int(text, 16)
        target_from_nbits(bits)
    except (ValueError, BadTarget) as error:
        raise BadConfig(f"--network-bits: {text!r} cannot be offered: {error}") from None
    return bits
