"""What an audit finds: the first row that is wrong, and why."""

from collections.abc import Iterable
from typing import Self

import msgspec


class Wrong(msgspec.Struct, frozen=True):
    """The first row that is wrong, and why."""

    table: str
    row: str
    reason: str


class Found(Exception):
    """Carries what is wrong out of the walk."""

    def __init__(self, table: str, row: object, reason: str) -> None:
        super().__init__(reason)
        self.wrong = Wrong(table, str(row), reason)

    @classmethod
    def of(cls, table: str, key: Iterable[object], reason: str) -> Self:
        """Of a row with a key of some columns."""
        return cls(table, ", ".join(str(value) for value in key), reason)
