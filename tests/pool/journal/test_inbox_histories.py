"""In whatever order frames come, disks fail, copies are lost and books go on: what is said to be had can be
read behind the books, record for record as its writer wrote it; what is missing comes when asked for."""

import random
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from pool.journal.frames import Place
from pool.journal.inbox import Inbox, InboxUnusable, Want
from pool.journal.log import JournalLog
from pool.journal.segments import Walk
from tests.fakes.disks import DiskThatLoses, broken, disk_full
from tests.stages.journal import NOW_S, DiskInMemory
from tests.stages.site_journal import SEGMENT_BYTES, SiteJournal

KEPT_BYTES = 3 * SEGMENT_BYTES  # that the books have: some files go, at both ends


class Histories(RuleBasedStateMachine):
    """`way` is what was sent and may still come; `booked` is where the books are."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="angara-inbox-"))
        self.site = SiteJournal()
        self.site.log._taken_bytes_max = KEPT_BYTES
        self.disk = DiskThatLoses()
        self.booked = Place()
        self.way: list[bytes] = []
        self.places = {1: self.site.log.at}
        self.open()

    def open(self) -> None:
        """As often as it takes."""
        directory = self.home / "inbox" / "north" / self.site.writer
        while True:
            try:
                self.inbox = Inbox(
                    directory, self.booked, disk=self.disk, taken_bytes_max=KEPT_BYTES, free_bytes_min=0
                )
            except InboxUnusable:
                continue
            return

    def wrote(self, before: int) -> None:
        behind = self.site.log.walk(self.places.get(before, Place()))
        self.places |= {it.at.number: it.at for it in behind.frames()}
        self.way += self.site.frames(before)

    # The writer

    @rule(records=st.integers(1, 4))
    def share(self, records: int) -> None:
        before = self.site.log.at.number
        for _ in range(records):
            self.site.share()
        self.wrote(before)

    @rule()
    def the_writer_starts_again(self) -> None:
        before = self.site.log.at
        self.site.log.close()
        log = JournalLog(
            self.site.directory,
            self.site.book,
            disk=DiskInMemory(),
            segment_bytes=SEGMENT_BYTES,
            taken_bytes_max=KEPT_BYTES,
        )
        log.begin(before, NOW_S, self.site.accepted, taken=self.booked)
        self.site.log = log
        self.wrote(before.number)

    # What comes

    @rule(seed=st.integers(0, 1 << 16), most=st.integers(1, 12), lost=st.booleans())
    def frames_come(self, seed: int, most: int, lost: bool) -> None:
        """Some of them, together, in any order; they may come again."""
        chance = random.Random(seed)
        some = self.way[: chance.randint(1, 30)] if chance.random() < 0.5 else self.way
        came = chance.sample(some, min(most, len(some)))
        if chance.random() < 0.6:
            came = [it for it in some if it in came]
        self.receive(b"".join(came))
        if lost:
            self.way = [it for it in self.way if it not in came]

    def receive(self, data: bytes) -> Want | None:
        try:
            return self.inbox.receive(data).want
        except InboxUnusable:
            return self.inbox.want

    @rule()
    def what_is_missing_is_asked_for(self) -> None:
        want = self.inbox.want
        self.way = self.site.frames(want.behind, whole_file=want.whole_file)

    # The books

    @rule(share=st.integers(0, 4))
    def the_books_take(self, share: int) -> None:
        more = self.inbox.have.number - self.booked.number
        self.be_booked(self.booked.number + more * share // 4)
        self.inbox.taken(self.booked)

    @rule(share=st.integers(0, 4))
    def the_books_take_from_another_copy(self, share: int) -> None:
        """Another hub is in office for a while."""
        more = self.site.log.at.number - self.booked.number
        self.inbox.close()
        self.be_booked(self.booked.number + more * share // 4)
        self.open()

    def be_booked(self, number: int) -> None:
        if number:
            self.booked = self.places[number]

    @rule()
    def the_writer_hears_of_it(self) -> None:
        self.site.log.trim(self.booked)

    # The copy

    @rule()
    def the_process_starts_again(self) -> None:
        self.inbox.close()
        self.open()

    @rule(seed=st.integers(0, 1 << 16))
    def the_power_goes(self, seed: int) -> None:
        had = self.inbox.have
        self.inbox.close()
        self.disk.writes, self.disk.syncs = [], []
        self.disk.power_cut(random.Random(seed))
        self.open()
        assert self.inbox.have.number >= had.number, "it was said to be had"

    @rule()
    def the_copy_is_lost(self) -> None:
        self.inbox.close()
        shutil.rmtree(self.inbox.directory)
        self.open()

    @rule(taken=st.integers(0, 200), at_sync=st.booleans())
    def the_disk_fails(self, taken: int, at_sync: bool) -> None:
        if at_sync:
            self.disk.syncs = [None] * (taken % 3) + [broken()]
        else:
            self.disk.writes = [taken + 1, disk_full()]

    @rule()
    def the_disk_is_well(self) -> None:
        self.disk.writes, self.disk.syncs = [], []

    # What must be

    @invariant()
    def nothing_is_held(self) -> None:
        assert self.inbox.held is None

    @invariant()
    def what_is_had_can_be_read_behind_the_books(self) -> None:
        have = self.inbox.have.number
        read = Walk(self.inbox.directory, self.site.writer, self.booked).frames(have)
        behind = [it.at for it in read if it.at.number > self.booked.number]
        assert behind == [self.places[number] for number in range(self.booked.number + 1, have + 1)]

    def teardown(self) -> None:
        self.the_disk_is_well()
        for _ in range(3):
            self.what_is_missing_is_asked_for()
            self.receive(b"".join(self.way))
        assert self.inbox.have == self.site.log.at
        self.what_is_had_can_be_read_behind_the_books()
        self.inbox.close()
        self.site.log.close()
        shutil.rmtree(self.home)


def test_what_is_had_is_what_was_written() -> None:
    run_state_machine_as_test(
        Histories,
        settings=settings(max_examples=60, stateful_step_count=30, deadline=None, derandomize=True),
    )
