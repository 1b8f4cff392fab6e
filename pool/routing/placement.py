"""Who mines what: admits miners to the channel of their order, their tenant or the pool, and moves them.

A worker belongs to the order that it was assigned to, else to the upstream of its tenant's terms, else to our
own work: a solo tenant's where its tenant is one, the pool's otherwise. A route that is diverted leads on to
its fallback. A session that is not where its worker belongs is moved, at once where its channel has no work
any more, its order is over, its tenant's terms lead there no more (that upstream may pay the tenant, and we
would too), or both are our own work; otherwise not before `move_interval_s` after its last move.

Where a channel has other extranonces and the miner cannot be told, it is asked to connect again, and the
route of its address is remembered, so that the next connection gets the right ones before it has said a name.
An address with miners of several kinds behind it is not worth a guess: who cannot be placed there mines for
the pool, and is moved like everybody else, those of one route after those of another.

Invariants: nobody is sent away twice at its first contact; moves are bounded a round.
Must not know: how orders choose machines, upstream connections.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

import structlog
import trio

from payouts.rates import Scheme
from pool.fleet.registry import Registry, TenantRecord
from pool.routing.routes import ORDER, UPSTREAM, RouteKey, Routes
from pool.routing.solo import SoloChannels
from stratum.miners.channel import Channel, Member, Moved
from stratum.miners.contracts import Admitted, Refusal
from stratum.miners.owner import Owner
from stratum.miners.switchboard import Switchboard

log = structlog.get_logger()

ROUND_S: Final = 1.0
# Moves in a round: a fallback of 22,400 machines takes three quarters of a minute, and each round some 5 ms.
MOVES_PER_ROUND_MAX: Final = 500
ROUNDS_BETWEEN_LOOKS: Final = 5  # while the only ones to be moved were moved too lately
HINTS_MAX: Final = 65_536  # addresses: a site that comes back at once
HINT_S: Final = 3600.0  # a miner that was sent away comes back in seconds, or after a power cut
# After the last one of an address was sent away for one route, until another one is for another: they are to
# have come back by then, with the hint that they need.
ON_THEIR_WAY_S: Final = 30.0
# In hints, beside the routes: the pool's own work, and more than one route.
OWN: Final[RouteKey] = ("own", 0)
MIXED: Final[RouteKey] = ("mixed", 0)


class Placement:
    """stratum.miners.contracts.Admission and PlacementGuess. `own` is the channel of the pool's own work."""

    def __init__(
        self,
        registry: Registry,
        own: Channel,
        board: Callable[[], Switchboard],
        *,
        move_interval_s: float,
        solo: SoloChannels | None = None,
    ) -> None:
        self.assignments: dict[int, int] = {}  # worker to order
        self.own_closed: str | None = None  # why the pool has no work of its own
        self.fpps_closed: str | None = None  # why work of FPPS tenants cannot be priced
        self._registry = registry
        self._own = own
        self._solo = solo
        self._board = board
        self._move_interval_s = move_interval_s
        self._routes: Routes | None = None
        self._moved_at_s: dict[int, float] = {}
        registry.newcomers.on_free.append(lambda number: self._moved_at_s.pop(number, None))
        self._hints: OrderedDict[str, tuple[RouteKey, float]] = OrderedDict()  # by address, and since when
        self._misplaced = False
        self._rounds_to_wait = 0

    def use(self, routes: Routes) -> None:
        """From the start of the pool on."""
        self._routes = routes

    def look_again(self) -> None:
        """Somebody may belong somewhere else by now."""
        self._misplaced, self._rounds_to_wait = True, 0

    # Admission

    def admit(self, name: str, agent: str, owner: Owner) -> Admitted | Refusal:
        """Whether the worker may mine, where it left off, and what it is to mine."""
        answer = self._registry.admit(name, agent, owner)
        if isinstance(answer, Refusal):
            return answer
        reason = None if self._solo is None else self._solo.refusal(self._tenant_of(answer.worker))
        if reason is not None:
            return Refusal(reason)
        if self.fpps_closed is not None and self._tenant_of(answer.worker).scheme is Scheme.FPPS:
            return Refusal(self.fpps_closed)
        channel = self.channel_of(answer.worker, self._own)
        if self._is_own(channel) and self.own_closed is not None:
            return Refusal(self.own_closed)
        return Admitted(answer.worker, answer.difficulty_log2, channel, answer.party)

    def leave(self, owner: Owner) -> None:
        self._registry.leave(owner)

    # PlacementGuess

    def guess(self, address: str) -> Channel | None:
        key = self._hinted(address, HINT_S)
        return None if self._routes is None else self._routes.lead(key, self._own)

    def come_back(self, address: str, here: Channel, channel: Channel) -> bool:
        key, hinted = self._key_of(channel), self._hinted(address, HINT_S)
        if key == self._key_of(here):
            return False  # another connection to the same upstream is as good
        if hinted == MIXED:
            self._misplaced = True
            # Who is still led by an older hint would work for an account that pays others: it goes, and comes
            # back on the pool's own work, where it may stay.
            return not self._is_own(here)
        self._hint(address, key if hinted in (None, key) else MIXED)
        self._board().distribution.moved[Moved.RECONNECT] += 1
        return True

    def _key_of(self, channel: Channel) -> RouteKey:
        key = None if self._routes is None else self._routes.key_of(channel)
        return OWN if key is None else key

    def _hinted(self, address: str, age_s_max: float) -> RouteKey | None:
        key, since_s = self._hints.get(address, (None, 0.0))
        return None if trio.current_time() - since_s > age_s_max else key

    def _hint(self, address: str, key: RouteKey) -> None:
        self._hints[address] = key, trio.current_time()
        self._hints.move_to_end(address)
        if len(self._hints) > HINTS_MAX:
            self._hints.popitem(last=False)

    # Where everybody belongs

    def channel_of(self, worker: int, here: Channel) -> Channel:
        """The channel for a worker whose session is `here`."""
        routes, key = self._routes, self._route_of(worker)
        led = None if routes is None or key is None else routes.lead(key, here)
        if led is None and self._solo is not None:
            led = self._solo.channel_of(self._tenant_of(worker))
        return self._own if led is None else led

    def movable(self, worker: int, now_s: float) -> bool:
        """Whether its last move is long enough ago."""
        return now_s - self._moved_at_s.get(worker, -self._move_interval_s) >= self._move_interval_s

    def sessions(self) -> Iterator[Member]:
        """All that mine; each has a worker."""
        for channel in self._board().distribution.channels:
            for session in list(channel.sessions):
                if session.owner.open:
                    yield session

    def _route_of(self, worker: int) -> RouteKey | None:
        order = self.assignments.get(worker)
        if order is not None and self._routes is not None and self._routes.get((ORDER, order)) is not None:
            return ORDER, order
        return self._terms_of(worker)

    def _terms_of(self, worker: int) -> RouteKey | None:
        upstream = self._tenant_of(worker).upstream_id
        return None if upstream is None else (UPSTREAM, upstream)

    def _is_led_to(self, worker: int, channel: Channel) -> bool:
        """Whether its order or its tenant's terms may lead there; from an order's work it has time to go."""
        routes = self._routes
        key = None if routes is None else routes.key_of(channel)
        if routes is None or key is None or key[0] == ORDER:
            return True
        return any(key in routes.chain(of) for of in (self._route_of(worker), self._terms_of(worker)))

    def _tenant_of(self, worker: int) -> TenantRecord:
        return self._registry.tenants_by_id[self._registry.tenant_of(worker)]

    def _is_own(self, channel: Channel) -> bool:
        """Whether its work is made of our nodes' templates, whomever its blocks pay."""
        return channel is self._own or (self._solo is not None and channel in self._solo.channels)

    # Moves

    async def run(self) -> None:
        """A round a second, until cancelled."""
        while True:
            await trio.sleep(ROUND_S)
            if self._routes is not None:
                self._routes.mind()
            self._rounds_to_wait -= 1
            if self._misplaced and self._rounds_to_wait <= 0:
                self.place()

    def place(self) -> None:
        """Move who is not where it belongs, as many as a round may."""
        now_s, moves, early = trio.current_time(), 0, 0
        homeless: set[int] = set()
        over = set() if self._routes is None else self._routes.over
        for session in self.sessions():
            worker = session.workers[0]
            wanted = self.channel_of(worker, session.channel)
            if session.leaving or wanted is session.channel:
                continue
            if self._is_own(wanted) and self.own_closed is not None:
                homeless.add(worker)
            elif wanted.paused or not (
                session.channel.paused
                or session.channel in over
                or (self._is_own(session.channel) and self._is_own(wanted))
                or not self._is_led_to(worker, session.channel)
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
            self._misplaced = early > 0
            self._rounds_to_wait = ROUNDS_BETWEEN_LOOKS
        if moves:
            since_start = {kind.value: count for kind, count in self._board().distribution.moved.items()}
            log.info("sessions_moved", moves=moves, too_early=early, since_start=since_start)
        if homeless and self.own_closed is not None:
            self._board().drop_workers(homeless, self.own_closed)

    def _move(self, session: Member, channel: Channel) -> bool:
        """False where that has to wait: for room on the channel, or for others of the same address."""
        address, key = session.owner.address, self._key_of(channel)
        told = session.wants_extranonce or channel.same_extranonces(session.channel)
        if not told and self._hinted(address, ON_THEIR_WAY_S) not in (None, key):
            return False
        moved = self._board().distribution.move(session, channel)
        if moved is Moved.RECONNECT:
            self._hint(address, key)
        return moved is not None
