"""Who may mine: tenants, containers and workers in memory, as the database has them.

Asked in the middle of a handshake, so it answers at once: everything is loaded at the start, and workers
and containers that are new get their numbers here and their rows with the next commit of the journal,
before any share of theirs is in it.

Invariants: numbers are never reused; a worker is known here before it is admitted; only one process
writes (the data directory is locked). Must not know: connections, and how commands get here.
"""

from typing import Final
from urllib.parse import unquote

import msgspec

from payouts.rates import Scheme
from stratum.services import Admission, Refusal

# Of one tenant: four sites built out, so a machine that invents names cannot fill memory and disk.
WORKERS_PER_TENANT_MAX: Final = 100_000
CONTAINERS_PER_TENANT_MAX: Final = 1_000
NAME_CHARS_MAX: Final = 63  # of a container or unit: what survives firmware that cuts names
AGENT_CHARS_MAX: Final = 100


class TenantRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant and its terms in force."""

    id: int
    name: str
    active: bool
    scheme: Scheme
    fee_bps: int
    upstream_id: int | None = None  # where its machines mine; None: for the pool


class ContainerRecord(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    tenant_id: int
    name: str
    site_id: int = 0  # 0: nobody has said where it stands


class WorkerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One machine; `id` is what its shares are tallied by."""

    id: int
    tenant_id: int
    container_id: int
    unit: str
    agent: str | None = None
    difficulty_log2: int | None = None


class Snapshot(msgspec.Struct, frozen=True):
    """What the database knows."""

    tenants: tuple[TenantRecord, ...]
    containers: tuple[ContainerRecord, ...]
    workers: tuple[WorkerRecord, ...]


class NewRows(msgspec.Struct, frozen=True):
    """What was seen for the first time and is not in the database yet."""

    containers: tuple[ContainerRecord, ...]
    workers: tuple[WorkerRecord, ...]


class Registry:
    """stratum.session.Gate over the database's snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.tenants = {tenant.name: tenant for tenant in snapshot.tenants}
        self.tenants_by_id = {tenant.id: tenant for tenant in snapshot.tenants}
        self.containers = {container.id: container for container in snapshot.containers}
        self.workers = {worker.id: worker for worker in snapshot.workers}
        self._container_ids = {(it.tenant_id, it.name): it.id for it in snapshot.containers}
        self._worker_ids = {(it.container_id, it.unit): it.id for it in snapshot.workers}
        self._workers_of: dict[int, int] = {}
        self._containers_of: dict[int, int] = {}
        for worker in snapshot.workers:
            self._workers_of[worker.tenant_id] = self._workers_of.get(worker.tenant_id, 0) + 1
        for container in snapshot.containers:
            self._containers_of[container.tenant_id] = self._containers_of.get(container.tenant_id, 0) + 1
        self._next_container = max(self.containers, default=0) + 1
        self._next_worker = max(self.workers, default=0) + 1
        self._new_containers: list[ContainerRecord] = []
        self._new_workers: list[WorkerRecord] = []

    def put_tenant(self, tenant: TenantRecord) -> None:
        """A tenant is new, or its status or terms changed."""
        self.tenants[tenant.name] = self.tenants_by_id[tenant.id] = tenant

    def admit(self, name: str, agent: str) -> Admission | Refusal:
        """Whether the worker of that name may mine, and where it left off."""
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
        container = self._container(tenant, container_name)
        if container is None:
            return Refusal(f"Tenant {tenant_name} has too many containers")
        worker_id = self._worker_ids.get((container, unit))
        if worker_id is not None:
            return Admission(worker_id, self.workers[worker_id].difficulty_log2, party=tenant.id)
        if self._workers_of.get(tenant.id, 0) >= WORKERS_PER_TENANT_MAX:
            return Refusal(f"Tenant {tenant_name} has too many workers")
        return Admission(self._add_worker(tenant, container, unit, agent), party=tenant.id)

    def _container(self, tenant: TenantRecord, name: str) -> int | None:
        known = self._container_ids.get((tenant.id, name))
        if known is not None:
            return known
        if self._containers_of.get(tenant.id, 0) >= CONTAINERS_PER_TENANT_MAX:
            return None
        container = ContainerRecord(id=self._next_container, tenant_id=tenant.id, name=name)
        self._next_container += 1
        self.put_container(container)
        self._new_containers.append(container)
        return container.id

    def reserve_container(self) -> int:
        """A number for a container that a command is about to make."""
        self._next_container += 1
        return self._next_container - 1

    def put_container(self, container: ContainerRecord) -> None:
        """A container that the database has, or is about to have."""
        if container.id not in self.containers:
            self._containers_of[container.tenant_id] = self._containers_of.get(container.tenant_id, 0) + 1
        self.containers[container.id] = container
        self._container_ids[container.tenant_id, container.name] = container.id
        self._next_container = max(self._next_container, container.id + 1)

    def _add_worker(self, tenant: TenantRecord, container_id: int, unit: str, agent: str) -> int:
        worker = WorkerRecord(
            id=self._next_worker,
            tenant_id=tenant.id,
            container_id=container_id,
            unit=unit,
            agent=agent[:AGENT_CHARS_MAX] or None,
        )
        self._next_worker += 1
        self.workers[worker.id] = worker
        self._worker_ids[container_id, unit] = worker.id
        self._workers_of[tenant.id] = self._workers_of.get(tenant.id, 0) + 1
        self._new_workers.append(worker)
        return worker.id

    def note_difficulty(self, worker_id: int, difficulty_log2: int) -> bool:
        """Where the worker starts when it comes back; False when that is not news."""
        worker = self.workers[worker_id]
        if worker.difficulty_log2 == difficulty_log2:
            return False
        self.workers[worker_id] = msgspec.structs.replace(worker, difficulty_log2=difficulty_log2)
        return True

    def take_new(self) -> NewRows:
        """Rows for the database. Whoever takes them commits them, or stops the pool."""
        new = NewRows(tuple(self._new_containers), tuple(self._new_workers))
        self._new_containers.clear()
        self._new_workers.clear()
        return new

    def rows_of(self, worker_id: int) -> NewRows:
        """The rows of one worker, for who cannot wait for the commit that has them."""
        worker = self.workers[worker_id]
        return NewRows((self.containers[worker.container_id],), (worker,))

    def name_of(self, worker_id: int) -> str:
        """tenant.container.unit, without what is empty."""
        worker = self.workers[worker_id]
        parts = (
            self.tenants_by_id[worker.tenant_id].name,
            self.containers[worker.container_id].name,
            worker.unit,
        )
        return ".".join(part for part in parts if part)


def parse_worker_name(name: str) -> tuple[str, str, str]:
    """(tenant, container, unit); what is not there is empty. %-escapes are what some miners make of a dot."""
    if "%" in name:
        plain = unquote(name, errors="replace")
        name = plain if plain.isprintable() else name  # a line feed has no business in a log
    tenant, _, rest = name.strip().partition(".")
    container, dot, unit = rest.partition(".")
    return (tenant.lower(), container, unit) if dot else (tenant.lower(), "", container)
