"""Edges whose machines have worked some hours, a hub that has booked them, and who looks at both or changes
one of them."""

from pathlib import Path
from typing import Final

from sqlalchemy import text

from pool.books.audit.compared_hours import Side
from pool.books.audit.hours_of_money import HoursOfMoney, hours_of_money
from pool.books.audit.journal_files import JournalHere
from pool.books.audit.reconcile import Compared, State, reconcile
from pool.books.edges.leases import Granted
from pool.books.store import Store
from stratum.tallies import Verdict
from tests.fixtures.databases import disarm
from tests.stages.hub import Hub
from tests.stages.journal import NOW_S
from tests.stages.site_journal import SiteJournal

FIRST_HOUR: Final = NOW_S // 3600
NORTH, SOUTH = "north", "south"


class WorkedEdge:
    """In each hour 3 accepted shares of two machines, and 4 late ones."""

    def __init__(self, hub: Hub, name: str, journal: SiteJournal, granted: Granted) -> None:
        self.hub, self.name, self.journal, self.granted = hub, name, journal, granted

    @property
    def inbox(self) -> Path:
        return self.hub.home / "inbox" / self.name / self.journal.writer

    def work(self, hour: int) -> None:
        self.journal.moment_s = NOW_S + 3600 * hour
        self.hub.clock.now_s = float(self.journal.moment_s)
        for unit in (1, 2, 1):  # files end within an hour
            self.journal.share(f"acme.{self.name}.u{unit}")
        self.journal.share(f"acme.{self.name}.u1", 4, verdict=Verdict.STALE)

    async def send(self) -> None:
        """All of it, again."""
        await self.hub.edges.receive(self.name, self.granted.epoch, b"".join(self.journal.frames()))


async def worked(store: Store, home: Path, *names: str) -> list[WorkedEdge]:
    """Edges that have worked three hours, all of which is booked."""
    hub = Hub(store, home, *names)
    await hub.start()
    edges = []
    for name in names:
        journal = hub.site(name)
        edges.append(WorkedEdge(hub, name, journal, await hub.begin(name, journal)))
    for hour in range(3):
        for edge in edges:
            edge.work(hour)
    for edge in edges:
        await edge.send()
    await hub.folding.fold()
    return edges


def compared(hub: Hub, said: list[JournalHere] | None = None) -> dict[tuple[str | None, Side], Compared]:
    """By edge and side."""
    return {(it.edge, it.side): it for it in reconcile(hub.store, hub.home, said or [])}


def of_north(hub: Hub, side: Side = Side.INBOX, said: list[JournalHere] | None = None) -> Compared:
    return compared(hub, said)[NORTH, side]


def money(store: Store) -> HoursOfMoney:
    with store.read() as connection:
        return hours_of_money(connection)


def forge(store: Store, *statements: str, **values: object) -> None:
    """As somebody does it who has all rights."""
    with store.write() as connection:
        disarm(connection)
        for it in statements:
            connection.execute(text(it), values)


def is_different(it: Compared, *words: str) -> None:
    """And says so in these words."""
    assert it.state is State.DIFFERENT
    assert it.difference is not None
    for said in words:
        assert said in it.difference.words
