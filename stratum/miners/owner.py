"""The connection of a session, as everybody but the switchboard sees it."""

from typing import Final, Protocol


class Owner(Protocol):
    """The connection of a session: the engine hands it back with replies, jobs are written to it."""

    open: bool
    address: str

    def write(self, data: bytes) -> None: ...

    def make_room(self) -> None:
        """Close now, for others."""


class Gone:
    """Of a session that is over, in place of the connection that it had: the two are free at once, and do not
    hold each other until Python looks for such pairs, which stops everybody."""

    open = False
    address = ""

    def write(self, data: bytes) -> None:
        """Nobody hears it."""

    def make_room(self) -> None:
        """It has."""


GONE: Final = Gone()
