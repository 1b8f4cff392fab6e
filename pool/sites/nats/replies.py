"""Answers to what was published with a place to answer at: each to whoever waits for it.

A place is a token that nobody can guess, below a prefix that only who is asked, and this end, can use.
Must not know: what is asked.
"""

import secrets
from typing import Final

import trio

from pool.sites.nats.client import Message, NatsAway
from pool.sites.nats.connection import Connection

TOKEN_BYTES: Final = 16
WAITING_MAX: Final = 1_000  # questions, and what JetStream is asked
NOBODY: Final = "503"  # the server's word for a subject that nobody listens at


class _Waits:
    def __init__(self) -> None:
        self.over = trio.Event()
        self.message: Message | None = None
        self.lost = ""


class Replies:
    """Below one prefix. `run` is a task; without it nobody is answered. `bounded`: who answers may be
    captured."""

    def __init__(self, connection: Connection, prefix: str, *, bounded: bool = False) -> None:
        self._connection, self._prefix, self._bounded = connection, prefix, bounded
        self._waiting: dict[str, _Waits] = {}
        self._room = trio.CapacityLimiter(WAITING_MAX)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        async with (
            self._connection.subscribed(f"{self._prefix}.*", bounded=self._bounded) as messages,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self._give_up)
            task_status.started()
            while True:
                message = await messages.next()
                if (waits := self._waiting.get(message.subject)) is not None:
                    waits.message = message
                    waits.over.set()

    async def request(self, subject: str, data: bytes, *, within_s: float) -> Message:
        """What was answered. Raises NatsAway where nobody does, and where the connection is lost
        meanwhile."""
        async with self._room:
            reply = f"{self._prefix}.{secrets.token_hex(TOKEN_BYTES)}"
            waits = self._waiting[reply] = _Waits()
            try:
                with trio.move_on_after(within_s):
                    await self._connection.publish(subject, data, reply=reply)
                    await waits.over.wait()
            finally:
                del self._waiting[reply]
        if waits.message is None:
            raise NatsAway(waits.lost or f"there was no answer from {subject} within {within_s:.0f} s")
        if waits.message.status == NOBODY:
            raise NatsAway(f"nobody listens at {subject}")
        return waits.message

    async def _give_up(self) -> None:
        """An answer may still come over the next connection, and is not waited for: whoever asks again has it
        sooner."""
        while True:
            state = await self._connection.changed()
            if not state.connected:
                for waits in self._waiting.values():
                    waits.lost = state.error or "the connection was lost"
                    waits.over.set()
