"""The operator's commands for limits of power.

Who sets one can only lower what may be drawn, since of several the lowest counts; to lift one is another
matter. Must not know: terminals, who keeps to them.
"""

from typing import Final

import msgspec
from sqlalchemy import Connection

from pool.admin.command import Change, Commands, Guarded, Question
from pool.admin.desk import Desk, OperatorDesk, wall_s
from pool.admin.pages import Page, Paged, page_of
from pool.admin.power.now import power_changed
from pool.books.changes.changes import State
from pool.people.roles import Role
from pool.power.energy.limits import LimitView, lift_limit, list_limits, set_limit


class LimitSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of a site, or of a container (tenant.container). `from_s` None: now; `until_s` None: until
    it is lifted."""

    site: str | None = None
    container: str | None = None
    kw: int
    from_s: int | None = None
    until_s: int | None = None
    reason: str


class LimitList(Paged, frozen=True, forbid_unknown_fields=True):
    """`everything`: also those that are over."""

    everything: bool = False


class LimitRemove(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    limit: int


class LimitRow(LimitView, frozen=True, kw_only=True):
    """With its state: planned, in-force, over."""

    state: str


def limit_set(desk: OperatorDesk, it: LimitSet) -> LimitRow:
    now_s = wall_s()
    view = desk.write(
        lambda connection: set_limit(
            connection,
            site=it.site,
            container=it.container,
            kw=it.kw,
            from_s=now_s if it.from_s is None else it.from_s,
            until_s=it.until_s,
            reason=it.reason,
            by=desk.by,
            now_s=now_s,
        )
    )
    power_changed(desk)
    return _row(view)


def limit_list(desk: Desk, it: LimitList) -> Page[LimitRow]:
    """Those in force, and those that are to come."""
    rows = [row for row in map(_row, desk.read(list_limits)) if it.everything or row.state != "over"]
    return page_of(it, rows, lambda row: (row.id,))


def limit_remove(desk: OperatorDesk, it: LimitRemove) -> LimitRow:
    """Lift it now, before its time ends."""
    now_s = wall_s()
    view = desk.write(lambda connection: lift_limit(connection, it.limit, by=desk.by, now_s=now_s))
    power_changed(desk)
    return _row(view)


def _row(view: LimitView) -> LimitRow:
    now_s = wall_s()
    state = "in-force" if view.holds(now_s) else "over"
    if view.from_s > now_s and view.lifted_at_s is None:
        state = "planned"
    return LimitRow(**msgspec.structs.asdict(view), state=state)


def new_limit(it: LimitSet) -> str:
    """What it is about: whatever limits there are at that place."""
    return f"site/{it.site}" if it.site is not None else f"container/{it.container}"


def one_limit(it: LimitRemove) -> str:
    return f"limit/{it.limit}"


def limit_state(connection: Connection, subject: str) -> State:
    kind, _, name = subject.partition("/")

    def is_it(view: LimitView) -> bool:
        if kind == "limit":
            return str(view.id) == name
        place = f"{view.tenant}.{view.container}" if kind == "container" else view.site
        return (kind == "container") == (view.container_id is not None) and place == name

    return {"limits": [msgspec.to_builtins(view) for view in list_limits(connection) if is_it(view)]}


COMMANDS: Final[Commands] = {
    "limit.set": Change(LimitSet, limit_set, new_limit, limit_state, Role.OPERATOR, makes_books=False),
    "limit.list": Question(LimitList, limit_list),
    "limit.remove": Guarded(LimitRemove, limit_remove, one_limit, limit_state, Role.PAYER, makes_books=False),
}
