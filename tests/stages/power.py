"""Curtailment up to machines: real books, a simulated site behind them, a virtual clock."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np
import trio
from sqlalchemy import insert, select
from sqlalchemy.exc import OperationalError

from payouts.schemas.money import tally_minutes
from payouts.schemas.power import power_readings
from pool.books.store import Store
from pool.power.control.contract import MachineName
from pool.power.curtailment.asking import ask
from pool.power.curtailment.events import Event, NewEvent, load_event
from pool.power.curtailment.executor import Curtailment
from pool.power.curtailment.machines import EventMachine, machines_of
from pool.power.curtailment.rounds import Rounds
from pool.power.curtailment.schema import power_event_steps
from pool.power.curtailment.states import OWNED
from pool.power.energy.meters import Meter, NewMeter, add_meter, take_readings
from pool.power.energy.nameplates import NewNameplate, set_nameplates
from pool.power.energy.readings import Reading
from tests.histories.power import NOW_S, add_container
from tests.judges.power_site import PowerSite

THS = 100
WATTS = 3_000
IDLE_WATTS = 60
LOG2 = 17  # of 100 TH/s a share in 5.6 s


class PowerStage:
    """`containers` of `units` machines each, of two tenants, that have mined for an hour; the machines of
    those whose numbers are in `unknown` have no nameplate."""

    def __init__(
        self,
        store: Store,
        *,
        containers: int = 4,
        units: int = 25,
        watts: int = WATTS,
        seed: int = 1,
        unknown: Sequence[int] = (),
    ) -> None:
        self.store = store
        self._dice = np.random.default_rng(seed)
        self._meter: Meter | None = None
        self.folds = True  # shares come into the books
        names: dict[int, MachineName] = {}
        with store.write() as connection:
            for number in range(containers):
                tenant, place = ("acme", "bolt")[number % 2], f"c{number:02}"
                ids = add_container(connection, f"{tenant}.{place}", units, now_s=NOW_S - 9_000)
                for at, worker in enumerate(ids, 1):
                    names[worker] = MachineName(tenant=tenant, container=place, unit=f"u{at}")
                plate = NewNameplate(
                    container=f"{tenant}.{place}",
                    hashrate_ghs=THS * 1_000,
                    # Of later containers more is got for a kWh.
                    watts=watts - 10 * number,
                    idle_watts=IDLE_WATTS,
                    error_bps=500,
                )
                if number not in unknown:
                    set_nameplates(connection, [plate], by="olga", now_s=NOW_S - 7_200)
            self.workers = list(names)
            for minute in range(NOW_S // 60 - 62, NOW_S // 60):
                connection.execute(insert(tally_minutes), self._mined(minute, self.workers))
        drawn = [watts - 10 * (at // units) for at in range(containers * units)]
        self.site = PowerSite(names, drawn, IDLE_WATTS, seed, NOW_S)

    @property
    def now_s(self) -> int:
        return int(self.site.wall_s())

    def curtailment(self, *, dry_run: bool = False) -> Curtailment:
        """Of a process that begins now."""
        return Curtailment(
            Rounds(self.store, dry_run=dry_run),
            self.site,
            self.site,
            wall_clock=self.site.wall_s,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Curtailment]:
        """One that runs until the end of the block."""
        running = self.curtailment()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.run)
            nursery.start_soon(self.fold)
            if self._meter is not None:
                nursery.start_soon(self.read_meter)
            yield running
            nursery.cancel_scope.cancel()

    async def fold(self) -> None:
        """What is mined comes into the books, each minute."""
        while True:
            minute, mining = self.now_s // 60, self.site.mining()
            await trio.sleep(60 - self.site.wall_s() % 60)
            both = mining & self.site.mining()
            if not self.folds:
                continue
            rows = self._mined(minute, [it for it, here in zip(self.workers, both, strict=True) if here])

            def write(rows: list[dict[str, int]] = rows) -> None:
                with suppress(OperationalError), self.store.write() as connection:
                    if rows:
                        connection.execute(insert(tally_minutes), rows)

            await trio.to_thread.run_sync(write)

    def _mined(self, minute: int, workers: Sequence[int]) -> list[dict[str, int]]:
        shares = self._dice.poisson(THS * 1e12 * 60 / 2**32 / 2**LOG2, len(workers))
        key = {"minute": minute, "rate_id": 1, "difficulty_log2": LOG2, "verdict": 0}
        return [
            {**key, "worker_id": worker, "shares": int(count)}
            for worker, count in zip(workers, shares, strict=True)
            if count
        ]

    def has_meter(self, besides_watts: int, *, max_kw: int = 1_000, lies: float = 1.0) -> None:
        """Before the site, which draws so much besides its machines; it has read once a minute for two hours,
        and says that much times what is true."""
        self.besides_watts, self._lies = besides_watts, lies
        with self.store.write() as connection:
            meter = NewMeter(name="hall", kind="push", site="Bratsk", error_bps=50, max_kw=max_kw)
            self._meter = add_meter(connection, meter, by="olga", now_s=NOW_S - 7_200)
            rows = [
                {"meter_id": self._meter.id, "taken_at_s": NOW_S, "taken_by": "olga"} | self._read(at_s)
                for at_s in range(NOW_S - 7_200, NOW_S + 1, 60)
            ]
            connection.execute(insert(power_readings), rows)

    def _read(self, at_s: int) -> dict[str, int]:
        truth = self.site.drawn_watts() + self.besides_watts
        return {"at_s": at_s, "watts": int(truth * self._lies * self._dice.normal(1, 0.002))}

    async def read_meter(self) -> None:
        """Once a minute."""
        while True:
            await trio.sleep(60 - self.site.wall_s() % 60)
            row, now_s = self._read(self.now_s), self.now_s

            def write(row: dict[str, int] = row, now_s: int = now_s) -> None:
                with self.store.write() as connection:
                    assert self._meter is not None
                    take_readings(connection, self._meter, [Reading(**row)], by="gateway", now_s=now_s)

            await trio.to_thread.run_sync(write)

    async def ask(self, reference: str = "grid-1", **changed: Any) -> Event:
        fields: dict[str, Any] = {
            "source": "webhook",
            "reference": reference,
            "target": "everything",
            "site": "Bratsk",
            "from_s": self.now_s,
            "until_s": self.now_s + 1_800,
            "ramp_s": 300,
        }
        new = NewEvent(**fields | changed)
        now_s = self.now_s
        return await trio.to_thread.run_sync(lambda: ask(self.store, new, by="grid", now_s=now_s))

    async def event(self, number: int = 1) -> Event:
        def read() -> Event:
            with self.store.read() as connection:
                return load_event(connection, number)

        return await trio.to_thread.run_sync(read)

    async def machines(self, number: int = 1) -> dict[int, EventMachine]:
        def read() -> dict[int, EventMachine]:
            with self.store.read() as connection:
                return machines_of(connection, number)

        return await trio.to_thread.run_sync(read)

    async def owned(self, number: int = 1) -> frozenset[int]:
        """Machines that are that event's, and no other's."""
        return frozenset(worker for worker, it in (await self.machines(number)).items() if it.state in OWNED)

    async def states(self, number: int = 1) -> dict[str, int]:
        counts: dict[str, int] = {}
        for it in (await self.machines(number)).values():
            counts[it.state.value] = counts.get(it.state.value, 0) + 1
        return counts

    async def steps(self, number: int = 1) -> Sequence[tuple[int | None, str, str]]:
        def read() -> list[tuple[int | None, str, str]]:
            with self.store.read() as connection:
                query = select(power_event_steps).where(power_event_steps.c.event_id == number)
                rows = connection.execute(query.order_by(power_event_steps.c.step))
                return [(row.worker_id, row.state, row.words) for row in rows]

        return await trio.to_thread.run_sync(read)
