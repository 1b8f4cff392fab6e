"""An edge at another site without its miners: a journal that grows as theirs would have it, and what the
edge's own code makes of that. From the journal on all is production; a record a second has the shares of
every TURNS-th machine, and names each before its first one in a file.

A host has one disk where 75 sites have 75, so these journals are not synced. Must not know: what is measured.
"""

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import trio

from pool.books.edges.leases import EdgeRefused
from pool.books.journal.book_clock import BookClock
from pool.books.journal.prices import Prices
from pool.books.journal.rate_epochs import WorkPrice
from pool.fleet.registry import Registry
from pool.hub import HubAway
from pool.journal.beginning import Mark
from pool.journal.frames import Place
from pool.journal.inbox import Want
from pool.journal.log import JournalLog, writer_directories
from pool.journal.records import Batch, Machine, packed
from pool.questions import AnsweredWithError
from pool.sites.copy import CopyOnDisk
from pool.sites.journal_reader import JournalReader
from pool.sites.line_to_hub import LineToHub
from pool.sites.membership import SILENT, Membership
from pool.sites.nats.client import Access
from pool.sites.nats.connection import Connection
from pool.sites.nats.publisher import Publisher
from pool.sites.questions import Heard, Site, Told
from pool.sites.served import REFRESH_S, RENEW_S
from stratum.tallies import RECORD
from tests.stages.journal import DiskInMemory

PER_CONTAINER: Final = 400
TURNS: Final = 12  # a machine has a share every so many seconds: five a minute
DIFFICULTY_LOG2: Final = -20  # a test network's difficulty is 1, and a share of more would be worth a block


class SiteWithoutMiners:
    """Of a tenant by its own name. `price` and `height` are those of the chain."""

    def __init__(self, access: Access, home: Path, machines: int, price: WorkPrice, height: int) -> None:
        self.name, self._machines, self._price, self._height = access.name, machines, price, height
        self.connection = Connection(access)
        self._to_hub = LineToHub(self.connection, self.name)
        self._hub = self._to_hub.hub
        self._disk = DiskInMemory()
        data = home / self.name
        data.mkdir(parents=True)
        self._directory = writer_directories(data, 1, self._disk)[0]
        copy = CopyOnDisk(data, time.time)
        self._membership = Membership(self._hub, self.name, self._directory, copy, alone_hours=1)
        self._publisher = Publisher(
            self.connection,
            self.name,
            JournalReader(self._directory, lambda: self.number),
            epoch=lambda: self._membership.epoch,
            wanted=self._wanted,
            send=self._send,
            away=(HubAway, AnsweredWithError, EdgeRefused),
        )
        self.log: JournalLog | None = None
        self.accepted = 0
        self._seconds = 0
        self._named: set[int] = set()  # turns, in the file that is written
        self._known: set[int] = set()  # turns whose machines are new no more
        self._refreshed_s = trio.current_time()
        self._have = -1

    @property
    def writer(self) -> str:
        return self._directory.name

    @property
    def number(self) -> int:
        """Of the last record."""
        return 0 if self.log is None else self.log.at.number

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; it has begun when the hub has let it."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.connection.run)
            await nursery.start(self._to_hub.replies.run)
            copy = await self._membership.begin()
            begin = copy.begin
            self._clock = BookClock(time.time, begin.start.beginning.moment_s)
            registry = Registry(begin.snapshot, part=begin.part.number, of=begin.part.of)
            prices = Prices(begin.start.prices, registry, clock=self._clock)
            prices.epoch(self._price, self._height)
            (self._rate,) = prices.opened()
            tenant = registry.tenants[self.name].id
            self._turns = [self._turn(it, begin.part.number, begin.part.of, tenant) for it in range(TURNS)]
            log = JournalLog(self._directory, begin.start.beginning.book, disk=self._disk)
            try:
                log.begin(Place(), self._clock.now_s(), 0)
                self.log = log
                self._to_hub.line.answer(Site, self)
                await nursery.start(self._to_hub.line.run)
                nursery.start_soon(self._publisher.run)
                nursery.start_soon(self._keep_up)
                task_status.started()
                await trio.sleep_forever()
            finally:
                log.close()

    def _turn(self, turn: int, part: int, of: int, tenant: int) -> tuple[bytes, tuple[Machine, ...]]:
        units = np.arange(turn, self._machines, TURNS)
        tallies = np.zeros(len(units), dtype=RECORD)
        tallies["worker"] = part + of * (units + 1)
        tallies["rate"], tallies["difficulty_log2"], tallies["count"] = self._rate.number, DIFFICULTY_LOG2, 1
        machines = tuple(
            Machine(
                number=part + of * (unit + 1),
                tenant_id=tenant,
                tenant=self.name,
                container_id=part + of * (unit // PER_CONTAINER + 1),
                container=f"c{unit // PER_CONTAINER:03}",
                unit=f"u{unit % PER_CONTAINER:03}",
                agent="cgminer",
                new=True,
                new_container=True,
            )
            for unit in units.tolist()
        )
        return tallies.tobytes(), machines

    def append(self) -> None:
        """The record of a second. Blocks."""
        assert self.log is not None
        if self.log.begins_a_file:
            self._named.clear()
        turn = self._seconds % TURNS
        tallies, machines = self._turns[turn]
        self._seconds += 1
        self.accepted += len(machines)
        rates = () if self._named else (self._rate,)
        named = () if turn in self._named else machines
        if turn in self._known:
            named = tuple(msgspec.structs.replace(it, new=False, new_container=False) for it in named)
        self._named.add(turn)
        self._known.add(turn)
        batch = Batch(
            moment_s=self._clock.now_s(),
            accepted=self.accepted,
            tallies=tallies,
            machines=named,
            rates=rates,
        )
        self.log.append(packed(batch), batch.moment_s, batch.accepted)

    # As pool.sites.served has it

    async def _keep_up(self) -> None:
        while True:
            with contextlib.suppress(*SILENT):
                await self._renew()
            await trio.sleep(RENEW_S)

    async def _wanted(self) -> Want:
        received = (await self._heard()).received
        return received.want or Want(behind=received.have.number)

    async def _heard(self) -> Heard:
        assert self.log is not None
        if not self._membership.granted:
            granted = await self._membership.ask(self.log.at)
            self._publisher.send_again(granted.want)
        mark = Mark(number=self.log.at.number, moment_s=self._clock.now_s())
        return await self._hub.renew(self._membership.epoch, mark)

    async def _renew(self) -> None:
        assert self.log is not None
        try:
            heard = await self._heard()
        except EdgeRefused:
            if not self._membership.granted:
                raise
            self._membership.granted = False
            heard = await self._heard()
        received = heard.received
        if received.held is not None:
            raise RuntimeError(f"{self.name} is held: {received.held}")
        if received.want is not None and received.have.number == self._have:
            self._publisher.send_again(received.want)
        self._have = received.have.number
        due = trio.current_time() - self._refreshed_s >= REFRESH_S
        if due or heard.changes != self._membership.changes:
            it = await self._membership.everything()
            self._refreshed_s = trio.current_time()
            await trio.to_thread.run_sync(self.log.trim, it.begin.start.beginning.behind)

    async def _send(self, frames: bytes) -> None:
        await self._hub.send(self._membership.epoch, frames)

    # pool.sites.questions.Site

    async def taken(self, epoch: int, booked: Place) -> None:
        pass

    async def send_again(self, epoch: int, want: Want) -> None:
        if epoch == self._membership.epoch:
            self._publisher.send_again(want)

    async def forgotten(self, epoch: int, prevhashes: Sequence[bytes]) -> list[bytes]:
        return []

    async def changed(self, told: Told) -> None:
        if told.number == self._membership.changes + 1:
            self._membership.changes = told.number
