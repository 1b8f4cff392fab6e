"""`angara db`: the database's schema, copies of it, putting one back, and moving to PostgreSQL."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from pool.cli.books import Books
from pool.cli.operator import operator
from pool.cli.options import ShowForm, with_options
from pool.cli.output import Form, iso_time, moment, say, tell
from pool.cli.progress import progress
from pool.settings_file import BadConfig

app = typer.Typer(no_args_is_help=True)

BAR: Final = 1_000  # steps of it

ReplaceOption = Annotated[bool, typer.Option("--replace", help="Where there is something in its place.")]


@app.command("upgrade")
@with_options
def upgrade_schema(books: Books, form: ShowForm) -> None:
    """Bring the schema to the present version; the embedded default does it by itself."""
    from pool.books.store import upgrade
    from pool.cli.logs import set_up_logs
    from pool.cli.opened_books import place_of

    set_up_logs()
    place = place_of(books)
    if place.data_dir is not None:
        place.data_dir.mkdir(parents=True, exist_ok=True)
    with progress("upgrading the database"):
        schema = upgrade(place.url)
    tell("the database has the present schema", {"schema": schema}, form)


@app.command("backup")
@with_options
def back_up_book(
    books: Books,
    form: ShowForm,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the copy goes.")],
    replace: ReplaceOption = False,
) -> None:
    """Copy the book into one file while the pool goes on, and verify the copy.

    It is there when it is whole and proven, or not at all. A book on PostgreSQL has PostgreSQL's own tools.
    """
    from pool.cli.bookkeeping.database_copies import back_up, sqlite_file
    from pool.cli.logs import set_up_logs
    from pool.cli.opened_books import place_of

    set_up_logs()
    place = place_of(books)
    book = sqlite_file(place.url)
    with progress("copying the book", BAR) as told:
        done = back_up(book, place.data_dir, file, replace=replace, told=_bar(told))
    if done.journal_wrong is not None:
        say(f"nothing of the journal beside it is in the copy: {done.journal_wrong}", err=True)
    if not done.verified:
        say(f"not verified: its schema, {done.standing.schema}, is of an earlier Angara", err=True)
    words = f"{file} has {_in_words(done.standing)}"
    tell(
        words, _row(done.standing) | {"file": str(file), "bytes": done.bytes, "verified": done.verified}, form
    )


@app.command("restore")
@with_options
def restore_book(
    books: Books,
    form: ShowForm,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `angara db backup` wrote.")],
    replace: ReplaceOption = False,
) -> None:
    """Put a backup in the book's place, while no pool runs. What was there keeps its rows under another name.

    Nothing is paid from it until `angara payout reconcile` agreed with the chain. Without --replace and where
    there is a book: what would be lost.
    """
    from pool.cli.bookkeeping.database_copies import look, nobody_at, restore, sqlite_file
    from pool.cli.logs import set_up_logs
    from pool.cli.opened_books import place_of

    set_up_logs()
    place = place_of(books)
    book = sqlite_file(place.url)
    with nobody_at(book, place.data_dir):
        found = look(file, book, place.network)
        lost = _lost_words(found.copy, found.there)
        if lost and not replace:
            raise BadConfig(
                f"there is a book in {book}. {lost}. With --replace it is set aside under another name"
            )
        with progress("restoring the book", BAR) as told:
            done = restore(file, book, place.data_dir, operator(), _bar(told))
    if form is Form.TEXT:
        say(f"{book} has {_in_words(done.standing)}")
        if lost:
            say(lost)
        if done.set_aside is not None:
            say(f"what was there is {done.set_aside} now")
        for gap in done.missing:
            say(_missing_words(gap))
        if done.blocks:
            say(f"{done.blocks} blocks in {place.data_dir}/blocks are not in it: the next start books them")
        say(
            "Next: start the pool, which takes what its journal has; a minute later `angara payout reconcile`"
            ", before anything is paid; then what docs/operations.md says"
        )
        return
    set_aside = None if done.set_aside is None else str(done.set_aside)
    there = None if found.there is None else _row(found.there)
    row = {"book": str(book), "instead_of": there, "set_aside": set_aside, "blocks_to_book": done.blocks}
    gone = {"missing": [msgspec.to_builtins(gap) for gap in done.missing]}
    tell("", _row(done.standing) | row | gone, form)


@app.command("move")
@with_options
def move_the_book(
    books: Books,
    form: ShowForm,
    to: Annotated[str, typer.Option("--to", metavar="URL", help="postgresql://USER@HOST/NAME, empty.")],
    undo: Annotated[
        bool, typer.Option("--undo", help="Take back a move that was begun and is not there.")
    ] = False,
) -> None:
    """Move a book in SQLite to an empty PostgreSQL database, while no pool runs.

    Every row is compared, and the book proven, before it is there; what is in its place here says from then
    on that it has moved, and nobody begins with it. One that was interrupted is ended by the same command.
    """
    from pool.books.copies.moving import move_book, undo_move
    from pool.cli.bookkeeping.database_copies import nobody_at, prove_moved
    from pool.cli.logs import set_up_logs
    from pool.cli.opened_books import place_of

    set_up_logs()
    place = place_of(books)
    scheme, _, path = place.url.partition(":///")
    if scheme != "sqlite":
        raise BadConfig("the book is in PostgreSQL already: these settings are those of after the move")
    if not to.startswith(("postgresql://", "postgres://", "postgresql+psycopg://")):
        raise BadConfig("a book moves to PostgreSQL: --to postgresql://USER@HOST/NAME")
    if ":" in to.partition("://")[2].rpartition("@")[0] or "password=" in to:
        raise BadConfig(
            "that has a password, which everybody on this host can read while the command runs: leave it out,"
            " and have it in a file that PGPASSFILE names (HOST:PORT:NAME:USER:PASSWORD, for you alone)"
        )
    book = Path(path)
    if not book.is_file():
        raise BadConfig(f"there is no database {book}")
    with nobody_at(book, place.data_dir):
        if undo:
            undo_move(book, to)
            tell("the book has not moved: it is where it was", {"book": str(book)}, form)
            return
        with progress("moving the book", BAR) as told:
            done = move_book(book, to, operator(), prove_moved, _bar(told))
    rows = sum(it.count for it in done.rows.values())
    words = f"the book is in {done.place}: {done.transactions} transactions, head {done.head or 'none'}"
    if form is Form.TEXT:
        say(words if not rows else f"{words}; {rows:,} rows of {len(done.rows)} tables are the same there")
        say(f"{book} says that it has moved. Next: url of [database] in the settings, then start the pool")
        return
    tables = {name: {"rows": it.count, "digest": it.digest} for name, it in done.rows.items()}
    row = {"place": done.place, "transactions": done.transactions, "head": done.head, "tables": tables}
    tell("", row | {"book": str(book)}, form)


def _bar(told: Callable[[int], None]) -> Callable[[int, int], None]:
    return lambda done, total: told(done * BAR // max(total, 1))


def _in_words(it: Any) -> str:
    """What a pool.books.copies.backup.Standing is of, for a person."""
    network = f"a book of {it.network}" if it.network else "a book that was never started"
    head = "no transaction" if it.head is None else f"{it.transactions} transactions, head {it.head}"
    counted = "no share" if it.counted_at_s is None else f"shares until {moment(iso_time(it.counted_at_s))}"
    taken = "".join(f", the journal up to record {number:,}" for _, number in it.journals[-1:])
    return f"{network}, {head}, {counted}{taken}"


def _missing_words(gap: Any) -> str:
    """What a pool.books.copies.journals.Missing is, for a person."""
    return (
        f"{gap.accepted:,} accepted shares (records {gap.first:,} to {gap.last:,} of the journal, of"
        f" {moment(iso_time(gap.from_s))} to {moment(iso_time(gap.to_s))}) are neither in the copy nor in the"
        " journal any more: the book that was there has them"
    )


def _lost_words(copy: Any, there: Any) -> str:
    """What the book in its place has more than the copy; nothing where that one is empty."""
    if there is None:
        return "It cannot be read, so nobody can say what is in it"
    if there.empty:
        return ""
    parts = []
    for what, at_s, copied_s in (
        ("share", there.counted_at_s, copy.counted_at_s),
        ("booking", there.booked_at_s, copy.booked_at_s),
    ):
        if at_s != copied_s:
            parts.append(f"the newest {what} is of {_when(at_s)}, in the copy of {_when(copied_s)}")
    for what in ("transactions", "blocks", "batches", "changes"):
        if (more := getattr(there, what) - getattr(copy, what)) > 0:
            parts.append(f"{more} {'payout ' if what == 'batches' else ''}{what} are not in the copy")
    if there.network != copy.network:
        parts.append(f"it is of {there.network}, the copy of {copy.network}")
    return f"Of what is there {'; '.join(parts) or 'the copy has as much'}"


def _when(at_s: int | None) -> str:
    return "never" if at_s is None else moment(iso_time(at_s))


def _row(it: Any) -> dict[str, Any]:
    names = ("schema", "network", "tenants", "transactions", "head", "booked_at_s", "counted_at_s")
    row = {name: getattr(it, name) for name in (*names, "blocks", "batches", "changes")}
    return row | {"journals": [{"writer": writer, "record": number} for writer, number in it.journals]}
