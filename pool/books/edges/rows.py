"""Edges in the books: added, changed, put out of use, and given another journal.

An edge has a part of the numbers that everybody hands out (prefixes of extranonces, machines), which is
nobody else's while work made with it may be about: an edge that begins another journal (`reset`) gets another
part, and a part rests after its last journal has ended.

What an edge may count for is said by names: all machines of a tenant, or of one of its containers, which need
not be there yet.

Everything is done in the caller's transaction. Must not know: how edges are reached, what they send.
"""

import base64
import binascii
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, delete, insert, select, update

from payouts.book_time import book_time
from payouts.schemas.money import tenants
from pool.books.edges.schema import edge_places, edge_writers, edges
from pool.fleet.edge_names import NAME_WORDS, is_edge_name
from pool.fleet.registry import AGENT_CHARS_MAX, NAME_CHARS_MAX
from pool.fleet.rows import RegistryError
from pool.journal.records import Machine
from pool.reports.figures import visible

PARTS: Final = 256  # of all numbers: the hub's is 0
PLACES_MAX: Final = 1_000  # of an edge: containers of a large site, or tenants
THS_MAX: Final = 10**9
HELD_CHARS_MAX: Final = 2_000  # of why, with what an edge says in it
# A site whose line is down serves on with the part that it has, for as long as its terms hold: a week; it may
# be a month before somebody has taken it off the mains.
PART_RESTS_S: Final = 30 * 86_400
_NKEY_CHARS: Final = 56
_NKEY_USER: Final = 20 << 3  # the first byte of a user's public key: it begins with U


class EdgePlace(msgspec.Struct, frozen=True, order=True):
    """All machines of a tenant, or of one of its containers."""

    tenant: str
    container: str = ""

    @property
    def words(self) -> str:
        return f"{self.tenant}.{self.container}" if self.container else self.tenant


class EdgeRecord(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """An edge as it is. `writer` is its journal, None before it has begun one; `held` why the books take
    nothing of it; `host` and `process` have its lease until `lease_until_s`."""

    id: int
    name: str
    nkey: str
    part: int
    epoch: int
    writer: str | None
    ths: int | None
    places: tuple[EdgePlace, ...]
    host: str | None
    process: str | None
    lease_until_s: int
    created_at_s: int
    created_by: str
    retired_at_s: int | None
    held: str | None
    held_at_s: int | None

    @property
    def process_and_host(self) -> str:
        return f"{self.process} on {self.host}"

    @cached_property
    def tenants(self) -> frozenset[str]:
        """Of whom it may count for some machines, or all."""
        return frozenset(it.tenant for it in self.places)

    @cached_property
    def _granted(self) -> frozenset[tuple[str, str]]:
        return frozenset((it.tenant, it.container) for it in self.places)

    def has(self, tenant: str, container: str) -> bool:
        """Whether it may count for the machines of that container."""
        return not self._granted.isdisjoint(((tenant, ""), (tenant, container)))

    def may_count_for(self, machine: Machine) -> bool:
        """Whether it is one of its machines, by a name that a machine can have: its tenant's alone, too."""
        return can_be_named(machine) and self.has(machine.tenant, machine.container)


def can_be_named(machine: Machine) -> bool:
    """Whether a machine that logs in can have its names: there are some that no database takes."""
    container, unit, agent = machine.container, machine.unit, machine.agent or ""
    named = max(len(container), len(unit)) <= NAME_CHARS_MAX and len(agent) <= AGENT_CHARS_MAX
    return named and "\0" not in container + unit + agent


def kept_of(edge: EdgeRecord) -> dict[str, Any]:
    """What commands say of it, as the record of changes has it."""
    return {
        "id": edge.id,
        "name": edge.name,
        "nkey": edge.nkey,
        "part": edge.part,
        "tenants": [it.tenant for it in edge.places if not it.container],
        "containers": [it.words for it in edge.places if it.container],
        "ths": edge.ths,
        "created_at_s": edge.created_at_s,
        "created_by": edge.created_by,
        "retired_at_s": edge.retired_at_s,
    }


def load_edges(connection: Connection) -> tuple[EdgeRecord, ...]:
    """All there ever were, by name."""
    places: dict[int, list[EdgePlace]] = {}
    granted = select(edge_places.c.edge_id, tenants.c.name, edge_places.c.container).join(tenants)
    for edge_id, tenant, container in connection.execute(granted):
        places.setdefault(edge_id, []).append(EdgePlace(tenant, container))
    rows = connection.execute(select(edges).order_by(edges.c.name))
    return tuple(_record(row, places.get(row.id, ())) for row in rows)


def find_edge(connection: Connection, name: str) -> EdgeRecord:
    """Raises RegistryError."""
    found = next((it for it in load_edges(connection) if it.name == name), None)
    if found is None:
        raise RegistryError(f"there is no edge {name!r:.80}: `angara edge add` makes one")
    return found


def add_edge(
    connection: Connection,
    name: str,
    nkey: str,
    places: Sequence[EdgePlace],
    *,
    ths: int | None,
    by: str,
    now_s: int,
) -> EdgeRecord:
    """A new one, with a part of its own. Raises RegistryError."""
    if not is_edge_name(name):
        raise RegistryError(f"{name!r:.80} is no name of an edge: {NAME_WORDS}")
    if connection.scalar(select(edges.c.id).where(edges.c.name == name)) is not None:
        raise RegistryError(f"there is, or was, an edge {name} already: a name is one edge's for ever")
    _check_ths(ths)
    values = {
        "name": name,
        "nkey": _checked_nkey(connection, nkey),
        "part": _free_part(connection, now_s),
        "epoch": 0,
        "ths": ths,
        "lease_until_s": 0,
        "created_at_s": book_time(connection, now_s),
        "created_by": by,
    }
    edge_id = int(connection.execute(insert(edges).values(values).returning(edges.c.id)).scalar_one())
    _put_places(connection, edge_id, places)
    return find_edge(connection, name)


def set_edge(
    connection: Connection,
    name: str,
    *,
    nkey: str | None = None,
    places: Sequence[EdgePlace] | None = None,
    ths: int | None = None,
) -> EdgeRecord:
    """What is None stays as it is. Raises RegistryError."""
    edge = in_use(connection, name)
    _check_ths(ths)
    values: dict[str, Any] = {} if ths is None else {"ths": ths}
    if nkey is not None and nkey != edge.nkey:
        values["nkey"] = _checked_nkey(connection, nkey)
    if values:
        connection.execute(update(edges).where(edges.c.id == edge.id).values(values))
    if places is not None:
        _put_places(connection, edge.id, places)
    return find_edge(connection, name)


def retire_edge(connection: Connection, name: str, now_s: int) -> EdgeRecord:
    """It is let begin no more, and nothing more comes of it; what is here of its journal is booked. Raises
    RegistryError."""
    edge = in_use(connection, name)
    now_s = book_time(connection, now_s)
    _end_writer(connection, edge, now_s)
    _put(connection, edge, retired_at_s=now_s, host=None, process=None, lease_until_s=0)
    return find_edge(connection, name)


def reset_edge(connection: Connection, name: str, now_s: int) -> EdgeRecord:
    """It begins another journal, with another part. What is here of the one that it has is booked, and what
    has not come of it never is. Raises RegistryError."""
    edge = in_use(connection, name)
    if edge.writer is None:
        raise RegistryError(f"edge {name} has no journal here yet: there is nothing to begin anew")
    now_s = book_time(connection, now_s)
    _end_writer(connection, edge, now_s)
    part = _free_part(connection, now_s)
    none = {"host": None, "process": None, "lease_until_s": 0, "held": None, "held_at_s": None}
    _put(connection, edge, part=part, epoch=edge.epoch + 1, writer=None, **none)
    return find_edge(connection, name)


def release_edge(connection: Connection, name: str) -> EdgeRecord:
    """Somebody has looked: its journal is taken again, from where the books are. Raises RegistryError."""
    edge = in_use(connection, name)
    if edge.held is None:
        raise RegistryError(f"the journal of edge {name} is not held")
    _put(connection, edge, held=None, held_at_s=None)
    return find_edge(connection, name)


def hold_edge(connection: Connection, writer: str, words: str, now_s: int) -> None:
    """The books take nothing more of that journal, until somebody has looked; the first reason stays. What an
    edge has put into the words is made visible: it may be what no database takes."""
    mine = (edges.c.writer == writer) & edges.c.held.is_(None)
    held = visible(words)[:HELD_CHARS_MAX]
    connection.execute(update(edges).where(mine).values(held=held, held_at_s=now_s))


def ended_writers(connection: Connection, *, since_s: int) -> list[tuple[EdgeRecord, str]]:
    """Journals that have been over since then or later, each with the edge that had it."""
    known = {it.id: it for it in load_edges(connection)}
    over = select(edge_writers).where(edge_writers.c.ended_at_s > since_s).order_by(edge_writers.c.writer)
    return [(known[row.edge_id], row.writer) for row in connection.execute(over)]


def part_of(connection: Connection, writer: str) -> int:
    """Of the numbers in that journal."""
    part = select(edge_writers.c.part).where(edge_writers.c.writer == writer)
    return int(connection.execute(part).scalar_one())


def began_at_s(connection: Connection, writer: str) -> int:
    """When that journal was taken on, by the books' time."""
    began = select(edge_writers.c.began_at_s).where(edge_writers.c.writer == writer)
    return int(connection.execute(began).scalar_one())


def edge_of_part(connection: Connection, part: int, at_s: int) -> str | None:
    """Which edge gave out that part of the numbers then, or last before it."""
    of = edge_writers.c
    mine = (of.part == part) & (of.began_at_s <= at_s)
    name = select(edges.c.name).join(edge_writers, of.edge_id == edges.c.id).where(mine)
    found: str | None = connection.scalar(name.order_by(of.began_at_s.desc()).limit(1))
    return found


def edge_of(connection: Connection, writer: str) -> EdgeRecord | None:
    """Whose journal that is, or was."""
    owner = connection.scalar(select(edge_writers.c.edge_id).where(edge_writers.c.writer == writer))
    return next((it for it in load_edges(connection) if it.id == owner), None)


def in_use(connection: Connection, name: str) -> EdgeRecord:
    """Raises RegistryError."""
    edge = find_edge(connection, name)
    if edge.retired_at_s is not None:
        raise RegistryError(f"edge {name} is retired: add another one, with another name")
    return edge


def is_nkey(nkey: str) -> bool:
    """Whether it is the public key of a NATS user, with its checksum."""
    try:
        decoded = base64.b32decode(nkey)
    except (binascii.Error, ValueError):
        return False
    body, checksum = decoded[:-2], int.from_bytes(decoded[-2:], "little")
    return len(nkey) == _NKEY_CHARS and body[0] == _NKEY_USER and binascii.crc_hqx(body, 0) == checksum


def _record(row: Row[Any], places: Iterable[EdgePlace]) -> EdgeRecord:
    return EdgeRecord(places=tuple(sorted(places)), **row._mapping)


def _put(connection: Connection, edge: EdgeRecord, **values: Any) -> None:
    connection.execute(update(edges).where(edges.c.id == edge.id).values(values))


def _end_writer(connection: Connection, edge: EdgeRecord, now_s: int) -> None:
    if edge.writer is not None:
        mine = edge_writers.c.writer == edge.writer
        connection.execute(update(edge_writers).where(mine).values(ended_at_s=now_s))


def _free_part(connection: Connection, now_s: int) -> int:
    """The lowest that nobody has, and that nobody had lately. Raises RegistryError."""
    taken = set(connection.scalars(select(edges.c.part).where(edges.c.retired_at_s.is_(None))))
    lately = edge_writers.c.ended_at_s.is_(None) | (edge_writers.c.ended_at_s > now_s - PART_RESTS_S)
    taken |= set(connection.scalars(select(edge_writers.c.part).where(lately)))
    free = [part for part in range(1, PARTS) if part not in taken]
    if not free:
        raise RegistryError(
            f"all {PARTS - 1} parts of the numbers are edges', or were in the last"
            f" {PART_RESTS_S // 86_400} days"
        )
    return free[0]


def _check_ths(ths: int | None) -> None:
    if ths is not None and not 0 <= ths <= THS_MAX:
        raise RegistryError("TH/s must be 0 to a thousand million")


def _checked_nkey(connection: Connection, nkey: str) -> str:
    if not is_nkey(nkey):
        # not said again: it may be the secret half
        raise RegistryError(
            "that is not the public NKey of a user: 56 characters, the first a U (`angara nats key`)"
        )
    if connection.scalar(select(edges.c.id).where(edges.c.nkey == nkey)) is not None:
        raise RegistryError("that NKey is, or was, another edge's: who had it could speak for this one")
    return nkey


def _put_places(connection: Connection, edge_id: int, places: Sequence[EdgePlace]) -> None:
    if not 1 <= len(set(places)) <= PLACES_MAX:
        raise RegistryError(f"an edge counts for 1 to {PLACES_MAX} tenants or containers")
    known = dict(connection.execute(select(tenants.c.name, tenants.c.id)).all())
    rows = []
    for it in sorted(set(places)):
        if it.tenant not in known:
            raise RegistryError(f"there is no tenant {it.tenant!r:.80}")
        if len(it.container) > NAME_CHARS_MAX or not it.container.isprintable():
            raise RegistryError(f"{it.container!r:.80} is no container's name")
        rows.append({"edge_id": edge_id, "tenant_id": known[it.tenant], "container": it.container})
    connection.execute(delete(edge_places).where(edge_places.c.edge_id == edge_id))
    connection.execute(insert(edge_places), rows)
