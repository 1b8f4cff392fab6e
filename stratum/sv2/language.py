"""What a mining channel is told: stratum.miners.language.Language in messages of Stratum V2.

An extended channel is given what its roots are made of, and searches `extranonce_size` bytes by itself; a
standard channel is given the root, and its prefix is the whole extranonce. Where there is more room than a
channel was promised, its prefix is longer by that.

A job on another previous block, or of a new beginning, is sent as a future job that a SetNewPrevHash begins
at once, so that the machine forgets all others; any other job is searched from now on, beside those before
it. Job ids are the last 32 bits of ours, which are unique for longer than any job lives.

Must not know: sessions, encryption, what is judged.
"""

import hashlib
from collections import deque
from collections.abc import Callable
from typing import Final

from stratum.difficulty import target_from_difficulty_log2
from stratum.job import Job
from stratum.miners.channel import VERSION_MASK, Channel
from stratum.sv2 import messages

JOB_ID_BITS: Final = 0xFFFFFFFF
CHANNELS_KEPT: Final = 5  # that it has mined: as many places as the engine judges by


def sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


class ChannelLanguage:
    """Of one mining channel. `extranonce_size`: bytes that it searches by itself, 0 of a standard one.
    `leave` says, in the words of its connection, that it is to come again.

    Until it is `opened` its prefix and its target are for the answer that opens it.
    """

    shares_line = False

    __slots__ = (
        "_channel_id",
        "_channels",
        "_leave",
        "_mask",
        "_opened",
        "_prevhash",
        "extranonce_size",
        "log2",
        "prefix",
    )

    def __init__(self, channel_id: int, leave: Callable[[], bytes]) -> None:
        self.extranonce_size = 0
        self.prefix = b""
        self.log2: int | None = None  # that it was told
        self._channel_id = channel_id
        self._leave = leave
        self._opened = False
        self._mask = 0
        self._prevhash = b""
        self._channels: deque[Channel] = deque(maxlen=CHANNELS_KEPT)  # that it had jobs of, latest last

    def open(self, extranonce1: bytes, extranonce2_size: int, extranonce_size: int) -> None:
        """The extranonces that it begins with."""
        self.extranonce_size = extranonce_size
        self.prefix = extranonce1 + bytes(extranonce2_size - extranonce_size)

    def opened(self, log2: int) -> int:
        """The answer that opens it has this target, or the one that it was to be told: which."""
        self._opened = True
        if self.log2 is None:
            self.log2 = log2
        return target_from_difficulty_log2(self.log2)

    def difficulty(self, log2: int) -> bytes:
        known, self.log2 = self.log2, log2
        if not self._opened or log2 == known:
            return b""
        return messages.set_target(self._channel_id, target_from_difficulty_log2(log2))

    def extranonce(self, extranonce1: bytes, extranonce2_size: int) -> bytes:
        self.prefix = extranonce1 + bytes(extranonce2_size - self.extranonce_size)
        if not self._opened:
            return b""
        return messages.set_extranonce_prefix(self._channel_id, self.prefix)

    def mask(self, mask: int) -> bytes:
        self._mask = mask  # a job says it
        return b""

    def job(self, channel: Channel, job: Job, line: bytes | None) -> bytes:
        if channel not in self._channels:
            self._channels.append(channel)
        work, job_id = job.work, job.seq & JOB_ID_BITS
        begins = line is None or job.clean or work.prevhash_internal != self._prevhash
        self._prevhash = work.prevhash_internal
        ntime = None if begins else channel.ntime
        version = work.version & 0xFFFFFFFF
        if self.extranonce_size:
            said = messages.new_extended_mining_job(
                self._channel_id,
                job_id,
                ntime,
                version,
                rolls=self._mask & VERSION_MASK == VERSION_MASK,
                branch=work.branch,
                coinbase1=work.coinbase1,
                coinbase2=work.coinbase2,
            )
        else:
            root = sha256d(work.coinbase1 + self.prefix + work.coinbase2)
            for node in work.branch:
                root = sha256d(root + node)
            said = messages.new_mining_job(self._channel_id, job_id, ntime, version, root)
        if begins:
            prevhash, nbits = work.prevhash_internal, work.nbits
            said += messages.set_new_prev_hash(self._channel_id, job_id, prevhash, channel.ntime, nbits)
        return said

    def come_back(self) -> bytes:
        return self._leave()

    def ping(self) -> bytes | None:
        return None

    def job_of(self, job_id: int, newest_seq: int) -> tuple[int, Channel, Job] | None:
        """What it means by a job id: the last one that ended so, by the newest that it has."""
        seq = newest_seq - ((newest_seq - job_id) & JOB_ID_BITS)
        for channel in reversed(self._channels):
            job = channel.jobs.get(seq)
            if job is not None:
                return seq, channel, job
        return None
