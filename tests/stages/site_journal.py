"""The journal of an edge at another site, as its process writes it, and its frames as they are sent."""

import base64
import binascii
import secrets
import shutil
import tempfile
import weakref
from pathlib import Path

import numpy as np
from sqlalchemy import Connection

from pool.books.journal.positions import uid_of
from pool.books.journal.rate_rows import described
from pool.journal.frames import Place, frame_at
from pool.journal.log import JournalLog
from pool.journal.records import Batch, Machine, Noted, Rate, packed
from pool.journal.segments import segments
from stratum.tallies import CREDIT, Verdict
from tests.stages.journal import NOW_S, DiskInMemory, tally

SEGMENT_BYTES = 500  # a few records


class SiteJournal:
    """`part` is the edge's: its machines are numbered in it. Each share is a record."""

    def __init__(self, book: str = "book", *, part: int = 1, rate: Rate | None = None) -> None:
        home = Path(tempfile.mkdtemp(prefix="angara-site-"))
        weakref.finalize(self, shutil.rmtree, home, ignore_errors=True)
        self.directory = home / secrets.token_hex(16)
        self.directory.mkdir()
        self.writer, self.book, self.part, self.rate = self.directory.name, book, part, rate
        self.log = JournalLog(self.directory, book, disk=DiskInMemory(), segment_bytes=SEGMENT_BYTES)
        self.log.begin(Place(), NOW_S, 0)
        self.accepted = 0
        self.moment_s = NOW_S
        self._numbers: dict[tuple[str, str, str], int] = {}

    @classmethod
    def clone(cls, other: "SiteJournal") -> "SiteJournal":
        """A copy that goes on by itself, with the same key and numbers."""
        found = cls(other.book, part=other.part, rate=other.rate)
        found.log.close()
        shutil.rmtree(found.directory)
        found.directory = found.directory.with_name(other.writer)
        shutil.copytree(other.directory, found.directory)
        found.writer, found.accepted, found._numbers = other.writer, other.accepted, dict(other._numbers)
        found.log = JournalLog(found.directory, other.book, disk=DiskInMemory(), segment_bytes=SEGMENT_BYTES)
        found.log.begin(other.log.at, NOW_S, other.accepted)
        return found

    def number(self, name: str) -> int:
        tenant, container, unit = name.split(".")
        return self._numbers.setdefault((tenant, container, unit), self.part + 256 * (len(self._numbers) + 1))

    def share(
        self,
        name: str = "acme.c01.u1",
        count: int = 1,
        *,
        verdict: Verdict = Verdict.ACCEPTED,
        log2: int = 16,
        number: int | None = None,
        new: bool = True,
        on_block: bytes | None = None,
    ) -> bytes:
        """So many of one machine, in a record: as it is sent. `on_block`: on an upstream's work."""
        number = self.number(name) if number is None else number
        tenant, container, unit = name.split(".")
        machine = Machine(
            number=number,
            tenant_id=1,
            tenant=tenant,
            container_id=self.part + 256,
            container=container,
            unit=unit,
            agent=None,
            new=new,
            new_container=new,
        )
        rate = 0 if self.rate is None else self.rate.number
        credited = np.zeros(0 if on_block is None else count, dtype=CREDIT)
        credited["hash"] = [secrets.token_bytes(16) for _ in credited]
        credited["worker"], credited["rate"] = number, rate
        credited["difficulty_log2"], credited["verdict"] = log2, verdict
        return self.say(
            tally(number, rate, log2, verdict, count),
            machines=(machine,),
            rates=() if self.rate is None else (self.rate,),
            accepted=count if verdict is Verdict.ACCEPTED else 0,
            credited=() if on_block is None else ((on_block, credited.tobytes()),),
        )

    def say(
        self,
        tallies: bytes,
        *,
        machines: tuple[Machine, ...] = (),
        rates: tuple[Rate, ...] = (),
        accepted: int = 0,
        noted: tuple[Noted, ...] = (),
        credited: tuple[tuple[bytes, bytes], ...] = (),
    ) -> bytes:
        """A record, with the opening of a file that begins with it."""
        before = self.log.at.number
        self.accepted += accepted
        batch = Batch(
            moment_s=self.moment_s,
            accepted=self.accepted,
            tallies=tallies,
            machines=machines,
            rates=rates,
            noted=noted,
            credited=credited,
        )
        self.log.append(packed(batch), self.moment_s, self.accepted)
        return b"".join(self.frames(before))

    def frames(self, behind: int = 0, *, whole_file: bool = False) -> list[bytes]:
        """As the edge sends them again, asked for what is behind a record."""
        there = segments(self.directory)
        if whole_file:
            behind = max((first for first, _ in there if first <= behind + 1), default=1) - 1
        found = []
        for _, path in there:
            data, at = path.read_bytes(), 0
            while (frame := frame_at(self.writer, data, at)) is not None:
                if frame.at.number > behind:
                    found.append(data[at : frame.end])
                at = frame.end
        return found


def journal_of_books(connection: Connection, epoch: int, *, part: int = 1) -> SiteJournal:
    """Of an edge of these books, with shares at that price."""
    return SiteJournal(uid_of(connection), part=part, rate=described(connection, epoch))


def new_nkey() -> str:
    """The public key of a NATS user."""
    body = bytes([20 << 3]) + secrets.token_bytes(32)
    return base64.b32encode(body + binascii.crc_hqx(body, 0).to_bytes(2, "little")).decode()
