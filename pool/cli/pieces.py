"""A table that is more than one command: in pieces, as long as none of them has to wait for a second person.

A piece that waits is a request of its own, and the second of them is refused once the first is carried out:
what it was asked for is another by then. So a table that is several requests is none.

Must not know: what is in it.
"""

from collections.abc import Sequence
from typing import Any

from pool.cli.books import Books
from pool.requests.made import RequestMade
from pool.settings_file import BadConfig


def ask_in_pieces(
    books: Books, command: str, field: str, rows: Sequence[Any], at_once: int, hint: str = "", **params: Any
) -> list[Any]:
    """The answers. Raises RequestMade where all of it is one request, and BadConfig, with nothing asked for,
    where it would be several; `hint` is what makes the table shorter."""
    answers = []
    for at in range(0, len(rows), at_once):
        piece = {field: rows[at : at + at_once]}
        try:
            answers.append(books.ask(command, **params, **piece))
        except RequestMade as request:
            if at or len(rows) <= at_once:
                raise
            number = request.answer["request"]["id"]
            books.ask("request.withdraw", number=number, why="a piece of a table that is several requests")
            raise BadConfig(
                f"this waits for a second person, or its time, and {len(rows)} lines are"
                f" {-(-len(rows) // at_once)} commands of {at_once} lines, each a request of its own: nothing"
                f" was asked for (request {number} is withdrawn). {hint}Give {at_once} lines at most,"
                " and the next one when it is carried out"
            ) from None
    return answers
