"""Who is told: what every way of sending has in common.

Must not know: which ways there are.
"""

from typing import Protocol

from pool.messages.message import Message


class NotSent(Exception):
    """A message that did not arrive, as far as can be said; why, in words without a secret."""


class Sender(Protocol):
    """One way to one receiver. Blocks: called from worker threads."""

    def send(self, message: Message) -> None:
        """Raises NotSent."""
