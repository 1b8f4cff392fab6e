"""`angara proof stamp`: calendars of OpenTimestamps are told the hash of the newest root, and a node is asked
for the blocks that they name."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from pool.cli.bookkeeping.chains import rows_of
from pool.cli.books import Books
from pool.cli.mistakes import EXIT_WRONG
from pool.cli.options import ListForm, ShowForm, with_options
from pool.cli.output import NOTHING, Column, iso_time, say, show, tell
from pool.settings_file import BadConfig

if TYPE_CHECKING:
    from payouts.proof.stamps import Stamp
    from pool.config import PoolConfig
    from pool.treasury.chain_node import ChainNode

app = typer.Typer(no_args_is_help=True)

NO_CALENDARS: Final = (
    "the settings have no calendars in [proof], so nobody is told anything: docs/proof.md names some"
)
STAMPS: Final = (
    Column("root", "root", right=True),
    Column("day", "day"),
    Column("state", "state"),
    Column("block", "block", lambda it: NOTHING if it is None else str(it), right=True),
    Column("of", "block_utc", lambda it: it or NOTHING),
    Column("blocks deep", "confirmations", lambda it: str(it or NOTHING), right=True),
    Column("file", "file"),
)


@app.command("make")
@with_options
def make_stamps(books: Books, form: ShowForm) -> None:
    """Have the newest root stamped, and others that wait for a block.

    Do it each day, or hour. Asked are the calendars of [proof] in the settings; without any nobody is.
    """
    import trio

    settings = _settings(books)
    from pool.stamping import Calendars, Round, StampFiles, stamp_roots

    if not settings.proof_calendars:
        raise BadConfig(NO_CALENDARS)
    digests = {it["number"]: bytes.fromhex(it["hash"]) for it in rows_of(books, "roots")}
    if not digests:
        raise BadConfig("no day was closed yet: a stamp is of a root, see `angara proof roots`")
    files = StampFiles(settings.proof_stamps_dir)

    async def run() -> Round:
        calendars = Calendars(settings.proof_calendars)
        try:
            return await stamp_roots(calendars, files, digests)
        finally:
            with trio.CancelScope(shield=True):
                await calendars.aclose()

    found = trio.run(run)
    names = ", ".join(map(str, found.changed))
    trouble = [{"calendar": it.calendar, "words": it.words} for it in found.trouble]
    row = {"changed": list(found.changed), "trouble": trouble}
    tell(f"more is known of root {names}" if names else "nothing is new", row, form)
    for it in found.trouble:
        say(f"{it.calendar}: {it.words}", err=True)
    if not files.path(max(digests)).exists():
        raise typer.Exit(EXIT_WRONG)


@app.command("list")
@with_options
def list_stamps(books: Books, form: ListForm) -> None:
    """Stamps that there are, and what a node says to their blocks."""
    import trio

    settings = _settings(books)
    from pool.chain.nodes import Node
    from pool.chain.rpc import NodeError
    from pool.treasury.chain_node import PayoutNodes

    roots, rows = {it["number"]: it for it in rows_of(books, "roots")}, []

    async def run() -> None:
        nodes = [Node(it) for it in settings.nodes]
        try:
            node = await PayoutNodes(nodes, settings.network).first()
        except NodeError as error:
            node = None
            say(f"blocks are not looked up: {error}", err=True)
        try:
            rows.extend([it async for it in _told(settings.proof_stamps_dir, roots, node)])
        finally:
            with trio.CancelScope(shield=True):
                for it in nodes:
                    await it.aclose()

    trio.run(run)
    show(rows, STAMPS, form)
    if any(it["state"].startswith("WRONG") for it in rows):
        raise typer.Exit(EXIT_WRONG)


async def _told(
    directory: Path, roots: dict[int, Any], node: "ChainNode | None"
) -> AsyncIterator[dict[str, Any]]:
    from payouts.proof.stamps import BadStamp
    from pool.stamping import StampFiles

    files = StampFiles(directory)
    for number in files.numbers():
        root = roots.get(number)
        row = {"root": number, "day": root and root["day"], "hash": root and root["hash"]}
        row |= {"file": str(files.path(number)), "block": None, "block_utc": None, "confirmations": None}
        row |= {"merkle_root": None, "calendars": []}
        if root is None:
            yield row | {"state": "WRONG: there is no such root"}
            continue
        try:
            stamp = files.read(number, bytes.fromhex(root["hash"]))
        except BadStamp as error:
            yield row | {"state": f"WRONG: {error}"}
            continue
        calendars = sorted({it.calendar for it in stamp.promises})
        yield row | {"calendars": calendars} | await _looked_up(stamp, node)


async def _looked_up(stamp: "Stamp", node: "ChainNode | None") -> dict[str, Any]:
    """The earliest block of the chain that has it."""
    if not stamp.blocks:
        return {"state": "waits for a block"}
    if node is None:
        return {"state": "not looked up", "block": stamp.blocks[0].height}
    for it in stamp.blocks:
        if it.height <= node.height:
            header = await node.block_header(it.height)
            if header[36:68] == it.merkle_root:
                return {
                    "state": "in the chain",
                    "block": it.height,
                    "block_utc": iso_time(int.from_bytes(header[68:72], "little")),
                    "confirmations": node.height - it.height + 1,
                    "merkle_root": it.merkle_root[::-1].hex(),
                }
    return {"state": "WRONG: the chain has it in no block that it names", "block": stamp.blocks[0].height}


def _settings(books: Books) -> "PoolConfig":
    """Raises BadConfig."""
    from pool.cli.opened_books import settings_of
    from pool.settings_tables import STAMPS_MISSING

    settings = settings_of(books)
    try:
        import payouts.proof.stamps  # noqa: F401
    except ImportError:
        raise BadConfig(STAMPS_MISSING) from None
    return settings
