"""What the hub knows by now, taken over by who serves miners already.

Changes are told as they happen, and may be lost on the way; so all of it is compared now and then, by names:
a container or a machine that both have met may have another number at the hub. Whoever came here since is
left alone. Must not know: how the hub is reached.
"""

from collections.abc import Callable
from typing import Final

import msgspec
import trio

from pool.fleet.registry import ContainerRecord, KnownMachine, Registry, Snapshot, TenantRecord

AT_ONCE: Final = 256  # machines looked at before miners get their turn: half a millisecond


async def refresh(
    registry: Registry,
    snapshot: Snapshot,
    *,
    on_tenant: Callable[[TenantRecord], None],
    on_removed: Callable[[set[int]], None],
) -> None:
    """`on_tenant` is told of new tenants and changed ones, `on_removed` of machines before they are gone."""
    for tenant in snapshot.tenants:
        before = registry.tenants_by_id.get(tenant.id)
        if before is None or _without_history(before) != _without_history(tenant):
            registry.put_tenant(tenant)
            on_tenant(registry.tenants_by_id[tenant.id])
    places: dict[int, tuple[str, str]] = {}
    for container in snapshot.containers:
        place = places[container.id] = registry.tenants_by_id[container.tenant_id].name, container.name
        known = registry.container_of(*place)
        mine = msgspec.structs.replace(container, id=container.id if known is None else known.id)
        if known != mine and not (mine.removed and known is not None and _mined(registry, known)):
            registry.learn_container(mine)
    removed: set[int] = set()
    for count, worker in enumerate(snapshot.workers):
        if count % AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
        tenant_name, container_name = places[worker.container_id]
        number = registry.number_of(tenant_name, container_name, worker.unit)
        if worker.removed:
            if number is not None and number not in registry.rowless:
                removed.add(number)
            continue
        known_log2 = None if number is None else registry.workers[number].difficulty_log2
        log2 = known_log2 if worker.difficulty_log2 is None else worker.difficulty_log2
        if number is None or number in registry.rowless or known_log2 != log2:
            known_machine = KnownMachine(
                tenant=tenant_name,
                container=container_name,
                unit=worker.unit,
                number=worker.id,
                container_id=worker.container_id,
                difficulty_log2=log2,
            )
            registry.learn(known_machine)
    if removed:
        on_removed(removed)
        registry.remove_workers(removed)


def _without_history(tenant: TenantRecord) -> TenantRecord:
    """Upstreams that pay it by any terms before are only ever added here."""
    return msgspec.structs.replace(tenant, proxied=frozenset())


def _mined(registry: Registry, container: ContainerRecord) -> bool:
    """Whether a machine has come there that the hub does not know yet."""
    return any(it.container_id == container.id for it in registry.rowless.values())
