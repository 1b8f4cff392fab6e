"""A world of sites: edges with journals of their own, two hubs on the same books, and NATS that forgets.

Machines know two edges and go from one to the other. `play_sites` lives it until everything that may be
booked is, and asks the auditor.
"""

from collections.abc import Container
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from pool.books.audit.journal_files import read_journal
from pool.books.changes.changes import note_change
from pool.books.edges.rows import EdgePlace, add_edge, kept_of
from pool.chain.nodes import NodeConfig
from pool.journal.log import writers
from tests.fixtures.databases import store_in
from tests.simulation.auditor import Audit, Found
from tests.simulation.bitcoinds import Bitcoind
from tests.simulation.course import NOON_S, Clock, Threads
from tests.simulation.dice import dice
from tests.simulation.disk import BooksHealth
from tests.simulation.faults import Kinds
from tests.simulation.ground import (
    ELSEWHERE,
    ELSEWHERE_TOO,
    FEES_BPS,
    Ground,
    Outcome,
    Size,
    habits,
    play_on,
)
from tests.simulation.kept_auditor import kept
from tests.simulation.miners import Job, Miner
from tests.simulation.nats import NatsThatForgets
from tests.simulation.network import Connection
from tests.simulation.pool_node import make_books
from tests.simulation.process import Process
from tests.simulation.site_faults import SITE_KINDS, SiteFaults
from tests.simulation.sites import EdgeHost, HubHost, booked_up_to, hosted, in_books
from tests.simulation.sites_auditor import Parts, Trims, asked_for, edges_of, reconciled
from tests.stages.site_journal import new_nkey

EDGES: Final = ("taiga", "steppe", "delta")
TWO_DISKS: Final = 0.4  # of edges have a second copy of their journals
THREE_EDGES: Final = 0.3  # of worlds
REPLAYS: Final = 0.5  # chance that a machine that has moved sends what it had sent before
GOES_ELSEWHERE: Final = 0.3  # chance that a machine is at its second edge
SITES: Final = Size(machines=(3, 6), seconds=(20.0, 40.0))
APART_S: Final = 1.1  # edges begin: names of jobs begin with the second
REST_S: Final = 20.0  # until what is booked is settled, and all blocks are where they belong
QUIET_S: Final = 4.0  # for what is under way at the end to be answered
PATIENCE_S: Final = 400.0  # for everybody to serve again, and all to be booked, when all is well
WRONG_PATIENCE_S: Final = 20.0  # where something is wrong already: the books may never have all of it


class Lost(msgspec.Struct, frozen=True):
    """What an edge acknowledged in these sessions, later than that, may be gone with its disk."""

    edge: str
    first_session: int
    last_session: int
    since_s: float


class SitesWorld(Ground):
    """`fees` are those that each tenant had at some time."""

    def __init__(
        self, seed: int, size: Size, kinds: Kinds, directory: Path, clock: Clock, threads: Threads
    ) -> None:
        self.nodes_of_hub = ("first", "second")
        super().__init__(seed, size, directory, clock, threads, (*self.nodes_of_hub, *EDGES))
        self.health = BooksHealth()
        self.fees = {tenant: {fee} for tenant, fee in FEES_BPS.items()}
        self.parts, self.trims = Parts(), Trims(lambda writer: booked_up_to(self.database, writer))
        self.nats = NatsThatForgets(self.network, dice(seed, "nats"))
        chance = self.chance
        names = EDGES if chance.random() < THREE_EDGES else EDGES[:2]
        self._books_dir = directory / "books"
        self.database = self._books_dir / "angara.db"
        self._make_books(names)
        self.hubs = [HubHost(self, name, self._books_dir, self.health) for name in ("hub1", "hub2")]
        self.edges = [EdgeHost(self, name, two_disks=chance.random() < TWO_DISKS) for name in names]
        self.tenants = [it for it in FEES_BPS if it != ELSEWHERE or chance.random() < ELSEWHERE_TOO]
        self.known: dict[int, list[EdgeHost]] = {}  # the edges of a machine, the first one first
        self.miners = [self._miner(number) for number in range(chance.randint(*size.machines))]
        self.faults = SiteFaults(self, kinds)
        self._losses: list[Lost] = []
        self._at: dict[int, str] = {}  # sessions' edges
        self._jobs: dict[str, set[str]] = {}  # names of jobs that each edge has told anybody
        self._numbers = 0

    def _make_books(self, names: tuple[str, ...]) -> None:
        make_books(self._books_dir, FEES_BPS)
        store = store_in(self._books_dir)
        with store.write() as connection:
            for name in names:
                places = [EdgePlace(it) for it in FEES_BPS]
                edge = add_edge(connection, name, new_nkey(), places, ths=None, by="world", now_s=NOON_S)
                given = {"by": "world", "source": "simulation", "command": "edge.add", "subject": name}
                note_change(connection, **given, was=None, became=kept_of(edge), now_s=NOON_S)
        store.close()

    def _miner(self, number: int) -> Miner:
        chance, links = dice(self.seed, "miner", number), dice(self.seed, "links", number)
        its = habits(chance, replays=REPLAYS)
        tenant = chance.choice(self.tenants)
        self.known[number] = chance.sample(self.edges, 2)
        return Miner(
            f"{tenant}.c{number % 3:02}.u{number}",
            msgspec.structs.replace(its, names_each_share=its.names_each_share and number == 0),
            self,
            chance,
            connect=lambda miner: self._connect(miner, number, links, chance),
            after=self.network.after,
            session_number=lambda: self._session_of(number),
        )

    def _connect(self, miner: Miner, number: int, links: Any, chance: Any) -> Connection | None:
        first, second = self.known[number]
        edge = second if chance.random() < GOES_ELSEWHERE else first
        miner.at = edge.name
        return edge.connect(miner, f"10.0.{number % 7}.{number}", links)

    def _session_of(self, number: int) -> int:
        session = self.next_session()
        self._at[session] = self.miners[number].at
        return session

    def told(self, session: int, job: Job, *, resumed: bool) -> Container[str]:
        super().told(session, job, resumed=resumed)
        self.parts.told(self._at[session], job)
        names = self._jobs.setdefault(self._at[session], set())
        names.add(job.job_id)
        return names

    # What its hosts ask

    def transport(self, config: NodeConfig) -> Bitcoind:
        return next(it for it in self.bitcoinds.nodes if it.name == config.name)

    @property
    def hub(self) -> HubHost | None:
        """Who keeps the books."""
        return next((it for it in self.hubs if it.serves), None)

    @property
    def sessions(self) -> int:
        return self._sessions

    def next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def edge(self, name: str) -> EdgeHost:
        return next(it for it in self.edges if it.name == name)

    def have(self, edge: str) -> int:
        """What is at the hub of an edge's journal."""
        writer = self.edge(edge).writer
        found = None if self.hub is None else self.hub.have(edge)
        return self.booked(edge) if found is None or found[0] != writer else found[1]

    def booked(self, edge: str) -> int:
        return booked_up_to(self.database, self.edge(edge).writer)

    def journal_of(self, edge: str) -> str | None:
        """As the books know it, whatever is left at the edge; None: it is to begin one."""
        (writer,) = in_books(self.database, "SELECT writer FROM edges WHERE name = ?", edge)
        return None if writer is None else str(writer)

    def shown(self, edge: str) -> tuple[int, int]:
        """What is here and booked of that, as `angara edge show` has it."""
        writer = self.journal_of(edge)
        booked = booked_up_to(self.database, writer)
        found = None if self.hub is None else self.hub.have(edge)
        return booked if found is None or found[0] != writer else found[1], booked

    def lost(self, edge: str, first: int, last: int, since_s: float) -> None:
        """In these sessions, since then, with a disk."""
        self.note("lost", edge, first, last, round(since_s, 3))
        self._losses.append(Lost(edge, first, last, since_s))

    async def command(self, name: str, /, **params: Any) -> bool:
        """As an operator gives it, where a hub serves; whether it is done."""
        done = self.hub is not None and await self.hub.command(name, **params)
        self.note("command", name, params, done)
        return done

    def let_take_over(self, edge: str) -> None:
        """Who may have more of its journal than the hub that keeps the books, and waits, keeps them now."""
        query = "SELECT hub FROM edge_copies JOIN edges USING (writer) WHERE name = ?"
        names, keeper = in_books(self.database, query, edge), self.hub
        if keeper is not None and any(it.stands_by and it.copies in names for it in self.hubs):
            self.note("asked to end", keeper.name)
            keeper.restart()

    # Its life

    async def live(self) -> None:
        with hosted(self):
            async with trio.open_nursery() as nursery:
                for run in (self.network.run, self.upstream.run, *(it.run for it in self.hubs)):
                    nursery.start_soon(run)
                await self._within(self._hub_serves, "no hub ever served")
                for edge in self.edges:
                    nursery.start_soon(edge.run)
                    await trio.sleep(APART_S)
                await self._within(self.all_serve, "an edge never served")
                chance = dice(self.seed, "power")
                for miner in self.miners:
                    self.network.after(chance.uniform(0.0, 3.0), miner.start)
                self.faults.plan(nursery)
                await trio.sleep(self.seconds)
                self.faults.over()
                await self._within(self.all_serve, "somebody never came back")
                await trio.sleep(QUIET_S)
                for miner in self.miners:
                    miner.stop()
                await self._within(self._all_is_at_rest, "not booked")
                self.found += asked_for(self.database, None if self.hub is None else self.hub.copies)
                for host in (*self.edges, *self.hubs):
                    await host.stop()
                nursery.cancel_scope.cancel()

    async def _within(self, what: Any, verdict: str) -> None:
        wrong = self.found or self.parts.twice or self.trims.too_early
        patience_s = WRONG_PATIENCE_S if wrong else PATIENCE_S
        with trio.move_on_after(patience_s) as patience:
            await what()
        if patience.cancelled_caught:
            how = ", ".join(
                f"{it.name} {'serves' if it.serves else 'does not serve'} to {it.end},"
                f" {self.have(it.name)} here, {self.booked(it.name)} booked"
                for it in self.edges
            )
            self.found.append(
                Found(verdict, f"in {patience_s:.0f} s: {how}; hub {self.hub and self.hub.name}")
            )

    async def _hub_serves(self) -> None:
        while self.hub is None:  # noqa: ASYNC110 - either of two
            await trio.sleep(0.5)

    async def all_serve(self) -> None:
        await self._hub_serves()
        for edge in self.edges:
            await edge.served()

    async def _all_is_at_rest(self) -> None:
        """Who was killed as the last thing that happened begins again: an edge writes down what it mines for,
        a hub settles what was left."""
        ends, hub = list[int](), None
        while hub is None or self._keeps_the_books is not hub or ends != [it.end for it in self.edges]:
            await self.all_serve()
            await self._all_is_booked()
            ends, hub = [it.end for it in self.edges], self._keeps_the_books
            await trio.sleep(REST_S)

    @property
    def _keeps_the_books(self) -> Process | None:
        return None if self.hub is None else self.hub.serving

    async def _all_is_booked(self) -> None:
        while self.hub is None or any(it.end != self.booked(it.name) for it in self.edges):  # noqa: ASYNC110
            await trio.sleep(1.0)

    def outcome(self) -> Outcome:
        for share in self.shares:
            share.may_be_lost = any(self._is_lost(share, it) for it in self._losses)
        nodes, counted = self.bitcoinds.nodes, len(self.upstream.counted)
        audit = Audit(self.database, self.shares, self.works, nodes, self.fees, counted)
        store = store_in(self._books_dir)
        found = (
            *self.found,
            *self.trims.too_early,
            *self.parts.twice,
            *edges_of(self.database, {}),
            *audit.findings(),
            *kept(self.database, self.shares),
            *reconciled(store, self._last_hub.data_dir, [read_journal(it) for it in self._journals()]),
        )
        store.close()
        return self.ended(found, sum(it.lives for it in (*self.edges, *self.hubs)))

    def _journals(self) -> list[Path]:
        return [path for it in self.edges for path in writers(it.data_dir)]

    @property
    def _last_hub(self) -> HubHost:
        return max(self.hubs, key=lambda it: it.began_s)

    @staticmethod
    def _is_lost(share: Any, lost: Lost) -> bool:
        here = share.at == lost.edge and lost.first_session <= share.session <= lost.last_session
        return here and share.answered_s is not None and share.answered_s >= lost.since_s


def play_sites(seed: int, size: Size = SITES, kinds: Kinds = SITE_KINDS) -> Outcome:
    """Live the world of a seed, in which faults of these kinds happen."""
    return play_on(seed, partial(SitesWorld, seed, size, kinds))
