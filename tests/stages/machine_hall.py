"""Machines of tenants in containers, and what each does, without a socket: what a dashboard looks at."""

import struct
from collections.abc import Mapping

import msgspec
import trio

from payouts.rates import Scheme
from pool.dashboard.site_map import SiteMap
from pool.fleet.hashrate import UPDATE_S, HashrateBook
from pool.fleet.registry import Registry, Snapshot, TenantRecord
from pool.messages.conditions import Thresholds
from stratum.miners.contracts import Admitted
from stratum.tallies import Verdict
from tests.fakes.owners import ConnectionFrom

AIM_S = 6.0
LOG2 = 17
MACHINE_THS = 2**32 * 2**LOG2 / AIM_S / 1e12  # 94 TH/s: one share of that difficulty in six seconds


class MachineHall:
    """`now_s` is trio's."""

    def __init__(self, *tenants: str) -> None:
        records = tuple(
            TenantRecord(id=at, name=name, active=True, scheme=Scheme.PPS, fee_bps=0)
            for at, name in enumerate(tenants or ("acme",), 1)
        )
        self.registry = Registry(Snapshot(records, (), ()))
        self.hashrates = HashrateBook(self.registry, trio.current_time())
        self.map = SiteMap(self.registry, self.hashrates, Thresholds(), wall_clock=trio.current_time)
        self._owed: dict[tuple[Verdict, int], float] = {}

    def machine(self, name: str) -> int:
        """A new one, which has mined; its number."""
        admitted = self.registry.admit(name, "simulated/1.0", ConnectionFrom())
        assert isinstance(admitted, Admitted)
        self.registry.prove(admitted.worker)
        return admitted.worker

    def nameplate(self, container: str, units: int, ths: int) -> None:
        """Of a container that is there."""
        record = next(it for it in self.registry.containers.values() if it.name == container)
        self.registry.put_container(msgspec.structs.replace(record, units=units, ths=ths))

    async def mine(
        self, shares: Mapping[int, float], seconds: float, rejected: Mapping[int, float] | None = None
    ) -> None:
        """So many shares every AIM_S, of each; time passes."""
        paces = {(Verdict.ACCEPTED, it): pace for it, pace in shares.items()}
        paces |= {(Verdict.LOW_DIFFICULTY, it): pace for it, pace in (rejected or {}).items()}
        for _ in range(round(seconds / UPDATE_S)):
            await trio.sleep(UPDATE_S)
            records = []
            for (verdict, number), pace in paces.items():
                owed = self._owed.get((verdict, number), 0.0) + pace * UPDATE_S / AIM_S
                self._owed[verdict, number] = owed % 1
                if owed >= 1:
                    records.append(struct.pack("=IIbBHI", number, 1, LOG2, verdict, 0, int(owed)))
            self.hashrates.add(b"".join(records), trio.current_time())
