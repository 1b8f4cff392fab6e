"""Solo channels: work of our own whose blocks pay a tenant; one channel for each solo tenant.

Made of the same templates as the pool's own work, at the same moment, with the same extranonces, so that a
machine goes to its tenant's channel and away from it with its next job. A change of address or fee is in the
next job: there is one at once, made of the template that is mined.

A tenant that is no solo tenant any more, or is suspended, has its channel for as long as sessions are there,
and its shares may be on their way: the blocks of those jobs pay it, and their shares are worth nothing.

Invariants: whom a block pays is in its work's template (`SoloTemplate`) from the moment the work was made; a
channel has sessions of its tenant only (whoever mines is sent here by its tenant).
Must not know: sessions one by one, prices, nodes.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Final, Protocol

import structlog
import trio

from payouts.rates import Scheme
from payouts.solo import SoloPayout, address_at, fee_of
from pool.chain.addresses import BadAddress, script_for
from pool.chain.coinbase import BadCoinbase
from pool.chain.templates import Template
from pool.fleet.registry import Registry, TenantRecord
from pool.fleet.rows import SOLO_TENANTS_MAX
from pool.routing.channels import Channels
from stratum.job import Solution, Work
from stratum.miners.channel import Channel, WorkSource
from stratum.miners.switchboard import Switchboard

log = structlog.get_logger()

# Nobody mines it any more: shares on the way are in, and machines that were cut off come back to another.
LINGER_S: Final = 60.0


class WorkOn(Protocol):
    """Makes work on a template with these outputs and the merkle branch of its transactions."""

    def __call__(
        self, template: Template, *, payouts: tuple[tuple[bytes, int], ...], branch: tuple[bytes, ...]
    ) -> Work: ...


class SoloTemplate(Template, frozen=True, kw_only=True):
    """A template with whom its block pays."""

    payout: SoloPayout


class _Place:
    """A tenant's channel, and the payout of its newest work."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.payout: SoloPayout | None = None
        self.used_s = trio.current_time()  # when a session was seen last, or it was wanted


class SoloChannels:
    """`source` gets what is found on them; the pool's script gets the fees."""

    def __init__(
        self,
        registry: Registry,
        *,
        network: str,
        pool_script: bytes,
        source: WorkSource,
        channels: Channels,
        board: Switchboard,
        work_on: WorkOn,
        wall_clock: Callable[[], float],
    ) -> None:
        self._registry = registry
        self._pool_script = pool_script
        self._source = source
        self._new_channels = channels
        self._board = board
        self._work_on = work_on
        self._wall_clock = wall_clock
        self.channels: tuple[Channel, ...] = ()  # all that there are
        self._places: dict[int, _Place] = {}  # by tenant
        self._homes: dict[int, Channel] = {}  # those of solo tenants that can be paid
        # Parsing one takes as long as the rest of a coinbase. Two a tenant: one that holds, one to come.
        self._script_for = lru_cache(2 * SOLO_TENANTS_MAX)(partial(script_for, network=network))

    def channel_of(self, tenant: TenantRecord) -> Channel | None:
        """Where the tenant's machines mine when nobody else has them; None: at the pool's own work."""
        return self._homes.get(tenant.id)

    def refusal(self, tenant: TenantRecord) -> str | None:
        """Why the tenant's machines cannot mine; None where they can."""
        if tenant.scheme is not Scheme.SOLO:
            return None
        address = address_at(tenant.payees, int(self._wall_clock()))
        if address is None:
            return f"Tenant {tenant.name} is paid by its blocks and has no address yet: ask the operator"
        try:
            self._script_for(address)
        except BadAddress as error:
            return f"Blocks cannot pay the address of tenant {tenant.name}: {error}"
        return None

    def follow(self) -> bool:
        """Have a channel for each solo tenant that can be paid; whether the work of one is outdated."""
        homes, now_s = {}, trio.current_time()
        for tenant in self._registry.tenants.values():
            if tenant.scheme is Scheme.SOLO and tenant.active and self.refusal(tenant) is None:
                place = self._places.get(tenant.id) or self._open(tenant)
                place.used_s = now_s
                homes[tenant.id] = place.channel
        self._homes = homes
        return any(self._is_outdated(tenant_id, place) for tenant_id, place in self._places.items())

    def publish(self, template: Template, branch: tuple[bytes, ...], *, rate: int) -> None:
        """Work on a new template for every channel, priced as solo work; those that are over end."""
        self.follow()
        for tenant_id, place in list(self._places.items()):
            if tenant_id not in self._homes and self._is_over(place):
                self._close(tenant_id)
            else:
                self._publish(tenant_id, place, template, branch, rate)

    def publish_changed(self, template: Template, branch: tuple[bytes, ...], *, rate: int) -> None:
        """Work for those channels whose work pays, by now, somebody or something else than it should."""
        self.follow()
        for tenant_id, place in self._places.items():
            if self._is_outdated(tenant_id, place):
                self._publish(tenant_id, place, template, branch, rate)

    def resume(self) -> None:
        """All were paused, and there is something to mine again."""
        for place in self._places.values():
            place.channel.paused = place.payout is None

    def _open(self, tenant: TenantRecord) -> _Place:
        self._places[tenant.id] = place = _Place(self._new_channels.like_own(self._source))
        place.channel.paused = True  # until it has work
        self.channels += (place.channel,)
        return place

    def _close(self, tenant_id: int) -> None:
        channel = self._places.pop(tenant_id).channel
        self.channels = tuple(it for it in self.channels if it is not channel)
        self._board.remove_channel(channel)

    def _publish(
        self, tenant_id: int, place: _Place, template: Template, branch: tuple[bytes, ...], rate: int
    ) -> None:
        payout = self._payout(tenant_id, template.coinbase_value_sat)
        if payout is None:
            return
        ours = SoloTemplate(
            **{name: getattr(template, name) for name in Template.__struct_fields__}, payout=payout
        )
        try:
            work = self._work_on(ours, payouts=payout.outputs(self._pool_script), branch=branch)
        except BadCoinbase as error:
            log.error("template_unusable", height=template.height, tenant=tenant_id, reason=str(error))
            return
        place.payout, place.channel.paused = payout, False
        self._board.distribution.publish(place.channel, work, rate=rate)

    def _payout(self, tenant_id: int, value_sat: int) -> SoloPayout | None:
        tenant = self._registry.tenants_by_id[tenant_id]
        address = address_at(tenant.payees, int(self._wall_clock()))
        if address is None or self.refusal(tenant) is not None:
            return None
        fee_sat = fee_of(value_sat, tenant.fee_bps, self._pool_script)
        return SoloPayout(
            tenant_id=tenant_id,
            address=address,
            script=self._script_for(address),
            amount_sat=value_sat - fee_sat,
            fee_sat=fee_sat,
        )

    def _is_outdated(self, tenant_id: int, place: _Place) -> bool:
        before = place.payout
        return before is None or before != self._payout(tenant_id, before.amount_sat + before.fee_sat)

    def _is_over(self, place: _Place) -> bool:
        now_s = trio.current_time()
        if place.channel.sessions:
            place.used_s = now_s
        return now_s - place.used_s > LINGER_S


def payout_of(solution: Solution) -> SoloPayout | None:
    """Whom the block of a solution pays beside the pool; None: nobody."""
    template = solution.job.work.origin
    return template.payout if isinstance(template, SoloTemplate) else None
