"""Shares that were kept, from the engine to a proof: each once in the books, whoever dies."""

import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from sqlalchemy import select

from payouts.proof.angara_verify import as_written, reaches, sha256d
from payouts.proof.closings import closed, due, note
from payouts.proof.share_proofs import shares_of_hour
from payouts.proof.share_tree import Share, unpacked
from payouts.proof.share_tree import packed as packed_shares
from payouts.schemas.proof import share_parts
from pool.books.audit.verify import verify
from pool.books.book import bind
from pool.books.bookkeeper import _settle_and_date
from pool.books.journal import folding, taker
from pool.books.store import Store
from pool.journal.disk import Disk
from pool.journal.records import Batch, packed
from stratum.tallies import KEPT
from tests.fixtures.databases import Crash, crash_before
from tests.histories.proof import KEY, Auditor
from tests.stages.engine import Mine, Miner, work
from tests.stages.journal import NOW_S, JournalOnStore

KEEP_LOG2 = -30  # every fourth share


class Served(JournalOnStore):
    """The same with an engine that keeps shares, and two machines; `hashes` of all that are hard enough."""

    def __init__(self, store: Store) -> None:
        self.hashes: set[bytes] = set()
        self._nonce = 0
        super().__init__(store)

    def restart(self, disk: Disk | None = None) -> None:
        super().restart(disk)
        self.mine = Mine(keep_log2=KEEP_LOG2)
        self._last = b""
        self.journal._kept = self._kept, KEEP_LOG2
        self.mine.publish(work(ntime=NOW_S, ntime_min=NOW_S - 100, ntime_max=NOW_S + 100), rate=self.epoch)
        self.miners: list[Miner] = []
        for at, name in enumerate(("acme.c01.u1", "borealis.c09.u7")):
            number = self.worker(name)
            self.miners.append(self.mine.join(extranonce1=bytes([at + 1]) * 4, names=(name,), worker=number))

    def _kept(self) -> bytes:
        self._last = self.mine.engine.collect_kept()
        return self._last

    async def work(self, shares: int = 12) -> None:
        """Of each machine, in one commit."""
        for _ in range(shares):
            self._nonce += 1
            for miner, name in zip(self.miners, ("acme.c01.u1", "borealis.c09.u7"), strict=True):
                miner.submit(nonce=self._nonce, ntime=f"{NOW_S:08x}", worker=name)
        self.mine.judge()
        await self.journal.commit(self.mine.engine.collect_tallies())
        kept: list[Any] = np.frombuffer(self._last, dtype=KEPT).tolist()
        self.hashes |= {sha256d(it[0]) for it in kept}

    def booked(self) -> list[bytes]:
        with self.store.read() as connection:
            rows = connection.execute(select(share_parts.c.packed))
            return [it.hash for row in rows for it in unpacked(row.packed)]


@pytest.fixture
def served(store: Store, monkeypatch: pytest.MonkeyPatch) -> Served:
    monkeypatch.setattr(folding, "STEP_PAUSE_S", 0.0)
    return Served(store)


@pytest.mark.parametrize("rows_max", [1_000, 2])
async def test_a_kill_before_any_step_of_taking_books_each_kept_share_once(
    served: Served, monkeypatch: pytest.MonkeyPatch, rows_max: int
) -> None:
    monkeypatch.setattr(taker, "ROWS_MAX", rows_max)
    for step in range(0, 36, 5):
        await served.work()
        await served.work(3)
        with suppress(Crash), crash_before(step):
            await served.folding.fold()
        served.restart()
        assert sorted(served.booked()) == sorted(served.hashes)
    assert len(served.hashes) > 30
    with served.store.read() as connection:
        assert verify(connection, data_dir=served.home.path).wrong is None


async def test_an_hour_of_two_tenants_is_proven_to_each_of_them(served: Served, tmp_path: Path) -> None:
    """From the lines of machines to a file that their owner's program believes."""
    bind(served.store, "main")
    await served.work(40)
    await served.folding.fold()
    served.clock.now_s += 3700
    await served.folding.fold()
    now_s = int(served.clock.now_s)
    with served.store.write() as connection:
        assert _settle_and_date(connection, now_s, 0)
    with served.store.read() as connection:
        found = due(connection)
        assert found is not None
        made = closed(connection, KEY, *found, KEEP_LOG2)
    with served.store.write() as connection:
        assert note(connection, made)
    total = 0
    for tenant, machine in (("acme", "acme.c01.u1"), ("borealis", "borealis.c09.u7")):
        with served.store.read() as connection:
            hour = shares_of_hour(connection, tenant, NOW_S // 3600)
            assert verify(connection).wrong is None
        data = as_written(msgspec.to_builtins(hour))
        assert Auditor(tmp_path).found(data) == (0, [])
        (of,) = json.loads(data)["settlements"]
        assert of["settlement"]["shares"] == {"-32": 40}
        assert {it["worker"] for it in of["shares"]} == {machine}
        total += len(of["shares"])
    assert total == len(served.hashes) > 8


async def test_a_share_that_is_not_the_work_that_it_says_is_in_no_root(served: Served) -> None:
    """A journal of an edge that somebody took over, who has headers by the million, and mined none."""
    await served.work()
    served.journal._kept = lambda: made_up(served), KEEP_LOG2
    await served.work()
    await served.folding.fold()
    assert sorted(served.booked()) == sorted(served.hashes)
    assert all(reaches(it, KEEP_LOG2) for it in served.booked())


def made_up(served: Served) -> bytes:
    """What the engine has kept is lost to him."""
    served._kept()
    served._last = b""
    number = served.worker("acme.c01.u1")
    records = [(bytes([at]) * 80, number, served.epoch, 16, bytes(3)) for at in range(100)]
    return np.array(records, dtype=KEPT).tobytes()


def test_a_share_costs_as_many_bytes_as_the_documents_say() -> None:
    """docs/proof.md: 92 in the journal; in the books, where headers of one block are alike, some fifty."""
    chance, previous = random.Random(1), bytes(range(32))
    shares = [
        Share(
            (0x20000000 + (chance.getrandbits(16) << 13)).to_bytes(4, "little")
            + previous
            + chance.randbytes(32)
            + (NOW_S + chance.randrange(3600)).to_bytes(4, "little")
            + bytes.fromhex("421a0217")
            + chance.randbytes(4),
            chance.randrange(5_600),
            NOW_S // 60 + chance.randrange(60),
            16,
        )
        for _ in range(4_000)
    ]
    in_books = len(packed_shares(shares)) / len(shares)
    plain, kept = Batch(moment_s=NOW_S, accepted=1), bytes(92 * 100)
    in_journal = len(packed(msgspec.structs.replace(plain, kept=kept, kept_log2=24))) - len(packed(plain))
    assert (KEPT.itemsize, in_journal // 100) == (92, 92)
    assert 45 < in_books < 56
