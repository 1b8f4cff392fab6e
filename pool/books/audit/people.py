"""The audit of users, tokens and requests: each is what the changes made of it, which are chained by hash.

Must not know: what a role may do.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, select

from payouts.audit.finding import Found
from pool.books.changes.changes import states
from pool.books.changes.schema import changes
from pool.people.tokens import kept_of
from pool.people.users import list_users
from pool.requests import rows as requests

OF_USERS: Final = ("user.add", "user.set-role", "user.set-status")
OF_TOKENS: Final = ("token.create", "token.revoke")
# The first and the last two are no commands: the pool notes them beside what it does.
OF_REQUESTS: Final = (
    "request.add",
    "request.approve",
    "request.withdraw",
    "request.carried-out",
    "request.refused",
)


def check_people(connection: Connection) -> None:
    """Raises Found for the first row that is not what commands made of it. After the check of changes."""
    views = list_users(connection)
    _check("users", made_by(connection, OF_USERS), {it.name: msgspec.to_builtins(it) for it in views})
    theirs = {it.name: dict(kept_of(connection, it.name)) for it in views}
    _check("tokens", made_by(connection, OF_TOKENS), {name: it for name, it in theirs.items() if it})
    _check("requests", made_by(connection, OF_REQUESTS), requests.kept_of(connection))


def made_by(connection: Connection, commands: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """What these commands made of each subject."""
    made: dict[str, dict[str, Any]] = {}
    query = select(changes).where(changes.c.command.in_(commands)).order_by(changes.c.id)
    for row in connection.execute(query).mappings():
        _, became = states(row)
        made.setdefault(row["subject"], {}).update(became or {})
    return made


def _check(table: str, made: Mapping[str, Any], there: Mapping[str, Any]) -> None:
    for name in sorted(made.keys() | there.keys()):
        if name not in there:
            raise Found(table, name, "it is missing")
        if there[name] != made.get(name):
            raise Found(table, name, "no change made it what it is")
