"""Moving miners to where they belong, which `admission` says.

A session that is not where its worker belongs is moved, at once where its channel has no work any more, its
order is over, its tenant's terms lead there no more (that upstream may pay the tenant, and we would too), or
both are our own work; otherwise not before `move_interval_s` after its last move. Of an address whose
machines have to connect again, those of one route go after those of another. Who can only mine our own work
is let go while there is none.

Invariants: moves are bounded a round. Must not know: who belongs where, upstream connections.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Final

import structlog
import trio

from pool.fleet.registry import Registry
from pool.routing.admission import Admission
from stratum.miners.channel import Channel, Member, Moved
from stratum.miners.decisions import Decisions, What
from stratum.miners.switchboard import Switchboard

log = structlog.get_logger()

ROUND_S: Final = 1.0
# Moves in a round: a fallback of 22,400 machines takes three quarters of a minute, and each round some 5 ms.
MOVES_PER_ROUND_MAX: Final = 500
ROUNDS_BETWEEN_LOOKS: Final = 5  # while the only ones to be moved were moved too lately
# After the last one of an address was sent away for one route, until another one is for another: they are to
# have come back by then, with the hint that they need.
ON_THEIR_WAY_S: Final = 30.0


class Placement:
    """Of the sessions of one switchboard."""

    def __init__(
        self,
        admission: Admission,
        board: Switchboard,
        registry: Registry,
        *,
        move_interval_s: float,
        decisions: Decisions | None = None,
    ) -> None:
        self._admission = admission
        self._board = board
        self.move_interval_s = move_interval_s
        self._decisions = decisions
        self._moved_at_s: dict[int, float] = {}
        registry.newcomers.on_free.append(lambda number: self._moved_at_s.pop(number, None))
        self._rounds_to_wait = 0

    @property
    def moved(self) -> Counter[Moved]:
        """How many have been, since the start, and in which way."""
        return self._board.distribution.moved + Counter({Moved.RECONNECT: self._admission.sent_back})

    def reconsider(self) -> None:
        """Somebody may belong somewhere else by now."""
        self._admission.misplaced, self._rounds_to_wait = True, 0

    def movable(self, worker: int, now_s: float) -> bool:
        """Whether its last move is long enough ago."""
        return now_s - self._moved_at_s.get(worker, -self.move_interval_s) >= self.move_interval_s

    def sessions(self) -> Iterator[Member]:
        """All that mine; each has a worker."""
        for channel in self._board.distribution.channels:
            for session in list(channel.sessions):
                if session.owner.open:
                    yield session

    def may_move(self, session: Member, now_s: float) -> bool:
        """Whether its machine may be given to an order now, or to another one."""
        return not session.leaving and self.movable(session.workers[0], now_s)

    # While no node answers

    def let_go(self, reason: str) -> None:
        """There is no work of our own: who mines it is to turn to its other pools.

        Those of upstreams stay: only where there are none is the door closed.
        """
        admission = self._admission
        admission.own_closed = reason
        for channel in admission.own_channels:
            channel.paused = True
        if admission.routes:
            for channel in admission.own_channels:
                self._board.drop_channel(channel, reason)
        else:
            self._board.close_door(reason)

    def readmit(self) -> None:
        """There is work of our own again."""
        self._admission.own_closed, self._admission.own.paused = None, False
        if self._admission.solo is not None:
            self._admission.solo.resume()
        self._board.open_door()

    # Moves

    async def run(self) -> None:
        """A round a second, until cancelled."""
        while True:
            await trio.sleep(ROUND_S)
            routes = self._admission.routes
            if routes is not None:
                routes.mind()
            if routes and self._admission.own_closed is not None:
                self._board.open_door()  # it was closed while there was nothing else to mine
            self._rounds_to_wait -= 1
            if self._admission.misplaced and self._rounds_to_wait <= 0:
                self.place()

    def place(self) -> None:
        """Move who is not where it belongs, as many as a round may."""
        admission, now_s, moves, early = self._admission, trio.current_time(), 0, 0
        homeless: set[int] = set()
        over = set() if admission.routes is None else admission.routes.over
        for session in self.sessions():
            worker = session.workers[0]
            wanted = admission.channel_of(worker, session.channel)
            if session.leaving or wanted is session.channel:
                continue
            full = not wanted.same_extranonces(session.channel) and wanted.extranonces.full(now_s)
            if full and (session.channel in over or not admission.is_led_to(worker, session.channel)):
                wanted = admission.own  # as who comes there: where it is may pay somebody else, or nobody
            if admission.is_own(wanted) and admission.own_closed is not None:
                homeless.add(worker)
            elif wanted.paused or not (
                session.channel.paused
                or session.channel in over
                or (admission.is_own(session.channel) and admission.is_own(wanted))
                or not admission.is_led_to(worker, session.channel)
                or self.movable(worker, now_s)
            ):
                early += 1  # there is nothing to mine there yet, or it has moved a moment ago
            elif moves >= MOVES_PER_ROUND_MAX:
                break  # the next round goes on
            elif self._move(session, wanted):
                self._moved_at_s[worker] = now_s
                moves += 1
            else:
                early += 1
        else:
            admission.misplaced = early > 0
            self._rounds_to_wait = ROUNDS_BETWEEN_LOOKS
        if moves:
            since_start = {kind.value: count for kind, count in self.moved.items()}
            log.info("sessions_moved", moves=moves, too_early=early, since_start=since_start)
        if homeless and admission.own_closed is not None:
            self._board.drop_workers(homeless, admission.own_closed)

    def _move(self, session: Member, channel: Channel) -> bool:
        """False where that has to wait: for room on the channel, or for others of the same address."""
        address, key = session.owner.address, self._admission.key_of(channel)
        told = session.wants_extranonce or channel.same_extranonces(session.channel)
        if not told and self._admission.hinted(address, ON_THEIR_WAY_S) not in (None, key):
            return False
        moved = self._board.distribution.move(session, channel)
        if moved is Moved.RECONNECT:
            self._admission.hint(address, key)
        if moved is not None and self._decisions is not None:
            what = What.SENT_AWAY if moved is Moved.RECONNECT else What.MOVED
            kind, number = key
            where = "to the pool's own work" if kind == "own" else f"to {kind} {number}"
            self._decisions.note(session.workers[0], what, where, None)
        return moved is not None
