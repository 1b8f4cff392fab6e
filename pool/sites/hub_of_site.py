"""The hub as who serves miners at a site asks it: pool.hub.Hub over a line that may be down for days.

What has to be done is asked again until it is (`REPEATED`); what can be known without the hub is what it said
last. Must not know: how values travel, miners.
"""

import math
from collections.abc import Awaitable, Callable, Sequence
from fnmatch import fnmatchcase
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
import trio

from payouts.rates import BlockFees
from payouts.siblings import SiblingKey
from pool.books.edges.leases import EdgeRefused
from pool.books.found_blocks import TAKEN, unpacked_note
from pool.books.journal.credit_book import CreditsPage
from pool.chain.block_files import block_and_note
from pool.chain.blocks import KEPT
from pool.data_dir import paths_in
from pool.hub import FoundBlock, HubAway, Plan, RouteEvent
from pool.journal.records import Machine
from pool.questions import AnsweredWithError
from pool.sites.questions import SiteHub

log = structlog.get_logger()

# It is away, cannot, is of another version, or this is not the edge: who renews the lease finds out which.
NOT_NOW: Final = (HubAway, AnsweredWithError, EdgeRefused)
AGAIN_S: Final = 5.0  # between two questions for the same, while the hub is away
NO_CREDITS_S: Final = 60.0
# For so long an order whose hours are settled one by one is delivered while the hub is away, and then not at
# this site: the books wait for it for 15 minutes. A hub is followed by another one in less.
DELIVERS_ALONE_S: Final = 300.0
# Blocks whose hashes are in one question; a site finds one in days.
HASHES_MAX: Final = 1_000
BASES_FROM: Final = 1 << 32  # of lists of fees: no hub has so many


class HubOfSite:
    """`epoch` is what the hub has granted, `plan_now` as it said last; found blocks are in `blocks`."""

    def __init__(self, hub: SiteHub, plan: Plan, *, epoch: Callable[[], int], blocks: Path) -> None:
        self._hub, self._epoch, self._blocks = hub, epoch, blocks
        self.plan_now = plan
        self._no_credits_until_s = -math.inf
        self._heard_s: float | None = None  # the hub, at all here; or when it was asked first
        self._bases = count(BASES_FROM)

    async def plan(self) -> Plan:
        """As the hub says; while it is away as it said last, and after a while without orders whose hours are
        settled one by one: their buyer would have for nothing what comes to the books after its hour."""
        if self._heard_s is None:
            self._heard_s = trio.current_time()
        try:
            self.plan_now = await self._hub.plan()
        except NOT_NOW as error:
            log.warning("plan_not_asked", reason=str(error))
            if trio.current_time() - self._heard_s >= DELIVERS_ALONE_S:
                orders = {number: it for number, it in self.plan_now.orders.items() if not it.by_the_hour}
                return msgspec.structs.replace(self.plan_now, orders=orders)
        else:
            self._heard_s = trio.current_time()
        return self.plan_now

    async def credits(self, prevhash: bytes, after: int) -> CreditsPage:
        """Nothing while the hub is away: what is submitted twice by it is refused by the books. One that did
        not answer is not asked for each block again: miners wait for all of them."""
        if trio.current_time() < self._no_credits_until_s:
            return []
        try:
            return await self._hub.credits(prevhash, after)
        except NOT_NOW as error:
            log.warning("credits_not_asked", reason=str(error))
            self._no_credits_until_s = trio.current_time() + NO_CREDITS_S
            return []

    async def fee_basis(self, fees: tuple[BlockFees, ...]) -> int:
        """A number of our own: the list is in the journal with each price, and there the hub holds it against
        its nodes. No site waits for its word, and it keeps no list that nobody has looked at."""
        return next(self._bases)

    async def bind_signet(self, challenge: str) -> None:
        """The hub finds another network's shares by their prices: no site waits for its word."""
        try:
            await self._hub.bind_signet(challenge)
        except NOT_NOW as error:
            log.warning("signet_not_asked", reason=str(error))

    async def record_block(self, found: FoundBlock) -> None:
        """As it was to be in its file, whatever the disk has made of that: a node has it."""
        if found.result.state in KEPT:
            await self._tell(found.content)

    async def count_siblings(
        self, report: str, counts: Sequence[tuple[SiblingKey, Machine | None, int]]
    ) -> None:
        await _until_it_answers(lambda: self._hub.count_siblings(report, counts))

    async def book_found_blocks(self, earlier: frozenset[str]) -> None:
        hashes = sorted(earlier)
        for at in range(0, len(hashes), HASHES_MAX):
            some = hashes[at : at + HASHES_MAX]
            unbooked = await _until_it_answers(partial(self._unbooked, some))
            for hash_hex in unbooked:
                content = await trio.to_thread.run_sync(_read, self._blocks, f"*-{hash_hex}.*")
                if content is not None:  # else no node has taken it
                    await self._tell(content)

    async def note_event(self, event: RouteEvent) -> None:
        try:
            await self._hub.note_event(event)
        except NOT_NOW as error:
            raise HubAway(str(error)) from None

    async def _unbooked(self, hashes: list[str]) -> list[str]:
        return await self._hub.unbooked(self._epoch(), hashes)

    async def _tell(self, content: bytes) -> None:
        block, packed = block_and_note(content)
        note = unpacked_note(packed)
        finder, scheme = (None, None) if note is None else (note.finder, note.scheme)
        await _until_it_answers(lambda: self._hub.found(self._epoch(), block, finder, scheme))


def _read(directory: Path, pattern: str) -> bytes | None:
    found = (it for it in paths_in(directory) if fnmatchcase(it.name, pattern) and it.suffix in TAKEN)
    path = next(found, None)
    return None if path is None else path.read_bytes()


async def _until_it_answers(ask: Callable[[], Awaitable[Any]]) -> Any:
    while True:
        try:
            return await ask()
        except NOT_NOW as error:
            log.warning("hub_waited_for", reason=str(error))
        await trio.sleep(AGAIN_S)
