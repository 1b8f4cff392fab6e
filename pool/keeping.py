"""Who keeps the books, for those who serve miners: pool.hub.Hub on the database of this process.

Must not know: who asks.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import trio
from sqlalchemy import Connection
from sqlalchemy.exc import InternalError, OperationalError

from payouts.rates import BlockFees
from payouts.siblings import SiblingKey
from pool.books.bookkeeper import Bookkeeper
from pool.books.database_waits import read_books, when_it_takes
from pool.books.journal.credit_book import CreditsPage
from pool.books.journal.credit_rows import credits_page
from pool.books.store import DATABASE_ERRORS, Store, words_of
from pool.chain.block_files import blocks_directory
from pool.config import PoolConfig
from pool.hub import FoundBlock, HubAway, Plan, RouteEvent
from pool.journal.records import Machine
from pool.orders.rows import load_orders, note_event
from pool.upstreams.rows import load_upstreams

_Value = TypeVar("_Value")

# As a full database says, and one that takes no writes now: before its disk is full, or before it leads. All
# else is a mistake, and who asks is told.
FULL: Final = (OperationalError, InternalError)


class Keeping:
    """Of one pool. `numbered` says which machine it is, whoever else numbers machines."""

    def __init__(
        self, config: PoolConfig, store: Store, bookkeeper: Bookkeeper, numbered: Callable[[Machine], Machine]
    ) -> None:
        self._store, self._bookkeeper, self._numbered = store, bookkeeper, numbered
        self._found_blocks: Path = blocks_directory(config.data_dir)
        self._payout_script, self._network = config.payout_script, config.network

    async def plan(self) -> Plan:
        def read(connection: Connection) -> Plan:
            return Plan(
                {it.id: it for it in load_upstreams(connection)},
                {it.id: it for it in load_orders(connection, int(time.time()))},
            )

        return await self._now(partial(_read, self._store, read))

    async def credits(self, prevhash: bytes, after: int) -> CreditsPage:
        return await read_books(self._store, partial(credits_page, prevhash=prevhash, after=after))

    async def fee_basis(self, fees: tuple[BlockFees, ...]) -> int:
        return await when_it_takes("keep fees", lambda: self._bookkeeper.fee_basis(fees), FULL)

    async def bind_signet(self, challenge: str) -> None:
        await when_it_takes("bind the signet", lambda: self._bookkeeper.bind_signet(challenge), FULL)

    async def record_block(self, found: FoundBlock) -> None:
        finder = None if found.finder is None else self._numbered(found.finder)
        record = partial(
            self._bookkeeper.record_block,
            found.result,
            income_sat=found.income_sat,
            finder=finder,
            header=found.header,
            solo=found.solo,
            scheme=found.scheme,
        )
        await when_it_takes("book a block", record, FULL)

    async def count_siblings(
        self, report: str, counts: Sequence[tuple[SiblingKey, Machine | None, int]]
    ) -> None:
        numbered = [(key, by if by is None else self._numbered(by), count) for key, by, count in counts]
        count = partial(self._bookkeeper.count_siblings, report, numbered)
        await when_it_takes("count siblings", count, FULL)

    async def book_found_blocks(self, earlier: frozenset[str]) -> None:
        def numbered(machine: Machine) -> Machine:
            return trio.from_thread.run_sync(self._numbered, machine)

        book = partial(
            self._bookkeeper.book_found_blocks,
            self._found_blocks,
            self._payout_script,
            self._network,
            earlier,
            numbered,
        )
        await when_it_takes("book blocks of before", book, FULL)

    async def note_event(self, event: RouteEvent) -> None:
        def write() -> None:
            with self._store.write() as connection:
                note_event(
                    connection,
                    event.at_s,
                    event.upstream_id,
                    event.order_id,
                    event.event,
                    event.words,
                    event.sessions,
                )

        await self._now(write)

    async def _now(self, work: Callable[[], _Value]) -> _Value:
        """What does not wait for a database that is away."""
        try:
            return await trio.to_thread.run_sync(work)
        except DATABASE_ERRORS as error:
            raise HubAway(words_of(error)) from error


def _read(store: Store, work: Callable[[Connection], _Value]) -> _Value:
    with store.read() as connection:
        return work(connection)
