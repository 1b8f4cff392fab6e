"""The operator's commands, each once: a running pool executes them, and so does the command line without one.

A command is a frozen struct of its parameters and a function; what it returns is JSON. A question is a
function of a `Desk`, which cannot write. A change is one of an `OperatorDesk`, which writes down who changed
what: it says what its subject is called, and what the books have of it. Mistakes are RegistryError, in words.

Must not know: sockets, terminals, and where an operator's name is from.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from pool.admin.changes import ChangeList, change_list
from pool.admin.desk import Desk, OperatorDesk, named
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
    container_state,
    named_container,
    named_worker,
    site_list,
    worker_list,
    worker_remove,
    worker_show,
    worker_state,
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
    order_state,
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
    tenant_state,
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
    upstream_state,
    upstream_switch,
)
from pool.books.book import bound_network
from pool.books.changes import State
from pool.books.store import open_store
from pool.fleet.rows import RegistryError
from stratum.json_depth import too_deep

INTEGER_MAX: Final = (1 << 63) - 1
SOCKET: Final = "socket"  # where commands come from: a running pool's
ALONE: Final = "alone"  # the command line, without a pool


class LeaseShow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


def lease_show(desk: Desk, it: LeaseShow) -> Any:
    """The epoch of the pool's lease, for those who write beside it on its host."""
    return desk.store.lease_epoch


class Question(msgspec.Struct, frozen=True):
    """A command that changes nothing."""

    params: type[msgspec.Struct]
    answer: Callable[[Desk, Any], Any]


class Change(msgspec.Struct, frozen=True):
    """A command that changes something. `state` has no secrets: it is kept."""

    params: type[msgspec.Struct]
    carry_out: Callable[[OperatorDesk, Any], Any]
    subject: Callable[[Any], str]
    state: Callable[[Connection, str], State]


COMMANDS: Final[dict[str, Question | Change]] = {
    "tenant.add": Change(TenantAdd, tenant_add, named, tenant_state),
    "tenant.list": Question(TenantList, tenant_list),
    "tenant.show": Question(TenantShow, tenant_show),
    "tenant.set-address": Change(TenantSetAddress, tenant_set_address, named, tenant_state),
    "tenant.set-terms": Change(TenantSetTerms, tenant_set_terms, named, tenant_state),
    "tenant.set-status": Change(TenantSetStatus, tenant_set_status, named, tenant_state),
    "container.list": Question(ContainerList, container_list),
    "site.list": Question(SiteList, site_list),
    "container.set": Change(ContainerSet, container_set, named_container, container_state),
    "container.remove": Change(ContainerRemove, container_remove, named_container, container_state),
    "worker.list": Question(WorkerList, worker_list),
    "worker.show": Question(WorkerShow, worker_show),
    "worker.remove": Change(WorkerRemove, worker_remove, named_worker, worker_state),
    "upstream.add": Change(UpstreamAdd, upstream_add, named, upstream_state),
    "upstream.list": Question(UpstreamList, upstream_list),
    "upstream.show": Question(UpstreamShow, upstream_show),
    "upstream.switch": Change(UpstreamSwitch, upstream_switch, named, upstream_state),
    "upstream.remove": Change(UpstreamRemove, upstream_remove, named, upstream_state),
    "order.add": Change(OrderAdd, order_add, named, order_state),
    "order.list": Question(OrderList, order_list),
    "order.show": Question(OrderShow, order_show),
    "order.end": Change(OrderEnd, order_end, named, order_state),
    "change.list": Question(ChangeList, change_list),
    "lease.show": Question(LeaseShow, lease_show),
}


def _beyond(value: object) -> int | None:
    """A number in it that no column of the database takes."""
    if isinstance(value, int):
        return None if -INTEGER_MAX <= value <= INTEGER_MAX else value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return next((number for part in parts if (number := _beyond(part)) is not None), None)


def execute(desk: Desk, name: str, body: bytes, by: str, source: str) -> Any:
    """Execute an operator's command with its JSON parameters. Raises RegistryError in words.

    `by` and `source` are who gives it and from where (SOCKET, ALONE), for the history."""
    if name not in COMMANDS:
        raise RegistryError(f"there is no command {name!r}")
    command = COMMANDS[name]
    if too_deep(body):
        raise RegistryError(f"{name}: nested too deeply")
    try:
        params = msgspec.json.decode(body, type=command.params)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RegistryError(f"{name}: {error}") from None
    if (number := _beyond(msgspec.to_builtins(params))) is not None:
        raise RegistryError(f"{name}: {str(number)[:20]}... has more than 64 bits")
    if isinstance(command, Question):
        return command.answer(desk, params)
    operator_desk = OperatorDesk(
        desk.store,
        desk.network,
        desk.live,
        by=by,
        source=source,
        command=name,
        subject=command.subject(params),
        state=command.state,
    )
    return command.carry_out(operator_desk, params)


def execute_alone(database_url: str, network: str | None, name: str, body: bytes, by: str) -> Any:
    """The same without a pool. `network` is what settings say; without settings the book's own counts. A
    change makes the database where there is none, a question never does. Raises StoreError too."""
    store = open_store(database_url, new=isinstance(COMMANDS.get(name), Change))
    try:
        return msgspec.to_builtins(execute(Desk(store, bound_network(store, network)), name, body, by, ALONE))
    finally:
        store.close()
