"""Letting everybody go before a restart: nobody new is let in, and who is here leaves in steps.

So no pool that miners turn to has all of them at once, and after the restart they come as they come. Each is
asked to connect again, which it cannot here; who does not know what that is is dropped ten seconds later
(`stratum.miners.liveness`). Shares are taken until the last one has left. A drain ends by `resume`, or with
the process: a pool that is started takes miners.

Must not know: who asked for it.
"""

import math
from typing import Final

import msgspec
import structlog
import trio

from stratum.miners.switchboard import Switchboard
from stratum.miners.turns.connection_limits import ConnectionLimits

log = structlog.get_logger()

STEP_S: Final = 1.0
OVER_S_MIN: Final = 1
OVER_S_MAX: Final = 3_600  # who wants to let miners go for longer wants another order of things
DRAINING: Final = "the pool is about to be restarted"  # to a miner that wants in, and the reason of a drop


class DrainStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`left`: connections that are here; `of`: how many there were when it began."""

    draining: bool
    left: int
    of: int
    ends_in_s: int  # of the steps; 0 when all were asked to go


class Drain:
    """Of one switchboard."""

    def __init__(self, board: Switchboard, connection_limits: ConnectionLimits) -> None:
        self._board = board
        self._limits = connection_limits
        self._ends_at_s: float | None = None
        self._of = 0

    def begin(self, over_s: int) -> None:
        """Let nobody in, and everybody go within so many seconds. Again: with the new time."""
        if self._ends_at_s is None:
            self._of = len(self._board.connections)
        self._ends_at_s = trio.current_time() + over_s
        self._limits.draining = DRAINING
        log.warning("drain_begun", connections=len(self._board.connections), over_s=over_s)

    def resume(self) -> None:
        """Let miners in again; who was asked to go goes, and may come back."""
        if self._ends_at_s is not None:
            log.warning("drain_ended", connections=len(self._board.connections))
        self._ends_at_s, self._limits.draining = None, None

    def status(self) -> DrainStatus:
        ends_at_s = self._ends_at_s
        return DrainStatus(
            draining=ends_at_s is not None,
            left=len(self._board.connections),
            of=0 if ends_at_s is None else self._of,
            ends_in_s=0 if ends_at_s is None else max(0, math.ceil(ends_at_s - trio.current_time())),
        )

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await trio.sleep(STEP_S)
            if self._ends_at_s is not None:
                self._step(trio.current_time(), self._ends_at_s)

    def _step(self, now_s: float, ends_at_s: float) -> None:
        """As many as are due: the rest in equal parts."""
        staying = [it for it in self._board.connections if not it.session.assignment.leaving]
        steps = max(1, math.ceil((ends_at_s - now_s) / STEP_S))
        for connection in staying[: math.ceil(len(staying) / steps)]:
            self._board.let_go(connection, DRAINING)
