"""What `angara drain` does: gives the command, and waits until everybody has left.

Must not know: how a pool lets miners go.
"""

import time
from typing import Final

from pool.cli.books import Books
from pool.cli.output import Form, print_json, say
from pool.cli.progress import progress

LOOK_S: Final = 1.0


def drain(books: Books, over_s: int, edge: str | None, form: Form) -> None:
    """Until the last connection is gone, or somebody let miners in again. Ended before, the drain goes on."""
    status = books.ask("drain.begin", over_s=over_s, edge=edge)
    if form is Form.TEXT:
        ends = "angara drain --resume" if edge is None else f"angara drain --edge {edge} --resume"
        say(f"{status['left']} connections are let go within {over_s} s; `{ends}` ends it")
    with progress("letting miners go", status["of"]) as told:
        while status["draining"] and status["left"]:
            time.sleep(LOOK_S)
            status = books.ask("drain.show", edge=edge)
            told(max(0, status["of"] - status["left"]))
    _tell(status, form)


def resume(books: Books, edge: str | None, form: Form) -> None:
    _tell(books.ask("drain.end", edge=edge), form)


def _tell(status: dict[str, int], form: Form) -> None:
    if form is Form.JSON:
        print_json(status)
    elif status["draining"]:
        say("nobody is connected, and nobody is let in: stop the pool, or let miners in with --resume")
    else:
        say(f"miners are let in, {status['left']} are connected")
