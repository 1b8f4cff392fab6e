"""Puppets: users who may be one person, because one of them, or somebody else, made them what they are alone.

An admin could make himself a second user, with the glass broken or in books of before: whoever was made,
raised, let back in or given a token by one user alone counts as that one too for MADE_S, and so does whoever
else that one made. What the host's account made does not count so: it needs no puppet to write what it likes.

Must not know: what they say.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection, select

from pool.books.changes.changes import Unreadable, states
from pool.books.changes.schema import changes
from pool.people.schema import tokens, users
from pool.people.users import ACTIVE

MADE_S: Final = 7 * 86_400  # who was not meant to be is found in a week: everybody was told of it
MAKES: Final = ("user.add", "user.set-role", "user.set-status")


class Makers:
    """Who made whom alone, as the books have it at one moment."""

    def __init__(self, connection: Connection, now_s: int) -> None:
        self._names = {row.id: row.name for row in connection.execute(select(users.c.id, users.c.name))}
        self._numbers = {name: number for number, name in self._names.items()}
        self._made = _made(connection, now_s)
        self._tokens = connection.execute(select(tokens).where(tokens.c.created_at_s > now_s - MADE_S)).all()

    def circle(self, user_id: int, token_id: int | None) -> frozenset[int]:
        """Numbers of the users that he may be a puppet of, himself too, by the token that he shows."""
        return self._circle(user_id, (it.created_by for it in self._tokens if it.id == token_id))

    def one_with(self, user_id: int, token_id: int | None) -> frozenset[int]:
        """Numbers of the users who are no second person beside him. Of what they said before only their names
        are known: it may have been by any token of theirs."""
        his = self.circle(user_id, token_id)
        return frozenset(it for it in self._names if not his.isdisjoint(self._circle_of_name(it)))

    def _circle_of_name(self, user_id: int) -> frozenset[int]:
        return self._circle(user_id, (it.created_by for it in self._tokens if it.user_id == user_id))

    def _circle(self, user_id: int, makers: Iterable[str]) -> frozenset[int]:
        """With who made him, who made those, and so on; what two agreed to has both their names, and is
        nobody's."""
        found, left = {user_id}, [user_id]
        makers = set(makers)
        while left:
            makers |= self._made[self._names[left.pop()]]
            new = {self._numbers[name] for name in makers if name in self._numbers} - found
            found |= new
            left += new
        return frozenset(found)


def _made(connection: Connection, now_s: int) -> defaultdict[str, set[str]]:
    """By name, who made a user what he is."""
    made: defaultdict[str, set[str]] = defaultdict(set)
    query = select(changes).where(changes.c.command.in_(MAKES), changes.c.changed_at_s > now_s - MADE_S)
    for row in connection.execute(query).mappings():
        try:
            _, became = states(row)
        except Unreadable:
            became = None
        # To suspend somebody makes him nothing.
        if became is None or row["command"] != "user.set-status" or became.get("status") == ACTIVE:
            made[row["subject"]].add(row["changed_by"])
    return made
