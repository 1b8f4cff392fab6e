"""What is due in the books while the pool runs: settlements and what buyers owe for them, roll-ups, and
blocks that were found, or are divided.

Each step is one short transaction in a worker thread and done at most once whenever it is tried, so being
killed between any two costs nothing but time.

Must not know: sessions and shares; the journal folds itself.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import structlog
import trio
from sqlalchemy import Connection, func, select

from payouts import income
from payouts.accrual import Settlement, settle
from payouts.book_time import book_time
from payouts.divisions import Header, record_fund
from payouts.income import Block
from payouts.proof.closings import forget_old
from payouts.proof.key import ProofKey
from payouts.ratebook import record_fee_basis
from payouts.rates import BlockFees, Scheme
from payouts.sales.charges import charge_settled
from payouts.schemas.money import blocks
from payouts.siblings import SiblingKey, count_siblings, note_report
from payouts.solo import SoloPayout, record_solo
from payouts.tallies import roll_up_hours, roll_up_minutes
from pool.books.block_division import BlockDivision
from pool.books.block_watch import BlockWatch
from pool.books.book import bind_signet
from pool.books.database_waits import read_books, when_it_takes, write_books
from pool.books.day_closing import DayClosing, ShareClosing
from pool.books.energy_books import EnergyBooks, PowerTold
from pool.books.found_blocks import FILES_MAX, book_found_blocks, unknown_files
from pool.books.journal.machine_rows import rows_of
from pool.books.price_watch import PriceWatch
from pool.books.receipt_closing import ReceiptClosing
from pool.books.sales_books import SalesBooks
from pool.books.store import DATABASE_ERRORS, Store
from pool.chain.blocks import BlockResult, SubmitState
from pool.chain.networks import NETWORKS
from pool.chain.node_set import NodeSet
from pool.chain.price_history import PriceHistory
from pool.journal.records import Machine
from stratum.histogram import Histogram

log = structlog.get_logger()

ROLL_UP_S: Final = 600.0
ROLL_UP_PAUSE_S: Final = 0.05  # between two transactions, so that the journal commits in between

_Value = TypeVar("_Value")


class BooksFailed(Exception):
    """What the books say does not go together, or we have a mistake: to go on would be to book nonsense."""


class BookTimes(msgspec.Struct, frozen=True, kw_only=True):
    """How often the books are brought up to date."""

    fold_s: float = 60.0
    settle_s: float = 10.0
    settle_early_s: int = 0  # settle the hour that is not over too; what comes later is its next part


# Who rehearses on regtest does not wait for the hour to see a balance.
IMPATIENT: Final = BookTimes(fold_s=2.0, settle_s=2.0, settle_early_s=3660)


class Bookkeeper:
    """`fee_basis` and `record_block` are asked by the pool; `run` does the rest. `history` is for who holds
    prices against the chain. `power`: who knows what is drawn, where somebody does; `proof`: what days and
    hours are closed with, where they are, and receipts of orders signed, and from which difficulty on shares
    are kept."""

    def __init__(
        self,
        store: Store,
        nodes: NodeSet,
        *,
        times: BookTimes,
        wall_clock: Callable[[], float] = time.time,
        power: PowerTold | None = None,
        proof: tuple[ProofKey, int] | None = None,
    ) -> None:
        self._store = store
        self.energy = None if power is None else EnergyBooks(store, power, wall_clock=wall_clock)
        key = None if proof is None else proof[0]
        self._days = None if key is None else DayClosing(store, key)
        self._shares = None if proof is None else ShareClosing(store, *proof)
        self._receipts = ReceiptClosing(store, key)
        self.sales = SalesBooks(store, wall_clock=wall_clock)
        self._blocks = BlockWatch(store, nodes, wall_clock=wall_clock)
        self._division = BlockDivision(store, wall_clock=wall_clock)
        self.history = PriceHistory(nodes, wall_clock=wall_clock)
        self._prices = PriceWatch(store, self.history.difficulties)
        self._retargets = NETWORKS[nodes.chain].retargets
        self._times = times
        self._wall_clock = wall_clock
        self._signet: str | None = None  # the challenge that the book is known to be bound to
        self.settled = trio.Event()  # replaced after each settlement
        self.settlements = Histogram()  # how long each took of all that was due

    async def fee_basis(self, fees: tuple[BlockFees, ...]) -> int:
        """Keep a list of recent blocks as the basis of FPPS; its number."""
        now_s = int(self._wall_clock())
        return await self._write(lambda connection: record_fee_basis(connection, fees, now_s))

    async def bind_signet(self, challenge: str) -> None:
        """See that templates of this signet are the book's. Raises WrongBook."""
        if challenge != self._signet:
            await self._write(lambda connection: bind_signet(connection, challenge))
            self._signet = challenge

    async def record_block(
        self,
        result: BlockResult,
        *,
        income_sat: int,
        finder: Machine | None,
        header: Header,
        solo: SoloPayout | None = None,
        scheme: Scheme | None = None,
    ) -> None:
        """Book that a block was found, unless every node refused it; `solo`: if it pays a tenant; `scheme`:
        how the shares of its job are paid, where that is known.

        What becomes of it, the chain says.
        """
        if result.state is SubmitState.REFUSED:
            return
        now_s = int(self._wall_clock())

        def book(connection: Connection) -> None:
            if connection.scalar(select(func.count()).where(blocks.c.hash == result.hash_hex)):
                return
            block = Block(
                hash=result.hash_hex,
                height=result.height,
                income_sat=income_sat,
                # The finder may be new: what the journal says of it comes before or after this.
                worker_id=None if finder is None else rows_of(connection, [finder], now_s)[finder.number],
                found_at_s=now_s,
            )
            income.record_block(connection, block, now_s)
            if solo is not None:
                record_solo(connection, block.hash, solo)
            elif block.worker_id is not None:
                record_fund(connection, block.hash, block.worker_id, header, scheme)

        await self._write(book)
        self._blocks.check_soon()

    async def count_siblings(
        self, report: str, counts: Sequence[tuple[SiblingKey, Machine | None, int]]
    ) -> None:
        """Book how many blocks were found, by whom, that cannot be in the chain beside one of ours: once a
        report, however often it is told."""
        now_s = int(self._wall_clock())

        def book(connection: Connection) -> None:
            if not note_report(connection, report, now_s):
                return
            rows = rows_of(connection, [it for _, it, _ in counts if it is not None], now_s)
            named = {
                msgspec.structs.replace(key, worker_id=0 if it is None else rows[it.number]): count
                for key, it, count in counts
            }
            count_siblings(connection, named, now_s)

        await self._write(book)

    async def book_found_blocks(
        self,
        directory: Path,
        payout_script: bytes,
        network: str,
        earlier: frozenset[str],
        numbered: Callable[[Machine], Machine],
    ) -> None:
        """Book the blocks on disk, of those of earlier runs, that a kill kept out of the books. `numbered`
        is as book_found_blocks has it, and asked in a thread."""
        files = await read_books(self._store, partial(unknown_files, directory=directory, earlier=earlier))
        for first in range(0, len(files), FILES_MAX):
            await self._write(
                partial(
                    book_found_blocks,
                    files=files[first : first + FILES_MAX],
                    payout_script=payout_script,
                    network=network,
                    now_s=int(self._wall_clock()),
                    numbered=numbered,
                )
            )

    async def run(self) -> None:
        """Until cancelled. Raises BooksFailed."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._kept, "settle", self._settle)
            nursery.start_soon(self._kept, "roll up tallies", self._roll_up)
            nursery.start_soon(self._kept, "look at blocks", self._blocks.run)
            nursery.start_soon(self._kept, "divide blocks", self._division.run)
            nursery.start_soon(self._kept, "ask for prices", self.history.run)
            nursery.start_soon(self._kept, "close hours of orders", self._receipts.run)
            nursery.start_soon(self._kept, "invoice orders", self.sales.run)
            if self.energy is not None:
                nursery.start_soon(self._kept, "book energy", self.energy.run)
            if self._days is not None:
                nursery.start_soon(self._kept, "close days", self._days.run)
            if self._shares is not None:
                nursery.start_soon(self._kept, "close hours", self._shares.run)
            if self._retargets:
                nursery.start_soon(self._kept, "look at prices", self._prices.run)

    async def _kept(self, doing: str, keep: Callable[[], Awaitable[None]]) -> None:
        """`keep` never returns. Raises BooksFailed for a mistake."""
        try:
            await when_it_takes(doing, keep, DATABASE_ERRORS)
        except Exception as error:
            log.critical("books_failed", doing=doing, exc_info=True)
            raise BooksFailed(
                f"the books cannot {doing}: {error}. Nothing was booked; look with `angara ledger verify`"
                " before the pool is started again"
            ) from error

    async def settle_all(self) -> int:
        """Settle every hour that is due now; how many settlements that were."""
        count = 0
        while True:
            now_s, early_s = int(self._wall_clock()), self._times.settle_early_s
            done = await self._write(partial(_settle_and_date, now_s=now_s, early_s=early_s))
            if not done:
                return count
            count += len(done)

    async def _settle(self) -> None:
        while True:
            since_s = trio.current_time()
            count = await self.settle_all()
            self.settlements.add(trio.current_time() - since_s)
            if count:
                log.info("settled", settlements=count)
                self.settled.set()
                self.settled = trio.Event()
            await trio.sleep(self._times.settle_s)

    async def _roll_up(self) -> None:
        while True:
            now_s = int(self._wall_clock())
            while await self._write(partial(roll_up_minutes, now_s=now_s)):  # noqa: ASYNC110
                await trio.sleep(ROLL_UP_PAUSE_S)
            worker: int | None = 0
            while worker is not None:
                worker = await self._write(partial(roll_up_hours, now_s=now_s, from_worker_id=worker))
                await trio.sleep(ROLL_UP_PAUSE_S)
            while await self._write(partial(forget_old, now_s=now_s)):  # noqa: ASYNC110
                await trio.sleep(ROLL_UP_PAUSE_S)
            await trio.sleep(ROLL_UP_S)

    async def _write(self, work: Callable[[Connection], _Value]) -> _Value:
        done: _Value = await write_books(self._store, work)
        return done


def _settle_and_date(connection: Connection, now_s: int, early_s: int) -> tuple[Settlement, ...]:
    """Settle what is due, and charge buyers for the hours that were the last of; and the book is of now, also
    where nothing is."""
    at_s = book_time(connection, now_s)
    done = settle(connection, at_s, early_s=early_s)
    charge_settled(connection, done, at_s)
    return done
