"""Who somebody is now who said something earlier, and whether two who did are two persons.

Names, tokens and accounts of one user are one person. Accounts that can open the database are none: whoever
is root may be a user as well, and would agree with himself, whichever of the two asked.

An admin alone could make himself a second user, with the glass broken or in books of before: whoever was
made, raised, let back in or given a token by one user alone counts as that one too for MADE_S, and so does
whoever else that one made. What the host's account made does not count so: it needs no puppet to write what
it likes.

Must not know: what was said.
"""

from typing import Final

from sqlalchemy import Connection, select

from pool.books.changes.changes import Unreadable, states
from pool.books.changes.schema import changes
from pool.fleet.rows import RegistryError
from pool.people.roles import Caller, NotPermitted, Role, host_account
from pool.people.schema import tokens, users
from pool.people.users import ACTIVE, find_user
from pool.requests.rows import Said

MADE_S: Final = 7 * 86_400  # who was not meant to be is found in a week: everybody was told of it
MAKES: Final = ("user.add", "user.set-role", "user.set-status")


def standing(connection: Connection, by: Said) -> Caller:
    """Who that is at this moment, in what role. Raises NotPermitted for who is let in no more."""
    if by.user_id is None:
        return host_account(by.said_by, by.source)
    user = find_user(connection, by.said_by)
    if user.id != by.user_id or user.status != ACTIVE:
        raise NotPermitted(f"{by.said_by} is suspended")
    role = Role(user.role)
    if by.token_id is not None:
        token = connection.execute(select(tokens).where(tokens.c.id == by.token_id)).one()
        if token.revoked_at_s is not None:
            raise NotPermitted(f"token {by.token_id} of {by.said_by}, by which it was said, is revoked")
        role = min(role, Role(token.scope), key=lambda it: it.rank)
    return Caller(
        name=user.name,
        source=by.source,
        role=role,
        tenant=user.tenant,
        user_id=user.id,
        token=by.token_id,
    )


def check_two(connection: Connection, asked: Said, agrees: Said, now_s: int) -> None:
    """Raises RegistryError unless they are two persons."""
    words = f"{agrees.said_by} cannot agree to what {asked.said_by} asked for: somebody else has to"
    if agrees.user_id is None:
        raise RegistryError(f"{words}, who is a user: whoever is at the host's account may be any of them")
    if asked.user_id is None:
        raise RegistryError(f"{words} ask anew, who is a user: whoever is at the host's account may be any")
    if asked.person == agrees.person:
        raise RegistryError(words)
    if not _circle(connection, asked, now_s).isdisjoint(_circle(connection, agrees, now_s)):
        raise RegistryError(
            f"{words}, because one of them, or both, were made what they are by one user alone, within"
            f" {MADE_S // 86_400} days"
        )


def _circle(connection: Connection, by: Said, now_s: int) -> frozenset[int | None]:
    """Numbers of the users that he may be a puppet of, himself too."""
    names = {row.id: row.name for row in connection.execute(select(users.c.id, users.c.name))}
    numbers = {name: number for number, name in names.items()}
    found, left = {by.user_id}, [by.user_id]
    makers = _of_token(connection, by, now_s)
    while left:
        makers |= _makers(connection, names[left.pop()], now_s)
        new = {numbers[name] for name in makers if name in numbers} - found
        found |= new
        left += new
    return frozenset(found)


def _makers(connection: Connection, name: str, now_s: int) -> set[str]:
    """Who made this user what he is, alone; what two agreed to has both their names."""
    query = select(changes).where(
        changes.c.command.in_(MAKES), changes.c.subject == name, changes.c.changed_at_s > now_s - MADE_S
    )
    makers = set()
    for row in connection.execute(query).mappings():
        try:
            _, became = states(row)
        except Unreadable:
            became = None
        # To suspend somebody makes him nothing.
        if became is None or row["command"] != "user.set-status" or became.get("status") == ACTIVE:
            makers.add(row["changed_by"])
    return makers


def _of_token(connection: Connection, by: Said, now_s: int) -> set[str]:
    if by.token_id is None:
        return set()
    made = select(tokens.c.created_by).where(
        tokens.c.id == by.token_id, tokens.c.created_at_s > now_s - MADE_S
    )
    return set(connection.scalars(made))
