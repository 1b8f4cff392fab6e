"""`angara reconcile`: journals, what is here of them, and the books, by hash and by count.

Must not know: what is compared how.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import typer
from sqlalchemy import Connection

from payouts.audit.finding import Found, Wrong
from pool.books.audit.compared_hours import Side
from pool.books.audit.exported_journals import exported, journals_in, read_export
from pool.books.audit.hours_of_money import HoursOfMoney, hours_of_money
from pool.books.audit.journal import check_digests
from pool.books.audit.journal_files import JournalHere
from pool.books.audit.reconcile import Compared, State, reconcile
from pool.cli.books import Books
from pool.cli.logs import set_up_logs
from pool.cli.mistakes import EXIT_WRONG
from pool.cli.opened_books import opened_to_read, place_of
from pool.cli.output import Column, Form, iso_time, moment, print_json, say, show
from pool.cli.progress import progress
from pool.reports.figures import grouped
from pool.settings_file import BadConfig
from stratum.unreadable import NOT_READ

OWN: Final = "the pool's own"
WRITER_SHOWN: Final = 8  # characters of a journal's name, which who knows it can write records into
JOURNALS: Final = (
    Column("edge", "edge"),
    Column("journal", "journal"),
    Column("of", "side"),
    Column("from record", "first", grouped, right=True),
    Column("to", "last", grouped, right=True),
    Column("booked", "booked", grouped, right=True),
    Column("waiting", "waiting", grouped, right=True),
    Column("hours", "hours", grouped, right=True),
    Column("state", "state"),
)
HOURS: Final = (
    Column("edge", "edge"),
    Column("journal", "journal"),
    Column("of", "side"),
    Column("hour", "from", moment),
    Column("records", "records_here", grouped, right=True),
    Column("booked", "records", grouped, right=True),
    Column("accepted", "accepted_here", grouped, right=True),
    Column("booked", "accepted", grouped, right=True),
    Column("last record", "last", grouped, right=True),
    Column("its hash", "digest"),
    Column("state", "state"),
)
EXPORTED: Final = (
    Column("journal", "journal"),
    Column("hour", "from", moment),
    Column("from record", "first", grouped, right=True),
    Column("to", "last", grouped, right=True),
    Column("records", "records", grouped, right=True),
    Column("accepted", "accepted", grouped, right=True),
    Column("hash of the last", "digest"),
)


def tell_journals(directory: Path, form: Form) -> None:
    """What a journal's own files have. Exit code 1 where one is damaged."""
    set_up_logs()
    with progress("reading the journal"):
        found = journals_in(directory)
    if not found:
        raise BadConfig(f"there is no journal in {directory}")
    said = exported(found)
    if form is Form.JSON:
        print_json(said)
    else:
        rows = [_short(it) | hour for it in said["journals"] for hour in it["hours"]]
        show(rows, EXPORTED)
    wrong = [it for it in found if it.damage is not None]
    for it in wrong:
        assert it.damage is not None
        say(f"WRONG journal {_short_name(it.writer)} record {it.damage.number}: {it.damage.words}", err=True)
    if wrong:
        raise typer.Exit(EXIT_WRONG)


def tell_differences(books: Books, files: Iterable[Path], hours: bool, form: Form) -> None:
    """Of the books and all that is here, and of what edges say. Exit code 1 where there is a difference."""
    said = [it for path in files for it in _read_export(path)]
    with opened_to_read(books) as store:
        with store.read() as connection:
            _check_digests(connection, form)
        with progress("comparing journals with the books"):
            found = list(reconcile(store, place_of(books).data_dir, said))
        with store.read() as connection:
            money = hours_of_money(connection)
    ok = money.difference is None and money.wrong is None
    ok = ok and not any(it.state is State.DIFFERENT for it in found)
    if form is Form.JSON:
        print_json({"ok": ok, "journals": [_json(it) for it in found], "money": _money(money)})
    else:
        _tell(found, money, hours)
    if not ok:
        raise typer.Exit(EXIT_WRONG)


def _check_digests(connection: Connection, form: Form) -> None:
    """Nothing else of such books can be read."""
    try:
        check_digests(connection)
    except Found as found:
        if form is Form.JSON:
            print_json({"ok": False, "wrong": msgspec.to_builtins(found.wrong)})
        else:
            _say_wrong(found.wrong)
        raise typer.Exit(EXIT_WRONG) from None


def _read_export(path: Path) -> list[JournalHere]:
    try:
        return read_export(path)
    except NOT_READ as error:
        raise BadConfig(f"{path} is not what `angara reconcile --journal` says: {error}") from None


def _tell(found: list[Compared], money: HoursOfMoney, hours: bool) -> None:
    if hours:
        show((_row(it) | _hour(hour) for it in found for hour in it.hours), HOURS)
    else:
        show([_row(it) for it in found], JOURNALS)
    for it in found:
        for words in _words(it):
            say(f"{_who(it)}: {words}")
    if money.made or money.booked:
        say(
            f"{grouped(money.made)} accepted shares are in the hours of journals, and"
            f" {grouped(money.booked)} in those that are paid for"
        )
    for shares, words in (
        (money.before, "were booked before hours were noted"),
        (money.under_way, "are of records that are being booked"),
        (money.late, "came late, and are booked in a later hour"),
        (money.refused, "are refused: another one credited them before"),
    ):
        if shares:
            say(f"{grouped(shares)} of them {words}")
    for it in found:
        if it.difference is not None:
            place = f"record {it.difference.number}"
            if it.difference.hour is not None:
                place = f"hour {_of(it.difference.hour)} {place}"
            say(f"WRONG {_who(it)} {place}: {it.difference.words}")
    if money.wrong is not None:
        _say_wrong(money.wrong)
    if money.difference is not None:
        say(f"WRONG rate_hours hour {_of(money.difference.hour)}: {money.difference.words}")


def _say_wrong(it: Wrong) -> None:
    say(f"WRONG {it.table} {it.row}: {it.reason}")


def _words(it: Compared) -> Iterator[str]:
    """What is not here, what waits, what is held and why."""
    if it.state is State.GONE:
        yield f"nothing of it is here any more; the books have records 1 to {grouped(it.booked)}"
    elif it.first > 1:
        yield f"records 1 to {grouped(it.first - 1)} are not here any more"
    if it.first and it.last < it.booked:
        yield f"records {grouped(it.last + 1)} to {grouped(it.booked)} are not here, and the books have them"
    if it.waiting:
        shares = f"{grouped(it.waiting)} records with {grouped(it.waiting_accepted)} accepted shares"
        since = next((hour for hour in it.hours if hour.last > it.booked), None)
        first = "" if since is None else f", the first of {_of(since.hour)}"
        yield f"{shares} wait for the books{first}"
    if it.over and it.side is not Side.EDGE:
        yield "it is over: nothing more of it comes"
    if it.held is not None:
        yield f"held: {it.held}"


def _who(it: Compared) -> str:
    whose = OWN if it.edge is None else f"edge {it.edge}"
    return f"{whose} {_short_name(it.writer)} ({it.side})"


def _row(it: Compared) -> dict[str, Any]:
    return {
        "edge": it.edge,
        "journal": _short_name(it.writer),
        "side": str(it.side),
        "first": it.first,
        "last": it.last,
        "booked": it.booked,
        "waiting": it.waiting,
        "hours": len(it.hours),
        "state": str(it.state),
    }


def _hour(it: Any) -> dict[str, Any]:
    """Of a pool.books.audit.reconcile.HourCompared."""
    row: dict[str, Any] = msgspec.structs.asdict(it)
    return row | {"from_s": it.hour * 3600, "state": str(it.state)}


def _json(it: Compared) -> dict[str, Any]:
    row = _row(it) | {
        "writer": it.writer,
        "waiting_accepted": it.waiting_accepted,
        "over": it.over,
        "held": it.held,
        "difference": None,
        "hours": [_hour(hour) for hour in it.hours],
    }
    del row["journal"]
    if it.difference is not None:
        at = {} if it.difference.hour is None else {"from_s": it.difference.hour * 3600}
        row["difference"] = at | {"record": it.difference.number, "words": it.difference.words}
    return row


def _money(it: HoursOfMoney) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(it)
    if it.difference is not None:
        row["difference"] = {"from_s": it.difference.hour * 3600, "words": it.difference.words}
    return row


def _short(it: dict[str, Any]) -> dict[str, Any]:
    return {"journal": _short_name(it["writer"])}


def _short_name(writer: str) -> str:
    return writer[:WRITER_SHOWN]


def _of(hour: int) -> str:
    return moment(iso_time(hour * 3600))
