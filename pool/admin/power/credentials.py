"""The operator's commands for the passwords of machines, which come sealed and are told to nobody.

Must not know: the key, files, terminals.
"""

from typing import Final

import msgspec
from sqlalchemy import Connection

from pool.admin.command import Commands, Guarded, Question
from pool.admin.desk import Desk, OperatorDesk, valid, wall_s
from pool.admin.pages import Page, Paged, page_of
from pool.books.changes.changes import State
from pool.fleet.registry_error import RegistryError
from pool.people.roles import Role
from pool.power.control.contract import Firmware
from pool.power.control.passwords import Sealed
from pool.power.control.rows import CredentialView, list_credentials, remove_credential, set_credential


class CredentialList(Paged, frozen=True, forbid_unknown_fields=True):
    pass


class CredentialSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of machines with that firmware; `scope` is empty, site:NAME or container:TENANT.NAME. `sealed` is what
    the key file's owner made of it: `angara power credential set` does."""

    firmware: str
    scope: str = ""
    sealed: str


class CredentialRemove(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    firmware: str
    scope: str = ""


def credential_list(desk: Desk, it: CredentialList) -> Page[CredentialView]:
    """That there are passwords, and for whom."""
    return page_of(it, desk.read(list_credentials), lambda row: (row.firmware.value, row.scope))


def credential_set(desk: OperatorDesk, it: CredentialSet) -> CredentialView:
    firmware = _firmware(it.firmware)
    sealed = Sealed(firmware, it.scope, it.sealed)
    desk.write(lambda connection: set_credential(connection, sealed, by=desk.by, now_s=wall_s()))
    return _view(desk, firmware, it.scope)


def credential_remove(desk: OperatorDesk, it: CredentialRemove) -> CredentialView:
    firmware = _firmware(it.firmware)
    view = _view(desk, firmware, it.scope)
    desk.write(lambda connection: remove_credential(connection, firmware, it.scope))
    return view


def credential_subject(it: CredentialSet | CredentialRemove) -> str:
    return f"{it.firmware} {it.scope}".strip()


def credential_state(connection: Connection, subject: str) -> State:
    """That there is one, since when; what is sealed is in no history."""
    firmware, _, scope = subject.partition(" ")
    views = (it for it in list_credentials(connection) if (it.firmware.value, it.scope) == (firmware, scope))
    return next((msgspec.to_builtins(it) for it in views), None)


def _firmware(name: str) -> Firmware:
    return valid(lambda: Firmware(name))


def _view(desk: Desk, firmware: Firmware, scope: str) -> CredentialView:
    for it in desk.read(list_credentials):
        if (it.firmware, it.scope) == (firmware, scope):
            return it
    raise RegistryError(f"there is no password for {firmware.value} {scope}".strip())


COMMANDS: Final[Commands] = {
    "credential.list": Question(CredentialList, credential_list),
    "credential.set": Guarded(
        CredentialSet, credential_set, credential_subject, credential_state, Role.ADMIN, makes_books=False
    ),
    "credential.remove": Guarded(
        CredentialRemove,
        credential_remove,
        credential_subject,
        credential_state,
        Role.ADMIN,
        makes_books=False,
    ),
}
