"""Found blocks, told to all: whoever finds one tells the hub after its own nodes have it. The hub gives it to
its own, and tells everybody what was new to them.

Whose a block is comes from its subject. An edge may be captured, so no other hears it: what it published
without end had the lines and the processor of all sites. Nothing that it says costs a node anything but what
was paid for with work: a header has to meet its own bits, and these have to be about the chain's. Work is
proved by the header alone, and whoever hears a block can say it again with other transactions, sooner than
its finder is heard. So of one header each sender has one try, and a wrong one keeps out no other's.

Invariants: BURST blocks of a sender, and one each BLOCK_S; WAITING_MAX at once for the nodes; what is
remembered is bounded. What is lost on the way is a block that its finder's nodes have. Must not know:
nodes.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Final

import structlog
import trio

from pool.chain.templates import sha256d
from pool.sites.allowance import Allowance
from pool.sites.nats import subjects
from pool.sites.nats.client import NatsAway
from pool.sites.nats.connection import Connection
from stratum.difficulty import BadTarget, target_from_nbits

log = structlog.get_logger()

HEADER_BYTES: Final = 80
BLOCK_BYTES_MAX: Final = 4_000_000  # a block of 4,000,000 weight has no more
# A message that nobody acknowledges, said again: who hears it twice submits it once.
REPEATED_S: Final = (0.0, 5.0, 30.0)
TELLING_MAX: Final = 8  # of ours: they are worth less with every minute
TOLD_WITHIN_S: Final = 600.0  # then it is in the chain, or never will be
BURST: Final = 30
BLOCK_S: Final = 10.0
SENDERS_MAX: Final = 1_000
WAITING_MAX: Final = 8  # 32 MB
SUBMIT_S: Final = 120.0  # of one to the nodes
REMEMBERED_MAX: Final = 1_000
INFLOW_MESSAGES_MAX: Final = 64
INFLOW_BYTES_MAX: Final = 64 << 20


class Blocks:
    """`name` is an edge's, or the hub's. `submit` gives a block to our nodes, and says of each that answers
    whether it was new to it; `easiest_target` is the easiest that a block of now can have, or None where
    nobody knows."""

    def __init__(
        self,
        connection: Connection,
        name: str,
        *,
        submit: Callable[[bytes, Callable[[bool], None]], Awaitable[None]],
        easiest_target: Callable[[], int | None],
    ) -> None:
        self._connection, self._name = connection, name
        self._submit, self._easiest_target = submit, easiest_target
        self._to_tell: deque[bytes] = deque(maxlen=TELLING_MAX)
        self._told = trio.Event()
        self._tries: dict[object, None] = {}
        self._had: dict[object, None] = {}
        self._allowances: dict[str, Allowance] = {}
        self._waiting = 0

    def tell(self, block: bytes) -> None:
        """Raw, which our own nodes have."""
        self._remember(self._had, _digest(block))
        self._to_tell.append(block)
        self._told.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. An edge hears the hub."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_all, nursery)
            if self._name != subjects.HUB:
                await nursery.start(self.hear, subjects.HUB)
            task_status.started()

    async def hear(
        self, sender: str, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """What that one tells, until cancelled."""
        async with (
            self._connection.subscribed(
                subjects.blocks_of(sender),
                messages_max=INFLOW_MESSAGES_MAX,
                bytes_max=INFLOW_BYTES_MAX,
                bounded=sender != subjects.HUB,
            ) as messages,
            trio.open_nursery() as nursery,
        ):
            task_status.started()
            while True:
                self._hear(sender, (await messages.next()).data, nursery)

    async def _tell_all(self, nursery: trio.Nursery) -> None:
        while True:
            await self._told.wait()
            self._told = trio.Event()
            while self._to_tell:
                nursery.start_soon(self._tell, self._to_tell.popleft())

    async def _tell(self, block: bytes) -> None:
        hash_ = sha256d(block[:HEADER_BYTES])[::-1].hex()
        with trio.move_on_after(TOLD_WITHIN_S):
            for pause_s in REPEATED_S:
                await trio.sleep(pause_s)
                while True:
                    await self._connection.connected()
                    try:
                        await self._connection.publish(subjects.blocks_of(self._name), block)
                    except NatsAway as error:
                        log.warning("block_not_told", hash=hash_, reason=str(error))
                        await trio.sleep(1.0)
                    else:
                        log.info("block_told", hash=hash_)
                        break

    def _hear(self, sender: str, block: bytes, nursery: trio.Nursery) -> None:
        if not HEADER_BYTES < len(block) <= BLOCK_BYTES_MAX:
            log.warning("block_refused", edge=sender, reason=f"no block has {len(block)} bytes")
            return
        digest = _digest(block)
        if digest in self._had:
            return
        wrong = self._refused(sender, block)
        if wrong is not None:
            log.warning("block_refused", edge=sender, reason=wrong)
            return
        self._remember(self._had, digest)
        self._waiting += 1
        nursery.start_soon(self._give, sender, block)

    def _refused(self, sender: str, block: bytes) -> str | None:
        """Why it is not given to the nodes."""
        easiest = self._easiest_target()
        if easiest is None:
            return "what a block takes here is not known yet"
        header = block[:HEADER_BYTES]
        hash_ = sha256d(header)
        try:
            target = target_from_nbits(int.from_bytes(header[72:76], "little"))
        except BadTarget:
            target = 0
        if target > easiest or int.from_bytes(hash_, "little") > target:
            return "its header is no proof of work"
        if self._waiting >= WAITING_MAX:
            return "others wait for the nodes"
        if (sender, hash_) in self._tries:
            return "another block of this header came before it"
        if not self._allowed(sender):
            return "that are too many blocks"
        self._remember(self._tries, (sender, hash_))
        return None

    def _allowed(self, sender: str) -> bool:
        if sender not in self._allowances:
            if len(self._allowances) >= SENDERS_MAX:
                return False
            self._allowances[sender] = Allowance(BURST, BLOCK_S)
        return self._allowances[sender].take()

    async def _give(self, sender: str, block: bytes) -> None:
        """A hub tells it when it was new to the first node, whatever the others do; also where none answers:
        then nobody knows."""
        answers: list[bool] = []

        def answered(new: bool) -> None:
            if new and True not in answers and self._name == subjects.HUB:
                self.tell(block)
            answers.append(new)

        try:
            with trio.move_on_after(SUBMIT_S):
                await self._submit(block, answered)
            if not answers:
                answered(True)
        except Exception:
            log.error("block_not_submitted", edge=sender, exc_info=True)
        finally:
            self._waiting -= 1

    def _remember(self, where: dict[object, None], what: object) -> None:
        where[what] = None
        if len(where) > REMEMBERED_MAX:
            del where[next(iter(where))]


def _digest(block: bytes) -> bytes:
    return blake2b(block, digest_size=16).digest()
