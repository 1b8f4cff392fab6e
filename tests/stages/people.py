"""Users of a pool who have logged in: each with a token in a file of his own, as `--token-file` takes it."""

from pathlib import Path
from typing import Any

import msgspec

from pool.admin.commands import execute
from pool.admin.desk import Desk
from pool.admin.operators import ALONE
from pool.books.store import Store
from pool.people.roles import Caller, Role, host_account

HOST = host_account("olga", ALONE)  # an account that can open the database


def give(store: Store, name: str, params: dict[str, Any], caller: Caller = HOST) -> Any:
    """A command, without a pool."""
    return execute(Desk(store, "regtest"), name, msgspec.json.encode(params), caller)


def add_user(store: Store, name: str, role: str = "payer", **params: Any) -> str:
    """His token."""
    give(store, "user.add", {"name": name, "role": role, **params})
    token: str = give(store, "token.create", {"user": name, "label": "test"})["token"]
    return token


def log_in(store: Store, home: Path, name: str, role: str = "payer", **params: Any) -> tuple[str, str]:
    """The options by which a new user gives a command."""
    file = home / f"token-{len(list(home.glob('token-*')))}"
    file.touch(0o600)
    file.write_text(add_user(store, name, role, **params) + "\n")
    return "--token-file", str(file)


def user(name: str, number: int, role: Role = Role.PAYER) -> Caller:
    """Who gives a command, as a user of that number."""
    return Caller(name=name, source="test", role=role, user_id=number)
