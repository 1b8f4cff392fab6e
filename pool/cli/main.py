"""The `angara` command. A mistake of the user is answered in words and exit code 2, never by a traceback."""

import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import structlog
import trio
import typer
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from pool.admin.client import NoAnswer
from pool.books.bookkeeper import BooksFailed
from pool.books.journal import JournalFailed
from pool.books.store import DATABASE_ERRORS, open_store, words_of
from pool.check import Finding, check_pool
from pool.cli.changes import app as change_app
from pool.cli.command_line import say
from pool.cli.fleet import container_app, site_app, tenant_app, worker_app
from pool.cli.money import db_app, ledger_app, rate_app
from pool.cli.orders import app as order_app
from pool.cli.payouts import app as payout_app
from pool.cli.reports import app as report_app
from pool.cli.upstreams import app as upstream_app
from pool.config import BadConfig, load_config, parse_address, parse_difficulty
from pool.data_dir import DataDirError, held
from pool.demo import DemoOptions, above, run_demo
from pool.fleet.rows import RegistryError
from pool.log_lines import LogLines, in_shape
from pool.main import Pool
from pool.regtest.server import RegtestOptions, RegtestUnavailable, serve_regtest
from pool.regtest.wallet import TEMPLATE_TXS_MAX
from pool.treasury.wallet import BadWallet
from stratum import _engine
from stratum.difficulty import BadTarget, target_from_nbits
from stratum.miners.certificate import BadCertificate
from stratum.miners.listeners import BadEndpoint

EXIT_MISTAKE = 2

app = typer.Typer(
    help="Stratum V1 mining pool and proxy for container data centres.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

for name, sub_app in (
    ("tenant", tenant_app),
    ("site", site_app),
    ("container", container_app),
    ("worker", worker_app),
    ("upstream", upstream_app),
    ("order", order_app),
    ("change", change_app),
    ("rate", rate_app),
    ("ledger", ledger_app),
    ("db", db_app),
    ("report", report_app),
    ("payout", payout_app),
):
    app.add_typer(sub_app, name=name)

# What is answered in words: a mistake of the user, or something outside that is not as it has to be.
MISTAKES = (
    BadCertificate,
    BadConfig,
    BadEndpoint,
    BadWallet,
    BooksFailed,
    DataDirError,
    JournalFailed,
    NoAnswer,
    OSError,
    RegistryError,
    RegtestUnavailable,
    *DATABASE_ERRORS,
)

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="Settings file (TOML), see the README.")]
DataDirOption = Annotated[Path, typer.Option(help="Where the chain and the found blocks are kept.")]
BitsOption = Annotated[str | None, typer.Option(help="nBits that templates offer, in hex, e.g. 1d00ffff.")]
TxsOption = Annotated[
    int, typer.Option(min=0, max=TEMPLATE_TXS_MAX, help="Transactions that every template is filled with.")
]


def main() -> None:
    """Entry point of the `angara` command."""
    try:
        app()
    except MISTAKES as error:
        say(f"angara: {_in_words(error)}", err=True)
        sys.exit(EXIT_MISTAKE)


@app.callback()
def _setup(verbose: Annotated[bool, typer.Option(help="Log debug messages too.")] = False) -> None:
    terminal = sys.stderr.isatty()
    renderer = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.LogfmtRenderer()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        processors=[
            LogLines(),
            in_shape,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
    )


@app.command()
def run(config: ConfigOption) -> None:
    """Run the pool."""

    async def pool() -> None:
        settings = load_config(config)
        with held(settings.data_dir):
            store = open_store(settings.database_url)
            try:
                await Pool(settings, store).run()
            finally:
                store.close()

    _run(pool)


@app.command()
def check(config: ConfigOption) -> None:
    """Check the settings, the addresses and every node: what is wrong, in words."""
    findings: list[Finding] = []

    async def look() -> None:
        findings.extend(await check_pool(load_config(config)))

    _run(look)
    for finding in findings:
        say(f"{'ok  ' if finding.good else 'BAD '} {finding.subject}: {finding.text}")
    if not all(finding.good for finding in findings):
        raise typer.Exit(1)


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
) -> None:
    """An embedded regtest node, the pool and a few simulated container miners, all in one."""

    async def show() -> None:
        host, port = parse_address(stratum, "--stratum")
        options = DemoOptions(
            host=host,
            port=port,
            data_dir=data_dir,
            blocks=blocks,
            fleet=fleet,
            difficulty_log2=None if difficulty is None else parse_difficulty(difficulty, "--difficulty"),
            template_txs=template_txs,
            network_bits=_parse_bits(network_bits),
        )
        console = Console()
        if console.is_terminal:  # the table has the news
            structlog.configure(
                wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
                logger_factory=structlog.PrintLoggerFactory(above(console)),
            )
        await run_demo(options, console)

    _run(show)


@app.command()
def regtest(
    listen: Annotated[str, typer.Option(help="Address for JSON-RPC, HOST:PORT.")] = "127.0.0.1:18443",
    template_txs: TxsOption = 0,
    network_bits: BitsOption = None,
    data_dir: DataDirOption = Path("angara-regtest"),
) -> None:
    """A regtest node on Bitcoin Core's consensus engine, for tests and demonstrations."""

    async def serve() -> None:
        host, port = parse_address(listen, "--listen")
        await serve_regtest(
            RegtestOptions(
                data_dir=data_dir,
                host=host,
                port=port,
                template_txs=template_txs,
                network_bits=_parse_bits(network_bits),
            )
        )

    _run(serve)


@app.command()
def version() -> None:
    """The version, and the hash backend that this machine's processor gets."""
    from importlib.metadata import version as installed

    typer.echo(f"angara {installed('angara')}, hash backend {_engine.backend}")


def _parse_bits(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        bits = int(text, 16)
        target_from_nbits(bits)
    except (ValueError, BadTarget) as error:
        raise BadConfig(f"--network-bits: {text!r} cannot be offered: {error}") from None
    return bits


def _run(job: Callable[[], Awaitable[None]]) -> None:
    """Until the job ends or a signal comes; mistakes in words."""
    mistakes: list[str] = []
    try:
        trio.run(_until_signal, job)
    except* MISTAKES as group:
        mistakes = [_in_words(error) for error in _leaves(group)]
    if mistakes:
        for mistake in mistakes:
            say(f"angara: {mistake}", err=True)
        raise typer.Exit(EXIT_MISTAKE)


async def _until_signal(job: Callable[[], Awaitable[None]]) -> None:
    async def stop_on_signal(scope: trio.CancelScope) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for number in signals:
                structlog.get_logger().info("stopping", signal=signal.Signals(number).name)
                scope.cancel()
                return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop_on_signal, nursery.cancel_scope)
        await job()
        nursery.cancel_scope.cancel()


def _in_words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:  # its text would begin with "[Errno 13]"
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if isinstance(error, SQLAlchemyError):
        return f"the database does not do its work: {words_of(error)}"
    return str(error)


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves
