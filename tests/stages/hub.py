"""Books that take the journals of edges at other sites, and a line to them that a test cuts."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from payouts.rates import Scheme
from pool.books.changes.changes import note_change
from pool.books.edges.brought import Brought
from pool.books.edges.leases import Asked, Granted
from pool.books.edges.remote import RemoteEdges
from pool.books.edges.remote_edge import RemoteEdge
from pool.books.edges.rows import EdgePlace, EdgeRecord, add_edge, find_edge, kept_of, load_edges
from pool.books.journal.credit_rows import CreditRows
from pool.books.journal.folding import Folding
from pool.books.journal.rate_epochs import WorkPrice
from pool.books.store import Store
from pool.chain.price_history import PriceHistory
from pool.fleet.registry import Registry
from pool.fleet.rows import TenantTerms, add_tenant, load
from pool.journal.beginning import Forgotten
from pool.journal.frames import Place
from pool.journal.inbox import Received, Want
from tests.stages.books_by_name import shares_by_name
from tests.stages.journal import NOW_S, PRICE, Clock, DiskInMemory
from tests.stages.prices import open_epoch
from tests.stages.site_journal import SiteJournal, journal_of_books, new_nkey

GIVEN: dict[str, Any] = {"by": "ann", "source": "test", "command": "edge.set"}


class LineToNobody:
    """It remembers what was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, Place | Want]] = []
        self.forgotten_by: dict[str, Forgotten] = {}  # what an edge answers
        self.asked: list[tuple[bytes, ...]] = []  # of which blocks an edge was asked whether it has left them

    async def taken(self, edge: str, epoch: int, booked: Place) -> None:
        self.told.append((edge, epoch, booked))

    async def send_again(self, edge: str, epoch: int, want: Want) -> None:
        self.told.append((edge, epoch, want))

    async def forgotten(self, edge: str, epoch: int, prevhashes: Sequence[bytes]) -> Forgotten:
        self.asked.append(tuple(prevhashes))
        return self.forgotten_by.get(edge, Forgotten())


class Hub:
    """Tenants acme and borealis, and edges that may count for acme: production, but for clock and disk."""

    def __init__(
        self,
        store: Store,
        home: Path,
        *edges: str,
        ths: int | None = None,
        price: WorkPrice = PRICE,
        height: int = 840_000,
    ) -> None:
        self.store, self.home, self.clock, self.line = store, home, Clock(), LineToNobody()
        self.history: PriceHistory | None = None  # what prices are held against
        terms = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=0)
        with store.write() as connection:
            for tenant in ("acme", "borealis"):
                add_tenant(connection, tenant, terms, by="test", now_s=NOW_S)
            self.epoch = open_epoch(connection, price, height, NOW_S)
            for name in edges:
                places = [EdgePlace("acme")]
                edge = add_edge(connection, name, new_nkey(), places, ths=ths, by="ann", now_s=NOW_S)
                note_change(connection, **GIVEN, subject=name, was=None, became=kept_of(edge), now_s=NOW_S)

    async def start(self) -> None:
        """A process, after whatever became of the one before it."""
        with self.store.read() as connection:
            self.registry, credits = Registry(load(connection), renumbers=True), CreditRows(connection)
        self.folding = Folding(self.store, self.registry, credits, wall_clock=self.clock)
        self.edges = RemoteEdges(
            self.store,
            self.folding,
            self.home,
            self.line,
            disk=DiskInMemory(),
            free_bytes_min=0,
            history=self.history,
            wall_clock=self.clock,
            on_opened=self._opened,
        )
        await self.edges.start()

    def _opened(self, remote: RemoteEdge) -> None:
        """As pool.sites.sites has it, but for its thread."""
        brought = Brought(remote.edge.name, self.registry)
        remote.taker.limits.on_machines = brought.check
        remote.taker.number_by(lambda machines: [brought.renumbered(it) for it in machines])

    def site(self, name: str) -> SiteJournal:
        """A journal of that edge, as its process has it that is let begin."""
        with self.store.read() as connection:
            return journal_of_books(connection, self.epoch, part=find_edge(connection, name).part)

    async def begin(self, name: str, site: SiteJournal, host: str = "host-1") -> Granted:
        asked = Asked(edge=name, host=host, process="process 1", writer=site.writer, last=site.log.at)
        return await self.edges.begin(asked)

    async def send(self, name: str, granted: Granted, site: SiteJournal) -> Received:
        """All that is behind what the hub has."""
        want = granted.want
        return await self.edges.receive(
            name, granted.epoch, b"".join(site.frames(want.behind, whole_file=want.whole_file))
        )

    async def change(self, work: Callable[[Connection], Any]) -> None:
        """As a command does it."""
        with self.store.write() as connection:
            before = {it.name: kept_of(it) for it in load_edges(connection)}
            work(connection)
            for it in load_edges(connection):
                was, became = before[it.name], kept_of(it)
                if was != became:
                    note_change(connection, **GIVEN, subject=it.name, was=was, became=became, now_s=NOW_S)
        await self.edges.changed()

    def edge(self, name: str) -> EdgeRecord:
        with self.store.read() as connection:
            return find_edge(connection, name)

    def shares(self) -> dict[str, int]:
        """Accepted shares in the books by the machine's name."""
        with self.store.read() as connection:
            return shares_by_name(connection)
