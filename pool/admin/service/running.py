"""The operator's commands about how a running pool works, which leave nothing in the books but their record.

Must not know: sockets, terminals, how a pool does it.
"""

from typing import Annotated, Any, Final

import msgspec

from pool.admin.command import Change, Commands, Question, no_state
from pool.admin.desk import Desk, LivePool, OperatorDesk, running
from pool.books.changes.changes import State
from pool.books.edges.rows import in_use
from pool.edges.edges import SiteProcess
from pool.fleet.registry_error import RegistryError
from pool.people.roles import Role
from pool.routing.drain import OVER_S_MAX, OVER_S_MIN, DrainStatus


class DrainBegin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    over_s: Annotated[int, msgspec.Meta(ge=OVER_S_MIN, le=OVER_S_MAX)] = 120
    edge: str | None = None


class DrainEnd(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    edge: str | None = None


class DrainShow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    edge: str | None = None


class LeaseShow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


def drain_begin(desk: OperatorDesk, it: DrainBegin) -> DrainStatus:
    """Nobody new, and who is here goes in steps: on record before anybody is asked to go. Of one edge: until
    its next process."""
    live = running(desk)
    process = None if it.edge is None else _process_of(desk, it.edge)
    desk.note(_drain_state(live, it.edge), _of(it.edge, {"draining": True, "over_s": it.over_s}))
    return live.drain(it.over_s, process)


def drain_end(desk: OperatorDesk, it: DrainEnd) -> DrainStatus:
    """Miners are let in again."""
    live = running(desk)
    desk.note(_drain_state(live, it.edge), _of(it.edge, {"draining": False}))
    return live.end_drain(it.edge)


def drain_show(desk: Desk, it: DrainShow) -> DrainStatus:
    """How far it is."""
    return running(desk).drain_status(it.edge)


def lease_show(desk: Desk, it: LeaseShow) -> int | None:
    """The epoch of the pool's lease, for those who write beside it on its host."""
    return desk.store.lease_epoch


def the_pool(it: object) -> str:
    """What a command is about that is about no row of the books."""
    return "pool"


def _drain_state(live: LivePool, edge: str | None) -> State:
    return _of(edge, {"draining": live.drain_status(edge).draining})


def _of(edge: str | None, state: dict[str, Any]) -> State:
    return state if edge is None else {"edge": edge, **state}


def _process_of(desk: Desk, name: str) -> SiteProcess:
    """Raises RegistryError where it is no edge, or none that serves."""
    edge = desk.read(lambda connection: in_use(connection, name))
    if edge.host is None:
        raise RegistryError(f"edge {name} has not begun: nobody mines there")
    return SiteProcess(edge.name, edge.process_and_host)


COMMANDS: Final[Commands] = {
    "drain.begin": Change(DrainBegin, drain_begin, the_pool, no_state, Role.OPERATOR, makes_books=False),
    "drain.end": Change(DrainEnd, drain_end, the_pool, no_state, Role.OPERATOR, makes_books=False),
    "drain.show": Question(DrainShow, drain_show),
    "lease.show": Question(LeaseShow, lease_show, Role.PAYER),  # for payouts, which write beside the pool
}
