"""What the best chain makes of the blocks that we found: income while it has them, no longer.

A look asks one question a height, however many of our blocks are at it: which block the chain has there. It
walks over all heights that are not final, the newest first, in pages. Two rules say whose word counts:

* Only a node that has the chain which the books know: a block of ours that is in it was at its height, a
  matured one a hundred blocks below the tip. A node that is lower lags: what it does not have it will have.
* What is hard to take back (matured, or a matured block that is gone) needs every node that is up.

What cannot be booked is an alarm, told when it begins and when it is over, and never a reason to stop.

Must not know: sessions, who found a block, what it pays to whom.
"""

import enum
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Final, TypeVar

import msgspec
import structlog
import trio
from sqlalchemy import ColumnElement, Connection, case, func, or_, select

from payouts import income
from payouts.income import MOVES, Status
from payouts.ledger import LedgerError
from payouts.schemas.money import blocks
from pool.books.database_waits import read_books, when_it_answers
from pool.books.store import DATABASE_ERRORS, Store, words_of
from pool.chain.node_set import NodeSet
from pool.chain.nodes import Node, NodeState
from pool.chain.rpc import NodeError

log = structlog.get_logger()

_Value = TypeVar("_Value")

LOOK_S: Final = 30.0  # between two looks at all blocks that are not final
MATURITY: Final = 100  # confirmations after which a coinbase may be spent (consensus: COINBASE_MATURITY)
# Blocks are watched until this deep: a reorganisation of a matured block is a catastrophe, and is booked.
WATCHED_DEPTH: Final = 2 * MATURITY
RECENT_DEPTH: Final = 3  # of what is looked at as soon as a block is found
HEIGHTS_PAGE: Final = 200  # heights in memory at a time
MARKS_MAX: Final = 100  # in one transaction, so that the journal commits in between
LINES_MAX: Final = 10  # a look; further changes are one line


class _Block(msgspec.Struct, frozen=True):
    hash: str
    height: int
    status: Status


class _Change(msgspec.Struct, frozen=True):
    block: _Block
    status: Status


class _Word(enum.Enum):
    """What the other nodes say to something that is hard to take back."""

    YES = "yes"
    WAIT = "wait"  # one of them is not that high yet
    NO = "no"


class BlockWatch:
    """`run` checks now and then; `check_soon` when there is news."""

    def __init__(self, store: Store, nodes: NodeSet, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._nodes = nodes
        self._wall_clock = wall_clock
        self._news = trio.Event()
        self._alarms: set[str] = set()

    def check_soon(self) -> None:
        """A block was found."""
        self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        due_s = trio.current_time()
        while True:
            everything = trio.current_time() >= due_s
            if everything:
                due_s = trio.current_time() + LOOK_S
            try:
                await self.check(recent=not everything)
            except (NodeError, LedgerError, *DATABASE_ERRORS) as error:
                self._alarm("blocks_not_looked_at", on=True, reason=words_of(error))
            else:
                self._alarm("blocks_not_looked_at", on=False)
            with trio.move_on_at(due_s):
                await self._news.wait()
            self._news = trio.Event()

    async def check(self, *, recent: bool = False) -> None:
        """Book what became of each block that is not final, or of the newest only. Raises NodeError."""
        node = self._nodes.current
        if node is None:
            return
        tip = await node.tip_height()
        known = await read_books(self._store, _known_tip)
        self._alarm("node_behind_books", on=tip < known, node=node.name, height=tip, books=known)
        if tip < known:
            return
        changed: list[_Change] = []
        disputed: list[_Block] = []
        below: int | None = None
        while page := await read_books(self._store, partial(_watched, tip=tip, recent=recent, below=below)):
            for height, at_height in groupby(page, key=lambda block: block.height):
                changes = await self._changes(node, tip, height, tuple(at_height), disputed)
                for first in range(0, len(changes), MARKS_MAX):
                    await self._mark(changes[first : first + MARKS_MAX])
                changed += changes
            below = page[-1].height
        _tell(changed)
        dispute = {"blocks": len(disputed), "first": disputed[0].hash} if disputed else {}
        self._alarm("nodes_dispute_blocks", on=bool(disputed), node=node.name, **dispute)

    async def _changes(
        self, node: Node, tip: int, height: int, ours: Sequence[_Block], disputed: list[_Block]
    ) -> list[_Change]:
        """What is to be booked of our blocks at one height."""
        there = await node.hash_at(height)
        if there is None:
            return []  # above the tip: nothing is known yet
        changes = []
        for block in ours:
            now = _status(block, in_chain=block.hash == there, confirmations=tip - height + 1)
            if now is block.status:
                continue
            word = _Word.YES if (block.status, now) in MOVES else _Word.NO
            if word is _Word.YES and Status.MATURED in (block.status, now):
                word = await self._others(node, there, height)
            if word is _Word.YES:
                changes.append(_Change(block, now))
            elif word is _Word.NO:
                disputed.append(block)
        return changes

    async def _others(self, asked: Node, there: str, height: int) -> _Word:
        """Whether all other nodes that are up have the same block a hundred deep. Silence is no word."""
        for node in self._nodes.nodes:
            if node is asked or node.state is not NodeState.UP:
                continue
            try:
                theirs = await node.hash_at(height)
                if theirs not in (None, there):
                    return _Word.NO
                if theirs is None or await node.hash_at(height + MATURITY) is None:
                    return _Word.WAIT
            except NodeError:
                continue
        return _Word.YES

    def _alarm(self, event: str, *, on: bool, **keys: object) -> None:
        """Say that something is wrong when it begins, and that it is over."""
        if on and event not in self._alarms:
            self._alarms.add(event)
            log.error(event, **keys)
        elif not on and event in self._alarms:
            self._alarms.remove(event)
            log.info(f"{event}_over")

    async def _mark(self, changes: Sequence[_Change]) -> None:
        now_s = int(self._wall_clock())

        def transaction() -> None:
            with self._store.write() as connection:
                for change in changes:
                    income.mark(connection, change.block.hash, change.status, now_s)

        await when_it_answers("book what became of blocks", transaction)


def _status(block: _Block, *, in_chain: bool, confirmations: int) -> Status:
    """In the chain first, matured after that: income comes and goes by the same steps for every block."""
    if not in_chain:
        return Status.ORPHANED
    deep = confirmations > MATURITY and block.status in (Status.PENDING, Status.MATURED)
    return Status.MATURED if deep else Status.PENDING


def _tell(changes: Sequence[_Change]) -> None:
    for it in changes[:LINES_MAX]:
        log.info("block_status", height=it.block.height, hash=it.block.hash, status=it.status.value)
    if len(changes) > LINES_MAX:
        log.info("block_status_of_more", blocks=len(changes) - LINES_MAX)


def _known_tip(connection: Connection) -> int:
    """How high the best chain was, at least, by what is booked; 0 where nothing is."""
    newest = income.newest_events()
    depth = case((newest.c.status == Status.MATURED.value, MATURITY), else_=0)
    return int(
        connection.scalar(
            select(func.coalesce(func.max(blocks.c.height + depth), 0))
            .join(newest, newest.c.block_hash == blocks.c.hash)
            .where(newest.c.status.in_(income.IN_CHAIN))
        )
        or 0
    )


def _watched(connection: Connection, *, tip: int, recent: bool, below: int | None) -> list[_Block]:
    """Blocks that are not final, the highest first, of a page of heights: all of a height, or none."""
    newest = income.newest_events()
    depth = RECENT_DEPTH if recent else WATCHED_DEPTH
    in_question = [Status.FOUND.value] if recent else [Status.FOUND.value, Status.PENDING.value]
    wanted: ColumnElement[bool] = or_(blocks.c.height > tip - depth, newest.c.status.in_(in_question))
    if below is not None:
        wanted = wanted & (blocks.c.height < below)
    query = select(blocks.c.hash, blocks.c.height, newest.c.status).join(
        newest, newest.c.block_hash == blocks.c.hash
    )
    heights = query.with_only_columns(blocks.c.height).where(wanted).distinct()
    page = connection.scalars(heights.order_by(blocks.c.height.desc()).limit(HEIGHTS_PAGE)).all()
    if not page:
        return []
    rows = connection.execute(
        query.where(wanted, blocks.c.height >= page[-1]).order_by(blocks.c.height.desc(), blocks.c.hash)
    )
    return [_Block(hash_, height, Status(status)) for hash_, height, status in rows]
