"""What is longer than a message: kept where it is, and read by the other end in numbered chunks.

Whoever has it gives it a number that cannot be guessed, its size and its digest; whoever wants it asks
for some chunks at a time, and again for one that is lost, so a slow line is never given more than it
takes. What is put together is what was kept, or nothing.

Invariants: SHELF_BYTES_MAX of all that is kept, KEPT_MAX of each other end, KEPT_S at most; nothing is
kept of what a size alone promises. Must not know: how a chunk is asked for, and what it says.
"""

import secrets
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Final

import msgspec
import trio

from pool.sites.nats.client import NatsAway

CHUNK_BYTES: Final = 256 << 10  # a quarter of what a server takes as it comes
AT_ONCE: Final = 4  # chunks on their way: 10 MB/s over a line with 100 ms
TRIES: Final = 3  # of one chunk
CONTENT_BYTES_MAX: Final = 96 << 20  # all of a registry: 400,000 workers; a record of a journal: 64 MiB
SHELF_BYTES_MAX: Final = 256 << 20  # twelve sites that begin at once with 100,000 workers; others ask again
KEPT_MAX: Final = 2  # of one other end: it reads one at a time
READING_MAX: Final = 2  # long questions of all other ends, one of each: 130 MiB at the most
KEPT_S: Final = 300.0  # 20 MB over a line of a megabit take 160
DIGEST_BYTES: Final = 32


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """Where something is."""

    token: str
    size: int
    digest: bytes


class _Content(msgspec.Struct):
    owner: str
    data: bytes
    until_s: float


class Shelf:
    """What is kept for others, and how much is `reading` of theirs at once."""

    def __init__(self) -> None:
        self.reading = trio.CapacityLimiter(READING_MAX)
        self._contents: dict[str, _Content] = {}

    def keep(self, owner: str, data: bytes) -> Kept:
        """For that other end. Raises NatsAway where there is no room: it has to ask later."""
        if len(data) > CONTENT_BYTES_MAX:
            raise NatsAway(f"{len(data)} bytes are more than is ever sent at once")
        now_s = trio.current_time()
        self._contents = {token: it for token, it in self._contents.items() if it.until_s > now_s}
        own = [token for token, it in self._contents.items() if it.owner == owner]
        for token in own[: max(0, len(own) - KEPT_MAX + 1)]:
            del self._contents[token]
        if len(data) + sum(len(it.data) for it in self._contents.values()) > SHELF_BYTES_MAX:
            raise NatsAway("others are being sent as much as there is room for")
        token = secrets.token_hex(16)
        self._contents[token] = _Content(owner, data, now_s + KEPT_S)
        return Kept(token, len(data), _digest(data))

    def chunk(self, owner: str, token: str, index: int) -> bytes | None:
        """None where it is kept no more, or for another. A chunk behind the last one says that all are
        there."""
        content = self._contents.get(token)
        if content is None or content.owner != owner or index < 0:
            return None
        if index * CHUNK_BYTES >= len(content.data):
            del self._contents[token]
            return b""
        return content.data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]


async def read_in_chunks(kept: Kept, ask: Callable[[int], Awaitable[bytes]], bytes_max: int) -> bytes:
    """All of it; `ask` for one chunk raises NatsAway. Raises NatsAway."""
    if not 0 < kept.size <= bytes_max:
        raise NatsAway(f"{kept.size} bytes are offered, and {bytes_max} are taken")
    count = -(-kept.size // CHUNK_BYTES)
    chunks: dict[int, bytes] = {}
    indices = iter(range(count))
    failed: list[NatsAway] = []

    async def read_some(cancel: trio.CancelScope) -> None:
        for index in indices:
            try:
                chunks[index] = await _chunk(index, min(CHUNK_BYTES, kept.size - index * CHUNK_BYTES), ask)
            except NatsAway as error:
                failed.append(error)
                cancel.cancel()
                return

    async with trio.open_nursery() as nursery:
        for _ in range(min(AT_ONCE, count)):
            nursery.start_soon(read_some, nursery.cancel_scope)
    if failed:
        raise failed[0]
    data = b"".join(chunks[index] for index in range(count))
    if await trio.to_thread.run_sync(_digest, data) != kept.digest:
        raise NatsAway("what was read in chunks is not what was offered")
    return data


async def _chunk(index: int, size: int, ask: Callable[[int], Awaitable[bytes]]) -> bytes:
    for left in reversed(range(TRIES)):
        try:
            data = await ask(index)
        except NatsAway:
            if not left:
                raise
            continue
        if len(data) == size:
            return data
        break
    raise NatsAway("what was offered is kept no more, or is of another size")


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=DIGEST_BYTES).digest()
