"""The operator's commands for edges at other sites, each once: with a running pool, and without one.

What an edge may count for decides who is paid: a payer says it. To take power away (retired, or begun anew)
waits for nobody, and neither does the order to look again at what was held, which allows nothing new. To have
work be paid by a price that was over is a payer's to say, and so is to give up what was acknowledged.

Must not know: sockets, terminals.
"""

from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import Connection

from pool.admin.command import Change, Commands, Guarded, Question
from pool.admin.desk import Desk, OperatorDesk, named, wall_s
from pool.admin.pages import Page, Paged, page_of
from pool.books.changes.changes import State
from pool.books.edges import late, rows
from pool.books.edges.hub_copies import GivenUp, Here, check_booked, give_up
from pool.books.edges.late import BOOK_LATE, Late
from pool.books.edges.remote_edge import Standing
from pool.books.edges.rows import EdgePlace, EdgeRecord
from pool.books.edges.watch import State as EdgeState
from pool.books.edges.watch import state_of
from pool.chain.templates import HEIGHT_MAX
from pool.fleet.registry_error import RegistryError
from pool.people.roles import Role


class EdgeAdd(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`containers` are tenant.container; `ths` is what its machines do together."""

    name: str
    nkey: str
    tenants: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    ths: int | None = None


class EdgeList(Paged, frozen=True, forbid_unknown_fields=True):
    pass


class EdgeShow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class EdgeSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is None stays as it is; whom it counts for is said as a whole."""

    name: str
    nkey: str | None = None
    tenants: tuple[str, ...] | None = None
    containers: tuple[str, ...] | None = None
    ths: int | None = None


class EdgeReset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class EdgeGiveUp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`behind` is the last record of its journal that is here; that `hub` had more, and its disk is gone."""

    name: str
    hub: str
    behind: int


class EdgeRelease(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class EdgeBookLate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Up to record `until` of its journal, work is paid by the price of `height` though that was over."""

    name: str
    height: Annotated[int, Meta(ge=0, le=HEIGHT_MAX)]
    until: int


class EdgeRetire(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class EdgeRow(msgspec.Struct, frozen=True, kw_only=True):
    """An edge. `part` of 256 of all numbers is its; `held` is why the books take nothing of it; the rest from
    `state` on is what a running hub knows: record `have` of its journal is here, `booked` in the books."""

    id: int
    name: str
    nkey: str
    part: int
    epoch: int
    writer: str | None
    tenants: tuple[str, ...]
    containers: tuple[str, ...]
    ths: int | None
    host: str | None
    process: str | None
    lease_until_at_s: int | None
    created_at_s: int
    created_by: str
    retired_at_s: int | None
    held: str | None
    held_at_s: int | None
    state: EdgeState | UnsetType = UNSET
    have: int | UnsetType = UNSET
    booked: int | UnsetType = UNSET
    heard_age_s: float | UnsetType | None = UNSET
    moment_at_s: int | UnsetType = UNSET
    untaken_bytes: int | UnsetType = UNSET
    waits: str | UnsetType | None = UNSET
    beyond_at_s: int | UnsetType | None = UNSET


def edge_add(desk: OperatorDesk, it: EdgeAdd) -> EdgeRow:
    def add(connection: Connection) -> EdgeRecord:
        places = _places(it.tenants, it.containers)
        return rows.add_edge(connection, it.name, it.nkey, places, ths=it.ths, by=desk.by, now_s=wall_s())

    return _changed(desk, desk.write(add))


def edge_list(desk: Desk, it: EdgeList) -> Page[EdgeRow]:
    """All there ever were: a retired one's name is nobody else's."""
    standing = _standing(desk)
    found = [_row(record, standing) for record in desk.read(rows.load_edges)]
    return page_of(it, found, lambda row: (row.name,))


def edge_show(desk: Desk, it: EdgeShow) -> EdgeRow:
    return _row(desk.read(lambda connection: rows.find_edge(connection, it.name)), _standing(desk))


def edge_set(desk: OperatorDesk, it: EdgeSet) -> EdgeRow:
    def change(connection: Connection) -> EdgeRecord:
        places = None
        if it.tenants is not None or it.containers is not None:
            places = _places(it.tenants or (), it.containers or ())
        return rows.set_edge(connection, it.name, nkey=it.nkey, places=places, ths=it.ths)

    return _changed(desk, desk.write(change))


def edge_reset(desk: OperatorDesk, it: EdgeReset) -> EdgeRow:
    """Its next process begins another journal, with another part of the numbers."""
    here = _here(desk, it.name)

    def reset(connection: Connection) -> EdgeRecord:
        check_booked(connection, rows.in_use(connection, it.name), here)
        return rows.reset_edge(connection, it.name, wall_s())

    return _changed(desk, desk.write(reset))


def edge_give_up(desk: OperatorDesk, it: EdgeGiveUp) -> EdgeRow:
    """What that hub has acknowledged behind that record is lost with its disk."""
    here = _here(desk, it.name)
    given_up: list[GivenUp] = []

    def give(connection: Connection) -> EdgeRecord:
        record, one = give_up(connection, it.name, it.hub, it.behind, here)
        given_up.append(one)
        return record

    return _changed(desk, _also_noting(desk, "given_up", given_up).write(give))


def edge_release(desk: OperatorDesk, it: EdgeRelease) -> EdgeRow:
    """What was held is looked at again, from where the books are."""
    return _changed(desk, desk.write(lambda connection: rows.release_edge(connection, it.name)))


def edge_book_late(desk: OperatorDesk, it: EdgeBookLate) -> EdgeRow:
    """What is held because a price was over is taken again, and paid by that price."""
    if (standing := _standing(desk).get(it.name)) is not None and it.until > standing.have:
        raise RegistryError(f"record {it.until} of edge {it.name} is not here: only {standing.have} are")
    allowed: list[Late] = []

    def allow(connection: Connection) -> EdgeRecord:
        record, one = late.allow(connection, it.name, it.height, it.until)
        allowed.append(one)
        return record

    return _changed(desk, _also_noting(desk, "late", allowed).write(allow))


def edge_retire(desk: OperatorDesk, it: EdgeRetire) -> EdgeRow:
    return _changed(desk, desk.write(lambda connection: rows.retire_edge(connection, it.name, wall_s())))


def edge_state(connection: Connection, subject: str) -> State:
    found = (_row(it, {}) for it in rows.load_edges(connection) if it.name == subject)
    return next((msgspec.to_builtins(row) for row in found), None)


def _also_noting(desk: OperatorDesk, name: str, done: list[Any]) -> OperatorDesk:
    """A desk at which the last of these, once it is there, is in the record of the change alone."""

    def state(connection: Connection, subject: str) -> State:
        found = edge_state(connection, subject)
        if found is None or not done:
            return found
        return found | {name: msgspec.to_builtins(done[-1])}

    return msgspec.structs.replace(desk, state=state)


def _here(desk: Desk, edge: str) -> Here | None:
    """What the hub that runs has of its journal."""
    found = _standing(desk).get(edge)
    return None if found is None else Here(found.hub, found.have, found.unbooked)


def _places(tenants: tuple[str, ...], containers: tuple[str, ...]) -> list[EdgePlace]:
    """A tenant's name has no dot, a container's may have."""
    split = [it.partition(".") for it in containers]
    return [EdgePlace(it) for it in tenants] + [EdgePlace(tenant, rest) for tenant, _, rest in split]


def _standing(desk: Desk) -> dict[str, Standing]:
    return {} if desk.live is None else {it.edge: it for it in desk.live.edge_standing()}


def _changed(desk: OperatorDesk, record: EdgeRecord) -> EdgeRow:
    if desk.live is not None:
        desk.live.edges_changed()
    return _row(record, {})


def _row(it: EdgeRecord, standing: dict[str, Standing]) -> EdgeRow:
    row = EdgeRow(
        id=it.id,
        name=it.name,
        nkey=it.nkey,
        part=it.part,
        epoch=it.epoch,
        writer=it.writer,
        tenants=tuple(place.tenant for place in it.places if not place.container),
        containers=tuple(place.words for place in it.places if place.container),
        ths=it.ths,
        host=it.host,
        process=it.process,
        lease_until_at_s=None if it.host is None else it.lease_until_s,
        created_at_s=it.created_at_s,
        created_by=it.created_by,
        retired_at_s=it.retired_at_s,
        held=it.held,
        held_at_s=it.held_at_s,
    )
    if (now := standing.get(it.name)) is None:
        return row
    return msgspec.structs.replace(
        row,
        held=it.held or now.held,
        state=state_of(now),
        have=now.have,
        booked=now.booked,
        heard_age_s=now.heard_age_s,
        moment_at_s=now.moment_s,
        untaken_bytes=now.untaken_bytes,
        waits=now.waits,
        beyond_at_s=now.beyond_at_s,
    )


COMMANDS: Final[Commands] = {
    # Whom an edge may count for decides who is paid; what it may no more waits for nobody.
    "edge.add": Guarded(EdgeAdd, edge_add, named, edge_state, Role.PAYER),
    "edge.list": Question(EdgeList, edge_list),
    "edge.show": Question(EdgeShow, edge_show),
    "edge.set": Guarded(EdgeSet, edge_set, named, edge_state, Role.PAYER),
    "edge.reset": Change(EdgeReset, edge_reset, named, edge_state, Role.OPERATOR),
    # Tenants lose what they were told is accepted.
    "edge.give-up": Guarded(EdgeGiveUp, edge_give_up, named, edge_state, Role.PAYER),
    "edge.release": Change(EdgeRelease, edge_release, named, edge_state, Role.OPERATOR),
    # Whoever has a site gains by work at the price of before it was harder.
    BOOK_LATE: Guarded(EdgeBookLate, edge_book_late, named, edge_state, Role.PAYER),
    "edge.retire": Change(EdgeRetire, edge_retire, named, edge_state, Role.OPERATOR),
}
