"""What an edge that serves miners hears of its hub, and says to it: how far its journal is, every RENEW_S.

    heard       changes, each with a number: one that was missed, and REFRESH_S, have it ask for everything
    refused     another process is the edge now, or the hub's books were put back from a copy: it asks to
                begin once more, and ends where that is refused

The journal is let go of behind what the books have **and** the copy on disk knows of: who begins without the
hub reads on from there.

Must not know: how values travel, what shares are worth.
"""

from collections.abc import Callable, Sequence
from typing import Final

import structlog
import trio

from pool.books.edges.leases import EdgeRefused
from pool.edge import Edge
from pool.journal.beginning import Forgotten, Mark
from pool.journal.frames import Place
from pool.journal.inbox import Want
from pool.parts import Known
from pool.sites.hub_of_site import HubOfSite
from pool.sites.membership import SILENT, Membership
from pool.sites.nats.publisher import Publisher
from pool.sites.questions import (
    Change,
    ContainerChanged,
    Everything,
    Heard,
    MachinesKnown,
    SiteHub,
    TenantChanged,
    Told,
    WorkersRemoved,
)
from pool.sites.refresh import refresh

log = structlog.get_logger()

RENEW_S: Final = 10.0  # a lease is 90 s
REFRESH_S: Final = 600.0  # what was told and lost is known so late at most; 20 MB for 100,000 machines


class Served:
    """pool.sites.questions.Site, and what keeps it up (`run`)."""

    def __init__(
        self,
        hub: SiteHub,
        membership: Membership,
        edge: Edge,
        known: Known,
        of_site: HubOfSite,
        publisher: Publisher,
        *,
        hub_epoch: Callable[[], int],
    ) -> None:
        self._hub_epoch = hub_epoch  # of the latest hub that was heard of
        self._hub, self._membership, self._edge, self._of_site = hub, membership, edge, of_site
        self._publisher = publisher
        self._registry, self._log, self._journal = known.registry, known.log, edge.shares.journal
        self._asking = trio.Lock()  # each that is let begin ends the one before
        self._refreshed_s = trio.current_time()
        self._have = -1  # what the hub had at the last look
        self._stands = False  # and the same as at the one before, while it wants more
        self._away_since_s: float | None = None
        self._held: str | None = None

    async def run(self) -> None:
        """Until cancelled. Raises EdgeRefused."""
        while True:
            try:
                await self._renew()
            except SILENT as error:
                if self._away_since_s is None:
                    self._away_since_s = trio.current_time()
                    log.warning("hub_away", reason=str(error))
            else:
                if self._away_since_s is not None:
                    log.info("hub_answers", after_s=round(trio.current_time() - self._away_since_s))
                self._away_since_s = None
            await trio.sleep(RENEW_S)

    async def wanted(self) -> Want:
        """Where the hub wants the journal from. Raises EdgeRefused, and what SILENT are."""
        received = (await self._heard()).received
        return received.want or Want(behind=received.have.number)

    # What the hub tells

    async def taken(self, epoch: int, booked: Place) -> None:
        if epoch == self._membership.epoch:
            self._journal.taken_up_to(booked.number)

    async def send_again(self, epoch: int, want: Want) -> None:
        if epoch == self._membership.epoch:
            self._publisher.send_again(want)

    async def forgotten(self, epoch: int, prevhashes: Sequence[bytes]) -> Forgotten:
        if epoch != self._membership.epoch:
            return Forgotten()
        said = await self._journal.forgotten(prevhashes)
        return Forgotten(number=self._log.at.number, prevhashes=tuple(said))

    async def changed(self, told: Told) -> None:
        if told.number == self._membership.changes + 1:
            self._membership.changes = told.number
            await self._apply(told.change)

    # What it says

    async def _heard(self) -> Heard:
        async with self._asking:
            if not self._membership.granted:
                granted = await self._membership.ask(self._log.at)
                self._publisher.send_again(granted.want)
        hub = self._hub_epoch()  # before the mark: what is behind that, no hub of before was told
        mark: Mark = await self._journal.mark()
        return await self._hub.renew(self._membership.epoch, mark, hub)

    async def _renew(self) -> None:
        try:
            heard = await self._heard()
        except EdgeRefused as error:
            if not self._membership.granted:
                raise
            log.warning("edge_refused", reason=str(error))
            self._membership.granted = False
            heard = await self._heard()
        received = heard.received
        if received.held is not None and received.held != self._held:
            log.error("journal_held_at_hub", reason=received.held)
        self._held = received.held
        stands = received.want is not None and received.have.number == self._have
        if received.want is not None and stands:  # it is not under way, either
            self._publisher.send_again(received.want, directly=self._stands)
        self._have, self._stands = received.have.number, stands
        refresh_due = trio.current_time() - self._refreshed_s >= REFRESH_S
        if refresh_due or heard.changes != self._membership.changes:
            await self._refresh(await self._membership.everything())

    async def _refresh(self, it: Everything) -> None:
        registry, routing = self._registry, self._edge.routing
        registry.places = it.begin.places
        await refresh(
            registry,
            it.begin.snapshot,
            on_tenant=self._edge.tenant_changed,
            on_removed=self._edge.workers_removed,
        )
        if it.plan != self._of_site.plan_now:
            self._of_site.plan_now = it.plan
            routing.proxy.changed()
        draining = routing.drain.status().draining
        if draining and it.begin.drains_s is None:
            routing.drain.resume()
        elif not draining and it.begin.drains_s is not None:
            routing.drain.begin(it.begin.drains_s)
        if self._membership.kept:
            await self._journal.trim(it.begin.start.beginning.behind)
        self._refreshed_s = trio.current_time()

    async def _apply(self, change: Change) -> None:
        registry = self._registry
        match change:
            case TenantChanged(record):
                registry.put_tenant(record)
                self._edge.tenant_changed(record)
            case ContainerChanged(record):
                registry.learn_container(record)
            case WorkersRemoved(names):
                found = {registry.number_of(*name) for name in names}
                numbers = {number for number in found if number is not None}
                self._edge.workers_removed(numbers)
                registry.remove_workers(numbers)
            case MachinesKnown(machines):
                for machine in machines:
                    registry.learn(machine)
            case _:
                self._edge.routing.proxy.changed()
