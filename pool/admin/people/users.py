"""The operator's commands for users, each once: with a running pool, and without one.

Invariant: who takes a role away has the role admin, and keeps it: nobody changes his own. So there is an
admin after every change, whoever makes it; and the account that runs the pool needs no user at all.

Must not know: sockets, terminals.
"""

from typing import Final

import msgspec
from sqlalchemy import Connection

from pool.admin.command import Commands, Guarded, Question
from pool.admin.desk import Desk, OperatorDesk, named, wall_s
from pool.admin.operators import host_names
from pool.admin.pages import Page, Paged, page_of
from pool.books.changes.changes import State
from pool.fleet.rows import RegistryError
from pool.people import users
from pool.people.roles import Caller, Role
from pool.people.users import UserView


class UserAdd(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`account`: the operating system's, of who comes through the socket. `tenant` for the role tenant."""

    name: str
    role: str
    tenant: str | None = None
    account: str | None = None


class UserList(Paged, frozen=True, forbid_unknown_fields=True):
    pass


class UserShow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class UserSetRole(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    role: str
    tenant: str | None = None


class UserSetStatus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    active: bool


def user_add(desk: OperatorDesk, it: UserAdd) -> UserView:
    return desk.write(
        lambda connection: users.add_user(
            connection,
            it.name,
            it.role,
            tenant=it.tenant,
            account=it.account,
            host_names=host_names(),
            by=desk.by,
            now_s=wall_s(),
        )
    )


def user_list(desk: Desk, it: UserList) -> Page[UserView]:
    """All there ever were, by name."""
    return page_of(it, desk.read(users.list_users), lambda row: (row.name,))


def user_show(desk: Desk, it: UserShow) -> UserView:
    return desk.read(lambda connection: users.find_user(connection, it.name))


def user_set_role(desk: OperatorDesk, it: UserSetRole) -> UserView:
    _not_his_own(desk, it.name)
    return desk.write(lambda connection: users.set_role(connection, it.name, it.role, it.tenant))


def user_set_status(desk: OperatorDesk, it: UserSetStatus) -> UserView:
    _not_his_own(desk, it.name)
    return desk.write(
        lambda connection: users.set_status(connection, it.name, active=it.active, host_names=host_names())
    )


def user_state(connection: Connection, subject: str) -> State:
    """What a change of a user changes."""
    views = (view for view in users.list_users(connection) if view.name == subject)
    return next((msgspec.to_builtins(view) for view in views), None)


def lets_in(it: UserSetStatus, caller: Caller) -> bool:
    """To suspend somebody gives nobody anything, and a thief is to be stopped at once."""
    return it.active


def _not_his_own(desk: OperatorDesk, name: str) -> None:
    if desk.caller.user_id is not None and desk.caller.name == name:
        raise RegistryError("nobody changes his own role or status: another admin has to")


COMMANDS: Final[Commands] = {
    "user.add": Guarded(UserAdd, user_add, named, user_state, Role.ADMIN),
    "user.list": Question(UserList, user_list),
    "user.show": Question(UserShow, user_show),
    "user.set-role": Guarded(UserSetRole, user_set_role, named, user_state, Role.ADMIN),
    "user.set-status": Guarded(UserSetStatus, user_set_status, named, user_state, Role.ADMIN, waits=lets_in),
}
