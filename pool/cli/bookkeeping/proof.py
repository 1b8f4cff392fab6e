"""`angara proof`: the key that statements are signed with, and the roots that they name."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from pool.cli.books import Books
from pool.cli.options import ListForm, with_options
from pool.cli.output import Column, say, show
from pool.reports.figures import amount
from pool.settings_file import BadConfig

app = typer.Typer(no_args_is_help=True)

ROOTS: Final = (
    Column("root", "number", right=True),
    Column("day", "day"),
    Column("owed", "total_sat", amount, right=True),
    Column("hash", "hash"),
    Column("key", "key"),
)


@app.command("key")
def proof_key(file: Annotated[Path, typer.Argument(help="New file, 0600: key_file of [proof].")]) -> None:
    """Make the key that statements are signed with, and print its public key, which clients have to know."""
    from payouts.proof.key import NoSigning
    from pool.proof_key import make_proof_key

    try:
        key = make_proof_key(file)
    except (OSError, NoSigning) as error:
        raise BadConfig(f"{file}: {getattr(error, 'strerror', None) or error}") from None
    say(key.public.hex())
    say(f"{file} is the key: name it as key_file of [proof], and tell clients the line above", err=True)


@app.command("roots")
@with_options
def proof_roots(
    books: Books,
    form: ListForm,
    first: Annotated[int, typer.Option(min=1, help="From this root on.")] = 1,
) -> None:
    """What was owed to all tenants at the end of each day. Publish it: `angara proof roots --json`."""
    found: list[Any] = []
    following: int | None = first
    while following is not None:
        answer = books.ask("proof.roots", first=following)
        found += answer["roots"]
        following = answer["next"]
    show(found, ROOTS, form)
