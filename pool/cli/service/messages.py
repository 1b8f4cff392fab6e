"""`angara message`: what is wrong, what is silenced, and whether messages arrive."""

import re
import time
from typing import Annotated, Any, Final

import typer

from pool.cli.books import Books
from pool.cli.mistakes import EXIT_WRONG
from pool.cli.options import ListForm, ShowForm, with_options
from pool.cli.output import Column, Form, moment, print_json, say, show, show_one
from pool.settings_file import BadConfig

app = typer.Typer(no_args_is_help=True)

MESSAGES: Final = (
    Column("what", "kind"),
    Column("subject", "subject"),
    Column("since", "since_at", moment),
    Column("until", "until_at", moment),
    Column("by", "by"),
    Column("words", "words"),
)
SILENCED: Final = (
    Column("silenced", "subject"),
    Column("until", "until_at", moment),
    Column("by", "by"),
    Column("reason", "reason"),
)
DURATION: Final = re.compile(r"(\d{1,6})([smhd])")
UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@app.command("list")
@with_options
def list_all(books: Books, form: ListForm) -> None:
    """What is silenced, and what the running pool finds wrong."""
    show(books.ask("message.list"), MESSAGES, form)


@app.command("silence")
@with_options
def silence(
    books: Books,
    form: ShowForm,
    subject: Annotated[str, typer.Argument(help="container/TENANT.NAME, site/NAME, node/NAME, or all.")],
    lasts: Annotated[str, typer.Option("--for", help="How long: 90m, 2h, 3d; 0s ends it.")],
    reason: Annotated[str, typer.Option(help="Why; everybody is told.")],
) -> None:
    """Let nothing be told of something for a while. What is still so afterwards is told then."""
    found = DURATION.fullmatch(lasts)
    if found is None:
        raise BadConfig(f"--for: {lasts!r:.40} is not a time like 90m, 2h or 3d")
    for_s = int(found[1]) * UNITS_S[found[2]]
    show_one(books.ask("message.silence", subject=subject, for_s=for_s, reason=reason), SILENCED, form)


@app.command("test")
@with_options
def test(books: Books, form: ShowForm) -> None:
    """Send a message to everybody who is told, and say what each answered. A pool need not run."""
    answers = Books(books.config, books.data_dir, books.database, _sent_alone).ask("message.test")
    if form is Form.JSON:
        print_json(answers)
    elif not answers:
        say("nobody is told: the settings of the pool that runs have no [messages]")
    else:
        for it in answers:
            say(f"{'ok  ' if it['sent'] else 'BAD '} {it['receiver']}: {it['words']}")
    if not answers or not all(it["sent"] for it in answers):
        raise typer.Exit(EXIT_WRONG)


def _sent_alone(books: Books, command: str, body: bytes) -> Any:
    """By the settings, where no pool runs."""
    import msgspec
    import trio

    from pool.cli.opened_books import settings_of
    from pool.messages.messenger import receivers_of, trial
    from pool.messages.outbox import Outbox

    settings = settings_of(books).messages
    if settings is None:
        raise BadConfig("messages: nobody is told: the settings have no [messages]")
    outbox = Outbox(receivers_of(settings))
    return msgspec.to_builtins(trio.run(outbox.send_now, trial(time.time)))
