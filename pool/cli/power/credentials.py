"""`angara power credential`: passwords of machines. They are sealed here, with the key of the settings,
before anybody is told: neither the pool's socket nor its books see one.
"""

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from pool.cli.books import Books
from pool.cli.options import GuardedBooks, ListForm, ShowForm, with_options
from pool.cli.output import Column, moment, say, show, show_one
from pool.cli.whole_help import WholeHelp
from pool.settings_file import BadConfig

app = typer.Typer(cls=WholeHelp, no_args_is_help=True)

FILE_BYTES_MAX: Final = 1_000

FirmwareOption = Annotated[str, typer.Option(help="antminer, whatsminer or vnish: others want none.")]
SiteOption = Annotated[str | None, typer.Option(help="Of machines at this site alone.")]
ContainerOption = Annotated[str | None, typer.Option(help="Of TENANT.CONTAINER alone.")]

CREDENTIALS: Final = (
    Column("firmware", "firmware"),
    Column("for", "scope", lambda it: it or "all of them"),
    Column("set", "set_at", moment),
    Column("by", "set_by"),
)


@app.command("key")
def key(file: Annotated[Path, typer.Argument(help="New file, 0600: key_file of [power].")]) -> None:
    """Make the key that passwords are sealed with. It is in no backup of the books: keep a copy apart."""
    from pool.power.control.passwords import make_key

    try:
        make_key(file)
    except OSError as error:
        raise BadConfig(f"{file}: {error.strerror}") from None
    say(f"{file} is the key: name it as key_file of [power], here and at edges whose machines it is for")


@app.command("set")
@with_options
def set_one(
    books: GuardedBooks,
    form: ShowForm,
    firmware: FirmwareOption,
    user: Annotated[str, typer.Option(help="Antminers have root; others ask for none.")] = "root",
    site: SiteOption = None,
    container: ContainerOption = None,
    password_file: Annotated[
        Path | None, typer.Option(help="A file with the password; it is asked for without.")
    ] = None,
) -> None:
    """Set what machines of a firmware are shown, sealed with the key of the settings."""
    from pool.config import tables_in
    from pool.power.control.contract import Firmware
    from pool.power.control.firmware import Credential
    from pool.power.control.passwords import read_keys
    from pool.settings_file import path_in

    if books.config is None:
        raise BadConfig("the key is in the settings: give them with --config")
    table = tables_in(books.config).power
    if table is None or table.key_file is None:
        raise BadConfig("power.key_file: passwords are sealed with a key: `angara power credential key FILE`")
    keys = read_keys(path_in(books.config.parent, table.key_file, "power.key_file"))
    scope = _scope(site, container)
    try:
        of = Firmware(firmware)
        sealed = keys.seal(of, scope, Credential(user, _password(password_file)))
    except ValueError as error:
        raise BadConfig(str(error)) from None
    it = books.ask("credential.set", firmware=of.value, scope=scope, sealed=sealed.text)
    show_one(it, CREDENTIALS, form)


@app.command("list")
@with_options
def list_all(books: Books, form: ListForm) -> None:
    """For whom there are passwords. They are shown to nobody."""
    show(books.ask("credential.list"), CREDENTIALS, form)


@app.command("remove")
@with_options
def remove(
    books: GuardedBooks,
    form: ShowForm,
    firmware: FirmwareOption,
    site: SiteOption = None,
    container: ContainerOption = None,
) -> None:
    """Have one no more."""
    it = books.ask("credential.remove", firmware=firmware, scope=_scope(site, container))
    show_one(it, CREDENTIALS, form)


def _scope(site: str | None, container: str | None) -> str:
    if site is not None and container is not None:
        raise BadConfig("give --site or --container, not both")
    if site is not None:
        return f"site:{site}"
    return "" if container is None else f"container:{container}"


def _password(file: Path | None) -> str:
    """Never from the command line, which every process of the host can read."""
    if file is None:
        if not sys.stdin.isatty():
            raise BadConfig("give the password in a file: --password-file")
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    try:
        with file.open(encoding="utf-8") as opened:
            return opened.read(FILE_BYTES_MAX).strip("\r\n")
    except (OSError, UnicodeDecodeError):
        raise BadConfig(f"cannot read the password in {file}") from None
