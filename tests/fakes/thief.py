"""A strategic miner: it hashes first, and then looks for the difficulty to be credited at.

It keeps what it finds to itself, learns by whatever way which difficulties it can have the same hashes judged
at, and sends each hash under the hardest one that it meets. Its hashes are real, and its shares go through
the real sessions and the real engine.
"""

import hashlib
import math
import struct
from typing import Any, Final

from stratum.difficulty import DIFF1
from stratum.tallies import Verdict
from tests.stages.sessions import START_LOG2, Miner, SessionStage, header

HASHES_LOG2: Final = 32  # of difficulty 1
EXTRANONCE2: Final = bytes.fromhex("0102030405060708")

# What a header is made of beside ntime and nonce, with the extranonces: one search space.
Space = tuple[str, ...]
# Who sends a hash under which job, and the difficulty that it believes in.
Ticket = tuple[Miner, str, int]


class Thief:
    """`hashes` is the work that it did; `credited` what it was credited, in hashes, and `spread` how much of
    that is chance: the standard deviation of what an honest miner would have in its place."""

    def __init__(self, stage: SessionStage) -> None:
        self.stage = stage
        self.hashes = 0
        self.credited = 0
        self.squares = 0
        self._nonce = 0
        self._pocket: dict[Space, list[tuple[int, str, str]]] = {}  # hash, ntime, nonce
        self._miners: list[Miner] = []
        self._jobs: dict[str, list[Any]] = {}  # all that anybody was told
        self._told: dict[tuple[int, str], int] = {}

    def hear(self, miner: Miner) -> None:
        """Note what the miner has been told: its job, and at which difficulty."""
        miner.hear()
        if miner not in self._miners:
            self._miners.append(miner)
        if miner.job and miner.difficulty is not None:
            self._jobs[miner.job[0]] = miner.job
            self._told[id(miner), miner.job[0]] = round(math.log2(miner.difficulty))

    def search(
        self, job: list[Any], extranonce1: bytes, hashes: int, *, least_log2: int = START_LOG2
    ) -> None:
        """Hash so often on this job with these extranonces, and keep what may be worth something."""
        space = space_of(job, extranonce1)
        ntime = job[7]
        head = header(job, extranonce1 + EXTRANONCE2, int(ntime, 16), 0)
        worth = DIFF1 << -least_log2
        found = self._pocket.setdefault(space, [])
        for nonce in range(self._nonce, self._nonce + hashes):
            raw = hashlib.sha256(hashlib.sha256(head + struct.pack("<I", nonce)).digest()).digest()
            value = int.from_bytes(raw, "little")
            if value <= worth:
                found.append((value, ntime, f"{nonce:08x}"))
        self._nonce += hashes
        self.hashes += hashes

    def best(self, job: list[Any], extranonce1: bytes) -> int:
        """The difficulty that what it has found there is worth most at."""
        values = [value for value, _, _ in self._pocket[space_of(job, extranonce1)]]
        worth = {
            log2: sum(value <= DIFF1 << -log2 for value in values) << HASHES_LOG2 + log2
            for log2 in range(START_LOG2, START_LOG2 + 8)
        }
        return max(worth, key=lambda log2: worth[log2])

    def sell(self, *, keep_log2: int | None = None) -> None:
        """Send every hash under the hardest ticket that it meets; not those of `keep_log2`: wait for more.

        A ticket is any job that anybody was told, from any of its connections, told of it or not.
        """
        tickets: dict[Space, list[Ticket]] = {}
        for miner in self._miners:
            if not miner.open:
                continue
            for job_id, job in self._jobs.items():
                log2 = self._told.get((id(miner), job_id), START_LOG2)
                tickets.setdefault(space_of(job, miner.extranonce1), []).append((miner, job_id, log2))
        for space, there in tickets.items():
            there.sort(key=lambda ticket: -ticket[2])
            found = self._pocket.get(space, [])
            self._pocket[space] = [one for one in found if not self._sold(one, there, keep_log2)]
        self._count()

    def _sold(self, found: tuple[int, str, str], tickets: list[Ticket], keep_log2: int | None) -> bool:
        value, ntime, nonce = found
        if keep_log2 is not None and value <= DIFF1 << -keep_log2:
            return False
        for miner, job_id, log2 in tickets:
            if value <= DIFF1 << -log2:
                extranonce2 = EXTRANONCE2[: miner.extranonce2_size].hex()
                if miner.submit(miner.worker, job_id, extranonce2, ntime, nonce)["result"]:
                    return True
        return False

    def _count(self) -> None:
        for tally in self.stage.tallies():
            if tally.verdict is Verdict.ACCEPTED:
                worth = 1 << HASHES_LOG2 + tally.difficulty_log2
                self.credited += tally.count * worth
                self.squares += tally.count * worth**2


def space_of(job: list[Any], extranonce1: bytes) -> Space:
    """All jobs of which a hash of one is a hash of the other have the same."""
    _, prevhash, coinbase1, coinbase2, branch, version, nbits, _, _ = job
    return (prevhash, coinbase1, extranonce1.hex(), coinbase2, *branch, version, nbits)
