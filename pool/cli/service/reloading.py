"""What `angara reload` says: which settings are in force from now on, and which after a restart.

Must not know: how a pool takes them up.
"""

from typing import Final

from pool.cli.books import Books
from pool.cli.output import Column, Form, print_json, say, show

CHANGES: Final = (
    Column("setting", "setting"),
    Column("was", "was"),
    Column("is", "became"),
    Column("in force", "in_force"),
)


def reload(books: Books, form: Form) -> None:
    told = books.ask("settings.reload")
    if form is Form.JSON:
        print_json(told)
        return
    rows = [row | {"in_force": "now"} for row in told["applied"]]
    rows += [row | {"in_force": "after a restart"} for row in told["after_restart"]]
    if rows:
        show(rows, CHANGES)
    else:
        say("the pool runs with what the file says")
