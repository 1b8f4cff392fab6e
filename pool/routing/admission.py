"""Who may mine, and what: the channel of a miner's order, its tenant's upstream, or our own work.

A worker belongs to the order that it was assigned to, else to the upstream of its tenant's terms, else to our
own work: a solo tenant's where its tenant is one, the pool's otherwise. A route that is diverted leads on to
its fallback.

Where a channel has other extranonces and the miner cannot be told, it is asked to connect again, and the
route of its address is remembered, so that the next connection gets the right ones before it has said a name.
An address with miners of several kinds behind it is not worth a guess: who cannot be placed there mines for
the pool, and is moved like everybody else (`pool.routing.placement`).

Invariant: nobody is sent away twice at its first contact.
Must not know: how orders choose machines, upstream connections, and how a miner is moved.
"""

from collections import OrderedDict
from typing import Final

import msgspec
import trio

from payouts.rates import Scheme
from pool.fleet.registry import Registry, TenantRecord
from pool.routing.assignments import Assignments
from pool.routing.routes import ORDER, UPSTREAM, RouteKey, Routes
from pool.routing.solo import SoloChannels
from stratum.miners.channel import Channel
from stratum.miners.contracts import Admitted, Refusal
from stratum.miners.owner import Owner

HINTS_MAX: Final = 65_536  # addresses: a site that comes back at once
HINT_S: Final = 3600.0  # a miner that was sent away comes back in seconds, or after a power cut
# In hints, beside the routes: the pool's own work, and more than one route.
OWN: Final[RouteKey] = ("own", 0)
MIXED: Final[RouteKey] = ("mixed", 0)


class Admission:
    """stratum.miners.contracts.Admission and PlacementGuess. `own` is the channel of the pool's own work.

    That is all there is to mine until it is told of others by `use`.
    `own_closed` is why the pool has no work of its own, `fpps_closed` why that of FPPS tenants has no price.
    """

    def __init__(self, registry: Registry, own: Channel) -> None:
        self.assignments = Assignments(registry)
        self.own_closed: str | None = None
        self.fpps_closed: str | None = None
        self.misplaced = False  # somebody may belong somewhere else than where he is
        self.sent_back = 0  # to come again on a new connection, at their first contact
        self.own = own
        self._registry = registry
        self.routes: Routes | None = None
        self.solo: SoloChannels | None = None
        self._hints: OrderedDict[str, tuple[RouteKey, float]] = OrderedDict()  # by address, and since when

    def use(self, routes: Routes, solo: SoloChannels | None = None) -> None:
        """There is more than the pool's own work."""
        self.routes, self.solo = routes, solo

    def admit(self, name: str, agent: str, owner: Owner) -> Admitted | Refusal:
        """Whether the worker may mine, where it left off, and what it is to mine."""
        answer = self._registry.admit(name, agent, owner)
        if isinstance(answer, Refusal):
            return answer
        tenant = self._registry.tenants_by_id[answer.party]
        self.assignments.met(answer.worker, name)
        reason = None if self.solo is None else self.solo.refusal(tenant)
        if reason is not None:
            return Refusal(reason)
        if self.fpps_closed is not None and tenant.scheme is Scheme.FPPS:
            return Refusal(self.fpps_closed, passes=True)
        channel = self.channel_of(answer.worker, self.own)
        if self.own_closed is not None and self.is_own(channel):
            return Refusal(self.own_closed, passes=True)
        return msgspec.structs.replace(answer, channel=channel, only_new_work=tenant.scheme.divides)

    def leave(self, owner: Owner) -> None:
        self._registry.leave(owner)

    # PlacementGuess

    def guess(self, address: str) -> Channel | None:
        key = self.hinted(address, HINT_S)
        return None if key is None or self.routes is None else self.routes.lead(key, self.own)

    def come_back(self, address: str, here: Channel, channel: Channel) -> bool:
        key, hinted = self.key_of(channel), self.hinted(address, HINT_S)
        if key == self.key_of(here):
            return False  # another connection to the same upstream is as good
        if hinted == MIXED:
            self.misplaced = True
            # Who is still led by an older hint would work for an account that pays others: it goes, and comes
            # back on the pool's own work, where it may stay.
            return not self.is_own(here)
        self.hint(address, key if hinted in (None, key) else MIXED)
        self.sent_back += 1
        return True

    # Where machines of an address are sent

    def key_of(self, channel: Channel) -> RouteKey:
        """The route that is mined on a channel."""
        key = None if self.routes is None else self.routes.key_of(channel)
        return OWN if key is None else key

    def hinted(self, address: str, age_s_max: float) -> RouteKey | None:
        """The route that somebody of this address was sent away for, so lately."""
        hint = self._hints.get(address)
        return None if hint is None or trio.current_time() - hint[1] > age_s_max else hint[0]

    def hint(self, address: str, key: RouteKey) -> None:
        """Somebody of this address is sent away, and will be back for this route."""
        self._hints[address] = key, trio.current_time()
        self._hints.move_to_end(address)
        if len(self._hints) > HINTS_MAX:
            self._hints.popitem(last=False)

    # Where everybody belongs

    def channel_of(self, worker: int, here: Channel) -> Channel:
        """The channel for a worker whose session is `here`."""
        routes, key = self.routes, self._route_of(worker)
        led = None if routes is None or key is None else routes.lead(key, here)
        if led is None and self.solo is not None:
            led = self.solo.channel_of(self._tenant_of(worker))
        return self.own if led is None else led

    @property
    def own_channels(self) -> tuple[Channel, ...]:
        """All of our own work."""
        return (self.own, *(() if self.solo is None else self.solo.channels))

    def _route_of(self, worker: int) -> RouteKey | None:
        order = self.assignments.orders.get(worker)
        if order is not None and self.routes is not None and self.routes.get((ORDER, order)) is not None:
            return ORDER, order
        return self._terms_of(worker)

    def _terms_of(self, worker: int) -> RouteKey | None:
        upstream = self._tenant_of(worker).upstream_id
        return None if upstream is None else (UPSTREAM, upstream)

    def is_led_to(self, worker: int, channel: Channel) -> bool:
        """Whether its order or its tenant's terms may lead there; from an order's work it has time to go."""
        routes = self.routes
        key = None if routes is None else routes.key_of(channel)
        if routes is None or key is None or key[0] == ORDER:
            return True
        return any(key in routes.chain(of) for of in (self._route_of(worker), self._terms_of(worker)))

    def _tenant_of(self, worker: int) -> TenantRecord:
        return self._registry.tenants_by_id[self._registry.tenant_of(worker)]

    def is_own(self, channel: Channel) -> bool:
        """Whether its work is made of our nodes' templates, whomever its blocks pay."""
        return channel in self.own_channels
