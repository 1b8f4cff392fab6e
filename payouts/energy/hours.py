"""Energy as the books take it: of each container and hour, once; what is known better later is the next part.

An hour is taken when it is over for GRACE_S. What a container drew is written down with whose it is and where
it stands at that moment, and stays theirs: a later part goes to the same tenant and site. Nothing of before
the books began to take energy is ever taken.

Invariants: parts add up to what was said last, exactly, and never to less than nothing; the rows and the
count of what there is to charge are one transaction, the caller's, which must be the only writer. Must not
know: how energy is measured, and what it costs.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, func, insert, select, update

from payouts.book_time import book_time, latest_s
from payouts.energy.tariffs import HOUR_S
from payouts.energy.terms import Charge, terms_at
from payouts.schemas.energy import booked_energy, energy_taken, energy_to_charge
from payouts.schemas.money import containers

# Edges bring their last shares, and meters their readings, within this time (docs/books.md: 15 minutes).
GRACE_S: Final = 900


class ContainerEnergy(msgspec.Struct, frozen=True, kw_only=True):
    """What a container drew in an hour, in joules: by a meter, and beyond that as estimated from its work.
    All of it may be off by `error_j`, both ways."""

    container_id: int
    metered_j: int = 0
    estimated_j: int = 0
    error_j: int = 0

    def __post_init__(self) -> None:
        if min(self.metered_j, self.estimated_j, self.error_j) < 0:
            raise ValueError(f"container {self.container_id} cannot have drawn less than nothing")


def next_hour(connection: Connection) -> int:
    """The first hour that is not taken: where nothing ever was, the one that begins next."""
    taken: int | None = connection.scalar(select(energy_taken.c.next_hour))
    return latest_s(connection) // HOUR_S + 1 if taken is None else taken


def due_hour(connection: Connection, now_s: int) -> int | None:
    """The next hour to take, if it is over for long enough."""
    hour = next_hour(connection)
    return hour if (hour + 1) * HOUR_S + GRACE_S <= now_s else None


def began(connection: Connection) -> bool:
    """Whether energy is taken already."""
    return connection.scalar(select(energy_taken.c.next_hour)) is not None


def begin(connection: Connection, now_s: int) -> None:
    """Take energy from the next hour on, where none was ever taken."""
    if connection.scalar(select(energy_taken.c.next_hour)) is None:
        book_time(connection, now_s)
        first = next_hour(connection)
        connection.execute(insert(energy_taken).values(id=1, first_hour=first, next_hour=first))


def first_hour(connection: Connection) -> int:
    """The first hour that was ever taken, or will be: nothing of before is."""
    began: int | None = connection.scalar(select(energy_taken.c.first_hour))
    return next_hour(connection) if began is None else began


def take_next(connection: Connection, hour: int, drawn: Sequence[ContainerEnergy], now_s: int) -> int:
    """Take the next hour: all that was drawn in it. Nothing where it was taken meanwhile; how many parts."""
    follows = energy_taken.c.next_hour == hour
    if connection.execute(update(energy_taken).where(follows).values(next_hour=hour + 1)).rowcount != 1:
        return 0
    return take_again(connection, hour, drawn, now_s)


def take_again(connection: Connection, hour: int, drawn: Sequence[ContainerEnergy], now_s: int) -> int:
    """Take an hour as it is known now: what is other than before is its next part; how many parts."""
    known, parts = _known(connection, hour), 0
    said = {it.container_id: it for it in drawn}
    for container_id in sorted(said.keys() | known.keys()):
        now = said.get(container_id, ContainerEnergy(container_id=container_id))
        before = known.get(container_id)
        change = _change(now, before)
        if any(change.values()):
            _book(connection, container_id, hour, before, change, now_s)
            parts += 1
    return parts


def differs(connection: Connection, hour: int, drawn: Sequence[ContainerEnergy]) -> bool:
    """Whether an hour is known otherwise than it was taken."""
    known = _known(connection, hour)
    said = {it.container_id: it for it in drawn}
    none = ContainerEnergy(container_id=0)
    return any(any(_change(said.get(it, none), known.get(it)).values()) for it in said.keys() | known.keys())


def _known(connection: Connection, hour: int) -> dict[int, Row[Any]]:
    """By container, what its parts add up to."""
    of = booked_energy.c
    rows: Any = connection.execute(
        select(
            of.container_id,
            func.max(of.part).label("part"),
            func.max(of.tenant_id).label("tenant_id"),
            func.max(of.site_id).label("site_id"),
            func.sum(of.metered_j).label("metered_j"),
            func.sum(of.estimated_j).label("estimated_j"),
            func.sum(of.error_j).label("error_j"),
        )
        .where(of.hour == hour)
        .group_by(of.container_id)
    )
    return {row.container_id: row for row in rows}


def _change(now: ContainerEnergy, before: Row[Any] | None) -> dict[str, int]:
    names = ("metered_j", "estimated_j", "error_j")
    return {it: getattr(now, it) - (0 if before is None else int(getattr(before, it))) for it in names}


def _book(
    connection: Connection,
    container_id: int,
    hour: int,
    before: Row[Any] | None,
    change: dict[str, int],
    now_s: int,
) -> None:
    if before is None:
        whose = select(containers.c.tenant_id, containers.c.site_id).where(containers.c.id == container_id)
        (tenant_id, site_id), part = connection.execute(whose).one(), 0
    else:
        tenant_id, site_id, part = before.tenant_id, before.site_id, before.part + 1
    connection.execute(
        insert(booked_energy).values(
            container_id=container_id,
            hour=hour,
            part=part,
            tenant_id=tenant_id,
            site_id=site_id,
            taken_at_s=book_time(connection, now_s),
            **change,
        )
    )
    joules = change["metered_j"] + change["estimated_j"]
    if joules:
        _count(connection, tenant_id, site_id or 0, hour, joules)


def _count(connection: Connection, tenant_id: int, site_id: int, hour: int, joules: int) -> None:
    """The first part says by which terms an hour is charged, the others add to it."""
    of = energy_to_charge.c
    there = (of.tenant_id == tenant_id, of.site_id == site_id, of.hour == hour)
    more = update(energy_to_charge).where(*there).values(joules=of.joules + joules)
    if connection.execute(more).rowcount:
        return
    terms = terms_at(connection, tenant_id, hour * HOUR_S)
    connection.execute(
        insert(energy_to_charge).values(
            tenant_id=tenant_id,
            site_id=site_id,
            hour=hour,
            terms_id=None if terms is None or terms.charge is Charge.NONE else terms.id,
            joules=joules,
            charged_j=0,
        )
    )
