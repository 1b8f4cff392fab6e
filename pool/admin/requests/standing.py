"""Who somebody is now who said something earlier, and whether two who did are two persons.

Names, tokens and accounts of one user are one person. Accounts that can open the database are none: whoever
is root may be a user as well, and would agree with himself, whichever of the two asked. Nor are a user and
his puppets two (`pool.admin.people.puppets`).

Must not know: what was said.
"""

from sqlalchemy import Connection, select

from pool.admin.people.puppets import MADE_S, Makers
from pool.fleet.rows import RegistryError
from pool.people.roles import Caller, NotPermitted, Role, host_account
from pool.people.schema import tokens
from pool.people.users import ACTIVE, find_user
from pool.requests.rows import Said


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
    makers = Makers(connection, now_s)
    his = makers.circle(asked.user_id, asked.token_id)
    if not his.isdisjoint(makers.circle(agrees.user_id, agrees.token_id)):
        raise RegistryError(
            f"{words}, because one of them, or both, were made what they are by one user alone, within"
            f" {MADE_S // 86_400} days"
        )
