"""The connection of a session, as everybody but the switchboard sees it."""

from typing import Protocol


class Owner(Protocol):
    """The connection of a session: the engine hands it back with replies, jobs are written to it."""

    open: bool
    address: str

    def write(self, data: bytes) -> None: ...

    def make_room(self) -> None:
        """Close now, for others."""
