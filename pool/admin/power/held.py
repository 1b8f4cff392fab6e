"""Which machines are held off now, or are being resumed, as those say who hold them; who is gone for good.

To forget a machine hides that it did not come back: whoever took it away would like that. So an admin does
it, says why, and it stays in the event's steps. Must not know: how machines are told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec
from sqlalchemy import Connection

from pool.admin.command import Change, Commands, Question
from pool.admin.desk import Desk, OperatorDesk, running, wall_s
from pool.admin.pages import Page, Paged, page_of
from pool.admin.power.addresses import machine_named
from pool.books.changes.changes import State
from pool.people.roles import Role
from pool.power.control.contract import Action, MachineName
from pool.power.control.runner import HeldView
from pool.power.curtailment.forgetting import FORGET, Forgotten, events_with, forget, steps_with
from pool.power.energy.bounds import BPS

if TYPE_CHECKING:
    from pool.power.energy.by_machine import MachineDrawn

PROVEN_S: Final = 600  # a machine follows within minutes, and its work is of five


class HeldList(Paged, frozen=True, forbid_unknown_fields=True):
    pass


class HeldForget(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """As tenant.container.unit."""

    machine: str
    reason: str


class HeldRow(HeldView, frozen=True, kw_only=True):
    """Of one that is limited, what it does now by its accepted work of five minutes, and whether that is less
    than before: "less", "as before" or "nothing"; None: nobody can say yet."""

    now_hps: int | None = None
    proof: Literal["less", "as before", "nothing"] | None = None


class ForgottenView(Forgotten, frozen=True, kw_only=True):
    """`holders`: whether all who may hold it off know that now; one who is away may still tell it."""

    holders: Literal["told", "away", "not running"]


def held_forget(desk: OperatorDesk, it: HeldForget) -> ForgottenView:
    """No event asks it any more, and whoever held it off tells it no more. Given again, who was away is."""
    machine = MachineName(*machine_named(it.machine))

    def change(connection: Connection) -> Forgotten:
        return forget(connection, machine, reason=it.reason, by=desk.by, now_s=wall_s())

    done = desk.write(change)
    holders: Literal["told", "away", "not running"] = "not running"
    if desk.live is not None:
        holders = "told" if desk.live.forget_machine(machine) else "away"
    return ForgottenView(machine=done.machine, lost_in=done.lost_in, holders=holders)


def machine_state(connection: Connection, subject: str) -> State:
    """What events have of it."""
    machine = MachineName(*machine_named(subject))
    its = events_with(connection, machine)
    if not its:
        return None
    return {"events": {str(it.event): it.state.value for it in its}, "steps": steps_with(connection, machine)}


def held_list(desk: Desk, it: HeldList) -> Page[HeldRow]:
    """Who was told to pause, or to draw less, and when that ends by itself; and who is told to resume and
    does not mine yet."""
    live = running(desk)
    rows = sorted(live.held_machines(), key=lambda row: (row.machine, row.address))
    page = page_of(it, rows, lambda row: (str(row.machine), row.address))
    limited = [row.machine for row in page.rows if row.action is Action.LIMIT]
    drawn = live.machines_drawn(limited) if limited else {}
    now_s = wall_s()
    return Page([_row(row, drawn.get(row.machine), now_s) for row in page.rows], page.cursor)


def _row(it: HeldView, drawn: MachineDrawn | None, now_s: int) -> HeldRow:
    held = msgspec.structs.asdict(it)
    if it.action is not Action.LIMIT or drawn is None:
        return HeldRow(**held)
    proof: Literal["less", "as before", "nothing"] | None = None
    if it.released_s is None and it.before_hps and now_s - it.since_s >= PROVEN_S:
        at_most = drawn.hashrate_hps * (BPS + drawn.work_error_bps)
        proof = "less" if at_most < it.before_hps * BPS else "as before"
        proof = proof if drawn.mines else "nothing"
    return HeldRow(**held, now_hps=drawn.hashrate_hps, proof=proof)


COMMANDS: Final[Commands] = {
    "held.list": Question(HeldList, held_list),
    FORGET: Change(
        HeldForget, held_forget, lambda it: it.machine, machine_state, Role.ADMIN, makes_books=False
    ),
}
