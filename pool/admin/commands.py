"""The operator's commands, each once: a running pool executes them, and so does the command line without one.

A command is a frozen struct of its parameters and a function of a `Desk`; what it returns is JSON. Mistakes
are RegistryError, in words. Must not know: sockets, terminals.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from pool.admin.desk import Desk
from pool.admin.machines import (
    ContainerList,
    ContainerRemove,
    ContainerSet,
    SiteList,
    WorkerList,
    WorkerRemove,
    WorkerShow,
    container_list,
    container_remove,
    container_set,
    site_list,
    worker_list,
    worker_remove,
    worker_show,
)
from pool.admin.orders import (
    OrderAdd,
    OrderEnd,
    OrderList,
    OrderShow,
    order_add,
    order_end,
    order_list,
    order_show,
)
from pool.admin.tenants import (
    TenantAdd,
    TenantList,
    TenantSetAddress,
    TenantSetStatus,
    TenantSetTerms,
    TenantShow,
    tenant_add,
    tenant_list,
    tenant_set_address,
    tenant_set_status,
    tenant_set_terms,
    tenant_show,
)
from pool.admin.upstreams import (
    UpstreamAdd,
    UpstreamList,
    UpstreamRemove,
    UpstreamShow,
    UpstreamSwitch,
    upstream_add,
    upstream_list,
    upstream_remove,
    upstream_show,
    upstream_switch,
)
from pool.fleet.rows import RegistryError
from stratum.json_depth import too_deep

INTEGER_MAX: Final = (1 << 63) - 1


class LeaseShow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


def lease_show(desk: Desk, it: LeaseShow) -> Any:
    """The epoch of the pool's lease, for those who write beside it on its host."""
    return desk.store.lease_epoch


COMMANDS: Final[dict[str, tuple[type[msgspec.Struct], Callable[[Desk, Any], Any]]]] = {
    "tenant.add": (TenantAdd, tenant_add),
    "tenant.list": (TenantList, tenant_list),
    "tenant.show": (TenantShow, tenant_show),
    "tenant.set-address": (TenantSetAddress, tenant_set_address),
    "tenant.set-terms": (TenantSetTerms, tenant_set_terms),
    "tenant.set-status": (TenantSetStatus, tenant_set_status),
    "container.list": (ContainerList, container_list),
    "site.list": (SiteList, site_list),
    "container.set": (ContainerSet, container_set),
    "worker.list": (WorkerList, worker_list),
    "worker.show": (WorkerShow, worker_show),
    "lease.show": (LeaseShow, lease_show),
    "worker.remove": (WorkerRemove, worker_remove),
    "container.remove": (ContainerRemove, container_remove),
    "upstream.add": (UpstreamAdd, upstream_add),
    "upstream.list": (UpstreamList, upstream_list),
    "upstream.show": (UpstreamShow, upstream_show),
    "upstream.switch": (UpstreamSwitch, upstream_switch),
    "upstream.remove": (UpstreamRemove, upstream_remove),
    "order.add": (OrderAdd, order_add),
    "order.list": (OrderList, order_list),
    "order.show": (OrderShow, order_show),
    "order.end": (OrderEnd, order_end),
}


READING: Final = frozenset(name for name in COMMANDS if name.endswith((".list", ".show")))


def _beyond(value: object) -> int | None:
    """A number in it that no column of the database takes."""
    if isinstance(value, int):
        return None if -INTEGER_MAX <= value <= INTEGER_MAX else value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return next((number for part in parts if (number := _beyond(part)) is not None), None)


def execute(desk: Desk, name: str, body: bytes) -> Any:
    """Execute a command with its JSON parameters. Raises RegistryError in words."""
    if name not in COMMANDS:
        raise RegistryError(f"there is no command {name!r}")
    kind, function = COMMANDS[name]
    if too_deep(body):
        raise RegistryError(f"{name}: nested too deeply")
    try:
        params = msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RegistryError(f"{name}: {error}") from None
    if (number := _beyond(msgspec.to_builtins(params))) is not None:
        raise RegistryError(f"{name}: {str(number)[:20]}... has more than 64 bits")
    return function(desk, params)
