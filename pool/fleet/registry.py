"""Who may mine: tenants, containers and workers in memory, as the database has them.

Asked in the middle of a handshake, so it answers at once: everything is loaded at the start. A name that is
new is admitted as a newcomer, in memory only (`pool.fleet.newcomers`); with its first accepted share it
becomes a worker, its container is made where that is new too, and both are in the commit that has the share.

Invariants: a worker's number is never reused while anything is counted under it; a worker is known here
before it is admitted; only one process writes (the data directory is locked). Must not know: connections
beyond their address, and how commands get here.
"""

import heapq
import time
from collections.abc import Collection, Iterator
from statistics import median_low
from typing import Final
from urllib.parse import unquote

import msgspec

from payouts.rates import OrderCredit, Scheme, UpstreamRisk
from payouts.solo import Payee
from pool.fleet.newcomers import Newcomer, Newcomers, Numbers
from pool.fleet.remembered_difficulty import Drift
from pool.journal.records import Machine
from stratum.miners.contracts import Admitted, Refusal
from stratum.miners.owner import Owner

# Of one tenant, with accepted shares: four sites built out, so a machine that invents names and mines under
# each of them cannot fill the books.
WORKERS_PER_TENANT_MAX: Final = 100_000
CONTAINERS_PER_TENANT_MAX: Final = 1_000
# At all sites together. Each knows its own, and lets so many in: nobody's machines at ten honest sites make a
# hub refuse the journal of one.
WORKERS_AT_SITES_MAX: Final = 10 * WORKERS_PER_TENANT_MAX
CONTAINERS_AT_SITES_MAX: Final = 10 * CONTAINERS_PER_TENANT_MAX
NAME_CHARS_MAX: Final = 63  # of a container or unit: what survives firmware that cuts names
AGENT_CHARS_MAX: Final = 100


class TenantRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant and its terms in force."""

    id: int
    name: str
    active: bool
    scheme: Scheme
    fee_bps: int
    terms_at_s: int = 0  # since when
    upstream_id: int | None = None  # where its machines mine; None: for the pool
    order_credit: OrderCredit = OrderCredit.PPS
    upstream_risk: UpstreamRisk = UpstreamRisk.TENANT
    proxied: frozenset[int] = frozenset()  # upstreams that pay it, by these terms or by any before
    payees: tuple[Payee, ...] = ()  # what its blocks pay, where it is a solo tenant


class ContainerRecord(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    tenant_id: int
    name: str
    site_id: int = 0  # 0: nobody has said where it stands
    site: str | None = None
    units: int | None = None  # of its nameplate: how many machines, and what they do together
    ths: int | None = None
    removed: bool = False


class WorkerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One machine; `id` is what its shares are tallied by."""

    id: int
    tenant_id: int
    container_id: int
    unit: str
    agent: str | None = None
    difficulty_log2: int | None = None
    removed: bool = False


class UnlistedWorker(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that has no row in the database: it came a moment ago, or has no accepted share yet."""

    id: int
    tenant_id: int
    tenant: str
    container: str
    unit: str
    agent: str | None
    first_seen_at_s: int | None
    new: bool  # no accepted share yet


class KnownMachine(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as one process tells another of it: the one of that name, whatever its number is there."""

    tenant: str
    container: str
    unit: str
    number: int
    container_id: int
    difficulty_log2: int | None


class Snapshot(msgspec.Struct, frozen=True):
    """What the database knows."""

    tenants: tuple[TenantRecord, ...]
    containers: tuple[ContainerRecord, ...]
    workers: tuple[WorkerRecord, ...]


class NewRows(msgspec.Struct, frozen=True):
    """What has work behind it for the first time and is not in the database yet."""

    containers: tuple[ContainerRecord, ...] = ()
    workers: tuple[WorkerRecord, ...] = ()


class Registry:
    """Admission by the database's snapshot. `part` of `of`: this process's, of all that number machines; of
    containers and machines the numbers up to `taken` are somebody's. `renumbers`: machines that others number
    get numbers here, without the gaps of theirs. `places` are tenants and containers
    (empty: all of the tenant's) whose machines may mine here; None: all of them."""

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        part: int = 0,
        of: int = 1,
        taken: tuple[int, int] = (0, 0),
        renumbers: bool = False,
        places: frozenset[tuple[str, str]] | None = None,
    ) -> None:
        self.places = places
        self._renumbers = renumbers
        self.tenants = {tenant.name: tenant for tenant in snapshot.tenants}
        self.tenants_by_id = {tenant.id: tenant for tenant in snapshot.tenants}
        self.containers: dict[int, ContainerRecord] = {}
        self.workers: dict[int, WorkerRecord] = {}
        self._container_ids: dict[tuple[int, str], int] = {}
        self._worker_ids: dict[tuple[int, str], int] = {}
        # Of each tenant, without the removed ones. Those keep their numbers, and may come back.
        self._workers_of: dict[int, int] = {}
        self._containers_of: dict[int, int] = {}
        self._removed: dict[int, WorkerRecord] = {}
        self._removed_containers: set[int] = set()
        self._reserved: dict[tuple[int, str], int] = {}  # numbers of containers that nobody has yet
        self._container_numbers, self._numbers = Numbers(part, of), Numbers(part, of)
        self.generation = 0  # another one when a machine, or a container, is new, another one, or gone
        self._container_numbers.above(taken[0])
        self._numbers.above(max((it.id for it in snapshot.workers), default=0))
        self._numbers.above(taken[1])
        self.newcomers = Newcomers(self._numbers)
        for container in snapshot.containers:
            self.put_container(container)
        for worker in snapshot.workers:
            self._worker_ids[worker.container_id, worker.unit] = worker.id
            if worker.removed:
                self._removed[worker.id] = worker
            else:
                self._put_worker(worker)
        self.rowless: dict[
            int, WorkerRecord
        ] = {}  # workers that the journal knows, and the tables do not yet
        self._new_containers: list[ContainerRecord] = []
        self._drift = Drift()
        self._usual_log2: int | None = None
        self._new_workers: list[WorkerRecord] = []

    def put_tenant(self, tenant: TenantRecord) -> None:
        """A tenant is new, or its status or terms changed."""
        if (before := self.tenants_by_id.get(tenant.id)) is not None:
            tenant = msgspec.structs.replace(tenant, proxied=before.proxied | tenant.proxied)
        self.tenants[tenant.name] = self.tenants_by_id[tenant.id] = tenant

    def pays_by_fees(self) -> bool:
        """Whether any tenant is paid by the fees of recent blocks."""
        return any(tenant.scheme is Scheme.FPPS for tenant in self.tenants.values())

    def upstreams(self) -> set[int]:
        """Where tenants mine by their terms."""
        return {it.upstream_id for it in self.tenants.values() if it.upstream_id is not None}

    def admit(self, name: str, agent: str, owner: Owner) -> Admitted | Refusal:
        """Whether the worker of that name may mine on that connection, and where it left off."""
        tenant_name, container_name, unit = parse_worker_name(name)
        tenant = self.tenants.get(tenant_name)
        if tenant is None:
            return Refusal(
                f"Unknown tenant {tenant_name[:32] or '(empty)'}: worker names are tenant.container.unit"
            )
        if not tenant.active:
            return Refusal(f"Tenant {tenant_name} is suspended: ask the operator")
        if len(container_name) > NAME_CHARS_MAX or len(unit) > NAME_CHARS_MAX:
            return Refusal(f"Container and unit have at most {NAME_CHARS_MAX} characters each")
        if not self.is_here(tenant_name, container_name):
            return Refusal(f"Machines of {tenant_name}.{container_name[:32]} do not mine at this site")
        container = self._container_ids.get((tenant.id, container_name))
        worker_id = None if container is None else self._worker_ids.get((container, unit))
        if worker_id is not None and worker_id in self.workers:
            return Admitted(worker_id, self.workers[worker_id].difficulty_log2, party=tenant.id)
        if self._workers_of.get(tenant.id, 0) >= WORKERS_PER_TENANT_MAX:
            return Refusal(f"Tenant {tenant_name} has too many workers: `angara worker remove` makes room")
        new_container = container is None or container in self._removed_containers
        if new_container and self._containers_of.get(tenant.id, 0) >= CONTAINERS_PER_TENANT_MAX:
            return Refusal(
                f"Tenant {tenant_name} has too many containers: `angara container remove` makes room"
            )
        new = self.newcomers.admit(
            (tenant.id, container_name, unit),
            agent[:AGENT_CHARS_MAX],
            owner,
            int(time.time()),
            number=worker_id,  # of a worker that was removed: if it mines again it is the same one
        )
        return new if isinstance(new, Refusal) else Admitted(new, party=tenant.id)

    def is_here(self, tenant: str, container: str) -> bool:
        """Whether machines of that container may mine here."""
        return self.places is None or not self.places.isdisjoint(((tenant, ""), (tenant, container)))

    def leave(self, owner: Owner) -> None:
        """The connection is gone."""
        self.newcomers.leave(owner)

    def prove(self, number: int) -> None:
        """There is work behind this number: it is a worker's from now on, whoever it was before."""
        if number not in self.newcomers.by_number:
            return
        newcomer = self.newcomers.prove(number)
        worker = WorkerRecord(
            id=number,
            tenant_id=newcomer.tenant_id,
            container_id=self._container(newcomer),
            unit=newcomer.unit,
            agent=newcomer.agent or None,
        )
        self._removed.pop(number, None)
        self._put_worker(worker)
        self.rowless[number] = worker
        self._new_workers.append(worker)

    def finder(self, number: int) -> str | None:
        """Who has found something, whatever its verdict is: there is work behind it. None for 0."""
        self.prove(number)
        return self.name_of(number) if number else None

    def _container(self, newcomer: Newcomer) -> int:
        known = self._container_ids.get((newcomer.tenant_id, newcomer.container))
        if known is not None and known not in self._removed_containers:
            return known
        if known is None:
            number = self._new_container_number(newcomer.tenant_id, newcomer.container)
            container = ContainerRecord(id=number, tenant_id=newcomer.tenant_id, name=newcomer.container)
        else:
            container = msgspec.structs.replace(self.containers[known], removed=False)
        self.put_container(container)
        self._new_containers.append(container)
        return container.id

    def has_worked(self, number: int) -> bool:
        """Whether it is one that had an accepted share, removed or not."""
        return number in self.workers or number in self._removed

    def worker(self, number: int) -> WorkerRecord:
        """One that had an accepted share, removed or not."""
        return self.workers.get(number) or self._removed[number]

    def remove_workers(self, numbers: Collection[int]) -> None:
        """Machines that are gone. What they have sent still counts, and brings them back."""
        for number in numbers:
            worker = self.workers.pop(number, None)
            if worker is not None:
                self.generation += 1
                self._removed[number] = worker
                self._workers_of[worker.tenant_id] -= 1
                self.newcomers.put(
                    (worker.tenant_id, self.containers[worker.container_id].name, worker.unit),
                    worker.agent or "",
                    int(time.time()),
                    number,
                )

    def _put_worker(self, worker: WorkerRecord) -> None:
        self.generation += 1
        self.workers[worker.id] = worker
        self._worker_ids[worker.container_id, worker.unit] = worker.id
        self._workers_of[worker.tenant_id] = self._workers_of.get(worker.tenant_id, 0) + 1

    def reserve_container(self, tenant: str, name: str) -> int:
        """A number for a container that a command is about to make: the one that it has already, where its
        machines have begun to mine, and the books do not have it yet."""
        of = self.tenants.get(tenant)
        if of is None:
            return self._container_numbers.take()
        known = self._container_ids.get((of.id, name))
        return self._new_container_number(of.id, name) if known is None else known

    def _new_container_number(self, tenant_id: int, name: str) -> int:
        """The one that a command is about to give it, where its first machine comes meanwhile."""
        place = tenant_id, name
        if place not in self._reserved:
            if len(self._reserved) >= CONTAINERS_AT_SITES_MAX:  # of commands that failed
                del self._reserved[next(iter(self._reserved))]
            self._reserved[place] = self._container_numbers.take()
        return self._reserved[place]

    def put_container(self, container: ContainerRecord) -> None:
        """A container that the database has, or is about to have."""
        before = container.id in self.containers and container.id not in self._removed_containers
        counted = int(not container.removed) - int(before)
        self._containers_of[container.tenant_id] = self._containers_of.get(container.tenant_id, 0) + counted
        (self._removed_containers.add if container.removed else self._removed_containers.discard)(
            container.id
        )
        self.generation += 1
        self.containers[container.id] = container
        self._container_ids[container.tenant_id, container.name] = container.id
        self._reserved.pop((container.tenant_id, container.name), None)
        self._container_numbers.above(container.id)

    def note_difficulty(self, worker_id: int, minute: int, difficulty_log2: int, work: int) -> bool:
        """Most of its work in this minute, or in a part of it, and at what difficulty that was.

        False when it starts where it did when it comes back.
        """
        worker = self.workers[worker_id]
        log2 = self._drift.after(worker_id, worker.difficulty_log2, minute, difficulty_log2, work)
        if worker.difficulty_log2 == log2:
            return False
        self.workers[worker_id] = msgspec.structs.replace(worker, difficulty_log2=log2)
        self._usual_log2 = None
        return True

    def remembered_log2(self, worker_id: int) -> int:
        """Where it starts, of a worker whose shares were noted."""
        log2 = self.workers[worker_id].difficulty_log2
        assert log2 is not None
        return log2

    def usual_log2(self, unknown_log2: int) -> int:
        """What most machines have: the median of what is remembered, of which nobody moves much alone."""
        if self._usual_log2 is None:  # once a minute, when the journal is folded
            known = [it.difficulty_log2 for it in self.workers.values() if it.difficulty_log2 is not None]
            self._usual_log2 = median_low(known) if known else unknown_log2
        return self._usual_log2

    def collect_new(self) -> NewRows:
        """Rows for the database. Whoever takes them commits them, or stops the pool."""
        new = NewRows(tuple(self._new_containers), tuple(self._new_workers))
        self._new_containers.clear()
        self._new_workers.clear()
        return new

    def found_by(self, number: int) -> Machine | None:
        """Who has found a block, for who cannot wait for the commit that names it. None for 0."""
        self.prove(number)
        return self.machine(number, new=True, new_container=True) if number else None

    def machine(self, number: int, *, new: bool, new_container: bool) -> Machine:
        """A worker, removed or not, as the journal names it."""
        worker = self.worker(number)
        container = self.containers[worker.container_id]
        return Machine(
            number=number,
            tenant_id=worker.tenant_id,
            tenant=self.tenants_by_id[worker.tenant_id].name,
            container_id=container.id,
            container=container.name,
            unit=worker.unit,
            agent=worker.agent,
            new=new,
            new_container=new_container,
        )

    def unlisted(
        self, after: int, tenant_id: int | None, container: str | None, rows_max: int
    ) -> list[UnlistedWorker]:
        """The first of those without a row in the database, by number above `after`."""

        def wanted(it: UnlistedWorker) -> bool:
            return it.id > after and tenant_id in (None, it.tenant_id) and container in (None, it.container)

        return heapq.nsmallest(rows_max, filter(wanted, self._unlisted()), key=lambda it: it.id)

    def find_unlisted(self, tenant: str, container: str, unit: str) -> UnlistedWorker | None:
        """The machine of that name, if it has no row."""
        name = tenant, container, unit
        return next((it for it in self._unlisted() if (it.tenant, it.container, it.unit) == name), None)

    def _unlisted(self) -> Iterator[UnlistedWorker]:
        """Workers and newcomers, in no order."""
        tenants = self.tenants_by_id
        for worker in self.rowless.copy().values():
            yield UnlistedWorker(
                id=worker.id,
                tenant_id=worker.tenant_id,
                tenant=tenants[worker.tenant_id].name,
                container=self.containers[worker.container_id].name,
                unit=worker.unit,
                agent=worker.agent,
                first_seen_at_s=None,
                new=False,
            )
        for it in self.newcomers.by_number.values():
            yield UnlistedWorker(
                id=it.number,
                tenant_id=it.tenant_id,
                tenant=tenants[it.tenant_id].name,
                container=it.container,
                unit=it.unit,
                agent=it.agent or None,
                first_seen_at_s=it.since_s,
                new=True,
            )

    def learn(self, it: KnownMachine) -> None:
        """A worker that has a row, and may have been met by another process; one that is here without a share
        yet stays what it is."""
        tenant, number = self.tenants.get(it.tenant), self.number_of(it.tenant, it.container, it.unit)
        if number is not None:
            known = self.workers[number]
            self.rowless.pop(number, None)
            self.workers[number] = msgspec.structs.replace(known, difficulty_log2=it.difficulty_log2)
            self._usual_log2 = None
        elif tenant is not None and self.newcomers.find((tenant.id, it.container, it.unit)) is None:
            place = self._place(tenant.id, it.container, it.container_id)
            known_number = self._worker_ids.get((place, it.unit))
            number = self._number(it.number) if known_number is None else known_number
            self._removed.pop(number, None)
            worker = WorkerRecord(
                id=number,
                tenant_id=tenant.id,
                container_id=place,
                unit=it.unit,
                difficulty_log2=it.difficulty_log2,
            )
            self._put_worker(worker)

    def adopt(self, machine: Machine) -> int | None:
        """The number here of a worker that a journal names, which is one from now on; None where nobody knows
        its tenant."""
        tenant = self.tenants.get(machine.tenant)
        if tenant is None:
            return None
        number = self.number_of(machine.tenant, machine.container, machine.unit)
        if number is not None:
            return number
        here = self.newcomers.find((tenant.id, machine.container, machine.unit))
        if here is not None and (machine.new or here.number not in self._removed):
            self.prove(here.number)  # connected since, and counted by that number
            return here.number
        place = self._place(tenant.id, machine.container, machine.container_id)
        known = self._worker_ids.get((place, machine.unit))
        worker = self._removed.get(known or 0)
        if worker is not None and not machine.new:
            return worker.id  # removed, and these shares are of before
        if worker is None:
            worker = WorkerRecord(
                id=self._number(machine.number),
                tenant_id=tenant.id,
                container_id=place,
                unit=machine.unit,
                agent=machine.agent,
            )
            self.rowless[worker.id] = worker
        self._removed.pop(worker.id, None)
        self._put_worker(worker)
        return worker.id

    def _number(self, said: int) -> int:
        """For a machine that is new here: as somebody else numbers it, where that is nobody's, and nobody is
        given it later."""
        others = self.workers, self._removed, self.newcomers.by_number
        if self._renumbers or any(said in it for it in others) or self._numbers.gave(said):
            return self._numbers.take()
        self._numbers.above(said)
        return said

    def renumbered(self, machine: Machine) -> Machine:
        """As `adopt`: with the numbers that it and its container have here. Who has no tenant here stays."""
        number = self.adopt(machine)
        if number is None:
            return machine
        worker = self.worker(number)
        return msgspec.structs.replace(
            machine, number=number, tenant_id=worker.tenant_id, container_id=worker.container_id
        )

    def known_machine(self, number: int) -> KnownMachine:
        """A worker, to be told."""
        worker = self.worker(number)
        return KnownMachine(
            tenant=self.tenants_by_id[worker.tenant_id].name,
            container=self.containers[worker.container_id].name,
            unit=worker.unit,
            number=number,
            container_id=worker.container_id,
            difficulty_log2=worker.difficulty_log2,
        )

    def learn_container(self, it: ContainerRecord) -> None:
        """As the books have it now: the one of that name, whatever its number is here."""
        number = self._container_ids.get((it.tenant_id, it.name))
        if number is None:
            number = self._container_numbers.take() if it.id in self.containers else it.id
        self.put_container(msgspec.structs.replace(it, id=number))

    def _place(self, tenant_id: int, name: str, number: int) -> int:
        """The container of that name, which is there from now on, with that number if it is new."""
        known = self._container_ids.get((tenant_id, name))
        if known is None:
            ours = self._renumbers or (tenant_id, name) in self._reserved
            if ours or number in self.containers or self._container_numbers.gave(number):
                number = self._new_container_number(tenant_id, name)
            self.put_container(ContainerRecord(id=number, tenant_id=tenant_id, name=name))
            return number
        if known in self._removed_containers:
            self.put_container(msgspec.structs.replace(self.containers[known], removed=False))
        return known

    def container_of(self, tenant: str, name: str) -> ContainerRecord | None:
        """The container of that name, removed or not, if there is one."""
        of_tenant = self.tenants.get(tenant)
        place = None if of_tenant is None else self._container_ids.get((of_tenant.id, name))
        return None if place is None else self.containers[place]

    def number_of(self, tenant: str, container: str, unit: str) -> int | None:
        """Of the worker of that name, if there is one."""
        of_tenant = self.tenants.get(tenant)
        place = None if of_tenant is None else self._container_ids.get((of_tenant.id, container))
        number = None if place is None else self._worker_ids.get((place, unit))
        return number if number in self.workers else None

    def called(self, name: str) -> int | None:
        """As `numbered`, of a name in one piece."""
        return self.numbered(*parse_worker_name(name))

    def numbered(self, tenant: str, container: str, unit: str) -> int | None:
        """The number of a worker or a newcomer of that name, if there is one."""
        number = self.number_of(tenant, container, unit)
        of_tenant = self.tenants.get(tenant)
        if number is None and of_tenant is not None:
            newcomer = self.newcomers.find((of_tenant.id, container, unit))
            number = None if newcomer is None else newcomer.number
        return number

    def tenant_of(self, number: int) -> int:
        """Of a worker, or of a newcomer."""
        worker = self.workers.get(number) or self._removed.get(number)
        return self.newcomers.by_number[number].tenant_id if worker is None else worker.tenant_id

    def workers_of(self, tenant: str) -> int:
        """How many workers a tenant has."""
        known = self.tenants.get(tenant)
        return 0 if known is None else self._workers_of.get(known.id, 0)

    def containers_of(self, tenant: str) -> int:
        """How many containers a tenant has."""
        known = self.tenants.get(tenant)
        return 0 if known is None else self._containers_of.get(known.id, 0)

    def numbers_of(self, tenant_id: int) -> set[int]:
        """Of all its workers and newcomers."""
        known = {it.id for it in self.workers.values() if it.tenant_id == tenant_id}
        return known | {it.number for it in self.newcomers.by_number.values() if it.tenant_id == tenant_id}

    def name_of(self, number: int) -> str:
        """tenant.container.unit, without what is empty."""
        return ".".join(part for part in self.place_of(number) if part)

    def knows(self, number: int) -> bool:
        """Whether a worker, or a newcomer, has it."""
        return number in self.workers or number in self.newcomers.by_number

    def place_of(self, number: int) -> tuple[str, str, str]:
        """The names of its tenant and container, and its unit's: of a worker, removed or not, or newcomer."""
        worker = self.workers.get(number) or self._removed.get(number)
        if worker is None:
            tenant_id, container, unit = self.newcomers.by_number[number].name
        else:
            tenant_id, unit = worker.tenant_id, worker.unit
            container = self.containers[worker.container_id].name
        return self.tenants_by_id[tenant_id].name, container, unit


def parse_worker_name(name: str) -> tuple[str, str, str]:
    """(tenant, container, unit); what is not there is empty. %-escapes are what some miners make of a dot."""
    if "%" in name:
        plain = unquote(name, errors="replace")
        name = plain if plain.isprintable() else name  # a line feed has no business in a log
    tenant, _, rest = name.strip().partition(".")
    container, dot, unit = rest.partition(".")
    return (tenant.lower(), container, unit) if dot else (tenant.lower(), "", container)
