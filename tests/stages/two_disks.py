"""A journal on two disks, in files of three records, and the books that take it."""

from pathlib import Path

from pool.journal.alike import make_alike
from pool.journal.disk import Disk
from pool.journal.frames import Place
from pool.journal.log import JournalLog, writer_directories
from pool.journal.records import Batch, packed, unpacked
from pool.journal.second_copy import TwoDisks
from pool.journal.segments import segments

NOW_S = 1_700_000_000


class TwoDiskSite:
    """As an edge has it: it goes on behind the end of its own files, whatever the books have by then."""

    def __init__(self, home: Path) -> None:
        self.data, self.second = home / "data", home / "second"
        self.data.mkdir(exist_ok=True)
        self.books = Place()
        self.acknowledged: list[int] = []
        self.booked: list[int] = []

    def start(self, disk: Disk | None = None) -> JournalLog:
        make_alike(self.data, self.second, Disk() if disk is None else disk)
        self.disk = TwoDisks(self.data, self.second)
        (self.directory,) = writer_directories(self.data, 1, self.disk)
        self.log = JournalLog(self.directory, "book", disk=self.disk, segment_bytes=300, taken_bytes_max=0)
        try:
            self.log.settle()
            at = self.books
            for frame in self.log.walk(self.books).frames():
                at = frame.at
            self.log.begin(at, NOW_S, 0, taken=self.books)
        except BaseException:
            self.log.close()
            raise
        return self.log

    def write(self, records: int = 5, said: bytes = b"x") -> Place:
        for _ in range(records):
            number = len(self.acknowledged) + 1
            self.log.append(packed(Batch(moment_s=NOW_S, accepted=number, tallies=said * 90)), NOW_S, 0)
            self.acknowledged.append(number)
        return self.log.at

    def book(self) -> None:
        """The books take what is there."""
        for frame in self.log.walk(self.books).frames():
            if frame.at.number > self.books.number:
                self.books = frame.at
                if isinstance(said := unpacked(frame.body), Batch):
                    self.booked.append(said.accepted)

    @property
    def homes(self) -> tuple[Path, Path]:
        """The journal's directory on both."""
        return self.data / "journal" / self.log.writer, self.second / "journal" / self.log.writer

    @property
    def copies(self) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """File name to content, on both."""
        first, second = ({path.name: path.read_bytes() for _, path in segments(it)} for it in self.homes)
        return first, second
