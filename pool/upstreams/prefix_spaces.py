"""Which connections to upstreams give their sessions prefixes out of one space.

Behind the same extranonce1 two sessions with one prefix would do each other's work, and the second of them
would have nothing but duplicates. So connections that were given the same extranonce1 share a space.

Must not know: who mines, what an upstream is.
"""

from stratum.miners.extranonce import ExtranonceSpace


class PrefixSpaces:
    """For all connections of the process; `who` is one of them, with a space that is in use now."""

    def __init__(self) -> None:
        self._used: dict[object, tuple[bytes, ExtranonceSpace]] = {}

    def beside(self, who: object, before: bytes, size: int) -> ExtranonceSpace | None:
        """The space of prefixes of this size that another one has behind the same bytes."""
        others = (used for other, used in self._used.items() if other is not who)
        return next((space for at, space in others if at == before and space.size == size), None)

    def is_shared(self, who: object, space: ExtranonceSpace) -> bool:
        """Whether another one uses it too."""
        return any(other is not who and used is space for other, (_, used) in self._used.items())

    def enter(self, who: object, before: bytes, space: ExtranonceSpace) -> None:
        """Its sessions have prefixes out of this space, behind these bytes."""
        self._used[who] = before, space

    def leave(self, who: object) -> None:
        """It is over."""
        self._used.pop(who, None)
