"""The operator's commands for where machines are on their own network.

Who says where a machine is says where its password goes, so an admin does. Must not know: files, terminals.
"""

import hashlib
from functools import partial
from typing import Final

import msgspec
from sqlalchemy import Connection

from pool.admin.command import Commands, Guarded, Question
from pool.admin.desk import Desk, OperatorDesk, valid, wall_s
from pool.admin.pages import Page, Paged, page_of
from pool.books.changes.changes import State
from pool.fleet.registry_error import RegistryError
from pool.people.roles import Role
from pool.power.control.contract import MachineName
from pool.power.control.rows import MachineAddress, find_address, list_addresses, set_address
from pool.power.control.tables import checked

ADDRESSES_MAX: Final = 500  # of one import: a command has 64 KiB


class AddressList(Paged, frozen=True, forbid_unknown_fields=True):
    tenant: str | None = None


class AddressSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`machine` is tenant.container.unit. Nothing is said with neither an address nor a firmware."""

    machine: str
    address: str = ""
    port: str = ""
    firmware: str = ""


class AddressLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One of a table, as its cells say it."""

    tenant: str
    container: str
    unit: str
    address: str = ""
    port: str = ""
    firmware: str = ""


class AddressImport(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All of them or none."""

    addresses: tuple[AddressLine, ...]


class AddressesSet(msgspec.Struct, frozen=True):
    """How many of them are others now."""

    addresses: int


def address_list(desk: Desk, it: AddressList) -> Page[MachineAddress]:
    """What the operator said; who is not in it is where it mines from."""
    rows = [row for row in desk.read(list_addresses) if it.tenant in (None, row.tenant)]
    return page_of(it, rows, lambda row: (row.tenant, row.container, row.unit))


def address_set(desk: OperatorDesk, it: AddressSet) -> MachineAddress:
    tenant, container, unit = machine_named(it.machine)
    new = valid(lambda: checked(tenant, container, unit, it.address, it.port, it.firmware))

    def change(connection: Connection) -> None:
        if new.address is None and new.firmware is None and find_address(connection, new.machine) is None:
            raise RegistryError(f"{it.machine:.80}: nothing is said of it, and nothing was before")
        set_address(connection, new, by=desk.by, now_s=wall_s())

    desk.write(change)
    return new


def address_import(desk: OperatorDesk, it: AddressImport) -> AddressesSet:
    if len(it.addresses) > ADDRESSES_MAX:
        raise RegistryError(f"at most {ADDRESSES_MAX} at once")
    rows = {row.machine: row for row in (valid(partial(_checked, it)) for it in it.addresses)}

    def change(connection: Connection) -> int:
        others = [row for row in rows.values() if row != _there(connection, row)]
        for row in others:
            set_address(connection, row, by=desk.by, now_s=wall_s())
        return len(others)

    return AddressesSet(desk.write(change))


def machine_named(name: str) -> tuple[str, str, str]:
    """tenant.container.unit, or tenant.unit. Raises RegistryError."""
    tenant, _, rest = name.partition(".")
    container, dot, unit = rest.partition(".")
    if not tenant or not rest:
        raise RegistryError(f"{name!r:.80} is no machine: it is TENANT.CONTAINER.UNIT")
    return (tenant, container, unit) if dot else (tenant, "", rest)


def _checked(it: AddressLine) -> MachineAddress:
    return checked(**msgspec.structs.asdict(it))


def _there(connection: Connection, row: MachineAddress) -> MachineAddress:
    nothing = msgspec.structs.replace(row, address=None, port=None, firmware=None)
    return find_address(connection, row.machine) or nothing


def address_state(connection: Connection, subject: str) -> State:
    found = find_address(connection, MachineName(*machine_named(subject)))
    return None if found is None else msgspec.to_builtins(found)


def addresses_state(connection: Connection, subject: str) -> State:
    """How many there are, and a digest of all of them: a table has a hundred thousand lines."""
    there = list_addresses(connection)
    return {"addresses": len(there), "sha256": hashlib.sha256(msgspec.json.encode(there)).hexdigest()}


COMMANDS: Final[Commands] = {
    "address.list": Question(AddressList, address_list),
    "address.set": Guarded(
        AddressSet, address_set, lambda it: it.machine, address_state, Role.ADMIN, makes_books=False
    ),
    "address.import": Guarded(
        AddressImport, address_import, lambda it: "addresses", addresses_state, Role.ADMIN, makes_books=False
    ),
}
