"""The operator's commands for traces: the lines between a machine and the pool, as they pass.

A trace is started, and read again and again until it is over; it ends by itself when nobody reads it.

Must not know: sockets, terminals.
"""

from ipaddress import ip_address
from typing import Final

import msgspec

from pool.admin.command import Change, Commands, Question, no_state
from pool.admin.desk import Desk, OperatorDesk, running
from pool.admin.fleet.machines import WorkerShow, worker_show
from pool.fleet.rows import RegistryError
from pool.people.roles import Role
from stratum.miners.traces.traces import TRACE_S_MAX, TooManyTraces, TracedLine


class TraceStart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a worker by its name, or of all that come from an address."""

    name: str | None = None
    address: str | None = None
    seconds: int = 600


class TraceShow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Lines with numbers above `after`."""

    trace: int
    after: int = 0


class TraceStarted(msgspec.Struct, frozen=True, kw_only=True):
    """`trace` is its number."""

    trace: int
    seconds: int


class TraceSeen(msgspec.Struct, frozen=True, kw_only=True):
    """`missed` lines were there and had to leave."""

    lines: tuple[TracedLine, ...]
    missed: int
    over: bool


def trace_start(desk: OperatorDesk, it: TraceStart) -> TraceStarted:
    live = running(desk)
    if (it.name is None) == (it.address is None):
        raise RegistryError("give a worker or an address, one of them")
    if not 1 <= it.seconds <= TRACE_S_MAX:
        raise RegistryError(f"a trace takes 1 to {TRACE_S_MAX} seconds, and not {it.seconds}")
    address = None if it.address is None else _address(it.address)
    if it.name is not None:
        worker_show(desk, WorkerShow(it.name))  # who is nobody is not traced
    desk.note({}, {})  # who looks at whose lines is written down, before he does
    try:
        return TraceStarted(trace=live.start_trace(it.name, address, it.seconds), seconds=it.seconds)
    except TooManyTraces as error:
        raise RegistryError(str(error)) from None


def trace_show(desk: Desk, it: TraceShow) -> TraceSeen:
    """What passed since; `over` when the trace is."""
    view = running(desk).trace(it.trace, it.after)
    if view is None:
        return TraceSeen(lines=(), missed=0, over=True)
    return TraceSeen(lines=view.lines, missed=view.missed, over=False)


def traced(it: TraceStart) -> str:
    return it.name or it.address or ""


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise RegistryError(f"{text!r:.100} is no address") from None


COMMANDS: Final[Commands] = {
    "trace.start": Change(TraceStart, trace_start, traced, no_state, Role.OPERATOR, makes_books=False),
    "trace.show": Question(TraceShow, trace_show, Role.OPERATOR),
}
