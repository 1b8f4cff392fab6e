"""`angara power read` and `reduce`: what machines say of themselves, and one that draws less for a while."""

from typing import Annotated, Any, Final

import typer

from pool.cli.books import Books
from pool.cli.live_columns import of_hps
from pool.cli.options import GuardedBooks, ListForm, ShowForm, with_options
from pool.cli.output import Column, Form, moment, print_json, say, show, show_one, yes_or_no
from pool.cli.power.figures import time_of, watts_of
from pool.settings_file import BadConfig

FULL: Final = "full"
SAYS: Final = (
    Column("machine", "machine"),
    Column("answer", "answer_words"),
    Column("says it mines", "says_mines", yes_or_no),
    Column("says it does", "says_hps", of_hps, right=True),
    Column("says it draws", "says_watts", watts_of, right=True),
    Column("says it keeps to", "says_limit", watts_of, right=True),
    Column("hottest", "says_c", lambda it: f"{it} °C", right=True),
    Column("mode", "says_mode"),
    Column("mines", "mining", yes_or_no),
    Column("does", "work_hps", of_hps, right=True),
    Column("draws by work", "work_watts", watts_of, right=True),
)
REDUCED: Final = (
    Column("machine", "machine"),
    Column("told to draw", "told_words"),
    Column("until", "until", moment),
    Column("answer", "answer_words"),
    *SAYS[2:8],
    Column("did before", "before_hps", of_hps),
    Column("drew before, by work", "before_watts", watts_of),
)
WORDS: Final = {
    "said_yes": "yes",
    "refused": "no",
    "unsupported": "its firmware cannot",
    "unreached": "not reached",
    "unknown": "none: it may have been done",
    "dry_run": "none: nothing was sent",
}
NO_PROOF: Final = (
    "What a machine says is no proof: `angara power held` has what it does, by its accepted work."
)


@with_options
def read(
    books: Books,
    form: ListForm,
    machines: Annotated[list[str], typer.Argument(help="TENANT.CONTAINER.UNIT, up to a hundred of them.")],
) -> None:
    """What machines say of themselves, which nobody believes, beside what their accepted work says."""
    show([_flat(it) for it in books.ask("power.read", machines=machines)], SAYS, form)


@with_options
def reduce(
    books: GuardedBooks,
    form: ShowForm,
    machine: Annotated[str, typer.Argument(help="TENANT.CONTAINER.UNIT.")],
    watts: Annotated[str, typer.Option(help="What it may draw; `full`: all of it again.")],
    until: Annotated[
        str | None, typer.Option(help="When it ends by itself; almost a day later without.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would be told, and send nothing.")
    ] = False,
) -> None:
    """Have a machine draw less for a while. It ends by itself, whoever is away then."""
    it = books.ask(
        "power.reduce",
        machine=machine,
        watts=None if watts == FULL else _watts(watts),
        until_s=time_of(until, "--until"),
        dry_run=dry_run,
    )
    if form is Form.JSON:
        print_json(it)
        return
    limit = "all of its power" if it["watts"] is None else f"{watts_of(it['watts'])}, {it['percent']} %"
    show_one(_flat(it) | {"told_words": limit}, REDUCED)
    say(NO_PROOF)


def _watts(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 6:
        raise BadConfig(f"--watts: {text!r:.20} is not a number of watts, nor `{FULL}`")
    return int(text)


def _flat(it: dict[str, Any]) -> dict[str, Any]:
    """With what the machine says as columns."""
    says = it["says"] or {}
    words = WORDS[it["answer"]]
    return it | {
        "answer_words": f"{words}: {it['words']}" if it["words"] else words,
        "says_mines": says.get("mines"),
        "says_hps": says.get("hashrate_hps"),
        "says_watts": says.get("watts"),
        "says_limit": says.get("limit_watts"),
        "says_c": says.get("temperature_c"),
        "says_mode": says.get("state") or None,
    }
