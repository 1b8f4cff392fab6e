"""Users as rows: who there is, in what role, and which account of the operating system is whose.

Invariants: no two users' names are one person's (`payouts.persons`), nor one that an account of the host is
recorded by; a name is given once. Mistakes are RegistryError, in words.

Must not know: who may change them, and what a role may do.
"""

from collections.abc import Collection
from typing import Final

import msgspec
from sqlalchemy import Connection, insert, select, update

from payouts.book_time import book_time
from payouts.persons import CHAIN, NAME_CHARACTERS_MAX, is_name, same_person
from payouts.schemas.money import tenants
from pool.fleet.registry_error import RegistryError
from pool.people.roles import USER_ROLES, Role
from pool.people.schema import users

USERS_MAX: Final = 1_000  # names that each new one is compared with
ACTIVE: Final = "active"
NUMBERED: Final = "uid "  # what an account without a name is recorded by begins so


class UserView(msgspec.Struct, frozen=True, kw_only=True):
    """A user as commands show it."""

    id: int
    name: str
    role: str
    tenant: str | None
    account: str | None
    status: str
    created_at_s: int
    created_by: str


def list_users(connection: Connection) -> tuple[UserView, ...]:
    """All there ever were, by name."""
    rows = connection.execute(_USERS.order_by(users.c.name)).mappings()
    return tuple(UserView(**row) for row in rows)


def find_user(connection: Connection, name: str) -> UserView:
    """Raises RegistryError."""
    row = connection.execute(_USERS.where(users.c.name == name)).mappings().one_or_none()
    if row is None:
        raise RegistryError(f"there is no user {name!r:.200}")
    return UserView(**row)


def active_user(connection: Connection, *, account: str) -> UserView | None:
    """Whose account of the operating system that is."""
    asked = _USERS.where(users.c.account == account, users.c.status == ACTIVE)
    row = connection.execute(asked).mappings().one_or_none()
    return None if row is None else UserView(**row)


def add_user(
    connection: Connection,
    name: str,
    role: str,
    *,
    tenant: str | None,
    account: str | None,
    host_names: Collection[str],
    by: str,
    now_s: int,
) -> UserView:
    """`host_names` are what accounts that need no user are recorded by. Raises RegistryError."""
    if not is_name(name) or name.startswith(NUMBERED):
        raise RegistryError(
            f"{name!r:.200} is no name: 1 to {NAME_CHARACTERS_MAX} printable characters of one alphabet"
        )
    known = [view.name for view in list_users(connection)]
    if len(known) >= USERS_MAX:
        raise RegistryError(f"there are {USERS_MAX} users, which is all there may be")
    for other in (*known, *host_names, CHAIN):
        if same_person(name, other):
            raise RegistryError(f"{name!r} could be taken for {other!r}, who is known already")
    if account is not None:
        _check_account(connection, account, host_names)
    connection.execute(
        insert(users).values(
            name=name,
            **_role(connection, role, tenant),
            account=account,
            status=ACTIVE,
            created_at_s=book_time(connection, now_s),
            created_by=by,
        )
    )
    return find_user(connection, name)


def set_role(connection: Connection, name: str, role: str, tenant: str | None) -> UserView:
    """Raises RegistryError."""
    user = find_user(connection, name)
    connection.execute(update(users).where(users.c.id == user.id).values(_role(connection, role, tenant)))
    return find_user(connection, name)


def set_status(connection: Connection, name: str, *, active: bool, host_names: Collection[str]) -> UserView:
    """Raises RegistryError."""
    user = find_user(connection, name)
    if active and user.status != ACTIVE and user.account is not None:
        _check_account(connection, user.account, host_names)
    status = ACTIVE if active else "suspended"
    connection.execute(update(users).where(users.c.id == user.id).values(status=status))
    return find_user(connection, name)


def _role(connection: Connection, role: str, tenant: str | None) -> dict[str, object]:
    if role not in USER_ROLES:
        raise RegistryError(f"{role!r:.80} is none of {', '.join(USER_ROLES)}")
    if (role == Role.TENANT) != (tenant is not None):
        raise RegistryError("the role tenant takes the tenant whose it is, and no other role does")
    tenant_id = None
    if tenant is not None:
        tenant_id = connection.scalar(select(tenants.c.id).where(tenants.c.name == tenant))
        if tenant_id is None:
            raise RegistryError(f"there is no tenant {tenant!r:.200}")
    return {"role": role, "tenant_id": tenant_id}


def _check_account(connection: Connection, account: str, host_names: Collection[str]) -> None:
    if not 1 <= len(account) <= NAME_CHARACTERS_MAX or not account.isprintable():
        raise RegistryError(f"{account!r:.200} is no account of an operating system")
    if account in host_names:
        raise RegistryError(f"the account {account!r} can open the database itself: it needs no user")
    other = active_user(connection, account=account)
    if other is not None:
        raise RegistryError(f"the account {account!r} is {other.name}'s")


_USERS: Final = select(
    users.c.id,
    users.c.name,
    users.c.role,
    tenants.c.name.label("tenant"),
    users.c.account,
    users.c.status,
    users.c.created_at_s,
    users.c.created_by,
).outerjoin(tenants, tenants.c.id == users.c.tenant_id)
