"""The `angara` command as a tree: its groups are read when one of their commands is wanted, and what goes
wrong in any of them is answered in one place.

Must not know: what a command does.
"""

import sys
from importlib import import_module
from typing import Any, Final

import typer
import typer.main

from pool.cli.mistakes import EXIT_MISTAKE, exit_code, in_words, output_failed
from pool.cli.standard_streams import OutputFailed, give_output_up
from pool.cli.whole_help import WholeHelp

# A group's file has its `app`. In the order of `angara --help`, after the commands that are no group's.
GROUPS: Final = {
    "tenant": ("pool.cli.fleet.tenants", "Custody clients: who they are, how and where they are paid."),
    "site": ("pool.cli.fleet.sites", "Places where containers stand."),
    "container": ("pool.cli.fleet.containers", "Containers and their nameplates."),
    "worker": ("pool.cli.fleet.workers", "Machines as the pool knows them."),
    "reject": ("pool.cli.fleet.rejects", "What became of shares, on the way from machine to upstream."),
    "firmware": ("pool.cli.fleet.firmware", "What each firmware was seen to do."),
    "upstream": ("pool.cli.routing.upstreams", "Other pools to mine on: proxy and orders."),
    "order": ("pool.cli.routing.orders", "Hashrate orders: computing power that is sold."),
    "power": ("pool.cli.power.commands", "What machines draw, and who has them draw less."),
    "edge": ("pool.cli.service.edges", "Pools at other sites, whose books are kept here."),
    "nats": ("pool.cli.service.nats", "Keys of edges and hubs, and the NATS servers between them."),
    "sv2": ("pool.cli.service.sv2", "The key that machines of Stratum V2 know the pool by."),
    "block": ("pool.cli.bookkeeping.blocks", "Blocks that were found."),
    "user": ("pool.cli.people.users", "Who may ask for what, in which role."),
    "token": ("pool.cli.people.tokens", "What programs show to be let in as a user."),
    "request": ("pool.cli.people.requests", "Changes that wait for a second person."),
    "message": ("pool.cli.service.messages", "What is told, to whom, and what is not for a while."),
    "change": ("pool.cli.people.changes", "Who changed what."),
    "rate": ("pool.cli.bookkeeping.rates", "The price of work."),
    "ledger": ("pool.cli.bookkeeping.ledger", "The double-entry book."),
    "proof": ("pool.cli.bookkeeping.proof", "What clients check without trusting the pool."),
    "config": ("pool.cli.service.settings", "The settings."),
    "db": ("pool.cli.bookkeeping.database", "The database."),
    "report": ("pool.cli.reports.commands", "Statements and reports, from a pool's database."),
    "payout": ("pool.cli.payouts.commands", "Payout batches: one payment on the chain to many tenants."),
}
RUN_ON: Final = {"run", "demo", "regtest", "hub", "edge"}


class Group(WholeHelp):
    """One whose help is known before its file is read."""

    def __init__(self, name: str, module: str, help_words: str) -> None:
        super().__init__(name=name, help=help_words, no_args_is_help=True, rich_markup_mode=None)
        self._module = module

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        self._read()
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: Any) -> list[str]:
        self._read()
        return super().list_commands(ctx)

    def get_params(self, ctx: Any) -> Any:
        self._read()
        return super().get_params(ctx)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        self._read()
        return super().parse_args(ctx, args)

    def _read(self) -> None:
        if not self.commands:
            app: typer.Typer = import_module(self._module).app
            app.rich_markup_mode = None  # half a second of imports, for boxes around the help
            read = typer.main.get_group(app)
            self.commands, self.params, self.callback = read.commands, read.params, read.callback
            self.invoke_without_command = read.invoke_without_command


class Angara(WholeHelp):
    """All of it."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, (module, help_words) in GROUPS.items():
            self.add_command(Group(name, module, help_words), name)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Every word that was typed comes by here. One that is no text, such as bytes of another encoding, is
        no name and no path of ours: neither a database nor JSON takes it."""
        for argument in args:
            if any("\ud800" <= character <= "\udfff" for character in argument):
                typer.echo(f"angara: {argument!a} is no text: give it in UTF-8", err=True)
                raise typer.Exit(EXIT_MISTAKE)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            code = _told(error, runs_on=ctx.invoked_subcommand in RUN_ON)
            if code is None:
                raise
            raise typer.Exit(code) from None

    def main(self, *arguments: Any, **settings: Any) -> Any:
        """Help and completion are written where no command is invoked, and what is left at the end."""
        try:
            try:
                return super().main(*arguments, **settings)
            finally:
                sys.stdout.flush()
        except OutputFailed as error:
            sys.exit(_told(error, runs_on=False))


def _told(error: Exception, *, runs_on: bool) -> int | None:
    """What the process ends with, when it has been said; None for a bug, of which nothing is."""
    code = exit_code(error, runs_on=runs_on)
    if code is not None:
        if output_failed(error):
            give_output_up()
        for line in in_words(error):
            typer.echo(line, err=True)
    return code
