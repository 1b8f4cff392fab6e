"""Who gives a command, by the account of the operating system that asks for it.

Nobody says his own name. Of a command that comes through the socket it is the account whose process
connected, as the kernel knows it; where no pool runs, that of the process that writes. Neither an environment
variable nor anything that was sent has a part in it.

The account that runs the pool, and root, need no user: they can open the database themselves. Every other
account is whoever has it among the users, and else nobody.
"""

import os
import pwd
from collections.abc import Collection

from pool.admin.desk import Desk
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


def caller_of(desk: Desk, uid: int, without_user: Collection[int]) -> Caller:
    """Who that is, through the socket. Raises UnknownAccount. Blocks: call it from a worker thread."""
    account = operator_of(uid)
    if uid in without_user:
        return host_account(account, SOCKET)
    user = desk.read(lambda connection: active_user(connection, account=account))
    if user is None:
        raise UnknownAccount(f"the account {account} is no user's: an admin adds one with `angara user add`")
    return Caller(name=user.name, source=SOCKET, role=Role(user.role), tenant=user.tenant, user_id=user.id)
