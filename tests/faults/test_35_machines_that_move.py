"""A machine goes from one site's edge to another's, as its second address has it: it begins at the difficulty
that it had, whether the hub is there or not, and no work of one edge counts at another.
"""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest
import trio
from sqlalchemy import select

from payouts.schemas.money import workers
from pool.data_dir import database_url
from pool.swarm.machine import MinerMachine, RefusedByPool, State, SwarmStats
from tests.stages.sites import Program, Sites, on_this_host
from tests.stages.waiting import until

NAME = "acme.c01.wanderer"
HAS_LOG2, STARTS_LOG2 = -22, -32
HASHES_AT_ONCE = 200
SHARES = 20


class Ended(Exception):
    """By the edge."""


class Wanderer:
    """The machine, at an edge. `difficulties`: as it is told; `shares`: what it sent and was good."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream, self._buffer, self._sent = stream, b"", dict[int, list[str]]()
        self.stats = SwarmStats()
        self.machine = MinerMachine(NAME, random.Random(1), self.stats)
        self.difficulties: list[float] = []
        self.session = ""
        self.shares: list[list[str]] = []
        self.answered = 0

    async def begin(self) -> None:
        """Until it has work. Raises RefusedByPool."""
        await self._send(self.machine.open())
        while self.machine.state is not State.MINING or self.machine.job is None:
            await self._hear()

    async def mine(self, shares: int) -> None:
        """So many more that are good."""
        most = len(self.shares) + shares
        while len(self.shares) < most:
            if (line := self.machine.next_share(HASHES_AT_ONCE)) is not None:
                await self.submit(msgspec.json.decode(line)["params"], line)
            await trio.lowlevel.checkpoint()

    async def submit(self, params: list[str], line: bytes | None = None) -> None:
        """And hear what becomes of it."""
        if line is None:
            said = {"id": 10_000 + len(self._sent), "method": "mining.submit", "params": params}
            line = msgspec.json.encode(said) + b"\n"
        self._sent[msgspec.json.decode(line)["id"]] = params
        before = self.answered
        await self._send([line])
        while self.answered == before:
            await self._hear()

    async def _hear(self) -> None:
        data = await self._stream.receive_some(65536)
        if not data:
            raise Ended("the edge has ended the connection")
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            said = msgspec.json.decode(line)
            if said.get("method") == "mining.set_difficulty":
                self.difficulties.append(said["params"][0])
            elif said.get("id") in self._sent:
                self.answered += 1
                if said["result"] is True:
                    self.shares.append(self._sent[said["id"]])
            await self._send(self.machine.receive_line(line))

    async def _send(self, lines: list[bytes]) -> None:
        if lines:
            await self._stream.send_all(b"".join(lines))


@asynccontextmanager
async def at(port: int) -> AsyncIterator[Wanderer]:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        it = Wanderer(stream)
        await it.begin()
        yield it


def set_difficulty(edge: Program, *, start_log2: int, least_log2: int) -> None:
    settings = edge.directory / "angara.toml"
    values = {"start": start_log2, "min": least_log2, "max": HAS_LOG2}
    lines = [it for it in settings.read_text().splitlines() if not it.startswith("difficulty_")]
    at_stratum = lines.index("[stratum]") + 1
    lines[at_stratum:at_stratum] = [f"difficulty_{name} = {2.0**log2!r}" for name, log2 in values.items()]
    settings.write_text("\n".join(lines))


def remembered(sites: Sites) -> int | None:
    with sites.store.read() as connection:
        return connection.scalar(select(workers.c.difficulty_log2).where(workers.c.unit == "wanderer"))


async def heard_up_to_now(sites: Sites, port: int) -> None:
    """An edge hears what changes in the order in which it did: the last of it lets the machine in again."""
    hub = sites.hubs[0]
    hub.command("tenant", "suspend", "acme", "--data-dir", str(hub.data))
    while True:
        try:
            async with at(port):
                pass
        except (RefusedByPool, Ended):  # it heard before the machine asked, or while it did
            break
    hub.command("tenant", "resume", "acme", "--data-dir", str(hub.data))
    while True:
        with suppress(RefusedByPool, Ended):
            async with at(port):
                return


@pytest.mark.long
async def test_a_machine_begins_at_another_edge_with_the_difficulty_that_it_had(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    database = database_url(tmp_path / "books")
    async with on_this_host(tmp_path, database, edges=("north", "south")) as sites:
        north, south = sites.edges
        set_difficulty(north, start_log2=HAS_LOG2, least_log2=HAS_LOG2)
        set_difficulty(south, start_log2=STARTS_LOG2, least_log2=STARTS_LOG2)
        await sites.begin()
        of_north, of_south = sites.ports
        async with at(of_north) as machine:
            await machine.mine(SHARES)
            first, left = machine, machine.machine.extranonce1
        await sites.all_is_booked()
        await until(lambda: remembered(sites) == HAS_LOG2)
        await heard_up_to_now(sites, of_south)
        sites.hubs[0].kill()
        async with at(of_south) as machine:
            assert machine.difficulties == [2.0**HAS_LOG2]
            assert machine.machine.extranonce1[0] != left[0], "parts of their own"
            await machine.mine(1)
            for params in first.shares:  # of north's jobs, and of the job here with north's numbers
                await machine.submit(params)
                await machine.submit([params[0], machine.shares[0][1], *params[2:]])
            booked = len(first.shares) + len(machine.shares)
        sites.hubs[0].start()
        await sites.all_is_booked()
        assert sites.shares() == {NAME: booked}
