"""The operator's commands about how a running pool works, which leave nothing in the books but their record.

Must not know: sockets, terminals, how a pool does it.
"""

from typing import Annotated

import msgspec
from sqlalchemy import Connection

from pool.admin.desk import Desk, LivePool, OperatorDesk, running
from pool.books.changes.changes import State
from pool.routing.drain import OVER_S_MAX, OVER_S_MIN, DrainStatus


class DrainBegin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    over_s: Annotated[int, msgspec.Meta(ge=OVER_S_MIN, le=OVER_S_MAX)] = 120


class DrainEnd(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class DrainShow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


def drain_begin(desk: OperatorDesk, it: DrainBegin) -> DrainStatus:
    """Nobody new, and who is here goes in steps: on record before anybody is asked to go."""
    live = running(desk)
    desk.note(_drain_state(live), {"draining": True, "over_s": it.over_s})
    return live.drain(it.over_s)


def drain_end(desk: OperatorDesk, it: DrainEnd) -> DrainStatus:
    """Miners are let in again."""
    live = running(desk)
    desk.note(_drain_state(live), {"draining": False})
    return live.end_drain()


def drain_show(desk: Desk, it: DrainShow) -> DrainStatus:
    """How far it is."""
    return running(desk).drain_status()


def the_pool(it: object) -> str:
    """What a command is about that is about no row of the books."""
    return "pool"


def no_state(connection: Connection, subject: str) -> State:
    """Of a change that is not in the books: its command notes by itself what was and what became."""
    return {}


def _drain_state(live: LivePool) -> State:
    return {"draining": live.drain_status().draining}
