"""What becomes of a journal whose stream brings nothing to the hub."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
import trio
import trio.testing

from pool.journal.frames import Place
from pool.journal.log import JournalLog, writer_directories
from pool.journal.records import Batch, packed
from pool.sites.journal_reader import JournalReader
from pool.sites.nats.client import ConnectionState
from pool.sites.nats.publisher import DIRECTLY_S, RECORD_BYTES_MAX, Published, Publisher
from pool.sites.served import RENEW_S
from tests.fixtures.no_threads import at_once
from tests.stages.sent_journal import Want

PUBLISHED = msgspec.msgpack.Decoder(Published)


class Servers:
    """That read all, whatever becomes of it."""

    def __init__(self) -> None:
        self.state = ConnectionState(connected=True, connections=1)
        self.read: list[bytes] = []

    async def connected(self) -> int:
        return 1

    async def publish(self, subject: str, data: bytes) -> None:
        self.read.append(PUBLISHED.decode(data).frames)

    async def flushed(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_what_does_not_come_is_given_to_the_hub_itself_and_to_the_servers_as_well(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Of a hub whose disk is full they keep it: the edge's own disk may be lost."""
    journal = JournalLog(writer_directories(tmp_path, 1)[0], "ab" * 16)
    journal.begin(Place(), 5, 0)
    servers, given = Servers(), list[bytes]()
    connection: Any = servers

    async def send(frames: bytes) -> None:
        given.append(frames)

    async def wanted() -> Want:
        return Want(0)

    publisher = Publisher(
        connection,
        "oslo",
        JournalReader(journal.directory, lambda: journal.at.number),
        epoch=lambda: 7,
        wanted=wanted,
        send=send,
        away=(),
    )

    async def write() -> bytes:
        journal.append(packed(Batch(moment_s=5, accepted=0, tallies=bytes(200))), 5, 0)
        await trio.sleep(2.0)
        return servers.read[-1]

    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publisher.run)
            await write()
            assert given == []
            publisher.send_again(Want(0), directly=True)
            await trio.sleep(2.0)
            assert given == servers.read[-1:]
            published = await write()
            assert given[-1] == published
            await trio.sleep(DIRECTLY_S)
            published = await write()
            assert given[-1] != published, "they may be well again"
            publisher.send_again(Want(0), directly=True)
            await trio.sleep(2.0)
            assert given[-1] == servers.read[-1]
            nursery.cancel_scope.cancel()
    journal.close()
    assert [it["event"] for it in logs] == ["journal_not_delivered"], "an operator is told once"


async def test_a_long_record_is_on_its_way_for_as_long_as_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """Each ten seconds the hub wants it still: what takes longer, as 8 MB do over six megabits, was begun
    anew each time, and nothing of the journal came any more."""
    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)
    journal = JournalLog(writer_directories(tmp_path, 1)[0], "ab" * 16)
    journal.begin(Place(), 5, 0)
    journal.append(packed(Batch(moment_s=5, accepted=0, tallies=bytes(RECORD_BYTES_MAX))), 5, 0)
    last, given, connection = journal.at.number, list[int](), Servers()
    to_servers: Any = connection

    async def send(frames: bytes) -> None:
        await trio.sleep(2.5 * RENEW_S)
        given.append(last)

    async def wanted() -> Want:
        return Want(last - 1)

    publisher = Publisher(
        to_servers,
        "oslo",
        JournalReader(journal.directory, lambda: journal.at.number),
        epoch=lambda: 7,
        wanted=wanted,
        send=send,
        away=(),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publisher.run)
        for looks in range(12):
            await trio.sleep(RENEW_S)
            if not given:
                publisher.send_again(Want(last - 1), directly=looks > 0)
        nursery.cancel_scope.cancel()
    journal.close()
    assert given == [last]
