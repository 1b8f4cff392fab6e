"""`angara proof`: the key that is signed with, the roots and closings that are published, and shares."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from pool.cli.books import Books
from pool.cli.options import ListForm, with_options
from pool.cli.output import Column, say, show, write_out
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
CLOSINGS: Final = (
    Column("closing", "number", right=True),
    Column("settlements from", "first_settlement", right=True),
    Column("to", "last_settlement", right=True),
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
    show(_all_of(books, "roots", first), ROOTS, form)


@app.command("closings")
@with_options
def proof_closings(
    books: Books,
    form: ListForm,
    first: Annotated[int, typer.Option(min=1, help="From this closing on.")] = 1,
) -> None:
    """What was settled, with the roots of its shares. Publish it: `angara proof closings --json`."""
    show(_all_of(books, "closings", first), CLOSINGS, form)


@app.command("shares")
@with_options
def proof_shares(
    books: Books,
    hour: Annotated[str, typer.Argument(help="Of that hour, UTC: 2026-09-01T06.")],
    tenant: Annotated[str | None, typer.Option(help="Whose; a tenant's own user need not say.")] = None,
    share: Annotated[
        str | None, typer.Option(metavar="HASH", help="One share alone, with its way to the root.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="New file; standard output without it.")] = None,
) -> None:
    """A tenant's shares of an hour, those that are kept, for `angara verify`."""
    answer = books.ask("proof.shares", hour=hour, tenant=tenant, share=share)
    write_out(answer["content"].encode(), out)


def _all_of(books: Books, what: str, first: int) -> list[Any]:
    found: list[Any] = []
    following: int | None = first
    while following is not None:
        answer = books.ask(f"proof.{what}", first=following)
        found += answer[what]
        following = answer["next"]
    return found
