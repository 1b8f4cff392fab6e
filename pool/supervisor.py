"""What the service manager is told, where one has started this process and wants to know: that it serves,
that it lives, that it stops (sd_notify(3): datagrams to $NOTIFY_SOCKET).

A process that hangs serves nobody, says nothing and does not end. Its supervisor hears no more of it, and
starts it anew. So the loop itself says that it lives, and no thread beside it, from when miners are served
until it stops, by a signal or for a reason of its own; a start may take hours, for a migration or for a
journal, and for a stop the unit has a time.

Invariants: nothing here waits or fails, and a beat needs no descriptor beside the one that it began with.
What this process starts does not speak in its place.
"""

import os
import socket
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Final

import structlog
import trio

log = structlog.get_logger()

# Of the time in which the manager wants to hear something: three beats may be late, or be lost.
BEATS: Final = 4
USEC_PER_S: Final = 1_000_000


class Supervisor:
    """Without a socket it is told nothing. `watchdog_usec`: within which it wants to hear something, 0 for
    never."""

    def __init__(self, told: socket.socket | None, address: str, watchdog_usec: int) -> None:
        self._socket, self._address = told, address
        self._watchdog_usec = watchdog_usec
        self._is_ready = self._is_unheard = False

    def stands_by(self) -> None:
        """It has started, and waits for another one's end. What it does first then may take its time: it is
        not watched until it serves."""
        if not self._is_ready:
            self._is_ready = self._say("READY=1\nWATCHDOG_USEC=0")

    async def serves(self) -> None:
        """Until cancelled; then it stops. All is said in every beat: any of them may be lost."""
        if self._socket is None:
            return
        said = "READY=1"
        if self._watchdog_usec:
            said += f"\nWATCHDOG_USEC={self._watchdog_usec}\nWATCHDOG=1"
        beat_s = self._watchdog_usec / USEC_PER_S / BEATS or float("inf")
        try:
            while True:
                self._say(said)
                await trio.sleep(beat_s)
        finally:
            self._say("STOPPING=1")

    def _say(self, said: str) -> bool:
        """Whether it was taken."""
        if self._socket is None:
            return False
        try:
            self._socket.sendto(said.encode(), self._address)
        except OSError as error:  # nobody is there, or it has not read what it was told before
            if not self._is_unheard:
                log.warning("supervisor_not_told", reason=error.strerror or str(error))
            self._is_unheard = True
            return False
        self._is_unheard = False
        return True


@contextmanager
def supervised(environment: MutableMapping[str, str]) -> Iterator[Supervisor]:
    """The one that the environment names, and does not name any more."""
    address = environment.pop("NOTIFY_SOCKET", "")
    usec = environment.pop("WATCHDOG_USEC", "")
    watched = environment.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    if not address:
        yield Supervisor(None, "", 0)
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.setblocking(False)
        if address.startswith("@"):  # an abstract one
            address = "\0" + address[1:]
        yield Supervisor(told, address, int(usec) if watched and usec.isdecimal() else 0)
