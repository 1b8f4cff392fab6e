"""`angara proof`: the key that is signed with, the roots and closings that are published, shares, and the
coins that sign for a root.

A published list has the changes of the key among its rows, where they stand in the chain.
"""

import base64
import re
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pool.cli.bookkeeping import stamps
from pool.cli.bookkeeping.chains import rows_of
from pool.cli.books import Books
from pool.cli.options import ListForm, ShowForm, SignedBooks, with_options
from pool.cli.output import Column, Form, print_json, say, show, tell, write_out
from pool.reports.figures import amount
from pool.settings_file import BadConfig

if TYPE_CHECKING:
    from payouts.proof.key import ProofKey

app = typer.Typer(no_args_is_help=True)
reserve_app = typer.Typer(no_args_is_help=True)
app.add_typer(reserve_app, name="reserve", help="The payout wallet's coins, which sign for a root (BIP-322).")
app.add_typer(stamps.app, name="stamp", help="When a root was there at the latest (OpenTimestamps).")

HOUR: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}")
HASH: Final = re.compile(r"[0-9a-f]{64}")
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
KEYS: Final = (
    Column("change", "change", right=True),
    Column("at", "at_utc"),
    Column("key", "key"),
    Column("former key", "former"),
    Column("former signed it", "lost", lambda it: "NO" if it else "yes"),
)

RESERVES: Final = (
    Column("reserve", "reserve", right=True),
    Column("root", "root", right=True),
    Column("day", "day"),
    Column("owed", "owed_sat", amount, right=True),
    Column("coins", "coins", right=True),
    Column("worth", "total_sat", amount, right=True),
    Column("block", "block_height", right=True),
    Column("by", "made_by"),
    Column("hash", "hash"),
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
    show(_all_of(books, "roots", "root", first, form), ROOTS, form)


@app.command("closings")
@with_options
def proof_closings(
    books: Books,
    form: ListForm,
    first: Annotated[int, typer.Option(min=1, help="From this closing on.")] = 1,
) -> None:
    """What was settled, with the roots of its shares. Publish it: `angara proof closings --json`."""
    show(_all_of(books, "closings", "closing", first, form), CLOSINGS, form)


@app.command("keys")
@with_options
def proof_keys(books: Books, form: ListForm) -> None:
    """Changes of the key that is signed with. They are in the published lists of roots and closings, too."""
    show(books.ask("proof.keys")["changes"], KEYS, form)


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
    if not HOUR.fullmatch(hour):
        raise BadConfig(f"{hour!r:.40} is not an hour, like 2026-09-01T06")
    if share is not None and not HASH.fullmatch(share):
        raise BadConfig(f"--share: {share!r:.80} is not a hash, 64 small hex digits")
    answer = books.ask("proof.shares", hour=hour, tenant=tenant, share=share)
    write_out(answer["content"].encode(), out)


DescriptorsOption = Annotated[
    list[str] | None,
    typer.Option("--descriptor", help="Of a wallet beside that of payouts, with <0;1>; several."),
]


@reserve_app.command("export")
@with_options
def export_reserve(
    books: SignedBooks,
    form: ShowForm,
    out: Annotated[Path, typer.Option(help="New file for the signer: a PSBT, which moves nothing.")],
    most: Annotated[int, typer.Option(min=1, max=1_000, help="Of so many coins, the largest.")] = 1_000,
    descriptors: DescriptorsOption = None,
) -> None:
    """Write what coins are to sign for the newest root.

    Nothing that they sign can be spent.
    """
    from pool.cli.opened_paymaster import on_paymaster, wallets_of

    key, others = _key(books), wallets_of(books, descriptors or ())
    found = on_paymaster(books, lambda it, _: it.reserves.export(key.public, most, others))
    write_out(base64.b64encode(found.psbt) + b"\n", out)
    if form is Form.JSON:
        facts = ("message", "address", "coins", "total_sat", "owed_sat", "left_out")
        print_json({"file": str(out)} | {name: getattr(found, name) for name in facts})
        return
    say(f"{found.coins} coins of {amount(found.total_sat)}; {amount(found.owed_sat)} are owed to all")
    if found.left_out:
        say(f"{found.left_out} coins are left out: fewer than six blocks deep, or smaller")
    say(f"The signer shows, for {found.address}:")
    say(found.message)
    say("Where a signer does not know BIP-322, look at the first input before you sign: see docs/proof.md")
    say(f"{out} is for the signer. Next: `angara proof reserve import {out} SIGNED`", err=True)


@reserve_app.command("import")
@with_options
def import_reserve(
    books: SignedBooks,
    form: ShowForm,
    files: Annotated[
        list[Path],
        typer.Argument(help="What signers returned; and what they were given, if it is needed."),
    ],
    descriptors: DescriptorsOption = None,
) -> None:
    """Take back what was signed, and note the reserve.

    Every signature and every coin is checked, with the node and as an auditor will.
    """
    from payouts.batches.psbt import TEXT_BYTES_MAX
    from pool.cli.opened_paymaster import on_paymaster, wallets_of
    from pool.treasury.reserves import FILES_MAX

    if len(files) > FILES_MAX:
        raise BadConfig(f"{len(files)} files are more than {FILES_MAX}")
    key, others, given = _key(books), wallets_of(books, descriptors or ()), []
    for file in files:
        with file.open("rb") as source:
            given.append(source.read(TEXT_BYTES_MAX + 1))
    taken = on_paymaster(books, lambda it, by: it.reserves.receive(given, key, by, others))
    of = taken.reserve
    short = of.root.total_sat - of.total_sat
    words = f"reserve {of.number}, of root {of.root.number}: {len(of.coins)} coins of {amount(of.total_sat)}"
    row = {
        "reserve": of.number,
        "root": of.root.number,
        "total_sat": of.total_sat,
        "owed_sat": of.root.total_sat,
        "fresh": taken.fresh,
    }
    tell(words if taken.fresh else f"{words}; it was brought in before, nothing is changed", row, form)
    if short > 0:
        say(f"that is {amount(short)} less than is owed to all: `angara verify` will call it wrong", err=True)


@reserve_app.command("list")
@with_options
def list_reserves(
    books: Books,
    form: ListForm,
    first: Annotated[int, typer.Option(min=1, help="From this reserve on.")] = 1,
) -> None:
    """Reserves that were signed for."""
    show(rows_of(books, "reserves", first), RESERVES, form)


@reserve_app.command("show")
@with_options
def show_reserve(
    books: Books,
    number: Annotated[int, typer.Argument(min=1, help="Its number.")],
    pof: Annotated[
        bool,
        typer.Option("--pof", help="Message and proof as other programs take them (BIP-322)."),
    ] = False,
    out: Annotated[Path | None, typer.Option(help="New file; standard output without it.")] = None,
) -> None:
    """One of them, for `angara verify`. Publish it beside its root."""
    answer = books.ask("proof.reserve", reserve=number)
    content = f"{answer['message']}\n{answer['signature']}\n" if pof else answer["content"]
    write_out(content.encode(), out)


def _key(books: Books) -> "ProofKey":
    """Raises BadConfig."""
    from pool.cli.opened_books import proof_key_of, settings_of

    settings_of(books)  # in its words, where there are none
    key = proof_key_of(books)
    if key is None:
        raise BadConfig("the settings have no [proof]: a reserve is signed with its key_file")
    return key


def _all_of(books: Books, what: str, one: str, first: int, form: Form) -> list[Any]:
    """Rows from that one on; in what programs read, changes of the key stand among them."""
    changes = books.ask("proof.keys")["changes"] if form is Form.JSON else []
    return with_changes(rows_of(books, what, first), changes, one, first)


def with_changes(found: list[Any], changes: list[Any], one: str, first: int = 1) -> list[Any]:
    """Rows of a chain, each a `one`, from that number on, with the changes that stand among them."""
    among = [((it["number"], 0), it) for it in found]
    among += [((it[one], it["change"]), it) for it in changes if it[one] >= first - 1]
    return [it for _, it in sorted(among, key=itemgetter(0))]
