"""Extranonce1 allocation: which prefix of the search space belongs to which session.

Two sessions with one prefix would do each other's work, and their shares would be duplicates. So a
prefix is free again only when no job that was out while it was in use is live any more.
"""

from collections import OrderedDict


class ExtranonceExhausted(Exception):
    """Every prefix is in use, or still on a live job."""


class ExtranonceSpace:
    """Prefixes of `size` bytes, 1 to 4. Job seqs are the clock: they only grow."""

    def __init__(self, size: int) -> None:
        if not 1 <= size <= 4:
            raise ValueError("an extranonce1 has 1 to 4 bytes")
        self.size = size
        self._capacity = 1 << 8 * size
        self._next = 0  # never handed out so far, from here on
        self._in_use: set[int] = set()
        # Prefix -> the newest job at its release; longest rested first. As many as left while one job lives:
        # whoever comes later takes one of these.
        self._resting: OrderedDict[int, int] = OrderedDict()

    def allocate(self, oldest_live_seq: int) -> bytes:
        """A prefix that no live job carries. Raises ExtranonceExhausted."""
        rested, seq = next(iter(self._resting.items()), (0, oldest_live_seq))
        if seq < oldest_live_seq:
            del self._resting[rested]
            prefix = rested
        elif self._next < self._capacity:
            prefix = self._next
            self._next += 1
        else:
            raise ExtranonceExhausted(f"all {self._capacity} extranonce1 values are in use")
        self._in_use.add(prefix)
        return prefix.to_bytes(self.size, "big")

    def resume(self, extranonce1: bytes) -> bool:
        """Give a resting prefix back to the session that had it; False if it is in use or gone."""
        prefix = int.from_bytes(extranonce1, "big")
        if len(extranonce1) != self.size or self._resting.pop(prefix, None) is None:
            return False
        self._in_use.add(prefix)
        return True

    def release(self, extranonce1: bytes, last_seq: int) -> None:
        """The session is gone; `last_seq` is the newest job that anybody has been given."""
        prefix = int.from_bytes(extranonce1, "big")
        self._in_use.remove(prefix)
        self._resting[prefix] = last_seq

    def __len__(self) -> int:
        return len(self._in_use)
