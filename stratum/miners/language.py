"""What a machine is told, in the protocol that it speaks: Stratum V1's lines here, and V2's in stratum.sv2.

Who decides (assignment, liveness) says what; how that is said is the language's. One that remembers what it
has said belongs to one session.

Must not know: who decides, when it is said, sockets.
"""

from functools import cache
from typing import Final, Protocol

from stratum import messages
from stratum.difficulty import wire_difficulty
from stratum.job import Job
from stratum.miners.channel import Channel

PING_ID: Final = 1  # of client.get_version, the one question that all firmware answers


class Language(Protocol):
    """Bytes for the machine; none where its protocol has no word for it, or needs none. `shares_line`: a job
    is the same for all."""

    shares_line: bool

    def difficulty(self, log2: int) -> bytes:
        """Of the work that it is given from here on."""

    def extranonce(self, extranonce1: bytes, extranonce2_size: int) -> bytes:
        """Of the jobs that it is given from here on."""

    def mask(self, mask: int) -> bytes:
        """The version bits that it may roll."""

    def job(self, channel: Channel, job: Job, line: bytes | None) -> bytes:
        """The channel's current job; `line` is mining.notify of it, None: the job of a new beginning, which
        is clean."""

    def come_back(self) -> bytes:
        """It is to connect again."""

    def ping(self) -> bytes | None:
        """It is to show that it lives; None: it cannot be asked."""


class Lines:
    """Stratum V1."""

    shares_line = True

    def difficulty(self, log2: int) -> bytes:
        return _difficulty_line(log2)

    def extranonce(self, extranonce1: bytes, extranonce2_size: int) -> bytes:
        return messages.notification("mining.set_extranonce", [extranonce1.hex(), extranonce2_size])

    def mask(self, mask: int) -> bytes:
        return messages.notification("mining.set_version_mask", [f"{mask:08x}"])

    def job(self, channel: Channel, job: Job, line: bytes | None) -> bytes:
        return channel.notify_line(clean=True) if line is None else line

    def come_back(self) -> bytes:
        return messages.notification("client.reconnect", [])

    def ping(self) -> bytes | None:
        return messages.request(PING_ID, "client.get_version", [])


@cache  # a hundred at most
def _difficulty_line(log2: int) -> bytes:
    return messages.notification("mining.set_difficulty", [wire_difficulty(log2)])


LINES: Final = Lines()
