"""Who gives a command, by the account of the operating system that asks for it.

Nobody says his own name. Of a command that comes through the socket it is the account whose process
connected, as the kernel knows it; where no pool runs, that of the process that writes. Neither an environment
variable nor anything that was sent has a part in it.

The account that runs the pool, and root, need no user: they can open the database themselves. Every other
account is whoever has it among the users, and else nobody. Who is somebody may show a token besides, and is
its user then: two persons can sit at one account of the host.
"""

import os
import pwd
from collections.abc import Collection

from pool.admin.desk import Desk, wall_s
from pool.books.store import Store
from pool.people.authentication import caller_of_token
from pool.people.roles import Caller, NotPermitted, Role, host_account
from pool.people.users import active_user

SOCKET = "socket"  # where commands come from: a running pool's
ALONE = "alone"  # the command line, without a pool


class UnknownAccount(NotPermitted):
    """An account that is no user's."""


def operator_of(uid: int) -> str:
    """The account's name. May ask a directory service: call it from a worker thread."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # as often in a container image
        return f"uid {uid}"


def hosts() -> frozenset[int]:
    """The accounts that need no user."""
    return frozenset((0, os.geteuid()))


def host_names() -> frozenset[str]:
    return frozenset(map(operator_of, hosts()))


def caller_of(desk: Desk, uid: int, without_user: Collection[int], token: str | None = None) -> Caller:
    """Who that is, through the socket. Raises UnknownAccount, or WrongToken. Blocks: call it from a worker
    thread."""
    account = operator_of(uid)
    if uid in without_user:
        caller = host_account(account, SOCKET)
    else:
        user = desk.read(lambda connection: active_user(connection, account=account))
        if user is None:
            raise UnknownAccount(
                f"the account {account} is no user's: an admin adds one with `angara user add`"
            )
        caller = Caller(
            name=user.name, source=SOCKET, role=Role(user.role), tenant=user.tenant, user_id=user.id
        )
    if token is None:
        return caller
    return caller_of_token(desk.store, token, wall_s(), f"{account}, {SOCKET}")


def caller_alone(store: Store, account: str, token: str | None) -> Caller:
    """Who gives a command without a pool: whoever can open the database, or shows a token. Raises
    WrongToken."""
    if token is None:
        return host_account(account, ALONE)
    return caller_of_token(store, token, wall_s(), f"{account}, {ALONE}")
