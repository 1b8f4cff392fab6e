"""The server end of a pool that speaks both protocols, without the pool, and machines of Stratum V2 at it."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from stratum.job import Work
from stratum.miners.listening.listeners import Endpoint
from stratum.sv2.authority import Credentials
from stratum.sv2.dialect import Sv2
from stratum.sv2.secp256k1 import key_pair
from tests.stages.sockets import LOOPBACK, LoopbackServer, MemoryJournal, serving
from tests.stages.sv2_machine import Sv2Machine, connect_sv2

ENDPOINTS = (LOOPBACK, Endpoint(host="127.0.0.1", port=0, dialect="sv2"))


class Pool:
    """A server that speaks both; V1 at its first address."""

    def __init__(self, server: LoopbackServer, sv2: Sv2, journal: MemoryJournal) -> None:
        self.server, self.sv2, self.journal = server, sv2, journal
        self.credentials = sv2.credentials
        self.machines: list[Sv2Machine] = []

    @property
    def port(self) -> int:
        return self.server.listeners.addresses[1][1]

    async def machine(self, **options: Any) -> Sv2Machine:
        public, now_s = self.credentials.public, int(time.time())
        machine = await connect_sv2(self.port, public, now_s, **options)
        self.machines.append(machine)
        return machine


@asynccontextmanager
async def playing(work: Work | None = None, **options: Any) -> AsyncIterator[Pool]:
    sv2, journal = Sv2(Credentials(key_pair(), validity_s=86_400)), MemoryJournal()
    dialects = {"sv2": sv2}
    async with serving(work, journal=journal, endpoints=ENDPOINTS, dialects=dialects, **options) as server:
        pool = Pool(server, sv2, journal)
        try:
            yield pool
        finally:
            for machine in pool.machines:
                await machine.close()
