"""The hub as it answers one edge: pool.sites.questions.SiteHub.

An edge may be captured. So it is told of its own tenants and machines alone, and of what it says nothing is
believed that its own words could make worth something: a block pays what its bytes pay, if the chain has it;
who found something is one of its machines, or nobody, and what has another edge's extranonces is not its to
tell: it hears all blocks; what happened to an order is, where its machines supply that; what it may have
counted its journal's limits say (`pool.books.edges.limits`). How often it may ask, and have something
written, is bounded (`Allowance`).

Must not know: how values travel, miners.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import structlog
import trio
from bitcoin.core import CBlock, CheckTransaction
from bitcoin.core.script import CScriptInvalidError, CScriptOp
from sqlalchemy.exc import SQLAlchemyError

from payouts.rates import Scheme
from payouts.siblings import SiblingKey
from pool.books.database_waits import read_books
from pool.books.edges.block_terms import mined_by
from pool.books.edges.leases import Asked, Granted
from pool.books.edges.remote import RemoteEdges
from pool.books.edges.rows import EdgeRecord, edge_of_part
from pool.books.found_blocks import BlockNote, header_of, packed_note, unbooked
from pool.books.journal.credit_book import CreditsPage
from pool.books.store import Store, words_of
from pool.chain.block_files import blocks_directory, noted
from pool.chain.blocks import SubmitState
from pool.chain.templates import HEIGHT_MAX, sha256d
from pool.config import PoolConfig
from pool.fleet.registry import TenantRecord
from pool.hub import Begin, Hub, HubAway, Plan, RouteEvent
from pool.journal.beginning import Mark
from pool.journal.inbox import InboxUnusable, Received
from pool.journal.records import Machine
from pool.orders.rows import supplied_by
from pool.sites.allowance import Allowance
from pool.sites.known_at_site import begin_of
from pool.sites.questions import Everything, Heard
from pool.sites.routes_of_site import routes_of
from pool.sites.signet import OurSignet
from pool.whole_file import write_whole
from stratum.difficulty import BadTarget, target_from_nbits

log = structlog.get_logger()

HEADER_BYTES: Final = 80
BLOCK_BYTES_MAX: Final = 4_000_000  # of the largest weight
SIBLINGS_MAX: Final = 10_000  # pool.chain.block_queue counts so many between two reports
SIBLINGS_OF_ONE_MAX: Final = 1 << 40
HASHES_MAX: Final = 1_000
HASH_BYTES: Final = 32
# A part rests for a month: clocks, and a header that is an hour or two off, change nothing of whose it was.
PART_S: Final = 86_400
HAPPENS: Final = frozenset({"served", "lost", "fell_back", "returned"})  # to a channel; a person switches it
SESSIONS_MAX: Final = 1 << 20  # more than any site has machines
SEQ_MAX: Final = (1 << 63) - 1  # of a row


class ToldBlock(msgspec.Struct, frozen=True):
    """A block as its own bytes say. `part` is the first byte of its extranonces: whose numbers they are."""

    height: int
    hash_hex: str
    at_s: int
    part: int


class Answers:
    """To the edge of that name. `begin` says what is to be known of it, from the books; it blocks. `changes`
    is the number of the last change that it was told, `has_room` whether the edge may bring a machine, where
    it is new, `tenants` are all that there are, `easiest_target` is the easiest that a block can have now,
    None where nobody knows; `signet` says which one the books are of. Edges wait for each other where the
    books, or all machines, are looked at: `turns` are those of all."""

    def __init__(
        self,
        name: str,
        config: PoolConfig,
        store: Store,
        hub: Hub,
        remote: RemoteEdges,
        *,
        begin: Callable[[EdgeRecord], Begin],
        changes: Callable[[], int],
        has_room: Callable[[Machine], bool],
        tenants: Callable[[], Iterable[TenantRecord]],
        easiest_target: Callable[[], int | None],
        signet: OurSignet,
        turns: trio.CapacityLimiter,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._signet, self._wall_clock = signet, wall_clock
        self._turns = turns
        self._tenants, self._easiest_target = tenants, easiest_target
        self._has_room = has_room
        self._name, self._config, self._store = name, config, store
        self._hub, self._remote = hub, remote
        self._begin, self._changes = begin, changes
        # A site finds a block in days; on a test chain the others wait at the edge.
        self._blocks = Allowance(100, 2.0)
        # A header of the chain has work, whatever is put behind it: 400,000 transactions take ten seconds to
        # read, and what others have found fills the disk. An edge's own blocks are neither.
        self._doubtful, self._one_block = Allowance(10, 600.0), trio.Lock()
        self._reports = Allowance(20, 10.0)  # of siblings: one in half a minute
        self._begins = Allowance(20, 5.0)  # one that begins asks for both once
        self._events = Allowance(200, 5.0)  # an upstream that comes and goes, of a site that has eight
        self._questions = Allowance(100, 5.0)  # of the plan where it changes, of blocks at a start
        self._templates = Allowance(20, 5.0)  # on a signet one asks with each of its node
        # A start asks for 2,000 blocks, twice or more each (pool.books.journal.credit_book), and another one.
        self._pages = Allowance(10_000, 0.1)

    async def begin(self, asked: Asked) -> Granted:
        self._take_begin()
        try:
            return await self._remote.begin(msgspec.structs.replace(asked, edge=self._name))
        except InboxUnusable as error:
            raise HubAway(str(error)) from None
        except SQLAlchemyError as error:
            raise HubAway(f"the books do not take that it begins: {words_of(error)}") from None

    async def everything(self, epoch: int) -> Everything:
        record = self._remote.check(self._name, epoch)
        self._take_begin()
        changes = self._changes()  # what comes after this is told again, and known twice
        plan = await self._plan()
        async with self._turns:
            begin = await trio.to_thread.run_sync(self._begin, record)
        return Everything(begin_of(begin, record, plan), plan, changes)

    def _take_begin(self) -> None:
        """Each is a look at all of the fleet. Raises HubAway."""
        if not self._begins.take():
            raise HubAway("this edge asks for all that there is too often")

    async def renew(self, epoch: int, mark: Mark, hub: int = 0) -> Heard:
        ours = hub == self._store.lease_epoch
        try:
            received = await self._remote.renew(self._name, epoch, mark, heard_of_us=ours)
        except SQLAlchemyError as error:
            raise HubAway(f"the books do not take that it lives: {words_of(error)}") from None
        return Heard(received, self._changes())

    async def send(self, epoch: int, frames: bytes) -> Received:
        return await self._remote.receive(self._name, epoch, frames)

    async def unbooked(self, epoch: int, hashes: Sequence[str]) -> list[str]:
        self._remote.check(self._name, epoch)
        self._take_question(self._questions)
        async with self._turns:
            return sorted(await read_books(self._store, partial(unbooked, hashes=hashes[:HASHES_MAX])))

    async def found(
        self, epoch: int, block: bytes, finder: Machine | None, scheme: Scheme | None = None
    ) -> None:
        record = self._remote.check(self._name, epoch)
        easiest = self._easiest_target()
        if easiest is None:
            raise HubAway("what a block takes is not known here yet: say it again later")
        if not self._blocks.take():
            raise HubAway("that are too many blocks at once: say it again later")
        async with self._one_block, self._turns:
            if not self._doubtful.left:
                raise HubAway("blocks of this edge were none, or not its own: say it again later")
            proven = _has_work(block, easiest)
            told = await trio.to_thread.run_sync(_told, block) if proven else None
            if told is None:
                if proven:
                    self._doubtful.take()
                log.error("block_of_edge_refused", edge=self._name, bytes=len(block))
                return
            whose = await read_books(
                self._store, partial(edge_of_part, part=told.part, at_s=told.at_s + PART_S)
            )
            if whose != self._name:
                self._doubtful.take()
            if whose not in (None, self._name):
                log.error("block_of_another_edge", edge=self._name, of=whose, hash=told.hash_hex)
                return
            named = finder is not None and record.may_count_for(finder) and self._has_room(finder)
            mine = finder if named else None
            paid_by = None if mine is None else await self._paid_by(epoch, told.at_s, mine, scheme)
            directory = blocks_directory(self._config.data_dir)
            try:
                await trio.to_thread.run_sync(_store, directory, told, block, BlockNote(0, mine, paid_by))
            except OSError as error:
                words = f"{directory}: {error.strerror or error}"
                log.error("block_of_edge_not_stored", edge=self._name, hash=told.hash_hex, reason=words)
                raise HubAway(words) from None
        log.info("block_of_edge", edge=self._name, hash=told.hash_hex)
        await self._hub.book_found_blocks(frozenset((told.hash_hex,)))

    async def _paid_by(self, epoch: int, at_s: int, finder: Machine, said: Scheme | None) -> Scheme | None:
        """How the shares of its job are paid, by when the edge was told of which terms."""
        told = self._remote.told(self._name, epoch)
        found: Scheme | None = await read_books(
            self._store, partial(mined_by, tenant=finder.tenant, said=said, at_s=at_s, told=told)
        )
        if said not in (None, found):
            log.error(
                "block_of_edge_by_other_terms", edge=self._name, tenant=finder.tenant, said=said, taken=found
            )
        return found

    async def plan(self) -> Plan:
        self._take_question(self._questions)
        return await self._plan()

    def _take_question(self, of: Allowance) -> None:
        """Raises HubAway."""
        if not of.take():
            raise HubAway("this edge asks too often: it is answered later")

    async def _plan(self) -> Plan:
        record = self._remote.record(self._name)
        names = frozenset() if record is None else record.tenants
        async with self._turns:
            plan = await self._hub.plan()
        return routes_of(plan, (it for it in self._tenants() if it.name in names))

    async def credits(self, prevhash: bytes, after: int) -> CreditsPage:
        self._take_question(self._pages)
        if len(prevhash) != HASH_BYTES or not 0 <= after <= SEQ_MAX:
            return []  # of what is no block nothing was credited
        async with self._turns:
            return await self._hub.credits(prevhash, after)

    async def bind_signet(self, challenge: str) -> None:
        self._take_question(self._templates)
        await self._signet.check(challenge)

    async def count_siblings(
        self, report: str, counts: Sequence[tuple[SiblingKey, Machine | None, int]]
    ) -> None:
        if not self._reports.take():
            raise HubAway("that are too many reports at once")
        # By nobody: no work proves them, and whoever withholds blocks would have found as many as he likes.
        mine = [
            (key, None, count) for key, _, count in counts[:SIBLINGS_MAX] if 0 < count <= SIBLINGS_OF_ONE_MAX
        ]
        await self._hub.count_siblings(f"{self._name} {report}"[:100], mine)

    async def note_event(self, event: RouteEvent) -> None:
        """At our time: it is told at once, or never."""
        if not self._events.take():
            return
        can_be = event.event in HAPPENS and 0 < event.upstream_id <= SEQ_MAX
        if not can_be or not await self._is_its(event.order_id):
            log.error("event_of_edge_refused", edge=self._name, order=event.order_id, said=event.event[:80])
            return
        at_s, sessions = int(self._wall_clock()), max(0, min(event.sessions, SESSIONS_MAX))
        await self._hub.note_event(msgspec.structs.replace(event, at_s=at_s, sessions=sessions))

    async def _is_its(self, order_id: int | None) -> bool:
        """Whether its machines may be sold by that order, which may be over by now; None: nobody's."""
        if order_id is None:
            return True
        record = self._remote.record(self._name)
        if record is None or not 0 < order_id <= SEQ_MAX:
            return False
        async with self._turns:
            who = await read_books(self._store, partial(supplied_by, order_id=order_id))
        return not who.isdisjoint(record.tenants)


def _has_work(block: bytes, easiest: int) -> bool:
    """As much as a block of now has at least, whatever is behind its header."""
    if not HEADER_BYTES < len(block) <= BLOCK_BYTES_MAX:
        return False
    try:
        target = target_from_nbits(header_of(block).nbits)
    except BadTarget:
        return False
    return int.from_bytes(sha256d(block[:HEADER_BYTES]), "little") <= target <= easiest


def _told(block: bytes) -> ToldBlock | None:
    """None for what is no block."""
    try:
        whole = CBlock.deserialize(block)
        if whole.calc_merkle_root() != whole.hashMerkleRoot:
            return None  # work is the header's alone: what is behind it is for anybody to choose
        CheckTransaction(whole.vtx[0])  # what it pays goes into books, which take no more than there is
        height = height_in(whole)
        if not 0 < height <= HEIGHT_MAX:
            return None
    except (ValueError, IndexError, OverflowError):
        return None
    except Exception as error:  # whatever its decoder stumbles over
        log.warning("block_of_edge_not_read", reason=str(error)[:200])
        return None
    hash_hex = sha256d(block[:HEADER_BYTES])[::-1].hex()
    return ToldBlock(height, hash_hex, header_of(block).at_s, _part_in(whole))


def _store(directory: Path, told: ToldBlock, block: bytes, note: BlockNote) -> None:
    """Write it down as one that a node took."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{told.height}-{told.hash_hex}.{SubmitState.ACCEPTED.value}"
    if not path.exists():
        write_whole(path, noted(block, packed_note(note)))


def _part_in(block: CBlock) -> int:
    """The first byte of the extranonces, which are pushed last; 0, which no edge has: there are none."""
    try:
        *_, (_, pushed, _) = block.vtx[0].vin[0].scriptSig.raw_iter()
    except CScriptInvalidError:
        return 0
    return pushed[0] if pushed else 0


def height_in(block: CBlock) -> int:
    """As its coinbase begins (BIP 34). Raises ValueError."""
    operation, data, _ = next(iter(block.vtx[0].vin[0].scriptSig.raw_iter()))
    if data is not None and len(data):
        return int.from_bytes(data, "little", signed=True)
    try:
        return int(CScriptOp(operation).decode_op_n())
    except ValueError:
        raise ValueError("the coinbase says no height") from None
