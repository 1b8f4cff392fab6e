"""The question of the roots of what is owed to all tenants, for who publishes them.

Must not know: how they are made.
"""

from typing import Annotated, Final

import msgspec
from sqlalchemy import Connection

from payouts.proof.roots import Root, roots
from pool.admin.command import Commands, Question
from pool.admin.desk import Desk
from pool.people.roles import Role

ROOTS_MAX: Final = 1_000  # of an answer


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


COMMANDS: Final[Commands] = {"proof.roots": Question(ProofRoots, proof_roots, Role.VIEWER)}
