"""Meters that speak Modbus TCP, read once a minute while the pool runs.

Each is read in a thread, a few at a time, since a meter that does not answer takes seconds. One that fails is
left alone for longer each time, up to a quarter of an hour, and its gap is a gap. It is logged once that it
is away, and once that it is back. Must not know: what becomes of readings.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog
import trio

from pool.books.store import DATABASE_ERRORS, Store, words_of
from pool.fleet.registry_error import RegistryError
from pool.power.energy.meters import (
    Meter,
    any_readings_before,
    forget_readings,
    list_meters,
    take_readings,
)
from pool.power.energy.modbus import Address, MeterAway, Register, address_of, read_meter, registers_of
from pool.power.energy.readings import Reading

log = structlog.get_logger()

POLL_S: Final = 60.0
AT_ONCE: Final = 8  # a thousand that are all away take their turns of three seconds in six minutes
REST_MAX_S: Final = 900.0
FORGET_S: Final = 86_400.0

Read = Callable[[Address, tuple[Register, ...], int], Reading]


class MeterPolling:
    """`read` blocks, and raises MeterAway."""

    def __init__(
        self,
        store: Store,
        *,
        read: Read = read_meter,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._read, self._wall_clock = store, read, wall_clock
        self._threads = trio.CapacityLimiter(AT_ONCE)
        self._book = trio.CapacityLimiter(1)
        self._rest_s: dict[str, float] = {}  # of those that are away
        self._due_s: dict[str, float] = {}
        self._refused: set[str] = set()  # whose newest reading the books did not take
        self._forgot_s = -FORGET_S

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            began_s = trio.current_time()
            try:
                await self.look()
            except DATABASE_ERRORS as error:
                log.warning("meters_not_read", reason=words_of(error)[:300])
            await trio.sleep(max(0.0, began_s + POLL_S - trio.current_time()))

    async def look(self) -> None:
        """Read all that are due."""
        meters = await trio.to_thread.run_sync(self._meters, limiter=self._book)
        there = {it.name for it in meters}
        for known in (self._rest_s, self._due_s):
            for name in known.keys() - there:
                del known[name]
        self._refused &= there
        async with trio.open_nursery() as nursery:
            for it in meters:
                if trio.current_time() >= self._due_s.get(it.name, 0.0):
                    nursery.start_soon(self._poll, it)
        if trio.current_time() - self._forgot_s >= FORGET_S:
            await trio.to_thread.run_sync(self._forget, limiter=self._book)
            self._forgot_s = trio.current_time()

    def _meters(self) -> list[Meter]:
        with self._store.read() as connection:
            return [it for it in list_meters(connection) if it.kind == "modbus"]

    def _forget(self) -> None:
        now_s = int(self._wall_clock())
        with self._store.read() as connection:
            if not any_readings_before(connection, now_s):
                return
        with self._store.write() as connection:
            forget_readings(connection, now_s)

    async def _poll(self, meter: Meter) -> None:
        try:
            job = partial(self._reading, meter)
            # Who stops the pool does not wait for a meter: its thread ends by itself.
            reading = await trio.to_thread.run_sync(job, limiter=self._threads, abandon_on_cancel=True)
            await trio.to_thread.run_sync(partial(self._take, meter, reading), limiter=self._book)
            self._refused.discard(meter.name)
        except (MeterAway, ValueError) as error:
            self._failed(meter.name, str(error))
            return
        except RegistryError as error:  # it answers: whoever has a reading refused silences no later one
            if meter.name not in self._refused:
                log.warning("reading_refused", meter=meter.name, reason=str(error)[:300])
            self._refused.add(meter.name)
        except DATABASE_ERRORS as error:  # the meter did what it should; its next reading has the energy
            log.warning("reading_not_taken", meter=meter.name, reason=words_of(error)[:300])
            return
        if self._rest_s.pop(meter.name, None) is not None:
            log.info("meter_back", meter=meter.name)
        self._due_s.pop(meter.name, None)

    def _reading(self, meter: Meter) -> Reading:
        address, registers = address_of(meter.address or ""), registers_of(meter.registers or "")
        return self._read(address, registers, int(self._wall_clock()))

    def _take(self, meter: Meter, reading: Reading) -> None:
        with self._store.write() as connection:
            take_readings(connection, meter, [reading], by="modbus", now_s=int(self._wall_clock()))

    def _failed(self, name: str, words: str) -> None:
        rest_s = self._rest_s.get(name)
        if rest_s is None:
            log.warning("meter_away", meter=name, reason=words[:300])
        self._rest_s[name] = rest_s = min(REST_MAX_S, POLL_S if rest_s is None else 2 * rest_s)
        self._due_s[name] = trio.current_time() + rest_s
