"""A journal as it grows, for eyes: whoever writes it may be captured, and costs nobody anything."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from pool.books.journal import tail
from pool.books.journal.tail import Tail
from pool.journal.frames import Place
from pool.journal.log import JournalLog
from pool.journal.records import Batch, Machine, Opening, packed
from stratum.tallies import RECORD, Verdict
from tests.stages.journal import NOW_S, DiskInMemory, tally
from tests.stages.waiting import until

WRITER = "ab" * 16
MOST = (1 << 32) - 1


def machine(number: int, unit: str) -> Machine:
    return Machine(
        number=number, tenant_id=1, tenant="acme", container_id=1, container="c01", unit=unit, agent=None
    )


@pytest.fixture
def journal(tmp_path: Path) -> JournalLog:
    (tmp_path / WRITER).mkdir()
    made = JournalLog(tmp_path / WRITER, "book", disk=DiskInMemory())
    made.begin(Place(), NOW_S, 0)
    return made


class Eyes:
    """Who looks at a journal, and knows these numbers."""

    def __init__(self, journal: JournalLog, numbers: dict[str, int], **how: Any) -> None:
        self.found: list[tuple[int, int]] = []  # numbers and shares
        self.ages_s: list[float] = []
        self.tail = Tail(
            lambda: (journal.walk(Place()), Place()), lambda it: numbers.get(it.unit), self._look, **how
        )

    def _look(self, tallies: bytes, age_s: float) -> None:
        self.ages_s.append(age_s)
        records = np.frombuffer(tallies, dtype=RECORD)
        self.found.extend(zip(records["worker"].tolist(), records["count"].tolist(), strict=True))

    async def seen(self) -> list[tuple[int, int]]:
        """The first that is told."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.tail.run)
            await until(lambda: bool(self.found))
            nursery.cancel_scope.cancel()
        return self.found


async def test_machines_have_the_numbers_of_here_and_who_is_not_counted_here_is_left_out(
    journal: JournalLog,
) -> None:
    both = machine(7, "a"), machine(9, "b")
    tallies = tally(7, 1, 16, Verdict.ACCEPTED, 5) + tally(9, 1, 16, Verdict.ACCEPTED, 6)
    journal.append(
        packed(Batch(moment_s=NOW_S, accepted=11, tallies=tallies, machines=both)),
        NOW_S,
        11,
    )
    assert await Eyes(journal, {"a": 70}).seen() == [(70, 5)]


async def test_the_largest_number_there_is_and_one_that_is_not_named_cost_nothing(
    journal: JournalLog,
) -> None:
    tallies = tally(MOST, 1, 16, Verdict.ACCEPTED, 5) + tally(MOST - 1, 1, 16, Verdict.ACCEPTED, 6)
    journal.append(
        packed(Batch(moment_s=NOW_S, accepted=11, tallies=tallies, machines=(machine(MOST, "a"),))), NOW_S, 11
    )
    assert await Eyes(journal, {"a": 1}).seen() == [(1, 5)]


async def test_a_verdict_that_there_is_none_of_is_left_out(journal: JournalLog) -> None:
    """Whoever counts shares by their verdicts has as many columns as there are."""
    tallies = tally(7, 1)[:9] + b"\xee" + tally(0, 0)[10:] + tally(7, 1, 16, Verdict.ACCEPTED, 5)
    batch = Batch(moment_s=NOW_S, accepted=5, tallies=tallies, machines=(machine(7, "a"),))
    journal.append(packed(batch), NOW_S, 5)
    assert await Eyes(journal, {"a": 70}).seen() == [(70, 5)]


async def test_work_of_before_is_no_work_of_now(journal: JournalLog) -> None:
    """An hour of it comes at once when a line is up again, as a hashrate of many times what there is."""
    for number, moment_s in enumerate((NOW_S, NOW_S + 3_300, NOW_S + 3_600)):
        named = (machine(7, "a"),) if number == 0 else ()
        tallies = tally(7, 1, 16, Verdict.ACCEPTED, number + 1)
        batch = Batch(moment_s=moment_s, accepted=10, tallies=tallies, machines=named)
        journal.append(packed(batch), moment_s, 10)
    eyes = Eyes(journal, {"a": 70}, age_s=lambda moment_s: NOW_S + 3_600.0 - moment_s)
    assert await eyes.seen() == [(70, 2), (70, 3)]
    assert eyes.ages_s == [300.0, 0.0]  # and what came late is told as old as it is


async def test_tallies_that_are_none_end_the_look_and_nothing_else(journal: JournalLog) -> None:
    journal.append(packed(Batch(moment_s=NOW_S, accepted=0, tallies=b"x")), NOW_S, 0)
    eyes = Eyes(journal, {})
    await eyes.tail.run()
    assert eyes.found == []


async def test_a_record_of_nothing_but_names_lets_others_have_their_turn(journal: JournalLog) -> None:
    """64 MiB of them, which whoever has taken over an edge may send: a hub stood for tens of seconds."""
    names = tuple(machine(number, f"u{number}") for number in range(1, 2_001))
    tallies = b"".join(tally(number, 1) for number in range(1, 2_001)) * 10
    journal.append(packed(Batch(moment_s=NOW_S, accepted=20_000, tallies=tallies, machines=names)), NOW_S, 0)
    since_turn = named = most = 0

    def number(it: Machine) -> int:
        nonlocal since_turn, named
        since_turn, named = since_turn + 1, named + 1
        return it.number

    def look(tallies: bytes, age_s: float) -> None:
        nonlocal since_turn
        since_turn += len(tallies) // RECORD.itemsize // 32

    async def others() -> None:
        nonlocal since_turn, most
        while True:
            most, since_turn = max(most, since_turn), 0
            await trio.lowlevel.checkpoint()

    it = tail.Tail(lambda: (journal.walk(Place()), Place()), number, look)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        for said, new in it._read():
            await it._look(said, new)
        nursery.cancel_scope.cancel()
    assert named == 2_000
    assert 0 < most <= 2 * tail.NAMES_AT_ONCE, "between two turns of others"


async def test_more_names_than_there_are_machines_are_not_kept(
    journal: JournalLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "NAMES_MAX", 2)
    names = machine(7, "a"), machine(8, "b"), machine(9, "c"), machine(7, "d")
    tallies = tally(7, 1) + tally(9, 1)
    journal.append(packed(Batch(moment_s=NOW_S, accepted=2, tallies=tallies, machines=names)), NOW_S, 2)
    assert await Eyes(journal, {"a": 70, "b": 80, "c": 90, "d": 71}).seen() == [(71, 1)]


async def test_a_machine_is_counted_from_when_it_is_known_here(journal: JournalLog) -> None:
    """The books make it known, a minute after its first share; its name is in the file once."""
    numbers: dict[str, int] = {}
    eyes = Eyes(journal, numbers)
    journal.append(packed(Batch(moment_s=NOW_S, accepted=0, machines=(machine(7, "a"),))), NOW_S, 0)
    journal.append(packed(Batch(moment_s=NOW_S, accepted=1, tallies=tally(7, 1))), NOW_S, 1)
    for said in eyes.tail._read():
        await eyes.tail._look(*said)
    assert eyes.found == []
    numbers["a"] = 70
    journal.append(packed(Batch(moment_s=NOW_S, accepted=3, tallies=tally(7, 1, count=2))), NOW_S, 3)
    assert await eyes.seen() == [(70, 2)]


async def test_a_file_that_cannot_be_read_is_read_again_and_ends_nobody(
    journal: JournalLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "AGAIN_S", 0.0)
    eyes = Eyes(journal, {"a": 70})
    said = packed(Batch(moment_s=NOW_S, accepted=1, machines=(machine(7, "a"),), tallies=tally(7, 1)))
    journal.append(said, NOW_S, 1)
    read, fails = eyes.tail._read, iter((FileNotFoundError(2, "gone"), OSError(5, "Input/output error")))

    def broken() -> list[tuple[Batch | Opening, bool]]:
        if (error := next(fails, None)) is not None:
            raise error
        return read()

    monkeypatch.setattr(eyes.tail, "_read", broken)
    assert await eyes.seen() == [(70, 1)]
