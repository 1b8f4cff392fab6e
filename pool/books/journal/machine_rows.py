"""Which rows of the books the numbers of machines in a journal are.

A journal names each machine before its first share in a file. Those names count, not its numbers: another
pool's journal, or one beside older books, is booked to the machines that it means. While a pool runs in one
process both are the same, because it alone makes machines; where they are not, somebody else has written to
the books. Where several processes make machines, the same may come to two of them: then the one registry
beside the books says which number, and so which row, a name has (`Numbering`).

Everything is done in the caller's transaction. Must not know: shares.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

from sqlalchemy import ColumnElement, Connection, Table, func, select, update

from payouts.book_time import book_time
from payouts.schemas.many import among
from payouts.schemas.money import containers, tenants, workers
from pool.books.store import StoreError
from pool.fleet.newcomers import NEW_MAX
from pool.fleet.registry import ContainerRecord, NewRows, WorkerRecord
from pool.fleet.rows import insert_new
from pool.journal.records import Machine
from pool.journal.segments import JournalDamaged

NAMES_AT_ONCE: Final = 500  # in one question: SQLite takes some thousands of values
# Machines as one registry numbers them, and their containers, whoever named them first.
Numbering = Callable[[Sequence[Machine]], Sequence[Machine]]


class MachineRows:
    """Of one journal, file by file. `part`: which of how many parts its writer numbers machines in, where
    that is not this host's."""

    def __init__(self, part: tuple[int, int] | None = None) -> None:
        self._part = part
        self.numbers_are_rows = False
        self.numbering: Numbering | None = None  # of several processes
        self.named: dict[int, Machine] = {}  # by the file, so far
        self._ids: dict[int, int] = {}
        self._tenants: dict[int, int] = {}  # of rows: whose a machine is never changes

    def begin(self) -> None:
        """Another file, which names its machines anew."""
        self.named.clear()
        self._ids.clear()

    def forget(self) -> None:
        """What a transaction found is not so: it did not commit."""
        self._ids.clear()

    def name(self, machines: Iterable[Machine]) -> None:
        """What the file says from here on."""
        self.named.update((it.number, it) for it in machines)

    def are_rows(self, numbers: Iterable[int]) -> None:
        """These numbers are rows that there are, whoever named them."""
        self._ids.update((it, it) for it in numbers)

    def insert(self, connection: Connection, machines: Collection[Machine], now_s: int) -> None:
        """See that they have rows; those that are new mine, whatever a command had said of them before."""
        self._find(connection, machines, now_s)
        came_back = [self._ids[it.number] for it in machines if it.new]
        with_place = [self._ids[it.number] for it in machines if it.new_container]
        if came_back:
            _mines(connection, workers, among(connection, workers.c.id, came_back))
        if with_place:
            place = select(workers.c.container_id).where(among(connection, workers.c.id, with_place))
            _mines(connection, containers, containers.c.id.in_(place))

    def ids(self, connection: Connection, numbers: Collection[int], now_s: int) -> dict[int, int]:
        """Their rows. Raises JournalDamaged for one that was not named."""
        missing = [number for number in numbers if number not in self._ids]
        if missing:
            unnamed = [number for number in missing if number not in self.named]
            if unnamed:
                raise JournalDamaged(f"the journal has shares of machine {unnamed[0]}, and does not name it")
            self._find(connection, [self.named[number] for number in missing], now_s)
        return {number: self._ids[number] for number in numbers}

    def know(self, connection: Connection, numbers: Collection[int], now_s: int) -> None:
        """Have their rows be known, whoever took what they have: this process, one before it, or nobody,
        where all of it is refused."""
        if not self.numbers_are_rows:
            self.ids(connection, numbers, now_s)

    def row(self, number: int) -> int:
        """Of one that is known since the file began."""
        return number if self.numbers_are_rows else self._ids[number]

    def tenants(self, connection: Connection, ids: Collection[int]) -> dict[int, int]:
        """Whose the rows are."""
        missing = [it for it in ids if it not in self._tenants]
        if missing:
            some = among(connection, workers.c.id, missing)
            found = connection.execute(select(workers.c.id, workers.c.tenant_id).where(some))
            self._tenants.update((row.id, row.tenant_id) for row in found)
        return self._tenants

    def _find(self, connection: Connection, machines: Collection[Machine], now_s: int) -> None:
        """By their numbers, which is nearly always so; the others by their names."""
        named = {it.number: (it.tenant, it.container, it.unit) for it in machines}
        query = select(workers.c.id, tenants.c.name, containers.c.name.label("container"), workers.c.unit)
        query = query.join(tenants, tenants.c.id == workers.c.tenant_id)
        query = query.join(containers, containers.c.id == workers.c.container_id)
        for id_, *names in connection.execute(query.where(among(connection, workers.c.id, named))):
            if tuple(names) == named[id_]:
                self._ids[id_] = id_
        others = [it for it in machines if it.number not in self._ids]
        if others:
            self._make(connection, others, now_s)

    def _make(self, connection: Connection, machines: Collection[Machine], now_s: int) -> None:
        """Rows for those that have none. Raises NumberTaken where a number is another's while a pool runs."""
        if self.numbers_are_rows:
            insert_new(connection, _rows(machines), now_s)
            self._ids.update((it.number, it.number) for it in machines)
            return
        if self._part is not None:
            _check_numbers(connection, machines, self._part)
        if self.numbering is not None:
            self._make_as_numbered(connection, list(machines), self.numbering(list(machines)), now_s)
            return
        new = _new(connection, machines)
        insert_new(connection, NewRows((), tuple(new.values())), now_s)
        for it in machines:
            self._ids[it.number] = it.number if it.number in new else _made(connection, it, now_s)

    def _make_as_numbered(
        self, connection: Connection, named: Sequence[Machine], numbered: Sequence[Machine], now_s: int
    ) -> None:
        """Those that have their rows by now, since another process had them first, keep them."""
        places = {it.container_id: _container(it, it.container_id, it.tenant_id) for it in numbered}
        machines = {it.number: _worker(it, it.number, it.tenant_id, it.container_id) for it in numbered}
        insert_new(connection, NewRows(tuple(places.values()), tuple(machines.values())), now_s)
        self._ids.update((its.number, it.number) for its, it in zip(named, numbered, strict=True))


def rows_of(connection: Connection, machines: Collection[Machine], now_s: int) -> dict[int, int]:
    """The rows of machines by their numbers, made where there are none: of no day that the books are past."""
    rows = MachineRows()
    rows.name(machines)
    return rows.ids(connection, [it.number for it in machines], book_time(connection, now_s))


def _check_numbers(connection: Connection, machines: Collection[Machine], part: tuple[int, int]) -> None:
    """Numbers of machines that are new are its writer's to give, and none runs away: they are counted up for
    everybody, and there are 2^32. One that is not new may have a number of ours without a row: the books were
    put back from a copy. Raises StoreError."""
    number, of = part
    most_machine, most_container = (
        int(connection.scalar(select(func.max(it.c.id))) or 0) + NEW_MAX * of for it in (workers, containers)
    )
    for it in machines:
        name = f"{it.tenant}.{it.container}.{it.unit}"
        for what, said, new, most in (
            ("machine", it.number, it.new, most_machine),
            ("container of", it.container_id, it.new_container, most_container),
        ):
            if not 0 < said <= most:
                raise StoreError(f"the journal numbers the {what} {name} as {said}: no count comes so far")
            if new and said % of != number:
                raise StoreError(
                    f"the journal numbers the {what} {name} as {said}, which is of part {said % of} of {of},"
                    f" and not of its own, {number}"
                )


def _new(connection: Connection, machines: Collection[Machine]) -> dict[int, WorkerRecord]:
    """Rows for those whose numbers are free and whose names nobody has, in containers that are there: nearly
    all of those that are new, since no two processes number machines alike."""
    some = among(connection, workers.c.id, [it.number for it in machines])
    taken = set(connection.scalars(select(workers.c.id).where(some)))
    found: dict[int, WorkerRecord] = {}
    of_places: dict[tuple[str, str], dict[str, Machine]] = {}
    for it in machines:
        if it.number not in taken:
            of_places.setdefault((it.tenant, it.container), {}).setdefault(it.unit, it)
    for (tenant, container), units in of_places.items():
        place = connection.execute(
            select(containers.c.id, containers.c.tenant_id)
            .join(tenants)
            .where(tenants.c.name == tenant, containers.c.name == container)
        ).one_or_none()
        if place is None:
            continue
        names = list(units)
        for at in range(0, len(names), NAMES_AT_ONCE):
            mine = (workers.c.container_id == place.id) & workers.c.unit.in_(names[at : at + NAMES_AT_ONCE])
            for unit in connection.scalars(select(workers.c.unit).where(mine)):
                del units[unit]
        for it in units.values():
            found[it.number] = _worker(it, it.number, place.tenant_id, place.id)
    return found


def _mines(connection: Connection, table: Table, some: ColumnElement[bool]) -> None:
    """They are not removed, or not any more."""
    back = update(table).where(some, table.c.removed_at_s.is_not(None)).values(removed_at_s=None)
    connection.execute(back)


def _rows(machines: Iterable[Machine]) -> NewRows:
    """As the registry has them. A container that is there, and did not come back, is left as it is."""
    rows, places = [], {}
    for it in machines:
        rows.append(_worker(it, it.number, it.tenant_id, it.container_id))
        if it.new_container:
            places[it.container_id] = _container(it, it.container_id, it.tenant_id)
    return NewRows(tuple(places.values()), tuple(rows))


def _made(connection: Connection, machine: Machine, now_s: int) -> int:
    """The row of that name, made where there is none, with a number that is free."""
    tenant_id = connection.scalar(select(tenants.c.id).where(tenants.c.name == machine.tenant))
    if tenant_id is None:
        raise StoreError(
            f"the journal has shares of tenant {machine.tenant}, whom these books do not know: add the"
            " tenant, with the terms that it had, and start the pool again"
        )
    place = (containers.c.tenant_id == tenant_id) & (containers.c.name == machine.container)
    container_id = connection.scalar(select(containers.c.id).where(place))
    new: tuple[ContainerRecord, ...] = ()
    if container_id is None:
        container_id = _free(connection, containers, machine.container_id)
        new = (_container(machine, container_id, tenant_id),)
    unit = (workers.c.container_id == container_id) & (workers.c.unit == machine.unit)
    number = connection.scalar(select(workers.c.id).where(unit))
    rows: tuple[WorkerRecord, ...] = ()
    if number is None:
        number = _free(connection, workers, machine.number)
        rows = (_worker(machine, number, tenant_id, container_id),)
    insert_new(connection, NewRows(new, rows), now_s)
    return int(number)


def _free(connection: Connection, table: Table, wanted: int) -> int:
    """The number, or the next one where it is another's."""
    if connection.scalar(select(table.c.id).where(table.c.id == wanted)) is None:
        return wanted
    return int(connection.execute(select(func.max(table.c.id))).scalar_one()) + 1


def _worker(machine: Machine, number: int, tenant_id: int, container_id: int) -> WorkerRecord:
    return WorkerRecord(
        id=number,
        tenant_id=tenant_id,
        container_id=container_id,
        unit=machine.unit,
        agent=machine.agent,
    )


def _container(machine: Machine, container_id: int, tenant_id: int) -> ContainerRecord:
    return ContainerRecord(id=container_id, tenant_id=tenant_id, name=machine.container)
