"""The questions of what is signed: roots of what is owed to all tenants, closings, changes of the key, and
reserves, for who publishes them; and a tenant's shares of an hour.

Invariants: a tenant's user is told of its own shares alone. Must not know: how they are made.
"""

import base64
from datetime import datetime
from typing import Annotated, Final

import msgspec
from sqlalchemy import Connection

from payouts.proof.angara_verify import as_written
from payouts.proof.closings import Closing, closings
from payouts.proof.key_changes import KeyChange, changes_of_keys
from payouts.proof.reserves import NotedReserve, noted, signature_of
from payouts.proof.roots import Root, roots
from payouts.proof.share_proofs import HourOfShares, NoShares, shares_of_hour
from pool.admin.command import Commands, Question
from pool.admin.desk import Desk
from pool.fleet.registry_error import RegistryError
from pool.people.roles import Caller, Role

ROOTS_MAX: Final = 1_000  # of an answer
RESERVES_MAX: Final = 50  # of an answer, each of which may be some megabytes to read
SHARES_MAX: Final = 100_000  # of a file: 40 MB


class ProofRoots(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From a number on; the first is 1."""

    first: Annotated[int, msgspec.Meta(ge=1)] = 1


class Roots(msgspec.Struct, frozen=True):
    """In their order. `next`: the first of the rest; null where that is all."""

    roots: tuple[Root, ...]
    next: int | None


def proof_roots(desk: Desk, it: ProofRoots) -> Roots:
    """The roots of what was owed to all tenants at the end of each day, a chain of signed rows. A statement
    names the one of its last day."""

    def read(connection: Connection) -> Roots:
        found = roots(connection, it.first, ROOTS_MAX + 1)
        more = found[ROOTS_MAX].number if len(found) > ROOTS_MAX else None
        return Roots(found[:ROOTS_MAX], more)

    return desk.read(read)


class ProofClosings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From a number on; the first is 1."""

    first: Annotated[int, msgspec.Meta(ge=1)] = 1


class Closings(msgspec.Struct, frozen=True):
    """In their order. `next`: the first of the rest; null where that is all."""

    closings: tuple[Closing, ...]
    next: int | None


def proof_closings(desk: Desk, it: ProofClosings) -> Closings:
    """The closings of what was settled, with the roots of its shares: a chain of signed rows, one an hour."""

    def read(connection: Connection) -> Closings:
        found = closings(connection, it.first, ROOTS_MAX + 1)
        more = found[ROOTS_MAX].number if len(found) > ROOTS_MAX else None
        return Closings(found[:ROOTS_MAX], more)

    return desk.read(read)


class ProofReserves(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From a number on; the first is 1."""

    first: Annotated[int, msgspec.Meta(ge=1)] = 1


class ReserveLine(msgspec.Struct, frozen=True, kw_only=True):
    """What coins signed for the root of a day are worth, as of a block; `owed_sat` is that root's total."""

    reserve: int
    root: int
    day: str
    owed_sat: int
    total_sat: int
    coins: int
    block_height: int
    hash: str
    made_by: str
    made_at_s: int


class Reserves(msgspec.Struct, frozen=True):
    """In their order. `next`: the first of the rest; null where that is all."""

    reserves: tuple[ReserveLine, ...]
    next: int | None


def proof_reserves(desk: Desk, it: ProofReserves) -> Reserves:
    """The reserves that were signed for, a chain of signed rows."""

    def read(connection: Connection) -> Reserves:
        found = noted(connection, it.first, RESERVES_MAX + 1)
        more = found[RESERVES_MAX].reserve.number if len(found) > RESERVES_MAX else None
        return Reserves(tuple(map(_line, found[:RESERVES_MAX])), more)

    return desk.read(read)


def _line(it: NotedReserve) -> ReserveLine:
    of = it.reserve
    return ReserveLine(
        reserve=of.number,
        root=of.root.number,
        day=of.root.day,
        owed_sat=of.root.total_sat,
        total_sat=of.total_sat,
        coins=len(of.coins),
        block_height=of.block_height,
        hash=of.hash,
        made_by=it.made_by,
        made_at_s=it.made_at_s,
    )


class ProofReserve(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of them."""

    reserve: Annotated[int, msgspec.Meta(ge=1)]


class WrittenReserve(msgspec.Struct, frozen=True, kw_only=True):
    """A file that `angara verify` reads; and what any program that knows BIP-322 takes: the message, and the
    proof of funds."""

    name: str
    content: str
    message: str
    signature: str


def proof_reserve(desk: Desk, it: ProofReserve) -> WrittenReserve:
    """What coins signed for a root, each with its transaction and its signature."""
    found = desk.read(lambda connection: noted(connection, it.reserve, 1))
    if not found or found[0].reserve.number != it.reserve:
        raise RegistryError(f"there is no reserve {it.reserve}")
    reserve = found[0].reserve
    message, psbt = signature_of(reserve)
    return WrittenReserve(
        name=f"reserve-{reserve.root.day}-{reserve.number}.json",
        content=as_written(msgspec.to_builtins(reserve)).decode(),
        message=message,
        signature=f"pof{base64.b64encode(psbt).decode()}",
    )


class ProofKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of them."""


class KeyChanges(msgspec.Struct, frozen=True):
    """In their order."""

    changes: tuple[KeyChange, ...]


def proof_keys(desk: Desk, it: ProofKeys) -> KeyChanges:
    """Changes of the key that is signed with, each signed by the key before it where that was not lost. Each
    stands between two roots, and between two closings, which name it."""
    return KeyChanges(desk.read(changes_of_keys))


class ProofShares(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The hour, UTC, like 2026-09-01T06; one share of it where its hash is given, as blocks' are written. A
    tenant's user needs not say whose."""

    hour: Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d$")]
    share: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")] | None = None
    tenant: str | None = None


class WrittenShares(msgspec.Struct, frozen=True, kw_only=True):
    """A file that `angara verify` reads: what to call it, and what is in it."""

    name: str
    content: str


def proof_shares(desk: Desk, it: ProofShares) -> WrittenShares:
    """A tenant's shares of an hour, those that are kept, with their way to a signed closing: for 400 days."""
    if it.tenant is None:
        raise RegistryError("say whose: tenant")
    tenant = it.tenant
    try:
        hour = int(datetime.fromisoformat(f"{it.hour}:00+00:00").timestamp()) // 3600
    except ValueError:
        raise RegistryError(f"{it.hour} is no hour: one is 2026-09-01T06") from None
    share = None if it.share is None else bytes.fromhex(it.share)[::-1]

    def read(connection: Connection) -> HourOfShares:
        return shares_of_hour(connection, tenant, hour, share=share)

    try:
        found = desk.read(read)
    except NoShares as error:
        raise RegistryError(str(error)) from None
    shares = sum(len(of.shares) for of in found.settlements)
    if shares > SHARES_MAX:
        raise RegistryError(f"{shares} shares are more than {SHARES_MAX}: ask for one by its hash")
    name = f"shares-{tenant}-{it.hour}{'' if it.share is None else f'-{it.share}'}.json"
    return WrittenShares(name=name, content=as_written(msgspec.to_builtins(found)).decode())


def shares_of(it: ProofShares, caller: Caller) -> ProofShares:
    """A tenant's user sees its own alone."""
    return msgspec.structs.replace(it, tenant=caller.own_tenant(it.tenant))


COMMANDS: Final[Commands] = {
    "proof.roots": Question(ProofRoots, proof_roots, Role.VIEWER),
    "proof.closings": Question(ProofClosings, proof_closings, Role.VIEWER),
    "proof.reserves": Question(ProofReserves, proof_reserves, Role.VIEWER),
    "proof.reserve": Question(ProofReserve, proof_reserve, Role.VIEWER),
    "proof.keys": Question(ProofKeys, proof_keys, Role.VIEWER),
    "proof.shares": Question(ProofShares, proof_shares, Role.TENANT, shares_of),
}
