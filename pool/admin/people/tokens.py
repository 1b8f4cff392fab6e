"""The operator's commands for tokens, each once: with a running pool, and without one.

Everybody makes and revokes his own, and an admin everybody's. A token makes no tokens, and revokes none but
itself: whoever found one has it for as long as it lasts, and not longer.

Must not know: sockets, terminals.
"""

from typing import Final

import msgspec
from sqlalchemy import Connection

from pool.admin.command import Change, Commands, Guarded, Question
from pool.admin.desk import Desk, OperatorDesk, wall_s
from pool.admin.pages import Page, Paged, page_of
from pool.books.changes.changes import State
from pool.fleet.rows import RegistryError
from pool.people import tokens
from pool.people.roles import Caller, NotPermitted, Role
from pool.people.tokens import TokenView

DAYS: Final = 90


class TokenCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`user` None: one's own; `scope` None: the user's role, else that or less."""

    label: str
    user: str | None = None
    scope: str | None = None
    days: int = DAYS


class TokenList(Paged, frozen=True, forbid_unknown_fields=True):
    """`user` None: all that the caller may see."""

    user: str | None = None


class TokenRevoke(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    number: int
    user: str | None = None


class TokenMade(TokenView, frozen=True, kw_only=True):
    """With the token itself, which is told nobody again."""

    token: str


def token_create(desk: OperatorDesk, it: TokenCreate) -> TokenMade:
    """With the token itself, which is told nobody again."""
    view, secret = desk.write(
        lambda connection: tokens.create_token(
            connection, _owner(it.user), it.label, it.scope, it.days, by=desk.by, now_s=wall_s()
        )
    )
    _tell(desk)
    return TokenMade(**msgspec.structs.asdict(view), token=secret)


def token_create_of(it: TokenCreate, caller: Caller) -> TokenCreate:
    if caller.token is not None:
        raise NotPermitted("a token makes no tokens: log in to the pool's host for that, or ask an admin")
    return msgspec.structs.replace(it, user=_owner(_own(it.user, caller)))


def for_another(it: TokenCreate, caller: Caller) -> bool:
    """Who makes it can be its user with it."""
    return caller.user_id is None or it.user != caller.name


def token_list(desk: Desk, it: TokenList) -> Page[TokenView]:
    """Those that have ended too, the newest last."""
    rows = desk.read(lambda connection: tokens.list_tokens(connection, it.user))
    return page_of(it, rows, lambda row: (row.id,))


def token_list_of(it: TokenList, caller: Caller) -> TokenList:
    if it.user is None and caller.role is Role.ADMIN:
        return it
    return msgspec.structs.replace(it, user=_own(it.user, caller))


def token_revoke(desk: OperatorDesk, it: TokenRevoke) -> TokenView:
    def revoke(connection: Connection) -> TokenView:
        return tokens.revoke_token(connection, _owner(it.user), it.number, wall_s())

    view = desk.write(revoke)
    _tell(desk)
    return view


def token_revoke_of(it: TokenRevoke, caller: Caller) -> TokenRevoke:
    if caller.token not in (None, it.number):
        raise NotPermitted("a token revokes none but itself")
    return TokenRevoke(it.number, _owner(_own(it.user, caller)))


def tokens_of(it: TokenCreate | TokenRevoke) -> str:
    """Whose they are: what such a change is about."""
    return _owner(it.user)


def token_state(connection: Connection, subject: str) -> State:
    return dict(tokens.kept_of(connection, subject))


def _own(user: str | None, caller: Caller) -> str | None:
    """Whose is meant. Raises NotPermitted, in the same words whether there is such a user or not."""
    if user is None and caller.user_id is not None:
        return caller.name
    if caller.role is not Role.ADMIN and user != caller.name:
        raise NotPermitted(f"{caller.name} may ask about his own tokens alone")
    return user


def _owner(user: str | None) -> str:
    if user is None:
        raise RegistryError("the account that runs the pool is no user: say whose token")
    return user


def _tell(desk: Desk) -> None:
    if desk.live is not None:
        desk.live.tokens_changed()


COMMANDS: Final[Commands] = {
    "token.create": Guarded(
        TokenCreate,
        token_create,
        tokens_of,
        token_state,
        Role.TENANT,
        token_create_of,
        secret=True,
        waits=for_another,
    ),
    "token.list": Question(TokenList, token_list, Role.TENANT, token_list_of),
    "token.revoke": Change(TokenRevoke, token_revoke, tokens_of, token_state, Role.TENANT, token_revoke_of),
}
