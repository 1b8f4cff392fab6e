"""What the books say of power, read once a minute and whenever it was changed, and what is drawn now by it.

The books are read in a thread of their own, and a database that is away changes nothing of what was known.
The look at machines is taken on the pool's loop in pieces; the sums are made in a thread. Must not know: who
asks, and what is told of it.
"""

import time
from collections import deque
from collections.abc import Callable, Collection
from functools import partial
from typing import Final

import numpy as np
import structlog
import trio
from sqlalchemy import Connection, func, select

from payouts.energy.terms import Charge, terms_at
from payouts.schemas.money import containers, sites, tenant_terms, tenants
from pool.books.store import DATABASE_ERRORS, Store, words_of
from pool.fleet.hashrate import WINDOWS_S, HashrateBook, MachineLooks, Unheard, everybody_is_heard
from pool.power.energy.by_machine import MachineDrawn, drawn_by_machine
from pool.power.energy.efficiencies import efficiencies_at
from pool.power.energy.limits import limits_at
from pool.power.energy.live import Known, MachinesNow, Place, PowerNow, power_now
from pool.power.energy.meters import list_meters, newest_readings
from pool.power.energy.readings import STILL_S
from pool.power.energy.suspects import Counted, Suspect, suspects

log = structlog.get_logger()

READ_S: Final = 60.0  # between two readings of the books
KEPT_S: Final = STILL_S + 900  # of readings: what says that one stands still
PIECE: Final = 4_096  # machines that are looked at between two turns of others: a third of a millisecond
AGAIN_S: Final = 2.0  # who asks sooner gets what was told just now
COUNTED: Final = 10  # readings of the books ago: so long a machine's work has not been taken, or has
FIVE_MINUTES, HOUR = WINDOWS_S.index(300), WINDOWS_S.index(3_600)


def read_known(connection: Connection, now_s: int) -> Known:
    """Of this moment."""
    newest = select(func.max(tenant_terms.c.id)).group_by(tenant_terms.c.tenant_id)
    query = (
        select(
            containers.c.id,
            containers.c.name,
            containers.c.tenant_id,
            containers.c.nameplate_units,
            tenants.c.name.label("tenant"),
            tenants.c.status,
            sites.c.name.label("site"),
            tenant_terms.c.fee_bps,
        )
        .join(tenants, tenants.c.id == containers.c.tenant_id)
        .join(tenant_terms, (tenant_terms.c.tenant_id == tenants.c.id) & tenant_terms.c.id.in_(newest))
        .outerjoin(sites, sites.c.id == containers.c.site_id)
        .where(containers.c.removed_at_s.is_(None))
        .order_by(containers.c.id)
    )
    rows = connection.execute(query).all()
    terms = {it: terms_at(connection, it, now_s) for it in {row.tenant_id for row in rows}}
    pay = {it for it, of in terms.items() if of is not None and of.charge is not Charge.NONE}
    return Known(
        at_s=now_s,
        efficiencies=efficiencies_at(connection, now_s),
        places={
            row.id: Place(
                tenant=row.tenant,
                name=row.name,
                site=row.site,
                tenant_active=row.status == "active",
                fee_bps=row.fee_bps,
                pays_energy=row.tenant_id in pay,
                units=row.nameplate_units,
            )
            for row in rows
        },
        limits=limits_at(connection, now_s),
        meters=list_meters(connection),
        readings=newest_readings(connection, now_s - KEPT_S),
    )


class PowerWatch:
    """`known` is replaced as a whole. `unheard`: machines of which nobody here knows what they do; `off`:
    those that events have."""

    def __init__(
        self,
        store: Store,
        hashrates: HashrateBook,
        *,
        unheard: Unheard = everybody_is_heard,
        off: Callable[[], Collection[int]] = frozenset,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.known = Known()
        self._store, self._hashrates, self._unheard, self._wall_clock = store, hashrates, unheard, wall_clock
        self._off = off
        self._counted: deque[Counted] = deque(maxlen=COUNTED)
        self._told: PowerNow | None = None
        self._told_s = -AGAIN_S
        self._alone = trio.CapacityLimiter(1)  # the books, and the sums: nobody waits twice

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.refresh()
            except DATABASE_ERRORS as error:  # whether the pool may go on is for its journal to say
                log.warning("power_not_read", reason=words_of(error)[:300])
            machines = await self.machines()
            self._counted.append(Counted(machines.numbers, machines.accepted, machines.undelivered))
            await trio.sleep(READ_S)

    async def refresh(self) -> None:
        """Somebody changed what the books say. Raises DATABASE_ERRORS."""
        self.known = await trio.to_thread.run_sync(self._read, limiter=self._alone)
        self._told = None

    def _read(self) -> Known:
        with self._store.read() as connection:
            return read_known(connection, int(self._wall_clock()))

    async def now(self) -> PowerNow:
        """What is drawn."""
        if self._told is None or trio.current_time() - self._told_s >= AGAIN_S:
            machines, known, now_s = await self.machines(), self.known, int(self._wall_clock())
            sums = partial(power_now, known, machines, now_s)
            told = await trio.to_thread.run_sync(sums, limiter=self._alone)
            if known is not self.known:
                return told  # somebody has changed something since: the next one is told that
            self._told, self._told_s = told, trio.current_time()
        return self._told

    async def suspects(self) -> tuple[Suspect, ...]:
        """Who draws and does not mine, or mines and is not paid for."""
        now, machines, known = await self.now(), await self.machines(), self.known
        before = self._counted[0] if self._counted else None
        found = partial(suspects, known, machines, now, before, self._off())
        return await trio.to_thread.run_sync(found, limiter=self._alone)

    async def by_machine(self, numbers: Collection[int]) -> dict[int, MachineDrawn]:
        """What each of these machines draws now, by number."""
        now, machines, known = await self.now(), await self.machines(), self.known
        found = partial(drawn_by_machine, known, machines, now, numbers)
        return await trio.to_thread.run_sync(found, limiter=self._alone)

    async def machines(self) -> MachinesNow:
        """All that have a number here."""
        numbers, boxes = self._hashrates.everybody()
        numbers, boxes = numbers.copy(), boxes.copy()
        looks: list[MachineLooks] = []
        for at in range(0, max(len(numbers), 1), PIECE):
            looks.append(self._hashrates.look(numbers[at : at + PIECE], trio.current_time()))
            await trio.lowlevel.checkpoint()
        rates = np.concatenate([it.rates_hps for it in looks])
        counts = np.concatenate([it.counts for it in looks])
        ages_s = np.concatenate([it.ages_s for it in looks])
        return MachinesNow(
            numbers=numbers,
            containers=boxes,
            rates_hps=rates[:, FIVE_MINUTES],
            hour_hps=rates[:, HOUR],
            rejected_hps=np.concatenate([it.rejected_hps for it in looks]),
            share_hashes=self._hashrates.share_hashes(numbers),
            ages_s=ages_s,
            accepted=counts[:, 0],
            undelivered=counts[:, 5],
            unheard=self._unheard(numbers, boxes, ages_s),
        )
