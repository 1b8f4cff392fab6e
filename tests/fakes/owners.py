"""Connections as the registry knows them: an address, and nothing behind it."""

from collections.abc import Callable


class ConnectionFrom:
    """stratum.miners.owner.Owner of a miner that says nothing and hears nothing."""

    def __init__(self, address: str = "10.0.0.1") -> None:
        self.address = address
        self.open = True
        self.leave: Callable[[ConnectionFrom], None] | None = None  # where it is told to

    def write(self, data: bytes) -> None:
        raise AssertionError("nobody talks to it")

    def make_room(self) -> None:
        assert self.leave is not None, "nobody asks it to"
        self.leave(self)
